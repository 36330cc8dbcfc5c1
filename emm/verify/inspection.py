"""What is in a memory, told without changing or repairing anything.

Purpose: `inspect` gathers headers, lineage, metadata, generations, journal segments, the commit history and, when
asked, the state's measures, for tools that show them. Invariants: reads only, takes no lock, so a live writer is never
disturbed; damage of one file becomes that file's `problem` and hides nothing else. It judges nothing: that is
`verify`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from emm import kernel
from emm.codec.integrity import check_block
from emm.codec.payload import state_digest
from emm.codec.snapshot import Head, decode_snapshot
from emm.errors import EmmError, MissingError, NotEmmError
from emm.layout import BLOCK_BYTES, SEGMENT_SUFFIX, SNAPSHOT_SUFFIX, Flag
from emm.state import MatrixState
from emm.storage.names import Listing, list_memory, parse_name, snapshot_name
from emm.storage.recovery import recover
from emm.storage.snapshot_file import load_head
from emm.v3.file import is_v3_file
from emm.verify.finding import Span
from emm.verify.history import CommitInfo, SegmentInfo, read_journal, with_saturation
from emm.verify.regions import block_spans
from emm.verify.v3 import describe_v3, measured_v3
from emm.vfs import Directory, is_directory, open_directory, open_file, walk_memories

BELOW_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ShapeInfo:
    """Parameters of the newest readable snapshot."""

    dim: int
    key_dim: int
    rank: int
    rule: str
    projection: str
    seed: int
    ridge: float
    flags: tuple[str, ...]
    expand_at: float


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """One array of the payload: byte offset in the file, rows, numbers in a row (0 for the scalars)."""

    name: str
    offset: int
    bytes: int
    n_rows: int
    n_columns: int


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """One 64 KiB block of the payload. `problem` is None when it matches its checksums or was not compared."""

    index: int
    offset: int  # in the file
    holds: tuple[Span, ...]
    crc32: str
    sha256: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """One generation. Fields after `bytes` are None when its head cannot be read; `problem` then says why."""

    name: str
    bytes: int
    generation: int | None = None
    lsn: int | None = None
    origin: str | None = None
    time_us: int | None = None
    write_count: int | None = None
    rank: int | None = None
    sha256: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class StateInfo:
    """Measures of the arithmetic state. `spectrum` are the singular values of M, largest first."""

    digest: str
    rank: int
    saturation: float
    effective_rank: float
    spectrum: tuple[float, ...]
    write_count: int
    replayed: int
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything `inspect` found; `shape` to `blocks` describe the newest readable snapshot.

    `state_problem` says why a state that was asked for could not be had; `exit_code` is then that error's.
    """

    url: str
    kind: str  # "memory", "snapshot", "segment" or "v3 file"
    uuid: str | None
    shape: ShapeInfo | None
    generation: int | None
    lsn: int | None  # last commit of snapshots and journal
    chain: str | None
    parent_uuid: str | None
    parent_sha256: str | None
    metadata: dict[str, Any]
    regions: tuple[RegionInfo, ...]
    blocks: tuple[BlockInfo, ...]
    snapshots: tuple[SnapshotInfo, ...]
    segments: tuple[SegmentInfo, ...]
    commits: tuple[CommitInfo, ...]  # live ones, ascending LSN
    state: StateInfo | None = None
    state_problem: str | None = None
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return dataclasses.asdict(self)


def inspect(url: str | os.PathLike[str], *, blocks: bool = False, state: bool = False) -> Inspection:
    """What is at `url`: a memory directory, one snapshot (.emm), one journal segment (.wal) or a v3 file.

    `blocks=True` also compares every block of the newest snapshot with its checksums; `state=True` also replays the
    journal and measures the state, and the saturation after each commit. Raises `MissingError` when nothing is there,
    `NotEmmError` when it is something else.
    """
    if is_directory(url):
        directory = open_directory(url)
        with contextlib.closing(directory):
            return _inspect(url, directory, "memory", _listing(directory, url), blocks, state)
    directory, name = open_file(url)
    with contextlib.closing(directory):
        if is_v3_file(directory, name):
            return _inspect_v3(url, directory, name, state)
        kind, listing = _single(name)
        if kind == "snapshot":
            load_head(directory, name)  # raises what is wrong with it
        return _inspect(url, directory, kind, listing, blocks, state)


def _inspect(
    url: str | os.PathLike[str], directory: Directory, kind: str, listing: Listing, blocks: bool, state: bool
) -> Inspection:
    snapshots, newest = _snapshots(directory, listing)
    uuid = newest.header.uuid if newest is not None else None
    segments, commits = read_journal(directory, listing.segments, uuid)
    if state and uuid is not None and kind == "memory":
        commits = with_saturation(directory, listing.generations, commits, uuid)
    found = Inspection(
        url=os.fspath(url),
        kind=kind,
        uuid=uuid.hex() if uuid is not None else next((s.uuid for s in segments if s.uuid), None),
        shape=_shape(newest) if newest else None,
        generation=newest.header.generation if newest else None,
        lsn=max([c.lsn for c in commits] + [s.lsn for s in snapshots if s.lsn is not None], default=None),
        chain=newest.lineage.chain.hex() if newest else None,
        parent_uuid=_identity(newest.lineage.parent_uuid) if newest else None,
        parent_sha256=_identity(newest.lineage.parent_sha256) if newest else None,
        metadata=dict(newest.metadata) if newest else {},
        regions=_regions(newest) if newest else (),
        blocks=_blocks(directory, newest, blocks) if newest else (),
        snapshots=tuple(snapshots),
        segments=tuple(segments),
        commits=tuple(commits),
    )
    return _measured(found, directory) if state and kind != "segment" else found


def _inspect_v3(url: str | os.PathLike[str], directory: Directory, name: str, state: bool) -> Inspection:
    found, shape, arrays = describe_v3(directory, name)
    nothing: dict[str, Any] = dict.fromkeys(("uuid", "generation", "lsn", "chain", "parent_uuid", "parent_sha256"))
    nothing |= dict.fromkeys(("blocks", "snapshots", "segments", "commits"), ())
    return Inspection(
        url=os.fspath(url),
        kind="v3 file",
        shape=ShapeInfo(**shape),
        metadata={},
        regions=tuple(RegionInfo(each, at, size, rows, size // rows // 4) for each, at, size, rows in arrays),
        state=StateInfo(**measured_v3(found)) if state else None,
        **nothing,
    )


def _single(name: str) -> tuple[str, Listing]:
    parsed = parse_name(name)
    if parsed is None:
        raise NotEmmError(
            "not the name of a snapshot or journal segment", file=name, expected="sixteen digits and .emm or .wal"
        )
    suffix, number = parsed
    if suffix == SNAPSHOT_SUFFIX:
        return "snapshot", Listing((number,), ())
    assert suffix == SEGMENT_SUFFIX
    return "segment", Listing((), (number,))


def _listing(directory: Directory, url: str | os.PathLike[str]) -> Listing:
    try:
        return list_memory(directory)
    except MissingError:
        walk = walk_memories(url, on_error=lambda _: None)
        below = [each.url for _, each in zip(range(BELOW_SHOWN), walk, strict=False)]
        if below:
            raise MissingError(f"no memory in this directory itself; below it: {', '.join(below)}") from None
        raise


def _snapshots(directory: Directory, listing: Listing) -> tuple[list[SnapshotInfo], Head | None]:
    infos = []
    newest = None
    for generation in listing.generations:
        name, size = snapshot_name(generation), 0
        try:
            size = directory.size(name)
            head = load_head(directory, name)
        except EmmError as error:
            infos.append(SnapshotInfo(name, size, problem=str(error)))
            continue
        newest = head
        infos.append(_snapshot(name, size, head))
    return infos, newest


def _snapshot(name: str, size: int, head: Head) -> SnapshotInfo:
    header, lineage = head.header, head.lineage
    return SnapshotInfo(
        name,
        size,
        header.generation,
        header.lsn,
        lineage.origin.name.lower(),
        lineage.time_us,
        lineage.write_count,
        header.parameters.rank,
        header.sha256.hex(),
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


def _regions(head: Head) -> tuple[RegionInfo, ...]:
    base = head.geometry.payload_offset
    return tuple(
        RegionInfo(
            r.name, base + r.offset, r.size, r.n_rows, 0 if r.name in ("scalars", "reading") else r.row_bytes // 4
        )
        for r in head.geometry.regions
    )


def _blocks(directory: Directory, head: Head, compare: bool) -> tuple[BlockInfo, ...]:
    name = snapshot_name(head.header.generation)
    found = []
    for index, entry in enumerate(head.table):
        offset = head.geometry.payload_offset + index * BLOCK_BYTES
        problem = None
        if compare:
            try:
                check_block(directory.read_at(name, offset, BLOCK_BYTES), entry, index, offset)
            except EmmError as error:
                problem = str(error)
        holds = block_spans(head.geometry, index)
        found.append(BlockInfo(index, offset, holds, f"{entry.crc32:08x}", entry.sha256.hex(), problem))
    return tuple(found)


def _measured(found: Inspection, directory: Directory) -> Inspection:
    try:
        if found.kind == "memory":
            recovered = recover(directory, mapped=True)
            state, lsn, notices = recovered.state, recovered.lsn, recovered.notices
            write_count, replayed = recovered.write_count, recovered.replayed
        else:
            name = found.snapshots[0].name
            snapshot = decode_snapshot(directory.read_at(name, 0, directory.size(name)))
            state, lsn, notices = snapshot.state, snapshot.lsn, ()
            write_count, replayed = snapshot.lineage.write_count, 0
    except EmmError as error:
        return dataclasses.replace(found, state_problem=str(error), exit_code=error.exit_code)
    return dataclasses.replace(found, state=_state(state, lsn, write_count, replayed, notices))


def _state(state: MatrixState, lsn: int, write_count: int, replayed: int, notices: tuple[str, ...]) -> StateInfo:
    return StateInfo(
        digest=state_digest(state, lsn).hex(),
        rank=state.parameters.rank,
        saturation=kernel.saturation(state),
        effective_rank=kernel.effective_rank(state.matrix),
        spectrum=tuple(float(value) for value in kernel.spectrum(state.matrix)),
        write_count=write_count,
        replayed=replayed,
        notices=notices,
    )
