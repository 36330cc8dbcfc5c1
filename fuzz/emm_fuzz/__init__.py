"""Harnesses that attack the format with real processes; run them by `python -m emm_fuzz.<name>`."""
