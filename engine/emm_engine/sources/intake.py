"""Everything below some folders as documents, whatever the formats are.

Purpose: the mixed folder behind `emm ingest`. Invariants: never stops at a bad file: it is reported and skipped; files
of no known kind are counted, not reported; symbolic links are not followed; a file is held open, and in memory, only
while it is read; how far the reading is shows while it goes on.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from emm import MissingError
from emm_engine.documents import Document
from emm_engine.sources.changelog import Problem
from emm_engine.sources.chat import is_chat_export, read_chat
from emm_engine.sources.files import Found, opened, walk
from emm_engine.sources.registry import PROBLEM_CHARS_MAX, format_of, read_source
from emm_engine.sources.settings import DEFAULT, Settings
from emm_engine.sources.values import reason


class Intake:
    """Files and folders to read, and how far the reading is."""

    def __init__(
        self, paths: Iterable[str | Path], settings: Settings = DEFAULT, problem: Problem | None = None
    ) -> None:
        """`MissingError` for a path that does not exist."""
        self.roots: Sequence[Path] = [Path(path) for path in paths]
        for root in self.roots:
            if not root.exists():
                raise MissingError("there is no such file or folder", file=str(root))
        self.settings = settings
        self._problem = problem
        self.n_files = 0  # of known kinds, read or being read
        self.n_skipped = 0  # reports to `problem`
        self.others: Counter[str] = Counter()  # files of no known kind, by suffix
        self.bytes_done = 0
        self.bytes_total: int | None = None  # known after `measure`

    @property
    def n_other(self) -> int:
        """Files of no known kind."""
        return self.others.total()

    def files(self) -> Iterator[Found]:
        """Everything there is, in order."""
        for root in self.roots:
            yield from walk(root, self._told, is_chat_export)

    def measure(self) -> int:
        """Bytes of all the files, for the time that is left."""
        self.bytes_total = sum(size_of(found) for root in self.roots for found in walk(root, None, is_chat_export))
        return self.bytes_total

    def documents(self, files: Iterable[Found] | None = None) -> Iterator[Document]:
        """The documents of these files, or of all."""
        for found in self.files() if files is None else files:
            before = self.bytes_done
            try:
                if found.folder:
                    self.n_files += 1
                    yield from read_chat(found, self._told)
                else:
                    yield from self._file(found)
            except Exception as error:  # whatever foreign bytes may lead to; KeyboardInterrupt passes
                self._told(found.source, reason(error)[:PROBLEM_CHARS_MAX])
            self.bytes_done = before + size_of(found)

    def count(self, found: Found, known: bool, problems: Iterable[tuple[str, str]]) -> None:
        """Take in what somebody else has found out by reading a file."""
        self.n_files += known
        self.others[found.path.suffix.lower()] += not known
        self.bytes_done += size_of(found)
        for source, why in problems:
            self._told(source, why)

    def _file(self, found: Found) -> Iterator[Document]:
        before = self.bytes_done
        with opened(found) as file:
            chosen = format_of(file, self.settings)
            if chosen is None:
                self.others[found.path.suffix.lower()] += 1
                return
            self.n_files += 1
            for document in read_source(file, chosen, self.settings, self._told):
                yield document
                if not file.stream.closed:
                    self.bytes_done = before + min(file.stream.tell(), file.size)

    def _told(self, source: str, why: str) -> None:
        self.n_skipped += 1
        if self._problem is not None:
            self._problem(source, why)


def size_of(found: Found) -> int:
    """Bytes of a file, or of all the files of a folder that is read as one; 0 for what is gone."""
    try:
        if not found.folder:
            return os.lstat(found.path).st_size
        return sum(os.lstat(inner.path).st_size for inner in walk(found.path))
    except OSError:
        return 0
