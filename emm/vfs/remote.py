"""A memory directory in anything fsspec can read: object stores, HTTP, archives, memory.

Purpose: read and verify memories where they lie. Invariants: every length is checked (fsspec returns
short reads silently), listings and sizes are never served from a cache, and exceptions that fsspec
returns inside a list are raised. Writing is refused: publishing to an object store needs a
conditional PUT that is probed first, which this version does not have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import fsspec

from emm.errors import EmmError, MissingError, StorageError, TruncatedError
from emm.vfs.names import check_name, check_range, is_name
from emm.vfs.read_only import ReadOnly

_UNCHECKED_BYTES_MAX: Final = 1 << 20  # longer reads ask for the size first


class RemoteDirectory(ReadOnly):
    """Read-only `emm.vfs.protocol.Directory` over an fsspec file system and a path inside it."""

    refusal = "writing to object stores comes in a later version; write to a local directory and copy it there"

    def __init__(self, filesystem: fsspec.AbstractFileSystem, path: str, url: str | None = None) -> None:
        self._filesystem = filesystem
        self._path = path.rstrip("/") or path
        self._url = str(filesystem.unstrip_protocol(path)) if url is None else url

    def __repr__(self) -> str:
        return f"RemoteDirectory({self._url!r})"

    @property
    def url(self) -> str:
        return self._url

    @property
    def filesystem(self) -> fsspec.AbstractFileSystem:
        return self._filesystem

    @property
    def path(self) -> str:
        return self._path

    def _file(self, name: str) -> str:
        return f"{self._url.rstrip('/')}/{name}"

    def _key(self, name: str) -> str:
        return f"{self._path.rstrip('/')}/{check_name(name)}"

    def entries(self) -> list[dict[str, Any]]:
        """fsspec's own description of everything here, uncached; `MissingError` when nothing is."""
        with mapped(self._url, "list"):
            self._filesystem.invalidate_cache(self._path)
            found = [dict(entry) for entry in self._filesystem.ls(self._path, detail=True)]
        own = self._path.strip("/")
        if len(found) == 1 and found[0]["type"] == "file" and str(found[0]["name"]).strip("/") == own:
            raise MissingError("not a directory", file=self._url)
        return [entry for entry in found if str(entry["name"]).strip("/") != own]  # some stores list a folder's marker

    def list(self) -> list[str]:
        files = [entry for entry in self.entries() if entry["type"] == "file"]
        names = [str(entry["name"]).rsplit("/", 1)[-1] for entry in files]
        return sorted(name for name in names if is_name(name))

    def size(self, name: str) -> int:
        key = self._key(name)
        with mapped(self._file(name), "read the size"):
            self._filesystem.invalidate_cache(self._path)
            about = self._filesystem.info(key)
        if about.get("type") != "file" or about.get("size") is None:
            raise StorageError("not a file of known size", file=self._file(name))
        return int(about["size"])

    def _exactly(self, data: Any, name: str, offset: int, length: int) -> bytes:
        if isinstance(data, Exception):
            raise storage_error(data, self._file(name), "read") from data
        if len(data) != length:
            raise TruncatedError(
                "the file ends inside the bytes asked for",
                file=self._file(name),
                offset=offset,
                expected=length,
                found=len(data),
            )
        return bytes(data)

    def _refuse_past_end(self, name: str, offset: int, length: int) -> None:
        """Some file systems allocate what is asked for before they look at what is there."""
        size = self.size(name)
        if offset + length > size:
            self._exactly(b"", name, offset, length)

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        check_range(offset, length)
        key = self._key(name)
        if length == 0:  # an empty range has no form in HTTP
            self.size(name)
            return b""
        if length > _UNCHECKED_BYTES_MAX:
            self._refuse_past_end(name, offset, length)
        with mapped(self._file(name), "read"):
            data = self._filesystem.cat_file(key, start=offset, end=offset + length)
        return self._exactly(data, name, offset, length)

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        for offset, length in ranges:
            check_range(offset, length)
        key = self._key(name)
        asked = [(offset, length) for offset, length in ranges if length]
        if len(asked) < len(ranges) or not asked:
            self.size(name)
        for offset, length in asked:
            if length > _UNCHECKED_BYTES_MAX:
                self._refuse_past_end(name, offset, length)
        with mapped(self._file(name), "read"):
            starts = [offset for offset, _ in asked]
            ends = [offset + length for offset, length in asked]
            parts = self._filesystem.cat_ranges([key] * len(asked), starts, ends) if asked else []
        if len(parts) != len(asked):
            raise StorageError("the store answered with another number of ranges", file=self._file(name))
        found = iter(
            [self._exactly(part, name, offset, length) for part, (offset, length) in zip(parts, asked, strict=True)]
        )
        return [next(found) if length else b"" for _, length in ranges]

    def map(self, name: str) -> memoryview:
        """The whole file, read once into memory."""
        return memoryview(self.read_at(name, 0, self.size(name)))


@contextlib.contextmanager
def mapped(file: str, doing: str) -> Iterator[None]:
    """Turn whatever a third-party file system raises into an `EmmError` that names the file."""
    try:
        yield
    except EmmError:
        raise
    except Exception as error:  # file systems of third parties raise what they like
        raise storage_error(error, file, doing) from error


def storage_error(error: Exception, file: str, doing: str) -> StorageError:
    """`MissingError` for what is not there, `StorageError` for everything else."""
    if isinstance(error, FileNotFoundError):
        return MissingError("no such file or directory", file=file)
    if isinstance(error, NotADirectoryError):
        return MissingError("not a directory", file=file)
    reason = str(error) or type(error).__name__
    return StorageError(f"cannot {doing}: {reason}", file=file)
