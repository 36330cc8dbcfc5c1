"""A writer killed at every boundary of its system calls, once each, over a whole life.

Purpose: what random moments miss. A life is lived once undisturbed and its calls are listed; then it is lived again
from the start for each boundary (before a call, half-way through a write, after a call) by a real process on real
files that kills itself there with SIGKILL, and what is left is judged, taken over and verified. After every so many of
them the writer that takes over is killed as well, at each boundary until it has written once. Invariants: the calls of
a life depend neither on time nor on chance, and a process that does not die exactly where it should is a fault; one
line replays a fault.

    python -m emm_fuzz.boundaries --lives 4 --stages 14 --second-every 10
    python -m emm_fuzz.boundaries --replay '{"seed":1,"stages":14,"deaths":[["half",93]]}'
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import emm
from emm_fuzz.boundary_case import BoundaryTally, Call, Case, calls_of, every_death
from emm_fuzz.fork_server import KILLED, Act, Line, Tell, Writers
from emm_fuzz.kill import file_system, memory_folder
from emm_fuzz.kill_judge import NO_MEMORY, Account, BrokenPromiseError, Found, check_verdict, find, take_over
from emm_fuzz.system_calls import Death, count_calls
from emm_fuzz.workload import Plan, begin, perform

FAULTS_MAX: Final = 10
DEPTH: Final = 12  # folders down to a memory: `create` syncs each, so the numbers of its calls depend on it

Ending = tuple[int, list[Line]]  # how a writer ended, and what it told


class Boundaries:
    """Enumerates the boundaries of lives, on memories in `root`."""

    def __init__(self, writers: Writers, root: Path, *, reading: bool = False) -> None:
        self.writers = writers
        self.reading = reading
        self.url = str(_at_depth(root) / "memory")
        self.kept = root / "kept"
        self.tally = BoundaryTally()

    def life(self, seed: int, stages: int, *, second_every: int = 0) -> None:
        """Every boundary of one life; every `second_every`-th kill is followed by all the second ones."""
        self.tally.lives += 1
        whole = Case(seed, stages)
        status, lines = self._live(whole)
        if status:
            self.tally.faults.append(f"undisturbed, a writer ends with {status}: {lines[-1:]}")
            return
        calls = calls_of(lines)
        for number, death in enumerate(every_death(calls, reading=self.reading)):
            second = second_every > 0 and number % second_every == second_every - 1
            self.one(whole.dying(death), calls[death.call], second=second)
            if len(self.tally.faults) >= FAULTS_MAX:
                return

    def one(self, case: Case, expected: Call | None = None, *, second: bool = False) -> None:
        """Live one case from the start and judge it; with `second` also every case with one death more."""
        try:
            account = self._account(case.deaths[0], self._live(case), Account(), expected)
            if second or len(case.deaths) > 1:
                found = find(self.url, case.plan, account)
                account.found(found.stage)
                _copy(self.url, self.kept)
                if len(case.deaths) > 1:
                    self._second(case, found)
                    return
                for death, call in self._second_deaths(case, found):
                    _copy(self.kept, self.url)
                    self._second(case.dying(death), found, call)
                _copy(self.kept, self.url)
            self._judge(case, account)
        except BrokenPromiseError as error:
            self.tally.faults.append(f"{error}: {case.to_json()}")

    def _second_deaths(self, case: Case, found: Found) -> list[tuple[Death, Call]]:
        """The boundaries of a writer that takes over and makes one step."""
        calls = calls_of(self._next_writer(case, found, None)[1])
        return [(death, calls[death.call]) for death in every_death(calls, reading=self.reading)]

    def _second(self, case: Case, found: Found, expected: Call | None = None) -> None:
        try:
            account = Account(found.stage, found.stage)
            self._account(case.deaths[-1], self._next_writer(case, found, case.deaths[-1]), account, expected)
            self.tally.second += 1
            self._judge(case, account)
        except BrokenPromiseError as error:
            self.tally.faults.append(f"{error}: {case.to_json()}")

    # --- processes -------------------------------------------------------------------------------

    def _live(self, case: Case) -> Ending:
        """A writer from the start, in an empty place, to its (first) death."""
        shutil.rmtree(self.url, ignore_errors=True)
        return self._run(partial(begin, self.url, case.plan), case.deaths[0] if case.deaths else None)

    def _next_writer(self, case: Case, found: Found, death: Death | None) -> Ending:
        return self._run(partial(succeed, self.url, case.plan, found.stage), death)

    def _run(self, act: Act, death: Death | None) -> Ending:
        def counted(tell: Tell) -> None:
            count_calls(tell, death)
            act(tell)

        return self.writers.finish(self.writers.start(counted))

    # --- judging ---------------------------------------------------------------------------------

    def _account(self, death: Death, ending: Ending, account: Account, expected: Call | None) -> Account:
        """What the writer told; `BrokenPromiseError` unless it died at the call it should."""
        status, lines = ending
        act = "start"
        for line in lines:
            if not line.text.startswith("@"):
                account.hear(line.text)
                act = act if line.text.startswith("=") else line.text
        if account.faults:
            raise BrokenPromiseError(account.faults[0])
        calls = calls_of(lines)
        if status != KILLED or len(calls) != death.call + 1 or (expected is not None and calls[-1] != expected):
            raise BrokenPromiseError(f"did not die at {expected}: status {status}, {len(calls)} calls, {calls[-1:]}")
        self.tally.kills += 1
        self.tally.calls[f"{death.moment} {calls[-1][0]}"] += 1
        self.tally.acts[act] += 1
        return account

    def _judge(self, case: Case, account: Account) -> None:
        found = find(self.url, case.plan, account)
        self.tally.torn += found.torn
        self.tally.unproven += found.unproven > 0
        self.tally.absent += found.recovered is None
        if found.recovered is not None:
            check_verdict(self.url, found.recovered)
        self.tally.relogged += take_over(self.url, case.plan, found)


def succeed(url: str, plan: Plan, stage: int, tell: Tell) -> None:
    """Take over from a writer that was killed at `stage`, make the next step, and end without closing."""
    if stage == NO_MEMORY:
        tell("create")
        plan.create(url)
        tell("= 0")
        stage = 0
    tell("open")
    memory = emm.open(url, "a")
    if memory.digest != plan.stages[stage].digest:
        tell(f"! a reader found stage {stage}, the next writer lsn {memory.lsn}")
        return
    tell(f"= {stage}")
    if stage < len(plan.steps):
        tell(plan.steps[stage].kind)
        perform(memory, plan.steps[stage])
        tell(f"= {stage + 1}")


def _at_depth(root: Path) -> Path:
    """A folder below `root` in which every run of the harness counts the same calls."""
    missing = DEPTH - len(root.resolve().parts)
    if missing < 0:
        raise ValueError(f"{root} is more than {DEPTH} folders deep; choose another --folder")
    folder = root.resolve().joinpath(*["d"] * missing)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _copy(source: str | Path, target: str | Path) -> None:
    """`target` holds what `source` does, or nothing where that is nothing."""
    shutil.rmtree(target, ignore_errors=True)
    if Path(source).exists():
        shutil.copytree(source, target)


def piece(seed: int, stages: int, second_every: int, reading: bool, folder: str) -> BoundaryTally:
    """One life, in a warm process."""
    root = Path(tempfile.mkdtemp(prefix="emm-boundaries-", dir=folder))
    try:
        with Writers() as writers:
            boundaries = Boundaries(writers, root, reading=reading)
            boundaries.life(seed, stages, second_every=second_every)
            return boundaries.tally
    finally:
        shutil.rmtree(root, ignore_errors=True)


def run(
    seeds: Sequence[int], stages: int, second_every: int, folder: Path, *, reading: bool = False, processes: int = 2
) -> BoundaryTally:
    """Several lives, side by side."""
    total = BoundaryTally()
    work = partial(piece, stages=stages, second_every=second_every, reading=reading, folder=str(folder))
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for tally in pool.map(work, seeds):
            total.add(tally)
    return total


def replay(case: Case, folder: Path) -> BoundaryTally:
    """One case again."""
    with tempfile.TemporaryDirectory(prefix="emm-boundaries-", dir=folder) as root, Writers() as writers:
        boundaries = Boundaries(writers, Path(root))
        boundaries.one(case)
        return boundaries.tally


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m emm_fuzz.boundaries", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--lives", type=int, default=4)
    parser.add_argument("--stages", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1, help="of the first life")
    parser.add_argument("--second-every", type=int, default=10, help="kill the successor of every n-th too")
    parser.add_argument("--reading", action="store_true", help="also between calls that change nothing")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the memories lie; default tmpfs, where there is one")
    parser.add_argument("--replay", type=Case.from_json, metavar="JSON")
    given = parser.parse_args(arguments)
    folder = given.folder or memory_folder()
    started = time.monotonic()
    if given.replay is not None:
        total = replay(given.replay, folder)
    else:
        seeds = range(given.seed, given.seed + given.lives)
        how = {"reading": given.reading, "processes": given.processes}
        total = run(seeds, given.stages, given.second_every, folder, **how)
    print(f"on {file_system(folder)}: {total.summary()}\n{time.monotonic() - started:.1f} s")
    for fault in total.faults:
        print(f"FAULT {fault}", file=sys.stderr)
    return 1 if total.faults else 0


if __name__ == "__main__":
    sys.exit(main())
