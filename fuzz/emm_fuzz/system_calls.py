"""The system calls that `emm.vfs` makes, counted, so that a process can kill itself at an exact one of them.

Purpose: a kill that can be enumerated and replayed. In a forked process that will not live on, `count_calls` puts a
counter before `os`, `fcntl` and `mmap` as `emm.vfs` sees them; the calls themselves are the real ones. Invariants: a
process with a death to die does so by SIGKILL before its n-th call, after it, or in the middle of a write with half of
the bytes written; every call that another process could notice is counted (the others are told as well, so that a
death between two of them can be asked for); calls of other threads pass uncounted.
"""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, Literal

from emm.vfs import handles, local

CHANGING: Final = frozenset(
    {"create", "write", "fsync", "fdatasync", "link", "unlink", "mkdir", "rmdir", "flock", "unlock"}
)  # what others can notice: "create" is an open that makes a file, "unlock" a close that gives up the lock
COUNTED: Final = frozenset(
    {"open", "close", "write", "fsync", "fdatasync", "link", "unlink", "mkdir", "rmdir", "flock", "mmap"}
    | {"pread", "fstat", "stat", "listdir", "scandir"}
)
UNKNOWN: Final = frozenset({"rename", "replace", "truncate", "ftruncate", "pwrite", "writev", "sendfile", "remove"})

Moment = Literal["before", "half", "after"]


@dataclass(frozen=True, slots=True)
class Death:
    """Where in its calls a process kills itself; `call` counts from 0."""

    moment: Moment
    call: int


class CallCounter:
    """Counts calls, tells each, and dies where it should."""

    def __init__(self, tell: Callable[[str], None], death: Death | None) -> None:
        self._tell = tell
        self._death = death
        self._number = -1
        self._thread = threading.get_ident()
        self._locks: set[int] = set()

    def call(self, name: str, real: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return real(*arguments, **named)
        self._number += 1
        name, size = self._kind(name, arguments), 0
        if name == "write":
            size = memoryview(arguments[1]).nbytes
        self._tell(f"@ {name} {size}")
        here = self._death.moment if self._death is not None and self._death.call == self._number else None
        if here == "before":
            die()
        if here == "half" and name == "write":
            real(arguments[0], memoryview(arguments[1])[: size // 2])
            die()
        try:
            return real(*arguments, **named)
        finally:
            if here == "after":
                die()

    def _kind(self, name: str, arguments: tuple[Any, ...]) -> str:
        if name == "open":
            return "create" if arguments[1] & os.O_CREAT else "open"
        if name == "flock":
            self._locks.add(arguments[0])
        if name == "close" and arguments[0] in self._locks:
            self._locks.remove(arguments[0])
            return "unlock"
        return name


class _Module:
    """A module of which some functions are counted and some must not be called."""

    def __init__(self, module: ModuleType, counter: CallCounter) -> None:
        self._module = module
        self._counter = counter

    def __getattr__(self, name: str) -> Any:
        if name in UNKNOWN:
            raise AttributeError(f"{name} is not counted yet")
        real = getattr(self._module, name)
        if name not in COUNTED:
            return real
        return lambda *arguments, **named: self._counter.call(name, real, arguments, named)


def count_calls(tell: Callable[[str], None], death: Death | None) -> None:
    """From here on every call of this process counts, until it dies. Only for a forked process.

    Without the garbage collector, which would close forgotten descriptors whenever it happens to run.
    """
    gc.disable()
    counter = CallCounter(tell, death)
    for module, name, real in ((local, "os", os), (handles, "os", os), (local, "fcntl", fcntl), (local, "mmap", mmap)):
        setattr(module, name, _Module(real, counter))


def die() -> None:
    """What `kill -9` does, here and now."""
    os.kill(os.getpid(), signal.SIGKILL)
