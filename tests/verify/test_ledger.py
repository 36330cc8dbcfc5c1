"""The ledger: order, age, time, resuming; and rollbacks, cuts and losses that no single copy shows.

Each test says which change to `emm/verify/ledger.py` would turn it red.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import emm
from emm.errors import InputError, StorageError
from emm.verify import Level, scrub
from emm.verify import ledger as ledger_module
from emm.verify.ledger import default_path
from tests.verify.conftest import write_some
from tests.verify.test_report import put
from tests.verify.test_scrub import flipped, run

YEAR_S = 365 * 86400.0


@pytest.fixture
def archive(tmp_path: Path, small) -> Path:
    for name in "abc":
        put(tmp_path / "archive" / name, small)
    return tmp_path / "archive"


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite"


def names(targets):
    return [Path(each.url).name for each in targets]


def codes(targets):
    return [each.code for target in targets for each in target.findings]


def test_young_and_clean_is_passed_over_and_counted(archive, ledger):
    """Red when an age is ignored, or what was passed over is not said."""
    _, first = run(archive, ledger=ledger, max_age_s=YEAR_S)
    targets, second = run(archive, ledger=ledger, max_age_s=YEAR_S)
    assert (first.targets, first.recent) == (3, 0) and targets == [] and (second.recent, second.exit_code) == (3, 0)
    assert names(run(archive, ledger=ledger, max_age_s=0.0)[0]) == ["a", "b", "c"]
    assert len(run(archive, ledger=ledger)[0]) == 3  # without an age everything is checked


def test_what_was_not_clean_is_never_young(archive, ledger, small):
    """Red when a damaged memory is passed over because it was looked at lately."""
    newest = "0000000000000003.emm"
    (archive / "b" / newest).write_bytes(flipped(small[newest], 5000, 5009))
    for _ in range(2):
        targets, totals = run(archive, ledger=ledger, max_age_s=YEAR_S)
        assert "b" in names(targets) and totals.exit_code == 3
    assert names(targets) == ["b"]


def test_the_least_recently_checked_comes_first_and_a_run_goes_on_where_one_stopped(archive, ledger, monkeypatch):
    """Red when the order is that of the names, or time that is up loses what was done."""
    run(archive / "a", ledger=ledger)
    run(archive / "c", ledger=ledger)
    assert names(run(archive, ledger=ledger)[0]) == ["b", "a", "c"]

    ticks = iter([0.0, 0.0, 10.0, 10.0])
    monkeypatch.setattr(scrub, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    targets, totals = run(archive, ledger=ledger, max_duration_s=5.0, strict=True)
    assert names(targets) == ["b"] and (totals.not_reached, totals.exit_code) == (2, 7)
    assert "2 of 3 places were not reached within 5 s" in totals.coverage.left_out
    monkeypatch.undo()
    assert names(run(archive, ledger=ledger)[0]) == ["a", "c", "b"]


@pytest.mark.parametrize("asked", [{"level": Level.TABLE}, {"sample": "1/1000"}])
def test_less_than_everything_does_not_count_as_checked(archive, ledger, asked):
    """Red when a check of headers makes a memory young."""
    from emm.verify import parse_sample

    if "sample" in asked:
        asked = {"sample": parse_sample(asked["sample"])}
    run(archive, ledger=ledger, **asked)
    assert len(run(archive, ledger=ledger, max_age_s=YEAR_S)[0]) == 3


def grow(path: Path, seed: int = 9) -> None:
    with emm.open(path, "a") as memory:
        write_some(memory, seed, 2)


def test_a_rollback_is_seen_until_it_is_accepted(archive, ledger, tmp_path):
    """Red when the ledger forgets what it saw, or believes an older state."""
    shutil.copytree(archive / "a", tmp_path / "older")
    grow(archive / "a")
    run(archive, ledger=ledger)
    shutil.rmtree(archive / "a")
    shutil.copytree(tmp_path / "older", archive / "a")
    assert emm.verify(archive / "a").exit_code == 0  # one copy does not show it
    for _ in range(2):
        targets, totals = run(archive, ledger=ledger)
        assert codes(targets) == ["rolled-back"] and totals.exit_code == 4
        (only,) = (each for target in targets for each in target.findings)
        assert only.lsns == (6, 6)
    assert run(archive, ledger=ledger, accept=True)[1].exit_code == 0
    assert run(archive, ledger=ledger)[1].exit_code == 0


def test_a_cut_at_a_commit_boundary_is_seen(tmp_path, ledger, killed):
    """Red when only what a copy shows by itself is found: the cut memory is whole."""
    from emm.storage.segment_file import SegmentReader
    from emm.testing import FrozenDirectory

    put(tmp_path / "m", killed)
    run(tmp_path / "m", ledger=ledger)
    name = "0000000000000001.wal"
    uuid = bytes.fromhex(emm.inspect(tmp_path / "m").uuid)
    commits = list(SegmentReader(FrozenDirectory(killed), 1, uuid).commits())
    (tmp_path / "m" / name).write_bytes(killed[name][: commits[-1].offset])
    assert emm.verify(tmp_path / "m").exit_code == 0
    targets, totals = run(tmp_path / "m", ledger=ledger)
    assert "rolled-back" in codes(targets) and totals.exit_code == 4


def test_another_history_and_another_memory_are_told_apart(archive, ledger, tmp_path):
    """Red when only the number of commits is compared."""
    shutil.copytree(archive / "a", tmp_path / "fork")
    grow(archive / "a", 9)
    run(archive, ledger=ledger)
    grow(tmp_path / "fork", 10)
    grow(tmp_path / "fork", 11)
    shutil.rmtree(archive / "a")
    shutil.copytree(tmp_path / "fork", archive / "a")
    shutil.rmtree(archive / "b")
    emm.create(archive / "b", dim=4, rank=16, key_dim=16).close()
    targets, totals = run(archive, ledger=ledger)
    assert codes(targets) == ["history-replaced", "memory-replaced"] and totals.exit_code == 4


def test_a_memory_that_grew_is_clean(archive, ledger):
    """Red when what follows from the last commit seen is called another history."""
    run(archive, ledger=ledger)
    grow(archive / "a")
    with emm.open(archive / "b", "a") as memory:
        memory.forget(np.ones((1, 16), np.float32))
        memory.checkpoint()
    assert run(archive, ledger=ledger)[1].exit_code == 0


def test_a_memory_that_is_gone_is_said_until_it_is_accepted(archive, ledger):
    """Red when what is not there cannot be missed."""
    run(archive, ledger=ledger)
    shutil.rmtree(archive / "b")
    for _ in range(2):
        targets, totals = run(archive, ledger=ledger, max_age_s=YEAR_S)
        assert codes(targets) == ["memory-gone"] and totals.exit_code == 10
    assert codes(run(archive / "a", ledger=ledger)[0]) == []  # not below what was named
    run(archive, ledger=ledger, accept=True)
    assert run(archive, ledger=ledger)[1].exit_code == 0


def test_jobs_share_one_ledger(archive, ledger):
    """Red when only the process that checks can remember."""
    run(archive, ledger=ledger, jobs=3)
    assert run(archive, ledger=ledger, max_age_s=YEAR_S, jobs=3)[1].recent == 3


def test_a_place_is_known_from_whatever_directory_it_is_named(archive, ledger, monkeypatch):
    """Red when a relative path is another place."""
    run(archive, ledger=ledger)
    monkeypatch.chdir(archive)
    assert run(".", ledger=ledger, max_age_s=YEAR_S)[1].recent == 3


def test_the_ledger_lies_outside_and_is_no_other_file(archive, ledger, tmp_path):
    """Red when a check writes into the archive, or into a stranger's database."""
    for inside in (archive / "ledger", archive / "a" / "x" / "ledger"):
        with pytest.raises(InputError, match="outside"):
            run(archive, ledger=inside)
        assert not inside.exists()
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE t (x)")
    with pytest.raises(InputError, match="no ledger"):
        run(archive, ledger=other)
    text = tmp_path / "notes.txt"
    text.write_text("these are notes and not a database at all, in case anyone wonders\n" * 20)
    with pytest.raises(StorageError):
        run(archive, ledger=text)
    assert text.read_text().startswith("these are notes")


def test_the_default_is_below_the_state_directory(monkeypatch, tmp_path):
    """Red when XDG_STATE_HOME is not asked, or a relative one is believed."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "emm" / "verify-ledger.sqlite"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_path() == tmp_path / "home" / ".local" / "state" / "emm" / "verify-ledger.sqlite"


def test_a_run_that_is_killed_has_remembered_what_it_finished(archive, ledger):
    """Red when the ledger is written at the end."""
    from emm.verify import Request, Scrub

    targets = Scrub(Request((str(archive),), ledger=ledger)).run()
    next(targets)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with sqlite3.connect(ledger) as database:
        rows = database.execute("SELECT place, exit_code, lsn FROM places").fetchall()
    assert rows == [(ledger_module.key_of(str(archive / "a")), 0, 5)]
    targets.close()


def hurt(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "the table's page":
        data[4096 + 3 : 4096 + 9] = b"\xff" * 6
    elif how == "cut":
        del data[5000:]
    elif how == "the name of its table":
        data[data.index(b"tableplacesplaces") + 5] ^= 0x20
    elif how == "a number that is a text":
        with sqlite3.connect(path) as database:
            database.execute("UPDATE places SET lsn = 'five'")
        return
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["the table's page", "cut", "the name of its table", "a number that is a text"])
def test_a_damaged_ledger_is_refused_in_one_sentence_and_left_as_it_is(archive, ledger, how):
    """Red when a damaged ledger ends in a traceback, or one is begun anew in silence: it would have seen nothing."""
    run(archive, ledger=ledger)
    hurt(ledger, how)
    before = ledger.read_bytes()
    with pytest.raises(StorageError, match=r"the ledger is damaged \(.+\); move it away") as refused:
        run(archive, ledger=ledger)
    assert "\n" not in str(refused.value) and refused.value.exit_code == 6 and ledger.read_bytes() == before


def test_any_age_and_any_time_are_taken(archive, ledger):
    """Red when a number too large for a clock ends in an OverflowError, or NaN passes for an age."""
    run(archive, ledger=ledger)
    for age in (1e300, float("inf")):
        targets, totals = run(archive, ledger=ledger, max_age_s=age, max_duration_s=age)
        assert targets == [] and totals.recent == 3
    for asked in ({"max_age_s": float("nan")}, {"max_duration_s": -1.0}):
        with pytest.raises(InputError):
            run(archive, ledger=ledger, **asked)


def test_directories_of_loose_files_are_remembered_once_all_of_them_are_through(tmp_path, small, ledger):
    """Red when v3 files and copies are read again at every run, or one clean file makes its damaged neighbour young."""
    put(tmp_path / "old", {f"{name}.emm": small["0000000000000003.emm"] for name in "ab"})
    assert len(run(tmp_path / "old", ledger=ledger, max_age_s=YEAR_S)[0]) == 2
    assert run(tmp_path / "old", ledger=ledger, max_age_s=YEAR_S)[1].recent == 1
    (tmp_path / "old" / "a.emm").write_bytes(flipped(small["0000000000000003.emm"], 5000, 5005))
    for _ in range(2):  # a first, b after it
        targets, totals = run(tmp_path / "old", ledger=ledger, max_age_s=0)
        assert len(targets) == 2 and totals.exit_code == 4
    assert len(run(tmp_path / "old", ledger=ledger, max_age_s=YEAR_S)[0]) == 2
    (tmp_path / "old" / "a.emm").write_bytes(small["0000000000000003.emm"])
    assert run(tmp_path / "old", ledger=ledger, max_age_s=YEAR_S)[1].exit_code == 0
    assert run(tmp_path / "old", ledger=ledger, max_age_s=YEAR_S)[1].recent == 1


def test_a_memory_that_is_gone_is_missed_though_a_file_is_left(archive, ledger, small):
    """Red when a loose copy in its directory stands for the memory."""
    run(archive, ledger=ledger)
    for name in small:
        (archive / "b" / name).unlink()
    (archive / "b" / "copy.emm").write_bytes(small["0000000000000003.emm"])
    for _ in range(2):
        targets, totals = run(archive, ledger=ledger)
        assert codes(targets) == ["memory-gone"] and totals.exit_code == 10
    run(archive, ledger=ledger, accept=True)
    assert run(archive, ledger=ledger)[1].exit_code == 0
