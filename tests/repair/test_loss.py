"""What no source can give back is named, with rows and commits; it exits 4, and nothing stands in for it.

Red when a loss exits 0, when zeros or a neighbour's rows fill a lost block, when a state of another origin is replayed,
or when a repaired memory claims commits that it does not hold.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import emm
from emm.errors import CorruptionError
from emm.repair import Action
from tests.repair.lab import (
    DIM,
    KEY_DIM,
    RANK,
    History,
    Outcome,
    both_copies,
    damaged_record,
    flipped,
    in_block,
    live,
    pairs,
    read_files,
    repair,
    smeared,
    write_files,
)

OLDEST, MIDDLE, NEWEST = (f"{generation:016d}.emm" for generation in (4, 5, 6))


def refused(outcome: Outcome) -> list[str]:
    """The losses of a repair that wrote nothing."""
    assert isinstance(outcome.error, CorruptionError) and outcome.error.exit_code == 4 and outcome.files is None
    assert outcome.plan.exit_code == 4
    return [str(loss) for loss in outcome.plan.losses]


def test_without_heads_nothing_opens(history: History, tmp_path: Path) -> None:
    """Mirror and head of every generation together: the states cannot be told from noise any more."""
    changed = {name: both_copies(history.files[name], 150) for name in history.snapshots}
    for allowed in (False, True):
        outcome = repair(tmp_path, history.damaged(changed), allow_loss=allowed)
        named = refused(outcome)
        assert [each for each in named if "commits 1–9" in each]
        assert all(any(name in each for each in named) for name in history.snapshots)
    assert not outcome.plan.possible and all(each.action is Action.LEAVE_OUT for each in outcome.plan.files)


def test_a_lost_head_gets_a_stand_in(history: History, tmp_path: Path) -> None:
    for name in (MIDDLE, NEWEST):
        outcome = repair(tmp_path, history.damaged({name: both_copies(history.files[name], 150)}))
        assert outcome.digest == history.digests[9] and outcome.result and outcome.result.exit_code == 0
        assert emm.inspect(tmp_path / "repaired").snapshots[-1 if name == NEWEST else 1].origin == "repair"
        assert emm.verify(tmp_path / "repaired", "replay").exit_code == 0


def test_the_oldest_head_is_left_out_where_the_journal_leads_to_its_state(history: History, tmp_path: Path) -> None:
    outcome = repair(tmp_path, history.damaged({OLDEST: both_copies(history.files[OLDEST], 150)}))
    assert outcome.digest == history.digests[9] and outcome.result and outcome.result.exit_code == 0
    assert OLDEST not in (outcome.files or {}) and any("journal from commit 1" in note for note in outcome.plan.notes)


def test_rows_whose_sources_are_all_damaged_are_named(history: History, tmp_path: Path) -> None:
    """The newest block 1, the record of commit 1, and block 1 of the older generations."""
    changed = {name: in_block(history.files[name], 1) for name in history.snapshots}
    changed["0000000000000001.wal"] = damaged_record(history, "0000000000000001.wal")
    outcome = repair(tmp_path, history.damaged(changed))
    named = refused(outcome)
    assert any("M rows 341–682" in each and NEWEST in each and "block 1" in each for each in named)
    assert any("commits 1–9" in each for each in named)
    allowed = repair(tmp_path, history.damaged(changed), allow_loss=True)
    assert allowed.files is None and not allowed.plan.possible  # no generation is whole: nothing to keep


def test_rows_that_an_older_generation_has_are_not_lost(tmp_path: Path) -> None:
    """Another block of it is damaged: row by row it still serves. Red when a base must be whole in every block.

    Here rows do not cross the borders of blocks: one that does needs both blocks of the base.
    """
    even = live(tmp_path / "even", dim=1100, rank=32)
    changed = {NEWEST: in_block(even.files[NEWEST], 0), MIDDLE: in_block(even.files[MIDDLE], 1)}
    changed["0000000000000001.wal"] = damaged_record(even, "0000000000000001.wal")  # no way from the beginning
    changed[OLDEST] = in_block(even.files[OLDEST], 1)
    outcome = repair(tmp_path, even.damaged(changed), allow_loss=True)
    (newest,) = [each for each in outcome.plan.files if each.name == NEWEST]
    assert newest.action is Action.MEND and "generation 5" in newest.parts[0].detail
    assert newest.parts[0].spans[0].rows == (0, 511)
    assert outcome.digest == even.digests[9] and (outcome.files or {})[NEWEST] == even.files[NEWEST]
    assert outcome.result and outcome.result.exit_code == 4
    assert {loss.kind for loss in outcome.plan.losses} == {"history"}


def test_commits_after_a_gap_are_lost_and_named(history: History, tmp_path: Path) -> None:
    """The newest snapshot and the record of commit 9 together: the memory ends at commit 8."""
    last = history.segments[-1]
    files = history.damaged({NEWEST: in_block(history.files[NEWEST], 0), last: damaged_record(history, last)})
    named = refused(repair(tmp_path, files))
    assert any("commit 9" in each and last in each for each in named)
    assert any("M rows 0–341" in each and NEWEST in each for each in named)
    outcome = repair(tmp_path, files, allow_loss=True)
    assert outcome.lsn == 8 and outcome.digest == history.digests[8] and outcome.result
    assert outcome.result.exit_code == 4 and outcome.result.report.verdict == "clean"
    assert outcome.plan.lsn == 9 and outcome.plan.lsn_kept == 8


def test_commits_whose_state_is_kept_but_whose_pairs_are_gone(history: History, tmp_path: Path) -> None:
    """The newest snapshot holds them, the journal does not: history, not state; it is said and must be allowed."""
    name = history.segments[1]
    files = history.damaged({name: damaged_record(history, name)})
    named = refused(repair(tmp_path, files))
    assert any("pairs" in each and name in each and "commits 1–" in each for each in named)
    outcome = repair(tmp_path, files, allow_loss=True)
    assert outcome.digest == history.digests[9] and outcome.result and outcome.result.exit_code == 4
    assert {loss.kind for loss in outcome.plan.losses} == {"history"}


def test_no_zeros_and_no_invented_rows(history: History, tmp_path: Path) -> None:
    """Every file that a lossy repair writes is a file of the original, or is said to be rebuilt."""
    last = history.segments[-1]
    files = history.damaged({NEWEST: in_block(history.files[NEWEST], 0), last: damaged_record(history, last)})
    outcome = repair(tmp_path, files, allow_loss=True)
    rebuilt = {each.name for each in outcome.plan.files if each.action is Action.REBUILD}
    assert rebuilt == {last}
    for name, data in (outcome.files or {}).items():
        if name.endswith((".emm", ".wal")) and name not in rebuilt:
            assert data == history.files[name]
    cut = (outcome.files or {})[last]
    assert history.files[last].startswith(cut[:-40])  # and a seal


# --- lineage --------------------------------------------------------------------------------------


def resolved(path: Path) -> tuple[dict[str, bytes], str]:
    """A memory that was solved again at rank 32: its newest state is no replay of the one before."""
    with emm.create(path, dim=DIM, rank=16, key_dim=KEY_DIM, expand_at=0) as memory:
        memory.write(*pairs(1, 8))
        memory.checkpoint()
        memory.expand(32)
        digest = memory.digest
    return read_files(path), digest


def merged(path: Path) -> tuple[dict[str, bytes], str]:
    for n in (1, 2):
        with emm.create(path / str(n), dim=DIM, rank=RANK, key_dim=KEY_DIM, expand_at=0) as memory:
            memory.write(*pairs(n, 6))
    with emm.merge([path / "1", path / "2"], path / "merged") as memory:
        digest = memory.digest
    return read_files(path / "merged"), digest


@pytest.mark.parametrize(("make", "origin"), [(resolved, "resolve"), (merged, "merge")])
def test_a_state_of_another_origin_is_not_replayed(make, origin: str, tmp_path: Path) -> None:
    """It says so before anything is written. Red when the journal is replayed across it."""
    files, digest = make(tmp_path / "made")
    name = max(each for each in files if each.endswith(".emm"))
    changed = {**files, name: in_block(files[name], 0)}
    outcome = repair(tmp_path / "a", changed) if (tmp_path / "a").mkdir() is None else None
    assert outcome is not None
    named = refused(outcome)
    assert any(name in each and "M rows 0–" in each for each in named)
    assert any(f"origin {origin}" in each for each in [*named, *outcome.plan.notes])
    mended = repair(tmp_path / "a", {**files, name: flipped(files[name], 5000)})
    assert mended.digest == digest  # what its own checksums prove needs no replay
    replica = write_files(tmp_path / "replica", files)
    assert repair(tmp_path / "a", changed, against=replica).digest == digest


def test_what_was_solved_again_is_lost_with_its_commits(tmp_path: Path) -> None:
    """With --allow-loss the memory is what it was before: the older rank, and none of the later commits."""
    path = tmp_path / "made"
    files, _ = resolved(path)
    with emm.open(path, "a") as memory:
        memory.write(*pairs(3, 4))
    files = read_files(path)
    # the snapshot that was solved again, and every one after it
    changed = {
        name: in_block(data, 0) if name.endswith(".emm") and name >= f"{3:016d}" else data
        for name, data in files.items()
    }
    (tmp_path / "a").mkdir()
    named = refused(repair(tmp_path / "a", changed))
    assert any("commit 2" in each for each in named)
    outcome = repair(tmp_path / "a", changed, allow_loss=True)
    assert outcome.lsn == 1 and outcome.result and outcome.result.exit_code == 4
    with emm.open(tmp_path / "a" / "repaired") as memory:
        assert memory.rank == 16
    shutil.rmtree(path)


def test_a_torn_tail_is_taken_over_as_it_is(tmp_path: Path) -> None:
    """Nobody can tell whether it was acknowledged: neither lost nor clean, and the exit code stays 6."""
    memory = emm.create(tmp_path / "life", dim=DIM, rank=RANK, key_dim=KEY_DIM, expand_at=0)
    memory.write(*pairs(1, 3))
    memory.write(*pairs(2, 3))
    files = read_files(tmp_path / "life")
    memory.close()
    (segment,) = [name for name in files if name.endswith(".wal")]
    (snapshot,) = [name for name in files if name.endswith(".emm")]
    torn = {**files, segment: files[segment][:-120], snapshot: smeared(files[snapshot], 20)}
    (tmp_path / "a").mkdir()
    outcome = repair(tmp_path / "a", torn)
    assert outcome.plan.torn and outcome.plan.losses == () and outcome.result and outcome.result.exit_code == 6
    assert (outcome.files or {})[segment] == torn[segment] and (outcome.files or {})[snapshot] == files[snapshot]
    flip = {**files, segment: flipped(files[segment], len(files[segment]) - 200)}
    mended = repair(tmp_path / "a", flip)
    assert not mended.plan.torn and mended.files is not None and mended.files[segment] == files[segment]
    assert mended.result and mended.result.exit_code == 0 and np.isfinite(mended.lsn or 0)


def killed(tmp_path: Path) -> dict[str, bytes]:
    """A memory whose writer was killed: commits 1 to 3 in one segment without a seal, no snapshot after them."""
    memory = emm.create(tmp_path / "life", dim=DIM, rank=RANK, key_dim=KEY_DIM, expand_at=0)
    for n in range(3):
        memory.write(*pairs(n, 3))
    files = read_files(tmp_path / "life")
    memory.close()
    (tmp_path / "a").mkdir()
    return files


@pytest.mark.parametrize("hurt", ["header", "everything", "cut"])
def test_a_last_segment_beyond_reading_is_a_loss(hurt: str, tmp_path: Path) -> None:
    """How many commits it held, nothing tells. Red when it is left out and the rest is called whole (it was, once)."""
    files = killed(tmp_path)
    name = "0000000000000001.wal"
    data = files[name]
    changed = {"header": smeared(data, 0, 128), "everything": smeared(data, 0, len(data)), "cut": data[:100]}[hurt]
    outcome = repair(tmp_path / "a", {**files, name: changed})
    named = refused(outcome)
    assert any(name in each and "–?" in each for each in named)
    replica = write_files(tmp_path / "replica", files)
    taken = repair(tmp_path / "a", {**files, name: changed}, against=replica, allow_loss=True)
    assert taken.lsn == 3 and taken.plan.exit_code == (3 if hurt == "header" else 4)


def test_a_damaged_commit_below_a_proof_is_a_loss_and_not_a_torn_tail(tmp_path: Path) -> None:
    """Commit 3 proves commit 2 durable. Red when evidence beyond the damage is not looked for."""
    files = killed(tmp_path)
    name = "0000000000000001.wal"
    half = len(files[name]) // 2
    outcome = repair(tmp_path / "a", {**files, name: smeared(files[name], half, 60)})
    named = refused(outcome)
    assert any("commit 2" in each or "commits 2–" in each for each in named) and not outcome.plan.torn
    kept = repair(tmp_path / "a", {**files, name: smeared(files[name], half, 60)}, allow_loss=True)
    assert kept.lsn == 1 and kept.result and kept.result.exit_code == 4
