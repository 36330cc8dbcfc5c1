"""Forked writers, what they tell, and how they end.

Purpose: a round of a kill harness costs a fork, not an interpreter with NumPy. Whoever holds a `Writers` is the fork
server: a warm process that forks, listens, kills and reaps. Writers tell what they do as lines on one pipe, each in
one write, so a line is whole or absent and the order of the lines is the order in which they were written.
Invariants: the server has nothing open that a writer could inherit (no memory, no lock, no catalog) and no threads; a
killed writer stays a zombie, so its id cannot be reused, until it is reaped here; no writer outlives the block.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from emm_fuzz.workload import Plan, build_plan

PIPE_BYTES: Final = 1 << 20  # so that writers need not wait for the server
DRAIN_SECONDS: Final = 0.05
KILLED: Final = -signal.SIGKILL  # how `Writers.reap` gives the end of a process that was alive when the signal came

Tell = Callable[[str], None]
Act = Callable[[Tell], None]


@dataclass(frozen=True, slots=True)
class Line:
    """What a writer told, and when it did."""

    pid: int
    at_ns: int
    text: str


@lru_cache(maxsize=4)
def plan_of(seed: int, n_stages: int) -> Plan:
    return build_plan(seed, n_stages)


class Writers:
    """Forks writers and hears them. A context manager that leaves no process behind."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        with contextlib.suppress(PermissionError):  # a user who has many pipes gets small ones
            fcntl.fcntl(self._write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(self._read, False)
        self._left = b""
        self._living: set[int] = set()

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill and reap what still lives."""
        for pid in list(self._living):
            self.kill(pid)
        os.close(self._read)
        os.close(self._write)

    def start(self, act: Act) -> int:
        """Fork a process that does `act` and exits; its id."""
        pid = os.fork()
        if pid:
            self._living.add(pid)
            return pid

        def tell(text: str) -> None:
            os.write(self._write, f"{os.getpid()} {time.monotonic_ns()} {text}\n".encode())

        status = 1
        try:
            os.close(self._read)
            act(tell)
            status = 0
        except BaseException as error:
            tell("! " + " | ".join(traceback.format_exception(error)[-4:]).replace("\n", " ")[:2000])
        finally:
            os._exit(status)

    def start_together(self, act: Act, count: int) -> list[int]:
        """Fork `count` processes that begin `act` at the same moment; their ids."""
        start, go = os.pipe()

        def waiting(tell: Tell) -> None:
            os.close(go)
            os.read(start, 1)  # returns for all of them when the server closes its end
            os.close(start)
            act(tell)

        pids = [self.start(waiting) for _ in range(count)]
        os.close(start)
        os.close(go)
        return pids

    def told(self, wait_seconds: float = 0.0) -> list[Line]:
        """The lines that have arrived, waiting up to `wait_seconds` for the first."""
        select.select([self._read], [], [], wait_seconds)
        parts = [self._left]
        while True:
            try:
                parts.append(os.read(self._read, 1 << 16))
            except BlockingIOError:
                break
        *lines, self._left = b"".join(parts).split(b"\n")
        found = (line.decode().split(" ", 2) for line in lines)
        return [Line(int(pid), int(at_ns), text) for pid, at_ns, text in found]

    def finish(self, pid: int) -> tuple[int, list[Line]]:
        """Let a process come to its end: (its exit status, the lines that arrived meanwhile)."""
        lines: list[Line] = []
        descriptor = os.pidfd_open(pid)
        try:
            while not select.select([descriptor], [], [], DRAIN_SECONDS)[0]:
                lines += self.told()  # else it could wait for room in the pipe
        finally:
            os.close(descriptor)
        return self.reap(pid), lines + self.told()

    def has_ended(self, pid: int) -> bool:
        """True for a process that is over, by itself or by a signal, and waits to be reaped."""
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def kill(self, pid: int) -> int:
        """SIGKILL, and how it ended: `KILLED` when the signal found it alive, else its own exit status."""
        os.kill(pid, signal.SIGKILL)
        return self.reap(pid)

    def reap(self, pid: int) -> int:
        """Wait for a process to end; its exit status, or the negative number of the signal that ended it."""
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self._living.discard(pid)
        return status
