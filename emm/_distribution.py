"""Refuse to run when the unrelated PyPI distribution `emm` is installed beside this one.

Purpose: both distributions install a package called `emm` into the same folder, so whichever came
last has overwritten some of the other's files. Invariant: a mixed installation never gets as far as
opening a file; the error is one sentence that names the command that mends it.
"""

from __future__ import annotations

from importlib import metadata

DISTRIBUTION = "emm-format"
UNRELATED = "emm"


def refuse_unrelated_distribution() -> None:
    """Raise `ImportError` when a distribution called `emm` is installed; called once, by `emm/__init__`."""
    try:
        other = metadata.version(UNRELATED)
    except metadata.PackageNotFoundError:
        return
    raise ImportError(
        f"The unrelated distribution '{UNRELATED}' {other} is installed and overwrites files of '{DISTRIBUTION}': run "
        f"`pip uninstall {UNRELATED}`, then `pip install --force-reinstall {DISTRIBUTION}`."
    )
