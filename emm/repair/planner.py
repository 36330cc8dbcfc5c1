"""`plan`: what is damaged, from where each part can be had, and what is lost, before anything is written.

Purpose: put journal and snapshots together into one memory that opens. Invariants: reads only; the repaired memory is a
lawful one (dense generations, a log without gaps); it holds every commit that can be had, and what cannot be had is
named; where a choice is to be made, the state comes first and its history second.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from emm.codec.journal import SegmentHeader
from emm.errors import EmmError, InputError, StorageError, UnsupportedError
from emm.layout import SEGMENT_SUFFIX, SNAPSHOT_SUFFIX, STATE_BYTES_MAX
from emm.repair.copies import MemoryCopy
from emm.repair.journal import JournalMender
from emm.repair.losses import Losses, about_replica, about_upgrade
from emm.repair.mended import MendedSnapshot
from emm.repair.plan import Action, FilePlan, Loss, Plan
from emm.repair.report_file import findings_of_report
from emm.repair.segment_file import segment_file
from emm.repair.segments import MendedSegment
from emm.repair.snapshots import SnapshotMender
from emm.repair.standin import StandIn, StandIns
from emm.storage.names import parse_name, segment_name, snapshot_name
from emm.verify.finding import Finding, Severity
from emm.verify.levels import Level, Options, parse_level
from emm.verify.memory import check_memory
from emm.vfs import is_directory, open_directory
from emm.vfs.resolve import Location

_CONTRADICTIONS = (  # between bytes whose checksums hold
    "log-contradicted",
    "chain-broken",
    "payload-invalid",
    "replay-refused",
    "replay-differs",
    "not-finite",
    "gain-not-symmetric",
    "gain-out-of-bounds",
)
_SUSPICIOUS = (Severity.DAMAGE, Severity.TORN, Severity.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Context:
    """What `execute` needs beside the plan's files."""

    own: MemoryCopy
    replica: MemoryCopy | None
    snapshots: SnapshotMender
    state_bytes_max: int


def plan(
    url: Location,
    *,
    against: Location | None = None,
    report: str | os.PathLike[str] | None = None,
    level: str | Level = Level.BLOCKS,
    state_bytes_max: int = STATE_BYTES_MAX,
    progress: Callable[[str, int], None] | None = None,
) -> Plan:
    """How the memory at `url` can be repaired. Nothing is written.

    `against` is a replica to take parts from; `report` the file of an earlier `emm-verify --json`, which spares the
    scan; without one the memory is checked at `level`, blocks or deeper. Raises `InputError` (a replica of another
    memory, a report that does not fit), `MissingError`, `UnsupportedError` or `LimitError` where the bytes are beyond
    this library, `FormatError` where nothing says whose they are.
    """
    if not is_directory(url):
        raise InputError("a memory directory is repaired as a whole", expected="a directory", found=str(url))
    own = MemoryCopy(open_directory(url), False, state_bytes_max)
    replica = None
    if against is not None:
        replica = MemoryCopy(open_directory(against), True, state_bytes_max)
        replica.require_same_memory(own.uuid)
    if report is not None:
        findings = findings_of_report(report, own)
        believed = [each for each in findings if each.code in _CONTRADICTIONS]
    else:
        deep = parse_level(level)
        if deep < Level.BLOCKS:
            raise InputError(
                "a repair needs to know of every block", expected="level blocks or deeper", found=deep.label
            )
        options = Options(deep, state_bytes_max=state_bytes_max, progress=progress)
        findings = believed = check_memory(own.directory, options).findings
    _require_judgeable(findings)
    return _Planner(own, replica, findings, believed, state_bytes_max).run()


def _require_judgeable(findings: list[Finding]) -> None:
    for each in findings:
        if each.severity is Severity.REFUSED:
            raise UnsupportedError(f"this cannot be repaired here: {each.message}", file=each.file, rule=each.rule)
        if each.code == "changed-while-reading":
            raise StorageError(f"the memory changed while it was checked: {each.message}", file=each.file)


class _Planner:
    """One plan in the making."""

    def __init__(
        self,
        own: MemoryCopy,
        replica: MemoryCopy | None,
        findings: list[Finding],
        believed: list[Finding],  # those that our own reading of the files they blame cannot refute
        state_bytes_max: int,
    ) -> None:
        self.own, self.replica, self.findings, self.believed = own, replica, findings, believed
        for generation in self._blamed(("chain-broken", "payload-invalid"), SNAPSHOT_SUFFIX):
            own.heads.pop(generation, None)  # its own proofs prove something that is not this memory's
        suspects = [
            parse_name((each.file or "").rpartition("/")[2]) for each in findings if each.severity in _SUSPICIOUS
        ]
        named = [each for each in suspects if each is not None]
        heads = {generation: found.head for generation, found in own.heads.items()}
        shapes = [each.header.parameters for each in heads.values()]
        if not shapes and replica is not None:
            shapes = [each.head.header.parameters for each in replica.heads.values()]
        key_dim, dim = (shapes[-1].key_dim, shapes[-1].dim) if shapes else (0, 0)
        bad_segments = frozenset(number for suffix, number in named if suffix == SEGMENT_SUFFIX)
        bad_snapshots = frozenset(number for suffix, number in named if suffix == SNAPSHOT_SUFFIX)
        journal = JournalMender(own, replica, bad_segments, heads, key_dim, dim)
        journal.distrusted = self._blamed(("log-contradicted",), SEGMENT_SUFFIX)
        self.segments = journal.run()
        self.mender = SnapshotMender(own, replica, bad_snapshots, self.segments)
        self.snapshots = self.mender.run()
        self.older: list[Loss] = []
        self.context = Context(own, replica, self.mender, state_bytes_max)
        known = [each.head.header.lsn for each in own.heads.values()]
        known += [each.header.first_lsn - 1 for each in self.segments.values() if each.header is not None]
        known += [each.live_last for each in self.segments.values() if each.header is not None]
        known += [self._gap_end(each) for each in self.segments.values()]
        self.wanted = max(known, default=0)
        floors = [each.head.lineage.floor_generation for each in own.heads.values()]
        floors += [each.header.floor_generation for each in self.segments.values() if each.header is not None]
        self.floor = max(floors, default=1)

    def _blamed(self, codes: tuple[str, ...], suffix: str) -> frozenset[int]:
        """Numbers of files whose checksums hold and whose contents cannot be right."""
        names = [parse_name((each.file or "").rpartition("/")[2]) for each in self.findings if each.code in codes]
        return frozenset(each[1] for each in names if each is not None and each[0] == suffix)

    def _gap_end(self, segment: MendedSegment) -> int:
        """The last commit that a segment with a gap is known to have held."""
        if segment.complete or not segment.own:
            return 0
        header = segment.header or SegmentHeader(segment.number, 1, 1, self.own.uuid, bytes(16), b"", 0, 0)
        follower = self.segments.get(segment.number + 1)
        stated = follower.header.previous_bytes if follower is not None and follower.header is not None else 0
        try:
            return JournalMender(self.own, None, frozenset(), {}, 0, 0).evidence(segment.number, header, stated)
        except EmmError:
            return 0

    # --- the whole ------------------------------------------------------------------------------

    def run(self) -> Plan:
        anchor, end = self._anchor()
        names = Losses(self.own, self.mender, self.segments, self.wanted)
        files: list[FilePlan] = []
        first, last = (0, -1) if anchor is None else self._kept_segments(anchor, end)
        if anchor is None:
            losses = names.everything()
        else:
            files += self._snapshot_files(names, StandIns(self.own, self.mender, self.segments, first, last, end))
            files += self._segment_files(first, last)
            losses = [*names.state(anchor, end, self.floor), *self.older, *names.pairs(first)]
        files += self._left_out(names, {each.name for each in files})
        losses += names.untouched(self.believed, {each.name: each.action for each in files})
        notes = list(self.mender.notes)
        torn = any(self.segments[number].torn for number in range(first, last + 1))
        if torn:
            notes.append("the tail is torn or damaged, nobody can tell which: it is taken over as it is")
        if losses:
            notes += about_upgrade(self.own)
        if self.replica is not None:
            notes += about_replica(self.own, self.replica, self.segments, self.wanted)
        return Plan(
            self.own.directory.url,
            None if self.replica is None else self.replica.directory.url,
            self.own.uuid.hex(),
            self.wanted,
            end,
            tuple(each for each in self.findings if each.severity is not Severity.NOTICE),
            tuple(sorted(files, key=lambda each: each.name)),
            tuple(losses),
            tuple(dict.fromkeys(notes)),
            torn,
            sum(map(self._size, files)),
            self.context,
        )

    def _anchor(self) -> tuple[MendedSnapshot | None, int]:
        """(the newest whole snapshot among those from which the log leads furthest, the last commit it leads to)."""
        best: tuple[bool, int, int] | None = None
        for generation, each in self.snapshots.items():
            if each.whole:
                assert each.found is not None
                header = each.found.head.header
                end = self.mender.reach(each.found.head.lineage.segment_next, header.lsn, generation)
                best = max(best or (False, -1, 0), (generation >= self.floor, end, generation))
        return (None, 0) if best is None else (self.snapshots[best[2]], best[1])

    def _kept_segments(self, anchor: MendedSnapshot, end: int) -> tuple[int, int]:
        """(first, last) of the segments without a gap around the anchor; last < first for none."""
        assert anchor.found is not None
        first = last = anchor.found.head.lineage.segment_next
        while (each := self.segments.get(last)) is not None and each.header is not None:
            if each.header.first_lsn > end + 1 or each.header.floor_generation > anchor.generation:
                break
            last += 1
            if not each.complete:
                break
        while (each := self.segments.get(first - 1)) is not None and each.header is not None and each.complete:
            first -= 1
        return first, last - 1

    def _snapshot_files(self, names: Losses, stand_ins: StandIns) -> list[FilePlan]:
        """From the newest down to the first gap: a gap between two generations would be damage again."""
        files: list[FilePlan] = []
        oldest_kept: MendedSnapshot | None = None
        for generation in sorted(self.snapshots, reverse=True):
            each = self.snapshots[generation]
            made = self._kept(each, stand_ins)
            if made is None and each.found is None:
                made = stand_ins.find(generation)
            if made is not None:
                files.append(made)
                oldest_kept = each
            elif files:
                older = range(min(self.snapshots), generation + 1)
                self.older = names.older_states(older, oldest_kept, stand_ins.first)
                break
        return files

    def _kept(self, each: MendedSnapshot, around: StandIns) -> FilePlan | None:
        if not each.whole or each.found is None:
            return None
        head = each.found.head
        if head.header.lsn > around.end or head.lineage.segment_next < around.first:
            return None
        action = Action.COPY if not each.parts else Action.MEND if each.exact else Action.REBUILD
        return FilePlan(snapshot_name(each.generation), action, tuple(each.parts), recipe=each)

    def _left_out(self, names: Losses, kept: set[str]) -> list[FilePlan]:
        files = [
            FilePlan(snapshot_name(n), Action.LEAVE_OUT, reason=names.reason(self.snapshots[n]))
            for n in self.own.listing.generations
            if snapshot_name(n) not in kept
        ]
        files += [
            FilePlan(
                segment_name(n), Action.LEAVE_OUT, reason="the log has a gap between it and the state that is kept"
            )
            for n in self.own.listing.segments
            if segment_name(n) not in kept
        ]
        return files

    # --- segments -------------------------------------------------------------------------------

    def _segment_files(self, first: int, last: int) -> list[FilePlan]:
        files = []
        length_before: int | None = None
        for number in range(first, last + 1):
            made = segment_file(self.segments[number], length_before, self.own.uuid)
            files.append(made)
            length_before = None if made.action is Action.COPY else self._size(made)
        return files

    def _size(self, each: FilePlan) -> int:
        recipe = each.recipe
        if isinstance(recipe, StandIn):
            assert recipe.base.generation is not None
            recipe = self.snapshots[recipe.base.generation]
        if isinstance(recipe, MendedSnapshot):
            assert recipe.found is not None
            return recipe.found.head.geometry.file_bytes
        return sum(piece.length for piece in recipe) if isinstance(recipe, tuple) else 0
