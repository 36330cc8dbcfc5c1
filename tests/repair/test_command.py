"""`emm-verify --repair` as a keeper uses it: what it prints, what it exits with, what it refuses.

Red when the plan is not shown before anything is written, when a loss exits 0, or when an option is silently ignored.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import emm
from emm_tools.verify_command import verify_command
from tests.repair.lab import (
    History,
    damaged_record,
    hashes,
    in_block,
    write_files,
)

NEWEST = "0000000000000006.emm"


def run(*arguments: object) -> Result:
    ended = CliRunner().invoke(verify_command, [str(each) for each in arguments], prog_name="emm-verify")
    assert "Traceback" not in ended.stdout + ended.stderr
    return ended


@pytest.fixture
def damaged(history: History, tmp_path: Path) -> Path:
    return write_files(tmp_path / "damaged", history.damaged({NEWEST: in_block(history.files[NEWEST], 1)}))


@pytest.fixture
def worse(history: History, tmp_path: Path) -> Path:
    last = history.segments[-1]
    files = history.damaged({NEWEST: in_block(history.files[NEWEST], 0), last: damaged_record(history, last)})
    return write_files(tmp_path / "worse", files)


def test_the_plan_alone(damaged: Path, tmp_path: Path) -> None:
    before = hashes(damaged)
    ended = run("--repair", "--dry-run", damaged)
    assert ended.exit_code == 3 and ended.stderr == ""
    assert "mend 0000000000000006.emm" in ended.stdout and "M rows 341–682" in ended.stdout
    with_out = run("--repair", "--dry-run", "--out", tmp_path / "out", damaged)
    assert with_out.exit_code == 3 and not (tmp_path / "out").exists() and hashes(damaged) == before


def test_a_repair(damaged: Path, tmp_path: Path, history: History) -> None:
    ended = run("--repair", "--out", tmp_path / "out", damaged)
    assert ended.exit_code == 0 and "repaired: " in ended.stdout.splitlines()[-1]
    with emm.open(tmp_path / "out") as memory:
        assert memory.digest == history.digests[9]
    again = run("--repair", "--out", tmp_path / "out", damaged)
    assert again.exit_code == 2 and "taken" in again.stderr and again.stderr.count("\n") == 1


def test_json(damaged: Path, worse: Path, tmp_path: Path) -> None:
    plan = json.loads(run("--repair", "--dry-run", "--json", damaged).stdout)
    assert plan["exit_code"] == 3 and plan["losses"] == [] and plan["possible"]
    (mended,) = [each for each in plan["files"] if each["action"] == "mend"]
    assert mended["parts"][0]["from"] == "replay" and mended["parts"][0]["block"] == 1
    done = json.loads(run("--repair", "--json", "--out", tmp_path / "out", damaged).stdout)
    assert done["exit_code"] == 0 and done["report"]["verdict"] == "clean" and done["record"].startswith("repair-")
    refused = run("--repair", "--json", "--out", tmp_path / "no", worse)
    assert refused.exit_code == 4 and json.loads(refused.stdout)["losses"][0]["kind"] == "state"
    assert refused.stderr.count("\n") == 1 and not (tmp_path / "no").exists()


def test_loss_is_refused_then_allowed_and_never_0(worse: Path, tmp_path: Path) -> None:
    ended = run("--repair", "--out", tmp_path / "out", worse)
    assert ended.exit_code == 4 and "--allow-loss" in ended.stderr and not (tmp_path / "out").exists()
    assert "lost, state: " in ended.stdout and "M rows 0–341" in ended.stdout and "commit 9" in ended.stdout
    assert run("--repair", "--dry-run", worse).exit_code == 4
    allowed = run("--repair", "--allow-loss", "--out", tmp_path / "out", worse)
    assert allowed.exit_code == 4 and emm.verify(tmp_path / "out").exit_code == 0


def test_a_report_and_a_replica(damaged: Path, worse: Path, tmp_path: Path, history: History) -> None:
    checked = run("--json", damaged)
    (tmp_path / "report.json").write_text(checked.stdout)
    assert run("--repair", "--from-report", tmp_path / "report.json", "--out", tmp_path / "a", damaged).exit_code == 0
    replica = write_files(tmp_path / "replica", history.files)
    assert run("--repair", "--against", replica, "--out", tmp_path / "b", worse).exit_code == 0
    emm.create(tmp_path / "other", dim=4, rank=16, key_dim=16).close()
    other = run("--repair", "--against", tmp_path / "other", "--out", tmp_path / "c", worse)
    assert other.exit_code == 2 and "another memory" in other.stderr and not (tmp_path / "c").exists()


def test_nothing_to_repair_writes_nothing(history: History, tmp_path: Path) -> None:
    whole = write_files(tmp_path / "whole", history.files)
    ended = run("--repair", "--out", tmp_path / "out", whole)
    assert ended.exit_code == 0 and ended.stdout == "nothing to repair\n" and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--repair", "{m}"], "--out"),
        (["--repair", "--out", "{o}", "{m}", "{m}"], "one memory"),
        (["--out", "{o}", "{m}"], "goes with --repair"),
        (["--dry-run", "{m}"], "goes with --repair"),
        (["--allow-loss", "{m}"], "goes with --repair"),
        (["--from-report", "x", "{m}"], "goes with --repair"),
        (["--repair", "--dry-run", "--jsonl", "{m}"], "--jsonl"),
        (["--repair", "--out", "{o}", "{m}/0000000000000006.emm"], "as a whole"),
    ],
)
def test_usage(damaged: Path, tmp_path: Path, arguments: list[str], says: str) -> None:
    ended = run(*(each.format(m=damaged, o=tmp_path / "out") for each in arguments))
    assert ended.exit_code == 2 and says in ended.stderr and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("make", "code"), [("missing", 10), ("empty", 10), ("noise", 4), ("other-version", 5)])
def test_what_is_no_damaged_memory(make: str, code: int, tmp_path: Path, history: History) -> None:
    place = tmp_path / "place"
    if make != "missing":
        place.mkdir()
    if make == "noise":
        (place / NEWEST).write_bytes(bytes(range(256)) * 40)
    if make == "other-version":
        import zlib

        data = bytearray(history.files[NEWEST])
        data[8] = 5
        data[124:128] = zlib.crc32(data[:124]).to_bytes(4, "little")
        write_files(place, history.damaged({NEWEST: bytes(data)}))
    ended = run("--repair", "--out", tmp_path / "out", place)
    assert ended.exit_code == code and ended.stderr.count("\n") == 1 and not (tmp_path / "out").exists()
