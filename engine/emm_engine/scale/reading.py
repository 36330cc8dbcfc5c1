"""Files read by many workers, documents in the order of one.

Purpose: a unit is a slice of a walk's files; its result is their documents. Invariants: the documents and problems are
those of `documents_below`, in its order; a worker reads a file only where it sees the one that its client saw (the same
size and time), so a machine without the file system, or with an older copy, leaves it to the client and skips nothing;
every document that comes back is checked as a new one is.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from emm_engine.documents import Document
from emm_engine.scale.unit import identity_of
from emm_engine.scale.workers import Workers
from emm_engine.sources.changelog import Problem
from emm_engine.sources.single import Found, files_below, read_found

FILES_PER_UNIT: Final = 32
BYTES_PER_UNIT: Final = 2 << 20  # of files; one that is larger is a unit by itself

Stamp = tuple[int, int]  # size in bytes, time of change in ns


@dataclass(frozen=True, slots=True)
class ReadFile:
    """What one file gave."""

    documents: tuple[Document, ...]
    problems: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ReadUnit:
    """Some files, each as its client saw it (None: it could not be looked at)."""

    files: tuple[tuple[Found, Stamp | None], ...]

    @property
    def identity(self) -> str:
        return identity_of("read", *(f"{found.key}\0{stamp}" for found, stamp in self.files))

    def run(self) -> tuple[ReadFile | None, ...]:
        """For each file what it gave; None where this is not the file that the client saw."""
        return tuple(
            _read(found) if stamp is not None and _stamp(found.path) == stamp else None for found, stamp in self.files
        )


class Reading:
    """Reads folders through workers. `n_left` counts the files that they did not see, and that were read here."""

    def __init__(self, workers: Workers, problem: Problem | None = None) -> None:
        self._workers = workers
        self._problem = problem
        self.n_left = 0

    def documents(self, folders: Iterable[str | Path]) -> Iterator[Document]:
        """The documents of the folders. `MissingError` where there is no such folder."""
        issued: deque[ReadUnit] = deque()

        def units() -> Iterator[ReadUnit]:
            for unit in _units(found for folder in folders for found in files_below(folder, self._problem)):
                issued.append(unit)
                yield unit

        for results in self._workers.results(units()):
            for (found, _), result in zip(issued.popleft().files, results, strict=True):
                if result is None:
                    self.n_left += 1
                    result = _read(found)
                if self._problem is not None:
                    for problem in result.problems:
                        self._problem(*problem)
                yield from (replace(document) for document in result.documents)  # runs every check of a new one


def _units(files: Iterable[Found]) -> Iterator[ReadUnit]:
    part: list[tuple[Found, Stamp | None]] = []
    n_bytes = 0
    for found in files:
        stamp = _stamp(found.path)
        size = stamp[0] if stamp is not None else 0
        if part and (len(part) == FILES_PER_UNIT or n_bytes + size > BYTES_PER_UNIT):
            yield ReadUnit(tuple(part))
            part, n_bytes = [], 0
        part.append((found, stamp))
        n_bytes += size
    if part:
        yield ReadUnit(tuple(part))


def _stamp(path: Path) -> Stamp | None:
    try:
        told = os.stat(path)
    except OSError:
        return None
    return told.st_size, told.st_mtime_ns


def _read(found: Found) -> ReadFile:
    problems: list[tuple[str, str]] = []
    documents = tuple(read_found(found, lambda source, why: problems.append((source, why))))
    return ReadFile(documents, tuple(problems))
