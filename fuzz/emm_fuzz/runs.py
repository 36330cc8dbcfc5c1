"""One memory living through one case on a simulated disk, judged at every point where the power could fail.

Purpose: perform the operations, say what was started and what was acknowledged, and hand every crash image to the
judge. Invariants: what is allowed is {last acknowledged} ∪ {started since}; an operation that fails without a fault is
a violation; after a fault the process closes what it can, dies, and another takes over.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import emm
from emm.errors import EmmError, FencedError, GateError, MissingError
from emm_fuzz.cases import Case, Moment, State, advance, step_for
from emm_fuzz.crash_states import Chosen, CrashPoint, Spec, image_hash, images
from emm_fuzz.deterministic import Source
from emm_fuzz.judge import PATH, Aftermath, ViolationError, check_verdict, create, name, read, state_of
from emm_fuzz.record import Record
from emm_fuzz.simulated_disk import SimulatedDisk
from emm_fuzz.simulated_os import mounted
from emm_fuzz.workload import Step, perform


class Run:
    """One case being lived through."""

    def __init__(self, record: Record, case: Case, source: Source, last_only: bool, blind: bool = False) -> None:
        self.record = record
        self.tally = record.tally
        self.case = case
        self.source = source
        self.disk = SimulatedDisk(case.faults)
        self.disk.on_sync = self._point
        self.moment = Moment()
        self.allowed: dict[State | None, Moment] = {None: Moment()}
        self.memory: emm.Memory | None = None
        self.points = 0
        self.on_acknowledged: Callable[[], None] | None = None
        self._last_only = last_only
        self._watching = not blind and not last_only
        self._blind = blind
        self._took_over = False  # a process went on from what another one had left in the page cache
        self._spec: Spec | None = None

    def replayable(self) -> Case:
        return replace(self.case, point=self.points - 1, spec=self._spec)

    def files(self) -> dict[str, bytes]:
        """What processes see in the memory directory."""
        return dict(CrashPoint.of(self.disk, PATH).build_visible() or {})

    def go(self) -> None:
        with mounted(self.disk):
            try:
                self._watching |= self._last_only and not self.case.workload
                self._do(Moment(), self._create)
                for place, word in enumerate(self.case.workload):
                    self._watching |= self._last_only and place == len(self.case.workload) - 1
                    self._operate(word, place)
            finally:
                self.disk.on_sync = None
                self.disk.kill()

    # --- operations -------------------------------------------------------------------------------

    def _operate(self, word: str, place: int) -> None:
        found = advance(self.moment, word, place)
        if found is None:
            return  # after a fault the memory may be where this is refused
        if self.memory is None:
            self._do(self.moment, self._open)
        after, step = found
        self._do(after, lambda: self._perform(word, step))

    def _do(self, after: Moment, act: Callable[[], None]) -> None:
        """Start, act, acknowledge; after a failure let another process take over."""
        self.allowed = self.allowed | {after.state: after}
        try:
            act()
        except EmmError as error:
            if not self.disk.faults_met:
                raise ViolationError(f"an operation fails without a fault: {type(error).__name__}: {error}") from error
            self._take_over()
            return
        except OSError as error:
            raise ViolationError(f"{error!r} is not an EmmError") from error
        self._acknowledge(after)

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
        if self.memory is not None:
            self._go_on(self.memory)
            with contextlib.suppress(EmmError):
                self.memory.close()
        self.memory = None
        self._took_over = True
        self.disk.kill()
        for attempt in itertools.count():
            try:
                self._open_or_create()
                break
            except EmmError as error:
                if attempt >= len(self.case.faults):
                    raise ViolationError(f"after a fault: {type(error).__name__}: {error}") from error
        assert self.memory is not None
        state = state_of(self.memory)
        if state not in self.allowed:
            raise ViolationError(f"after a fault {name(state)}, allowed {', '.join(map(name, self.allowed))}")
        self._acknowledge(self.allowed[state])

    def _go_on(self, memory: emm.Memory) -> None:
        """One more write through a handle that failed: refused, or as good as any other."""
        step = step_for(0, "write", 998)
        after = [found[0] for each in self.allowed.values() if (found := advance(each, "write", 998))]
        self.allowed |= {each.state: each for each in after}
        try:
            perform(memory, step)
        except EmmError:
            return
        state = state_of(memory)
        self.allowed = {each.state: each for each in after if each.state == state}
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
        self.memory = create()

    def _open(self) -> None:
        self.memory = emm.open(PATH, "a")

    def _perform(self, word: str, step: Step | None) -> None:
        memory = self.memory
        assert memory is not None
        if step is not None:
            perform(memory, step)
        elif word == "checkpoint":
            memory.checkpoint()
        elif word in ("prune", "prune-journal"):
            memory.prune(keep=1, journal=word == "prune-journal")
        elif word == "mark":
            writer = memory._session._writer
            assert writer is not None
            writer._mark_if_idle()
        elif word == "second":
            self._second_writer()
        elif word == "refused":
            self._refused_write(memory)
        elif word == "kill":
            self.memory = None
            self.disk.kill()
            self._open()
        else:
            self.memory = None
            memory.close()
            if word == "reopen":
                self._open()

    def _second_writer(self) -> None:
        pid, self.disk.pid = self.disk.pid, self.disk.pid + 1000
        try:
            emm.open(PATH, "a").close()
        except FencedError:
            return
        finally:
            self.disk.pid = pid
        raise ViolationError("a second writer got the memory")

    def _refused_write(self, memory: emm.Memory) -> None:
        """Taking out, with a large weight, what was never written: the kernel must refuse, and nothing be logged."""
        step = step_for(0, "write", 999)
        try:
            memory.unlearn(step.keys, step.values, 32.0, rank=memory.rank)
        except GateError:
            return
        raise ViolationError("what the kernel must refuse was written")

    # --- crashes ----------------------------------------------------------------------------------

    def _point(self, kind: str) -> None:
        """Just before a sync or an acknowledgement: everything that a crash could leave here."""
        self.points += 1
        wanted = self.case.point is None or self.case.point == self.points - 1
        if self._blind or not self._watching or not wanted or (self.case.faults and not self.disk.faults_met):
            return
        self.tally.points += 1
        point = CrashPoint.of(self.disk, PATH)
        for chosen in self._images(point):
            self.tally.raw += 1
            key = self.record.is_new(chosen, self.allowed)
            if key is None:
                continue
            self.tally.distinct += 1
            self.tally.why[chosen.why] += 1
            self._spec = chosen.spec
            self._judge(chosen)
        self._spec = None
        self._kill_here(point)

    def _images(self, point: CrashPoint) -> Iterator[Chosen]:
        if self.case.spec is not None:
            return iter([Chosen(self.case.spec, point.build(self.case.spec), "replayed")])
        return images(point, self.record.bounds, self.case.seed + self.points)

    def _judge(self, chosen: Chosen) -> None:
        state, recovered = read(chosen.image, self.allowed)
        self.record.trace(f"{self.points} {chosen.spec} {name(state)}")
        signature: tuple[object, ...] = ("absent", chosen.image is None)
        if recovered is not None:
            verdict = check_verdict(chosen.image, recovered, took_over=self._took_over)
            self.tally.verdicts[verdict] += 1
            torn = None if recovered.torn is None else recovered.torn.rule
            ends = (recovered.segment_next, recovered.previous_bytes, recovered.generation_last)
            signature = (state, torn, len(recovered.unproven), recovered.sealed, ends)
        if self.record.is_new_signature(signature):
            disk = SimulatedDisk.holding(PATH, None if chosen.image is None else dict(chosen.image))
            Aftermath(disk, {state: self.allowed[state]}, self.source, self.tally.nested, self._took_over).run()

    def _kill_here(self, point: CrashPoint) -> None:
        """The process dies, the page cache survives; then the power goes."""
        units = point.units(512)
        if units and self.record.is_new_signature((image_hash(point.build_visible()), len(units), *self.allowed)):
            self.tally.killed += 1
            Aftermath(self.disk.clone(), dict(self.allowed), self.source, self.tally.nested, took_over=True).run()
