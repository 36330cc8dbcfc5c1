"""The durability harness: attacks on the format, simulated and real; run them by `python -m emm_fuzz.<name>`."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
