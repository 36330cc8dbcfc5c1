"""Dreamers killed at every step and at random moments, again and again, until a dream comes to its end.

Purpose: the promise of a dream on real processes: nothing lost, nothing doubled, and the bits of a dream that nobody
disturbed. First each scene's dream is killed once at each step that it tells; then lives follow in which one dream
after the other is killed at a random moment, some with an ingest in between. After each kill a process of its own
judges what is left. Invariants: only kills of a dreamer at work count; a life with an ingest in it is compared with a
memory of the kept pairs alone, since the ingest makes other bits.

    python -m emm_fuzz.dream_kill --kills 300 --seed 1
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from emm_fuzz.dream_scene import (
    SCENES,
    Scene,
    at_the_end,
    change_extractor,
    check,
    dream,
    intrude,
    leave_growing_to_dreams,
    make,
)
from emm_fuzz.fork_server import KILLED, Line, Writers
from emm_fuzz.kill import file_system, memory_folder
from emm_fuzz.kill_judge import BrokenPromiseError
from emm_fuzz.kill_tally import Tally
from emm_fuzz.pace import Pace

KILLS_PER_LIFE_MAX: Final = 12
LINES_MAX: Final = 12  # that a dreamer may tell before it is killed
INTRUDED_SHARE: Final = 0.3  # of random lives
LOOK_SECONDS: Final = 0.05
WAIT_SECONDS_MAX: Final = 60.0
OVERSHOOT: Final = 1.25


def told_of(text: str) -> str:
    """What a step is, without its number."""
    return " ".join(word for word in text.split() if not word.isdecimal())


class Killer:
    """Plays scenes in `root`."""

    def __init__(self, writers: Writers, root: Path, seed: int) -> None:
        self.writers = writers
        self.root = root
        self.random = np.random.default_rng([seed, 0xD4EA])
        self.tally = Tally()
        self.pace = Pace(0.02)
        self._before: dict[str, Path] = {}
        self._expected: dict[str, list[str]] = {}
        self._steps: dict[str, list[str]] = {}

    def prepare(self, scene: Scene) -> None:
        """The scene's archive before the dream, and what an undisturbed dream makes of it."""
        before, calm = self.root / scene.name / "before", self.root / scene.name / "calm" / "archive"
        calm.parent.mkdir(parents=True)
        self._child(partial(make, scene, before))
        shutil.copytree(before, calm)
        self._before[scene.name] = before

    def settle(self, scene: Scene) -> None:
        """After the extractor has changed: the undisturbed dream, each step of which is a moment to be killed at."""
        calm = self.root / scene.name / "calm" / "archive"
        told = self._child(partial(dream, calm, lambda _: None))
        self._steps[scene.name] = [text for text in told if not text.startswith("= ") and text != "done"]
        self._expected[scene.name] = self._child(partial(at_the_end, calm))

    def steps(self, scene: Scene) -> int:
        return len(self._steps[scene.name])

    def _child(self, act: partial[None]) -> list[str]:
        status, lines = self.writers.finish(self.writers.start(act))
        told = [line.text for line in lines]
        faults = [text for text in told if text.startswith("!")]
        if status or faults:
            raise BrokenPromiseError(f"{faults[0].rpartition(' | ')[2] if faults else told[-1:]} (status {status})")
        return told

    # --- lives -----------------------------------------------------------------------------------

    def at_step(self, scene: Scene, number: int) -> None:
        """Killed by itself at step `number`, then dreamt to its end."""

        def live(path: Path) -> bool:
            left = number

            def dying(text: str) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            status, lines = self.writers.finish(self.writers.start(partial(dream, path, dying)))
            self._count(status, lines)
            self._child(partial(check, path))
            return False

        self._life(scene, live)

    def at_random(self, scene: Scene) -> None:
        """Killed again and again."""
        intruded = bool(self.random.random() < INTRUDED_SHARE)

        def live(path: Path) -> bool:
            for number in range(int(self.random.integers(1, KILLS_PER_LIFE_MAX))):
                killed = self._kill_one(path)
                self._child(partial(check, path))
                if not killed and not intruded:
                    break
                if intruded and self.random.random() < 0.5:
                    self._child(partial(intrude, path, number))
            if intruded:
                self._child(partial(intrude, path, 99))
            return intruded

        self._life(scene, live)

    def _life(self, scene: Scene, live: Callable[[Path], bool]) -> None:
        """`live` plays on a copy and says whether an ingest came in between; then the dream is let come to its end."""
        root = Path(tempfile.mkdtemp(prefix="life-", dir=self.root))
        path = root / "archive"
        shutil.copytree(self._before[scene.name], path)
        self.tally.lives += 1
        try:
            intruded = live(path)
            self._child(partial(dream, path, lambda _: None))
            found = self._child(partial(at_the_end, path))
            if not intruded and found != self._expected[scene.name]:
                raise BrokenPromiseError(
                    f"not what an undisturbed dream makes: {found} for {self._expected[scene.name]}"
                )
            self.tally.verified += 1
        except BrokenPromiseError as error:
            kept = tempfile.mkdtemp(prefix="emm-dream-fault-")
            shutil.copytree(root, kept, dirs_exist_ok=True)
            self.tally.faults.append(f"{scene.name}: {error} (kept in {kept})")
        finally:
            shutil.rmtree(root, ignore_errors=True)

    def _kill_one(self, path: Path) -> bool:
        """Whether the signal found it alive."""
        pid = self.writers.start(partial(dream, path, lambda _: None))
        lines: list[Line] = []
        count, deadline = int(self.random.integers(1, LINES_MAX)), time.monotonic() + WAIT_SECONDS_MAX
        while len(lines) < count and time.monotonic() < deadline and not self.writers.has_ended(pid):
            lines += self.writers.told(LOOK_SECONDS)
        last = lines[-1].text if lines else ""
        time.sleep(float(self.random.random()) * OVERSHOOT * self.pace.of(last))
        status = self.writers.kill(pid)
        lines += self.writers.told()
        self._count(status, lines)
        self.pace.learn(lines)
        return status == KILLED

    def _count(self, status: int, lines: list[Line]) -> None:
        last = lines[-1].text if lines else ""
        if any(line.text.startswith("!") for line in lines):
            raise BrokenPromiseError(next(line.text for line in lines if line.text.startswith("!")))
        self.tally.rounds += 1
        if status == KILLED:
            self.tally.count_kill(told_of(last), at_rest=("done",))
        else:
            self.tally.finished += 1


def run(kills: int, seed: int, folder: Path, every_step: bool = True) -> Tally:
    """Every step of every scene, then random lives until so many dreamers were killed at work."""
    from emm_engine.embeddings import lsa  # noqa: F401  here, once, and not in every fork

    root = Path(tempfile.mkdtemp(prefix="emm-dream-", dir=folder))
    try:
        with Writers() as writers:
            killer = Killer(writers, root, seed)
            leave_growing_to_dreams()
            for scene in SCENES:
                killer.prepare(scene)
            change_extractor()
            for scene in SCENES:
                killer.settle(scene)
            for scene in SCENES if every_step else ():
                for number in range(killer.steps(scene)):
                    killer.at_step(scene, number)
            while killer.tally.kills < kills and len(killer.tally.faults) < 5:
                killer.at_random(SCENES[killer.tally.lives % len(SCENES)])
            return killer.tally
    finally:
        shutil.rmtree(root, ignore_errors=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m emm_fuzz.dream_kill", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--random-only", action="store_true", help="not at every step first")
    parser.add_argument("--folder", type=Path, help="where the archives lie; default tmpfs, where there is one")
    given = parser.parse_args(arguments)
    folder = given.folder or memory_folder()
    started = time.monotonic()
    total = run(given.kills, given.seed, folder, every_step=not given.random_only)
    doing = ", ".join(f"{name} {count}" for name, count in total.phases.most_common())
    print(
        f"seed {given.seed} on {file_system(folder)}: {total.kills} kills of dreamers at work in {total.lives} lives "
        f"(not counted: {total.early} before a first step, {total.finished + total.at_rest} finished first), "
        f"{total.verified} archives as they must be, {len(total.faults)} faults\n"
        f"killed during: {doing}\n{time.monotonic() - started:.1f} s"
    )
    for fault in total.faults:
        print(f"FAULT {fault}", file=sys.stderr)
    return 1 if total.faults else 0


if __name__ == "__main__":
    sys.exit(main())
