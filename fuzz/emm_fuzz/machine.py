"""Sessions drawn by Hypothesis: every operation, fault and end of a process in any order, shrunk when one fails.

Purpose: the engine that reaches long and mixed sessions, where the bounded one is exhaustive on short ones. Invariants:
every rule is one word of a workload, so what fails is a case like any other and is replayed without Hypothesis; after
each rule the life is looked at (`life`); the same seed draws the same sessions.

    python -m emm_fuzz.machine --examples 2000 --seed 7
    python -m emm_fuzz.machine --replay '{"workload":["write","cut 2 512 1 short","merge"],"seed":0}'
"""

from __future__ import annotations

import argparse
import sys
import time

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from emm_fuzz.cases import Case
from emm_fuzz.crash_states import FILLS, SECTORS
from emm_fuzz.explore import HOWS
from emm_fuzz.geometry import GEOMETRIES
from emm_fuzz.judge import ViolationError
from emm_fuzz.life import Life, Lives, replay
from emm_fuzz.simulated_disk import Fault

STEPS: int = 14  # words of a session, at most
SIZES = st.sampled_from([1, 2, 3, 12, 40])
GATES = st.sampled_from([1.0, 0.5, 2.0, 32.0, 2.0**-10])
DECAYS = st.sampled_from([1.0, 1.0, 1.0, 0.875, 2.0**-10])
FAULTS = st.sampled_from([(call, how) for call in sorted(HOWS) for how in HOWS[call]])
POINTS = st.integers(0, 7)
FILLING = st.sampled_from(FILLS)
TEARS = st.builds(" {} {} {}".format, POINTS, st.integers(0, 600), FILLING)
EVENTS = st.one_of(
    st.builds("fault {0[0]} {1} {0[1]}".format, FAULTS, st.integers(1, 6)),
    st.builds(
        "cut {} {} {} {}{}".format,
        POINTS,
        st.sampled_from(SECTORS),
        st.integers(0, (1 << 16) - 1),
        FILLING,
        st.just("") | TEARS,
    ),
)


class Machine(RuleBasedStateMachine):
    """One session. A word that the memory must refuse at that moment is passed over."""

    tally = Lives()

    def __init__(self) -> None:
        super().__init__()
        self.life: Life | None = None

    @initialize(
        geometry=st.sampled_from(list(GEOMETRIES)),
        fault=st.none() | st.tuples(FAULTS, st.integers(1, 8)),
    )
    def begin(self, geometry: str, fault: tuple[tuple[str, str], int] | None) -> None:
        faults = () if fault is None else (Fault(fault[0][0], fault[1], fault[0][1]),)
        self.life = Life(Case((), faults, geometry=geometry), self.tally)
        self.life.__enter__()

    def teardown(self) -> None:
        if self.life is not None:
            self.life.__exit__(None, None, None)

    def _step(self, word: str) -> None:
        assert self.life is not None
        self.life.step(word)

    @rule(size=SIZES, gate=GATES, decay=DECAYS)
    def write(self, size: int, gate: float, decay: float) -> None:
        self._step(f"write {size} {gate} {decay}")

    @rule(size=SIZES)
    def write_plainly(self, size: int) -> None:
        self._step(f"write {size}")

    @rule(back=st.integers(0, 5))
    def unlearn(self, back: int) -> None:
        self._step(f"unlearn {back}")

    @rule(first=st.integers(0, 5), count=st.integers(1, 3))
    def forget(self, first: int, count: int) -> None:
        self._step(f"forget {first} {count}")

    @rule(word=st.just("bare") | st.builds("resolve {}".format, st.integers(1, 3)))
    def expand(self, word: str) -> None:
        self._step(word)

    @rule(size=st.integers(1, 4))
    def merge(self, size: int) -> None:
        self._step(f"merge {size}")

    @rule(keep=st.integers(1, 3), journal=st.booleans())
    def prune(self, keep: int, journal: bool) -> None:
        self._step(f"prune{'-journal' * journal} {keep}")

    @rule(word=st.sampled_from(["checkpoint", "mark", "configure 0", "configure 1"]))
    def settle(self, word: str) -> None:
        self._step(word)

    @rule(word=st.sampled_from(["reopen", "close", "kill"]))
    def end(self, word: str) -> None:
        self._step(word)

    @rule(word=st.sampled_from(["second", "refused"]))
    def intrude(self, word: str) -> None:
        self._step(word)

    @rule(points=POINTS)
    def die(self, points: int) -> None:
        self._step(f"die {points}")

    @rule(event=EVENTS)
    def befall(self, event: str) -> None:
        """A fault or a power cut, so many calls or points from now."""
        self._step(event)


def run_machine(
    examples: int, *, seed_of: int | None = None, shrink: bool = True, steps: int = STEPS, tally: Lives | None = None
) -> Lives:
    """So many sessions; `ViolationError` for the shortest that was found. Without a seed always the same ones."""
    lives = Lives() if tally is None else tally
    machine = type("Machine", (Machine,), {"tally": lives})
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=seed_of is None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        verbosity=Verbosity.normal if shrink else Verbosity.quiet,
        report_multiple_bugs=False,
    )
    if seed_of is not None:
        machine = seed(seed_of)(machine)
    run_state_machine_as_test(machine, settings=chosen)
    return lives


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emm_fuzz.machine", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=STEPS, help="words of a session, at most")
    parser.add_argument("--replay", help="live through one case, as a violation prints it")
    given = parser.parse_args(arguments)
    tally = Lives()
    started = time.monotonic()
    try:
        if given.replay:
            replay(Case.from_json(given.replay), tally)
        else:
            run_machine(given.examples, seed_of=given.seed, steps=given.steps, tally=tally)
    except ViolationError as error:
        print(f"VIOLATION {error}")
        return 1
    print(f"{tally.summary()}; {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
