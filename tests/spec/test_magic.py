"""`spec/emm.magic` makes file(1) say what a snapshot or a segment is. Run with the real file(1)."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

import emm
from emm.layout import HEADER, SEGMENT_HEADER, SEGMENT_MAGIC, SNAPSHOT_MAGIC, VERSION_MAJOR, Record, Rule

MAGIC = Path(__file__).resolve().parents[2] / "spec" / "emm.magic"
RULES = {
    Rule.OUTER_PRODUCT: "outer product",
    Rule.GATED_DELTA: "gated delta",
    Rule.PRECONDITIONED: "preconditioned gated delta",
}


def file(*arguments: str | Path) -> str:
    if shutil.which("file") is None:
        pytest.skip("needs file(1)")
    command = ["file", "-m", str(MAGIC), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "arning" not in done.stderr, done.stderr
    return done.stdout.strip()


def noise(record: Record, draw: random.Random, **values: object) -> bytes:
    """A record with random bytes in every field not given."""
    drawn = record.unpack(draw.randbytes(record.size))
    return record.pack({**drawn, "version_major": VERSION_MAJOR, **values})


def test_snapshot_header_is_told_field_by_field(tmp_path: Path) -> None:
    """Red when a field that the magic prints moves, is resized or changes its sign in the layout or there only."""
    draw = random.Random(1)
    for index in range(12):
        data = noise(HEADER, draw, magic=SNAPSHOT_MAGIC, rule=Rule(index % 3))
        path = tmp_path / f"{index}.emm"
        path.write_bytes(data)
        of = HEADER.unpack(data)
        assert file("-b", path) == (
            f"EMM matrix memory snapshot, version 4.{of['version_minor']}, dim x rank {of['dim']} x {of['rank']}, "
            f"key_dim {of['key_dim']}, rule {RULES[Rule(of['rule'])]}, generation {of['generation']}, LSN {of['lsn']}"
        )


def test_segment_header_is_told_field_by_field(tmp_path: Path) -> None:
    """Red when a field that the magic prints moves, is resized or changes its sign in the layout or there only."""
    draw = random.Random(2)
    for index in range(6):
        data = noise(SEGMENT_HEADER, draw, magic=SEGMENT_MAGIC)
        path = tmp_path / f"{index}.wal"
        path.write_bytes(data)
        of = SEGMENT_HEADER.unpack(data)
        assert file("-b", path) == (
            f"EMM matrix memory journal segment, version 4.{of['version_minor']}, segment {of['segment']}, "
            f"first LSN {of['first_lsn']}, rank {of['rank']}"
        )


def test_files_of_a_memory_are_told(tmp_path: Path) -> None:
    """Red when `emm` writes another magic, or the description stops at the header's first bytes."""
    home = tmp_path / "memory"
    with emm.create(str(home), dim=3, rank=16, key_dim=20, rule="gated-delta", expand_at=0.0) as memory:
        memory.write([[1.0] * 20], [[1.0, 2.0, 3.0]])
    newest, segment = sorted(home.glob("*.emm"))[-1], sorted(home.glob("*.wal"))[-1]
    shape = "dim x rank 3 x 16, key_dim 20, rule gated delta"
    assert file("-b", newest) == f"EMM matrix memory snapshot, version 4.0, {shape}, generation 2, LSN 1"
    assert file("-b", segment).startswith("EMM matrix memory journal segment, version 4.0, segment 1, first LSN 1")
    for path, kind in ((newest, "application/x-emm"), (segment, "application/x-emm-journal")):
        assert file("-b", "--mime-type", path) == kind
        assert file("-b", "--extension", path) == path.suffix[1:]


@pytest.mark.parametrize(("record", "magic"), [(HEADER, SNAPSHOT_MAGIC), (SEGMENT_HEADER, SEGMENT_MAGIC)])
def test_another_version_is_named_and_nothing_else_is_claimed(tmp_path: Path, record: Record, magic: bytes) -> None:
    """Red when fields of a version that is not 4 are printed as if they were (H-3, J-3)."""
    path = tmp_path / "later"
    path.write_bytes(noise(record, random.Random(3), magic=magic, version_major=5, version_minor=1))
    assert file("-b", path).endswith(", version 5.1")


def test_file_damaged_by_text_mode_is_not_taken_for_emm(tmp_path: Path) -> None:
    """Red when the magic is matched only in part (H-1): CR LF became LF, or the top bit was lost."""
    data = noise(HEADER, random.Random(4), magic=SNAPSHOT_MAGIC)
    for damaged in (data.replace(b"\r\n", b"\n", 1), bytes([data[0] & 0x7F]) + data[1:]):
        path = tmp_path / "damaged"
        path.write_bytes(damaged)
        assert "EMM" not in file("-b", path)
