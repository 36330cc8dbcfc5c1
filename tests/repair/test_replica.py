"""A replica gives what our own checksums and chain values vouch for, whatever state it is in itself.

Red when the replica of another memory is used, when its damage is copied, when a replica that is ahead adds commits
that nothing here speaks of, or when one that went another way is believed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import emm
from emm.errors import InputError
from emm.layout import BLOCK_BYTES
from emm.repair import From, plan
from tests.repair.lab import (
    DIM,
    KEY_DIM,
    RANK,
    History,
    both_copies,
    damaged_record,
    in_block,
    pairs,
    read_files,
    records,
    repair,
    shape_of,
    smeared,
    write_files,
)

NEWEST = "0000000000000006.emm"


def everything_damaged(history: History) -> dict[str, bytes]:
    """A block of each snapshot, the heads of two, and a record of each segment: no source of its own is left."""
    changed = {name: in_block(history.files[name], 1) for name in history.snapshots}
    for name in history.snapshots[1:]:
        changed[name] = both_copies(changed[name], 150)
    return changed | {name: damaged_record(history, name) for name in history.segments}


def test_a_whole_replica_gives_back_everything(history: History, tmp_path: Path) -> None:
    replica = write_files(tmp_path / "replica", history.files)
    outcome = repair(tmp_path, history.damaged(everything_damaged(history)), against=replica)
    assert outcome.same_files(history) and outcome.digest == history.digests[9] and outcome.plan.losses == ()
    assert {part.source for each in outcome.plan.files for part in each.parts} <= {From.REPLICA, From.HEAD, From.MIRROR}


def test_files_that_are_gone_come_from_the_replica(history: History, tmp_path: Path) -> None:
    replica = write_files(tmp_path / "replica", history.files)
    gone = history.damaged({history.segments[2]: None, history.snapshots[1]: None})
    assert repair(tmp_path, gone, against=replica).same_files(history)


def test_a_replica_that_is_damaged_too(history: History, tmp_path: Path) -> None:
    """In other places: block by block and record by record the two make one whole memory."""
    theirs = {
        name: in_block(history.files[name], 2 if shape_of(history.files[name]).n_blocks > 2 else 0)
        for name in history.snapshots
    }
    theirs |= {
        name: damaged_record(history, name, 2 if len(records(history, name)) > 3 else 0)
        for name in history.segments[1:2]
    }
    replica = write_files(tmp_path / "replica", history.damaged(theirs))
    ours = {name: in_block(history.files[name], 0) for name in history.snapshots}
    ours[history.segments[1]] = damaged_record(history, history.segments[1])
    outcome = repair(tmp_path, history.damaged(ours), against=replica)
    assert outcome.same_files(history)


def test_the_same_damage_in_both_is_lost(history: History, tmp_path: Path) -> None:
    last = history.segments[-1]
    hurt = history.damaged({NEWEST: in_block(history.files[NEWEST], 0), last: damaged_record(history, last)})
    outcome = repair(tmp_path, hurt, against=write_files(tmp_path / "replica", hurt))
    assert outcome.files is None and outcome.plan.exit_code == 4


def test_a_replica_of_another_memory_is_refused(history: History, tmp_path: Path) -> None:
    emm.create(tmp_path / "other", dim=DIM, rank=RANK, key_dim=KEY_DIM, expand_at=0).close()
    damaged = write_files(tmp_path / "damaged", history.damaged(everything_damaged(history)))
    with pytest.raises(InputError, match="another memory") as caught:
        plan(damaged, against=tmp_path / "other")
    assert caught.value.rule == "N-6" and caught.value.expected == history.uuid.hex() and caught.value.exit_code == 2


def test_a_foreign_file_among_the_replicas_is_not_used(history: History, tmp_path: Path) -> None:
    emm.create(tmp_path / "other", dim=DIM, rank=RANK, key_dim=KEY_DIM, expand_at=0).close()
    foreign = read_files(tmp_path / "other")
    replica = write_files(tmp_path / "replica", history.damaged({NEWEST: foreign["0000000000000001.emm"]}))
    outcome = repair(tmp_path, history.damaged({NEWEST: in_block(history.files[NEWEST], 0)}), against=replica)
    assert outcome.same_files(history)
    assert [part.source for each in outcome.plan.files for part in each.parts] == [From.REPLAY]


def test_a_replica_that_is_behind_gives_what_it_has(history: History, tmp_path: Path) -> None:
    older = {name: data for name, data in history.files.items() if name[:16] <= f"{4:016d}"}
    replica = write_files(tmp_path / "replica", older)
    changed = {history.snapshots[0]: in_block(history.files[history.snapshots[0]], 0)}
    changed |= {name: damaged_record(history, name) for name in history.segments[:2]}
    outcome = repair(tmp_path, history.damaged(changed), against=replica)
    assert outcome.same_files(history) and any("behind" in note for note in outcome.plan.notes)


def test_a_replica_that_is_ahead_adds_nothing(history: History, tmp_path: Path) -> None:
    """Its newer commits may be right; nothing in this copy says so, and the note tells the keeper."""
    replica = write_files(tmp_path / "replica", history.files)
    with emm.open(replica, "a") as memory:
        memory.write(*pairs(9, 3))
    name = history.snapshots[1]
    outcome = repair(tmp_path, history.damaged({name: in_block(history.files[name], 0)}), against=replica)
    assert outcome.same_files(history) and outcome.lsn == 9 and any("ahead" in note for note in outcome.plan.notes)


def test_a_replica_that_went_another_way_is_not_believed(history: History, tmp_path: Path) -> None:
    """Same UUID, an older state written on differently: its commit 9 has another chain value, so it gives no head."""
    older = {name: data for name, data in history.files.items() if name[:16] <= f"{5:016d}" and name[16:] == ".emm"}
    older |= {name: history.files[name] for name in history.segments[:4]}
    replica = write_files(tmp_path / "replica", older)
    with emm.open(replica, "a") as memory:
        memory.write(*pairs(77, 2))
    assert (replica / NEWEST).exists()
    ours = history.damaged({NEWEST: both_copies(history.files[NEWEST], 150)})
    outcome = repair(tmp_path, ours, against=replica)
    assert outcome.digest == history.digests[9], "the other way's state was taken"
    assert any("another way" in note or "vouches" in note for note in outcome.plan.notes)


def test_a_block_of_the_replica_is_believed_by_its_sha256_alone(history: History, tmp_path: Path) -> None:
    """A replica whose block has its own checksums, but not ours, gives nothing."""
    replica = write_files(tmp_path / "replica", history.files)
    data = history.files[NEWEST]
    start = shape_of(data).payload_offset
    shutil.copy(replica / history.snapshots[0], replica / NEWEST)  # whole, but of another generation
    changed = history.damaged({NEWEST: smeared(data, start, BLOCK_BYTES)})
    outcome = repair(tmp_path, changed, against=replica)
    assert outcome.same_files(history)
