"""The Kaitai Struct descriptions say what `emm/layout.py` says, and read what `emm` writes.

Everything goes through the generated parsers under `spec/kaitai/`, so a description, its parser and the library are
compared in one step. Each test says which change would turn it red.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import struct
import subprocess
import warnings
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kaitaistruct import KaitaiStream, KaitaiStruct, ValidationFailedError

import emm
from emm import layout
from emm.codec.header import decode_header, geometry
from emm.codec.integrity import hash_block
from emm.codec.journal import PAYLOAD_BYTES_MAX, JournalRecord, decode_record, decode_segment_header, encode_record
from emm.codec.lineage import Lineage
from emm.codec.pairs import decode_commit, decode_expand, decode_pairs, decode_parameters, encode_pairs
from emm.codec.payload import decode_scalars
from emm.codec.snapshot import Snapshot, decode_snapshot, encode_snapshot
from emm.layout import GAIN_SCALARS, HEADER, LINEAGE, RECORD_HEADER, SEGMENT_HEADER, Record, RecordType
from emm.state import Parameters, empty_state
from tests.codec import builders

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "spec"
KAITAI = SPEC / "kaitai"
NO_NODE = "needs node and npm packages"


def parser(name: str) -> Any:
    """The class of a generated parser."""
    spec = importlib.util.spec_from_file_location(name, KAITAI / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, "".join(part.capitalize() for part in name.split("_")))


SNAPSHOT = parser("emm_v4")
SEGMENT = parser("emm_v4_journal")
TYPES = {**vars(SNAPSHOT), **vars(SEGMENT)}  # record and enumeration names occur in one of the two only


def parse(kind: Any, data: bytes, *arguments: Any) -> Any:
    return kind(*arguments, KaitaiStream(BytesIO(data)))


def fields(parsed: KaitaiStruct) -> dict[str, Any]:
    """What a parsed record holds, in the order it was read; a lineage's parameter is not part of it."""
    return {name: value for name, value in vars(parsed).items() if name[0] != "_" and name != "snapshot_generation"}


# --- the tables of emm/layout.py -----------------------------------------------------------------


def float32(number: float) -> float:
    return float(np.float32(number))


def restricted(record: Record, draw: random.Random) -> dict[str, Any]:
    """Random lawful values of the fields that the descriptions restrict."""
    if record is HEADER:
        rule, projection = draw.choice(list(layout.Rule)), draw.choice(list(layout.Projection))
        key_dim = draw.randint(16, 1 << 24)
        widest = draw.randint(1, key_dim // 16) * 16
        rank = -(-key_dim // 16) * 16 if projection is layout.Projection.NONE else widest
        shape = Parameters(draw.randint(1, 1 << 24), key_dim, rank, rule, projection)
        return {
            "magic": layout.SNAPSHOT_MAGIC,
            "version_major": layout.VERSION_MAJOR,
            "flags": draw.randrange(16),
            "dim": shape.dim,
            "key_dim": key_dim,
            "rank": rank,
            "dtype": layout.DTYPE_FLOAT32,
            "rule": rule,
            "projection": projection,
            "ridge": float32(2.0 ** draw.uniform(-20, 20)),
            "metadata_bytes": draw.randint(2, layout.METADATA_BYTES_MAX),
            "generation": draw.randint(1, 10**16 - 1),
            "payload_bytes": geometry(shape, 2).payload_bytes,
        }
    count = draw.randrange(layout.DEFERRED_MAX)
    number = draw.randint(1, 10**16 - 1)
    return {
        "Lineage": {
            "floor_generation": number,
            "segment_next": number ^ 1 or 1,
            "expand_at": float32(draw.random()),
            "origin": layout.Origin.CHECKPOINT,
        },
        "GainScalars": {
            "scale": float32(draw.random()),
            "leak": float32(draw.random() * 64),
            "count": count,
            "signs": draw.randrange(1 << count),
            "gram_trace": draw.random() * 1e300,
        },
        "SegmentHeader": {
            "magic": layout.SEGMENT_MAGIC,
            "version_major": layout.VERSION_MAJOR,
            "flags": 0,
            "segment": number,
            "first_lsn": draw.randint(1, 2**64 - 1),
            "floor_generation": draw.randint(1, 2**64 - 1),
        },
        "PairsHeader": {
            "n_pairs": draw.randint(1, 2**32 - 1),
            "key_dim": draw.randint(1, 1 << 24),
            "dim": draw.randint(0, 1 << 24),
            "rank": draw.randint(1, 1 << 20) * 16,
        },
        "ExpandPayload": {"rank": draw.randint(1, 1 << 20) * 16},
        "ParametersPayload": {"expand_at": float32(draw.random())},
        "CommitPayload": {"n_records": draw.randint(1, 2**32 - 1), "surprise": float32(draw.random() * 1e30)},
    }.get(record.name, {})


@pytest.mark.parametrize("record", layout.RECORDS, ids=lambda record: record.name)
def test_every_field_has_the_name_place_and_type_of_the_layout(record: Record) -> None:
    """Red when a field of a record is renamed, moved, resized or made (un)signed in the layout or in a ksy only."""
    draw = random.Random(record.name)
    for _ in range(60):
        noise = record.unpack(draw.randbytes(record.size))
        data = record.pack({**noise, **restricted(record, draw)})
        parsed = parse(TYPES[record.name], data, *([10**16 - 1] if record is LINEAGE else []))
        found, expected = fields(parsed), record.unpack(data)
        assert list(found) == [field.name for field in record.fields]
        for field in record.fields:
            value = found[field.name]
            if field.name.startswith("reserved") and isinstance(value, bytes):
                assert value == bytes(field.size)
            assert value == expected[field.name], field.name
            assert isinstance(value, bytes if field.format.endswith("s") else float if field.format in "fd" else int)
        assert parsed._io.is_eof(), "the ksy's record is shorter than the layout's"


def test_enumerations_are_those_of_the_layout() -> None:
    """Red when a member is added, renamed or renumbered on one side."""
    for kind in (layout.Rule, layout.Projection, layout.Flag, layout.Origin, layout.RecordType):
        assert {each.name: each.value for each in TYPES[kind.__name__]} == {
            each.name.lower(): each.value for each in kind
        }


# --- snapshots that emm writes ---------------------------------------------------------------------


def pairs(n: int, key_dim: int, dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.standard_normal((n, key_dim), np.float32) / 8, draw.standard_normal((n, dim), np.float32)


def numbers(rows: list[Any]) -> np.ndarray:
    return np.array([row.numbers for row in rows], np.float32)


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.shape == expected.shape and found.tobytes() == np.ascontiguousarray(expected, "<f4").tobytes()


def check_snapshot(data: bytes) -> Snapshot:
    """Compare a snapshot's every field and array, as Kaitai and as the library read them."""
    found, expected = parse(SNAPSHOT, data), decode_snapshot(data)
    header, lineage, mirror = found.header, found.lineage, found.mirror
    assert fields(header) == HEADER.unpack(data)
    assert fields(lineage) == LINEAGE.unpack(data, HEADER.size)
    parameters, shape = expected.state.parameters, decode_header(data).geometry
    assert (header.generation, header.lsn, header.uuid) == (expected.generation, expected.lsn, expected.uuid)
    assert (header.dim, header.key_dim, header.rank) == (parameters.dim, parameters.key_dim, parameters.rank)
    assert (header.rule, header.projection) == (parameters.rule, parameters.projection)
    assert (header.projection_seed, header.ridge) == (parameters.seed, parameters.ridge)
    flags = {flag for flag in layout.Flag if getattr(header, f"is_{flag.name.lower()}")}
    assert flags == set(expected.state.flags)
    assert {**asdict(expected.lineage), "reserved": bytes(27)} == fields(lineage)
    assert json.loads(found.metadata) == expected.metadata
    for name in ("n_blocks", "head_bytes", "payload_offset", "mirror_offset", "file_bytes"):
        assert getattr(found, name) == getattr(shape, name), name
    assert [fields(entry) for entry in found.table] == [asdict(hash_block(block)) for block in found.payload.blocks]
    check_payload(found.payload, expected)
    assert mirror.metadata == found.metadata
    assert fields(mirror.header) == fields(header) and fields(mirror.lineage) == fields(lineage)
    assert [fields(entry) for entry in mirror.table] == [fields(entry) for entry in found.table]
    return expected


def check_payload(payload: Any, snapshot: Snapshot) -> None:
    gain = snapshot.state.gain
    assert same(numbers(payload.m), snapshot.state.matrix)
    assert not any(payload.padding)
    if gain is None:
        assert payload.p is None and payload.u is None and payload.scalars is None
        return
    assert same(numbers(payload.p), gain.pbar) and same(numbers(payload.u), gain.u)
    scalars = fields(payload.scalars)
    assert scalars.pop("reserved") == bytes(40)
    assert scalars == {name: getattr(gain, name) for name in scalars}


@pytest.mark.parametrize(
    ("rule", "projection", "key_dim", "rank"),
    [
        ("outer-product", "hadamard", 64, 32),
        ("gated-delta", "hadamard", 64, 32),
        ("preconditioned", "hadamard", 200, 128),  # two blocks
        ("preconditioned", "none", 20, 32),
        ("gated-delta", "none", 32, 32),
    ],
)
def test_snapshots_of_every_rule_read_alike(
    tmp_path: Path, rule: str, projection: str, key_dim: int, rank: int
) -> None:
    """Red when the geometry, a region's place or order, the padding or the mirror changes in one reader only."""
    home = tmp_path / "memory"
    shape = {"dim": 16, "rank": rank, "key_dim": key_dim, "rule": rule, "projection": projection}
    with emm.create(str(home), **shape, ridge=0.25, seed=2**63 + 7, expand_at=0.5, metadata={"lab": "größe"}) as memory:
        memory.configure(expand_at=0.0)
        memory.write(*pairs(3, key_dim, 16), decay_gate=[1.0, 0.75, 0.5], write_gate=0.5)
        memory.checkpoint()
        memory.write(*pairs(20, key_dim, 16, seed=1))
        memory.forget(pairs(1, key_dim, 16)[0])
    snapshots = [check_snapshot(path.read_bytes()) for path in sorted(home.glob("*.emm"))]
    assert [each.generation for each in snapshots] == [1, 2, 3]
    assert snapshots[-1].state.flags == layout.Flag.DECAYED | layout.Flag.FORGOTTEN
    if rule == "preconditioned":
        assert snapshots[1].state.gain.count == 3 and snapshots[1].state.gain.leak > 0


def test_snapshots_of_other_origins_read_alike(tmp_path: Path) -> None:
    """Red when an origin is encoded otherwise than the ksy's enumeration and L-4 say."""
    for name in "ab":
        with emm.create(str(tmp_path / name), dim=8, rank=16, key_dim=40, expand_at=0.0) as memory:
            memory.write(*pairs(4, 40, 8, seed=ord(name)))
            memory.expand(32)
    with emm.merge([str(tmp_path / name) for name in "ab"], str(tmp_path / "both")):
        pass
    found = {check_snapshot(path.read_bytes()).lineage.origin for path in tmp_path.glob("*/*.emm")}
    assert found == {layout.Origin.CHECKPOINT, layout.Origin.RESOLVE, layout.Origin.MERGE}


@pytest.mark.parametrize(
    ("parameters", "fields_changed"),
    [
        (Parameters(1, 1, 16, layout.Rule.OUTER_PRODUCT, layout.Projection.NONE, 0, 2.0**-20), {"generation": 1}),
        (Parameters(1, 16, 16, projection=layout.Projection.NONE, ridge=2.0**20), {"generation": 10**16 - 1}),
        (Parameters(1, 16, 16, seed=2**64 - 1), {"lsn": 2**64 - 1}),
        (Parameters(16384, 16, 16, layout.Rule.GATED_DELTA), {}),  # exactly 16 blocks, no padding
    ],
)
def test_lawful_extremes_read_alike(parameters: Parameters, fields_changed: dict[str, Any]) -> None:
    """Red when a bound excludes its last lawful value, or a size that needs no padding is padded."""
    values = {"generation": 7, "lsn": 0, "uuid": builders.UUID, **fields_changed}
    generation = values["generation"]
    lineage = Lineage(time_us=-(2**63), floor_generation=generation, segment_next=10**16 - 1, expand_at=1.0)
    lineage = replace(lineage, origin=layout.Origin.MERGE)
    n_blocks = geometry(parameters, 2).n_blocks
    exact = 4096 - (HEADER.size + LINEAGE.size + layout.BLOCK_ENTRY.size * n_blocks)
    for metadata_bytes in (2, exact, exact + 1, layout.METADATA_BYTES_MAX):
        metadata = {"": "x" * (metadata_bytes - 7)} if metadata_bytes > 2 else {}
        data = encode_snapshot(Snapshot(empty_state(parameters), **values, lineage=lineage, metadata=metadata))
        check_snapshot(data)
        assert parse(SNAPSHOT, data).header.metadata_bytes == metadata_bytes


# --- journals that emm writes ----------------------------------------------------------------------


def records_of(segment: Any) -> list[Any]:
    return getattr(segment, "records", [])  # Kaitai leaves the attribute out when the first record is not framed


def library_records(data: bytes) -> list[JournalRecord]:
    """The records of a whole segment, by the codec."""
    uuid, offset, found = decode_segment_header(data).uuid, SEGMENT_HEADER.size, []
    while offset < len(data):
        found.append(decode_record(data[offset:], offset, uuid))
        offset += found[-1].size
    return found


def check_segment(data: bytes, key_dim: int, dim: int) -> list[RecordType]:
    """Compare a whole segment, field by field; its record types."""
    found, expected = parse(SEGMENT, data), library_records(data)
    assert fields(found.header) == SEGMENT_HEADER.unpack(data)
    assert found.tail == b""
    assert len(records_of(found)) == len(expected)
    for record, wanted in zip(records_of(found), expected, strict=True):
        assert record.offset == wanted.offset and record.end == wanted.offset + wanted.size
        assert fields(record.header) == RECORD_HEADER.unpack(data, wanted.offset)
        assert record.header.is_known and record.header.is_consistent
        assert record.payload.raw == wanted.payload and not any(record.padding)
        assert record.crc32 == int.from_bytes(data[record.end - 4 : record.end], "little")
        check_body(record.payload.body, wanted, key_dim, dim)
    return [record.type for record in expected]


def check_body(body: Any, record: JournalRecord, key_dim: int, dim: int) -> None:
    assert body.rest == b""
    kind = record.type
    if kind is RecordType.COMMIT:
        commit = decode_commit(record)
        found = fields(body.commit)
        assert found.pop("reserved") == bytes(4)
        assert found == {name: getattr(commit, name) for name in found}
    elif kind is RecordType.EXPAND:
        assert body.expand.rank == decode_expand(record)
    elif kind is RecordType.PARAMETERS:
        assert body.parameters.expand_at == decode_parameters(record)
    elif kind in (RecordType.WRITE, RecordType.UNLEARN, RecordType.FORGET):
        batch = decode_pairs(record, key_dim, dim)
        assert (body.pairs.n_pairs, body.pairs.key_dim, body.pairs.rank) == (len(batch), key_dim, batch.rank)
        assert body.pairs.dim == batch.values.shape[1] == (0 if kind is RecordType.FORGET else dim)
        assert same(numbers(body.keys), batch.keys)
        if kind is not RecordType.FORGET:
            assert same(numbers(body.values), batch.values)
            assert same(np.array([gate.beta for gate in body.write_gates]).astype("<f4"), batch.write_gates)
        if kind is RecordType.WRITE:
            assert same(np.array([gate.alpha for gate in body.decay_gates]).astype("<f4"), batch.decay_gates)
    else:
        assert fields(body) == {"rest": b""}


def written_life(home: Path) -> Path:
    """A memory's directory as a kill leaves it, after every operation that logs; key_dim 33 makes odd lengths."""
    with emm.create(str(home), dim=5, rank=16, key_dim=33, ridge=1.0, expand_at=0.0) as memory:
        keys, values = pairs(6, 33, 5)
        memory.write(keys[:3], values[:3], write_gate=[0.5, 1.0, 2.0])
        memory.configure(expand_at=0.25)
        memory.configure(expand_at=0.0)
        memory.checkpoint()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a bare expansion says what it costs
            memory.expand(32, bare=True)
        memory.unlearn(keys[1:3], values[1:3], write_gate=[1.0, 2.0], rank=16)
        memory.write(keys[3:], values[3:], decay_gate=[1.0, 1.0, 0.5])
        memory.forget(keys[:2])
        return Path(shutil.copytree(home, home.with_name("killed")))


def test_journals_of_every_record_type_read_alike(tmp_path: Path) -> None:
    """Red when a body's order, a gate's place, the padding or the record's length changes in one reader only."""
    home = tmp_path / "memory"
    killed = written_life(home)
    with emm.open(str(killed), "a") as memory:  # logs the tail again and proves it with a mark
        memory.write(*pairs(1, 33, 5, seed=9))
    seen = {}
    for path in sorted([*home.glob("*.wal"), *killed.glob("*.wal")]):
        seen[path.parent.name, path.stem] = check_segment(path.read_bytes(), 33, 5)
    assert {kind for kinds in seen.values() for kind in kinds} == set(RecordType)
    assert seen["memory", f"{2:016}"][-1] is RecordType.SEAL


def test_batch_of_several_records_reads_alike(tmp_path: Path) -> None:
    """Red when only the first record of a batch is found: pairs of two ranks are unlearned in one commit."""
    home = tmp_path / "memory"
    with emm.create(str(home), dim=8, rank=16, key_dim=64, expand_at=0.0) as memory:
        keys, values = pairs(8, 64, 8)
        memory.write(keys[:4], values[:4])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            memory.expand(32, bare=True)
        memory.write(keys[4:], values[4:])
        memory.unlearn(keys[[0, 5]], values[[0, 5]])
    kinds = [kind for path in sorted(home.glob("*.wal")) for kind in check_segment(path.read_bytes(), 64, 8)]
    assert kinds[-4:-1] == [RecordType.UNLEARN, RecordType.UNLEARN, RecordType.COMMIT]


def test_segment_cut_anywhere_gives_its_whole_records_and_a_tail(tmp_path: Path) -> None:
    """Red when a torn record is taken for a whole one, or makes the parser fail (R-6 wants it read as a tail)."""
    home = tmp_path / "memory"
    written_life(home)
    data = sorted(home.glob("*.wal"))[0].read_bytes()
    ends = [SEGMENT_HEADER.size] + [record.offset + record.size for record in library_records(data)]
    for size in range(SEGMENT_HEADER.size, len(data)):
        found = parse(SEGMENT, data[:size])
        whole = [end for end in ends if end <= size]
        assert [record.end for record in records_of(found)] == whole[1:]
        assert found.tail == data[whole[-1] : size]


def test_longest_record_is_framed_and_a_longer_one_is_not() -> None:
    """Red when S-3's limit is another one in the ksy than in the codec or on the page."""
    head = builders.segment_header().encode()
    longest = encode_record(RecordType.MARK, 5, 5, bytes(PAYLOAD_BYTES_MAX), builders.UUID)
    assert len(parse(SEGMENT, head + longest).records) == 1
    patch = field_patch(RECORD_HEADER, "length", layout.RECORD_BYTES_MAX - RECORD_HEADER.size - 4 + 1)
    too_long = builders.forge_record(longest + bytes(64), *patch)
    assert parse(SEGMENT, head + too_long).tail == too_long


def test_segment_with_flipped_bits_never_fails_past_its_header(tmp_path: Path) -> None:
    """Red when a record's frame is validated before a reader could compare its CRC."""
    home = tmp_path / "memory"
    written_life(home)
    data = sorted(home.glob("*.wal"))[-1].read_bytes()
    draw = random.Random(4)
    for _ in range(300):
        damaged = bytearray(data)
        damaged[draw.randrange(SEGMENT_HEADER.size, len(data))] ^= 1 << draw.randrange(8)
        found = parse(SEGMENT, bytes(damaged))
        end = max([record.end for record in records_of(found)], default=SEGMENT_HEADER.size)
        assert found.tail == damaged[end:]


# --- what the descriptions refuse ------------------------------------------------------------------


def refused_field(error: ValidationFailedError, record: Record) -> str:
    """The layout's name of the field that a validation error points at."""
    kind, _, index = error.src_path.removeprefix("/types/").partition("/seq/")
    assert TYPES["".join(part.capitalize() for part in kind.split("_"))].__name__ == record.name
    return record.fields[int(index)].name


def field_patch(record: Record, name: str, value: Any) -> tuple[int, bytes]:
    field = next(field for field in record.fields if field.name == name)
    return field.offset, struct.pack("<" + field.format, value)


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


# --- the generated parsers ---------------------------------------------------------------------------


def test_parsers_are_what_the_compiler_makes_of_the_descriptions(tmp_path: Path) -> None:
    """Red when a ksy was edited and `spec/kaitai/compile.mjs` was not run, or a parser was edited by hand."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip(NO_NODE)
    for name in ("compile.mjs", "package.json"):
        shutil.copy(KAITAI / name, tmp_path)
    install = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    quiet = {**os.environ, "NO_UPDATE_NOTIFIER": "1"}
    try:
        done = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=quiet)
    except subprocess.TimeoutExpired:
        pytest.skip(NO_NODE)
    if done.returncode:
        pytest.skip(NO_NODE)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    done = subprocess.run(
        ["node", "compile.mjs", str(SPEC), str(fresh)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    made = {path.name: path.read_text(encoding="utf-8") for path in fresh.iterdir()}
    kept = {path.name: path.read_text(encoding="utf-8") for path in KAITAI.glob("*.py")}
    assert made == kept, "run: cd spec/kaitai && npm install --no-package-lock && node compile.mjs"
