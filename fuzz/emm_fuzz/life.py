"""A run that is driven word by word, and looked at after each.

Purpose: what the state machine and its replays have in common. Invariants: after every word a reader beside the writer
finds the state that was acknowledged, verify agrees with what recovery found, and with everything lost that is not
durable the state is still one that is allowed; a violation carries the line that replays it; the trace digest follows
from the words alone.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType

import emm
from emm.storage.recovery import recover
from emm.vfs.local import LocalDirectory
from emm_fuzz.cases import Case
from emm_fuzz.crash_states import QUICK, SECTORS, Spec
from emm_fuzz.deterministic import deterministic
from emm_fuzz.ends import NothingPromisedError
from emm_fuzz.judge import ViolationError, check_verdict, expected_verdict, name, read, state_of, verify_says
from emm_fuzz.memo import remembered
from emm_fuzz.places import crash_point
from emm_fuzz.record import Record
from emm_fuzz.runs import Run
from emm_fuzz.simulated_os import mounted


@dataclass(slots=True)
class Lives:
    """What a number of lives came to."""

    lives: int = 0
    words: Counter[str] = field(default_factory=Counter)  # by kind; those that had to be refused are not counted
    faults_met: int = 0
    ends: int = 0  # processes that ended in the middle of an operation or between two
    looks: int = 0
    given_up: int = 0  # lives that met what nobody is promised to survive
    _trace: str = ""

    def note(self, text: str) -> None:
        self._trace = hashlib.sha256((self._trace + text).encode()).hexdigest()

    def summary(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.words.items()))
        return (
            f"{self.lives} lives, {sum(self.words.values())} operations ({kinds}), {self.faults_met} faults met, "
            f"{self.ends} ends of a process, {self.given_up} given up, {self.looks} looks by a reader and verify, "
            f"trace {self._trace[:16]}"
        )


class Life:
    """One memory, from its creation on; a context manager that ends the process and the disk."""

    def __init__(self, case: Case, tally: Lives) -> None:
        self.case = replace(case, workload=())
        self.tally = tally
        self.over = False
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Life:
        source = self._stack.enter_context(deterministic())
        self._stack.enter_context(remembered())
        self.run = Run(Record(QUICK), self.case, source, last_only=False, blind=True)
        self._stack.enter_context(self.run.living())
        self.tally.lives += 1
        self._judged(self._begin)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tally.faults_met += self.run.disk.faults_met
        self.tally.ends += self.run.ends
        self.tally.given_up += self.over
        self._stack.close()

    def step(self, word: str) -> None:
        """Live through one word, unless the memory must refuse it now or nothing is promised any more."""
        if self.over:
            return
        place = len(self.case.workload)
        self.case = replace(self.case, workload=(*self.case.workload, word))
        done = self._judged(lambda: self.run.step(word, place))
        if done:
            self.tally.words[word.split()[0]] += 1
        else:
            self.case = replace(self.case, workload=self.case.workload[:-1])

    def _begin(self) -> bool:
        self.run.begin()
        return True

    def _judged(self, act: Callable[[], bool]) -> bool:
        try:
            done = act()
            if done:
                self._look()
        except NothingPromisedError:
            self.over = done = True
        except Exception as error:
            text = str(error) if isinstance(error, ViolationError) else f"{type(error).__name__}: {error}"
            line = f"python -m emm_fuzz.machine --replay '{self.case.to_json()}'"
            raise ViolationError(f"{text}\n  {line}") from error
        self.tally.note(f"{self.case.to_json()} {self.run.moment.state}")
        return done

    def _look(self) -> None:
        """A reader and verify on what processes see; recovery and verify on what is durable."""
        run, path = self.run, self.run.path
        self.tally.looks += 1
        image = crash_point(run.disk, path).build(Spec(SECTORS[0], 0))
        _, recovered = read(image, run.allowed)
        if recovered is not None:
            check_verdict(image, recovered, dropped=run.disk.dropped)
        with mounted(run.disk.clone()) as beside:
            with emm.open(path) as reader:
                state = state_of(reader)
            if state != run.moment.state:
                raise ViolationError(f"a reader finds {name(state)}, acknowledged is {name(run.moment.state)}")
            directory = LocalDirectory(path)
            verify_says(directory, expected_verdict(recover(directory)), beside.dropped)
            directory.close()


def replay(case: Case, tally: Lives) -> None:
    """Live through a whole case; `ViolationError` as the machine raises it."""
    with Life(case, tally) as life:
        for word in case.workload:
            life.step(word)
