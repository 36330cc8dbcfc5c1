"""Damage to any file of a namespace, and death at any step of a writer, cost speed and never an answer.

Red when a vector is used without its check, when a set of segments is believed that was sealed from something else,
or when a process that dies between two files leaves neither the old set nor the new one. `python -m
emm_fuzz.engine_segments` takes every byte and every step.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from emm_fuzz.engine_segments import Tally, Vectors, build, differences, flip_all, kill_all
from emm_fuzz.mutants.patching import Patch, planted

BUGS = {  # where a flip shows it: file, bytes from the end, stride
    "a vector is used without its check": (
        Patch("emm_engine.vectors.segment:Segment.vectors", "new = places[~self._checked[places]]", "new = places[:0]"),
        ("data.ninja", 60_000, 499),
    ),
    "a removal is written once": (
        Patch("emm_engine.vectors.log:TruthLog.append", "data * 2 if kind == KIND_REMOVE else data", "data"),
        ("day.vec", 2500, 29),
    ),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Vectors]:
    folder = tmp_path_factory.mktemp("segments") / "vectors"
    return folder, build(folder)


def test_flipped_bytes_in_every_file_change_no_answer(built: tuple[Path, Vectors]) -> None:
    tally = Tally()
    flip_all(*built, tally, stride=5003, small=60)
    assert tally.faults == []
    assert tally.files == 11 and tally.flips > 150


def test_a_derived_file_cut_short_or_gone_changes_no_answer(built: tuple[Path, Vectors]) -> None:
    folder, model = built
    derived = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size and path.suffix != ".vec"]
    for path in derived:
        whole = path.read_bytes()
        for damaged in (whole[:-1], whole[: len(whole) // 2], b"", whole + b"tail"):
            path.write_bytes(damaged)
            assert list(differences(folder, model)) == [], path.name
        path.unlink()
        assert list(differences(folder, model)) == [], path.name
        path.mkdir()
        assert list(differences(folder, model)) == [], path.name
        path.rmdir()
        path.write_bytes(whole)


def test_killed_at_any_step_there_is_the_old_set_or_the_new_one(built: tuple[Path, Vectors]) -> None:
    tally = Tally()
    kill_all(*built, tally, stride=9)
    assert tally.faults == [] and tally.kills > 25


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(tmp_path: Path, bug: str) -> None:
    patch, (name, length, stride) = BUGS[bug]
    with planted(patch):
        model = build(tmp_path / "vectors")
        (path,) = (tmp_path / "vectors").rglob(name)
        whole = path.read_bytes()
        for at in range(len(whole) - 1, len(whole) - length, -stride):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            if list(differences(tmp_path / "vectors", model)):
                return
    pytest.fail("no flip showed it")
