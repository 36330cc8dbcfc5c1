"""Sessions drawn at random survive faults and ends of every kind; the machine that draws them sees planted bugs.

Red when a drawn session loses what was acknowledged, when a reader or verify disagrees with the model, when the machine
no longer finds a bug that it should, when what it finds cannot be replayed, or when a session does not follow from its
seed.
"""

from __future__ import annotations

import pytest

import emm
from emm.errors import CorruptionError, StorageError
from emm.storage.recovery import recover
from emm_fuzz.cases import Case, applicable
from emm_fuzz.crash_states import Spec
from emm_fuzz.deterministic import deterministic
from emm_fuzz.ends import EndOfProcess
from emm_fuzz.geometry import GEOMETRIES
from emm_fuzz.judge import PATH, ViolationError
from emm_fuzz.life import Lives, replay
from emm_fuzz.machine import main, run_machine
from emm_fuzz.memo import ImageDirectory
from emm_fuzz.mutants.patching import Patch, planted
from emm_fuzz.places import crash_point
from emm_fuzz.simulated_disk import SimulatedDisk
from emm_fuzz.simulated_os import mounted

EXAMPLES = 120
BUGS = {
    "a commit is acknowledged from the page cache": Patch(
        "emm.vfs.handles:LocalAppender.sync", "os.fdatasync(self._fd)", "pass"
    ),
    "what only the page cache holds is not logged again": Patch(
        "emm.storage.journal_writer:JournalWriter.__init__", "if not recovered.clean:", "if recovered.torn:"
    ),
    "a merge leaves out every source but the first": Patch(
        "emm.memory.opening:merge", "merged = kernel.merge(states)", "merged = kernel.merge(states[:1])"
    ),
}


def found(examples: int, *, shrink: bool = False) -> str:
    """What the machine says of the library as it is at present."""
    with pytest.raises(ViolationError) as caught:
        run_machine(examples, seed_of=7, shrink=shrink)
    return str(caught.value)


def replayed(message: str) -> Case:
    """The case in the line that a violation prints."""
    return Case.from_json(message.partition("--replay '")[2].rpartition("'")[0])


def test_drawn_sessions_lose_nothing() -> None:
    lives = run_machine(EXAMPLES)
    print(lives.summary())
    assert lives.lives >= EXAMPLES and lives.looks > 5 * EXAMPLES
    kinds = {
        "write",
        "unlearn",
        "forget",
        "bare",
        "resolve",
        "merge",
        "checkpoint",
        "prune",
        "reopen",
        "kill",
        "second",
    }
    assert kinds | {"fault", "cut", "die", "mark", "prune-journal", "close", "refused"} <= set(lives.words)
    assert lives.faults_met > 10 and lives.ends > 50


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found_and_its_line_replays_it(bug: str) -> None:
    with planted(BUGS[bug]):
        case = replayed(found(60))
        with pytest.raises(ViolationError):
            replay(case, Lives())
    replay(case, Lives())  # without the bug the same session is well


def test_what_is_found_is_shrunk_to_a_few_words() -> None:
    with planted(BUGS["a commit is acknowledged from the page cache"]):
        case = replayed(found(60, shrink=True))
    assert len(case.workload) <= 2 and not case.faults and case.geometry == "small"


def test_the_same_seed_draws_the_same_sessions_and_another_one_others() -> None:
    first = run_machine(6, seed_of=1).summary()
    assert first == run_machine(6, seed_of=1).summary() != run_machine(6, seed_of=2).summary()


def test_a_session_may_go_on_from_a_crash_in_the_middle_of_anything() -> None:
    """Power cuts and deaths at the first sync, the last one and between, in each geometry; found by no chance."""
    for geometry in GEOMETRIES:
        for end in ("cut 1 512 0 short", "cut 2 4096 3 garbage", "cut 3 512 1 short 0 9 zeros", "die 3"):
            words = ["write 3", end, "write 2", "checkpoint", end, "close", "write", "kill", end, "prune 1", "write"]
            lives = Lives()
            replay(Case(tuple(words), geometry=geometry), lives)
            assert lives.ends == 3 and lives.words["write"] == 4


def test_a_crash_in_a_merge_leaves_the_sources_and_all_or_nothing_of_the_result() -> None:
    """At each of its syncs; what follows works on whichever memory the session is left with."""
    for point in range(1, 15, 2):
        for end in (f"cut {point} 512 5 short", f"cut {point} 4096 0 zeros", f"die {point}"):
            workload = ("write 2", end, "merge 3", "write", "merge 1", "unlearn", "bare", "write 2", "close")
            assert applicable(workload)
            lives = Lives()
            replay(Case(workload), lives)
            assert lives.ends == 1 and lives.words["merge"] == 2


def test_the_command_line_draws_and_replays(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--examples", "3", "--seed", "5"]) == 0
    assert "looks by a reader" in capsys.readouterr().out
    assert main(["--replay", '{"workload":["write 2","die 1","merge"],"seed":0,"geometry":"wide"}']) == 0
    with planted(BUGS["a commit is acknowledged from the page cache"]):
        assert main(["--replay", '{"workload":["write"],"seed":0}']) == 1
    assert "VIOLATION recovered lsn 0" in capsys.readouterr().out


def test_a_name_that_a_failed_sync_of_a_successor_drops_is_missed_loudly() -> None:
    """What nobody is promised (spec 1.1), pinned as it is.

    A writer is killed between link and fsync of the directory. The next one syncs the directory, as it must; that sync
    fails and drops the name, which everybody still sees. A third one cannot know: its sync succeeds and proves
    nothing, its commits are acknowledged, and a power cut takes the name away. Red when such a memory is believed.
    """

    def die(call: str) -> None:
        if call == "fsync-dir":
            raise EndOfProcess(disk)

    with deterministic(), mounted(SimulatedDisk()) as disk:
        memory = GEOMETRIES["small"].create(PATH)
        disk.on_sync = die
        with pytest.raises(EndOfProcess):
            memory.write([[1.0] * 32], [[2.0] * 16])
        disk.on_sync = None
        disk.kill()
        disk.faults["fsync-dir", disk.calls["fsync-dir"] + 1] = "drop"
        with pytest.raises(StorageError):
            emm.open(PATH, "a")
        disk.kill()
        assert disk.in_doubt
        with emm.open(PATH, "a") as third:
            third.write([[3.0] * 32], [[4.0] * 16])
            image = crash_point(disk, PATH).build(Spec(512, 0))
        with pytest.raises(CorruptionError) as caught:
            recover(ImageDirectory(image, PATH))
        assert caught.value.rule == "R-2"
        disk.kill()
