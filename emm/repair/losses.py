"""Name what a repair cannot give back: states with their rows, commits with their LSNs, and pairs of the journal.

Purpose: a loss is said before anything is written, exactly and completely. Invariants: pure; "state" means that the
repaired memory is not what the damaged one was, "history" that older states or pairs are no longer to be had from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from emm.layout import Flag
from emm.repair.copies import MemoryCopy
from emm.repair.mended import MendedSnapshot
from emm.repair.plan import Action, Loss
from emm.repair.segments import MendedSegment
from emm.repair.snapshots import SnapshotMender
from emm.storage.names import segment_name, snapshot_name
from emm.verify.finding import Finding, Severity
from emm.verify.regions import block_spans


@dataclass(frozen=True, slots=True)
class Losses:
    """Of one memory. `wanted` is the last commit that is known to have been durable."""

    own: MemoryCopy
    mender: SnapshotMender
    segments: Mapping[int, MendedSegment]
    wanted: int

    def of_snapshot(self, each: MendedSnapshot, kind: str, message: str) -> Loss:
        """A generation, with the rows of its lost blocks."""
        name = snapshot_name(each.generation)
        if each.found is None:
            return Loss(kind, message, name)
        shape, lsn = each.found.head.geometry, each.found.head.header.lsn
        spans = tuple(span for index in each.lost for span in block_spans(shape, index))
        return Loss(kind, message, name, tuple(each.lost), spans, (lsn, lsn) if lsn else None)

    def reason(self, each: MendedSnapshot) -> str:
        """Why a generation is not in the repaired memory."""
        if each.found is None:
            return "neither copy of its head is whole"
        if each.lost:
            return each.reason or "blocks are lost"
        return "the log that it belongs to has a gap after it"

    def older_states(self, generations: Iterable[int], kept: MendedSnapshot | None, first: int) -> list[Loss]:
        """Generations older than those kept. `first` is the first segment kept."""
        found = []
        for generation in generations:
            each = self.mender.mended[generation]
            if first == 1 and self._from_nothing(each if each.found is not None else kept):
                self.mender.notes.append(
                    f"generation {generation} is left out: the journal from commit 1 on still leads to its state"
                )
            elif each.found is not None or generation in self.own.listing.generations:
                found.append(self.of_snapshot(each, "history", f"an older state is lost: {self.reason(each)}"))
        return found

    def _from_nothing(self, each: MendedSnapshot | None) -> bool:
        """True when the journal alone gives every state up to that generation."""
        if each is None or each.found is None:
            return False
        header, lineage = each.found.head.header, each.found.head.lineage
        own_pairs = lineage.floor_generation == 1 and not header.flags & Flag.FOREIGN_PAIRS
        return own_pairs and self.mender.reach(1, 0, 1) >= header.lsn

    def pairs(self, first: int) -> list[Loss]:
        """Commits that stay in the state and leave the journal, which now begins at segment `first`."""
        before = [each for number, each in self.segments.items() if number < first]
        readable = [each.header.first_lsn for each in before if each.header is not None]
        if not before:
            return []
        kept = self.segments.get(first)
        last = self.wanted if kept is None or kept.header is None else kept.header.first_lsn - 1
        gaps = ", ".join(segment_name(each.number) for each in before if not each.complete)
        message = f"pairs that the state holds are no longer in the journal, because it has a gap in {gaps}"
        return [Loss("history", message, lsns=(min(readable, default=1), last))] if last else []

    def state(self, anchor: MendedSnapshot, end: int, floor: int) -> list[Loss]:
        """What the newest state was and the repaired memory is not."""
        found = []
        if end < self.wanted:
            gaps = [number for number, each in self.segments.items() if not each.complete]
            file = segment_name(gaps[-1]) if gaps else None
            found.append(Loss("state", "commits are lost", file, lsns=(end + 1, self.wanted)))
        for segment in self.segments.values():
            if segment.unknown and segment.own:
                message = "the end of the log cannot be told: this segment is beyond reading"
                name = segment_name(segment.number)
                found.append(Loss("state", message, name, lsns=(max(end, self.wanted) + 1, None)))
        for generation, each in self.mender.mended.items():
            if generation <= anchor.generation or each.whole:
                continue
            beyond = each.found is not None and each.found.head.header.lsn > end
            if beyond or generation >= floor > anchor.generation:
                found.append(self.of_snapshot(each, "state", f"a newer state is lost: {self.reason(each)}"))
        return found

    def untouched(self, findings: Iterable[Finding], actions: Mapping[str, Action]) -> list[Loss]:
        """Damage that the plan does nothing about: contradictions between bytes whose checksums all hold."""
        found = []
        for each in findings:
            name = (each.file or "").rpartition("/")[2]
            if each.severity is Severity.DAMAGE and actions.get(name) is Action.COPY:
                message = f"what nothing can mend: {each.message}"
                found.append(Loss("state", message, name, spans=each.spans, lsns=each.lsns))
        return found

    def everything(self) -> list[Loss]:
        """Where no state is left at all."""
        found = [
            self.of_snapshot(each, "state", f"no state is left: {self.reason(each)}")
            for each in self.mender.mended.values()
        ]
        if self.wanted:
            found.append(Loss("state", "commits are lost", lsns=(1, self.wanted)))
        return found


def about_replica(
    own: MemoryCopy, replica: MemoryCopy, segments: Mapping[int, MendedSegment], wanted: int
) -> list[str]:
    """How a replica stands to us, by (LSN, chain value)."""
    ours = {found.head.header.lsn: found.head.lineage.chain for found in own.heads.values()}
    ours |= {each.live_last: each.chain_end for each in segments.values() if each.chain_end}
    theirs = {found.head.header.lsn: found.head.lineage.chain for found in replica.heads.values()}
    theirs |= {each.first_lsn - 1: each.chain for each in replica.headers.values()}
    apart = [lsn for lsn in ours if lsn in theirs and ours[lsn] != theirs[lsn]]
    newest = max(theirs, default=0)
    if apart:
        return [f"the replica went another way: its chain value at commit {min(apart)} is not ours"]
    if newest > wanted:
        return [f"the replica is ahead: it holds commit {newest}, nothing here speaks of commits past {wanted}"]
    if newest < wanted:
        return [f"the replica may be behind: its newest snapshot or segment speaks of commit {newest}"]
    return []


def about_upgrade(own: MemoryCopy) -> list[str]:
    """The way out of a loss that a memory of the predecessor's file has: V3-14 names the file for the memory's life."""
    for found in own.heads.values():
        stated = found.head.metadata.get("upgrade")
        if isinstance(stated, dict) and stated.get("format") == "emm-v3":
            pairs = " and the pairs that were given with it" if stated.get("pairs") is not None else ""
            file = f"the v3 file with SHA-256 {stated.get('sha256')}{pairs}"
            again = "emm upgrade makes its first state again, into a new directory, without what was written since"
            return [f"this memory was upgraded from {file}: where that is kept, {again}"]
    return []
