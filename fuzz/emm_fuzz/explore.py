"""Run workloads on a simulated disk and look at every directory that a power cut could leave.

Purpose: the promise "an acknowledged write survives" with a number, a seed and a replay command. Invariants: a run
follows from the case and the seed alone (the trace digest says so); a violation prints one line that replays it; every
count says what was looked at, not what was planned. The exhaustive engine looks at the last operation of each
workload only: the ones before it are the last of a shorter workload.

    python -m emm_fuzz.explore --seconds 30 --seed 1 --jsonl FILE
    python -m emm_fuzz.explore --replay '{"workload":["write"],"point":3,"spec":[512,1,"short",null]}'
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from emm_fuzz.cases import Case, random_workload
from emm_fuzz.counts import States
from emm_fuzz.crash_states import QUICK, Bounds
from emm_fuzz.deterministic import deterministic
from emm_fuzz.enumeration import enumeration_of
from emm_fuzz.geometry import DEFAULT, GEOMETRIES
from emm_fuzz.jsonl import append_line
from emm_fuzz.judge import ViolationError
from emm_fuzz.memo import remembered
from emm_fuzz.record import Record, Tally
from emm_fuzz.runs import Run
from emm_fuzz.simulated_disk import Fault, SimulatedDisk

VIOLATIONS_MAX = 10  # then a run ends: more would say the same again
HOWS = {
    "open": ("eio",),
    "pread": ("eio",),
    "scandir": ("eio",),
    "write": ("eio", "enospc", "short"),
    "fsync": ("drop", "keep"),
    "fsync-dir": ("drop", "keep"),
    "link": ("eio", "enospc"),
    "unlink": ("eio",),
    "mkdir": ("enospc",),
}


class Explorer(Record):
    """Runs cases and keeps what it has seen, so that no image is judged twice."""

    def __init__(self, bounds: Bounds = QUICK, *, stop_at_first: bool = False) -> None:
        super().__init__(bounds)
        self.violations_max = 1 if stop_at_first else VIOLATIONS_MAX

    def run(self, case: Case, *, last_only: bool = False) -> None:
        """Live through one case; violations are kept in the tally."""
        self.begin(case)
        with deterministic() as source, remembered():
            run = Run(self, case, source, last_only)
            try:
                run.go()
            except ViolationError as error:
                self.violation(run.replayable(), str(error))
            except Exception as error:  # a bug of the library or of the harness: a replay will tell
                self.violation(run.replayable(), f"{type(error).__name__}: {error}")
            self._count_faults(run.disk)

    def _count_faults(self, disk: SimulatedDisk) -> None:
        """By kind; "next" are those that follow upon another one."""
        kinds = [f"{call} {how}" for (call, nth), how in disk.faults.items() if nth <= disk.calls[call]]
        self.tally.faults.update(kinds)
        if disk.faults_met > len(kinds):
            self.tally.faults["next"] += disk.faults_met - len(kinds)

    def calls(self, case: Case) -> Counter[str]:
        """The system calls of a case by kind, for planning faults."""
        with deterministic() as source:
            run = Run(Explorer(), case, source, last_only=False, blind=True)
            run.go()
        return run.disk.calls

    def run_faults(self, workload: tuple[str, ...], *, calls: Collection[str] = (), stride: int = 1) -> None:
        """The workload once for every call (of these kinds) that can fail and every way in which it can."""
        plan = [
            Fault(call, nth, how)
            for call, count in sorted(self.calls(Case(workload)).items())
            for nth in range(1, count + 1)
            for how in HOWS.get(call, ())
            if not calls or call in calls
        ]
        for fault in plan[::stride]:
            if self.done:
                return
            self.run(Case(workload, (fault,)))

    @property
    def done(self) -> bool:
        return len(self.tally.violations) >= self.violations_max


# --- engines --------------------------------------------------------------------------------------


def explore_exhaustively(explorer: Explorer, length_max: int, part: int = 0, parts: int = 1) -> Iterator[int]:
    """Each operation in each situation that a workload up to a length can reach, looked at in its last operation.

    Yields the length after each. With `parts` only this one of so many: neighbours stay together, they share states.
    """
    enumeration = enumeration_of()
    for length in range(length_max + 1):
        workloads = enumeration.representatives(length)
        first, end = (len(workloads) * each // parts for each in (part, part + 1))
        for workload in workloads[first:end]:
            if explorer.done:
                return
            explorer.run(Case(workload), last_only=True)
            yield length


def explore_randomly(explorer: Explorer, seed: int) -> Iterator[int]:
    """Seeded workloads without end, every second one with faults, every fourth in another shape; yields after each."""
    shapes = [each for each in GEOMETRIES if each != DEFAULT]
    for number in itertools.count():
        if explorer.done:
            return
        random = np.random.default_rng([seed, number])
        geometry = str(random.choice(shapes)) if number % 4 == 3 else DEFAULT
        workload = random_workload(random, int(random.integers(3, 10)), geometry)
        case = Case(workload, seed=int(random.integers(1 << 31)), geometry=geometry)
        if number % 2:
            calls = explorer.calls(case)
            case = replace(case, faults=tuple(_fault(random, calls) for _ in range(int(random.integers(1, 4)))))
        explorer.run(case)
        yield number


def _fault(random: np.random.Generator, calls: Counter[str]) -> Fault:
    """A fault that a workload with these calls meets, or does not when an earlier one changed its course."""
    call = str(random.choice(sorted(set(calls) & set(HOWS))))
    return Fault(call, int(random.integers(1, calls[call] + 4)), str(random.choice(HOWS[call])))


def _states(states: States) -> str:
    kinds = ", ".join(f"{states.why[kind]} {kind}" for kind in ("exhaustive", "sampled", "torn"))
    return f"{states.raw} raw, {states.distinct} distinct ({kinds}), {states.left_out} left out, {states.cut} cut"


def report(tally: Tally, seconds: float) -> str:
    """One line for people, and one to replay each violation."""
    lines = [
        f"{tally.cases} cases, {tally.points} crash points: {_states(tally.first)}; "
        f"nested in {tally.nested.aftermaths} recoveries: {_states(tally.nested)}; {tally.killed} kills, "
        f"{sum(tally.faults.values())} faults, {len(tally.violations)} violations; {seconds:.1f} s, trace {tally.trace}"
    ]
    for case, message in tally.violations:
        lines += [f"VIOLATION {message}", f"  python -m emm_fuzz.explore --replay '{case.to_json()}'"]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emm_fuzz.explore", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to explore at random")
    parser.add_argument("--length", type=int, default=2, help="before that, all workloads up to this length")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jsonl", type=Path, help="append the numbers of this run to a file")
    parser.add_argument("--replay", help="run one case, as a violation prints it")
    given = parser.parse_args(arguments)
    explorer = Explorer()
    started = time.monotonic()
    if given.replay:
        explorer.run(Case.from_json(given.replay))
    else:
        engines = itertools.chain(explore_exhaustively(explorer, given.length), explore_randomly(explorer, given.seed))
        for _ in engines:
            if time.monotonic() - started > given.seconds:
                break
    seconds = time.monotonic() - started
    print(report(explorer.tally, seconds))
    print(f"{len(explorer.keys())} distinct states in first and second crashes together")
    if given.jsonl:
        run = {
            "seed": given.seed,
            "length": given.length,
            "seconds": round(seconds, 1),
            "together": len(explorer.keys()),
        }
        append_line(given.jsonl, run | explorer.tally.to_dict())
    return 1 if explorer.tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
