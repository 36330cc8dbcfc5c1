"""The Kaitai Struct descriptions say what `emm/layout.py` says, and read what `emm` writes.

Everything goes through the generated parsers under `spec/kaitai/`, so a description, its parser and the library are
compared in one step. Each test says which change would turn it red.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kaitaistruct import KaitaiStruct

import emm
from emm import layout
from emm.codec.header import decode_header, geometry
from emm.codec.integrity import hash_block
from emm.codec.journal import PAYLOAD_BYTES_MAX, JournalRecord, decode_record, decode_segment_header, encode_record
from emm.codec.lineage import Lineage
from emm.codec.pairs import decode_commit, decode_expand, decode_pairs, decode_parameters
from emm.codec.snapshot import Snapshot, decode_snapshot, encode_snapshot
from emm.layout import HEADER, LINEAGE, RECORD_HEADER, SEGMENT_HEADER, Record, RecordType
from emm.state import Parameters, empty_state
from spec.vectors.catalog import MANIFEST, all_cases
from tests.codec import builders
from tests.spec.kaitai_parsers import KAITAI, SEGMENT, SNAPSHOT, SPEC, TYPES, field_patch, parse, records_of

NO_NODE = "needs node and npm packages"


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
        "ReadScalars": {"floor": 2.0 ** draw.uniform(-1021, 980), "query_length": draw.randrange(2)},
        "SegmentHeader": {
            "magic": layout.SEGMENT_MAGIC,
            "version_major": layout.VERSION_MAJOR,
            "flags": 0,
            "segment": number,
            "first_lsn": draw.randint(1, 2**64 - 1),
            "floor_generation": draw.randint(1, 2**64 - 1),
            "rank": draw.randint(1, 1 << 20) * 16,
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


# --- the conformance vectors -----------------------------------------------------------------------


def test_every_good_vector_reads_alike() -> None:
    """Red when a lawful file that no other test writes (a longest head, a last LSN, an odd origin) reads otherwise.

    Of a torn journal, the whole records are read, and its end is where one of them ends.
    """
    entries = {entry["name"]: entry for entry in json.loads(MANIFEST.read_text(encoding="utf-8"))["cases"]}
    seen: set[bytes] = set()
    with_tail = set()
    for case in all_cases():
        entry = entries[case.name]
        if entry["verdict"] not in ("clean", "clean-unsealed", "torn-or-damaged-tail"):
            continue
        shape = (0, 0)
        for name, data in sorted(case.files.items()):  # a snapshot before the segment of its number
            if name.endswith(".emm") and name[:-4].isdigit():
                header = parse(SNAPSHOT, data).header
                shape = (header.key_dim, header.dim)
                if data not in seen:
                    check_snapshot(data)
            elif name.endswith(".wal") and name[:-4].isdigit():
                found = parse(SEGMENT, data)
                if entry["verdict"] == "torn-or-damaged-tail" and name == entry["file"]:
                    assert entry["offset"] in [128, *(record.end for record in records_of(found))], case.name
                    continue
                if found.tail:
                    with_tail.add(case.name)
                if case.target is None and data not in seen:
                    check_segment(data[: len(data) - len(found.tail)], *shape)
            else:
                continue
            seen.add(data)
    assert with_tail == {"dead-torn-bytes"}
    assert len(seen) > 140


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
