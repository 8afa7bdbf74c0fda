"""Flax models; the only room that knows flax."""
