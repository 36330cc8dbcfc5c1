"""Every part of every file is damaged by itself, and comes back bit for bit.

Red when a part of a file has no source any more, when a source gives other bytes than the original's, when a damaged
block is zero-filled, or when the damaged memory itself is written to.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import emm
from emm.layout import BLOCK_BYTES, RecordType
from emm.repair import Action, From
from tests.repair.lab import (
    History,
    Outcome,
    both_copies,
    flipped,
    mirror_place,
    records,
    repair,
    shape_of,
    smeared,
)

SNAPSHOTS = [f"{generation:016d}.emm" for generation in (4, 5, 6)]
SEGMENTS = [f"{number:016d}.wal" for number in (1, 2, 3, 4, 5)]


def assert_as_it_was(outcome: Outcome, history: History) -> None:
    assert outcome.error is None and outcome.result is not None, outcome.error
    assert outcome.digest == history.digests[history.lsn] and outcome.lsn == history.lsn
    assert outcome.same_files(history)
    assert outcome.plan.exit_code == 3 and outcome.result.exit_code == 0 and outcome.result.report.verdict == "clean"
    assert outcome.plan.losses == ()


def test_the_memory_is_what_these_tests_think(history: History) -> None:
    assert history.snapshots == SNAPSHOTS and history.segments == SEGMENTS and history.lsn == 9
    shape = shape_of(history.files[SNAPSHOTS[0]])
    assert shape.n_blocks == 3 and BLOCK_BYTES % (4 * 48) != 0
    kinds = {record.type for name in SEGMENTS for record in records(history, name)}
    assert kinds == set(RecordType) - {RecordType.EXPAND}


def test_a_whole_memory_needs_nothing(history: History, tmp_path: Path) -> None:
    outcome = repair(tmp_path, history.files)
    assert not outcome.plan.damaged and outcome.plan.exit_code == 0 and outcome.plan.lines() == ["nothing to repair"]
    assert outcome.same_files(history)


@pytest.mark.parametrize("name", SNAPSHOTS)
@pytest.mark.parametrize("block", [0, 1, 2])
def test_a_block_is_recomputed(history: History, tmp_path: Path, name: str, block: int) -> None:
    """Only its rows: the plan names them. Red when replay gives other bytes, or another block is touched."""
    data = history.files[name]
    start = shape_of(data).payload_offset + block * BLOCK_BYTES
    outcome = repair(tmp_path, history.damaged({name: smeared(data, start, BLOCK_BYTES if block < 2 else 12000)}))
    assert_as_it_was(outcome, history)
    (touched,) = [each for each in outcome.plan.files if each.action is not Action.COPY]
    (part,) = touched.parts
    assert touched.name == name and part.block == block and part.source is From.REPLAY
    row_bytes = 4 * 48
    rows = (block * BLOCK_BYTES // row_bytes, min(699, ((block + 1) * BLOCK_BYTES - 1) // row_bytes))
    assert part.spans[0].region == "M" and part.spans[0].rows == rows


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_one_flipped_bit_of_a_block_is_put_back(history: History, tmp_path: Path, name: str) -> None:
    data = history.files[name]
    outcome = repair(tmp_path, history.damaged({name: flipped(data, shape_of(data).payload_offset + 70_001)}))
    assert_as_it_was(outcome, history)
    assert [part.source for each in outcome.plan.files for part in each.parts] == [From.BIT]


HEAD_PARTS = {"header": 30, "lineage": 140, "table": 300, "metadata": 400, "padding": 2000}


@pytest.mark.parametrize("name", SNAPSHOTS)
@pytest.mark.parametrize("part", HEAD_PARTS)
def test_each_part_of_the_head_comes_back(history: History, tmp_path: Path, name: str, part: str) -> None:
    data, offset = history.files[name], HEAD_PARTS[part]
    outcome = repair(tmp_path, history.damaged({name: smeared(data, offset, 5)}))
    assert_as_it_was(outcome, history)
    assert [each.what for file in outcome.plan.files for each in file.parts] == [part]


@pytest.mark.parametrize("part", ["header", "lineage", "table", "metadata"])
def test_each_part_of_the_mirror_comes_back(history: History, tmp_path: Path, part: str) -> None:
    name = SNAPSHOTS[-1]
    data = history.files[name]
    place = mirror_place(shape_of(data), HEAD_PARTS[part])
    outcome = repair(tmp_path, history.damaged({name: smeared(data, place, 5)}))
    assert_as_it_was(outcome, history)
    assert [(each.what, each.source) for file in outcome.plan.files for each in file.parts] == [("mirror", From.HEAD)]


@pytest.mark.parametrize(("first", "second"), [(20, 90), (140, 200), (30, 300), (405, 288), (150, 20)])
def test_copies_damaged_in_different_bytes_make_one_head(
    history: History, tmp_path: Path, first: int, second: int
) -> None:
    """Also within one part, where verify's choice of whole parts finds nothing. Red without the choice by bytes."""
    name = SNAPSHOTS[-1]
    data = history.files[name]
    hurt = smeared(smeared(data, first, 2), mirror_place(shape_of(data), second), 2)
    outcome = repair(tmp_path, history.damaged({name: hurt}))
    assert_as_it_was(outcome, history)


@pytest.mark.parametrize("offset", [30, 150, 310, 400])
def test_one_bit_wrong_in_both_copies_of_the_head_is_found(history: History, tmp_path: Path, offset: int) -> None:
    name = SNAPSHOTS[0]
    data = history.files[name]
    hurt = flipped(flipped(data, offset), mirror_place(shape_of(data), offset))
    assert_as_it_was(repair(tmp_path, history.damaged({name: hurt})), history)


@pytest.mark.parametrize("kept", [130, 4096, 100_000, 200_000])
def test_a_snapshot_cut_short_comes_back(history: History, tmp_path: Path, kept: int) -> None:
    """Cut inside its head it is known no more, and a snapshot of origin repair takes its place."""
    name = SNAPSHOTS[1]
    outcome = repair(tmp_path, history.damaged({name: history.files[name][:kept]}))
    assert outcome.digest == history.digests[history.lsn] and outcome.result and outcome.result.exit_code == 0
    assert outcome.same_files(history) == (kept >= 4096)


def test_bytes_after_the_end_are_left_out(history: History, tmp_path: Path) -> None:
    name = SNAPSHOTS[1]
    outcome = repair(tmp_path, history.damaged({name: history.files[name] + b"more"}))
    assert_as_it_was(outcome, history)


@pytest.mark.parametrize("name", SEGMENTS)
@pytest.mark.parametrize("place", ["header", "payload", "trailer"])
def test_one_flipped_bit_of_each_record_is_put_back(history: History, tmp_path: Path, name: str, place: str) -> None:
    """Red when the chain is not asked, when a CRC of a header is not searched, or when a record is skipped."""
    for index, record in enumerate(records(history, name)):
        inside = {"header": 3 * index % 32, "payload": 32 + len(record.payload) // 2, "trailer": record.size - 2}[place]
        hurt = flipped(history.files[name], record.offset + inside, index % 8)
        outcome = repair(tmp_path, history.damaged({name: hurt}))
        assert_as_it_was(outcome, history)


@pytest.mark.parametrize("name", SEGMENTS)
def test_headers_and_checksums_of_records_follow_from_the_rest(history: History, tmp_path: Path, name: str) -> None:
    """Several bits at once: marks and seals whole, headers, trailing CRCs, and the chain value of each commit."""
    for record in records(history, name):
        whole = record.type in (RecordType.MARK, RecordType.SEAL)
        places = [(0, 40)] if whole else [(0, 32), (record.size - 4, 4)]
        if record.type is RecordType.COMMIT:
            places.append((32 + 24, 32))
        for offset, length in places:
            hurt = smeared(history.files[name], record.offset + offset, length)
            assert_as_it_was(repair(tmp_path, history.damaged({name: hurt})), history)


@pytest.mark.parametrize("name", SEGMENTS)
def test_the_header_of_a_segment_comes_back(history: History, tmp_path: Path, name: str) -> None:
    data = history.files[name]
    assert_as_it_was(repair(tmp_path, history.damaged({name: flipped(data, 60)})), history)
    outcome = repair(tmp_path, history.damaged({name: smeared(data, 72, 32)}))  # its chain value
    if name != SEGMENTS[0]:  # nothing comes before the first one to follow from
        assert_as_it_was(outcome, history)
    for hurt in (smeared(data, 124, 4), smeared(data, 24, 8)):  # its CRC-32, its first LSN
        outcome = repair(tmp_path, history.damaged({name: hurt}))
        if name != SEGMENTS[0]:
            assert_as_it_was(outcome, history)


def test_a_seal_that_was_cut_off_is_put_back(history: History, tmp_path: Path) -> None:
    name = SEGMENTS[-1]
    outcome = repair(tmp_path, history.damaged({name: history.files[name][:-40]}))
    assert outcome.digest == history.digests[history.lsn] and outcome.same_files(history)


def test_bytes_after_a_seal_are_left_out(history: History, tmp_path: Path) -> None:
    name = SEGMENTS[-1]
    assert_as_it_was(repair(tmp_path, history.damaged({name: history.files[name] + bytes(64)})), history)


def test_damage_in_many_files_at_once(history: History, tmp_path: Path) -> None:
    """A block of each generation, a head, a record of each segment: replay reads the journal as it is mended."""
    changed = {name: smeared(history.files[name], 4096 + 1000 * n, 400) for n, name in enumerate(SNAPSHOTS)}
    changed[SNAPSHOTS[1]] = smeared(changed[SNAPSHOTS[1]], 20, 9)
    changed |= {name: flipped(history.files[name], 200 + n) for n, name in enumerate(SEGMENTS)}
    outcome = repair(tmp_path, history.damaged(changed))
    assert_as_it_was(outcome, history)


def test_the_repaired_memory_goes_on(history: History, tmp_path: Path) -> None:
    """It can be written to, unlearned from and verified by replay."""
    name = SNAPSHOTS[-1]
    repair(tmp_path, history.damaged({name: both_copies(history.files[name], 150)}))
    with emm.open(tmp_path / "repaired", "a") as memory:
        keys, values = memory_pairs()
        memory.unlearn(keys, values)
    assert emm.verify(tmp_path / "repaired", "numeric").exit_code == 0


def memory_pairs():
    from tests.repair.lab import pairs

    keys, values = pairs(6, 2)
    return keys[:1], values[:1]
