"""Check places in this process, or in several that each take one place after another.

Purpose: `--jobs`. Invariants: targets come in the order of their places whatever the number of jobs, findings and
progress as they are seen; no more than a window of places is under way or waits for an earlier one, so memory stays
flat; a worker that dies (out of memory, killed) costs the one place it was at, which is reported as not checked,
never as clean.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Final

from emm.verify.checked import Checked
from emm.verify.finding import Finding, finding
from emm.verify.levels import Options
from emm.verify.places import Place
from emm.verify.target import Target, single
from emm.verify.task import Task, check_task

WINDOW: Final = 32  # places a job: under way, or done and waiting for an earlier one
_PREFETCHED: Final = 2  # places that a worker holds, so that it never waits for the next one
_PREFETCHED_SMALL: Final = 12  # where places are through in a few milliseconds, so that fewer messages are sent
_SMALL_SECONDS: Final = 0.02
_TELL_COUNT: Final = 16
_TELL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Seen:
    """A finding as it is met: what the rest of the memory says of it comes with the target."""

    url: str
    finding: Finding


@dataclass(frozen=True, slots=True)
class Advanced:
    """So many bytes more were checked, the last of them in `file`."""

    file: str
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Done:
    """One target is through. `known` has the chain values that comparisons need."""

    place: Place
    target: Target
    known: Checked | None


def check_all(tasks: Iterable[Task], options: Options, jobs: int) -> Iterator[Done]:
    """The targets, as they are through; the callbacks of `options` are called in this process.

    `jobs` is the number of processes, and of threads for the blocks of a large snapshot.
    """
    options = replace(options, threads=jobs)
    if jobs == 1:
        for task in tasks:
            for target, checked in check_task(task, options):
                yield Done(task.place, target, _light(checked))
        return
    with contextlib.closing(_Crew(options, jobs)) as crew:
        for event in crew.run(iter(tasks)):
            if isinstance(event, Done):
                yield event
            elif isinstance(event, Advanced) and options.progress is not None:
                options.progress(event.file, event.n_bytes)
            elif isinstance(event, Seen) and options.on_finding is not None:
                options.on_finding(event.url, event.finding)


def _light(checked: Checked | None) -> Checked | None:
    """Without what the target has already."""
    return None if checked is None else replace(checked, findings=[])


# --- the other side of the pipe --------------------------------------------------------------------


@dataclass(slots=True)
class _Teller:
    """Sends what a check tells, several things at a time: progress no more often than a person can read it."""

    pipe: Connection
    n_bytes: int = 0
    file: str = ""
    told: float = field(default_factory=time.monotonic)
    waiting: list[Seen | Advanced | tuple[int, Done | None]] = field(default_factory=list)

    def progress(self, file: str, n_bytes: int) -> None:
        self.n_bytes, self.file = self.n_bytes + n_bytes, file
        if time.monotonic() - self.told >= _TELL_SECONDS:
            self.flush()

    def finding(self, url: str, seen: Finding) -> None:
        self.waiting.append(Seen(url, seen))
        self.flush()

    def done(self, ticket: int, done: Done | None) -> None:
        self.waiting.append((ticket, done))
        if len(self.waiting) >= _TELL_COUNT or time.monotonic() - self.told >= _TELL_SECONDS or not self.pipe.poll():
            self.flush()

    def flush(self) -> None:
        if self.n_bytes:
            self.waiting.append(Advanced(self.file, self.n_bytes))
        if self.waiting:
            self.pipe.send(self.waiting)
        self.n_bytes, self.told, self.waiting = 0, time.monotonic(), []


def _work(pipe: Connection, others: list[Connection], options: Options, want_progress: bool, want_seen: bool) -> None:
    """A worker's life: it ends when the other side closes the pipe. Ctrl-C is the business of the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for other in others:
        other.close()  # else a worker would keep its siblings' pipes open
    teller = _Teller(pipe)
    options = replace(
        options,
        progress=teller.progress if want_progress else None,
        on_finding=teller.finding if want_seen else None,
    )
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            ticket, task = pipe.recv()
            for target, checked in check_task(task, options):
                teller.done(ticket, Done(task.place, target, _light(checked) if task.wants_known else None))
            teller.done(ticket, None)


# --- this side -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    holds: deque[tuple[int, Task]] = field(default_factory=deque)


class _Crew:
    """The workers of one run."""

    def __init__(self, options: Options, jobs: int) -> None:
        methods = multiprocessing.get_all_start_methods()
        self._forks = "fork" in methods
        self._options = options
        self._workers: list[_Worker] = []
        for _ in range(jobs):
            self._hire()

    def _hire(self) -> None:
        ours, theirs = multiprocessing.Pipe()
        quiet = replace(self._options, progress=None, on_finding=None)
        told = self._options.progress is not None, self._options.on_finding is not None
        others = [ours, *(each.pipe for each in self._workers)] if self._forks else []
        arguments = (theirs, others, quiet, *told)
        process: BaseProcess
        if self._forks:
            process = multiprocessing.get_context("fork").Process(target=_work, args=arguments, daemon=True)
        else:
            process = multiprocessing.get_context("spawn").Process(target=_work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours))

    def run(self, tasks: Iterator[Task]) -> Iterator[Seen | Advanced | Done]:
        """Hand out the tasks; targets in the order of the tasks, the rest as it comes."""
        window = WINDOW * len(self._workers)
        waiting: dict[int, list[Done]] = {}  # by ticket: seen, not yet their turn
        over: set[int] = set()
        again: deque[tuple[int, Task]] = deque()  # what a worker that died had not begun
        issued = turn = 0
        begun = time.monotonic()
        more = True
        while True:
            elapsed = time.monotonic() - begun
            small = turn > 2 * len(self._workers) and elapsed * len(self._workers) < turn * _SMALL_SECONDS
            depth_max = _PREFETCHED_SMALL if small else _PREFETCHED
            for depth in range(1, depth_max + 1):  # one for each before a second for any
                for worker in self._workers:
                    if len(worker.holds) >= depth:
                        continue
                    if again:
                        item = again.popleft()
                    elif more and issued - turn < window and (task := next(tasks, None)) is not None:
                        item, issued = (issued, task), issued + 1
                    else:
                        more = more and issued - turn >= window
                        continue
                    worker.holds.append(item)
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        worker.pipe.send(item)
            if turn == issued and not more and not again:
                return
            for worker in self._ready():
                for event in self._heard(worker, over, again):
                    if isinstance(event, tuple):
                        waiting.setdefault(event[0], []).append(event[1])
                    else:
                        yield event
            while turn in waiting or turn in over:
                yield from waiting.pop(turn, ())
                if turn not in over:
                    break
                over.remove(turn)
                turn += 1

    def _ready(self) -> list[_Worker]:
        pipes = {each.pipe: each for each in self._workers}
        return [pipes[pipe] for pipe in multiprocessing.connection.wait(list(pipes)) if isinstance(pipe, Connection)]

    def _heard(
        self, worker: _Worker, over: set[int], again: deque[tuple[int, Task]]
    ) -> Iterator[Seen | Advanced | tuple[int, Done]]:
        """What a worker has sent, or what its death means."""
        try:
            while worker.pipe.poll():
                for said in worker.pipe.recv():
                    if isinstance(said, Seen | Advanced):
                        yield said
                        continue
                    ticket, done = said
                    if done is None:
                        worker.holds.popleft()
                        over.add(ticket)
                    else:
                        yield ticket, done
        except (EOFError, ConnectionResetError):
            self._workers.remove(worker)
            worker.process.join()
            if worker.holds:
                ticket, task = worker.holds.popleft()
                message = f"the process that checked it ended with {worker.process.exitcode}"
                only = finding("not-checked", message, file=task.place.url)
                yield ticket, Done(task.place, single(task.place.url, only, self._options), None)
                over.add(ticket)
            again.extend(worker.holds)
            self._hire()

    def close(self) -> None:
        """End the workers, wherever they are."""
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            if any(worker.holds):
                worker.process.terminate()
            worker.process.join()
