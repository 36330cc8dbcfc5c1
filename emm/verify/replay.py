"""The replay level: does an older snapshot plus the journal give the newer one, to the bit?

Purpose: because arithmetic is part of the format, equality of digests is the test. Invariants: one state is
moved forward, never kept twice; a snapshot that is not a pure checkpoint (merge, re-solve, …) starts a new
leg; what cannot be reached is said, not skipped in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from emm.codec.payload import state_digest
from emm.codec.snapshot import Head
from emm.errors import EmmError, LimitError
from emm.layout import Origin
from emm.state import MatrixState
from emm.storage.replay import Replayer
from emm.storage.segment_file import LoggedCommit
from emm.verify.finding import Finding, finding, from_error
from emm.verify.levels import Level, Options
from emm.verify.numeric import check_state
from emm.verify.segments import Segment, live_commits
from emm.verify.snapshot import SnapshotCheck
from emm.vfs.protocol import Directory


@dataclass(slots=True)
class ReplayCheck:
    """Replays a memory from its oldest whole snapshot to the end of its journal."""

    directory: Directory
    snapshots: tuple[SnapshotCheck, ...]  # ascending
    segments: tuple[Segment, ...]
    uuid: bytes
    options: Options
    commits: int = field(init=False, default=0)
    compared: int = field(init=False, default=0)
    _replayer: Replayer | None = field(init=False, default=None)
    _generation: int = field(init=False, default=0)  # where the present leg began
    _lsn: int = field(init=False, default=0)

    def run(self) -> Iterator[Finding]:
        """Findings in the order of the log."""
        try:
            yield from self._run()
        except EmmError as error:  # every file was read a moment ago
            yield from_error("changed-while-reading", error, file=error.file or self.directory.url)

    def _run(self) -> Iterator[Finding]:
        pending = [each for each in self.snapshots if each.whole]
        if not pending:
            return
        yield from self._arrive(pending.pop(0))
        commits = live_commits(self.directory, list(self.segments), self.uuid, self._lsn)
        for logged in commits:
            while pending and _lsn(pending[0]) < logged.lsn:
                yield from self._arrive(pending.pop(0))
            if self._replayer is None or logged.lsn <= self._lsn:
                continue
            yield from self._apply(logged)
        for snapshot in pending:
            yield from self._arrive(snapshot)
        if self.options.level >= Level.NUMERIC and self._replayer is not None and self.segments:
            yield from check_state(self._replayer.state, self.segments[-1].file)

    def _apply(self, logged: LoggedCommit) -> Iterator[Finding]:
        assert self._replayer is not None
        segment = next(each for each in self.segments if each.number == logged.segment)
        assert segment.header is not None
        file = segment.file
        lsns = (logged.lsn, logged.lsn)
        if logged.lsn != self._lsn + 1 or segment.header.floor_generation > self._generation:
            yield finding(
                "replay-not-possible",
                "these commits follow a snapshot or commits that are not at hand",
                rule="R-4",
                file=file,
                lsns=lsns,
            )
            self._replayer = None
            return
        try:
            self._replayer.apply(logged)
        except LimitError as error:
            self._replayer = None
            yield from_error("over-limit", error, file=file, lsns=lsns)
        except EmmError as error:
            self._replayer = None
            yield from_error("replay-refused", error, file=file, lsns=lsns)
        else:
            self._lsn = logged.lsn
            self.commits += 1
            if self.options.progress is not None:
                self.options.progress(file, logged.end - logged.offset)

    def _arrive(self, check: SnapshotCheck) -> Iterator[Finding]:
        """Compare the replayed state with a snapshot of the same LSN, and go on from the snapshot."""
        assert check.head is not None
        try:
            state = check.state()
        except EmmError as error:
            yield from_error("changed-while-reading", error, file=check.file)
            return
        yield from self._compare(check, check.head, state)
        if self.options.level >= Level.NUMERIC:
            yield from check_state(state, check.file)
        lineage = check.head.lineage
        self._replayer = Replayer(
            state.copy(),
            write_count=lineage.write_count,
            expand_at=lineage.expand_at,
            state_bytes_max=self.options.state_bytes_max,
        )
        self._generation, self._lsn = check.head.header.generation, check.head.header.lsn

    def _compare(self, check: SnapshotCheck, head: Head, state: MatrixState) -> Iterator[Finding]:
        header, lineage = head.header, head.lineage
        if lineage.origin is not Origin.CHECKPOINT or self._generation == 0:
            return
        if self._replayer is None or self._lsn != header.lsn or lineage.floor_generation > self._generation:
            yield finding(
                "replay-not-possible",
                "no journal leads from an older snapshot to this one",
                file=check.file,
                lsns=(header.lsn, header.lsn),
            )
            return
        self.compared += 1
        replayed = self._replayer
        expected = _summary(replayed.state, self._lsn, replayed.write_count, replayed.expand_at)
        found = _summary(state, header.lsn, lineage.write_count, lineage.expand_at)
        if expected != found:
            yield finding(
                "replay-differs",
                f"generation {self._generation} and the journal do not give generation {header.generation}",
                rule="R-7",
                file=check.file,
                lsns=(header.lsn, header.lsn),
                expected=expected,
                found=found,
            )


def _lsn(check: SnapshotCheck) -> int:
    assert check.head is not None
    return check.head.header.lsn


def _summary(state: MatrixState, lsn: int, write_count: int, expand_at: float) -> str:
    digest = state_digest(state, lsn).hex()
    return f"digest {digest}, {write_count} pairs, flags {int(state.flags):#x}, expand at {expand_at:g}"
