"""The fixed records of one file, field by field, as its bytes have them.

Purpose: look at a header that nobody believes. Invariants: values are shown as they are stored, whole or not, and
beside them stands what is wrong with the copy they come from; nothing is allocated on their word.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emm.codec.header import decode_header
from emm.codec.journal import decode_segment_header
from emm.codec.snapshot import decode_head, head_from_mirror
from emm.errors import EmmError, FormatError, TruncatedError
from emm.inspection.place import Place, find_head, opened
from emm.layout import HEADER, LINEAGE, SEGMENT_HEADER, Flag, Origin, Projection, Record, Rule
from emm.storage.names import segment_name
from emm.vfs import Directory

_NAMES = {"rule": Rule, "projection": Projection, "origin": Origin}


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """One field: its byte in the file, what is stored (bytes as hexadecimal), and what that means."""

    offset: int
    name: str
    value: int | float | str
    reads: str  # the stored number in words, or ""
    meaning: str


@dataclass(frozen=True, slots=True)
class RecordInfo:
    """One record of a file. `problem` is what keeps the copy it belongs to from being believed."""

    record: str  # header, lineage or segment header
    copy: str  # "head" or "mirror"
    offset: int
    fields: tuple[FieldInfo, ...]
    problem: str | None


@dataclass(frozen=True, slots=True)
class HeaderView:
    """The records of one file. `differs` names fields in which whole-length head and mirror disagree."""

    url: str
    name: str
    bytes: int
    kind: str
    records: tuple[RecordInfo, ...]
    metadata: dict[str, Any] | None
    differs: tuple[str, ...]
    exit_code: int = 0


def header(url: str | os.PathLike[str], *, generation: int | None = None) -> HeaderView:
    """The records of a snapshot (of a memory: of the generation, by default the newest) or of a segment.

    Bytes that are no header are shown all the same, with `exit_code` set; raises only when nothing can be read.
    """
    with opened(url) as place:
        if place.kind == "segment" or not place.listing.generations:
            return _segment(place)
        if generation is None:
            generation = place.listing.generations[-1]
        elif generation not in place.listing.generations:
            place.head(generation)  # says which there are
        return _snapshot(place, generation)


def _segment(place: Place) -> HeaderView:
    name = segment_name(place.listing.segments[-1])
    size = place.directory.size(name)
    data = place.directory.read_at(name, 0, min(SEGMENT_HEADER.size, size))
    problem = None
    try:
        decode_segment_header(data)
    except EmmError as error:
        problem = error
    record = _record("segment header", "head", SEGMENT_HEADER, data, 0, _said(problem))
    return HeaderView(place.url, name, size, "segment", (record,), None, (), problem.exit_code if problem else 0)


def _snapshot(place: Place, generation: int) -> HeaderView:
    found = find_head(place.directory, generation)
    size = place.directory.size(found.name)
    records: list[RecordInfo] = []
    front = place.directory.read_at(found.name, 0, min(HEADER.size + LINEAGE.size, size))
    wrong = _said(_front_fault(place.directory, found.name, size))
    records.append(_record("header", "head", HEADER, front, 0, wrong))
    records.append(_record("lineage", "head", LINEAGE, front[HEADER.size :], HEADER.size, wrong))
    if size >= 2 * (HEADER.size + LINEAGE.size):
        start = size - HEADER.size - LINEAGE.size
        end = place.directory.read_at(found.name, start, HEADER.size + LINEAGE.size)
        wrong = _said(_mirror_fault(place.directory, found.name, size))
        records.append(_record("lineage", "mirror", LINEAGE, end, start, wrong))
        records.append(_record("header", "mirror", HEADER, end[LINEAGE.size :], start + LINEAGE.size, wrong))
    exit_code = 0 if found.error is None else found.error.exit_code
    metadata = None if found.head is None else dict(found.head.metadata)
    return HeaderView(place.url, found.name, size, "snapshot", tuple(records), metadata, _differ(records), exit_code)


def _front_fault(directory: Directory, name: str, size: int) -> EmmError | None:
    try:
        header = decode_header(directory.read_at(name, 0, min(HEADER.size, size)))
        if size < header.geometry.payload_offset:
            return TruncatedError("the head is cut short", expected=header.geometry.payload_offset, found=size)
        decode_head(directory.read_at(name, 0, header.geometry.payload_offset), header)
    except EmmError as error:
        return error
    return None


def _mirror_fault(directory: Directory, name: str, size: int) -> EmmError | None:
    try:
        header = decode_header(directory.read_at(name, size - HEADER.size, HEADER.size))
        shape = header.geometry
        if shape.file_bytes != size:
            raise FormatError("the file has another length than the header says", expected=shape.file_bytes, found=size)
        decode_head(head_from_mirror(directory.read_at(name, shape.mirror_offset, shape.head_bytes), shape), header)
    except EmmError as error:
        return error
    return None


def _record(name: str, copy: str, record: Record, data: bytes, offset: int, problem: str | None) -> RecordInfo:
    if len(data) < record.size:
        return RecordInfo(name, copy, offset, (), problem or f"cut short: {len(data)} of {record.size} bytes")
    values = record.unpack(data)
    fields = tuple(
        FieldInfo(offset + f.offset, f.name, _value(values[f.name]), _reads(f.name, values), f.meaning)
        for f in record.fields
    )
    return RecordInfo(name, copy, offset, fields, problem)


def _value(value: Any) -> int | float | str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    assert isinstance(value, (int, float))
    return value


def _reads(name: str, values: Mapping[str, Any]) -> str:
    """An enumeration's or flag's name; "" where the number speaks for itself or is none of them."""
    value = values[name]
    if name in _NAMES:
        return next((each.name.lower().replace("_", "-") for each in _NAMES[name] if each == value), "unknown")
    if name == "flags" and "rule" in values:
        return ", ".join(str(flag.name).lower().replace("_", "-") for flag in Flag if value & flag)
    return ""


def _differ(records: list[RecordInfo]) -> tuple[str, ...]:
    """Fields that the two copies state differently; their own problems say which copy to believe."""
    stored: dict[str, dict[str, int | float | str]] = {"head": {}, "mirror": {}}
    for record in records:
        for field in record.fields:
            stored[record.copy][f"{record.record}.{field.name}"] = field.value
    return tuple(
        name for name, value in stored["head"].items() if name in stored["mirror"] and stored["mirror"][name] != value
    )


def _said(error: EmmError | None) -> str | None:
    return None if error is None else str(error)
