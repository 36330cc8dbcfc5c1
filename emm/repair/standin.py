"""A snapshot of origin `repair` in the place of one whose head is lost (spec L-7).

Purpose: keep generations dense and the newest state a snapshot again, without claiming bytes that nothing proves.
Invariants: the state is that of a segment's end, where a snapshot may stand (L-5), recomputed from an older whole
snapshot and the journal; none is made where its floor, which is its own generation (L-4), would mislead an unlearn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emm.layout import Flag
from emm.repair.copies import MemoryCopy
from emm.repair.mended import Base
from emm.repair.plan import Action, FilePlan, From, Part, commits_text
from emm.repair.segments import MendedSegment
from emm.repair.snapshots import SnapshotMender
from emm.storage.names import snapshot_name

_MISLEADING = Flag.BARE_EXPANDED | Flag.FOREIGN_PAIRS
_REASON = "nothing of its head is left; a snapshot of origin repair takes its place"


@dataclass(frozen=True, slots=True)
class StandIn:
    """What is computed: the state after commit `lsn`, from `base`."""

    base: Base
    lsn: int
    chain: bytes
    segment_next: int


@dataclass(frozen=True, slots=True)
class StandIns:
    """Finds them for one memory whose kept segments are `first` to `last` and lead to commit `end`."""

    own: MemoryCopy
    mender: SnapshotMender
    segments: Mapping[int, MendedSegment]
    first: int
    last: int
    end: int

    def find(self, generation: int) -> FilePlan | None:
        """The stand-in for a generation of which nothing is known, or None."""
        after = self.own.heads.get(generation + 1)
        if after is not None and after.head.lineage.floor_generation >= generation:
            return None
        boundary = self._boundary(generation)
        if boundary is None:
            return None
        lsn, chain, segment_next = boundary
        for older in range(generation - 1, 0, -1):
            base = self.mender.mended.get(older)
            if base is None or base.found is None or not all(map(base.ready, range(base.found.head.geometry.n_blocks))):
                continue
            header = base.found.head.header
            if header.flags & _MISLEADING or header.lsn > lsn or not self.mender.leads(base.found, lsn):
                return None
            source = Base(older, self.own, header.parameters, header.lsn, base.found.head.lineage.chain)
            part = _part(source, lsn)
            recipe = StandIn(source, lsn, chain, segment_next)
            return FilePlan(snapshot_name(generation), Action.REBUILD, (part,), _REASON, recipe)
        return None

    def _boundary(self, generation: int) -> tuple[int, bytes, int] | None:
        """(LSN, chain, next segment) where one segment ends: the last one before the generation that follows."""
        after = self.own.heads.get(generation + 1)
        if after is not None:
            lineage = after.head.lineage
            segment = self.segments.get(lineage.segment_next - 1)
            if segment is None or segment.header is None or segment.number < self.first:
                return after.head.header.lsn, lineage.chain, lineage.segment_next
            return segment.header.first_lsn - 1, segment.header.chain, segment.number
        segment = self.segments.get(self.last)
        if segment is None or segment.header is None:
            return None
        if segment.sealed and segment.complete and segment.live_last == self.end:
            return segment.live_last, segment.chain_end, self.last + 1
        return segment.header.first_lsn - 1, segment.header.chain, self.last


def _part(base: Base, lsn: int) -> Part:
    if lsn == base.lsn:
        return Part("file", From.REPLAY, f"the state at commit {lsn}, which is that of {base}")
    replayed = base.lsn + 1, lsn
    return Part("file", From.REPLAY, f"{commits_text(replayed)} replayed onto {base}", lsns=replayed)
