"""Images as directories, and pure decoding that is done once for the same bytes.

Purpose: thousands of crash images differ in a few sectors of a journal and share the rest byte for byte. What follows
from bytes alone is kept: a snapshot loaded or checked, a record or segment header decoded, a commit applied to a state.
Invariants: only for directories of images, never for a disk; an answer is the library's own, for exactly these bytes
(compared whole, no checksum decides), and a refusal to decode is never kept; what is kept lasts as long as the block;
answers are handed out as copies wherever a caller may change them.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any
from unittest import mock

from emm.codec.journal import JournalRecord, decode_segment_header
from emm.codec.pairs import PairBatch
from emm.errors import EmmError, MissingError
from emm.layout import RecordType
from emm.state import Float32Array, MatrixState
from emm.storage import grouped_replay, recovery, segment_file
from emm.storage.names import snapshot_name
from emm.storage.replay import Records, Replayer
from emm.storage.segment_file import LoggedCommit, SegmentReader
from emm.storage.snapshot_file import LoadedSnapshot, load_snapshot
from emm.testing.frozen import FrozenDirectory
from emm.verify import memory as verify_memory
from emm.verify.finding import Finding
from emm.verify.snapshot import SnapshotCheck
from emm.vfs.protocol import Directory

CANDIDATES_MAX = 64  # different records remembered at one place of a segment


class ImageDirectory(FrozenDirectory):
    """A crash image; its names were checked when it was built, and its bytes never change."""

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


class _Replayer(Replayer):
    """Applies commits, or takes what the same records made of the same replayer before, field by field.

    No state is changed in place, whoever asks for it, so one may belong to many recoveries.
    """

    known: dict[object, dict[str, Any]]
    _place: object = None  # stands for all fields; None: they have to be looked at

    def apply(self, commit: Records) -> None:
        self.remember([commit], lambda: super(_Replayer, self).apply(commit))

    def apply_pairs(self, kind: RecordType, batch: PairBatch, offset: int = 0) -> Float32Array | None:
        self.state, self._place = self.state.copy(), None
        return super().apply_pairs(kind, batch, offset)

    def expand(self, rank: int, offset: int = 0) -> None:
        self._place = None
        super().expand(rank, offset)

    def remember(self, commits: Sequence[Records], act: Callable[[], None]) -> None:
        """Do what applies these commits, unless it was done before."""
        if self._place is None:
            rest = {name: value for name, value in vars(self).items() if name not in ("known", "state", "_place")}
            self._place = *_numbers(self.state), *sorted(rest.items())
        key = self._place, tuple((each.type, each.payload) for commit in commits for each in commit.records)
        if key not in self.known:
            act()
            self.known[key] = {**vars(self), "_place": len(self.known)}
        vars(self).update(self.known[key])


def _numbers(state: MatrixState) -> tuple[object, ...]:
    """Everything that a state holds."""
    gain = state.gain
    deferred = () if gain is None else (gain.pbar.tobytes(), gain.u.tobytes(), gain.signs, gain.count)
    scalars = () if gain is None else (gain.scale, gain.leak, gain.gram_trace)
    return state.parameters, int(state.flags), state.matrix.tobytes(), *deferred, *scalars


class Memo:
    """What is known of the bytes of images."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[int, bytes], LoadedSnapshot | EmmError] = {}
        self._checked: dict[tuple[str, bytes], tuple[SnapshotCheck, list[Finding]]] = {}
        self._records: dict[tuple[int, bytes], list[tuple[bytes, JournalRecord]]] = {}
        self._replayed: dict[object, dict[str, Any]] = {}
        self._in_image = False
        self._recover = recovery._recover
        self._apply_group = grouped_replay.apply_group
        self._record_at = SegmentReader._record_at

    def load(self, directory: Directory, generation: int, **options: Any) -> LoadedSnapshot:
        if not isinstance(directory, ImageDirectory):
            return load_snapshot(directory, generation, **options)
        key = generation, bytes(directory._data(snapshot_name(generation)))
        if key not in self._loaded:
            try:
                self._loaded[key] = load_snapshot(directory, generation, **options)
            except EmmError as error:
                self._loaded[key] = error
        found = self._loaded[key]
        if isinstance(found, EmmError):
            raise copy.copy(found)
        return found

    def check(self, directory: Directory, name: str, *rest: Any) -> Any:
        if not isinstance(directory, ImageDirectory):
            return SnapshotCheck(directory, name, *rest)
        key = name, bytes(directory._data(name))
        if key not in self._checked:
            one = SnapshotCheck(directory, name, *rest)
            self._checked[key] = one, list(one.run())
        return _Checked(*self._checked[key])

    def record_at(self, reader: SegmentReader, offset: int) -> JournalRecord:
        directory = reader.directory
        if not isinstance(directory, ImageDirectory):
            return self._record_at(reader, offset)
        data = directory._data(reader.name)
        known = self._records.setdefault((offset, reader.uuid), [])
        for encoded, record in known:
            if data.startswith(encoded, offset):
                return record
        record = self._record_at(reader, offset)
        if len(known) < CANDIDATES_MAX:
            known.append((bytes(data[offset : offset + record.size]), record))
        return record

    def recover(self, directory: Directory, *rest: Any) -> recovery.Recovered:
        before, self._in_image = self._in_image, isinstance(directory, ImageDirectory)
        try:
            return self._recover(directory, *rest)
        finally:
            self._in_image = before

    def apply_group(self, replayer: Replayer, group: Sequence[LoggedCommit]) -> None:
        if isinstance(replayer, _Replayer):
            replayer.remember(group, lambda: self._apply_group(replayer, group))
        else:
            self._apply_group(replayer, group)

    def replayer(self, state: MatrixState, **options: Any) -> Replayer:
        if not self._in_image:
            return Replayer(state, **options)
        replayer = _Replayer(state, **options)
        replayer.known = self._replayed
        return replayer


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """In this block, equal bytes in images are read once."""
    memo = Memo()
    decode_header = lru_cache(maxsize=256)(decode_segment_header)
    with contextlib.ExitStack() as stack:
        for owner, name, replacement in (
            (recovery, "load_snapshot", memo.load),
            (recovery, "_recover", memo.recover),
            (recovery, "Replayer", memo.replayer),
            (grouped_replay, "apply_group", memo.apply_group),
            (verify_memory, "SnapshotCheck", memo.check),
            (SegmentReader, "_record_at", lambda reader, offset: memo.record_at(reader, offset)),
            (segment_file, "decode_segment_header", decode_header),
        ):
            stack.enter_context(mock.patch.object(owner, name, replacement))
        yield
