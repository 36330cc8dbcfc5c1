"""Every workload up to a length, and as few of them as stand for all.

Purpose: there are a million workloads of five operations; what the last one can leave behind depends on the situation
in which it begins and on nothing else (`emm_fuzz.equivalence`). So every workload is lived through up to its last
operation, the situation there is fingerprinted, and each operation is explored once from each situation. Invariants: no
prefix is skipped because another one looked like it, so a situation that a fingerprint tells apart is found however it
is reached; representatives are the first of their kind, shorter workloads before longer ones, then in the order of
`OPERATIONS`; each is looked at in its last operation only, the ones before it are the last of a shorter workload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial

from emm_fuzz.equivalence import Situation, Workload, situation_after
from emm_fuzz.geometry import DEFAULT

Live = Callable[[list[Workload]], Iterable[Situation]]  # what each of some workloads leads to, in their order


@dataclass(frozen=True, slots=True)
class Counts:
    """One length: how many workloads there are, and how many stand for them."""

    length: int
    workloads: int  # that a memory can live through
    situations: int  # in which their last operation begins
    new_situations: int  # of them, those in which no shorter workload's last operation began
    representatives: int


class Enumeration:
    """The workloads of one geometry. `live` may spread the work; it is called once for each length."""

    def __init__(self, geometry: str = DEFAULT, live: Live | None = None) -> None:
        self.geometry = geometry
        self._live = live or partial(lived, geometry=geometry)
        self._levels: list[list[tuple[Workload, Situation]]] = []  # by length, all workloads
        self._firsts: list[list[tuple[Workload, Situation]]] = []  # by length, the first in each new situation
        self._known: set[bytes] = set()

    def workloads(self, length: int) -> Iterator[Workload]:
        """Every workload of exactly this length."""
        if length == 0:
            yield ()
        else:
            for prefix, situation in self._level(length - 1):
                for word in situation.words:
                    yield (*prefix, word)

    def representatives(self, length: int) -> list[Workload]:
        """One workload of this length for each operation in each situation that no shorter one begins its last in."""
        if length == 0:
            return [()]
        self._level(length - 1)
        return [(*prefix, word) for prefix, situation in self._firsts[length - 1] for word in situation.words]

    def others(self, length: int) -> list[Workload]:
        """The workloads of this length that a representative, perhaps a shorter one, stands for."""
        representatives = set(self.representatives(length))
        return [each for each in self.workloads(length) if each not in representatives]

    def classes(self, length: int) -> dict[bytes, list[Workload]]:
        """All workloads of exactly this length by the situation that they lead to."""
        found: dict[bytes, list[Workload]] = {}
        for workload, situation in self._level(length):
            found.setdefault(situation.fingerprint, []).append(workload)
        return found

    def counts(self, length: int) -> Counts:
        if length == 0:
            return Counts(0, 1, 1, 1, 1)
        before = self._level(length - 1)
        n_workloads = sum(len(situation.words) for _, situation in before)
        n_situations = len({situation.fingerprint for _, situation in before})
        new = len(self._firsts[length - 1])
        return Counts(length, n_workloads, n_situations, new, len(self.representatives(length)))

    def _level(self, length: int) -> list[tuple[Workload, Situation]]:
        """All workloads of this length with what they lead to."""
        while len(self._levels) <= length:
            workloads = list(self.workloads(len(self._levels)))
            level = list(zip(workloads, self._live(workloads), strict=True))
            firsts = []
            for workload, situation in level:
                if situation.fingerprint not in self._known:
                    self._known.add(situation.fingerprint)
                    firsts.append((workload, situation))
            self._levels.append(level)
            self._firsts.append(firsts)
        return self._levels[length]


def lived(workloads: Iterable[Workload], geometry: str = DEFAULT) -> list[Situation]:
    """What these workloads lead to."""
    found = []
    for workload in workloads:
        situation = situation_after(workload, geometry)
        assert situation is not None, workload
        found.append(situation)
    return found


@cache
def enumeration_of(geometry: str = DEFAULT) -> Enumeration:
    """The one enumeration of this process: what was lived through once need not be again."""
    return Enumeration(geometry)
