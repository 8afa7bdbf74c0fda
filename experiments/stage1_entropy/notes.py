"""Explanations printed with a claim's verdict, written after the runs."""

NOTES: dict[str, str] = {}
