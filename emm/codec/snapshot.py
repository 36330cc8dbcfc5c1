"""A whole snapshot: value ↔ bytes, head and mirror included.

Purpose: `encode_snapshot` and `decode_snapshot` work without any file, so other stores can embed
snapshots; storage and verify use the same pieces. Invariants: the file's last 128 bytes are its
header; the head's SHA-256 covers the block table, so head + block proves one block (H-12, T-4).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from emm.codec.header import (
    NUMBER_MAX,
    Geometry,
    Header,
    blank_digest,
    decode_header,
    encode_header,
    geometry,
    parameter_fault,
)
from emm.codec.integrity import BlockEntry, blocks_in_doubt, check_block, decode_table, encode_table, hash_payload
from emm.codec.lineage import Lineage, decode_lineage
from emm.codec.metadata import Metadata, decode_metadata, encode_metadata
from emm.codec.payload import (
    decode_payload,
    decode_scalars,
    encode_payload,
    encode_scalars,
    normaliser_fault,
    state_digest,
)
from emm.errors import ChecksumError, FormatError, InputError, TruncatedError
from emm.layout import BLOCK_BYTES, DEFERRED_MAX, HEADER, LINEAGE, STATE_BYTES_MAX, Flag, Projection, Rule
from emm.state import MatrixState


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One generation of a memory: its state at commit `lsn`, and where it comes from."""

    state: MatrixState
    generation: int
    lsn: int
    uuid: bytes
    lineage: Lineage = field(default_factory=Lineage)
    metadata: Metadata = field(default_factory=dict)

    @property
    def digest(self) -> bytes:
        return state_digest(self.state, self.lsn)


@dataclass(frozen=True, slots=True)
class Head:
    """Everything before the payload, decoded and checked."""

    header: Header
    lineage: Lineage
    table: Sequence[BlockEntry]
    metadata: Metadata
    geometry: Geometry


def encode_head(snapshot: Snapshot, table: Sequence[BlockEntry]) -> tuple[bytes, bytes]:
    """(head with its padding, mirror) of a snapshot whose payload has this table."""
    metadata = encode_metadata(snapshot.metadata)
    shape = geometry(snapshot.state.parameters, len(metadata), snapshot.state.flags)
    lineage, entries = snapshot.lineage.encode(), encode_table(table)

    def header_with(digest: bytes) -> bytes:
        return encode_header(
            Header(
                snapshot.state.parameters,
                snapshot.state.flags,
                snapshot.generation,
                snapshot.lsn,
                snapshot.uuid,
                len(metadata),
                digest,
            )
        )

    body = lineage + entries + metadata
    padding = bytes(shape.payload_offset - HEADER.size - len(body))
    digest = hashlib.sha256(blank_digest(header_with(bytes(32)) + body + padding)).digest()
    header = header_with(digest)
    return header + body + padding, entries + metadata + lineage + header


def state_fault(snapshot: Snapshot) -> tuple[str, str] | None:
    """The first (rule, reason) why this has no lawful encoding, or None. Numbers of arrays are not checked."""
    state = snapshot.state
    parameters, gain = state.parameters, state.gain
    fault = parameter_fault(parameters)
    if fault is not None:
        return fault[0], fault[1]
    if not 1 <= snapshot.generation <= NUMBER_MAX:
        return "H-10", f"generation must be 1 to {NUMBER_MAX}, not {snapshot.generation}"
    if not 0 <= snapshot.lsn < 1 << 64 or len(snapshot.uuid) != 16:
        return "H-10", "lsn is a 64-bit number and uuid 16 bytes"
    if (gain is None) is (parameters.rule is Rule.PRECONDITIONED):
        return "P-1", "P belongs to the preconditioned rule and to no other"
    rank = parameters.rank
    arrays = [("M", state.matrix, (parameters.dim, rank))]
    if gain is not None:
        arrays += [("P", gain.pbar, (rank, rank)), ("U", gain.u, (DEFERRED_MAX, rank))]
    for name, array, shape in arrays:
        if array.shape != shape or array.dtype != np.float32:
            return "P-1", f"{name} must be {shape} float32, not {array.shape} {array.dtype}"
    return _normaliser_fault(state)


def _normaliser_fault(state: MatrixState) -> tuple[str, str] | None:
    if (state.normaliser is None) is (Flag.NORMALISER in Flag(state.flags)):
        return "P-7", "the flag NORMALISER says that there is a normaliser, and nothing else does"
    if state.normaliser is None:
        return None
    if state.parameters.projection is not Projection.NONE:
        return "P-7", "a normaliser belongs to memories without projection"
    reason = normaliser_fault(state.normaliser, state.parameters)
    return None if reason is None else ("P-7", reason)


def record_fault(snapshot: Snapshot) -> tuple[str, str] | None:
    """The first (rule, reason) why a reader would refuse the lineage or the scalars of P, or None."""
    try:
        decode_lineage(snapshot.lineage.encode(), snapshot.generation)
        if snapshot.state.gain is not None:
            decode_scalars(encode_scalars(snapshot.state.gain), snapshot.state.parameters)
    except FormatError as error:
        return error.rule or "L-1", error.message
    except struct.error as error:
        return "L-1", f"a number does not fit its field ({error})"
    return None


def snapshot_chunks(snapshot: Snapshot) -> Iterator[bytes | memoryview]:
    """The file in order, in pieces fit for `Directory.publish`; `InputError` for shapes that have no encoding."""
    fault = state_fault(snapshot)
    if fault is not None:
        raise InputError(f"a snapshot cannot hold this: {fault[1]}", rule=fault[0])
    payload = encode_payload(snapshot.state)
    head, mirror = encode_head(snapshot, hash_payload(payload))
    yield head
    yield memoryview(payload)
    yield mirror


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The bytes of a snapshot file."""
    return b"".join(snapshot_chunks(snapshot))


def read_head(
    read: Callable[[int, int], bytes],  # (offset, length) → exactly length bytes
    file_bytes: int,
    *,
    state_bytes_max: int = STATE_BYTES_MAX,
) -> Head:
    """Decode and check everything before the payload of a file of `file_bytes` bytes (H-, L-, T-1, M-, P-3)."""
    header = decode_header(read(0, min(HEADER.size, file_bytes)), state_bytes_max=state_bytes_max)
    shape = header.geometry
    if file_bytes != shape.file_bytes:
        kind = TruncatedError if file_bytes < shape.file_bytes else FormatError
        raise kind(
            "the file's length does not follow from its header",
            rule="P-3",
            offset=min(file_bytes, shape.file_bytes),
            expected=shape.file_bytes,
            found=file_bytes,
        )
    return decode_head(read(0, shape.payload_offset), header)


def decode_head(data: bytes, header: Header) -> Head:
    """The head in `data`, which reaches up to the payload and starts with that header."""
    shape = header.geometry
    found = hashlib.sha256(blank_digest(data)).digest()
    if found != header.sha256:
        raise ChecksumError(
            "the head fails its SHA-256",
            rule="H-12",
            offset=HEADER.offset("sha256"),
            expected=header.sha256.hex(),
            found=found.hex(),
        )
    if np.frombuffer(data, np.uint8)[shape.head_bytes :].any():
        raise FormatError("the padding before the payload is not zero", rule="P-2", offset=shape.head_bytes)
    return Head(
        header,
        decode_lineage(data[HEADER.size : HEADER.size + LINEAGE.size], header.generation),
        decode_table(data[shape.table_offset : shape.metadata_offset], shape.n_blocks),
        decode_metadata(data[shape.metadata_offset : shape.head_bytes]),
        shape,
    )


def expected_mirror(head_bytes: bytes, shape: Geometry) -> bytes:
    """The mirror that belongs to a head: table ‖ metadata ‖ lineage ‖ header (T-4)."""
    table_and_metadata = head_bytes[shape.table_offset : shape.head_bytes]
    return table_and_metadata + head_bytes[HEADER.size : shape.table_offset] + head_bytes[: HEADER.size]


def head_from_mirror(mirror: bytes, shape: Geometry) -> bytes:
    """The head (padding included) that a mirror repeats."""
    split = shape.metadata_offset - shape.table_offset + (shape.head_bytes - shape.metadata_offset)
    lineage, header = mirror[split : split + LINEAGE.size], mirror[split + LINEAGE.size :]
    return header + lineage + mirror[:split] + bytes(shape.payload_offset - shape.head_bytes)


def decode_snapshot(data: bytes | bytearray | memoryview, *, state_bytes_max: int = STATE_BYTES_MAX) -> Snapshot:
    """The snapshot in `data`, with every checksum, the padding and the mirror checked; arrays are views of `data`."""
    view = memoryview(data)

    def read(offset: int, length: int) -> bytes:
        return bytes(view[offset : offset + length])

    head = read_head(read, len(view), state_bytes_max=state_bytes_max)
    shape = head.geometry
    for index, entry in blocks_in_doubt(view[shape.payload_offset : shape.mirror_offset], head.table):
        start = shape.payload_offset + index * BLOCK_BYTES
        check_block(view[start : start + BLOCK_BYTES], entry, index, start)
    if view[shape.mirror_offset :] != expected_mirror(read(0, shape.payload_offset), shape):
        raise ChecksumError("the mirror differs from the head", rule="T-4", offset=shape.mirror_offset)
    header = head.header
    state = decode_payload(view[shape.payload_offset : shape.mirror_offset], header.parameters, header.flags)
    return Snapshot(state, header.generation, header.lsn, header.uuid, head.lineage, head.metadata)
