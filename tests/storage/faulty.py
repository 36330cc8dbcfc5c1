"""A directory whose n-th change fails, in one of three ways a medium can fail.

`before`: nothing happened. `half`: an append left half of its bytes, a publish nothing (it is all or nothing).
`after`: it happened, yet an error was reported (a failed fsync). Counts publish, append, sync, open_append and remove.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from emm.errors import ClosedError, StorageError
from emm.vfs.local import LocalDirectory
from emm.vfs.protocol import Appender, Lock

HOWS = ("before", "half", "after")


class FaultyDirectory:
    """`emm.vfs.protocol.Directory` over a real one; `fail_at` counts from 1, 0 never fails."""

    def __init__(self, path: str, fail_at: int, how: str) -> None:
        self.real = LocalDirectory(path)
        self.fail_at = fail_at
        self.how = how
        self.changes = 0
        self.log: list[str] = []

    def due(self, what: str) -> bool:
        self.changes += 1
        self.log.append(what)
        return self.changes == self.fail_at

    def fail(self, what: str) -> None:
        raise StorageError(f"cannot {what}: the medium says no", file=self.real.url)

    @property
    def url(self) -> str:
        return self.real.url

    def list(self) -> list[str]:
        return self.real.list()

    def size(self, name: str) -> int:
        return self.real.size(name)

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        return self.real.read_at(name, offset, length)

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        return self.real.read_ranges(name, ranges)

    def map(self, name: str) -> memoryview:
        return self.real.map(name)

    def create(self) -> None:
        self.real.create()

    def publish(self, name: str, chunks: Iterable[bytes | memoryview]) -> None:
        if not self.due(f"publish {name}"):
            return self.real.publish(name, chunks)
        if self.how == "after":
            self.real.publish(name, chunks)
        return self.fail("publish")

    def open_append(self, name: str) -> Appender:
        if self.due(f"open {name}"):
            self.fail("open")
        return FaultyAppender(self, self.real.open_append(name))

    def sync(self, name: str) -> None:
        if self.due(f"sync {name}"):
            self.fail("sync")
        self.real.sync(name)

    def remove(self, name: str) -> None:
        due = self.due(f"remove {name}")
        if not due or self.how == "after":
            self.real.remove(name)
        if due:
            self.fail("remove")

    def lock(self) -> Lock:
        return self.real.lock()

    def sweep(self) -> Sequence[str]:
        return self.real.sweep()

    def close(self) -> None:
        self.real.close()


class FaultyAppender:
    def __init__(self, directory: FaultyDirectory, real: Appender) -> None:
        self.directory = directory
        self.real = real
        self.poisoned = False

    def _check(self) -> None:
        if self.poisoned:
            raise ClosedError("an earlier write or sync failed")

    def append(self, data: bytes) -> None:
        self._check()
        if not self.directory.due("append"):
            return self.real.append(data)
        self.poisoned = True
        part = {"before": b"", "half": data[: len(data) // 2], "after": data}[self.directory.how]
        if part:
            self.real.append(part)
        return self.directory.fail("append")

    def sync(self) -> None:
        self._check()
        if self.directory.due("sync"):
            self.poisoned = True
            if self.directory.how == "after":
                self.real.sync()
            self.directory.fail("sync")
        self.real.sync()

    def close(self) -> None:
        self.real.close()
