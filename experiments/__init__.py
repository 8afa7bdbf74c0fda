"""One folder a paper; each has a README, a config and a run."""
