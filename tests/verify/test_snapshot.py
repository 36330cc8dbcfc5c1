"""What verify says of one snapshot: both copies of its head, cuts, hostile headers, rules behind checksums.

Each test says which change to `emm/verify/snapshot.py` or `head_copies.py` would turn it red.
"""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

import emm
from emm.codec.header import Header, decode_header, encode_header
from emm.codec.integrity import crc32, hash_payload
from emm.codec.payload import encode_payload
from emm.codec.snapshot import decode_snapshot, encode_head, encode_snapshot
from emm.errors import StorageError
from emm.layout import BLOCK_BYTES, HEADER, LINEAGE
from emm.testing import FrozenDirectory
from emm.verify.levels import Level, Options
from emm.verify.memory import check_memory
from emm.verify.single import check_file
from emm.verify.snapshot import FROM_BOTH, FROM_HEAD, FROM_MIRROR
from emm.verify.verdict import Verdict, verdict_of, worst

NAME = "0000000000000002.emm"


def check(data, name=NAME, level=Level.BLOCKS):
    checked = check_file(FrozenDirectory({name: data}), name, Options(level))
    return worst(map(verdict_of, checked.findings)), checked.findings


def codes(findings):
    return [each.code for each in findings]


def shape_of(data):
    return decode_header(data).geometry


def flip(data, *positions):
    damaged = bytearray(data)
    for position in positions:
        damaged[position] ^= 4
    return bytes(damaged)


# --- lengths --------------------------------------------------------------------------------------


def lengths(shape):
    marks = (0, 1, 8, HEADER.size, 288, shape.metadata_offset, shape.head_bytes, shape.payload_offset)
    marks += (shape.payload_offset + BLOCK_BYTES, shape.payload_offset + shape.payload_bytes)
    marks += (shape.mirror_offset, shape.file_bytes - HEADER.size, shape.file_bytes)
    return sorted({mark + step for mark in marks for step in (-1, 0, 1) if 0 <= mark + step < shape.file_bytes})


def test_a_cut_at_every_kind_of_place_is_seen(wide):
    """Red when the length that follows from the header is not compared, or a cut block is hashed as if whole."""
    data = wide[NAME]
    shape = shape_of(data)
    for length in lengths(shape):
        verdict, findings = check(data[:length])
        if length == 0:
            assert verdict is Verdict.REFUSED and codes(findings) == ["not-emm"]
        elif length < shape.payload_offset:
            assert verdict is Verdict.LOSS, (length, findings)
        elif length < shape.payload_offset + shape.payload_bytes - 40:  # the last 40 bytes are reserved zeros
            assert verdict is Verdict.LOSS and "truncated" in codes(findings), (length, findings)
            cut = next(each for each in findings if each.code == "truncated")
            lost = max(0, length - shape.payload_offset) // BLOCK_BYTES
            assert cut.rows[0] == (lost * BLOCK_BYTES // 1024 if lost < 2 else cut.rows[0]) and cut.repair is None
        else:
            assert verdict is Verdict.REPAIRABLE and codes(findings) == ["truncated"], (length, findings)
            assert FROM_HEAD in findings[0].repair


def test_every_cut_of_a_small_snapshot_is_seen(small):
    """Red when any length is taken for whole."""
    data = small["0000000000000003.emm"]
    for length in [*range(0, 4200), *range(4200, len(data), 331), *range(len(data) - 400, len(data))]:
        verdict, findings = check(data[:length], "0000000000000003.emm")
        assert verdict in (Verdict.LOSS, Verdict.REPAIRABLE, Verdict.REFUSED) and findings, length


def test_bytes_after_the_mirror_are_damage_that_can_be_left_out(wide):
    """Red when the end of the file is found by its length alone: the mirror would then be read from garbage."""
    for extra in (b"\0", b"x" * 500, b"y" * 70000):
        verdict, findings = check(wide[NAME] + extra)
        assert verdict is Verdict.REPAIRABLE and codes(findings) == ["trailing-bytes"]
        assert (findings[0].offset, findings[0].length) == (len(wide[NAME]), len(extra))


# --- the two copies of the head -------------------------------------------------------------------


def test_two_copies_damaged_in_different_parts_make_one_whole_head(wide):
    """Red when only whole copies are tried. Header, lineage, table and metadata are exchanged one by one."""
    data = wide[NAME]
    shape = shape_of(data)
    head = {"header": 70, "lineage": 140, "table": shape.table_offset + 3, "metadata": shape.metadata_offset}
    split = shape.mirror_offset + shape.table_bytes
    metadata_bytes = shape.head_bytes - shape.metadata_offset
    mirror = {
        "table": shape.mirror_offset + 50,
        "metadata": split,
        "lineage": split + metadata_bytes + 20,
        "header": shape.file_bytes - 40,
    }
    for first in head:
        for second in mirror:
            verdict, findings = check(flip(data, head[first], mirror[second]))
            damaged = {each.code for each in findings}
            if first != second:
                assert verdict is Verdict.REPAIRABLE, (first, second, findings)
                assert all(each.repair == FROM_BOTH for each in findings) and "mirror-damaged" in damaged
            else:
                assert verdict is Verdict.LOSS, (first, second, findings)


def test_a_mirror_is_compared_even_when_it_is_valid_by_itself(wide):
    """Another valid head in the mirror's place. Red when both copies are only checked by their own SHA-256."""
    snapshot = decode_snapshot(wide[NAME])
    other = encode_snapshot(replace(snapshot, lsn=snapshot.lsn + 1))
    shape = shape_of(wide[NAME])
    verdict, findings = check(wide[NAME][: shape.mirror_offset] + other[shape.mirror_offset :])
    assert verdict is Verdict.REPAIRABLE and codes(findings) == ["mirror-damaged"] and findings[0].rule == "T-4"


def test_blocks_are_checked_by_the_mirror_when_the_head_is_gone(wide):
    """Red when a damaged head ends the check: the payload's damage would go unsaid."""
    data = bytearray(wide[NAME])
    data[:4000] = bytes(each ^ 0x5A for each in data[:4000])
    data[4096 + BLOCK_BYTES + 5] ^= 1
    verdict, findings = check(bytes(data))
    assert codes(findings) == ["header-damaged", "block-damaged"] and findings[0].repair == FROM_MIRROR
    assert findings[1].block == 1 and verdict is Verdict.REPAIRABLE


def test_levels_look_as_far_as_they_say(wide):
    """Red when a level reads less, or more, than its name."""
    data = wide[NAME]
    shape = shape_of(data)
    in_lineage, in_block, in_mirror = flip(data, 200), flip(data, 70000), flip(data, shape.mirror_offset + 3)
    for level, seen in (
        (Level.HEADER, (False, False, False)),
        (Level.TABLE, (True, False, True)),
        (Level.BLOCKS, (True, True, True)),
        (Level.NUMERIC, (True, True, True)),
    ):
        found = tuple(bool(check(each, level=level)[1]) for each in (in_lineage, in_block, in_mirror))
        assert found == seen, level
    checked = check_file(FrozenDirectory({NAME: data}), NAME, Options(Level.HEADER))
    assert checked.coverage.bytes_read == HEADER.size and not checked.coverage.complete


# --- hostile headers ------------------------------------------------------------------------------


def header_with(data, **changes):
    """The file with header fields changed and its CRC made to fit."""
    values = HEADER.unpack(data) | changes
    packed = HEADER.pack(values)
    return packed[:124] + crc32(packed[:124]).to_bytes(4, "little") + data[HEADER.size :]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"dim": 1 << 24, "rank": 1 << 24, "key_dim": 1 << 24}, "header-damaged"),
        ({"dim": 0}, "header-damaged"),
        ({"dim": (1 << 32) - 1}, "header-damaged"),
        ({"rank": 24}, "header-damaged"),
        ({"ridge": float("nan")}, "header-damaged"),
        ({"ridge": 0.0}, "header-damaged"),
        ({"payload_bytes": 1 << 63}, "header-damaged"),
        ({"metadata_bytes": (1 << 32) - 1}, "header-damaged"),
        ({"generation": 0}, "header-damaged"),
        ({"version_major": 5}, "unsupported"),
        ({"flags": 1 << 31}, "unsupported"),
        ({"dtype": 7}, "unsupported"),
        ({"rule": 9}, "unsupported"),
        ({"projection": 9}, "unsupported"),
    ],
)
def test_a_hostile_header_is_refused_before_anything_is_allocated(small, changes, code):
    """Red when a size is believed before it is checked against the limits and the file."""
    data = header_with(small["0000000000000003.emm"], **changes)
    data = data[: -HEADER.size] + data[: HEADER.size]  # the mirror says the same
    tracemalloc.start()
    verdict, findings = check(data, "copy.emm")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert findings[0].code == code and findings[0].rule, findings
    assert verdict is (Verdict.REFUSED if code == "unsupported" else Verdict.LOSS)
    assert peak < 4 << 20


def test_a_state_over_the_limit_is_refused_with_its_rule(small):
    """A consistent header of 2 GiB. Red when the limit is asked after the file is."""
    header = decode_header(small["0000000000000003.emm"])
    huge = replace(header.parameters, dim=1 << 24, rank=32, key_dim=32)
    data = encode_header(Header(huge, header.flags, 3, 0, header.uuid, header.metadata_bytes, header.sha256)) + bytes(
        10000
    )
    verdict, findings = check(data, "copy.emm")
    assert verdict is Verdict.REFUSED and codes(findings) == ["over-limit"] and findings[0].rule == "S-1"


def test_a_shape_larger_than_its_file_is_truncated_not_believed(small):
    """Red when the table is read before the file's length is compared."""
    header = decode_header(small["0000000000000003.emm"])
    large = replace(header.parameters, dim=1 << 20)
    data = encode_header(Header(large, header.flags, 3, 0, header.uuid, header.metadata_bytes, header.sha256))
    verdict, findings = check(data + bytes(10000), "copy.emm")
    assert verdict is Verdict.LOSS and codes(findings)[0] == "head-damaged", findings


# --- rules that checksums cannot hold -------------------------------------------------------------


def sealed(snapshot, change):
    """The file of a snapshot whose padded payload was changed before it was hashed."""
    payload = encode_payload(snapshot.state)
    change(payload)
    head, mirror = encode_head(snapshot, hash_payload(payload))
    return head + bytes(payload) + mirror


def test_a_payload_that_breaks_a_rule_under_valid_checksums_is_invalid(small):
    """Red when verify stops at checksums: such a memory does not open."""
    snapshot = decode_snapshot(small["0000000000000003.emm"])
    scalars = 3 * 16 * 64
    assert check(sealed(snapshot, lambda payload: None), "0000000000000003.emm")[1] == []
    count = snapshot.state.gain.count
    for position, value, rule in (
        (len(encode_payload(snapshot.state)) - 1, 1, "P-2"),
        (scalars + 64, 1, "P-2"),
        (scalars + 8, 200, "P-4"),
        (scalars + 40, 1, "P-4"),
        (2 * 16 * 64 + count * 64, 1, "P-6"),
    ):
        data = sealed(snapshot, lambda payload, p=position, v=value: payload.__setitem__(p, v))
        with pytest.raises(emm.EmmError):
            decode_snapshot(data)
        verdict, findings = check(data, "0000000000000003.emm")
        assert verdict is Verdict.LOSS and codes(findings) == ["payload-invalid"], (position, findings)
        assert findings[0].rule == rule


def test_a_lineage_that_breaks_a_rule_under_valid_checksums_is_damage(small):
    """Red when the lineage is not decoded at level table."""
    snapshot = decode_snapshot(small["0000000000000003.emm"])
    data = encode_snapshot(replace(snapshot, lineage=replace(snapshot.lineage, floor_generation=9)))
    verdict, findings = check(data, "0000000000000003.emm", Level.TABLE)
    assert verdict is Verdict.LOSS and findings[0].code == "head-damaged" and findings[0].rule == "L-4"
    assert HEADER.size + LINEAGE.size == shape_of(data).table_offset


def test_a_file_under_another_generations_name_is_wrong(small):
    """Red when N-2 is not checked."""
    verdict, findings = check(small["0000000000000003.emm"], NAME)
    assert verdict is Verdict.LOSS and codes(findings) == ["wrong-name"] and findings[0].rule == "N-2"
    assert check(small["0000000000000003.emm"], "backup.emm") == (Verdict.CLEAN, [])


def flawed(small, change):
    snapshot = decode_snapshot(small["0000000000000003.emm"])
    state = snapshot.state.copy()
    change(state)
    return encode_snapshot(replace(snapshot, state=state))


@pytest.mark.parametrize(
    ("change", "code", "where"),
    [
        (lambda s: s.matrix.__setitem__((3, 5), np.nan), "not-finite", ("M", (3, 3), (5, 5))),
        (lambda s: s.gain.pbar.__setitem__((2, 9), np.inf), "not-finite", ("P", (2, 2), (9, 9))),
        (
            lambda s: s.gain.pbar.__setitem__((7, 4), np.nextafter(s.gain.pbar[7, 4], np.float32(9e9))),
            "gain-not-symmetric",
            ("P", (4, 4), (7, 7)),
        ),
        (lambda s: s.gain.pbar.__setitem__((6, 6), np.float32(70.0)), "gain-out-of-bounds", ("P", (6, 6), (6, 6))),
        (lambda s: s.gain.pbar.__setitem__((6, 6), np.float32(-1.0)), "gain-out-of-bounds", ("P", (6, 6), (6, 6))),
        (
            lambda s: [s.gain.pbar.__setitem__(ij, np.float32(600.0)) for ij in ((1, 2), (2, 1))],
            "gain-out-of-bounds",
            ("P", (1, 1), (2, 2)),
        ),
    ],
)
def test_p5_the_numeric_level_finds_states_that_arithmetic_cannot_reach(small, change, code, where):
    """Red when one of P-5's bounds is dropped, or its element misnamed."""
    data = flawed(small, change)
    assert check(data, "0000000000000003.emm")[1] == []  # whole by its checksums
    verdict, findings = check(data, "0000000000000003.emm", Level.NUMERIC)
    assert verdict is Verdict.LOSS and findings[0].code == code, findings
    assert (findings[0].region, findings[0].rows, findings[0].columns) == where


def test_real_states_pass_the_numeric_level(tmp_path):
    """After many writes, with decay, unlearning and forgetting. Red when a bound is tighter than the arithmetic."""
    rng = np.random.default_rng(0)
    with emm.create(tmp_path / "m", dim=16, rank=32, key_dim=48, expand_at=0) as memory:
        keys = rng.standard_normal((400, 48)).astype("f4") + 0.5
        values = rng.standard_normal((400, 16)).astype("f4")
        memory.write(keys, values, write_gate=rng.uniform(0.1, 8, 400).astype("f4"))
        memory.checkpoint()
        memory.forget(keys[:3])
        memory.write(keys[:50], values[:50], decay_gate=0.99)
    files = {each.name: each.read_bytes() for each in (tmp_path / "m").iterdir()}
    checked = check_memory(FrozenDirectory(files), Options(Level.NUMERIC))
    assert checked.findings == [] and checked.coverage.snapshots_compared == 2
    assert checked.coverage.commits_replayed == checked.coverage.commits == 3


# --- the medium -----------------------------------------------------------------------------------


class BadSector(FrozenDirectory):
    """Reads that touch one byte fail."""

    bad = 0

    def read_at(self, name, offset, length):
        if offset <= self.bad < offset + length:
            raise StorageError("cannot read: Input/output error", file=f"{self.url}/{name}")
        return super().read_at(name, offset, length)


def test_a_bad_sector_is_unknown_and_the_rest_is_still_checked(wide):
    """Red when an I/O error is called damage, or ends the check."""
    data = flip(wide[NAME], 4096 + 2 * BLOCK_BYTES + 9)
    directory = BadSector({NAME: data})
    directory.bad = 4096 + 70000
    checked = check_file(directory, NAME, Options())
    assert codes(checked.findings) == ["unreadable", "block-damaged"]
    assert checked.findings[0].block == 1 and checked.findings[0].rows == (64, 95)
    directory.bad = 200
    checked = check_file(directory, NAME, Options())
    assert worst(map(verdict_of, checked.findings)) is Verdict.INDETERMINATE


def test_replay_finds_a_snapshot_that_the_journal_does_not_give(small):
    """A forged newest snapshot, valid by every checksum. Red when digests are not compared."""
    forged = flawed(small, lambda s: s.matrix.__setitem__((0, 0), np.float32(1.0)))
    files = small | {"0000000000000003.emm": forged}
    assert check_memory(FrozenDirectory(files), Options()).findings == []
    checked = check_memory(FrozenDirectory(files), Options(Level.REPLAY))
    assert codes(checked.findings) == ["replay-differs"] and checked.findings[0].rule == "R-7"


def test_replay_that_asks_for_too_much_is_refused(tmp_path):
    """A small file may ask to expand beyond the limit. Red when the limit does not hold for replay."""
    with emm.create(tmp_path / "m", dim=16, rank=128, key_dim=256, expand_at=0) as memory:
        memory.expand(256, bare=True)
    files = {each.name: each.read_bytes() for each in (tmp_path / "m").iterdir() if each.name[:16].endswith("1")}
    checked = check_memory(FrozenDirectory(files), Options(Level.REPLAY, state_bytes_max=200_000))
    assert codes(checked.findings) == ["over-limit"] and checked.findings[0].rule == "S-1", checked.findings
