"""Bytes to attack: valid ones made by the codec, and edits that keep their checksums valid.

A test that patches a field must show that the rule refuses it, not the checksum; so every `forge_*` recomputes what
covers the bytes it changed.
"""

from __future__ import annotations

import hashlib

import numpy as np

from emm.codec.header import Header, blank_digest, encode_header
from emm.codec.integrity import crc32
from emm.codec.journal import SegmentHeader, encode_record
from emm.codec.lineage import Lineage
from emm.codec.pairs import PairBatch, encode_pairs
from emm.codec.snapshot import Snapshot, encode_snapshot
from emm.layout import HEADER, RECORD_HEADER, RECORD_TRAILER_BYTES, RecordType, Rule
from emm.state import MatrixState, Parameters, empty_state

UUID = bytes(range(16))
PARAMETERS = Parameters(dim=16, key_dim=64, rank=32)


def header(parameters: Parameters = PARAMETERS, **fields: object) -> Header:
    values = {"flags": 0, "generation": 7, "lsn": 3, "uuid": UUID, "metadata_bytes": 2, "sha256": bytes(32), **fields}
    return Header(parameters, **values)  # type: ignore[arg-type]


def recrc(data: bytes, at: int) -> bytes:
    """`data` with a valid CRC-32 of everything before `at` at that place."""
    return data[:at] + crc32(data[:at]).to_bytes(4, "little") + data[at + 4 :]


def forge_header(offset: int, patch: bytes, base: bytes | None = None) -> bytes:
    """A 128-byte header with `patch` at `offset` and a valid CRC."""
    data = encode_header(header()) if base is None else base
    return recrc(data[:offset] + patch + data[offset + len(patch) :], 124)


def forge_segment(offset: int, patch: bytes) -> bytes:
    data = segment_header().encode()
    return recrc(data[:offset] + patch + data[offset + len(patch) :], 124)


def segment_header() -> SegmentHeader:
    return SegmentHeader(3, 12, 2, UUID, bytes(16), bytes(32), 4096, 32)


def forge_record(data: bytes, offset: int, patch: bytes, uuid: bytes = UUID) -> bytes:
    """A record with `patch` at `offset`, header CRC and trailing CRC valid."""
    data = data[:offset] + patch + data[offset + len(patch) :]
    data = recrc(data[: RECORD_HEADER.size], 28) + data[RECORD_HEADER.size :]
    body = data[:-RECORD_TRAILER_BYTES]
    return body + crc32(uuid, body).to_bytes(4, "little")


def record(kind: RecordType = RecordType.WRITE, payload: bytes = b"123456789", lsn: int = 5, synced: int = 4) -> bytes:
    return encode_record(kind, lsn, synced, payload, UUID)


def state(rule: Rule = Rule.PRECONDITIONED, seed: int = 0, dim: int = 16) -> MatrixState:
    """A state with numbers in it (not one that arithmetic made; the codec does not care)."""
    random = np.random.default_rng(seed)
    made = empty_state(Parameters(dim, 64, 32, rule))
    made.matrix[...] = random.standard_normal(made.matrix.shape)
    if made.gain is not None:
        made.gain.u[:3] = random.standard_normal((3, 32))
        made.gain.count, made.gain.signs, made.gain.gram_trace = 3, 0b101, 2.5
    return made


def snapshot(rule: Rule = Rule.PRECONDITIONED, **fields: object) -> Snapshot:
    values = {"generation": 7, "lsn": 3, "uuid": UUID, "lineage": Lineage(), "metadata": {"lab": "x"}, **fields}
    return Snapshot(state(rule), **values)  # type: ignore[arg-type]


def forge_snapshot(offset: int, patch: bytes, made: Snapshot | None = None) -> bytes:
    """A snapshot file with `patch` at `offset` of its head; digest, CRC and mirror follow."""
    data = bytearray(encode_snapshot(made or snapshot()))
    shape = header_shape(bytes(data))
    data[offset : offset + len(patch)] = patch
    head = bytes(data[: shape.payload_offset])
    digest = hashlib.sha256(blank_digest(head)).digest()
    at = HEADER.offset("sha256")
    head = recrc(head[:at] + digest + head[at + 32 :], 124)
    mirror = head[shape.table_offset : shape.head_bytes] + head[128:288] + head[:128]
    return head + bytes(data[shape.payload_offset : shape.mirror_offset]) + mirror


def header_shape(data: bytes):  # type: ignore[no-untyped-def]
    from emm.codec.header import decode_header

    return decode_header(data).geometry


def pairs(n: int = 3, rank: int = 32, seed: int = 0) -> PairBatch:
    random = np.random.default_rng(seed)
    return PairBatch(
        rank,
        random.standard_normal((n, 64)).astype(np.float32),
        random.standard_normal((n, 16)).astype(np.float32),
        np.full(n, 0.5, np.float32),
        np.full(n, 0.75, np.float32),
    )


def pair_payload(kind: RecordType, batch: PairBatch) -> bytes:
    return encode_pairs(kind, batch)
