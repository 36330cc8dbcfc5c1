"""Kill writers at random moments and hold what is left against a model.

Purpose: the promise "acknowledged is never lost" shown on real processes. Each round forks a writer that lives on from
where its memory stands (`workload.live`), sends SIGKILL after a random delay, and opens what is left: every
acknowledged stage must be there, and the digest must be the model's at that point. Every few rounds it is opened for
append as well and verified; otherwise the unclean end is left for the next writer, so that kills land in re-logging
too. Every tenth round several writers start at once: one may get the lock, the others must be fenced.
Invariants: a fault is reported with its seed and round; delays and lives follow from the seed (the
moment that a kill hits does not: that is up to the machine).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import emm
from emm.storage.recovery import Recovered, recover
from emm.vfs.local import LocalDirectory
from emm_fuzz.fork_server import ForkServer, plan_of

DELAY_MIN_S = 20e-6
DELAY_MAX_S = 60e-3
DELAY_ACT_MAX_S = 2e-3
ACT_SECONDS_MAX = 0.3
RACE_SECONDS_MAX = 20.0
FAULTS_MAX = 10  # then a run ends: more would say the same again
STEPS_AHEAD = 6


@dataclass(slots=True)
class Tally:
    """What a run saw."""

    rounds: int = 0
    kills: int = 0
    finished: int = 0  # writers that came to the end of their plan before the kill
    acknowledged: int = 0  # stages that writers acknowledged
    in_flight: int = 0  # stages found beyond the last acknowledged one: written, not yet acknowledged
    replayed: int = 0  # commits replayed when opening after a kill
    torn: int = 0  # torn tails found
    unproven: int = 0  # ends with a whole commit that nothing proved
    relogged: int = 0  # openings for append that logged again
    races: int = 0
    fenced: int = 0  # losers of races
    verified: int = 0
    lives: int = 0  # memories made
    phases: Counter[str] = field(default_factory=Counter)  # what writers were doing when they were killed
    faults: list[str] = field(default_factory=list)

    def summary(self) -> str:
        doing = ", ".join(f"{name} {count}" for name, count in self.phases.most_common())
        return (
            f"{self.kills} kills in {self.rounds} rounds on {self.lives} memories: {self.acknowledged} acknowledged, "
            f"{self.in_flight} in-flight commits found, {self.replayed} replayed, {self.torn} torn tails, "
            f"{self.unproven} unproven ends, {self.relogged} re-logged, {self.races} races ({self.fenced} fenced), "
            f"{self.verified} verified, {self.finished} finished first, {len(self.faults)} faults\n"
            f"killed during: {doing}"
        )


class Harness:
    """One run over a series of memories in `root`."""

    def __init__(self, server: ForkServer, root: Path, seed: int) -> None:
        self.server = server
        self.root = root
        self.seed = seed
        self.random = np.random.default_rng([seed, 0x4B11])
        self.tally = Tally()
        self._life = -1
        self.url = ""
        self._next_life()

    def _next_life(self) -> None:
        if self.url:
            shutil.rmtree(self.url)
        self._life += 1
        self.tally.lives += 1
        self.plan = plan_of(self.seed * 1000 + self._life)
        self.url = str(self.root / f"memory-{self._life}")
        self.plan.create(self.url)
        self.acknowledged = 0  # the latest stage that must not be lost

    def run(self, rounds: int) -> Tally:
        for number in range(rounds):
            self.tally.rounds += 1
            told = self._race() if number % 10 == 9 else self._one()
            self._read(told, number)
            try:
                self._check(number)
            except emm.EmmError as error:
                self.tally.faults.append(f"seed {self.seed}, round {number}, life {self._life}: {error!r} {error}")
            if len(self.tally.faults) >= FAULTS_MAX:
                break
            if self.acknowledged >= len(self.plan.steps):
                self._next_life()
        return self.tally

    def _one(self) -> list[tuple[int, str]]:
        """One writer, killed after a random delay: from its start, or from the moment it begins a chosen act."""
        act, skip = self._target()
        delay = float(np.exp(self.random.uniform(np.log(DELAY_MIN_S), np.log(DELAY_MAX_S))))
        pid = self.server.ask(do="live", url=self.url, seed=self.plan.seed)["pid"]
        told: list[tuple[int, str]] = []
        if act:
            delay = min(delay, DELAY_ACT_MAX_S)
            deadline = time.monotonic() + ACT_SECONDS_MAX
            while sum(text == act for _, text in told) <= skip and time.monotonic() < deadline:
                told += self.server.told(0.001)
                if told and told[-1][1] == "done":
                    break
        time.sleep(delay)
        self.server.kill([pid])
        self.tally.kills += 1
        return told + self.server.told()

    def _target(self) -> tuple[str, int]:
        """An act of the next steps, rare ones more often, and how often it comes before; or none."""
        if self.random.random() < 0.3:
            return "", 0
        coming = ["open"]
        for step in self.plan.steps[self.acknowledged : self.acknowledged + STEPS_AHEAD]:
            coming += [*step.before, step.kind]
        if self.acknowledged + STEPS_AHEAD > len(self.plan.steps):
            coming.append("close")
        weights = np.array([1.0 if act in ("write", "open") else 4.0 for act in coming])
        index = int(self.random.choice(len(coming), p=weights / weights.sum()))
        return coming[index], coming[:index].count(coming[index])

    def _race(self) -> list[tuple[int, str]]:
        """Several writers at once, killed either when all have reported or at a random early moment."""
        n = int(self.random.integers(2, 4))
        pids = self.server.ask(do="race", url=self.url, seed=self.plan.seed, n=n)["pids"]
        told: list[tuple[int, str]] = []
        early = self.random.random() < 0.4
        deadline = time.monotonic() + (self.random.uniform(0, 0.02) if early else RACE_SECONDS_MAX)
        while (
            len({pid for pid, text in told if text in ("got", "fenced") or text.startswith("!")}) < n
            and time.monotonic() < deadline
        ):
            told += self.server.told(0.001)
        self.server.kill(pids)
        told += self.server.told()
        got = [pid for pid, text in told if text.startswith("=")]
        fenced = [pid for pid, text in told if text == "fenced"]
        self.tally.races += 1
        self.tally.kills += n
        self.tally.fenced += len(fenced)
        if len(set(got)) > 1 or (not early and (len(set(got)) != 1 or len(fenced) != n - 1)):
            self.tally.faults.append(f"race of {n}: {len(set(got))} got the lock, {len(fenced)} were fenced: {told}")
        return told

    def _read(self, told: list[tuple[int, str]], number: int) -> None:
        """Take the acknowledgements in; note what the last act was."""
        last = "start"
        for _, text in told:
            if text.startswith("= "):
                stage = int(text[2:])
                self.tally.acknowledged += max(0, stage - self.acknowledged)
                self.acknowledged = max(self.acknowledged, stage)
            elif text.startswith("!"):
                self.tally.faults.append(f"round {number}: {text}")
            else:
                last = text
        if last == "done":
            self.tally.finished += 1
        self.tally.phases[last] += 1

    def _check(self, number: int) -> None:
        recovered = recover(LocalDirectory(self.url))
        self.tally.torn += recovered.torn is not None
        self.tally.unproven += bool(recovered.unproven)
        self.tally.replayed += recovered.replayed
        with emm.open(self.url) as memory:
            digest, lsn = memory.digest, memory.lsn
        self._check_stage("r", digest, lsn, number)
        self._check_verdict(recovered, number)
        if number % 3 == 0:
            self._append_check(recovered, number)

    def _check_stage(self, mode: str, digest: str, lsn: int, number: int) -> None:
        stage = self.plan.stage_of(digest)
        where = f"seed {self.seed}, round {number}, life {self._life}, mode {mode}"
        if stage is None:
            self.tally.faults.append(f"{where}: lsn {lsn} has a digest that no moment of this life has")
        elif stage < self.acknowledged:
            self.tally.faults.append(f"{where}: stage {self.acknowledged} was acknowledged, found {stage} (lsn {lsn})")
        else:
            self.tally.in_flight += stage - self.acknowledged
            self.acknowledged = stage  # seen by a reader: whoever opens for append must keep it as well

    def _check_verdict(self, recovered: Recovered, number: int) -> None:
        """Verify agrees with what recovery saw: never damage, a torn tail exactly where recovery found one."""
        if number % 3:
            return
        report = emm.verify(self.url)
        expected = ("torn-or-damaged-tail",) if recovered.torn is not None else ("clean", "clean-unsealed")
        if str(report.verdict) not in expected:
            said = f"{report.verdict}: {report.findings[:1]}"
            self.tally.faults.append(f"round {number}: expected {' or '.join(expected)}, verify says {said}")

    def _append_check(self, recovered: Recovered, number: int) -> None:
        segments = len(list(Path(self.url).glob("*.wal")))
        with emm.open(self.url, "a") as memory:
            logged_again = len(list(Path(self.url).glob("*.wal"))) > segments
            self._check_stage("a", memory.digest, memory.lsn, number)
        self.tally.relogged += logged_again
        if logged_again == recovered.clean:
            self.tally.faults.append(f"round {number}: clean is {recovered.clean}, logged again {logged_again}")
        report = emm.verify(self.url)
        self.tally.verified += 1
        if report.exit_code != 0:
            self.tally.faults.append(f"round {number}: closed, yet verify says {report.verdict}: {report.findings[:1]}")


def run(rounds: int, seed: int) -> Tally:
    """`rounds` rounds in a temporary directory."""
    root = Path(tempfile.mkdtemp(prefix="emm-kill-"))
    try:
        with ForkServer() as server:
            return Harness(server, root, seed).run(rounds)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emm_fuzz.kill", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(2), "little"))
    given = parser.parse_args(arguments)
    started = time.monotonic()
    tally = run(given.rounds, given.seed)
    print(f"seed {given.seed}: {tally.summary()}\n{time.monotonic() - started:.1f} s")
    for fault in tally.faults:
        print(f"FAULT {fault}", file=sys.stderr)
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
