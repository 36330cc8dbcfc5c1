"""Durable I/O as a small protocol: what the format needs from a medium, and nothing else.

Fault model, which every implementation must honour and the contract suite in `emm.testing` checks:

- `publish` is all or nothing: after it returns, the name holds exactly those bytes and survives a
  power cut; if it raises or the process dies, the name is absent (a temporary name, never listed by
  `list`, may stay behind). A taken name raises `ExistsError` and is not touched.
- `append` moves bytes to the medium without promising that they survive; `sync` promises it for all
  bytes appended before. After a failed `sync` the appender is poisoned: every later call raises.
- `read_at` returns exactly the bytes asked for or raises: a short read is `TruncatedError`, never
  silent; a read error is `StorageError`, never the end of the file.
- `list` is uncached and complete for names published before it began.
- `lock` is exclusive among all processes and handles, is held until released or until its process
  dies, and raises `FencedError` at once when it is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol


class Appender(Protocol):
    """A file that only its creator grows."""

    def append(self, data: bytes | bytearray) -> None: ...

    def sync(self) -> None: ...

    def close(self) -> None: ...


class Lock(Protocol):
    def release(self) -> None: ...


class Directory(Protocol):
    """One memory directory (or a prefix in a bucket). Names are plain file names, without separators."""

    @property
    def url(self) -> str:
        """Where this is, for messages."""
        ...

    def list(self) -> list[str]:
        """Names of the regular files here, sorted; `MissingError` when the directory does not exist."""
        ...

    def size(self, name: str) -> int:
        """Bytes in the file; `MissingError` when absent."""
        ...

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`."""
        ...

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """Several (offset, length) reads of one file, in order."""
        ...

    def map(self, name: str) -> memoryview:
        """The whole file as a read-only view (mmap where the medium can)."""
        ...

    def create(self) -> None:
        """Make the directory, durably; `ExistsError` when it exists and is not empty."""
        ...

    def publish(self, name: str, chunks: Iterable[bytes | memoryview]) -> None:
        """Create `name` whole and durable, if absent."""
        ...

    def open_append(self, name: str) -> Appender:
        """Grow a file that this handle published itself; anything else raises `FencedError`."""
        ...

    def sync(self, name: str) -> None:
        """Make what the system holds of a file durable, whoever wrote it.

        It proves nothing about bytes that an earlier, failed sync has dropped.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove a file, durably; absent is not an error."""
        ...

    def lock(self) -> Lock:
        """Become the one writer."""
        ...

    def sweep(self) -> Sequence[str]:
        """Remove temporary names that dead writers left; their names. Only for the lock's holder.

        After it returns, every name in the directory is durable, also one whose publisher died before it was.
        """
        ...

    def close(self) -> None:
        """Release what the handle holds open; a later call opens it again."""
        ...
