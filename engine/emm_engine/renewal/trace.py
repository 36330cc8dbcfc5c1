"""Look for what was forgotten in every file of an archive, byte for byte.

Purpose: a purge ends with a search, not with a promise. Invariants: every regular file below the archive is read whole,
whatever its name; what is looked for is kept in memory alone; what another text of the archive still says is no trace.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PIECE_CHARS = 48  # of a text: the pages of a database cut longer ones
PIECES_MAX = 64


@dataclass(frozen=True, slots=True)
class Trace:
    """What a search found."""

    files: int
    bytes: int
    pieces: int  # that were looked for
    found: tuple[str, ...]  # files that hold one of them, relative to the archive

    @property
    def clean(self) -> bool:
        return not self.found


def pieces_of(texts: Sequence[str]) -> list[str]:
    """A piece of each text, of at most `PIECES_MAX` evenly chosen ones."""
    pieces = []
    for text in texts[:: max(1, -(-len(texts) // PIECES_MAX))]:
        at = max(0, (len(text) - PIECE_CHARS) // 2)
        pieces.append(text[at : at + PIECE_CHARS])
    return [piece for piece in dict.fromkeys(pieces) if piece]


def search(root: Path, pieces: Sequence[str]) -> Trace:
    """Every file below a folder that holds one of some pieces, as UTF-8."""
    n_files, n_bytes, found = 0, 0, []
    wanted = [piece.encode() for piece in pieces]
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_symlink() or not path.is_file():
                continue
            with path.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                n_files, n_bytes = n_files + 1, n_bytes + size
                if not size:
                    continue
                with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    if any(data.find(piece) >= 0 for piece in wanted):
                        found.append(str(path.relative_to(root)))
    return Trace(n_files, n_bytes, len(wanted), tuple(found))
