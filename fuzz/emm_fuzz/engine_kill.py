"""A process that ingests a folder into an archive, killed at random moments, again and again.

Purpose: the engine's promise on real processes: what an ingest acknowledged is answered with its text, whatever came
after. A life (`engine_life`) is lived by one writer after the other; each is killed, what it left is judged by a
process of its own (the archive opens, SQLite finds itself whole, every acknowledged note is there word for word and is
answered, the memory verifies), and the next writer repeats the ingest that was interrupted. At the end everything is
ingested once more, which must change nothing, and the archive must be that of an undisturbed life: the same matrix to
the bit, the same tree, the same answers. Invariants: only kills of a writer at work count; the lives and the shares of
durations follow from the seed, the moments do not.

    python -m emm_fuzz.engine_kill --kills 300 --seed 1
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from emm_fuzz.engine_checks import at_the_end, check_archive, undisturbed
from emm_fuzz.engine_life import ingest_on, parts_of
from emm_fuzz.fork_server import KILLED, Line, Writers
from emm_fuzz.kill import file_system, memory_folder
from emm_fuzz.kill_judge import BrokenPromiseError
from emm_fuzz.kill_tally import Tally
from emm_fuzz.pace import Pace

LINES_MAX: Final = 8  # that a writer may tell before it is killed
DURATION_FIRST_S: Final = 10e-3
OVERSHOOT: Final = 1.25
WAIT_SECONDS_MAX: Final = 20.0
LOOK_SECONDS: Final = 0.05  # between looks whether it still lives
FAULTS_MAX: Final = 5


class EngineLife:
    """One life in `root`, killed until it is at its end."""

    def __init__(self, writers: Writers, root: Path, seed: int) -> None:
        self.writers = writers
        self.seed = seed
        self.random = np.random.default_rng([seed, 0xE9])
        self.parts = parts_of(seed)
        self.path = root / "archive"
        self.notes = root / "notes"
        self.tally = Tally(lives=1)
        self.acknowledged = 0  # ingests
        self.pace = Pace(DURATION_FIRST_S)

    def run(self) -> Tally:
        calm = self.path.with_name("undisturbed")
        expected = self._in_child(partial(undisturbed, calm, self.notes.with_name("calm-notes"), self.parts))
        while self.acknowledged < len(self.parts) and len(self.tally.faults) < FAULTS_MAX:
            self.tally.rounds += 1
            try:
                self._round()
            except BrokenPromiseError as error:
                self._fault(f"round {self.tally.rounds}: {error}")
                break
        if not self.tally.faults:
            found = self._in_child(partial(at_the_end, self.path, self.notes, self.parts))
            if found != expected or not expected:
                self._fault(f"not the archive of an undisturbed life: {found[:1]} for {expected[:1]}")
        return self.tally

    def _fault(self, text: str) -> None:
        kept = tempfile.mkdtemp(prefix="emm-engine-fault-")
        shutil.copytree(self.path.parent, kept, dirs_exist_ok=True)
        self.tally.faults.append(f"seed {self.seed}, {text} (kept in {kept})")

    def _in_child(self, act: partial[None]) -> list[str]:
        """What a process of its own tells, without the time; its faults become ours."""
        status, lines = self.writers.finish(self.writers.start(act))
        told = [line.text for line in lines]
        faults = [text for text in told if text.startswith("!")]
        if status or faults:
            self._fault(f"{faults[0].rpartition(' | ')[2] if faults else told[-1:]} (status {status})")
            return []
        return told

    # --- one writer ------------------------------------------------------------------------------

    def _round(self) -> None:
        pid = self.writers.start(partial(ingest_on, self.path, self.notes, self.parts, self.acknowledged))
        lines: list[Line] = []
        count = int(self.random.integers(1, LINES_MAX))
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while len(lines) < count and time.monotonic() < deadline and not self.writers.has_ended(pid):
            lines += self.writers.told(LOOK_SECONDS)
        last = lines[-1].text if lines else ""
        time.sleep(float(self.random.random()) * OVERSHOOT * self.pace.of(last))
        status = self.writers.kill(pid)
        lines += self.writers.told()
        self._count(status, lines)
        self.pace.learn(lines)
        before = self.acknowledged
        for line in lines:
            if line.text.startswith("!"):
                raise BrokenPromiseError(line.text)
            if line.text.startswith("= "):
                self.acknowledged = int(line.text[2:])
        self.tally.acknowledged += self.acknowledged - before
        chosen = int(self.random.integers(1 << 30))
        self._in_child(partial(check_archive, self.path, self.parts, self.acknowledged, chosen))
        self.tally.verified += 1

    def _count(self, status: int, lines: list[Line]) -> None:
        last = lines[-1].text if lines else ""
        if status != KILLED:
            self.tally.finished += 1
            if status:
                raise BrokenPromiseError(f"a writer ended by itself with {status}: {last}")
        else:
            self.tally.count_kill(last, at_rest=("done",))


# --- runs ----------------------------------------------------------------------------------------


def life(seed: int, folder: str) -> Tally:
    """One life, in a warm process."""
    root = Path(tempfile.mkdtemp(prefix="emm-engine-", dir=folder))
    try:
        from emm_engine.embeddings import lsa  # noqa: F401  here, once, and not in every fork

        with Writers() as writers:
            return EngineLife(writers, root, seed).run()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def run(kills: int, seed: int, folder: Path, *, processes: int = 2) -> Tally:
    """Life after life until so many writers were killed at work."""
    total = Tally()
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        while total.kills < kills and not total.faults:
            seeds = [seed * 1000 + total.lives + number for number in range(processes)]
            for tally in pool.map(partial(life, folder=str(folder)), seeds):
                total.add(tally)
    return total


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m emm_fuzz.engine_kill", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the archives lie; default tmpfs, where there is one")
    given = parser.parse_args(arguments)
    folder = given.folder or memory_folder()
    started = time.monotonic()
    total = run(given.kills, given.seed, folder, processes=given.processes)
    doing = ", ".join(f"{name} {count}" for name, count in total.phases.most_common())
    print(
        f"seed {given.seed} on {file_system(folder)}: {total.kills} kills in {total.lives} lives (not counted: "
        f"{total.early} before a first act, {total.finished + total.at_rest} finished first), {total.acknowledged} "
        f"ingests acknowledged, {total.verified} archives checked, {len(total.faults)} faults\n"
        f"killed during: {doing}\n{time.monotonic() - started:.1f} s"
    )
    for fault in total.faults:
        print(f"FAULT {fault}", file=sys.stderr)
    return 1 if total.faults else 0


if __name__ == "__main__":
    sys.exit(main())
