"""Journal framing: segment headers and records, bytes ↔ values.

Purpose: say for any bytes at any offset whether a valid record starts there, without trusting a
length before it is checked. Invariants (spec J-rules): records are 8-byte aligned; a record's
payload CRC covers the memory's UUID, the record header, the payload and the padding, so a record of
another memory never passes; CRCs are not chained, so evidence beyond damage stays readable.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from emm.codec.header import NUMBER_MAX
from emm.codec.integrity import crc32
from emm.errors import ChecksumError, FormatError, NotEmmError, TruncatedError, UnsupportedError
from emm.layout import (
    COMMIT_PAYLOAD,
    DIM_MAX,
    RANK_MULTIPLE,
    RECORD_ALIGNMENT_BYTES,
    RECORD_BYTES_MAX,
    RECORD_HEADER,
    RECORD_MAGIC,
    RECORD_TRAILER_BYTES,
    SEGMENT_HEADER,
    SEGMENT_MAGIC,
    VERSION_MAJOR,
    VERSION_MINOR,
    RecordType,
)

_SEGMENT_CRC = SEGMENT_HEADER.offset("crc32")
_RECORD_CRC = RECORD_HEADER.offset("crc32")
_CHAIN = COMMIT_PAYLOAD.offset("chain")
OVERHEAD_BYTES = RECORD_HEADER.size + RECORD_TRAILER_BYTES
PAYLOAD_BYTES_MAX = RECORD_BYTES_MAX - OVERHEAD_BYTES  # RECORD_BYTES_MAX is a multiple of the alignment


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment states about itself before its first record."""

    segment: int
    first_lsn: int
    floor_generation: int
    uuid: bytes
    writer_nonce: bytes
    chain: bytes
    previous_bytes: int
    rank: int

    def encode(self) -> bytes:
        data = SEGMENT_HEADER.pack(
            {
                "magic": SEGMENT_MAGIC,
                "version_major": VERSION_MAJOR,
                "version_minor": VERSION_MINOR,
                "flags": 0,
                "segment": self.segment,
                "first_lsn": self.first_lsn,
                "floor_generation": self.floor_generation,
                "uuid": self.uuid,
                "writer_nonce": self.writer_nonce,
                "chain": self.chain,
                "previous_bytes": self.previous_bytes,
                "rank": self.rank,
                "crc32": 0,
            }
        )
        return data[:_SEGMENT_CRC] + crc32(data[:_SEGMENT_CRC]).to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """One record: `payload` without padding; `offset` and `size` where it lies in its segment."""

    type: RecordType
    lsn: int
    synced_through: int
    payload: bytes
    offset: int = 0

    @property
    def size(self) -> int:
        return record_bytes(len(self.payload))


def decode_segment_header(data: bytes | memoryview) -> SegmentHeader:
    """The header in the first 128 bytes of a segment."""
    if len(data) < SEGMENT_HEADER.size:
        raise TruncatedError(
            "the segment header is cut short", rule="J-1", offset=0, expected=SEGMENT_HEADER.size, found=len(data)
        )
    values = SEGMENT_HEADER.unpack(data)
    if values["magic"] != SEGMENT_MAGIC:
        raise NotEmmError(
            "not an EMM journal segment",
            rule="J-1",
            offset=0,
            expected=SEGMENT_MAGIC.hex(),
            found=values["magic"].hex(),
        )
    found = crc32(data[:_SEGMENT_CRC])
    if found != values["crc32"]:
        raise ChecksumError(
            "the segment header fails its CRC-32",
            rule="J-2",
            offset=_SEGMENT_CRC,
            expected=f"{values['crc32']:08x}",
            found=f"{found:08x}",
        )
    if values["version_major"] != VERSION_MAJOR or values["flags"]:
        raise UnsupportedError(
            "unknown journal version or flag",
            rule="J-3",
            offset=8,
            expected=VERSION_MAJOR,
            found=values["version_major"],
        )
    if SEGMENT_HEADER.reserved_violation(values) is not None:
        raise FormatError("a reserved byte of the segment header is not zero", rule="J-4", offset=116, expected=0)
    numbers_ok = 1 <= values["segment"] <= NUMBER_MAX and 1 <= values["floor_generation"] <= NUMBER_MAX
    rank_ok = 0 < values["rank"] <= DIM_MAX and values["rank"] % RANK_MULTIPLE == 0
    if not (numbers_ok and rank_ok and values["first_lsn"] >= 1):
        raise FormatError("a number of the segment header is out of range", rule="J-5", offset=16)
    names = ("segment", "first_lsn", "floor_generation", "uuid", "writer_nonce", "chain", "previous_bytes", "rank")
    return SegmentHeader(**{name: values[name] for name in names})


def record_bytes(payload_length: int) -> int:
    """Bytes of a record with its header, padding and trailing CRC; a multiple of 8."""
    return -(-(OVERHEAD_BYTES + payload_length) // RECORD_ALIGNMENT_BYTES) * RECORD_ALIGNMENT_BYTES


def encode_record(kind: RecordType, lsn: int, synced_through: int, payload: bytes, uuid: bytes) -> bytes:
    """The bytes of one record. The caller keeps payloads within `PAYLOAD_BYTES_MAX`."""
    assert len(payload) <= PAYLOAD_BYTES_MAX
    header = RECORD_HEADER.pack(
        {
            "magic": RECORD_MAGIC,
            "type": int(kind),
            "flags": 0,
            "lsn": lsn,
            "synced_through": synced_through,
            "length": len(payload),
            "crc32": 0,
        }
    )
    header = header[:_RECORD_CRC] + crc32(header[:_RECORD_CRC]).to_bytes(4, "little")
    padding = bytes(record_bytes(len(payload)) - OVERHEAD_BYTES - len(payload))
    return b"".join((header, payload, padding, crc32(uuid, header, payload, padding).to_bytes(4, "little")))


def record_size(data: bytes | memoryview, offset: int) -> int:
    """Bytes of the record whose header is `data`, found at `offset` of a segment; its magic and CRC are checked."""
    return record_bytes(_record_header(data, offset)["length"])


def _record_header(data: bytes | memoryview, offset: int) -> dict[str, Any]:
    """The fields of a record header whose CRC fits and whose length the format allows (J-6, J-7, S-3)."""
    if len(data) < RECORD_HEADER.size:
        raise TruncatedError(
            "a record header is cut short", rule="J-6", offset=offset, expected=RECORD_HEADER.size, found=len(data)
        )
    values = RECORD_HEADER.unpack(data)
    if values["magic"] != RECORD_MAGIC:
        raise FormatError(
            "no record starts here",
            rule="J-6",
            offset=offset,
            expected=f"{RECORD_MAGIC:08x}",
            found=f"{values['magic']:08x}",
        )
    found = crc32(data[:_RECORD_CRC])
    if found != values["crc32"]:
        raise ChecksumError(
            "a record header fails its CRC-32",
            rule="J-7",
            offset=offset + _RECORD_CRC,
            expected=f"{values['crc32']:08x}",
            found=f"{found:08x}",
        )
    if values["length"] > PAYLOAD_BYTES_MAX:
        raise FormatError(
            "a record is longer than the format allows",
            rule="S-3",
            offset=offset + 24,
            expected=f"at most {PAYLOAD_BYTES_MAX}",
            found=values["length"],
        )
    return values


def decode_record(data: bytes | memoryview, offset: int, uuid: bytes) -> JournalRecord:
    """The record that starts `data`; `offset` is where that is in its segment.

    Type, flags and LSNs are judged only behind both CRCs: before that the bytes may be torn (R-6).
    """
    values = _record_header(data[: RECORD_HEADER.size], offset)
    length = values["length"]
    size = record_bytes(length)
    if len(data) < size:
        raise TruncatedError("a record is cut short", rule="J-6", offset=offset, expected=size, found=len(data))
    found = crc32(uuid, data[: size - RECORD_TRAILER_BYTES])
    stated = int.from_bytes(data[size - RECORD_TRAILER_BYTES : size], "little")
    if found != stated:
        raise ChecksumError(
            "a record fails its CRC-32", rule="J-10", offset=offset, expected=f"{stated:08x}", found=f"{found:08x}"
        )
    padding = data[RECORD_HEADER.size + length : size - RECORD_TRAILER_BYTES]
    if any(padding):
        raise FormatError("a record's padding is not zero", rule="J-10", offset=offset + RECORD_HEADER.size + length)
    kind = _known_type(values, offset)
    payload = bytes(data[RECORD_HEADER.size : RECORD_HEADER.size + length])
    return JournalRecord(kind, values["lsn"], values["synced_through"], payload, offset)


def _known_type(values: dict[str, Any], offset: int) -> RecordType:
    """The type, once flags and LSNs are what it allows (J-8, J-9)."""
    try:
        kind = RecordType(values["type"])
    except ValueError:
        raise UnsupportedError(
            "unknown record type", rule="J-8", offset=offset + 4, expected="1 to 8", found=values["type"]
        ) from None
    if values["flags"]:
        raise UnsupportedError("unknown record flag", rule="J-8", offset=offset + 6, expected=0, found=values["flags"])
    unnumbered = values["lsn"] == 0 and kind not in (RecordType.MARK, RecordType.SEAL)
    if unnumbered or values["synced_through"] > values["lsn"]:
        raise FormatError(
            "a record's LSNs contradict each other",
            rule="J-9",
            offset=offset + 8,
            found=f"lsn {values['lsn']}, synced through {values['synced_through']}",
        )
    return kind


def next_chain(previous: bytes, batch: list[tuple[RecordType, int, bytes]], commit_payload: bytes) -> bytes:
    """chain = SHA-256(previous ‖ batch) over (type, lsn, payload) of each record, then the commit (J-12).

    `synced_through` is left out, so a commit that recovery logs again keeps its chain value; so is
    the commit's own chain field.
    """
    digest = hashlib.sha256(previous)
    for kind, lsn, payload in [*batch, (RecordType.COMMIT, batch[0][1], commit_payload[:_CHAIN])]:
        digest.update(int(kind).to_bytes(2, "little") + lsn.to_bytes(8, "little") + len(payload).to_bytes(4, "little"))
        digest.update(payload)
    return digest.digest()
