"""The annotated hex dump of `emm-v4.md`: one tiny memory, every field of its files with bytes and value.

Purpose: give an implementer bytes to check the first decoder against. Invariants: the example is a fixed
value (no clock, no randomness), so the page cannot drift from the code without a test noticing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from emm import kernel
from emm.codec.integrity import hash_payload
from emm.codec.journal import SegmentHeader, encode_record, next_chain
from emm.codec.lineage import Lineage
from emm.codec.pairs import Commit, PairBatch, encode_pairs
from emm.codec.payload import encode_payload
from emm.codec.snapshot import Snapshot, encode_snapshot
from emm.layout import (
    BLOCK_ENTRY,
    COMMIT_PAYLOAD,
    HEADER,
    LINEAGE,
    PAIRS_HEADER,
    RECORD_HEADER,
    SEGMENT_HEADER,
    Record,
    RecordType,
    Rule,
)
from emm.state import MatrixState, Parameters, empty_state

UUID = bytes(range(16))
NONCE = bytes(range(16, 32))
TIME_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
METADATA = {"name": "tiny"}


def tiny_memory() -> tuple[bytes, bytes]:
    """(snapshot of generation 2, journal segment 1) of a memory of dim 2, rank 16, key_dim 16, rule 1, one pair."""
    parameters = Parameters(dim=2, key_dim=16, rank=16, rule=Rule.GATED_DELTA)
    one = np.ones(1, np.float32)
    batch = PairBatch(16, np.eye(1, 16, dtype=np.float32), np.array([[1, -2]], np.float32), one, one)
    state = empty_state(parameters)
    surprise = kernel.write(state, kernel.project(batch.keys, parameters), batch.values, one, one)
    payload = encode_pairs(RecordType.WRITE, batch)
    commit = Commit(TIME_US, 1, 1, float(surprise[0]), bytes(32))
    chain = next_chain(bytes(32), [(RecordType.WRITE, 1, payload)], commit.encode())
    commit = Commit(TIME_US, 1, 1, float(surprise[0]), chain)
    segment = b"".join(
        (
            SegmentHeader(1, 1, 1, UUID, NONCE, bytes(32), 0, 16).encode(),
            encode_record(RecordType.WRITE, 1, 0, payload, UUID),
            encode_record(RecordType.COMMIT, 1, 0, commit.encode(), UUID),
            encode_record(RecordType.SEAL, 1, 1, b"", UUID),
        )
    )
    return encode_snapshot(_snapshot(state, chain)), segment


def _snapshot(state: MatrixState, chain: bytes) -> Snapshot:
    parent = hashlib.sha256(b"the snapshot of generation 1").digest()
    lineage = Lineage(1, TIME_US, chain, parent, bytes(16), NONCE, floor_generation=1, segment_next=2)
    return Snapshot(state, 2, 1, UUID, lineage, METADATA)


def dump() -> str:
    """Both files as a Markdown code block: offset, bytes, field, value."""
    snapshot, segment = tiny_memory()
    n_blocks = len(hash_payload(encode_payload(empty_state(Parameters(2, 16, 16, Rule.GATED_DELTA)))))
    table = HEADER.size + LINEAGE.size
    metadata = table + n_blocks * BLOCK_ENTRY.size
    lines = ["```text", f"snapshot 0000000000000002.emm, {len(snapshot)} bytes"]
    lines += _fields(snapshot, 0, HEADER)
    lines += _fields(snapshot, HEADER.size, LINEAGE)
    lines += _fields(snapshot, table, BLOCK_ENTRY)
    lines += _raw(snapshot, metadata, 15, "metadata")
    lines += _raw(snapshot, 4096, 64, "M, row 0")
    lines += _raw(snapshot, 4160, 64, "M, row 1")
    lines += [f"{4096 + 65536:7}  (mirror: table, metadata, lineage, header; to the end of the file)", ""]
    lines += [f"segment 0000000000000001.wal, {len(segment)} bytes", *_fields(segment, 0, SEGMENT_HEADER)]
    for record in _records(segment):
        lines += record
    return "\n".join([*lines, "```"]) + "\n"


def _records(segment: bytes) -> Iterator[list[str]]:
    offset = SEGMENT_HEADER.size
    while offset < len(segment):
        values = RECORD_HEADER.unpack(segment, offset)
        start, length = offset + RECORD_HEADER.size, values["length"]
        size = -(-(RECORD_HEADER.size + length + 4) // 8) * 8
        lines = _fields(segment, offset, RECORD_HEADER)
        if values["type"] == RecordType.WRITE:
            lines += _fields(segment, start, PAIRS_HEADER)
            at = start + PAIRS_HEADER.size
            for name, count in (("decay gate", 1), ("write gate", 1), ("key", 16), ("value", 2)):
                lines += _raw(segment, at, 4 * count, name)
                at += 4 * count
        elif values["type"] == RecordType.COMMIT:
            lines += _fields(segment, start, COMMIT_PAYLOAD)
        lines += _raw(segment, start + length, offset + size - start - length, "zeros and CRC-32")
        yield lines
        offset += size


def _fields(data: bytes, offset: int, record: Record) -> list[str]:
    values = record.unpack(data, offset)
    lines = [f"{'':7}  {record.name}"]
    for field in record.fields:
        value = values[field.name]
        shown = "" if isinstance(value, bytes) else f" = {value}"
        lines += _raw(data, offset + field.offset, field.size, field.name + shown)
    return lines


def _raw(data: bytes, offset: int, length: int, label: str) -> list[str]:
    lines = []
    for start in range(0, length, 16):
        piece = data[offset + start : offset + min(start + 16, length)]
        lines.append(f"{offset + start:7}  {piece.hex(' '):48}  {label if start == 0 else ''}".rstrip())
    return lines
