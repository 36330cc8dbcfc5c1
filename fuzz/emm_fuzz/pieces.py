"""The work of a campaign, cut into pieces that are the same on every machine.

Purpose: a piece is a list of cases, defined by counting and never by time, so that whoever runs it again at the same
commit sees the same states in the same order. Invariants: a piece starts with nothing seen, so its counts and its
trace digest do not depend on what ran before it; the order of pieces is that of `plan`: every situation length by
length, then what these stand for, then the other geometries, then seeded workloads without end.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from emm_fuzz.cases import Case
from emm_fuzz.enumeration import Enumeration
from emm_fuzz.equivalence import Workload
from emm_fuzz.explore import Explorer, explore_randomly
from emm_fuzz.geometry import DEFAULT, GEOMETRIES
from emm_fuzz.record import Tally

WORKLOADS_A_PIECE: Final = 1000
RANDOM_A_PIECE: Final = 50
LENGTH_OTHER: Final = 2  # up to which the other geometries are enumerated

Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Piece:
    """`id` names the work; `workloads` is None for seeded ones, whose seed is `number`."""

    kind: str  # situation: one workload for each operation in each situation; literal: those it stands for; random
    geometry: str
    length: int
    number: int
    workloads: tuple[Workload, ...] | None = None
    of: int | None = None  # pieces of this kind, geometry and length

    @property
    def id(self) -> str:
        return f"random/{self.number}" if self.kind == "random" else "/".join(map(str, self._place))

    @property
    def _place(self) -> tuple[str, str, int, int]:
        return self.kind, self.geometry, self.length, self.number


def plan(
    length: int,
    literal: int,
    enumeration: Callable[[str], Enumeration] = Enumeration,
    note: Callable[[Enumeration, int], None] = lambda enumeration, length: None,
) -> Iterator[Piece]:
    """All pieces in order: situations up to `length`, every workload up to `literal`, other geometries, seeds.

    `note` hears of each length of each geometry before its first piece.
    """
    ours = enumeration(DEFAULT)
    for each in range(length + 1):
        note(ours, each)
        yield from _cut("situation", DEFAULT, each, ours.representatives(each))
    for each in range(literal + 1):
        yield from _cut("literal", DEFAULT, each, ours.others(each))
    for geometry in GEOMETRIES:
        if geometry != DEFAULT:
            theirs = enumeration(geometry)
            for each in range(min(length, LENGTH_OTHER) + 1):
                note(theirs, each)
                yield from _cut("situation", geometry, each, theirs.representatives(each))
    for seed in itertools.count(1):
        yield Piece("random", "", 0, seed)


def _cut(kind: str, geometry: str, length: int, workloads: list[Workload]) -> Iterator[Piece]:
    starts = range(0, len(workloads), WORKLOADS_A_PIECE)
    for number, start in enumerate(starts):
        part = tuple(workloads[start : start + WORKLOADS_A_PIECE])
        yield Piece(kind, geometry, length, number, part, len(starts))


def run_piece(piece: Piece) -> tuple[Tally, Keys]:
    """(what a piece came to, a hash of every state that it judged)."""
    explorer = Explorer()
    if piece.workloads is None:
        for _ in itertools.islice(explore_randomly(explorer, piece.number), RANDOM_A_PIECE):
            pass
    else:
        for workload in piece.workloads:
            if explorer.done:
                break
            explorer.run(Case(workload, geometry=piece.geometry), last_only=True)
    return explorer.tally, explorer.keys()
