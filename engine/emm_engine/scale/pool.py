"""Workers that are processes of this machine.

Purpose: `Workers` without an extra. Invariants: a worker holds one unit at a time, so its death costs that unit's time
and names it; it shares no file with its client but one pipe, so it ends when the client does, however that happens, and
holds none of its locks; Ctrl-C is the client's business alone; a unit computes on one thread, as elsewhere.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, Final, Self

from emm import EmmError
from emm_engine.errors import WorkError
from emm_engine.scale.unit import Releases, Result, Unit, perform, releases
from emm_engine.scale.workers import ATTEMPTS_MAX, WINDOW

END_SECONDS: Final = 5.0  # what a worker that was asked to end has
_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "EMM_THREADS")
_READY: Final = -1  # the ticket of a worker's first word


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a unit: a value, or an error to raise."""

    value: Any = None
    error: EmmError | None = None


def _work(pipe: Connection, expected: Releases) -> None:
    """A worker's life: it ends when the other side closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send((_READY, _Outcome()))
        while True:
            ticket, unit = pipe.recv()
            pipe.send((ticket, _outcome(unit, expected)))


def _outcome(unit: Unit[Any], expected: Releases) -> _Outcome:
    try:
        return _Outcome(perform(unit, expected))
    except EmmError as error:
        return _Outcome(error=error)


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    holds: tuple[int, Unit[Any]] | None = None


class LocalWorkers:
    """`count` processes, started with the first unit."""

    def __init__(self, count: int) -> None:
        assert count > 0
        self.count = count
        self._releases = releases()
        self._crew: list[_Worker] = []
        self._issued = 0
        self._queue: deque[tuple[int, Unit[Any]]] = deque()
        self._outcomes: dict[int, _Outcome] = {}
        self._wanted: set[int] = set()
        self._deaths: dict[int, int] = {}  # by ticket
        self._stillborn = 0  # workers in a row that ended before they were ready

    def results(self, units: Iterable[Unit[Result]]) -> Iterator[Result]:
        source, mine = iter(units), deque[int]()
        try:
            while True:
                while len(mine) < WINDOW * self.count and (unit := next(source, None)) is not None:
                    mine.append(self._submitted(unit))
                    self._move(block=False)
                if not mine:
                    return
                while mine[0] not in self._outcomes:
                    self._move(block=True)
                ticket = mine.popleft()
                self._wanted.discard(ticket)
                outcome = self._outcomes.pop(ticket)
                if outcome.error is not None:
                    raise outcome.error
                yield outcome.value
        finally:
            self._drop(mine)

    @property
    def pids(self) -> list[int]:
        """The processes that are there now."""
        return [each.process.pid for each in self._crew if each.process.pid is not None]

    # --- units -------------------------------------------------------------------------------------

    def _submitted(self, unit: Unit[Any]) -> int:
        self._issued += 1
        self._queue.append((self._issued, unit))
        self._wanted.add(self._issued)
        return self._issued

    def _drop(self, tickets: Iterable[int]) -> None:
        for ticket in tickets:
            self._wanted.discard(ticket)
            self._outcomes.pop(ticket, None)
        self._queue = deque(item for item in self._queue if item[0] in self._wanted)

    def _move(self, block: bool) -> None:
        """Hand out what waits, and take what has come, waiting for the first thing when asked to."""
        while len(self._crew) < min(self.count, len(self._queue) + self._n_busy()):
            self._hire()
        for worker in self._crew:
            if self._queue and worker.ready and worker.holds is None:
                worker.holds = self._queue.popleft()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its death is seen below
                    worker.pipe.send(worker.holds)
        by_pipe = {each.pipe: each for each in self._crew}
        for pipe in multiprocessing.connection.wait(list(by_pipe), None if block else 0):
            if isinstance(pipe, Connection):
                self._hear(by_pipe[pipe])

    def _n_busy(self) -> int:
        return sum(each.holds is not None or not each.ready for each in self._crew)

    def _hear(self, worker: _Worker) -> None:
        try:
            ticket, outcome = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if ticket == _READY:
            worker.ready, self._stillborn = True, 0
            return
        worker.holds = None
        self._deaths.pop(ticket, None)
        if ticket in self._wanted:
            self._outcomes[ticket] = outcome

    # --- workers -----------------------------------------------------------------------------------

    def _hire(self) -> None:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=_work, args=(theirs, self._releases), daemon=True)
        with _one_thread():
            process.start()
        theirs.close()
        self._crew.append(_Worker(process, ours))

    def _bury(self, worker: _Worker) -> None:
        """A worker has died: its unit goes to another one, unless it has cost too many."""
        self._crew.remove(worker)
        worker.pipe.close()
        worker.process.join()
        ended = f"exit code {worker.process.exitcode}"
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= ATTEMPTS_MAX:
                raise WorkError(
                    "worker processes end before they are ready; a script that uses them keeps its own work below "
                    'if __name__ == "__main__":',
                    found=ended,
                )
        elif worker.holds is not None:
            ticket, unit = worker.holds
            self._deaths[ticket] = self._deaths.get(ticket, 0) + 1
            if ticket not in self._wanted:
                return
            if self._deaths[ticket] < ATTEMPTS_MAX:
                self._queue.appendleft(worker.holds)
            else:
                message = f"{unit.identity} ended {ATTEMPTS_MAX} workers"
                self._outcomes[ticket] = _Outcome(error=WorkError(message, found=ended))

    def close(self) -> None:
        for worker in self._crew:
            worker.pipe.close()
            if worker.holds is not None or not worker.ready:
                worker.process.terminate()
        for worker in self._crew:
            worker.process.join(END_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._crew.clear()
        self._queue.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """The environment of a process whose arithmetic stays on one thread."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
