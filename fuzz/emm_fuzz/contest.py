"""Several processes that want the same memory, over and over, until a whole life is written.

Purpose: many races in which everybody wins sometimes. Each contender opens for append as soon as it can, makes one
step, closes, and tries again; from time to time one is killed and another forked in its place. Invariants, from the
order of the lines on one pipe: nobody gets the memory while a living process has it; who gets it finds the stage that
was acknowledged last, or the one begun since by somebody who was killed; each stage is acknowledged at most once; at
the end all stages are there, and verify calls the memory clean.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

import emm
from emm_fuzz.fork_server import KILLED, Line, Tell, Writers
from emm_fuzz.workload import Plan, perform

PAUSE_MAX_S: Final = 2e-3  # after letting go, so that others get their chance
KILL_PAUSE_MAX_S: Final = 5e-3  # between an acknowledgement and a kill
CONTEST_SECONDS_MAX: Final = 120.0


@dataclass(slots=True)
class Contest:
    """What a contest came to."""

    got: Counter[int] = field(default_factory=Counter)  # by process
    acknowledged: Counter[int] = field(default_factory=Counter)  # stages, by process
    fenced: int = 0
    killed: int = 0
    inherited: int = 0  # stages begun by a killed process and found by its successor, not acknowledged
    faults: list[str] = field(default_factory=list)


def contest(writers: Writers, url: str, plan: Plan, contenders: int, *, seed: int, killing: bool) -> Contest:
    """Let processes contend until the plan is at its end; then everybody has closed."""
    random = np.random.default_rng([seed, 0xC0]) if killing else None
    plan.create(url)
    living = set(writers.start_together(partial(contend, url, plan), contenders))
    lines: list[Line] = []
    dead: set[int] = set()
    deadline = time.monotonic() + CONTEST_SECONDS_MAX
    while living and time.monotonic() < deadline:
        news = writers.told(0.1)
        lines += news
        ended = {line.pid for line in news if line.text == "done" or line.text.startswith("!")} & living
        for pid in ended:
            writers.reap(pid)
        living -= ended
        if random is not None and living and not ended and any(line.text.startswith("=") for line in news):
            time.sleep(float(random.uniform(0, KILL_PAUSE_MAX_S)))
            victim = int(random.choice(sorted(living)))
            living.remove(victim)
            if writers.kill(victim) == KILLED:
                dead.add(victim)
            living.add(writers.start(partial(contend, url, plan)))
    lines += writers.told()
    result = judge(lines, dead, plan)
    if living:
        result.faults.append(f"after {CONTEST_SECONDS_MAX:.0f} s the life is not at its end")
    return result


def contend(url: str, plan: Plan, tell: Tell) -> None:
    """Get the memory, make a step, let it go, until there is no step left."""
    random = np.random.default_rng()
    while True:
        try:
            memory = emm.open(url, "a")
        except emm.FencedError:
            tell("fenced")
            time.sleep(float(random.uniform(0, PAUSE_MAX_S)))
            continue
        stage = plan.stage_of(memory.digest)
        tell(f"got {stage}")
        if stage is None:
            tell(f"! unknown digest at lsn {memory.lsn}")
            return
        if stage < len(plan.steps):
            tell("begin")
            perform(memory, plan.steps[stage])
            tell(f"= {stage + 1}")
        tell("let go")
        memory.close()
        if stage >= len(plan.steps) - 1:
            tell("done")
            return
        time.sleep(float(random.uniform(0, PAUSE_MAX_S)))


def judge(lines: list[Line], dead: set[int], plan: Plan) -> Contest:
    """Hold the lines of a contest against the invariants."""
    result = Contest(killed=len(dead))
    last_line = {line.pid: number for number, line in enumerate(lines)}
    holder, acknowledged, begun = 0, 0, False
    for number, line in enumerate(lines):
        word, _, rest = line.text.partition(" ")
        if word == "fenced":
            result.fenced += 1
        elif word == "got":
            if holder and not (holder in dead and last_line[holder] < number):
                result.faults.append(f"process {line.pid} gets what process {holder} has")
            allowed = {acknowledged, acknowledged + 1} if begun else {acknowledged}
            if rest == "None" or int(rest) not in allowed:
                result.faults.append(f"process {line.pid} finds stage {rest}, allowed {sorted(allowed)}")
            else:
                result.inherited += int(rest) - acknowledged
                acknowledged = int(rest)
            holder, begun = line.pid, False
            result.got[line.pid] += 1
        elif word == "begin":
            begun = True
        elif word == "=":
            acknowledged, begun = int(rest), False
            result.acknowledged[line.pid] += 1
        elif line.text == "let go":
            holder = 0
        elif word == "!":
            result.faults.append(line.text)
    if acknowledged != len(plan.steps):
        result.faults.append(f"the life ends at stage {acknowledged} of {len(plan.steps)}")
    return result
