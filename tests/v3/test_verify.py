"""emm-verify and emm-inspect know v3 files. Each test says what would turn it red."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import emm
from spec.vectors.case import CLEAN, LOSS, REFUSED
from spec.vectors.v3 import V3Case, cases
from tests.v3.conftest import Lab

CODES = {CLEAN: "v3-file", LOSS: "v3-damaged", REFUSED: "unsupported"}
LEVELS = ("header", "table", "blocks", "replay", "numeric")


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_v3_17_a_check_gives_the_manifests_verdict_and_writes_nothing(case: V3Case, tmp_path: Path) -> None:
    """Red when a broken v3 file is called clean or foreign, or a check upgrades."""
    path = tmp_path / "old.emm"
    path.write_bytes(case.data)
    for level in LEVELS[1:]:
        report = emm.verify(path, level)
        assert (report.verdict, report.exit_code) == (case.verdict, case.entry()["exit_code"])
        first = report.findings[0]
        if case.rule == "V3-1":  # to a v4 checker such a file is foreign
            assert first.code == "not-emm"
        else:
            assert (first.rule, first.offset) == (case.rule, case.offset)
            assert first.code == CODES[case.verdict]
    assert os.listdir(tmp_path) == ["old.emm"] and path.read_bytes() == case.data
    assert emm.verify(tmp_path, "numeric").exit_code == case.entry()["exit_code"]  # found in a tree, too


def test_level_header_reads_64_bytes(lab: Lab) -> None:
    """Red when the shallow level reads the arrays, or believes a length that the file has not."""
    report = emm.verify(lab.path, "header")
    assert report.verdict == "clean" and report.coverage.bytes_read == 64 and not report.coverage.complete
    with lab.path.open("ab") as file:
        file.write(b"x")
    assert emm.verify(lab.path, "header").verdict == LOSS


def test_a_large_file_is_over_the_limit(lab: Lab) -> None:
    """Red when verify reads more than it was allowed."""
    report = emm.verify(lab.path, "numeric", state_bytes_max=1000)
    assert (report.verdict, report.findings[0].code, report.findings[0].rule) == ("refused", "over-limit", "V3-8")


def test_inspect_shows_the_cell(lab: Lab) -> None:
    """Red when inspect refuses a v3 file, or measures another state than open gives."""
    found = emm.inspect(lab.path, state=True)
    assert found.kind == "v3 file" and found.shape is not None and found.state is not None
    assert (found.shape.dim, found.shape.flags) == (40, ())
    assert [(each.name, each.offset, each.n_rows, each.n_columns) for each in found.regions] == [
        ("C", 64, 40, 40),
        ("n", 64 + 6400, 1, 40),
    ]
    with emm.open(lab.path) as memory:
        assert found.state.digest == memory.digest
    assert emm.verify(lab.path).verdict == CLEAN
