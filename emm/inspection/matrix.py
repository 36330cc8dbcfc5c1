"""M as far as it can be had: of the newest state, else as a damaged snapshot still stores it.

Purpose: one source of rows for spectrum, heat map and differences. Invariants: rows that touch a block which fails its
checksums are zero here and named in `bad_rows`, never shown as data; beside a state there is no copy of M.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emm.codec.header import Region
from emm.errors import EmmError, InputError
from emm.inspection.blocks import checked_blocks
from emm.inspection.place import FoundHead, Place
from emm.layout import BLOCK_BYTES
from emm.state import Float32Array, MatrixState
from emm.storage.recovery import recover
from emm.storage.snapshot_file import load_snapshot
from emm.vfs import Directory


@dataclass(frozen=True, slots=True)
class Matrix:
    """M (dim, rank), where it is from, and what of it is missing.

    `state` is the whole arithmetic state, None when only stored rows could be had; `problem` and `exit_code` are then
    those of the error that stopped the way to the state.
    """

    source: str
    lsn: int
    generation: int
    rows: Float32Array
    bad_rows: tuple[tuple[int, int], ...] = ()  # inclusive ranges
    state: MatrixState | None = None
    write_count: int = 0
    replayed: int = 0
    notices: tuple[str, ...] = ()
    chain: bytes = b""
    problem: str | None = None
    exit_code: int = 0

    @property
    def n_bad(self) -> int:
        return sum(last - first + 1 for first, last in self.bad_rows)


def newest_matrix(place: Place) -> Matrix:
    """M after the last commit of a memory, or of one snapshot. Raises what is wrong when there is not even a head."""
    if place.kind == "segment":
        raise InputError("a journal segment holds no matrix; name its memory", file=place.url)
    try:
        if place.kind == "memory":
            recovered = recover(place.directory, mapped=True)
            return Matrix(
                f"state after commit {recovered.lsn}",
                recovered.lsn,
                recovered.snapshot.generation,
                recovered.state.matrix,
                state=recovered.state,
                write_count=recovered.write_count,
                replayed=recovered.replayed,
                notices=recovered.notices,
                chain=recovered.chain,
            )
        generation = place.listing.generations[0]
        snapshot = load_snapshot(place.directory, generation, mapped=True).snapshot
        source = f"generation {generation}, commit {snapshot.lsn}"
        return Matrix(
            source,
            snapshot.lsn,
            generation,
            snapshot.state.matrix,
            state=snapshot.state,
            write_count=snapshot.lineage.write_count,
            chain=snapshot.lineage.chain,
        )
    except EmmError as error:
        return _stored(place, error)


def _stored(place: Place, error: EmmError) -> Matrix:
    try:
        found = place.head()
    except EmmError:
        raise error from None
    rows, bad = stored_rows(place.directory, found)
    head = found.known
    return Matrix(
        f"generation {found.generation} as stored, commit {head.header.lsn}",
        head.header.lsn,
        found.generation,
        rows,
        bad,
        write_count=head.lineage.write_count,
        chain=head.lineage.chain,
        problem=str(error),
        exit_code=error.exit_code,
    )


def stored_rows(directory: Directory, found: FoundHead) -> tuple[Float32Array, tuple[tuple[int, int], ...]]:
    """(M with zeros for what cannot be believed, ranges of those rows) of one snapshot file."""
    region = found.known.geometry.regions[0]
    flat = bytearray(region.size)
    bad: list[tuple[int, int]] = []
    for index, data, _ in checked_blocks(directory, found, range(-(-region.size // BLOCK_BYTES))):
        start = index * BLOCK_BYTES
        end = min(start + BLOCK_BYTES, region.size)
        if data is None:
            bad.append(rows_of(region, start, end))
        else:
            flat[start:end] = memoryview(data)[: end - start]
    rows = np.frombuffer(flat, "<f4").reshape(region.n_rows, region.row_bytes // 4)
    merged = merge_ranges(bad)
    for first, last in merged:
        rows[first : last + 1] = 0
    return rows, merged


def rows_of(region: Region, start: int, end: int) -> tuple[int, int]:
    """The rows that bytes `start` to `end` (exclusive) of a region touch, inclusive."""
    return start // region.row_bytes, (end - 1) // region.row_bytes


def merge_ranges(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Ascending inclusive ranges, joined where they touch."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return tuple(merged)
