"""Files of a folder, found and opened so that no name leads elsewhere.

Purpose: the one walk and the one way to open behind every format. Invariants: only regular files inside the folder,
never through symbolic links; folders whose names begin with a dot are left alone; the order is that of the paths;
what cannot be listed is reported and the rest is found.
"""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from emm_engine.documents import utc_text
from emm_engine.sources.changelog import Problem, readable

HEAD_BYTES = 4096  # enough to tell a format by


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a walk, or a folder that is read as one thing (a chat export)."""

    path: Path
    source: str  # as it is shown: relative to the folder that was given
    key: str  # as versions of it are known: the whole path
    folder: bool = False


@dataclass(frozen=True, slots=True)
class SourceFile:
    """An open file, or a member of an archive, as a format reads it."""

    source: str
    key: str
    modified: str  # UTC, as documents are dated; empty when unknown
    size: int  # bytes
    stream: BinaryIO  # seekable

    @property
    def name(self) -> str:
        return self.source.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0] or self.name

    @property
    def folder(self) -> str:
        return self.source.rpartition("/")[0]

    def head(self) -> bytes:
        """The first bytes; the stream stands at its beginning afterwards."""
        self.stream.seek(0)
        data = self.stream.read(HEAD_BYTES)
        self.stream.seek(0)
        return data

    def text_head(self) -> bytes:
        """The same of a file that must be text; `ValueError` when it is not."""
        head = self.head()
        if b"\0" in head and head[:2] not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise ValueError("holds NUL bytes, so it is not text")
        return head

    def read_all(self, bytes_max: int) -> bytes:
        """Every byte; `ValueError` when there are more than that."""
        self.stream.seek(0)
        data = self.stream.read(bytes_max + 1)
        if len(data) > bytes_max:
            raise ValueError(f"more than {bytes_max} bytes")
        return data


def walk(root: Path, problem: Problem | None = None, whole: Callable[[Path], bool] | None = None) -> Iterator[Found]:
    """Every regular file below a folder (or the file itself); folders of which `whole` is true come as one."""
    base = readable(root.resolve())
    if not root.is_dir():
        if root.is_file():
            yield Found(root, readable(root.name), base)
        return
    pending = [root]  # os.walk recurses up to Python 3.11, and a hostile folder is deeper than that
    while pending:
        folder = pending.pop()
        source = "" if folder == root else readable(folder.relative_to(root))
        if whole is not None and whole(folder):
            yield Found(folder, source or readable(root.name), f"{base}/{source}" if source else base, folder=True)
            continue
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if problem is not None:
                problem(readable(folder), f"{type(error).__name__}: {error.strerror}")
            continue
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                name = f"{source}/{readable(entry.name)}" if source else readable(entry.name)
                yield Found(Path(entry.path), name, f"{base}/{name}")
        below = [e.path for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
        pending += map(Path, reversed(below))


@contextmanager
def opened(found: Found) -> Iterator[SourceFile]:
    """The file of a walk; `ValueError` when it has become something else than a regular file."""
    descriptor = os.open(found.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as stream:
        told = os.fstat(descriptor)
        if not stat.S_ISREG(told.st_mode):
            raise ValueError("not a regular file")
        yield SourceFile(found.source, found.key, date_of(told.st_mtime), told.st_size, stream)


def date_of(seconds: float) -> str:
    """A file's time as a document's date; empty when it is none."""
    try:
        return utc_text(datetime.fromtimestamp(seconds, UTC))
    except (OverflowError, ValueError, OSError):
        return ""
