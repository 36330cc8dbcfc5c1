"""Recompute some rows of M, and P with everything that belongs to it, from an older state and the journal.

Purpose: rows of M meet nothing but their own numbers, the gains and their own numbers of each value (A-12, A-13,
A-16), while P, U and the scalars are the same for all rows; so one damaged block costs a replay of its own rows.
Invariants: the arithmetic is `storage.replay`'s, on a state whose M has fewer rows; every block that the base gives
was compared with its SHA-256; every commit is chain-checked from the base on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from emm.codec.header import Geometry, Header
from emm.codec.journal import JournalRecord
from emm.codec.pairs import decode_pairs
from emm.codec.payload import decode_normaliser, decode_scalars, encode_read_scalars, encode_scalars
from emm.errors import CorruptionError
from emm.layout import BLOCK_BYTES, STATE_BYTES_MAX, RecordType
from emm.state import Float32Array, MatrixState, Parameters, empty_state
from emm.storage.recovery import check_chain
from emm.storage.replay import PAIR_TYPES, Replayer
from emm.storage.segment_file import LoggedCommit

Rows = tuple[tuple[int, int], ...]  # inclusive ranges of rows of M, ascending, apart
BlockReader = Callable[[int], bytes]  # block number → its 65536 bytes, checked

_FLOAT = np.dtype("<f4")


class RowReplayer(Replayer):
    """Replays commits onto some rows of M: `state.matrix` has those rows, P is whole."""

    def __init__(
        self, start: Replayer, rows: npt.NDArray[np.intp], dim: int, *, state_bytes_max: int = STATE_BYTES_MAX
    ) -> None:
        super().__init__(
            start.state, write_count=start.write_count, expand_at=start.expand_at, state_bytes_max=state_bytes_max
        )
        self._rows = rows
        self._dim = dim  # of the whole memory, which its records have

    def apply_record(self, record: JournalRecord) -> Float32Array | None:
        if record.type not in PAIR_TYPES:
            return super().apply_record(record)
        batch = decode_pairs(record, self.state.parameters.key_dim, self._dim)
        if record.type is not RecordType.FORGET:
            batch = replace(batch, values=np.ascontiguousarray(batch.values[:, self._rows]))
        return self.apply_pairs(record.type, batch, record.offset)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Rows of M and the gain state as they were at one commit."""

    state: MatrixState
    rows: npt.NDArray[np.intp]


def row_index(rows: Rows) -> npt.NDArray[np.intp]:
    """The row numbers of the ranges, one after another."""
    return np.concatenate([np.arange(first, last + 1) for first, last in rows])


def merged(rows: Iterable[tuple[int, int]]) -> Rows:
    """The same rows in ranges that do not touch."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(rows):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return tuple(found)


def blocks_needed(shape: Geometry, rows: Rows) -> list[int]:
    """The blocks of a base that hold those rows, P, U and the scalars."""
    regions = {region.name: region for region in shape.regions}
    ranges = [(first * regions["M"].row_bytes, (last + 1) * regions["M"].row_bytes) for first, last in rows]
    end_of_rows = regions["M"].offset + regions["M"].size
    if end_of_rows < shape.payload_bytes:
        ranges.append((end_of_rows, shape.payload_bytes))
    return sorted({n for start, end in ranges for n in range(start // BLOCK_BYTES, (end - 1) // BLOCK_BYTES + 1)})


def read_rows(header: Header, rows: Rows, block: BlockReader) -> MatrixState:
    """Those rows of M, and all of P, from the checked blocks of a snapshot."""
    shape, parameters = header.geometry, header.parameters
    regions = {region.name: region for region in shape.regions}
    held: dict[int, bytes] = {}

    def payload(start: int, length: int) -> bytes:
        parts = []
        for number in range(start // BLOCK_BYTES, (start + length - 1) // BLOCK_BYTES + 1):
            if number not in held:
                held.clear()  # ranges ascend, so a block is never asked for again
                held[number] = block(number)
            inside = max(0, start - number * BLOCK_BYTES), start + length - number * BLOCK_BYTES
            parts.append(held[number][inside[0] : min(inside[1], BLOCK_BYTES)])
        return b"".join(parts)

    def array(name: str, first: int, last: int) -> Float32Array:
        region = regions[name]
        data = payload(region.offset + first * region.row_bytes, (last - first + 1) * region.row_bytes)
        return np.frombuffer(data, _FLOAT).reshape(-1, parameters.rank)

    matrix = np.ascontiguousarray(np.concatenate([array("M", first, last) for first, last in rows]), np.float32)
    gain = None
    if "P" in regions:
        pbar, u = array("P", 0, regions["P"].n_rows - 1).copy(), array("U", 0, regions["U"].n_rows - 1).copy()
        gain = decode_scalars(payload(regions["scalars"].offset, regions["scalars"].size), parameters)
        gain.pbar, gain.u = pbar, u
    normaliser = None
    if "normaliser" in regions:
        at = regions["normaliser"].offset
        normaliser = decode_normaliser(payload(at, shape.payload_bytes - at), parameters)
    return MatrixState(replace(parameters, dim=len(matrix)), matrix, gain, header.flags, normaliser)


def empty_rows(parameters: Parameters, rows: Rows) -> MatrixState:
    """Those rows of a memory before its first commit."""
    return empty_state(replace(parameters, dim=len(row_index(rows))))


def replay_rows(
    start: Replayer,
    rows: Rows,
    dim: int,
    at: tuple[int, bytes],
    commits: Iterable[LoggedCommit],
    through: tuple[int, bytes],
    *,
    state_bytes_max: int = STATE_BYTES_MAX,
) -> tuple[Rebuilt, Replayer]:
    """The rows after the commits up to `through`, from those in `start`; `at` and `through` are (LSN, chain value)."""
    index = row_index(rows)
    replayer = RowReplayer(start, index, dim, state_bytes_max=state_bytes_max)
    lsn, chain = at
    for logged in commits:
        if logged.lsn > through[0]:
            break
        if logged.lsn != lsn + 1:
            raise CorruptionError(
                "the journal has a gap", rule="R-6", expected=f"lsn {lsn + 1}", found=f"lsn {logged.lsn}"
            )
        check_chain(chain, logged)
        replayer.apply(logged)
        lsn, chain = logged.lsn, logged.commit.chain
    if (lsn, chain) != through:
        raise CorruptionError(
            "the journal does not lead to the state that is to be rebuilt",
            rule="J-12",
            expected=f"lsn {through[0]}, chain {through[1].hex()[:16]}",
            found=f"lsn {lsn}, chain {chain.hex()[:16]}",
        )
    return Rebuilt(replayer.state, index), replayer


def block_of(rebuilt: Rebuilt, shape: Geometry, number: int) -> bytes:
    """The bytes of one block, from rows that hold all of it."""
    start = number * BLOCK_BYTES
    parts = []
    for region in shape.regions:
        first, last = max(start, region.offset), min(start + BLOCK_BYTES, region.offset + region.size)
        if first >= last:
            continue
        parts.append(_region_bytes(rebuilt, region.name, region.row_bytes, first - region.offset, last - region.offset))
    return b"".join(parts).ljust(BLOCK_BYTES, b"\0")


def _region_bytes(rebuilt: Rebuilt, name: str, row_bytes: int, start: int, end: int) -> bytes:
    gain = rebuilt.state.gain
    if name == "scalars":
        assert gain is not None
        return encode_scalars(gain)[start:end]
    if name in ("normaliser", "reading"):
        own = rebuilt.state.normaliser
        assert own is not None
        whole = np.ascontiguousarray(own.vector, _FLOAT).tobytes() if name == "normaliser" else encode_read_scalars(own)
        return whole[start:end]
    first, last = start // row_bytes, (end - 1) // row_bytes
    if name == "M":
        places = np.searchsorted(rebuilt.rows, np.arange(first, last + 1))
        array: Float32Array = rebuilt.state.matrix[places]
    else:
        assert gain is not None
        array = (gain.pbar if name == "P" else gain.u)[first : last + 1]
    data = np.ascontiguousarray(array, _FLOAT).tobytes()
    return data[start - first * row_bytes : end - first * row_bytes]


def rows_of_blocks(shape: Geometry, blocks: Sequence[int]) -> Rows:
    """The rows of M that those blocks hold, whole or in part; row 0 where they hold none (a state has a row)."""
    region = shape.regions[0]
    found = []
    for number in blocks:
        start, end = number * BLOCK_BYTES, min((number + 1) * BLOCK_BYTES, region.size)
        if start < end:
            found.append((start // region.row_bytes, (end - 1) // region.row_bytes))
    return merged(found) or ((0, 0),)
