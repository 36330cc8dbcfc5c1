"""Images as directories, and snapshots that are checked once however many images hold them.

Purpose: thousands of crash images differ in a few sectors of a journal and share their snapshots byte for byte.
Loading or checking a snapshot depends on its name and bytes alone, so the answer for the same bytes is kept.
Invariants: only for directories of images, never for a disk; what is kept lasts as long as the block; answers are
handed out as copies wherever a caller may change them.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any
from unittest import mock

from emm.errors import EmmError, MissingError
from emm.storage import recovery
from emm.storage.names import snapshot_name
from emm.storage.snapshot_file import LoadedSnapshot, load_snapshot
from emm.testing.frozen import FrozenDirectory
from emm.verify import memory as verify_memory
from emm.verify.finding import Finding
from emm.verify.snapshot import SnapshotCheck
from emm.vfs.protocol import Directory


class ImageDirectory(FrozenDirectory):
    """A crash image; its names were checked when it was built."""

    def _data(self, name: str) -> bytes | bytearray:
        data = None if self._files is None else self._files.get(name)
        if data is None:
            raise MissingError("no such file or directory", file=f"{self._url}/{name}")
        return data


class _Checked:
    """Stands for a `SnapshotCheck` that was run before."""

    def __init__(self, check: SnapshotCheck, findings: list[Finding]) -> None:
        self._check, self._findings = check, findings

    def run(self) -> list[Finding]:
        return list(self._findings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._check, name)


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """In this block, equal snapshots in images are loaded and checked once."""
    loaded: dict[tuple[int, bytes], LoadedSnapshot | EmmError] = {}
    checked: dict[tuple[str, bytes], tuple[SnapshotCheck, list[Finding]]] = {}

    def load(directory: Directory, generation: int, **options: Any) -> LoadedSnapshot:
        if not isinstance(directory, ImageDirectory):
            return load_snapshot(directory, generation, **options)
        key = generation, bytes(directory._data(snapshot_name(generation)))
        if key not in loaded:
            try:
                loaded[key] = load_snapshot(directory, generation, **options)
            except EmmError as error:
                loaded[key] = error
        found = loaded[key]
        if isinstance(found, EmmError):
            raise copy.copy(found)
        return found

    def check(directory: Directory, name: str, *rest: Any) -> Any:
        if not isinstance(directory, ImageDirectory):
            return SnapshotCheck(directory, name, *rest)
        key = name, bytes(directory._data(name))
        if key not in checked:
            one = SnapshotCheck(directory, name, *rest)
            checked[key] = one, list(one.run())
        return _Checked(*checked[key])

    with (
        mock.patch.object(recovery, "load_snapshot", load),
        mock.patch.object(verify_memory, "SnapshotCheck", check),
    ):
        yield
