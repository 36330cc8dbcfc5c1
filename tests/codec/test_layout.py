"""The tables assert themselves. Red when `Record` stops checking offsets, sizes or reserved bytes."""

from __future__ import annotations

import pytest

from emm.layout import HEADER, RECORDS, Field, Record


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_fields_are_contiguous_and_add_up(record: Record) -> None:
    position = 0
    for field in record.fields:
        assert field.offset == position == record.offset(field.name)
        position += field.size
    assert position == record.size
    assert len({field.name for field in record.fields}) == len(record.fields)
    assert all(field.meaning for field in record.fields)


@pytest.mark.parametrize(
    ("size", "fields"),
    [
        (8, [Field(0, "I", "a", "x"), Field(5, "I", "b", "x")]),  # a hole
        (8, [Field(0, "I", "a", "x"), Field(3, "I", "b", "x")]),  # an overlap
        (12, [Field(0, "I", "a", "x"), Field(4, "I", "b", "x")]),  # declared too long
        (4, [Field(0, "I", "a", "x"), Field(4, "I", "b", "x")]),  # declared too short
        (16, [Field(0, "I", "a", "x"), Field(4, "Q", "b", "x")]),  # aligned as C would, which `<` does not
    ],
)
def test_layout_with_a_hole_overlap_or_wrong_sum_cannot_be_imported(size: int, fields: list[Field]) -> None:
    with pytest.raises(AssertionError):
        Record("Broken", size, fields)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_reserved_bytes_are_written_as_zero_and_seen_when_they_are_not(record: Record) -> None:
    reserved = [field for field in record.fields if field.name.startswith("reserved")]
    values = {field.name: b"\xff" * field.size if field.format.endswith("s") else 1 for field in record.fields}
    data = record.pack(values)
    assert record.reserved_violation(record.unpack(data)) is None
    for field in reserved:
        assert data[field.offset : field.offset + field.size] == bytes(field.size)
        damaged = bytearray(data)
        damaged[field.offset + field.size - 1] = 0x80
        assert record.reserved_violation(record.unpack(bytes(damaged))) is field


def test_header_is_little_endian() -> None:
    values = {field.name: bytes(field.size) if field.format.endswith("s") else 0 for field in HEADER.fields}
    assert HEADER.pack({**values, "dim": 0x01020304})[16:20] == bytes([4, 3, 2, 1])
