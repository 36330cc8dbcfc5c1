"""Which part of the format a byte of a file belongs to: the rows of the tables that count damage.

Purpose: "detected" per header field group, mirror, block, record, padding and seal. Invariants: the parts of a file
follow one another without gaps, from its first byte to its last; only undamaged files are cut up.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field

from emm.codec.header import decode_header
from emm.layout import HEADER, LINEAGE, RECORD_HEADER, RECORD_TRAILER_BYTES, SEGMENT_HEADER, SNAPSHOT_SUFFIX, RecordType
from emm_fuzz.specimens import Files

Part = tuple[int, int, str]  # (first byte, end, name)


def snapshot_parts(data: bytes) -> Iterator[Part]:
    """The parts of an undamaged snapshot."""
    shape = decode_header(data[: HEADER.size]).geometry
    lengths = [
        ("snapshot: header", HEADER.size),
        ("snapshot: lineage", LINEAGE.size),
        ("snapshot: integrity table", shape.table_bytes),
        ("snapshot: metadata", shape.head_bytes - shape.metadata_offset),
        ("snapshot: zeros before the payload", shape.payload_offset - shape.head_bytes),
        *((f"payload: {each.name}", each.size) for each in shape.regions),
        ("payload: zeros", shape.mirror_offset - shape.payload_offset - shape.payload_bytes),
        ("mirror: integrity table", shape.table_bytes),
        ("mirror: metadata", shape.head_bytes - shape.metadata_offset),
        ("mirror: lineage", LINEAGE.size),
        ("mirror: header", HEADER.size),
    ]
    yield from _chained(lengths)


def segment_parts(files: Files, name: str) -> Iterator[Part]:
    """The parts of an undamaged segment."""
    lengths = [("segment: header", SEGMENT_HEADER.size)]
    for record in records(files, name):
        if record.type in (RecordType.MARK, RecordType.SEAL):
            lengths.append((f"journal: {record.type.name.lower()}", record.size))
            continue
        kind = "commit" if record.type is RecordType.COMMIT else "record"
        zeros = record.size - RECORD_HEADER.size - len(record.payload) - RECORD_TRAILER_BYTES
        lengths += [
            (f"{kind}: header", RECORD_HEADER.size),
            (f"{kind}: payload", len(record.payload)),
            (f"{kind}: zeros", zeros),
            (f"{kind}: CRC-32", RECORD_TRAILER_BYTES),
        ]
    yield from _chained(lengths)


@dataclass(frozen=True, slots=True)
class LaidRecord:
    """One record and where it lies."""

    type: RecordType
    lsn: int
    synced_through: int
    payload: bytes
    offset: int
    size: int


def records(files: Files, name: str) -> list[LaidRecord]:
    """Every record of an undamaged segment, told by its lengths alone; a record that a dying writer began is none."""
    data, offset = files[name], SEGMENT_HEADER.size
    found = []
    while offset + RECORD_HEADER.size <= len(data):
        values = RECORD_HEADER.unpack(data, offset)
        start = offset + RECORD_HEADER.size
        payload = data[start : start + values["length"]]
        size = -(-(RECORD_HEADER.size + len(payload) + RECORD_TRAILER_BYTES) // 8) * 8
        if offset + size > len(data):
            break
        kind = RecordType(values["type"])
        found.append(LaidRecord(kind, values["lsn"], values["synced_through"], payload, offset, size))
        offset += size
    return found


def _chained(lengths: list[tuple[str, int]]) -> Iterator[Part]:
    position = 0
    for name, length in lengths:
        if length:
            yield position, position + length, name
        position += length


@dataclass(slots=True)
class Anatomy:
    """Every bit of a memory, numbered from 0: the files by name, then the bytes, then bit 0 to 7."""

    files: Files
    parts: dict[str, list[Part]] = field(init=False, default_factory=dict)
    _starts: dict[str, list[int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for name in sorted(self.files):
            snapshot = name.endswith(SNAPSHOT_SUFFIX)
            parts = list(snapshot_parts(self.files[name]) if snapshot else segment_parts(self.files, name))
            assert parts[-1][1] == len(self.files[name]), f"the parts of {name} are not the whole of it"
            self.parts[name], self._starts[name] = parts, [start for start, _, _ in parts]

    @property
    def n_bits(self) -> int:
        return 8 * sum(map(len, self.files.values()))

    def place(self, number: int) -> tuple[str, int, int]:
        """(file, byte, bit) of a bit."""
        position, bit = divmod(number, 8)
        for name in sorted(self.files):
            if position < len(self.files[name]):
                return name, position, bit
            position -= len(self.files[name])
        raise IndexError(number)

    def part_of(self, name: str, offset: int) -> str:
        return self.parts[name][bisect.bisect_right(self._starts[name], offset) - 1][2]

    def bits_by_part(self) -> dict[str, list[range]]:
        """The numbers of the bits of each part."""
        found: dict[str, list[range]] = {}
        before = 0
        for name in sorted(self.files):
            for start, end, part in self.parts[name]:
                found.setdefault(part, []).append(range(8 * (before + start), 8 * (before + end)))
            before += len(self.files[name])
        return found
