"""What the library made of files that a damage has left alone, so that only the damaged one costs time.

Purpose: 1.7 million flips of one memory share all files but one, bit for bit. Invariants: only an answer about the very
same `bytes` object of the undamaged memory is handed out again (identity, no checksum decides), and it is the answer of
the library's own code; a file that was touched is read and checked in full, by the same code, every time; a replay is
only spared when the state before, by its SHA-256, and the records are the ones of a replay that was made.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn
from unittest import mock

from emm.codec.journal import JournalRecord
from emm.codec.payload import state_digest
from emm.memory import opening
from emm.state import MatrixState
from emm.storage import recovery
from emm.storage.names import segment_name, snapshot_name
from emm.storage.replay import Records, Replayer
from emm.storage.segment_file import SegmentReader
from emm.storage.snapshot_file import LoadedSnapshot, load_snapshot
from emm.verify import memory as verify_memory
from emm.verify.finding import Finding
from emm.verify.segments import Segment, SegmentScan
from emm.verify.snapshot import SnapshotCheck
from emm.vfs.protocol import Appender, Directory
from emm_fuzz.judge import PATH
from emm_fuzz.memo import ImageDirectory
from emm_fuzz.specimens import Files


class WouldWriteError(Exception):
    """An open for append goes on to write, which a directory of images cannot take: ask a disk instead."""


class _NoLock:
    def release(self) -> None:
        """Nobody else is here."""


class DamagedDirectory(ImageDirectory):
    """Files that can be opened in both modes, as long as opening for append has nothing to write."""

    def __init__(self, files: Files) -> None:
        super().__init__(files, PATH)
        self.files = files

    def lock(self) -> _NoLock:
        return _NoLock()

    def sweep(self) -> Sequence[str]:
        return ()

    def sync(self, name: str) -> None:
        """Nothing is pending."""

    def _would_write(self) -> NoReturn:
        raise WouldWriteError

    def publish(self, name: str, chunks: Iterable[bytes | memoryview]) -> None:
        self._would_write()

    def open_append(self, name: str) -> Appender:
        self._would_write()

    def remove(self, name: str) -> None:
        self._would_write()


class Unchanged:
    """Remembers what was made of the files of one undamaged memory."""

    def __init__(self, whole: Files) -> None:
        self._whole = whole
        self._loaded: dict[tuple[int, bool], LoadedSnapshot] = {}
        self._checked: dict[str, tuple[SnapshotCheck, list[Finding]]] = {}
        self._records: dict[tuple[str, int, bytes], JournalRecord] = {}
        self._scans: dict[tuple[object, ...], tuple[SegmentScan, list[Segment]]] = {}
        self.replayed: dict[object, tuple[MatrixState, int, float, object]] = {}

    def has(self, directory: Directory, name: str) -> bool:
        """True when that file of the directory is the undamaged one itself."""
        whole = self._whole.get(name)
        return isinstance(directory, DamagedDirectory) and whole is not None and directory.files.get(name) is whole

    @contextlib.contextmanager
    def remembered(self) -> Iterator[None]:
        """In this block, the library asks here first."""
        with contextlib.ExitStack() as stack:
            for owner, name, replacement in (
                (recovery, "load_snapshot", self._load_snapshot),
                (recovery, "Replayer", self._replayer),
                (SegmentReader, "_record_at", self._reading_records()),
                (verify_memory, "SnapshotCheck", self._check_snapshot),
                (verify_memory, "SegmentScan", self._scan),
            ):
                stack.enter_context(mock.patch.object(owner, name, replacement))
            yield

    def _load_snapshot(self, directory: Directory, generation: int, **options: Any) -> LoadedSnapshot:
        if not self.has(directory, snapshot_name(generation)):
            return load_snapshot(directory, generation, **options)
        key = generation, bool(options.get("mapped"))
        if key not in self._loaded:
            self._loaded[key] = load_snapshot(directory, generation, **options)
        return self._loaded[key]

    def _replayer(self, state: MatrixState, **options: Any) -> Replayer:
        return _RememberingReplayer(self.replayed, state, options)

    def _reading_records(self) -> Any:
        records, read, has = self._records, SegmentReader._record_at, self.has

        def record_at(reader: SegmentReader, offset: int) -> JournalRecord:
            if not has(reader.directory, reader.name):
                return read(reader, offset)
            key = reader.name, offset, reader.uuid
            if key not in records:
                records[key] = read(reader, offset)
            return records[key]

        return record_at

    def _check_snapshot(self, directory: Directory, name: str, *rest: Any) -> Any:
        if not self.has(directory, name):
            return SnapshotCheck(directory, name, *rest)
        if name not in self._checked:
            check = SnapshotCheck(directory, name, *rest)
            self._checked[name] = check, list(check.run())
        return _Done(*self._checked[name])

    def _scan(self, directory: Directory, uuid: bytes | None) -> Any:
        return _Scan(self, self._scans, directory, uuid)


class _RememberingReplayer(Replayer):
    """Applies a commit, or takes what the same records made of the same state before; gives out copies."""

    def __init__(
        self, known: dict[object, tuple[MatrixState, int, float, object]], state: MatrixState, options: dict[str, Any]
    ) -> None:
        self._known = known
        self._place: object = None
        self._state: MatrixState = state
        self._shared = False  # with a later replay; a copy is given out
        super().__init__(state, **options)

    @property
    def state(self) -> MatrixState:
        if self._shared:
            self._state, self._shared = self._state.copy(), False
        return self._state

    @state.setter
    def state(self, state: MatrixState) -> None:
        self._state, self._shared = state, False

    def apply(self, commit: Records) -> None:
        if self._place is None:
            self._place = state_digest(self._state, 0), int(self._state.flags), self.write_count, self.expand_at
        key = self._place, tuple((each.type, each.payload) for each in commit.records)
        if key not in self._known:
            plain = Replayer(
                self._state.copy(),
                write_count=self.write_count,
                expand_at=self.expand_at,
                state_bytes_max=self._state_bytes_max,
            )
            plain.apply(commit)
            self._known[key] = plain.state, plain.write_count, plain.expand_at, (len(self._known), "replayed")
        self._state, self.write_count, self.expand_at, self._place = self._known[key]
        self._shared = True


class _Done:
    """A `SnapshotCheck` that was run before; changing it does not change the next one."""

    def __init__(self, check: SnapshotCheck, findings: list[Finding]) -> None:
        vars(self).update(check=copy.copy(check), findings=findings)

    def run(self) -> list[Finding]:
        return list(vars(self)["findings"])

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["check"], name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(vars(self)["check"], name, value)


class _Scan:
    """A `SegmentScan` that reads the segments, unless every one of them is unchanged and was read like this before."""

    def __init__(
        self,
        unchanged: Unchanged,
        known: dict[tuple[object, ...], tuple[SegmentScan, list[Segment]]],
        directory: Directory,
        uuid: bytes | None,
    ) -> None:
        self._unchanged, self._known, self._directory = unchanged, known, directory
        self._scan = SegmentScan(directory, uuid)

    def read_all(self, numbers: Sequence[int], interest: set[int]) -> list[Segment]:
        names = [segment_name(number) for number in numbers]
        if not all(self._unchanged.has(self._directory, name) for name in names):
            return list(self._scan.read_all(numbers, interest))
        key = tuple(numbers), frozenset(interest), self._scan.uuid
        if key not in self._known:
            self._known[key] = self._scan, list(self._scan.read_all(numbers, interest))
        self._scan, segments = self._known[key]
        return [copy.copy(each) for each in segments]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scan, name)


@contextlib.contextmanager
def found_at(directory: Directory) -> Iterator[None]:
    """In this block `emm.open` of any URL finds this directory."""
    with mock.patch.object(opening, "open_directory", lambda url: directory):
        yield
