"""Stage-1 controls the entropy regime, not the outcome (arXiv 2606.09059)."""
