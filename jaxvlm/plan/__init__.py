"""Compiles the real step for a TPU slice that nobody owns, and reads it."""
