"""Rank inversion after deep SFT: the study of arXiv 2606.18487."""
