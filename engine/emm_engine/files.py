"""Folders and whole files that survive a power cut.

Purpose: what the engine writes beside SQLite and the memories, which have a durability of their own. Invariants:
a folder is durable before anything in it is; a file appears whole under its name or not at all.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def make_folder(path: Path) -> None:
    """The folder and its missing parents, each durable in its parent before the next."""
    missing = []
    here = path.absolute()
    while not here.exists():
        missing.append(here)
        here = here.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def replace_durably(path: Path, data: bytes) -> None:
    """Put a file in place whole: temporary name, fsync, rename, fsync of the folder."""
    descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """fsync a folder: the names in it survive."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
