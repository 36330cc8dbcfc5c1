"""Files read by many workers, documents in the order of one.

Purpose: a unit is a slice of an intake's files; its result is their documents. Invariants: the documents and problems
are those of the intake by itself, in its order; a worker reads a file only where it sees the one that its client saw
(the same size and time), so a machine without the file system, or with an older copy, leaves it to the client and skips
nothing; a file too large to travel, and a folder that is read as one thing, are read by the client; every document that
comes back is checked as a new one is.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from emm_engine.documents import Document
from emm_engine.scale.unit import identity_of
from emm_engine.scale.workers import Workers
from emm_engine.sources.files import Found
from emm_engine.sources.intake import Intake
from emm_engine.sources.settings import Settings

FILES_PER_UNIT: Final = 32
BYTES_PER_UNIT: Final = 2 << 20  # of files; one that is larger is a unit by itself
FILE_BYTES_MAX: Final = 64 << 20  # beyond it a file's documents would be held all at once

Stamp = tuple[int, int]  # size in bytes, time of change in ns


@dataclass(frozen=True, slots=True)
class ReadFile:
    """What one file gave."""

    documents: tuple[Document, ...]
    problems: tuple[tuple[str, str], ...]
    known: bool  # whether it is of a known kind


@dataclass(frozen=True, slots=True)
class ReadUnit:
    """Some files, each as its client saw it (None: not for a worker), and how to read them."""

    files: tuple[tuple[Found, Stamp | None], ...]
    settings: Settings

    @property
    def identity(self) -> str:
        return identity_of("read", repr(self.settings), *(f"{found.key}\0{stamp}" for found, stamp in self.files))

    def run(self) -> tuple[ReadFile | None, ...]:
        """For each file what it gave; None where this is not the file that the client saw."""
        return tuple(
            _read(found, self.settings) if stamp is not None and _stamp(found) == stamp else None
            for found, stamp in self.files
        )


class Reading:
    """Reads an intake through workers. `n_left` counts the files that they did not see, and that were read here."""

    def __init__(self, workers: Workers, intake: Intake) -> None:
        self._workers = workers
        self._intake = intake
        self.n_left = 0

    def documents(self) -> Iterator[Document]:
        """The documents of the intake."""
        issued: deque[ReadUnit] = deque()

        def units() -> Iterator[ReadUnit]:
            for unit in _units(self._intake.files(), self._intake.settings):
                issued.append(unit)
                yield unit

        for results in self._workers.results(units()):
            for (found, stamp), result in zip(issued.popleft().files, results, strict=True):
                if result is None:
                    self.n_left += stamp is not None
                    yield from self._intake.documents([found])
                    continue
                self._intake.count(found, result.known, result.problems)
                yield from (replace(document) for document in result.documents)  # runs every check of a new one


def _units(files: Iterable[Found], settings: Settings) -> Iterator[ReadUnit]:
    part: list[tuple[Found, Stamp | None]] = []
    n_bytes = 0
    for found in files:
        stamp = _stamp(found)
        size = stamp[0] if stamp is not None else 0
        if part and (len(part) == FILES_PER_UNIT or n_bytes + size > BYTES_PER_UNIT):
            yield ReadUnit(tuple(part), settings)
            part, n_bytes = [], 0
        part.append((found, stamp))
        n_bytes += size
    if part:
        yield ReadUnit(tuple(part), settings)


def _stamp(found: Found) -> Stamp | None:
    if found.folder:
        return None
    try:
        told = os.stat(found.path)
    except OSError:
        return None
    return (told.st_size, told.st_mtime_ns) if told.st_size <= FILE_BYTES_MAX else None


def _read(found: Found, settings: Settings) -> ReadFile:
    problems: list[tuple[str, str]] = []
    intake = Intake((), settings, lambda source, why: problems.append((source, why)))
    return ReadFile(tuple(intake.documents([found])), tuple(problems), not intake.n_other)
