"""A real process that does what it is told, one call at a time.

Purpose: stories with several processes and an exact order: this one opens, that one is refused, the first one is
stopped. A puppet is forked with nothing open, receives picklable calls over a pipe, runs each with the `Held` that is
its own, and sends back the result or the error. Invariants: the process and its system calls are real; a puppet that
dies while it is asked raises `EOFError`, it never hangs the caller; none outlives its block.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import emm
from emm_fuzz.workload import Plan, perform

CHILD_SECONDS_MAX: Final = 30

P = ParamSpec("P")
Result = TypeVar("Result")


@dataclass(slots=True)
class Held:
    """What one puppet has in its hands."""

    memory: emm.Memory | None = None
    children: list[int] = field(default_factory=list)

    @property
    def open_memory(self) -> emm.Memory:
        assert self.memory is not None
        return self.memory


class Puppet:
    """A forked process that obeys. A context manager that kills it and reaps it."""

    def __init__(self) -> None:
        mine, its = multiprocessing.Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            mine.close()
            _obey(its)
        its.close()
        self._pipe = mine
        self._reaped = False

    def __enter__(self) -> Puppet:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._pipe.close()

    def send(self, act: Callable[Concatenate[Held, P], Result], *arguments: P.args, **named: P.kwargs) -> None:
        """Begin an act without waiting for it; `answer` fetches what came of it."""
        self._pipe.send((act, arguments, named))

    def answer(self) -> Any:
        """What the act sent returned, or its error."""
        failed, value = self._pipe.recv()
        if failed:
            raise value
        return value

    def ask(self, act: Callable[Concatenate[Held, P], Result], *arguments: P.args, **named: P.kwargs) -> Result:
        """Do an act there; what it returns, or its error."""
        self.send(act, *arguments, **named)
        result: Result = self.answer()
        return result

    def has_answered(self, wait_seconds: float) -> bool:
        return self._pipe.poll(wait_seconds)

    def stop(self) -> None:
        """SIGSTOP, and wait until it stands still."""
        os.kill(self.pid, signal.SIGSTOP)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, also of a stopped process, and reap it."""
        if not self._reaped:
            self._reaped = True
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def _obey(pipe: Connection) -> None:
    held = Held()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            act, arguments, named = pipe.recv()
            try:
                answer = (False, act(held, *arguments, **named))
            except Exception as error:
                answer = (True, error)
            pipe.send(answer)
    os._exit(0)


# --- acts ----------------------------------------------------------------------------------------


def open_memory(held: Held, url: str, mode: str = "a") -> tuple[int, str]:
    """Open; (lsn, digest)."""
    held.memory = emm.open(url, mode)
    return held.memory.lsn, held.memory.digest


def write_step(held: Held, plan: Plan, index: int) -> str:
    """Perform one step of a plan; the digest after it."""
    perform(held.open_memory, plan.steps[index])
    return held.open_memory.digest


def close_memory(held: Held) -> None:
    held.open_memory.close()
    held.memory = None


def fork_child(held: Held, act: Callable[[Held], None]) -> int:
    """A child that does `act` with all that was inherited and lives on; its id, once it has begun."""
    begun, begin = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(CHILD_SECONDS_MAX)  # one that hangs ends by itself, and is seen to
        try:
            os.write(begin, b"1")
            act(held)
        finally:
            while True:
                signal.pause()
    os.close(begin)
    os.read(begun, 1)
    os.close(begun)
    held.children.append(pid)
    return pid


def reap_child(held: Held, pid: int) -> int:
    """Wait for a child; its exit status, or the negative number of its signal."""
    held.children.remove(pid)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
