"""What the kill harness found, each with its story, without the chance that found it.

Red when the bug of the story comes back.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import emm
from emm_fuzz.fork_server import KILLED, Tell, Writers, plan_of
from emm_fuzz.workload import perform


def test_a_first_commit_that_was_logged_again_is_not_missing(tmp_path: Path) -> None:
    """A writer is killed after its first commit and before anything proves it; the next one logs it again, so nothing
    in segment 1 counts any more. Once the snapshots before it are pruned, verify said of this healthy memory that
    commits 0 to 0 were missing: it took "holds nothing that counts" for "begins too late".
    """
    url, plan = str(tmp_path / "memory"), plan_of(282, 12)

    def write_and_die(tell: Tell) -> None:
        plan.create(url)
        memory = emm.open(url, "a")
        perform(memory, plan.steps[0])
        os.kill(os.getpid(), signal.SIGKILL)

    with Writers() as writers:
        assert writers.reap(writers.start(write_and_die)) == KILLED
    with emm.open(url, "a") as memory:
        assert memory.digest == plan.stages[1].digest
    assert str(emm.verify(url).verdict) == "clean"
    with emm.open(url, "a") as memory:
        memory.prune(keep=1)
    report = emm.verify(url)
    assert (report.verdict, report.findings) == ("clean", [])
