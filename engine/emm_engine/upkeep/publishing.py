"""A folder that appears whole under its name, or not at all.

Purpose: what export builds, under a hidden name beside the one it will have. Invariants: one process at a time builds
for a name; what a killed one left is removed by the next; a name that is taken is refused before anything is built and
again when it is published.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from emm import ExistsError, FencedError, InputError
from emm_engine.files import alone, make_folder, rename_durably

SUFFIX: Final = ".exporting"


@contextlib.contextmanager
def unfinished(out: Path) -> Iterator[Path]:
    """An empty hidden folder to build in, gone at the end unless it was published."""
    if not out.name:
        raise InputError("not a name for a new folder", found=str(out))
    _require_free(out)
    scratch = out.with_name(f".{out.name}{SUFFIX}")
    make_folder(scratch)
    try:
        with alone(scratch):
            for leftover in scratch.iterdir():
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            try:
                yield scratch
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    except BlockingIOError:
        raise FencedError("another process is exporting to that name", file=str(out)) from None


def publish(scratch: Path, out: Path) -> None:
    """Give the finished folder its name."""
    _require_free(out)
    rename_durably(scratch, out)


def _require_free(out: Path) -> None:
    if os.path.lexists(out) and not (out.is_dir() and not out.is_symlink() and not any(out.iterdir())):
        raise ExistsError("there is something under that name already", file=str(out))
