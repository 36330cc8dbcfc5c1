"""A read-only directory whose files are bytes in memory, for tests that damage them by the thousand.

Purpose: check code that reads memories without a disk in between. Invariants: keeps `ReadContract`; a
`bytearray` given as a file may be changed between two calls, which is the point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

from emm.errors import MissingError, TruncatedError, UnsupportedError
from emm.vfs.names import check_name, check_range, is_name
from emm.vfs.protocol import Appender, Lock


class FrozenDirectory:
    """`emm.vfs.protocol.Directory` over a mapping of names to bytes; None in its place is a missing directory."""

    def __init__(self, files: Mapping[str, bytes | bytearray] | None, url: str = "frozen") -> None:
        self._files = files
        self._url = url

    @property
    def url(self) -> str:
        return self._url

    def _data(self, name: str) -> bytes | bytearray:
        check_name(name)
        data = None if self._files is None else self._files.get(name)
        if data is None:
            raise MissingError("no such file or directory", file=f"{self._url}/{name}")
        return data

    def list(self) -> list[str]:
        if self._files is None:
            raise MissingError("no such file or directory", file=self._url)
        return sorted(name for name in self._files if is_name(name))

    def size(self, name: str) -> int:
        return len(self._data(name))

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        check_range(offset, length)
        data = self._data(name)
        if length and offset + length > len(data):
            raise TruncatedError(
                "the file ends inside the bytes asked for", file=f"{self._url}/{name}", offset=offset, expected=length
            )
        return bytes(memoryview(data)[offset : offset + length])

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        return [self.read_at(name, offset, length) for offset, length in ranges] if ranges else []

    def map(self, name: str) -> memoryview:
        return memoryview(bytes(self._data(name)))

    def _read_only(self) -> NoReturn:
        raise UnsupportedError("a frozen directory is never written", file=self._url)

    def create(self) -> None:
        self._read_only()

    def publish(self, name: str, chunks: Iterable[bytes | memoryview]) -> None:
        self._read_only()

    def open_append(self, name: str) -> Appender:
        self._read_only()

    def sync(self, name: str) -> None:
        self._read_only()

    def remove(self, name: str) -> None:
        self._read_only()

    def lock(self) -> Lock:
        self._read_only()

    def sweep(self) -> Sequence[str]:
        self._read_only()

    def close(self) -> None:
        """Nothing is held."""
