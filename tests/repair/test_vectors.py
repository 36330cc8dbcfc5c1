"""Every memory of the conformance vectors, hostile ones too: a plan or one error, and never a false "whole".

Red when a plan crashes, when a clean memory gets a repair, when a memory that a check calls damaged is told to need
nothing, or when what was written is not what the plan said.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import emm
from emm.errors import EmmError
from emm.repair import execute, plan

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = json.loads((ROOT / "spec" / "vectors" / "manifest.json").read_text(encoding="utf-8"))
CASES = [case for case in MANIFEST["cases"] if case["kind"] == "memory"]
LARGE = ("expand-bomb", "forget-bomb")  # opening them costs the time that their limit allows


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("vectors") / "out"
    program = [sys.executable, str(ROOT / "spec" / "vectors" / "generate.py"), "--out", str(place)]
    subprocess.run(program, check=True, cwd=ROOT, capture_output=True)
    return place


def judge(case: dict[str, Any], memory: Path, out: Path) -> None:
    checked = emm.verify(memory)
    try:
        found = plan(memory)
    except EmmError as error:
        assert error.exit_code in (2, 4, 5, 6, 10)
        assert checked.exit_code != 0
        return
    if checked.exit_code == 0:
        assert not found.damaged, found.lines()
    elif checked.exit_code in (3, 4):
        assert found.exit_code in (3, 4), (checked.verdict, found.lines())
    if checked.exit_code == 3:
        assert not [loss for loss in found.losses if loss.kind == "state"], found.lines()
    shutil.rmtree(out, ignore_errors=True)
    try:
        result = execute(found, out, allow_loss=True)
    except EmmError:
        assert not out.exists()
        return
    assert emm.verify(out).exit_code in (0, 6) and result.report.targets[0].lsn == found.lsn_kept
    if case["digest"] and checked.exit_code in (0, 3) and not found.losses:
        with emm.open(out) as opened:
            assert opened.digest == case["digest"]


def test_every_memory_of_the_vectors(vectors: Path, tmp_path: Path) -> None:
    assert len(CASES) > 100
    for case in CASES:
        if case["name"] in LARGE:
            continue
        try:
            judge(case, vectors / case["path"], tmp_path / "out")
        except AssertionError as error:
            raise AssertionError(f"{case['name']}: {error}") from error


def test_what_only_a_replay_finds_is_named_at_that_level(vectors: Path, tmp_path: Path) -> None:
    """A record whose checksums hold and which cannot be replayed: no source mends it, and nothing calls it whole."""
    for name in ("r8-rank", "j17-rank-skip", "l6-state"):
        (case,) = [each for each in CASES if each["name"] == name]
        found = plan(vectors / case["path"], level="replay")
        assert found.exit_code == 4 and any("nothing can mend" in str(loss) for loss in found.losses)


def test_a_level_that_skips_blocks_is_refused(vectors: Path) -> None:
    with pytest.raises(EmmError) as caught:
        plan(vectors / CASES[0]["path"], level="table")
    assert caught.value.exit_code == 2
