"""What is in a memory, told without changing or repairing anything.

Purpose: `inspect` gathers headers, lineage, metadata, generations, journal segments, the commit history and, when
asked, the state's measures, for tools that show them. Invariants: reads only, takes no lock, so a live writer is never
disturbed; damage of one file becomes that file's `problem` and hides nothing else. It judges nothing: that is
`verify`.
"""

from __future__ import annotations

import dataclasses
import os

from emm import kernel
from emm.codec.payload import state_digest
from emm.codec.snapshot import Head
from emm.errors import EmmError
from emm.inspection.blocks import block_infos, regions_of
from emm.inspection.health import health_of
from emm.inspection.history import read_journal, with_measures
from emm.inspection.matrix import Matrix, newest_matrix
from emm.inspection.place import FoundHead, Place, opened, v3_file
from emm.inspection.spectrum import SPECTRUM_SIDE_MAX, Spectrum, spectrum_of
from emm.inspection.v3 import inspect_v3
from emm.inspection.values import Inspection, ShapeInfo, SnapshotInfo, StateInfo
from emm.layout import Flag
from emm.state import MatrixState


def inspect(
    url: str | os.PathLike[str],
    *,
    blocks: bool = False,
    state: bool = False,
    history: bool | None = None,
    health: bool = False,
) -> Inspection:
    """What is at `url`: a memory directory, one snapshot (.emm), one journal segment (.wal) or a v3 file.

    `blocks=True` also compares every block of the newest snapshot with its checksums; `state=True` also replays the
    journal and measures the state (its spectrum where the smaller side of M is at most `SPECTRUM_SIDE_MAX`);
    `history=True` (by default as `state`) also measures the saturation after each commit; `health=True` also checks
    every byte, as `verify` does. Raises `MissingError` when nothing is there, `NotEmmError`
    when it is something else, and for a single snapshot what is wrong with its head when no copy of it is whole.
    """
    with v3_file(url) as found_v3:
        if found_v3 is not None:
            directory, name = found_v3
            judged = health_of(url, f"{directory.url}/{name}") if health else None
            return inspect_v3(os.fspath(url), directory, name, state=state, health=judged)
    with opened(url) as place:
        if place.kind == "snapshot":
            place.head()
        found = _inspect(place, blocks, state if history is None else history)
        if state and place.kind != "segment":
            found = _measured(found, place)
        if health:
            where = place.directory.url
            if place.kind != "memory":
                where += f"/{found.snapshots[0].name if found.snapshots else found.segments[0].name}"
            found = dataclasses.replace(found, health=health_of(url, where))
        return found


def _inspect(place: Place, blocks: bool, history: bool) -> Inspection:
    heads = place.heads()
    newest = next((each for each in reversed(heads) if each.head is not None), None)
    head = None if newest is None else newest.head
    uuid = head.header.uuid if head is not None else None
    segments, commits = read_journal(place.directory, place.listing.segments, uuid)
    reason = None
    if history and uuid is not None and place.kind == "memory":
        commits, reason = with_measures(place.directory, place.listing.generations, commits, uuid)
    snapshots = [_snapshot(each) for each in heads]
    return Inspection(
        url=place.url,
        kind=place.kind,
        uuid=uuid.hex() if uuid is not None else next((s.uuid for s in segments if s.uuid), None),
        shape=_shape(head) if head else None,
        generation=head.header.generation if head else None,
        lsn=max([c.lsn for c in commits] + [s.lsn for s in snapshots if s.lsn is not None], default=None),
        chain=head.lineage.chain.hex() if head else None,
        parent_uuid=_identity(head.lineage.parent_uuid) if head else None,
        parent_sha256=_identity(head.lineage.parent_sha256) if head else None,
        metadata=dict(head.metadata) if head else {},
        regions=regions_of(head) if head else (),
        blocks=tuple(block_infos(place.directory, newest, compare=blocks)) if newest else (),
        snapshots=tuple(snapshots),
        segments=tuple(segments),
        commits=tuple(commits),
        history_problem=reason,
    )


def _snapshot(found: FoundHead) -> SnapshotInfo:
    problem = None if found.error is None else str(found.error)
    if found.head is None:
        return SnapshotInfo(found.name, found.bytes, problem=problem)
    header, lineage = found.head.header, found.head.lineage
    return SnapshotInfo(
        found.name,
        found.bytes,
        header.generation,
        header.lsn,
        lineage.origin.name.lower(),
        lineage.time_us,
        lineage.write_count,
        header.parameters.rank,
        header.sha256.hex(),
        problem,
        found.head_from,
    )


def _shape(head: Head) -> ShapeInfo:
    parameters = head.header.parameters
    return ShapeInfo(
        parameters.dim,
        parameters.key_dim,
        parameters.rank,
        parameters.rule.name.lower().replace("_", "-"),
        parameters.projection.name.lower(),
        parameters.seed,
        parameters.ridge,
        tuple(str(flag.name).lower().replace("_", "-") for flag in Flag if flag in head.header.flags),
        head.lineage.expand_at,
    )


def _identity(identity: bytes) -> str | None:
    return identity.hex() if any(identity) else None


def _measured(found: Inspection, place: Place) -> Inspection:
    try:
        matrix = newest_matrix(place)
    except EmmError as error:
        return dataclasses.replace(found, state_problem=str(error), exit_code=error.exit_code)
    if matrix.state is None:
        return dataclasses.replace(found, state_problem=matrix.problem, exit_code=matrix.exit_code)
    return dataclasses.replace(found, state=_state(matrix, matrix.state))


def _state(matrix: Matrix, state: MatrixState) -> StateInfo:
    rank = state.parameters.rank
    spectrum = spectrum_of(state.matrix, side_max=SPECTRUM_SIDE_MAX)
    return StateInfo(
        digest=state_digest(state, matrix.lsn).hex(),
        rank=rank,
        saturation=_saturation(state, spectrum),
        effective_rank=spectrum.effective_rank,
        utilisation=None if spectrum.effective_rank is None else spectrum.effective_rank / rank,
        spectrum=spectrum.values,
        write_count=matrix.write_count,
        replayed=matrix.replayed,
        notices=matrix.notices,
        spectrum_problem=spectrum.problem,
    )


def _saturation(state: MatrixState, spectrum: Spectrum) -> float | None:
    """The kernel's measure; for rules that keep no P it is the utilisation, from the spectrum that is here already."""
    if state.gain is not None:
        return kernel.saturation(state)
    if spectrum.effective_rank is None:
        return None
    return min(1.0, spectrum.effective_rank / min(state.parameters.rank, state.parameters.key_dim))
