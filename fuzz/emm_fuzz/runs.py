"""One memory living through one case on a simulated disk, judged at every point where the power could fail.

Purpose: perform the operations, say what was started and what was acknowledged, and let the watch look. Invariants:
what is allowed is {last acknowledged} ∪ {started since}; an operation that fails without a fault is a violation; after
a fault the process closes what it can, dies, and another takes over.

Three words are no operations but befall those after them. `fault write 2 eio`: the second write from now fails.
`cut 3 512 5 short`: at the third point from now (0: at once) the power fails, that crash image is left, and life goes
on from it. `die 3`: there the process dies, and another one opens what it sees.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import emm
from emm.errors import EmmError, MissingError
from emm_fuzz.cases import Case, Moment, State, advance, first_moment
from emm_fuzz.crash_states import Spec
from emm_fuzz.deterministic import Source
from emm_fuzz.ends import Armed, EndOfProcess, NothingPromisedError, fitting, spec_of
from emm_fuzz.judge import ViolationError, check_verdict, name, read, state_of
from emm_fuzz.merging import Merge, other_files
from emm_fuzz.operations import BESIDE, second_writer
from emm_fuzz.places import PATH, Place, crash_point, visible
from emm_fuzz.record import Record
from emm_fuzz.simulated_disk import SimulatedDisk
from emm_fuzz.simulated_os import mounted
from emm_fuzz.watch import Watch
from emm_fuzz.workload import Step, perform


class Run:
    """One case being lived through."""

    def __init__(self, record: Record, case: Case, source: Source, last_only: bool, blind: bool = False) -> None:
        self.case = case
        self.disk = SimulatedDisk(case.faults)
        self.disk.on_sync = self._point
        self.path = PATH
        self.moment = first_moment(case.shape.parameters)
        self.allowed: dict[State | None, Moment] = {None: self.moment}
        self.memory: emm.Memory | None = None
        self.watch = Watch(record, case, source)
        self.on_acknowledged: Callable[[], None] | None = None
        self._last_only = last_only
        self._blind = blind
        self._beside: tuple[Place, ...] = ()  # of the merge that is under way
        self._armed: list[Armed] = []
        self._ended = False  # the process is being unwound
        self.ends = 0  # processes that ended before their time

    def replayable(self) -> Case:
        return replace(self.case, point=self.watch.points - 1, spec=self.watch.spec)

    def files(self) -> dict[str, bytes]:
        """What processes see in the memory directory."""
        return dict(visible(self.disk, self.path) or {})

    def go(self) -> None:
        """From beginning to end."""
        words = self.case.workload
        with self.living(), contextlib.suppress(NothingPromisedError):
            self.watch.open = not self._blind and (not self._last_only or not words)
            self.begin()
            for place, word in enumerate(words):
                self.watch.open |= not self._blind and place == len(words) - 1
                self.step(word, place)

    @contextlib.contextmanager
    def living(self) -> Iterator[None]:
        """The block in which `begin` and `step` may be called."""
        with mounted(self.disk):
            try:
                yield
            finally:
                self.disk.on_sync = None
                self.disk.kill()

    def begin(self) -> None:
        self._survive(lambda: self._do(self.moment, self._create))

    def step(self, word: str, place: int) -> bool:
        """Operation number `place`; False when the memory must refuse it now, as it may after a fault."""
        found = advance(self.moment, word, place)
        if found is not None:
            self._beside = ()
            self._survive(lambda: self._operate(word, place, *found))
        return found is not None

    # --- operations -------------------------------------------------------------------------------

    def _operate(self, word: str, place: int, after: Moment, step: Step | None) -> None:
        kind, *numbers = word.split()
        if kind == "fault":
            call, nth, how = numbers
            self.disk.faults[call, self.disk.calls[call] + int(nth)] = how
        elif kind in ("cut", "die"):
            self._armed.append(Armed(int(numbers[0]), spec_of(numbers[1:]) if kind == "cut" else None))
            self._strike()
        else:
            if self.memory is None:
                self._do(self.moment, self._open)
            if kind == "merge":
                self._merge(place, after)
            else:
                self._do(after, lambda: self._perform(kind, numbers, step))

    def _do(self, after: Moment, act: Callable[[], None]) -> None:
        """Start, act, acknowledge; after a failure let another process take over."""
        self.allowed = self.allowed | {after.state: after}
        if self._survives_faults(act):
            self._acknowledge(after)

    def _survives_faults(self, act: Callable[[], None]) -> bool:
        """True when it was done; else another process has taken over."""
        try:
            act()
        except EmmError as error:
            if not self.disk.faults_met:
                raise ViolationError(f"an operation fails without a fault: {type(error).__name__}: {error}") from error
            self._take_over()
            return False
        except OSError as error:
            raise ViolationError(f"{error!r} is not an EmmError") from error
        return True

    def _acknowledge(self, moment: Moment) -> None:
        if self.memory is not None and state_of(self.memory) != moment.state:
            raise ViolationError(f"the handle says {name(state_of(self.memory))}, the model {name(moment.state)}")
        self.moment = moment
        self.allowed = {moment.state: moment}
        if self.on_acknowledged is not None:
            self.on_acknowledged()
        self._point("acknowledged")

    def _take_over(self) -> None:
        """The process that met the fault tries to go on, closes what it can and dies; another opens the memory."""
        self._beside = tuple(self._given_up(each) for each in self._beside)
        if self.memory is not None:
            self._go_on(self.memory)
            for end in (self.memory.checkpoint, self.memory.close):
                with contextlib.suppress(EmmError):
                    end()
        self._succeed()

    def _given_up(self, place: Place) -> Place:
        """A place of a merge that failed: where it left nothing, a new memory may be created."""
        if None not in place.allowed:
            return place
        anew = {**place.allowed, None: first_moment(self.case.shape.parameters)}
        return Place(place.path, anew, lambda: self.case.shape.create(place.path))

    def _succeed(self) -> None:
        """The process ends; another one opens what is there, or begins anew where nothing need be."""
        self.memory = None
        for attempt in itertools.count():
            self.disk.kill()
            if self.disk.in_doubt:
                raise NothingPromisedError
            try:
                self._open_or_create()
                break
            except EmmError as error:
                if attempt >= len(self.disk.faults):
                    raise ViolationError(f"after a fault: {type(error).__name__}: {error}") from error
        assert self.memory is not None
        state = state_of(self.memory)
        if state not in self.allowed:
            raise ViolationError(f"after a fault {name(state)}, allowed {', '.join(map(name, self.allowed))}")
        self._acknowledge(self.allowed[state])

    def _go_on(self, memory: emm.Memory) -> None:
        """One more write through a handle that failed: refused, or as good as any other."""
        after = [(found[0], found[1]) for each in self.allowed.values() if (found := advance(each, "write", 998))]
        self.allowed |= {each.state: each for each, _ in after}
        step = after[0][1]
        assert step is not None
        try:
            perform(memory, step)
        except EmmError:
            return
        state = state_of(memory)
        self.allowed = {each.state: each for each, _ in after if each.state == state}
        if not self.allowed:
            raise ViolationError(f"a handle that failed goes on and says {name(state)}")
        self._point("acknowledged")

    def _open_or_create(self) -> None:
        try:
            self._open()
        except MissingError:
            if None not in self.allowed:
                raise ViolationError("after a fault there is no memory") from None
            self._create()

    def _create(self) -> None:
        self.memory = self.case.shape.create(self.path)

    def _open(self) -> None:
        self.memory = emm.open(self.path, "a")

    def _perform(self, kind: str, numbers: list[str], step: Step | None) -> None:
        memory = self.memory
        assert memory is not None
        if step is not None:
            perform(memory, step)
        elif kind in BESIDE:
            BESIDE[kind](memory, numbers)
        elif kind == "second":
            second_writer(self.disk, self.path)
        elif kind == "kill":
            self.memory = None
            self.disk.kill()
            self._open()
        else:
            self.memory = None
            memory.close()
            if kind == "reopen":
                self._open()

    def _merge(self, place: int, merged: Moment) -> None:
        """Merge with another memory, go on with the result, close what was merged."""
        source, before = self.memory, self.moment
        assert source is not None
        merge = Merge.at(place, self.path, before, merged)
        n_other = len(merge.other_state.pairs)
        self.disk.put(merge.other, other_files(before.parameters, merge.other, place, n_other))
        self._beside = merge.places(self.allowed, acknowledged=False)[1:]
        found: list[emm.Memory] = []
        if not self._survives_faults(lambda: found.append(merge.perform(source))):
            read(visible(self.disk, merge.into), {None: merged, merged.state: merged})
            return
        fault = merge.fault_of(found[0])
        if fault is not None:
            raise ViolationError(fault)
        self.memory, self.path = found[0], merge.into
        self._beside = merge.places({before.state: before}, acknowledged=True)[:2]
        self._acknowledge(merged)
        if self._survives_faults(source.close):
            self._point("acknowledged")

    # --- crashes ----------------------------------------------------------------------------------

    def _point(self, kind: str) -> None:
        """Just before a sync or an acknowledgement."""
        if self._ended:
            return
        self.watch.look(self.disk, self._places())
        for each in self._armed:
            each.points -= 1
        self._strike()

    def _places(self) -> tuple[Place, ...]:
        return Place(self.path, self.allowed, lambda: self.case.shape.create(self.path)), *self._beside

    def _strike(self) -> None:
        """End the process, when that is due."""
        due = next((each for each in self._armed if each.points <= 0), None)
        if due is not None:
            self._armed.remove(due)
            left = self.disk.clone() if due.cut is None else self._cut(due.cut)
            self._ended = True  # what runs while the exception passes is not the process any more
            raise EndOfProcess(left)

    def _cut(self, drawn: Spec) -> SimulatedDisk:
        """What a power cut leaves of our place; in every place it must be something that is allowed."""
        for each in reversed(self._places()):
            point = crash_point(self.disk, each.path)
            image = point.build(fitting(drawn, point.units(drawn.sector)))
            state, recovered = read(image, each.allowed)
            if recovered is not None:
                check_verdict(image, recovered, dropped=self.disk.dropped)
        found = self.allowed[state]
        self.allowed = {state: found} if state is not None else {None: found, found.state: found}
        left = SimulatedDisk.holding(self.path, image)
        left.dropped = self.disk.dropped
        return left

    def _survive(self, act: Callable[[], None]) -> None:
        """Do this; when the process ends on the way, another one opens what is left."""
        while True:
            try:
                act()
                return
            except EndOfProcess as end:
                self._ended = False
                act = partial(self._inherit, end.left)

    def _inherit(self, left: SimulatedDisk) -> None:
        self.ends += 1
        self.disk.become(left)
        self._beside = ()
        self._succeed()
