"""The version that every command tells.

Purpose: one answer to `--version`, and none of the imports of the commands. Invariant: it never raises.
"""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """The installed distribution's version."""
    try:
        return metadata.version("emm-format")
    except metadata.PackageNotFoundError:
        return "of a source tree that is not installed"
