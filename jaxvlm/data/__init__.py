"""From rows on disk to NumPy batches; no jax, so that workers start fast."""
