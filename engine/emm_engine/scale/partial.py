"""A memory on its way between processes: the bytes of its newest snapshot.

Purpose: what a worker that learns or merges gives back, without a file that both see. Invariants: the bytes are those
of the format, so every checksum of a snapshot guards them on their way and at every opening; a memory lies in a scratch
folder only while a unit runs.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import emm
from emm import ExistsError, FormatError
from emm_engine.files import make_folder, replace_durably, sync_folder

SUFFIX = ".emm"

_NAME = re.compile(r"[0-9]{16}\.emm")


@dataclass(frozen=True, slots=True)
class Partial:
    """A whole memory without its journal."""

    name: str  # of the snapshot file
    data: bytes
    n_pairs: int

    @classmethod
    def of(cls, folder: Path) -> Partial:
        """The newest state of the memory in a folder, which has a snapshot of it."""
        with emm.open(str(folder)) as memory:
            n_pairs = memory.write_count
        newest = max(path.name for path in folder.iterdir() if path.name.endswith(SUFFIX))
        return cls(newest, (folder / newest).read_bytes(), n_pairs)

    def put(self, folder: Path) -> Path:
        """The memory in a new folder, for `emm.open`. `FormatError` where the bytes are damaged."""
        emm.decode_snapshot(self.data)
        if not _NAME.fullmatch(self.name):
            raise FormatError("not the name of a snapshot", expected=_NAME.pattern, found=repr(self.name))
        make_folder(folder.parent)
        try:
            os.mkdir(folder)
        except FileExistsError:
            raise ExistsError("there is something under that name already", file=str(folder)) from None
        replace_durably(folder / self.name, self.data)
        sync_folder(folder.parent)
        return folder
