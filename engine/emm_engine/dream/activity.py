"""Whether anybody uses an archive: a file whose time is set by whoever asks or ingests, in any process.

Purpose: dreams are for idle time, and asking leaves no trace in an archive otherwise. Invariants: the file is made by
the first dreamer, so an archive in which nobody dreams is never touched; noting a use never fails; no clock of one
process is compared with that of another, only whether the file's time has changed since it was last looked at.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from emm_engine.files import make_folder

FOLDER: Final = "dreams"  # of an archive: what dreamers share
USED: Final = "used"


def note_use(root: Path) -> None:
    """Somebody asks, or writes; cheap, and silent where nobody dreams or nothing may be written."""
    with contextlib.suppress(OSError):
        os.utime(root / FOLDER / USED)


class Activity:
    """What a dreamer sees of the others."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / USED
        make_folder(folder)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))

    def mark(self) -> int:
        """Another number after each use."""
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0
