"""The journal as a list of commits, for people: when, how many pairs, how surprising, how full the memory was.

Purpose: tell what happened to a memory, without judging it. Invariants: reads only; a segment that cannot be read, or
only in part, says so in `problem` and hides no other; replaying for saturations is bounded by a number of pairs and by
the size of the state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from emm import kernel
from emm.codec.header import payload_bytes
from emm.codec.journal import decode_segment_header
from emm.codec.snapshot import Head, Snapshot
from emm.errors import EmmError
from emm.inspection.spectrum import spectrum_of
from emm.inspection.values import CommitInfo, SegmentInfo
from emm.layout import SEGMENT_HEADER, Rule
from emm.state import MatrixState
from emm.storage.names import segment_name, snapshot_name
from emm.storage.replay import Replayer
from emm.storage.segment_file import LoggedCommit, SegmentReader
from emm.storage.snapshot_file import load_head, load_snapshot
from emm.vfs import Directory

REPLAY_PAIRS_MAX = 100_000
REPLAY_BYTES_MAX = 256 << 20  # of one state; two are in memory
UTILISATION_POINTS_MAX = 64
UTILISATION_SIDE_MAX = 512


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
        logged.lsn,
        commit.time_us,
        action,
        commit.n_pairs,
        commit.surprise,
        logged.segment,
        logged.offset,
        chain=commit.chain.hex(),
    )


def with_measures(
    directory: Directory, generations: Sequence[int], commits: Sequence[CommitInfo], uuid: bytes
) -> tuple[list[CommitInfo], str | None]:
    """The commits, with the saturation after each that can be replayed onto a generation that is still there.

    Each generation is replayed up to the next one, the newest first. Commits before a limit is reached, after damage,
    or of a rule without P keep None; the second value says why, where that is a limit or the rule. Utilisation, an
    eigenvalue problem each, is measured at `UTILISATION_POINTS_MAX` commits.
    """
    points = _evenly(commits)
    known: dict[int, tuple[float, float | None]] = {}
    reason = None
    budget, end = REPLAY_PAIRS_MAX, max((commit.lsn for commit in commits), default=0)
    for generation in sorted(generations, reverse=True):
        try:
            head = load_head(directory, snapshot_name(generation))
            lsn = head.header.lsn
            after = [commit for commit in commits if lsn < commit.lsn <= end]
            budget -= sum(commit.n_pairs for commit in after)
            reason = _refusal(head, budget) if after else None
            if reason is not None:
                break
            if after:
                known |= _replay(directory, load_snapshot(directory, generation).snapshot, after, uuid, points)
            end = min(end, lsn)
        except EmmError:
            continue  # an older generation may lead through the same commits
    left = [commit.lsn for commit in commits if commit.lsn not in known]
    if left and reason is None:
        reason = f"commits {left[0]}–{left[-1]} cannot be replayed on a generation that is still there"
    return [
        dataclasses.replace(commit, saturation=known[commit.lsn][0], utilisation=known[commit.lsn][1])
        if commit.lsn in known
        else commit
        for commit in commits
    ], reason


def _evenly(commits: Sequence[CommitInfo]) -> frozenset[int]:
    """LSNs of at most `UTILISATION_POINTS_MAX` commits, evenly spaced, the first and the last among them."""
    count = min(len(commits), UTILISATION_POINTS_MAX)
    steps = max(count - 1, 1)
    return frozenset(commits[index * (len(commits) - 1) // steps].lsn for index in range(count))


def _refusal(head: Head, budget: int) -> str | None:
    """Why the commits after this snapshot are not replayed, or None."""
    parameters = head.header.parameters
    if parameters.rule is not Rule.PRECONDITIONED:
        return "this rule keeps no P, so the saturation of older commits is not known"
    if payload_bytes(parameters) > REPLAY_BYTES_MAX:
        limit = f"{REPLAY_BYTES_MAX >> 20} MiB"
        return f"a state of {payload_bytes(parameters) >> 20} MiB is not replayed for a history (limit {limit})"
    if budget < 0:
        return f"only the last {REPLAY_PAIRS_MAX} pairs are replayed for a history"
    return None


def _replay(
    directory: Directory, snapshot: Snapshot, commits: Sequence[CommitInfo], uuid: bytes, points: frozenset[int]
) -> dict[int, tuple[float, float | None]]:
    """LSN → (saturation, utilisation) after the commits that follow `snapshot` without a gap, as far as they apply."""
    lineage, lsn = snapshot.lineage, snapshot.lsn
    replayer = Replayer(snapshot.state.copy(), write_count=lineage.write_count, expand_at=lineage.expand_at)
    places = {(commit.segment, commit.offset) for commit in commits}
    found: dict[int, tuple[float, float | None]] = {}
    try:
        for segment in sorted({commit.segment for commit in commits}):
            for logged in SegmentReader(directory, segment, uuid).commits():
                if (segment, logged.offset) not in places:
                    continue
                if logged.lsn != lsn + 1:
                    return found
                replayer.apply(logged)
                lsn = logged.lsn
                utilisation = _utilisation(replayer.state) if lsn in points else None
                found[lsn] = kernel.saturation(replayer.state), utilisation
    except EmmError:
        return found
    return found


def _utilisation(state: MatrixState) -> float | None:
    if min(state.matrix.shape) > UTILISATION_SIDE_MAX:
        return None
    measured = spectrum_of(state.matrix)
    return None if measured.effective_rank is None else measured.effective_rank / state.parameters.rank
