"""When two workloads have led to the same situation, so that what comes next need be looked at once.

Purpose: a fingerprint of everything that later behaviour depends on: what is durable and what is pending in the memory
directory, the open handle down to its last field, the model's moment, and which operations may follow. Two situations
are the same when they agree in all of it up to a one-to-one renaming of byte strings (UUIDs, nonces, digests, chain
values, keys, values, numbers of a matrix) and up to what `_IGNORED` and `_DATA` name. A byte string becomes the number
of its first appearance, so what equals what is kept: the chain value in a header and that of a commit, a pair in the
journal and in the model. Numbers that steer (LSNs, generations, lengths, offsets, ranks, flags) stay as they are.

Assumed, and tested by exploring both of a pair of workloads in one situation (`tests/fuzz/test_enumeration.py`): the
library does not steer by the content of those strings, by times, by descriptors or inode numbers, except through an
operation being refused, which is part of the fingerprint. Invariants: a field that a handle gains later is part of the
fingerprint without anybody thinking of it; bytes that do not decode are compared as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Any, Final

import numpy as np

from emm.codec.journal import JournalRecord, SegmentHeader, decode_record, decode_segment_header
from emm.codec.pairs import decode_commit, decode_expand, decode_pairs, decode_parameters
from emm.errors import EmmError
from emm.layout import PAIRS_HEADER, SEGMENT_HEADER, SNAPSHOT_SUFFIX, RecordType
from emm.storage.names import parse_name
from emm.storage.replay import PAIR_TYPES
from emm.storage.snapshot_file import LoadedSnapshot, load_snapshot
from emm_fuzz.cases import Case, Moment, advance
from emm_fuzz.crash_states import QUICK, SECTORS, Entry, Image, Spec
from emm_fuzz.deterministic import deterministic
from emm_fuzz.geometry import DEFAULT
from emm_fuzz.memo import ImageDirectory
from emm_fuzz.model import OPERATIONS
from emm_fuzz.places import crash_point
from emm_fuzz.record import Record
from emm_fuzz.runs import Run

_IGNORED: Final = frozenset({"time_us", "surprise", "device", "inode"})  # when, how far off, where on the disk
_DATA: Final = frozenset({"gram_trace", "scale", "leak"})  # numbers of a matrix's gain

Workload = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Situation:
    """Where a workload has led: a fingerprint, and the operations that may follow."""

    fingerprint: bytes
    words: Workload


def situation_after(workload: Workload, geometry: str = DEFAULT) -> Situation | None:
    """Live through a workload with closed eyes; None when a memory must refuse one of its operations."""
    with deterministic() as source:
        run = Run(Record(QUICK), Case(workload, geometry=geometry), source, last_only=False, blind=True)
        with run.living():
            run.begin()
            if all([run.step(word, place) for place, word in enumerate(workload)]):
                return _situation(run, len(workload))
    return None


def _situation(run: Run, place: int) -> Situation:
    words = tuple(word for word in OPERATIONS if advance(run.moment, word, place) is not None)
    shape = _Shaper(run.disk.pid)
    point = crash_point(run.disk, run.path)
    units = point.units(SECTORS[0])
    pending = tuple(
        ("name", unit.change.name, bool(unit.change.inode))
        if isinstance(unit, Entry)
        else ("data", unit.offset, len(unit.data))
        for unit in units
    )
    images = [point.build_visible(), *([point.build(Spec(SECTORS[0], 0), units)] if units else [])]
    found = (
        words,
        pending,
        tuple(_image(image, shape) for image in images),
        _moment(run.moment, shape),
        tuple(map(type, run.allowed.values())),
        run.disk.dropped,
        shape.of(run.memory),
    )
    return Situation(hashlib.blake2b(repr(found).encode(), digest_size=16).digest(), words)


class _Shaper:
    """Values without what does not steer."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._names: dict[bytes, int] = {}
        self._met: dict[int, tuple[int, object]] = {}  # by id, with the object, so that no other one gets its id

    def name(self, data: bytes | bytearray | memoryview) -> tuple[int, int]:
        """(length, which of the different strings met so far)."""
        return len(data), self._names.setdefault(bytes(data), len(self._names))

    def of(self, value: Any, field: str = "") -> object:
        if isinstance(value, Enum):
            return repr(value)
        if field == "expand_at":
            return 0 < value < 1  # 0 and 1 both say: never
        if field == "_fd":
            return value >= 0
        if field == "_pid":
            return value == self._pid
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self.name(value)
        if isinstance(value, np.ndarray):
            return value.shape, self.name(value.tobytes())
        if isinstance(value, Mapping):
            return tuple((key, self.of(each)) for key, each in sorted(value.items()))
        if isinstance(value, Iterable):
            return tuple(self.of(each) for each in value)
        return self._object(value)

    def _object(self, value: object) -> object:
        kind = type(value)
        if kind.__module__.partition(".")[0] not in ("emm", "emm_fuzz"):
            return kind.__name__  # a lock, a thread, a function
        if id(value) in self._met:
            return "met before", self._met[id(value)][0]
        self._met[id(value)] = len(self._met), value
        return kind.__name__, *(
            (name, self.of(getattr(value, name), name)) for name in _fields(value) if name not in _IGNORED | _DATA
        )


def _fields(value: object) -> list[str]:
    slots = {name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())}
    return sorted(name for name in {*slots, *getattr(value, "__dict__", ())} if hasattr(value, name))


def _moment(moment: Moment, shape: _Shaper) -> object:
    """The model, whose past matters only as long as a memory can be solved again from it."""
    return shape.of(moment if moment.journal_whole else replace(moment, steps=()))


# --- files ----------------------------------------------------------------------------------------


def _image(image: Image, shape: _Shaper) -> object:
    if image is None:
        return None
    found: list[object] = []
    uuid = b""
    for name in sorted(image, key=lambda name: (not name.endswith(SNAPSHOT_SUFFIX), name)):
        decoded = _decoded(name, bytes(image[name]), uuid)
        if isinstance(decoded, LoadedSnapshot):
            uuid = decoded.snapshot.uuid
        found.append((name, len(image[name]), _file(decoded, shape)))
    return tuple(found)


Decoded = LoadedSnapshot | tuple[SegmentHeader, tuple[JournalRecord, ...]] | bytes


@lru_cache(maxsize=512)
def _decoded(name: str, data: bytes, uuid: bytes) -> Decoded:
    """What a file holds; its digest when it does not decode to the end."""
    parsed = parse_name(name)
    assert parsed is not None
    try:
        if parsed[0] == SNAPSHOT_SUFFIX:
            return load_snapshot(ImageDirectory({name: data}), parsed[1])
        records: list[JournalRecord] = []
        offset = SEGMENT_HEADER.size
        while offset < len(data):
            records.append(decode_record(data[offset:], offset, uuid))
            offset += records[-1].size
        return decode_segment_header(data[: SEGMENT_HEADER.size]), tuple(records)
    except EmmError:
        return hashlib.blake2b(data, digest_size=16).digest()


def _file(decoded: Decoded, shape: _Shaper) -> object:
    if isinstance(decoded, bytes):
        return "undecoded", decoded
    if isinstance(decoded, LoadedSnapshot):
        return shape.of(decoded)
    header, records = decoded
    return shape.of(header), tuple(_record(each, shape) for each in records)


def _record(record: JournalRecord, shape: _Shaper) -> object:
    head = record.type.name, record.lsn, record.synced_through, len(record.payload)
    if record.type in PAIR_TYPES:
        stated = PAIRS_HEADER.unpack(record.payload)
        batch = decode_pairs(record, stated["key_dim"], stated["dim"])
        rows = [(shape.of(key), shape.of(value)) for key, value in zip(batch.keys, batch.values, strict=True)]
        return head, batch.rank, rows, batch.write_gates.tolist(), batch.decay_gates.tolist()
    if record.type is RecordType.COMMIT:
        return head, shape.of(decode_commit(record))
    if record.type is RecordType.EXPAND:
        return head, decode_expand(record)
    if record.type is RecordType.PARAMETERS:
        return head, shape.of(decode_parameters(record), "expand_at")
    return head, record.payload
