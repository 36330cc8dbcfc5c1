"""Writers of one memory after another, killed at random moments.

Purpose: each round forks a writer that lives on from where its memory stands (creating it, where there is none), waits
for a chosen act, lets a part of that act's usual duration go by, sends SIGKILL and judges what is left. A third of
the unclean ends is taken over here and closed; the others are left to the next writer, so that kills land in the
taking over too. Every tenth round several writers start at once: one may get the lock, the others must be fenced.
Invariants: lives, targets and shares of durations follow from the seed; the moment that a kill hits does not, that is
up to the machine. A fault names its seed and round, and what it found is copied aside.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

import emm
from emm_fuzz.fork_server import KILLED, Line, Tell, Writers, plan_of
from emm_fuzz.kill_judge import AT_REST, NO_MEMORY, Account, BrokenPromiseError, check_verdict, find, take_over
from emm_fuzz.kill_tally import Tally
from emm_fuzz.pace import Pace
from emm_fuzz.workload import N_STAGES, Plan, begin, live, perform

DELAY_MIN_S: Final = 20e-6
DELAY_MAX_S: Final = 20e-3
DURATION_FIRST_S: Final = 1e-3  # of an act that was not seen to its end yet
OVERSHOOT: Final = 1.25  # delays go up to this share of an act's usual duration
WAIT_SECONDS_MAX: Final = 0.3  # for the chosen act
RACE_SECONDS_MAX: Final = 20.0
RACE_STEPS: Final = 3
SPIN_S: Final = 200e-6  # below that a sleep is longer than it says
FAULTS_MAX: Final = 10  # then a run ends: more would say the same again
STEPS_AHEAD: Final = 2  # among which a target is chosen: what comes before it costs time and is not killed
LENGTHS: Final = (12, 20, 32, N_STAGES)  # of lives, in turn
BARREN_ROUNDS_MAX: Final = 200  # rounds in a row without a kill that counts


class KillRounds:
    """One run over a series of memories in `root`."""

    def __init__(self, writers: Writers, root: Path, seed: int) -> None:
        self.writers = writers
        self.root = root
        self.seed = seed
        self.random = np.random.default_rng([seed, 0x4B11])
        self.tally = Tally()
        self.account = Account()
        self.plan = Plan(0)
        self.url = ""
        self.pace = Pace(DURATION_FIRST_S)
        self._next_life()

    def _next_life(self) -> None:
        if self.url:
            shutil.rmtree(self.url)
        self.plan = plan_of(self.seed * 1000 + self.tally.lives, LENGTHS[self.tally.lives % len(LENGTHS)])
        self.url = str(self.root / f"memory-{self.tally.lives}")
        self.account = Account()
        self.tally.lives += 1

    def run(self, kills: int) -> Tally:
        """Rounds until so many writers were killed at work."""
        barren = 0
        while self.tally.kills < kills and len(self.tally.faults) < FAULTS_MAX:
            before = self.tally.kills
            self._round(self.tally.rounds)
            self.tally.rounds += 1
            barren = 0 if self.tally.kills > before else barren + 1
            if barren > BARREN_ROUNDS_MAX:
                self._fault(f"{barren} rounds without a kill of a writer at work")
                break
        return self.tally

    def _round(self, number: int) -> None:
        before = self.account.acknowledged
        lines = self._race() if number % 10 == 9 and before > NO_MEMORY else self._one()
        for line in lines:
            self.account.hear(line.text)
        self.pace.learn(lines)
        self.tally.acknowledged += self.account.acknowledged - before
        try:
            if self.account.faults:
                raise BrokenPromiseError(self.account.faults[0])
            self._judge(number)
        except BrokenPromiseError as error:
            self._fault(f"round {number}: {error}")
            self._next_life()
        if self.account.acknowledged >= len(self.plan.steps):
            self._next_life()

    def _fault(self, text: str) -> None:
        kept = tempfile.mkdtemp(prefix="emm-kill-fault-")
        if Path(self.url).exists():
            shutil.copytree(self.url, Path(kept) / "memory")
        life = self.tally.lives - 1
        self.tally.faults.append(f"seed {self.seed}, life {life} (plan {self.plan.seed}), {text} (kept in {kept})")

    # --- rounds ----------------------------------------------------------------------------------

    def _one(self) -> list[Line]:
        """One writer, killed some time after it begins a chosen act, or after its start."""
        act, skip = self._target()
        share = float(self.random.random()) * OVERSHOOT
        delay = float(np.exp(self.random.uniform(np.log(DELAY_MIN_S), np.log(DELAY_MAX_S))))
        start = begin if self.account.acknowledged == NO_MEMORY else live
        pid = self.writers.start(partial(start, self.url, self.plan))
        lines: list[Line] = []
        if act:
            delay = share * self.pace.of(act)
            deadline = time.monotonic() + WAIT_SECONDS_MAX
            while sum(line.text == act for line in lines) <= skip and (left := deadline - time.monotonic()) > 0:
                lines += self.writers.told(left)
                if lines and (lines[-1].text == "done" or lines[-1].text.startswith("!")):
                    break
        _let_pass(delay)
        status = self.writers.kill(pid)
        lines += self.writers.told()
        self._count(status, lines)
        return lines

    def _target(self) -> tuple[str, int]:
        """An act of the next steps, rare ones more often, and how often it comes before; or none."""
        if self.random.random() < 0.3:
            return "", 0
        stage = self.account.acknowledged
        coming = ["open"] if stage > NO_MEMORY else ["create", "open"]
        stage = max(stage, 0)
        for step in self.plan.steps[stage : stage + STEPS_AHEAD]:
            coming += [*step.before, step.kind]
        if stage + STEPS_AHEAD > len(self.plan.steps):
            coming.append("close")
        weights = np.array([1.0 if act in ("write", "open") else 4.0 for act in coming])
        index = int(self.random.choice(len(coming), p=weights / weights.sum()))
        return coming[index], coming[:index].count(coming[index])

    def _race(self) -> list[Line]:
        """Several writers at once, killed at a random early moment, or when each knows whether it may write."""
        n = int(self.random.integers(2, 4))
        pids = self.writers.start_together(partial(contend, self.url, self.plan), n)
        early = self.random.random() < 0.4
        deadline = time.monotonic() + (self.random.uniform(0, 0.01) if early else RACE_SECONDS_MAX)
        lines: list[Line] = []
        while len({line.pid for line in lines if line.text in ("got", "fenced") or line.text[0] == "!"}) < n:
            if (left := deadline - time.monotonic()) <= 0:
                break
            lines += self.writers.told(left)
        if not early:
            _let_pass(float(self.random.uniform(0, 2e-3)))
        statuses = {pid: self.writers.kill(pid) for pid in pids}
        lines += self.writers.told()
        for pid, status in statuses.items():
            self._count(status, [line for line in lines if line.pid == pid])
        got = [line.pid for line in lines if line.text == "got"]
        fenced = [line.pid for line in lines if line.text == "fenced"]
        self.tally.races += 1
        self.tally.fenced += len(fenced)
        if len(got) > 1 or (not early and (len(got), len(fenced)) != (1, n - 1)):
            self.account.faults.append(f"race of {n}: {len(got)} got the lock, {len(fenced)} were fenced")
        return lines

    def _count(self, status: int, lines: list[Line]) -> None:
        """One writer's end, by what it was doing."""
        last = lines[-1].text if lines else ""
        if status != KILLED:
            self.tally.finished += last == "done"
            if status:
                self.account.faults.append(f"a writer ended by itself with {status}")
        else:
            self.tally.count_kill(last, AT_REST)

    # --- what is left ----------------------------------------------------------------------------

    def _judge(self, number: int) -> None:
        found = find(self.url, self.plan, self.account)
        self.tally.in_flight += found.stage - self.account.acknowledged
        self.tally.torn += found.torn
        self.tally.unproven += found.unproven > 0
        if found.recovered is None:
            self.tally.absent += 1
        else:
            self.tally.replayed += found.recovered.replayed
        self.account.found(found.stage)
        if number % 3:
            return
        if found.recovered is not None:
            check_verdict(self.url, found.recovered)
        self.tally.relogged += take_over(self.url, self.plan, found)
        self.tally.taken_over += 1
        self.tally.verified += 1
        self.account.found(max(found.stage, 0))


def contend(url: str, plan: Plan, tell: Tell) -> None:
    """Try to get the memory once; who gets it writes a few steps and keeps it."""
    tell("open")
    try:
        memory = emm.open(url, "a")
    except emm.FencedError:
        tell("fenced")
        return
    stage = plan.stage_of(memory.digest)
    if stage is None:
        tell(f"! unknown digest at lsn {memory.lsn}")
        return
    tell("got")
    tell(f"= {stage}")
    for index in range(stage, min(stage + RACE_STEPS, len(plan.steps))):
        tell(plan.steps[index].kind)
        perform(memory, plan.steps[index])
        tell(f"= {index + 1}")
    tell("rest")
    time.sleep(RACE_SECONDS_MAX * 2)


def _let_pass(seconds: float) -> None:
    end = time.perf_counter() + seconds
    if seconds > SPIN_S:
        time.sleep(seconds)
    while time.perf_counter() < end:
        pass
