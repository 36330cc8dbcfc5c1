"""A namespace as one handle sees it: sealed segments, tombstones, and what the log says after them.

Purpose: one answer to "which vector has this id now?". Invariants: an id is alive in at most one place, the tail or a
segment; the tail wins over every segment; nothing here touches the disk except for vectors that are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from emm_engine.files import NO_FILE, Identity
from emm_engine.vectors.log import BLOCK_ROWS, Hashes, LogPart, Rows, merged, positions
from emm_engine.vectors.segment import DamagedError
from emm_engine.vectors.segment_set import Bits, Part, SegmentSet
from emm_engine.vectors.store import Ids


@dataclass(slots=True)
class View:
    """What a namespace holds."""

    sealed: SegmentSet | None
    mark: str | None  # of the set on disk when this was read, usable or not
    tail: Rows
    touched: Ids  # ascending: ids that records of the tail say something about
    n_records: int  # of the log
    identity: Identity
    damaged: bool  # the log cannot be appended to as it is
    alive: list[Bits] = field(default_factory=list)  # for each segment, (n,)
    ids: Ids = field(default_factory=lambda: np.zeros(0, np.int64))  # sealed and alive, ascending
    places: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # segment << 32 | row

    @classmethod
    def of(cls, sealed: SegmentSet | None, mark: str | None, part: LogPart) -> View:
        """`DamagedError` when the segments contradict each other."""
        view = cls(sealed, mark, part.rows, part.touched, part.n_records, part.identity, part.damaged)
        view.alive = [~each.dead for each in view.parts]
        every = [part.segment.ids[alive] for part, alive in zip(view.parts, view.alive, strict=True)]
        where = [(number << 32) + np.flatnonzero(alive) for number, alive in enumerate(view.alive)]
        if every:
            ids, places = np.concatenate(every), np.concatenate(where)
            order = np.argsort(ids, kind="stable")
            view.ids, view.places = ids[order], places[order]
            if not (np.diff(view.ids) > 0).all():
                raise DamagedError("an id is alive twice")
        view._bury(view.touched)
        return view

    @classmethod
    def over(cls, parts: Sequence[Part], dim: int) -> View:
        """These segments alone."""
        nothing = LogPart(Rows.none(dim), np.zeros(0, np.int64), 0, None, NO_FILE, damaged=False)
        return cls.of(SegmentSet(0, 0, tuple(parts)), None, nothing)

    @property
    def parts(self) -> tuple[Part, ...]:
        return self.sealed.parts if self.sealed is not None else ()

    @property
    def n_sealed(self) -> int:
        """Records of the log that the segments stand for."""
        return self.sealed.n_records if self.sealed is not None else 0

    @property
    def count(self) -> int:
        return len(self.ids) + len(self.tail.ids)

    def extend(self, news: Rows, adds: Bits) -> None:
        """Take in additions and removals, in the order of the log."""
        self.tail = merged(self.tail, news, adds)
        ids = np.unique(news.ids)
        self.touched = np.union1d(self.touched, ids)
        self._bury(ids)

    def _bury(self, ids: Ids) -> None:
        """The segments no longer speak for these ids."""
        at, known = positions(self.ids, ids)
        if known.any():
            gone = at[known]
            for place in self.places[gone].tolist():
                self.alive[place >> 32][place & 0xFFFFFFFF] = False
            kept = np.ones(len(self.ids), bool)
            kept[gone] = False
            self.ids, self.places = self.ids[kept], self.places[kept]

    def known(self, ids: Ids) -> Bits:
        """Which of these have a vector."""
        return positions(self.ids, ids)[1] | positions(self.tail.ids, ids)[1]

    def hashes_of(self, ids: Ids) -> tuple[Hashes, Bits]:
        """(text hash of each id, whether it has a vector)."""
        found = np.zeros(len(ids), np.uint64)
        at, known = positions(self.tail.ids, ids)
        found[known] = self.tail.hashes[at[known]]
        for number, part in enumerate(self.parts):
            mine, rows = self._in_segment(number, ids)
            found[mine] = part.segment.hashes[rows]
            known = known | mine
        return found, known

    def vectors_of(self, ids: Ids) -> tuple[npt.NDArray[np.float32], Bits]:
        """((n, dim) vector of each id, zero where it has none; whether it has one)."""
        found = np.zeros((len(ids), self.tail.vectors.shape[1]), np.float32)
        at, known = positions(self.tail.ids, ids)
        found[known] = self.tail.vectors[at[known]]
        for number, part in enumerate(self.parts):
            mine, rows = self._in_segment(number, ids)
            found[mine] = part.segment.vectors(rows)
            known = known | mine
        return found, known

    def _in_segment(self, number: int, ids: Ids) -> tuple[Bits, npt.NDArray[np.intp]]:
        """(which of the ids are alive in this segment, their rows there)."""
        at, known = positions(self.ids, ids)
        known = known.copy()
        if known.any():
            known[known] = self.places[at[known]] >> 32 == number
        return known, (self.places[at[known]] & 0xFFFFFFFF).astype(np.intp)

    def rows(self) -> Iterator[Rows]:
        """Everything, by ascending id, in blocks."""
        ids = np.union1d(self.ids, self.tail.ids)
        for low in range(0, len(ids), BLOCK_ROWS):
            block = ids[low : low + BLOCK_ROWS]
            yield Rows(block, self.hashes_of(block)[0], self.vectors_of(block)[0])
