"""Readers beside a writer: the directory changes between any two calls of a reader, and it must not matter.

Purpose: readers take no lock. Record what processes see after every change that a workload makes, then let a reader
(and verify) make its first calls on one of these views and the rest on a later one. Invariants: a reader finds a state
that was acknowledged when it began or later, up to what was started when it ended; verify never speaks of damage; a
violation names the two views and the call between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from emm.codec.payload import state_digest
from emm.errors import EmmError, MissingError
from emm.storage.recovery import recover
from emm.verify.memory import check_memory
from emm.verify.verdict import Verdict, verdict_of, worst
from emm_fuzz.cases import Case, State
from emm_fuzz.crash_states import QUICK, CrashPoint, Image, image_hash
from emm_fuzz.deterministic import deterministic
from emm_fuzz.judge import OPTIONS, PATH, ViolationError, name
from emm_fuzz.memo import ImageDirectory
from emm_fuzz.record import Record
from emm_fuzz.runs import Run

HEALTHY = (Verdict.CLEAN, Verdict.CLEAN_UNSEALED, Verdict.TORN)


@dataclass(frozen=True, slots=True)
class View:
    """What processes saw at one moment, and which states were allowed then."""

    image: Image
    allowed: frozenset[State | None]


class ChangingDirectory(ImageDirectory):
    """Shows one view for so many calls, then another."""

    def __init__(self, before: Image, after: Image, calls: int) -> None:
        super().__init__(before, PATH)
        self._after = after
        self.calls_left = calls
        self.calls = 0

    def _tick(self) -> None:
        self.calls += 1
        if self.calls_left == 0:
            self._files = self._after
        self.calls_left -= 1

    def list(self) -> list[str]:
        self._tick()
        return super().list()

    def size(self, name: str) -> int:
        self._tick()
        return super().size(name)

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        self._tick()
        return super().read_at(name, offset, length)


@dataclass(slots=True)
class Readers:
    """Counts what was tried."""

    views: int = 0
    reads: int = 0
    checks: int = 0
    violations: list[str] = field(default_factory=list)


def views_of(workload: Sequence[str]) -> list[View]:
    """Every view of the memory directory during a workload, each followed by a different one."""
    found: list[View] = []

    def look() -> None:
        image = CrashPoint.of(run.disk, PATH).build_visible()
        allowed = frozenset(run.allowed)
        if found and image_hash(found[-1].image) == image_hash(image):
            allowed |= found.pop().allowed
        found.append(View(image, allowed))

    with deterministic() as source:
        run = Run(Record(QUICK), Case(tuple(workload)), source, last_only=False, blind=True)
        run.disk.on_change = look
        run.on_acknowledged = look
        run.go()
    return [each for each in found if each.image]


def interleavings(n_views: int, calls_max: int, samples: int, seed: int) -> Iterator[tuple[int, int, int]]:
    """(first view, second view, calls before the change): to the next view and to the last one at every call,
    others by seed."""
    for first in range(n_views - 1):
        for second in dict.fromkeys((first + 1, n_views - 1)):
            for calls in range(calls_max):
                yield first, second, calls
    random = np.random.default_rng([seed, n_views])
    for _ in range(samples):
        first, second = sorted(int(each) for each in random.choice(n_views, 2, replace=False))
        yield first, second, int(random.integers(1, calls_max))


def read_beside(workload: Sequence[str], *, samples: int = 200, calls_max: int = 40, seed: int = 0) -> Readers:
    """Readers and verify through every single change of a workload, and through many of several changes."""
    views = views_of(workload)
    tally = Readers(views=len(views))
    for first, second, calls in interleavings(len(views), calls_max, samples, seed):
        allowed = frozenset().union(*(each.allowed for each in views[first : second + 1]))
        before, after = views[first].image, views[second].image
        try:
            tally.reads += 1
            _read(ChangingDirectory(before, after, calls), allowed)
            tally.checks += 1
            _check(ChangingDirectory(before, after, calls))
        except ViolationError as error:
            tally.violations.append(f"{' '.join(workload)}: views {first} and {second}, call {calls}: {error}")
    return tally


def _read(directory: ChangingDirectory, allowed: frozenset[State | None]) -> None:
    try:
        recovered = recover(directory)
    except MissingError as error:
        raise ViolationError(f"a reader gives up: {error}") from error
    except EmmError as error:
        raise ViolationError(f"a reader sees damage: {error}") from error
    state = recovered.lsn, state_digest(recovered.state, recovered.lsn).hex()
    if state not in allowed:
        raise ViolationError(f"a reader found {name(state)}, allowed {', '.join(map(name, allowed))}")


def _check(directory: ChangingDirectory) -> None:
    findings = check_memory(directory, OPTIONS).findings
    verdict = worst(verdict_of(each) for each in findings)
    if verdict not in HEALTHY:
        raise ViolationError(f"verify says {verdict}: {'; '.join(map(str, findings))}")
