"""What a repair leaves behind about itself, and that no reader of the memory is disturbed by it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import emm
from emm.repair import execute, plan
from tests.repair.lab import (
    History,
    both_copies,
    damaged_record,
    flipped,
    in_block,
    read_files,
    repair,
    smeared,
    write_files,
)

NEWEST = "0000000000000006.emm"


def test_n7_the_record_names_every_part_and_its_source(history: History, tmp_path: Path) -> None:
    """Red when a file is missing, a hash is not that of the bytes, or a path gets in."""
    middle, segment = history.snapshots[1], history.segments[1]
    changed = {
        NEWEST: smeared(in_block(history.files[NEWEST], 1), 20),
        middle: both_copies(history.files[middle], 150),
        segment: flipped(history.files[segment], 300),
    }
    outcome = repair(tmp_path, history.damaged(changed))
    assert outcome.files is not None and outcome.result is not None
    assert outcome.result.record == "repair-0000000000000001.json"
    raw = outcome.files[outcome.result.record]
    record = json.loads(raw)
    assert (record["format"], record["version"], record["origin"]) == ("emm-repair", 1, "repair")
    assert record["uuid"] == history.uuid.hex() and record["lsn"] == 9 and record["losses"] == []
    files = {each["name"]: each for each in record["files"]}
    assert set(files) == set(history.files)
    for name, each in files.items():
        assert each["sha256"] == hashlib.sha256(outcome.files[name]).hexdigest()
        assert each["found_sha256"] == hashlib.sha256(changed.get(name, history.files[name])).hexdigest()
    assert files[NEWEST]["action"] == "mend" and files[middle]["action"] == "rebuild"
    parts = {(part["what"], part["from"]) for part in files[NEWEST]["parts"]}
    assert parts == {("header", "mirror"), ("block", "replay")}
    (block,) = [part for part in files[NEWEST]["parts"] if part["what"] == "block"]
    assert block["block"] == 1 and block["spans"][0] == {"region": "M", "rows": [341, 682], "columns": None}
    assert str(tmp_path) not in raw.decode() and "damaged/" not in raw.decode()


def test_n7_readers_do_not_see_it_and_later_repairs_keep_it(history: History, tmp_path: Path) -> None:
    """Red when verify or inspect take the record for a part of the memory, or a second repair drops the first's."""
    repair(tmp_path, history.damaged({NEWEST: in_block(history.files[NEWEST], 1)}))
    once = read_files(tmp_path / "repaired")
    assert emm.verify(tmp_path / "repaired").findings == []
    damaged = write_files(tmp_path / "again", {**once, NEWEST: in_block(once[NEWEST], 0)})
    result = execute(plan(damaged), tmp_path / "twice")
    twice = read_files(tmp_path / "twice")
    assert result.record == "repair-0000000000000002.json"
    assert twice["repair-0000000000000001.json"] == once["repair-0000000000000001.json"]
    assert {name: data for name, data in twice.items() if not name.endswith(".json")} == history.files


def test_n7_a_loss_is_in_the_record(history: History, tmp_path: Path) -> None:
    last = history.segments[-1]
    files = history.damaged({NEWEST: in_block(history.files[NEWEST], 0), last: damaged_record(history, last)})
    outcome = repair(tmp_path, files, allow_loss=True)
    assert outcome.files is not None and outcome.result is not None
    record = json.loads(outcome.files[outcome.result.record])
    assert (record["lsn"], record["lsn_proven"]) == (8, 9)
    assert {"kind": "state", "message": "commits are lost", "file": last, "lsns": [9, 9]} in record["losses"]
    assert [each["action"] for each in record["files"] if each["name"] == NEWEST] == ["leave-out"]


def test_l7_what_is_put_back_keeps_its_origin_and_a_stand_in_says_what_it_is(history: History, tmp_path: Path) -> None:
    """Red when a mended file gets another origin (then it would not be the original's), or a stand-in hides."""
    middle = history.snapshots[1]
    changed = {NEWEST: in_block(history.files[NEWEST], 1), middle: both_copies(history.files[middle], 150)}
    outcome = repair(tmp_path, history.damaged(changed))
    assert outcome.files is not None and outcome.files[NEWEST] == history.files[NEWEST]
    snapshots = {each.name: each for each in emm.inspect(tmp_path / "repaired").snapshots}
    assert snapshots[NEWEST].origin == "checkpoint" and snapshots[middle].origin == "repair"
    older = emm.decode_snapshot(outcome.files[history.snapshots[0]])
    made = emm.decode_snapshot(outcome.files[middle])
    assert made.lineage.floor_generation == made.generation == 5 and made.metadata == older.metadata
    assert made.lineage.parent_sha256 == outcome.files[history.snapshots[0]][88:120]
    assert made.digest.hex() == history.digests[made.lsn]
    assert emm.verify(tmp_path / "repaired", "replay").exit_code == 0


def test_l7_other_readers_read_a_stand_in(history: History, tmp_path: Path) -> None:
    """The reader that was written from the page alone finds the repaired memory clean, with the original's digest."""
    changed = {name: both_copies(history.files[name], 150) for name in history.snapshots[1:]}
    assert repair(tmp_path, history.damaged(changed)).digest == history.digests[9]
    reader = Path(__file__).resolve().parents[2] / "spec" / "reference_reader.py"
    done = subprocess.run(
        [sys.executable, str(reader), str(tmp_path / "repaired")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert history.digests[9] in done.stdout
