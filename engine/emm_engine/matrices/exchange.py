"""One memory in the place of another, with the catalog as the only judge of which of them counts.

Purpose: a run's memory is made anew beside the old one, the catalog names the new one's identity in a transaction, and
then the directories change places. Invariants: the staged memory lies in `_next`, a name that no run can have; only
what the catalog names is moved, so a kill before the transaction leaves the old memory and after it the new one;
whoever comes next, reader or writer, finds the right one at either place.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import emm
from emm_engine.files import held_alone, make_folder, sync_folder, temporary_name

STAGE = "_next"
RETIRED = ".retired-"


def staged(path: Path) -> Path:
    """Where the successor of the memory at `path` is made."""
    return path.parent / STAGE / path.name


def discard(path: Path) -> None:
    """Remove a staged memory that never came to be."""
    shutil.rmtree(staged(path), ignore_errors=True)


def identity_of(path: Path) -> str | None:
    """The identity of the memory at a path; None where there is none."""
    with contextlib.suppress(emm.MissingError), emm.open(str(path), mode="r") as memory:
        return memory.uuid
    return None


def finish(path: Path, uuid: str) -> None:
    """Put the staged memory in place if it is the one with this identity; remove what it replaced. Idempotent."""
    stage = path.parent / STAGE
    if not stage.is_dir():
        return
    with held_alone(stage, wait=True):
        if staged(path).is_dir() and identity_of(staged(path)) == uuid:
            if path.is_dir():
                os.rename(path, stage / f"{RETIRED}{path.name}{temporary_name()}")
            os.rename(staged(path), path)
            sync_folder(stage)
            sync_folder(path.parent)
        for left in stage.glob(f"{RETIRED}{path.name}.*"):
            shutil.rmtree(left, ignore_errors=True)
    with contextlib.suppress(OSError):
        stage.rmdir()  # of others there may be more


def make_stage(path: Path) -> Path:
    """The folder for a staged memory, empty of an earlier try; returns where to make it."""
    discard(path)
    make_folder(path.parent / STAGE)
    return staged(path)
