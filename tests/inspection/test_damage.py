"""Views of damaged memories: each goes as far as the bytes allow, shows nothing it cannot believe, and says where it
stopped.

Red when: a damaged head hides the mirror, a cut file hides its whole blocks, a row out of a damaged block is shown or
takes part in a measure, or damage is told of the wrong rows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import emm
from emm import inspection


def newest(path: Path) -> Path:
    return sorted(path.glob("*.emm"))[-1]


def offset_of(path: Path, region: str) -> int:
    return next(each.offset for each in emm.inspect(path).regions if each.name == region)


def test_a_header_that_nobody_believes_is_still_shown(lived: Path, flip) -> None:
    flip(newest(lived), 16)  # dim
    found = inspection.header(lived)
    head, mirror = (next(r for r in found.records if (r.record, r.copy) == ("header", c)) for c in ("head", "mirror"))
    assert found.exit_code == 4 and "CRC-32" in (head.problem or "") and mirror.problem is None
    stored = {field.name: field.value for field in head.fields}
    assert stored["dim"] == 320 ^ 0x20 and stored["rank"] == 64
    assert found.differs == ("header.dim",) and found.metadata == {"name": "lived"}


def test_a_damaged_head_is_passed_over_for_the_mirror(lived: Path, flip) -> None:
    whole = inspection.blocks(lived)
    flip(newest(lived), 200)  # in the lineage
    found = inspection.blocks(lived)
    assert found.head_from == "mirror" and "SHA-256" in (found.head_problem or "")
    assert found.blocks == whole.blocks and found.damaged == ()
    snapshot = emm.inspect(lived).snapshots[-1]
    assert snapshot.head_from == "mirror" and snapshot.lsn == 6 and snapshot.problem


def test_a_cut_file_shows_the_blocks_that_are_left(lived: Path) -> None:
    path = newest(lived)
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[: offset_of(lived, "M") + 65536 + 1000])
    found = inspection.blocks(path)
    assert found.head_from == "head" and "missing" in (found.blocks[1].problem or "")
    assert [each.problem is None for each in found.blocks] == [True, False]
    shown = inspection.rows(path, 254, 257)  # 256 rows of 256 bytes in a block
    assert [row.problem is None for row in shown.rows] == [True, True, False, False] and shown.exit_code == 4


def test_rows_of_a_damaged_block_are_left_out_of_every_measure(lived: Path, flip) -> None:
    path = newest(lived)
    with emm.open(lived) as memory:
        matrix = memory.matrix.astype(np.float64)
    flip(path, offset_of(lived, "M") + 65536 + 5, 3)
    found = inspection.spectrum(path)
    assert found.n_rows_left_out == 64 and found.exit_code == 4 and "block 1" in (found.problem or "")
    assert found.values == pytest.approx(np.linalg.svd(matrix[:256], compute_uv=False), abs=1e-5)
    with inspection.opened(path) as place:
        m = inspection.newest_matrix(place)
        cells = inspection.heat_map(m, cells_max=64)
    assert m.bad_rows == ((256, 319),) and m.state is None and not m.rows[256:].any()
    assert np.array_equal(np.isnan(cells.cells).all(axis=1), np.arange(64) * cells.rows_per_cell >= 255)


def test_a_memory_with_an_older_generation_still_has_its_whole_spectrum(lived: Path, flip) -> None:
    whole = inspection.spectrum(lived)
    flip(newest(lived), offset_of(lived, "M") + 5, 3)
    found = inspection.spectrum(lived)
    assert found.problem is None and found.values == whole.values and found.exit_code == 0


def test_two_sides_are_compared_where_both_are_whole(lived: Path, flip) -> None:
    first, second = sorted(lived.glob("*.emm"))[-2:]
    flip(second, offset_of(lived, "M") + 65536 + 5, 3)
    found = inspection.diff(first, second)
    assert found.numbers is not None and found.numbers.n_rows == 256 and found.exit_code == 4
    assert found.numbers_problem == "64 rows are left out: they lie in damaged blocks"
    assert found.after.problem and found.after.digest is None and found.before.problem is None
    assert [commit.lsn for commit in found.commits] == [6]


def test_a_damaged_segment_keeps_the_commits_before_it(lived: Path, flip) -> None:
    segments = sorted(lived.glob("*.wal"))
    flip(segments[-1], segments[-1].stat().st_size // 2, 1)
    found = emm.inspect(lived, history=True)
    assert [commit.lsn for commit in found.commits] == [1, 2, 3, 4, 5] and found.segments[-1].problem


def test_nothing_is_written(lived: Path, flip) -> None:
    flip(newest(lived), 16)
    before = {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in lived.iterdir()}
    emm.inspect(lived, state=True, health=True, blocks=True)
    for view in (inspection.header, inspection.blocks, inspection.spectrum):
        view(lived)
    inspection.rows(lived, 0, 3)
    inspection.diff(sorted(lived.glob("*.emm"))[0], lived)
    assert {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in lived.iterdir()} == before
