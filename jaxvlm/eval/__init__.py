"""Evaluation: sample, grade, measure; and the report."""
