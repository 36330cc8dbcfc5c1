"""What `diff` says about two states: their place in one history, and their numbers.

Red when: two memories pass for one, a fork for a line, an earlier state for a later one, or an equal bit for a change.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import emm
from emm import inspection


def write(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with emm.open(path, mode="a") as memory:
        memory.write(rng.standard_normal((2, memory.key_dim), np.float32) / 8, np.ones((2, memory.dim), np.float32))


def test_a_state_and_itself(lived: Path) -> None:
    found = inspection.diff(lived, lived)
    assert found.relation == "the same commit 6" and found.parameters == () and found.commits == ()
    assert found.numbers is not None and found.numbers.n_numbers_changed == 0 and found.numbers.largest == ()
    assert found.before.digest == found.after.digest is not None


def test_two_generations_of_one_line(lived: Path) -> None:
    first, *_, last = sorted(lived.glob("*.emm"))
    found = inspection.diff(first, last)
    older, newer = (emm.decode_snapshot(each.read_bytes()) for each in (first, last))
    change = newer.state.matrix.astype(float) - older.state.matrix.astype(float)
    numbers = found.numbers
    assert numbers is not None and numbers.norm_change == pytest.approx(float(np.linalg.norm(change)))
    assert numbers.max_change == pytest.approx(float(np.abs(change).max()))
    assert numbers.n_rows_changed == int((change != 0).any(axis=1).sum())
    assert numbers.largest[0].row == int(np.linalg.norm(change, axis=1).argmax())
    first_lsn = older.lsn + 1
    assert found.relation == f"the second is later: commits {first_lsn}–6 lie between"
    assert [commit.lsn for commit in found.commits] == list(range(first_lsn, 7))
    assert ("flags", "0", "forgotten") in found.parameters
    back = inspection.diff(last, first)
    assert back.relation.startswith("the second is earlier") and back.commits == found.commits


def test_a_fork_is_told_from_a_line(lived: Path, tmp_path: Path) -> None:
    fork = tmp_path / "fork"
    shutil.copytree(lived, fork)
    write(lived, 10)
    write(fork, 11)
    assert inspection.diff(lived, fork).relation == "two histories, each with its own commit 7"
    write(fork, 12)
    assert inspection.diff(lived, fork).relation.startswith("two histories of one memory")
    assert inspection.diff(fork, lived).relation.startswith("two histories of one memory")


def test_two_memories_are_not_one(lived: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    emm.create(other, dim=320, rank=32, key_dim=64, expand_at=0).close()
    found = inspection.diff(lived, other)
    assert found.relation == "two different memories" and found.commits == () and found.numbers is None
    assert "320 × 64 and 320 × 32" in (found.numbers_problem or "")
    assert ("rank", "64", "32") in found.parameters


def test_a_journal_that_is_gone_is_said(lived: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, *_, last = sorted(lived.glob("*.emm"))
    one, two = shutil.copy(first, tmp_path / "a"), shutil.copy(last, tmp_path / "b")
    found = inspection.diff(one, two)
    assert "no journal at hand leads" in found.relation and found.commits == ()
    assert (found.commits_problem or "").endswith("of the commits between are in no journal at hand")
    assert found.numbers is not None


def test_a_segment_holds_nothing_to_compare(lived: Path) -> None:
    with pytest.raises(emm.InputError, match="segment holds no matrix"):
        inspection.diff(lived, sorted(lived.glob("*.wal"))[0])
