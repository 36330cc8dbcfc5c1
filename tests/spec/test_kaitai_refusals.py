"""What `emm` refuses, the Kaitai Struct descriptions refuse or tell, and for the same field.

Their limits are listed (`NOT_SEEN`): no checksums, and nothing that only the memory around a file can say.
Each test says which change would turn it red.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from kaitaistruct import ValidationFailedError

import emm
from emm import layout
from emm.codec.header import decode_header
from emm.codec.journal import decode_record, decode_segment_header, encode_record
from emm.codec.pairs import decode_commit, decode_expand, decode_pairs, decode_parameters, encode_pairs
from emm.codec.payload import decode_scalars
from emm.codec.snapshot import decode_snapshot
from emm.layout import GAIN_SCALARS, HEADER, LINEAGE, RECORD_HEADER, SEGMENT_HEADER, Record, RecordType
from spec.vectors.catalog import MANIFEST, all_cases
from tests.codec import builders
from tests.spec.kaitai_parsers import SEGMENT, SNAPSHOT, TYPES, field_patch, parse, records_of


def refused_field(error: ValidationFailedError, record: Record) -> str:
    """The layout's name of the field that a validation error points at."""
    kind, _, index = error.src_path.removeprefix("/types/").partition("/seq/")
    assert TYPES["".join(part.capitalize() for part in kind.split("_"))].__name__ == record.name
    return record.fields[int(index)].name


@pytest.mark.parametrize(
    ("record", "field", "value", "rule", "refused"),
    [
        (HEADER, "magic", layout.SEGMENT_MAGIC, "H-1", "magic"),
        (HEADER, "version_major", 5, "H-3", "version_major"),
        (HEADER, "flags", 16, "H-4", "flags"),
        (HEADER, "flags", 1 << 31, "H-4", "flags"),
        (HEADER, "reserved_a", 1, "H-5", "reserved_a"),
        (HEADER, "reserved_b", 1 << 31, "H-5", "reserved_b"),
        (HEADER, "dim", 0, "H-6", "dim"),
        (HEADER, "dim", (1 << 24) + 1, "H-6", "dim"),
        (HEADER, "key_dim", 0, "H-6", "key_dim"),
        (HEADER, "rank", 0, "H-6", "rank"),
        (HEADER, "rank", 40, "H-7", "rank"),
        (HEADER, "rank", 80, "H-7", "projection"),  # above key_dim
        (HEADER, "projection", 0, "H-7", "projection"),  # would need rank 64
        (HEADER, "dtype", 2, "H-8", "dtype"),
        (HEADER, "rule", 3, "H-8", "rule"),
        (HEADER, "projection", 2, "H-8", "projection"),
        (HEADER, "ridge", float("nan"), "H-9", "ridge"),
        (HEADER, "ridge", 2.0**-21, "H-9", "ridge"),
        (HEADER, "ridge", 2.0**21, "H-9", "ridge"),
        (HEADER, "generation", 0, "H-10", "generation"),
        (HEADER, "generation", 10**16, "H-10", "generation"),  # a double cannot tell it from the last lawful one
        (HEADER, "payload_bytes", 1 << 40, "H-11", "payload_bytes"),
        (HEADER, "metadata_bytes", 1, "H-13", "metadata_bytes"),
        (HEADER, "metadata_bytes", 16385, "H-13", "metadata_bytes"),
        (LINEAGE, "reserved", bytes(26) + b"\1", "L-1", "reserved"),
        (LINEAGE, "origin", 6, "L-2", "origin"),
        (LINEAGE, "expand_at", 1.5, "L-3", "expand_at"),
        (LINEAGE, "expand_at", float("nan"), "L-3", "expand_at"),
        (LINEAGE, "floor_generation", 0, "L-4", "floor_generation"),
        (LINEAGE, "floor_generation", 8, "L-4", "floor_generation"),  # above the generation, 7
        (LINEAGE, "origin", layout.Origin.MERGE, "L-4", "origin"),  # with floor 1
        (LINEAGE, "segment_next", 0, "L-5", "segment_next"),
        (LINEAGE, "segment_next", 10**16, "L-5", "segment_next"),
    ],
)
def test_snapshot_heads_are_refused_by_both_for_the_same_field(
    record: Record, field: str, value: Any, rule: str, refused: str
) -> None:
    """Red when a rule's bound changes in one reader only."""
    offset, patch = field_patch(record, field, value)
    data = builders.forge_snapshot(offset + (HEADER.size if record is LINEAGE else 0), patch)
    with pytest.raises(emm.EmmError) as by_library:
        decode_snapshot(data)
    assert by_library.value.rule == rule
    with pytest.raises(ValidationFailedError) as by_kaitai:
        parse(SNAPSHOT, data)
    assert refused_field(by_kaitai.value, record) == refused


def test_snapshot_of_another_length_or_with_dirty_padding_is_refused() -> None:
    """Red when P-2 or P-3 is checked by one reader only."""
    data = builders.forge_snapshot(0, b"")
    shape = decode_header(data).geometry
    parse(SNAPSHOT, data)
    with pytest.raises(ValidationFailedError, match="/seq/7"):
        parse(SNAPSHOT, data + b"\0")
    for size in (len(data) - 1, shape.mirror_offset, shape.payload_offset + 5, shape.head_bytes, 200, 127, 0):
        with pytest.raises(EOFError):
            parse(SNAPSHOT, data[:size])
    with pytest.raises(ValidationFailedError, match="/seq/4"):
        parse(SNAPSHOT, builders.forge_snapshot(shape.payload_offset - 1, b"\1"))
    dirty = bytearray(data)
    dirty[shape.mirror_offset - 1] ^= 1
    with pytest.raises(ValidationFailedError, match="/types/payload/instances/padding"):
        _ = parse(SNAPSHOT, bytes(dirty)).payload.padding


@pytest.mark.parametrize(
    ("field", "value", "refused"),
    [
        ("scale", 1.5, "scale"),
        ("scale", -0.5, "scale"),
        ("leak", -1.0, "leak"),
        ("count", 16, "count"),
        ("signs", 0b1000, "signs"),  # count is 3
        ("gram_trace", float("inf"), "gram_trace"),
        ("gram_trace", -1.0, "gram_trace"),
        ("reserved", bytes(39) + b"\1", "reserved"),
    ],
)
def test_scalars_are_refused_by_both_for_the_same_field(field: str, value: Any, refused: str) -> None:
    """Red when a bound of P-4 changes in one reader only."""
    lawful = {"scale": 1.0, "leak": 0.5, "count": 3, "signs": 0b101, "gram_trace": 2.5}
    offset, patch = field_patch(GAIN_SCALARS, field, value)
    data = bytearray(GAIN_SCALARS.pack(lawful))
    parse(SNAPSHOT.GainScalars, bytes(data))
    data[offset : offset + len(patch)] = patch
    with pytest.raises(emm.FormatError) as by_library:
        decode_scalars(bytes(data), builders.PARAMETERS)
    assert by_library.value.rule == "P-4"
    with pytest.raises(ValidationFailedError) as by_kaitai:
        parse(SNAPSHOT.GainScalars, bytes(data))
    assert refused_field(by_kaitai.value, GAIN_SCALARS) == refused


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("magic", layout.SNAPSHOT_MAGIC, "J-1"),
        ("version_major", 3, "J-3"),
        ("flags", 1, "J-3"),
        ("reserved", bytes(7) + b"\1", "J-4"),
        ("segment", 0, "J-5"),
        ("segment", 10**16, "J-5"),
        ("first_lsn", 0, "J-5"),
        ("floor_generation", 0, "J-5"),
    ],
)
def test_segment_headers_are_refused_by_both_for_the_same_field(field: str, value: Any, rule: str) -> None:
    """Red when a rule's bound changes in one reader only."""
    data = builders.forge_segment(*field_patch(SEGMENT_HEADER, field, value))
    with pytest.raises(emm.EmmError) as by_library:
        decode_segment_header(data)
    assert by_library.value.rule == rule
    with pytest.raises(ValidationFailedError) as by_kaitai:
        parse(SEGMENT, data)
    assert refused_field(by_kaitai.value, SEGMENT_HEADER) == field


def test_record_headers_that_j8_and_j9_refuse_are_told() -> None:
    """Red when `is_known` or `is_consistent` disagrees with the codec about a type, a flag or an LSN."""
    cases = [*(("type", kind) for kind in range(11)), ("flags", 1), ("lsn", 0), ("synced_through", 6)]
    for field, value in cases:
        for base in (RecordType.WRITE, RecordType.MARK):
            data = builders.record(base, b"", lsn=5, synced=0)
            data = builders.forge_record(data, *field_patch(RECORD_HEADER, field, value))
            header = parse(SEGMENT, builders.segment_header().encode() + data).records[0].header
            try:
                decode_record(data, 128, builders.UUID)
                lawful = True
            except emm.FormatError as error:
                lawful = False
                assert error.rule == ("J-9" if header.is_known else "J-8")
            assert (header.is_known and header.is_consistent) == lawful, (field, value, base)


def pair_body(kind: RecordType, **changes: Any) -> bytes:
    batch = builders.pairs(2)
    for name, value in changes.items():
        getattr(batch, name)[(0,) * getattr(batch, name).ndim] = value
    return encode_pairs(kind, batch)


COMMIT = layout.COMMIT_PAYLOAD.pack({"time_us": -1, "n_records": 1, "n_pairs": 2, "surprise": 0.5, "chain": bytes(32)})
PARAMETERS = layout.PARAMETERS_PAYLOAD.pack({"expand_at": 0.5})
EXPAND = layout.EXPAND_PAYLOAD.pack({"rank": 64})


@pytest.mark.parametrize(
    ("kind", "payload", "rule"),
    [
        (RecordType.WRITE, pair_body(RecordType.WRITE)[:-4], "J-13"),
        (RecordType.WRITE, pair_body(RecordType.WRITE) + bytes(4), "J-13"),
        (RecordType.WRITE, bytes(4) + pair_body(RecordType.WRITE)[4:16], "J-13"),  # no pairs
        (RecordType.WRITE, pair_body(RecordType.WRITE)[:12] + b"\x18\0\0\0" + pair_body(RecordType.WRITE)[16:], "J-13"),
        (RecordType.UNLEARN, pair_body(RecordType.WRITE), "J-13"),
        (RecordType.FORGET, pair_body(RecordType.UNLEARN), "J-13"),
        (RecordType.WRITE, pair_body(RecordType.WRITE, keys=np.nan), "J-14"),
        (RecordType.WRITE, pair_body(RecordType.WRITE, values=-np.inf), "J-14"),
        (RecordType.FORGET, pair_body(RecordType.FORGET, keys=2.0**41), "J-14"),
        (RecordType.WRITE, pair_body(RecordType.WRITE, write_gates=33), "J-15"),
        (RecordType.UNLEARN, pair_body(RecordType.UNLEARN, write_gates=2.0**-11), "J-15"),
        (RecordType.WRITE, pair_body(RecordType.WRITE, decay_gates=0), "J-15"),
        (RecordType.WRITE, pair_body(RecordType.WRITE, decay_gates=1.5), "J-15"),
        (RecordType.COMMIT, COMMIT + bytes(4), "J-16"),
        (RecordType.COMMIT, COMMIT[:-4], "J-16"),
        (RecordType.COMMIT, COMMIT[:8] + bytes(4) + COMMIT[12:], "J-16"),
        (RecordType.COMMIT, COMMIT[:16] + struct.pack("<f", float("inf")) + COMMIT[20:], "J-16"),
        (RecordType.COMMIT, COMMIT[:23] + b"\1" + COMMIT[24:], "J-16"),
        (RecordType.PARAMETERS, PARAMETERS[:4], "J-17"),
        (RecordType.PARAMETERS, struct.pack("<f4x", 1.5), "J-17"),
        (RecordType.PARAMETERS, PARAMETERS[:7] + b"\1", "J-17"),
        (RecordType.EXPAND, EXPAND + bytes(8), "J-17"),
        (RecordType.EXPAND, EXPAND[:7] + b"\1", "J-17"),
    ],
)
def test_record_bodies_are_refused_by_both(kind: RecordType, payload: bytes, rule: str) -> None:
    """Red when a length, a bound or a reserved byte of a body is checked by one reader only."""
    data = encode_record(kind, 12, 0, payload, builders.UUID)
    decoders = {RecordType.COMMIT: decode_commit, RecordType.EXPAND: decode_expand}
    decoders[RecordType.PARAMETERS] = decode_parameters
    record = decode_record(data, 128, builders.UUID)
    with pytest.raises(emm.FormatError) as by_library:
        decode = decoders.get(kind)
        decode_pairs(record, 64, 16) if decode is None else decode(record)
    assert by_library.value.rule == rule
    framed = parse(SEGMENT, builders.segment_header().encode() + data).records[0]
    assert framed.payload.raw == payload
    with pytest.raises((ValidationFailedError, EOFError)):
        _ = framed.payload.body


# --- the conformance vectors -----------------------------------------------------------------------

FRAMES = {f"{letter}-{n}" for letter, most in (("H", 13), ("L", 5), ("J", 9)) for n in range(1, most + 1)}
STRUCTURAL = (FRAMES | {f"J-{n}" for n in range(13, 18)}) - {"H-2", "H-12", "J-7"}  # those are checksums

NOT_SEEN = {
    "j2-flip": "a checksum",
    "j5-foreign": "the memory's UUID",
    "foreign-segment": "the memory's UUID",
    "j15-rule-1": "the memory's rule",
    "j16-n-pairs": "the batch",
    "j17-rank-same": "the state's rank",
    "j17-rank-skip": "the state's rank",
    "j17-rank-petabyte": "the state's rank",
    "j17-above-key-dim": "the memory's key_dim",
    "j17-unprojected": "the memory's projection",
}


def is_seen(name: str, data: bytes) -> bool:
    """Does a description refuse this file, tell a record's header, refuse a body, or end before the file does?"""
    try:
        if name.endswith(".emm"):
            parse(SNAPSHOT, data)
            return False
        found = parse(SEGMENT, data)
        for record in records_of(found):
            if not (record.header.is_known and record.header.is_consistent):
                return True
            _ = record.payload.body
    except (ValidationFailedError, EOFError):
        return True
    return bool(found.tail)


def test_vectors_that_break_a_rule_of_structure_are_refused() -> None:
    """Red when a bound, a magic or a length of a description is wider than the page's rule, or one is added there."""
    entries = {entry["name"]: entry for entry in json.loads(MANIFEST.read_text(encoding="utf-8"))["cases"]}
    broken = {}
    for case in all_cases():
        entry = entries[case.name]
        if entry["rule"] in STRUCTURAL and entry["verdict"].startswith(("damaged", "refused")):
            broken[case.name] = is_seen(entry["file"], case.files[entry["file"]])
    assert len(broken) > 80
    assert {name for name, seen in broken.items() if not seen} == set(NOT_SEEN)
