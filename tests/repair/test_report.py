"""`--from-report`: the findings of an earlier check instead of another scan; a report is never believed beyond that.

Red when the memory is scanned again all the same, when a forged or stale report changes what is written, or when a
hostile file ends in anything but one `InputError` (or the refusal of a memory that is not as the report says).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import emm
from emm.errors import CorruptionError, EmmError, InputError
from emm.repair import execute, plan, planner
from tests.repair.lab import (
    History,
    damaged_record,
    hashes,
    in_block,
    read_files,
    smeared,
    write_files,
)

NEWEST = "0000000000000006.emm"


@pytest.fixture
def damaged(history: History, tmp_path: Path) -> Path:
    return write_files(tmp_path / "damaged", history.damaged({NEWEST: in_block(history.files[NEWEST], 1)}))


def save(tmp_path: Path, report: Any) -> Path:
    path = tmp_path / "report.json"
    path.write_text(report if isinstance(report, str) else json.dumps(report), encoding="utf-8")
    return path


def test_no_second_scan(history: History, damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = save(tmp_path, emm.verify(damaged).to_json())
    scanned = plan(damaged)
    monkeypatch.setattr(planner, "check_memory", lambda *_: pytest.fail("the memory was scanned again"))
    reads: list[int] = []
    directory = planner.open_directory(damaged)
    read_at = type(directory).read_at
    monkeypatch.setattr(
        type(directory), "read_at", lambda self, n, o, length: (reads.append(length), read_at(self, n, o, length))[1]
    )
    found = plan(damaged, report=report)
    assert found.files == scanned.files and found.exit_code == 3
    whole = sum(map(len, history.files.values()))
    assert sum(reads) < whole * 2 // 3, "as much was read as a scan reads"
    monkeypatch.undo()
    execute(found, tmp_path / "out")
    kept = {name: data for name, data in read_files(tmp_path / "out").items() if not name.endswith(".json")}
    assert kept == history.files


def forged(report: dict[str, Any], **changes: Any) -> dict[str, Any]:
    target = {**report["targets"][0], **changes}
    return {**report, "targets": [target]}


@pytest.mark.parametrize(
    "change",
    [
        {"uuid": "00" * 16},
        {"kind": "snapshot"},
        {"findings": None},
        {"findings": [{"code": "no-such-code"}]},
        {"findings": ["block-damaged"]},
        {"findings": [{"code": "block-damaged", "file": "/etc/passwd"}]},
        {"findings": [{"code": "block-damaged", "file": "../../0000000000000006.emm/x"}]},
        {"coverage": {"level": "table"}},
        {"coverage": None},
        {"lsn": 3, "findings": []},
        {"lsn": None, "findings": []},
    ],
    ids=str,
)
def test_a_report_that_does_not_fit_is_refused(damaged: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    report = json.loads(emm.verify(damaged).to_json())
    with pytest.raises(InputError) as caught:
        plan(damaged, report=save(tmp_path, forged(report, **change)))
    assert caught.value.exit_code == 2 and str(caught.value.file).endswith("report.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"targets": 7}', '{"targets": [7]}', "\x00", "NaN"])
def test_a_file_that_is_no_report_is_refused(damaged: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError):
        plan(damaged, report=save(tmp_path, text))
    with pytest.raises(InputError, match="cannot be read"):
        plan(damaged, report=tmp_path / "no-such-report.json")


def test_a_report_that_hides_damage_publishes_nothing(history: History, tmp_path: Path) -> None:
    """It names the damage of one file and is silent about another: the check of what was written sees it."""
    middle = history.snapshots[1]
    both = {NEWEST: in_block(history.files[NEWEST], 1), middle: in_block(history.files[middle], 0)}
    both[history.segments[0]] = damaged_record(history, history.segments[0])
    damaged = write_files(tmp_path / "damaged", history.damaged(both))
    report = json.loads(emm.verify(damaged).to_json())
    for hidden in list(both):
        findings = [each for each in report["targets"][0]["findings"] if not each["file"].endswith(hidden)]
        before = hashes(damaged)
        with pytest.raises(EmmError) as caught:
            found = plan(damaged, report=save(tmp_path, forged(report, findings=findings)))
            execute(found, tmp_path / "out", allow_loss=True)
        assert caught.value.exit_code in (4, 6) and not (tmp_path / "out").exists() and hashes(damaged) == before


def test_a_report_that_blames_whole_files_costs_time_alone(history: History, damaged: Path, tmp_path: Path) -> None:
    report = json.loads(emm.verify(damaged).to_json())
    names = [*history.files, NEWEST]
    findings = [{"code": "block-damaged", "message": "x", "file": f"anywhere/{name}", "block": 10**9} for name in names]
    found = plan(damaged, report=save(tmp_path, forged(report, findings=findings)))
    execute(found, tmp_path / "out")
    kept = {name: data for name, data in read_files(tmp_path / "out").items() if not name.endswith(".json")}
    assert kept == history.files


def test_a_memory_that_changed_since_is_noticed(history: History, damaged: Path, tmp_path: Path) -> None:
    report = save(tmp_path, emm.verify(damaged).to_json())
    other = history.snapshots[0]
    (damaged / other).write_bytes(smeared(history.files[other], 70_000, 99))
    with pytest.raises(CorruptionError):
        execute(plan(damaged, report=report), tmp_path / "out")
    assert not (tmp_path / "out").exists()
