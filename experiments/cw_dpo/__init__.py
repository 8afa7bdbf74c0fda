"""SFT-C and CW-DPO against SFT and DPO (arXiv 2510.11978)."""
