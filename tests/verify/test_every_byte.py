"""Every byte of a small closed memory is damaged, one at a time; verify sees each, and says where.

The bug class: a byte that no checksum covers (padding, reserved fields, a mirror nobody reads). Each flip changes
one bit, a different one at each position. Red when: any range of the file drops out of its checksum or of the
comparison with the mirror, the padding checks go, a journal record's CRC no longer covers its padding, or a
damaged block is blamed on the wrong rows.
"""

from __future__ import annotations

import numpy as np
import pytest

from emm.codec.integrity import BlockEntry, hash_block
from emm.layout import BLOCK_BYTES, HEADER, SEGMENT_HEADER
from emm.testing import FrozenDirectory
from emm.verify import Severity, verify
from emm.verify.bitflip import BitFlip, locate
from emm.verify.levels import Options
from emm.verify.memory import check_memory
from emm.verify.snapshot import FROM_HEAD, FROM_MIRROR, SnapshotCheck
from emm.verify.verdict import Verdict, verdict_of, worst

NEWEST = "0000000000000003.emm"


def mask(position: int) -> int:
    return 1 << (position * 5 + position // 8) % 8


def check(directory: FrozenDirectory, name: str = NEWEST) -> list:
    return list(SnapshotCheck(directory, name, Options(), int(name[:16])).run())


def test_the_memory_itself_is_clean(small):
    """Red when a whole memory gets any finding."""
    assert check_memory(FrozenDirectory(small), Options()).findings == []


def test_every_byte_of_a_snapshot(small):
    data = bytearray(small[NEWEST])
    directory = FrozenDirectory({NEWEST: data})
    probe = SnapshotCheck(directory, NEWEST, Options(), 3)
    assert list(probe.run()) == []
    shape = probe.head.geometry
    row_bytes = 16 * 4
    for position in range(len(data)):
        data[position] ^= mask(position)
        findings = check(directory)
        data[position] ^= mask(position)
        assert len(findings) == 1, (position, findings)
        (only,) = findings
        assert only.severity is Severity.DAMAGE and only.offset == position and only.length == 1, (position, only)
        if position < shape.payload_offset:
            assert only.code in ("header-damaged", "head-damaged") and only.repair == FROM_MIRROR, (position, only)
            assert position >= HEADER.size or only.code == "header-damaged"
        elif position < shape.mirror_offset:
            inside = position - shape.payload_offset
            assert only.code == "block-damaged" and only.block == 0, (position, only)
            if inside < shape.payload_bytes:
                region = next(r for r in reversed(shape.regions) if r.offset <= inside)
                row = 0 if region.name == "scalars" else (inside - region.offset) // row_bytes
                assert (only.region, only.rows) == (region.name, (row, row)), (position, only)
                if region.name != "scalars":
                    column = (inside - region.offset) % row_bytes // 4
                    assert only.columns == (column, column), (position, only)
            else:
                assert only.region == "padding", (position, only)
        else:
            assert only.code == "mirror-damaged" and only.repair == FROM_HEAD, (position, only)


@pytest.mark.parametrize("name", ["0000000000000001.wal", "0000000000000002.wal"])
def test_every_byte_of_the_journal(small, name):
    """Commits are all in the newest snapshot, so every flip is damage that can be mended, never a torn tail."""
    data = bytearray(small[name])
    directory = FrozenDirectory({**small, NEWEST: small[NEWEST], name: data})
    for position in range(len(data)):
        data[position] ^= mask(position)
        findings = check_memory(directory, Options()).findings
        data[position] ^= mask(position)
        assert worst(map(verdict_of, findings)) is Verdict.REPAIRABLE, (position, findings)
        assert all(each.file.endswith(name) for each in findings), (position, findings)
        if position < SEGMENT_HEADER.size:
            assert findings[0].code == "segment-header-damaged", (position, findings)
        else:
            assert findings[0].code == "record-damaged" and findings[0].offset <= position, (position, findings)


def test_bytes_of_the_whole_memory_through_the_front_door(small, small_path, tmp_path):
    """The same through `verify` on a real directory, at a sample of positions of every file."""
    for name, content in small.items():
        (tmp_path / name).write_bytes(content)
    for name, content in small.items():
        for position in [*range(0, len(content), max(1, len(content) // 40)), len(content) - 1]:
            damaged = bytearray(content)
            damaged[position] ^= mask(position)
            (tmp_path / name).write_bytes(damaged)
            report = verify(tmp_path)
            assert (report.verdict, report.exit_code) == ("damaged-repairable", 3), (name, position, report.findings)
        (tmp_path / name).write_bytes(content)
    assert verify(tmp_path).verdict == "clean"


def test_a_burst_in_a_block_names_the_rows_it_holds(wide):
    """More than one bit is wrong, so the block is named, with exactly the rows that lie in it."""
    name = "0000000000000002.emm"
    data = bytearray(wide[name])
    directory = FrozenDirectory({name: data})
    shape = SnapshotCheck(directory, name, Options(), 2)
    list(shape.run())
    geometry = shape.head.geometry
    row_bytes, rng = 256 * 4, np.random.default_rng(0)
    for block in range(geometry.n_blocks):
        position = geometry.payload_offset + block * BLOCK_BYTES + int(rng.integers(0, BLOCK_BYTES - 64))
        before = bytes(data[position : position + 64])
        data[position : position + 64] = bytes(each ^ 0xFF for each in before)
        (only,) = check(directory, name)
        data[position : position + 64] = before
        assert (only.code, only.block, only.repair, only.length) == ("block-damaged", block, None, BLOCK_BYTES)
        first, last = block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES
        expected = []
        for region, start, n_rows in (("M", 0, 96), ("P", 96 * row_bytes, 256), ("U", 352 * row_bytes, 16)):
            rows = [r for r in range(n_rows) if start + r * row_bytes < last and start + (r + 1) * row_bytes > first]
            if rows:
                expected.append((region, (rows[0], rows[-1])))
        assert [(span.region, span.rows) for span in only.spans if span.region in "MPU"] == expected
        assert (only.region, only.rows) == expected[0]
    assert check(directory, name) == []


def test_a_single_bit_is_located_to_row_and_column(wide):
    """Red when the CRC's syndrome is read from the wrong end, or the SHA-256 proof is dropped."""
    name = "0000000000000002.emm"
    data = bytearray(wide[name])
    directory = FrozenDirectory({name: data})
    rng = np.random.default_rng(1)
    for _ in range(40):
        row, column, byte, bit = (int(rng.integers(n)) for n in (96, 256, 4, 8))
        position = 4096 + (row * 256 + column) * 4 + byte
        data[position] ^= 1 << bit
        (only,) = check(directory, name)
        data[position] ^= 1 << bit
        assert (only.region, only.rows, only.columns) == ("M", (row, row), (column, column))
        assert only.offset == position and f"bit {bit} of byte {position}" in only.repair


def test_a_bit_is_only_put_back_when_the_sha_256_proves_it():
    """The CRC alone would explain it with one bit. Red when the SHA-256 is not asked."""
    block = bytes(range(256)) * 256
    wanted = bytearray(block)
    wanted[777] ^= 8
    right = hash_block(bytes(wanted))
    assert locate(block, right) == BitFlip(777, 3, block[777], wanted[777])
    assert locate(block, BlockEntry(right.crc32, bytes(32))) is None
    assert locate(block, hash_block(bytes(BLOCK_BYTES))) is None
