"""What a memory's files prove together, and from what a damaged part can be mended.

Purpose: one place that knows which snapshot contains which commit, which commits are whole in the journal, and
which snapshot can be rebuilt from another. Invariants: pure; a repair is named only when every byte it needs
has been checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from emm.codec.snapshot import Head
from emm.layout import Flag, Origin
from emm.storage.names import snapshot_name
from emm.verify.finding import Finding, Severity
from emm.verify.segments import Segment
from emm.verify.snapshot import SnapshotCheck

NOTHING_TOUCHED = "leave the bytes out: no commit that counts is touched"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Snapshots (ascending by generation) and segments (ascending by number) of one memory, all checked."""

    snapshots: tuple[SnapshotCheck, ...]
    segments: tuple[Segment, ...]
    chains: Mapping[int, bytes] = field(default_factory=dict)  # LSN → chain value, as the journal has it

    @property
    def proven_lsn(self) -> int:
        """The largest LSN that any whole evidence says was durable."""
        proven = [0]
        proven += [each.head.header.lsn for each in self.snapshots if each.head is not None]
        proven += [each.proven_lsn for each in self.segments]
        proven += [s.header.first_lsn - 1 for s in self.segments if s.header is not None and s.header_error is None]
        return max(proven)

    def containing(self, lsn: int) -> str | None:
        """A repair that needs no commit up to `lsn`: a whole snapshot that contains them all."""
        for each in reversed(self.snapshots):
            if each.whole and each.head is not None and each.head.header.lsn >= lsn:
                return f"generation {each.head.header.generation} ({each.name}) contains every commit up to {lsn}"
        return None

    def beyond(self, segment: int) -> str | None:
        """A repair that needs nothing in a segment: a whole snapshot whose journal begins after it."""
        for each in reversed(self.snapshots):
            if each.whole and each.head is not None and each.head.lineage.segment_next > segment:
                return f"generation {each.head.header.generation} ({each.name}) contains everything that was in it"
        return None

    def covers(self, first: int, last: int) -> bool:
        """True when every commit from `first` to `last` is whole in the journal."""
        for segment in self.segments:
            for start, end in segment.live:
                if start <= first <= end:
                    first = end + 1
        return first > last

    def rebuilding(self, target: SnapshotCheck) -> str | None:
        """How a damaged snapshot can be made again, to the bit, from what is whole; None when it cannot."""
        head = target.head
        if head is None or target.misnamed:
            return self._leaving_out(target)
        header, lineage = head.header, head.lineage
        if lineage.origin is not Origin.CHECKPOINT or not self._led_to(head):
            return None
        for base in reversed(self.snapshots):
            if base is target or not base.whole or base.head is None:
                continue
            start = base.head.header
            if start.lsn == header.lsn and base.head.lineage.chain != lineage.chain:
                continue
            if (
                lineage.floor_generation <= start.generation
                and start.lsn <= header.lsn
                and base.head.lineage.floor_generation <= header.generation
                and self._led_to(base.head)
                and self.covers(start.lsn + 1, header.lsn)
            ):
                if start.lsn == header.lsn:
                    return f"generation {start.generation} ({base.name}) holds the same state"
                return f"replay commits {start.lsn + 1}–{header.lsn} onto generation {start.generation} ({base.name})"
        from_nothing = lineage.floor_generation == 1 and not header.flags & Flag.FOREIGN_PAIRS
        if from_nothing and self.covers(1, header.lsn):
            if header.lsn == 0:
                return "an empty memory: its state follows from its head"
            return f"replay commits 1–{header.lsn} of the journal onto an empty memory"
        return None

    def _led_to(self, head: Head) -> bool:
        """False when the journal holds other commits than those that led to this snapshot."""
        chain = head.lineage.chain
        return self.chains.get(head.header.lsn, chain) == chain

    def _leaving_out(self, target: SnapshotCheck) -> str | None:
        """For a snapshot of which nothing is known: the ones around it may give every state between them."""
        older = [s for s in self.snapshots if s.whole and s.number and target.number and s.number < target.number]
        newer = [s for s in self.snapshots if s.whole and s.number and target.number and s.number > target.number]
        if not older or not newer or target.number is None:
            return None
        return self.between(older[-1], newer[0], target.number)

    def between(self, before: SnapshotCheck, after: SnapshotCheck, generation: int) -> str | None:
        """A repair for a generation between two whole ones, when the journal leads from one to the other."""
        if before.head is None or after.head is None:
            return None
        start, end = before.head.header.lsn, after.head.header.lsn
        if not (self._led_to(before.head) and self._led_to(after.head)):
            return None
        if after.head.lineage.floor_generation >= generation or not self.covers(start + 1, end):
            return None
        name = snapshot_name(before.head.header.generation)
        return f"leave it out: {name} and the journal give every state up to commit {end}"


def with_repairs(findings: list[Finding], evidence: Evidence) -> list[Finding]:
    """The findings about snapshots, with the repair that the rest of the memory makes possible."""
    by_file = {each.file: each for each in evidence.snapshots}
    newest = max((each.number or 0 for each in evidence.snapshots if each.whole), default=0)
    mended = []
    for each in findings:
        target = by_file.get(each.file or "")
        if target is not None and each.severity is Severity.DAMAGE and each.repair is None:
            each = replace(each, repair=evidence.rebuilding(target))
            if each.repair is None and target.number and target.number < newest:
                only = f"only this older state is lost: generation {newest} is whole"
                each = replace(each, message=f"{each.message}; {only}")
        mended.append(each)
    return mended
