"""The journal as a list of commits, for people: when, how many pairs, how surprising, how full the memory was.

Purpose: tell what happened to a memory, without judging it. Invariants: reads only; a segment that cannot be read, or
only in part, says so in `problem` and hides no other; replaying for the saturation is bounded by a number of pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from emm import kernel
from emm.codec.journal import decode_segment_header
from emm.errors import EmmError
from emm.layout import SEGMENT_HEADER
from emm.storage.names import segment_name
from emm.storage.replay import Replayer
from emm.storage.segment_file import LoggedCommit, SegmentReader
from emm.storage.snapshot_file import load_snapshot
from emm.vfs import Directory

REPLAY_PAIRS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """One commit of the journal. `surprise` is the mean ‖e‖₂ over its pairs before they were written."""

    lsn: int
    time_us: int
    action: str  # write, unlearn, forget, expand or parameters; several joined by +
    n_pairs: int
    surprise: float
    segment: int
    offset: int  # of the batch in its segment
    saturation: float | None = None  # after this commit, where it was replayed


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """One journal file. `n_dead` of its commits were fenced off by a later segment."""

    name: str
    bytes: int
    uuid: str | None = None
    first_lsn: int | None = None
    n_commits: int = 0
    n_dead: int = 0
    sealed: bool = False
    problem: str | None = None


def segment_uuid(directory: Directory, segment: int) -> bytes:
    """The UUID that a segment states for itself, for a segment without its memory."""
    name = segment_name(segment)
    return decode_segment_header(directory.read_at(name, 0, min(SEGMENT_HEADER.size, directory.size(name)))).uuid


def read_journal(
    directory: Directory, segments: Sequence[int], uuid: bytes | None
) -> tuple[list[SegmentInfo], list[CommitInfo]]:
    """Every segment in order, and the commits that no later segment has declared dead, by ascending LSN."""
    found = [_segment(directory, number, uuid) for number in segments]
    infos: list[SegmentInfo] = []
    live: list[CommitInfo] = []
    for position, (info, commits) in enumerate(found):
        later = [other.first_lsn for other, _ in found[position + 1 :] if other.first_lsn is not None]
        kept = [commit for commit in commits if commit.lsn < min(later, default=commit.lsn + 1)]
        infos.append(dataclasses.replace(info, n_dead=len(commits) - len(kept)))
        live += kept
    return infos, sorted(live, key=lambda commit: commit.lsn)


def _segment(directory: Directory, number: int, uuid: bytes | None) -> tuple[SegmentInfo, list[CommitInfo]]:
    name, commits, size = segment_name(number), [], 0
    try:
        size = directory.size(name)
        reader = SegmentReader(directory, number, segment_uuid(directory, number) if uuid is None else uuid)
        commits = [_commit(logged) for logged in reader.commits()]
    except EmmError as error:
        return SegmentInfo(name, size, problem=str(error)), commits
    problem = str(reader.damage) if reader.damage is not None else None
    header = reader.header
    return SegmentInfo(
        name, size, header.uuid.hex(), header.first_lsn, len(commits), 0, reader.sealed, problem
    ), commits


def _commit(logged: LoggedCommit) -> CommitInfo:
    action = "+".join(dict.fromkeys(record.type.name.lower() for record in logged.records))
    commit = logged.commit
    return CommitInfo(
        logged.lsn, commit.time_us, action, commit.n_pairs, commit.surprise, logged.segment, logged.offset
    )


def with_saturation(
    directory: Directory, generations: Sequence[int], commits: Sequence[CommitInfo], uuid: bytes
) -> list[CommitInfo]:
    """The commits, with the saturation after each that can be replayed onto a generation that is still there.

    Each generation is replayed up to the next one, the newest first, as long as `REPLAY_PAIRS_MAX` pairs suffice.
    Commits before that, after damage, or of a rule without P keep None.
    """
    known: dict[int, float] = {}
    budget, end = REPLAY_PAIRS_MAX, max((commit.lsn for commit in commits), default=0)
    for generation in sorted(generations, reverse=True):
        try:
            snapshot = load_snapshot(directory, generation).snapshot
        except EmmError:
            continue
        after = [commit for commit in commits if snapshot.lsn < commit.lsn <= end]
        budget -= sum(commit.n_pairs for commit in after)
        if budget < 0 or snapshot.state.gain is None:
            break
        lineage = snapshot.lineage
        replayer = Replayer(snapshot.state.copy(), write_count=lineage.write_count, expand_at=lineage.expand_at)
        known |= _replay(directory, replayer, after, snapshot.lsn, uuid)
        end = snapshot.lsn
    return [dataclasses.replace(commit, saturation=known.get(commit.lsn)) for commit in commits]


def _replay(
    directory: Directory, replayer: Replayer, commits: Sequence[CommitInfo], lsn: int, uuid: bytes
) -> dict[int, float]:
    """LSN → saturation for the commits that follow `lsn` without a gap, up to the first that does not apply."""
    places = {(commit.segment, commit.offset) for commit in commits}
    found: dict[int, float] = {}
    try:
        for segment in sorted({commit.segment for commit in commits}):
            for logged in SegmentReader(directory, segment, uuid).commits():
                if (segment, logged.offset) not in places:
                    continue
                if logged.lsn != lsn + 1:
                    return found
                replayer.apply(logged)
                lsn = logged.lsn
                found[lsn] = kernel.saturation(replayer.state)
    except EmmError:
        return found
    return found
