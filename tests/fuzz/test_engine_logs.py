"""The engine's own files on the simulated disk: acknowledged vectors survive, torn ones are absent, none is made up.

Red when an append is acknowledged before it is durable, when a name or a folder that a dead process left is trusted,
when what a failed sync dropped is believed because it can still be read, or when a stored file is found in part.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from emm_engine.files import make_folder, read_whole, replace_durably
from emm_engine.vectors.segmented import SegmentedVectors
from emm_fuzz.crash_states import QUICK, images
from emm_fuzz.engine_logs import LogRun, Tally, engine_on, explore, main, run_one
from emm_fuzz.explore import HOWS
from emm_fuzz.mutants.patching import Patch, planted
from emm_fuzz.places import crash_point
from emm_fuzz.simulated_disk import Fault, SimulatedDisk

FAULTS = {**HOWS, "replace": ("eio",)}
BUGS = {
    "an append is not synced": Patch("emm_engine.files:_write", "os.fsync(descriptor)", "pass"),
    "a renamed file's folder is not synced": Patch(
        "emm_engine.files:replace_durably", "sync_folder(path.parent)", "pass"
    ),
    "names of the dead are trusted": Patch(
        "emm_engine.files:make_folder",
        "for folder in (path.absolute(), *path.absolute().parents):",
        "for folder in ():",
    ),
    "a record's CRC is not checked": Patch("emm_engine.vectors.log:TruthLog.read", '== records["crc"]', "!= -1"),
}


def test_every_crash_of_every_short_workload_keeps_what_was_acknowledged() -> None:
    tally = Tally()
    for length in (1, 2):
        explore(length, tally)
    assert tally.violations == []
    assert tally.workloads == 42 and tally.distinct > 2000 and tally.killed > 100


def test_the_segmented_store_writes_the_log_as_carefully() -> None:
    tally = Tally()
    explore(1, tally, SegmentedVectors)
    run_one(("add", "remove", "kill", "again"), tally, kind=SegmentedVectors)
    run_one(("add", "remove", "reopen", "add-many"), tally, (Fault("write", 2, "enospc"),), SegmentedVectors)
    assert tally.violations == [] and tally.workloads == 8 and tally.faults == 1 and tally.distinct > 500


@pytest.mark.parametrize("words", [("add", "add"), ("add", "remove", "reopen", "again")], ids=" ".join)
def test_every_fault_of_every_call_keeps_what_was_acknowledged(words: tuple[str, ...]) -> None:
    tally = Tally()
    plain = LogRun(words, Tally())
    plain.go()
    for call, hows in FAULTS.items():
        for nth in range(1, plain.disk.calls[call] + 1):
            for how in hows:
                run_one(words, tally, (Fault(call, nth, how),))
    assert tally.violations == []
    assert tally.faults >= tally.workloads > 40


def test_a_batch_that_failed_halfway_is_known_to_the_next_removal() -> None:
    """Found by this harness: half of an addition went in, and the same handle removed "nothing" and said so."""
    tally = Tally()
    run_one(("add", "remove", "reopen", "add-many"), tally, (Fault("write", 2, "enospc"),))
    assert tally.violations == [] and tally.faults == 1


def test_a_log_whose_name_a_dead_process_left_is_made_durable() -> None:
    """Found by this harness: a writer was killed between rename and fsync of the folder, and the next one went on from
    a name that a power cut then took with everything acknowledged since."""
    tally = Tally()
    run_one(("add",), tally)
    assert tally.violations == [] and tally.killed > 3


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str) -> None:
    tally = Tally()
    with planted(BUGS[bug]):
        run_one(("add", "add"), tally)
    assert len(tally.violations) == 1


def test_a_file_is_replaced_as_a_whole_or_not_at_all() -> None:
    folder = Path("/archive/embedders")
    found: list[bytes | None] = []

    def look(_: str) -> None:
        for chosen in images(crash_point(disk, str(folder)), QUICK, 0):
            found.append((chosen.image or {}).get("model"))

    disk = SimulatedDisk()
    disk.on_sync = look
    with engine_on(disk):
        make_folder(folder)
        replace_durably(folder / "model", b"old" * 1000)
        assert set(found) == {None, b"old" * 1000}
        found.clear()
        replace_durably(folder / "model", b"new" * 500)
        assert set(found) == {b"old" * 1000, b"new" * 500}
        found.clear()
        look("end")
        assert set(found) == {b"new" * 500} and read_whole(folder / "model") == b"new" * 500


def test_the_command_line_says_what_was_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--length", "1"]) == 0
    assert "6 workloads" in capsys.readouterr().out and "distinct" in Tally().summary()
