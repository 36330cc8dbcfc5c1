"""Recovery: the newest valid snapshot plus every live commit after it, or a clear refusal.

Purpose: decide from what lies in a memory directory which state it proves (spec R-rules).
Invariants: nothing is written; no commit that any valid record proves durable is ever left out in
silence (`CorruptionError`, R-6); bytes beyond the last proof that do not parse are a torn tail, and
are reported, not lost or called clean.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from emm.codec.journal import next_chain
from emm.codec.snapshot import Head, Snapshot
from emm.errors import CorruptionError, EmmError, FormatError, MissingError
from emm.layout import STATE_BYTES_MAX, Origin
from emm.state import MatrixState
from emm.storage.grouped_replay import GroupedReplay
from emm.storage.names import Listing, list_memory, segment_name, snapshot_name
from emm.storage.replay import Replayer
from emm.storage.segment_file import LoggedCommit, SegmentReader, could_be_torn
from emm.storage.snapshot_file import LoadedSnapshot, load_snapshot, salvage_head
from emm.vfs.protocol import Directory

_ATTEMPTS = 8  # a reader starts again when a writer's checkpoint or prune changed the listing under it


@dataclass(frozen=True, slots=True)
class CommitPlace:
    """Where a commit lies that recovery read but nothing proves durable."""

    lsn: int
    segment: int
    offset: int
    end: int


@dataclass(slots=True)
class Recovered:
    """What a memory directory holds, as far as its bytes prove it."""

    snapshot: Snapshot  # the one recovery started from (before replay)
    snapshot_sha256: bytes
    state: MatrixState  # after replay
    lsn: int
    chain: bytes
    write_count: int
    expand_at: float
    replayed: int  # commits replayed on top of the snapshot
    proven_lsn: int
    unproven: tuple[CommitPlace, ...]  # commits in (proven_lsn, lsn], to be logged again by a writer
    torn: FormatError | None  # what the torn tail looks like, if there is one
    sealed: bool  # the last segment ends with a seal, or the snapshot is all there is
    generation_last: int  # highest generation present, valid or not
    segment_next: int
    previous_bytes: int  # valid length of segment `segment_next − 1`; 0 when there is none
    journal_bytes: int  # of the segments replayed: what the next opening would replay again
    floor_generation: int
    notices: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """True when the last writer left nothing to mend."""
        return self.sealed and not self.unproven and self.torn is None


def recover(
    directory: Directory,
    *,
    verify: bool = True,
    mapped: bool = False,
    state_bytes_max: int = STATE_BYTES_MAX,
) -> Recovered:
    """Read a memory directory. Raises `MissingError`, `FormatError` (`CorruptionError`, …) or `StorageError`."""
    for attempt in range(_ATTEMPTS):
        listing = list_memory(directory)
        try:
            recovered = _recover(directory, listing, verify, mapped, state_bytes_max)
        except MissingError:
            if attempt + 1 == _ATTEMPTS or list_memory(directory) == listing:
                raise
            continue
        if _is_absent(directory, snapshot_name(recovered.generation_last + 1)):
            return recovered
    raise MissingError("the memory kept changing while it was read; try again", file=directory.url)


def _is_absent(directory: Directory, name: str) -> bool:
    try:
        directory.size(name)
    except MissingError:
        return True
    return False


def _recover(directory: Directory, listing: Listing, verify: bool, mapped: bool, state_bytes_max: int) -> Recovered:
    loaded, lsn_floor, notices = _newest_snapshot(directory, listing, verify, mapped, state_bytes_max)
    snapshot, lineage = loaded.snapshot, loaded.snapshot.lineage
    segments = [number for number in listing.segments if number >= lineage.segment_next]
    for expected, number in enumerate(segments, lineage.segment_next):
        if number != expected:
            raise CorruptionError(
                "a journal segment is missing", rule="R-2", file=f"{directory.url}/{segment_name(expected)}"
            )
    state = snapshot.state.copy() if segments or not mapped else snapshot.state
    replayer = Replayer(
        state, write_count=lineage.write_count, expand_at=lineage.expand_at, state_bytes_max=state_bytes_max
    )
    readers = [SegmentReader(directory, number, snapshot.uuid) for number in segments]
    with GroupedReplay(replayer) as grouped:
        walk = _Walk(
            grouped, snapshot.lsn, lineage.chain, proven_lsn=snapshot.lsn, floor_generation=lineage.floor_generation
        )
        for index, reader in enumerate(readers):
            follower = readers[index + 1] if index + 1 < len(readers) else None
            walk.segment(reader, snapshot.generation, follower)
    if walk.lsn < lsn_floor:
        raise CorruptionError(
            "the newest snapshot is damaged and the journal does not reach as far",
            rule="R-3",
            file=directory.url,
            expected=f"lsn {lsn_floor}",
            found=f"lsn {walk.lsn}",
        )
    proven = max(walk.proven_lsn, lsn_floor)
    if walk.torn is not None:
        notices.append(f"torn tail: {walk.torn.message} at byte {walk.torn.offset} of {readers[-1].name}")
    elif readers and not readers[-1].sealed:
        notices.append("the last writer did not close the memory")
    return Recovered(
        snapshot,
        loaded.sha256,
        replayer.state,
        walk.lsn,
        walk.chain,
        replayer.write_count,
        replayer.expand_at,
        walk.replayed,
        min(proven, walk.lsn),
        tuple(place for place in walk.unproven if place.lsn > proven),
        walk.torn,
        not readers or readers[-1].sealed,
        listing.generations[-1],
        (segments[-1] + 1) if segments else lineage.segment_next,
        readers[-1].valid_bytes if readers else 0,
        sum(reader.valid_bytes for reader in readers),
        walk.floor_generation,
        tuple(notices),
    )


def _newest_snapshot(
    directory: Directory, listing: Listing, verify: bool, mapped: bool, state_bytes_max: int
) -> tuple[LoadedSnapshot, int, list[str]]:
    """(newest valid snapshot, LSN that recovery must reach, notices about damaged newer ones)."""
    lsn_floor = 0
    notices: list[str] = []
    passed_over: list[Head] = []
    for generation in reversed(listing.generations):
        try:
            loaded = load_snapshot(directory, generation, verify=verify, mapped=mapped, state_bytes_max=state_bytes_max)
        except FormatError as error:
            head = salvage_head(directory, snapshot_name(generation), state_bytes_max=state_bytes_max)
            # an older snapshot plus the journal gives this state only if it is a checkpoint.
            if head is None or head.lineage.origin is not Origin.CHECKPOINT or generation == listing.generations[0]:
                raise
            lsn_floor = max(lsn_floor, head.header.lsn)
            passed_over.append(head)
            notices.append(f"generation {generation} is damaged ({error.message}); started from an older one")
            continue
        for head in passed_over:
            if not _leads_to(loaded.snapshot, head):
                raise CorruptionError(
                    "a newer snapshot is damaged and what is left of the older ones does not lead to it",
                    rule="R-3",
                    file=f"{directory.url}/{snapshot_name(generation)}",
                    expected=f"the memory of generation {head.header.generation}, "
                    f"from generation {head.lineage.floor_generation} on",
                    found=f"generation {generation}",
                )
        return loaded, lsn_floor, notices
    raise CorruptionError("there is a journal but no snapshot", rule="R-1", file=directory.url)


def _leads_to(snapshot: Snapshot, head: Head) -> bool:
    """True when the journal after `snapshot` can lead to the snapshot with that head (N-6, R-4)."""
    mine, theirs = snapshot.state.parameters, head.header.parameters
    same = snapshot.uuid == head.header.uuid and replace(theirs, rank=mine.rank) == mine
    return same and mine.rank <= theirs.rank and snapshot.generation >= head.lineage.floor_generation


class _Walk:
    """Walks live commits in LSN order over the segments, checking chain, order and proofs."""

    def __init__(
        self, grouped: GroupedReplay, lsn: int, chain: bytes, *, proven_lsn: int, floor_generation: int
    ) -> None:
        self.grouped = grouped
        self.lsn = lsn
        self.chain = chain
        self.proven_lsn = proven_lsn
        self.floor_generation = floor_generation
        self.replayed = 0
        self.unproven: deque[CommitPlace] = deque()
        self.torn: FormatError | None = None

    def segment(self, reader: SegmentReader, generation: int, follower: SegmentReader | None) -> None:
        self._check_start(reader, generation)
        lsn_end = follower.header.first_lsn if follower is not None else None
        try:
            for commit in reader.commits(0 if follower is None else follower.header.previous_bytes):
                if lsn_end is None or commit.lsn < lsn_end:
                    self._commit(commit, reader)
                del commit  # may hold 256 MiB, and so may the one that is read next
        except EmmError:
            self._settle(reader)  # an earlier commit that cannot be replayed is the first error
            raise
        self._settle(reader)
        self.proven_lsn = max(self.proven_lsn, reader.proven_lsn)
        if follower is not None:
            self._check_follower(follower)
        elif reader.damage is not None:
            self._judge_tail(reader)

    def _check_start(self, reader: SegmentReader, generation: int) -> None:
        header = reader.header
        if header.floor_generation > generation:
            raise CorruptionError(
                "the journal was written on top of a newer snapshot that is missing or damaged",
                rule="R-4",
                file=reader.path,
                expected=f"generation {header.floor_generation} or newer",
                found=generation,
            )
        rank = self.grouped.replayer.state.parameters.rank
        if (header.first_lsn, header.rank, header.chain) != (self.lsn + 1, rank, self.chain):
            raise CorruptionError(
                "the segment does not continue the log",
                rule="R-5",
                file=reader.path,
                offset=24,
                expected=f"first lsn {self.lsn + 1}, rank {rank}, chain {self.chain.hex()[:16]}",
                found=f"first lsn {header.first_lsn}, rank {header.rank}, chain {header.chain.hex()[:16]}",
            )
        self.floor_generation = max(self.floor_generation, header.floor_generation)

    def _commit(self, logged: LoggedCommit, reader: SegmentReader) -> None:
        try:
            check_chain(self.chain, logged)
            self.grouped.apply(logged)
        except FormatError as error:
            raise error.located(reader.path) from None
        self.lsn, self.chain = logged.lsn, logged.commit.chain
        self.replayed += 1
        while self.unproven and self.unproven[0].lsn <= reader.proven_lsn:
            self.unproven.popleft()
        self.unproven.append(CommitPlace(logged.lsn, logged.segment, logged.offset, logged.end))

    def _settle(self, reader: SegmentReader) -> None:
        try:
            self.grouped.settle()
        except FormatError as error:
            raise error.located(reader.path) from None

    def _check_follower(self, follower: SegmentReader) -> None:
        first = follower.header.first_lsn
        if first <= self.proven_lsn:
            raise CorruptionError(
                "a segment takes back commits that were durable",
                rule="R-5",
                file=follower.path,
                offset=24,
                expected=f"first lsn above {self.proven_lsn}",
                found=first,
            )
        if self.lsn < first - 1:
            raise CorruptionError(
                "the journal is damaged before the next segment begins",
                rule="R-6",
                file=follower.path,
                expected=f"commits up to {first - 1}",
                found=f"commits up to {self.lsn}",
            )
        self.proven_lsn = max(self.proven_lsn, first - 1)

    def _judge_tail(self, reader: SegmentReader) -> None:
        damage = reader.damage
        assert damage is not None
        offset = reader.valid_bytes if damage.offset is None else damage.offset
        evidence = max(self.proven_lsn, reader.evidence_beyond(min(offset, reader.size)))
        if evidence > self.lsn:
            raise CorruptionError(
                f"the journal is damaged below what was proven durable: {damage.message}",
                rule="R-6",
                file=reader.path,
                offset=damage.offset,
                expected=f"commits up to {evidence}",
                found=f"commits up to {self.lsn}",
            )
        if not could_be_torn(damage):
            raise damage
        self.torn = damage


def check_chain(previous: bytes, logged: LoggedCommit) -> None:
    """Raise `CorruptionError` (J-12) unless the commit's chain value follows from the one before."""
    batch = [(record.type, record.lsn, record.payload) for record in logged.records]
    expected = next_chain(previous, batch, logged.commit.encode())
    if expected != logged.commit.chain:
        raise CorruptionError(
            "a commit's chain value does not follow from the one before",
            rule="J-12",
            offset=logged.offset,
            expected=expected.hex()[:16],
            found=logged.commit.chain.hex()[:16],
        )
