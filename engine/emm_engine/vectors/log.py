"""The truth of a namespace: an append log of vectors, one file.

Purpose: what every embedded store writes first and can be rebuilt from. A file is a 64-byte header (magic, dim,
embedder fingerprint, CRC) and records of fixed size (id, text hash, kind, CRC-32, vector). Invariants: a record counts
only when its CRC matches, so a flipped byte or a torn tail loses exactly the records it touches, which the caller
embeds again from the catalog; a removal is written twice, because nothing else could tell that it was lost; reading
never writes; a writer that finds damage, or whose last write failed, publishes a clean log under the same name, whole,
before it appends, and takes away what was derived from the old one before that; the first write of a handle makes the
names durable that it finds.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from emm_engine.embeddings.provider import Float32Array
from emm_engine.files import (
    NO_FILE,
    Identity,
    append_durably,
    identity_of,
    make_folder,
    read_ends,
    remove_durably,
    rename_durably,
    replace_durably,
    sweep_temporaries,
    sync_folder,
)
from emm_engine.vectors.store import Ids

MAGIC: Final = b"\x89EMMVEC\n"
HEADER: Final = struct.Struct("<8sI12x32sI4x")  # magic, dim, fingerprint, CRC-32 of the fields before it
PREFIX: Final = struct.Struct("<qQI")  # id, text hash, kind
KIND_ADD: Final = 1
KIND_REMOVE: Final = 2
SEGMENTS_FOLDER: Final = "_segments"  # no scope is called so: names begin with a letter or digit
SET_NAME: Final = "set.json"
LOCK: Final = "lock"  # beside it, held while it is exchanged
BLOCK_ROWS: Final = 2048  # written or gathered at a time
assert HEADER.size == 64 and PREFIX.size == 20

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Vectors by id. Where a function does not say otherwise, each id once and ascending."""

    ids: Ids  # (n,)
    hashes: Hashes  # (n,) of the texts
    vectors: Float32Array  # (n, dim)

    @classmethod
    def none(cls, dim: int) -> Rows:
        return cls(np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros((0, dim), np.float32))

    def at(self, ids: Ids) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """(place of each id, whether it is there); a place means nothing where it is not."""
        return positions(self.ids, ids)

    def blocks(self) -> Iterator[Rows]:
        for low in range(0, len(self.ids), BLOCK_ROWS):
            part = slice(low, low + BLOCK_ROWS)
            yield Rows(self.ids[part], self.hashes[part], self.vectors[part])


@dataclass(slots=True)
class LogPart:
    """A log from one of its records on."""

    rows: Rows  # what these records add and nothing of them removes
    touched: Ids  # ascending: every id that these records say something about
    n_records: int  # of the whole log
    last_crc: int | None  # stored in the record before these; None where there is none
    identity: Identity
    damaged: bool  # the file holds bytes that are not whole, valid records


def log_path(folder: Path, namespace: str) -> Path:
    return folder / (namespace.replace(":", "/") + ".vec")


def segments_path(folder: Path, namespace: str) -> Path:
    """The folder of what is derived from a namespace's log."""
    path = folder / namespace.replace(":", "/")
    return path.parent / SEGMENTS_FOLDER / path.name


class TruthLog:
    """The log of one namespace, for one embedder."""

    def __init__(self, folder: Path, namespace: str, dim: int, fingerprint: str) -> None:
        self.path = log_path(folder, namespace)
        self._set_path = segments_path(folder, namespace) / SET_NAME
        self._dim = dim
        self._header = _header(dim, bytes.fromhex(fingerprint))
        self._record = record_of(dim)
        self._sound: bool | None = None  # of the writes of this handle; None before the first, False once one failed

    def read(self, first: int = 0, vouched: int | None = None) -> LogPart:
        """The log from record `first` on.

        A log whose header is damaged is read all the same where the record before those carries the CRC `vouched`:
        who has that knows by what the vectors were made.
        """
        size = self._record.itemsize
        start = HEADER.size + max(first - 1, 0) * size
        head, data, identity = read_ends(self.path, HEADER.size, start)
        n_records, torn = self.records_in(identity), (identity.size - HEADER.size) % size
        records = np.frombuffer(data, self._record, len(data) // size)
        last_crc = None
        if first and len(records):
            last_crc, records, data = int(records["crc"][0]), records[1:], data[size:]
        if head != self._header and (vouched is None or last_crc != vouched):
            return LogPart(Rows.none(self._dim), np.zeros(0, np.int64), 0, None, identity, bool(head))
        valid = crcs_of(data, len(records), size) == records["crc"]
        records = records[valid] if not valid.all() else records
        ids = records["id"].astype(np.int64)
        rows = merged(
            Rows.none(self._dim),
            Rows(ids, records["hash"].astype(np.uint64), records["vector"]),
            records["kind"] == KIND_ADD,
        )
        damaged = torn != 0 or n_records < first or head != self._header or not bool(valid.all())
        return LogPart(rows, np.unique(ids), n_records, last_crc, identity, damaged)

    @property
    def failed(self) -> bool:
        """The last write of this handle did not end well: what a failed sync dropped is still there to be read."""
        return self._sound is False

    def append(self, kind: int, rows: Rows) -> Identity:
        """Append additions or removals, in any order; durable when it returns."""
        self._begin()
        data = encode(kind, rows, self._record)
        identity = append_durably(self.path, data * 2 if kind == KIND_REMOVE else data)
        self._sound = True
        return identity

    def replace(self, everything: Iterable[Rows], afterwards: Callable[[], None] = lambda: None) -> None:
        """Publish a log of these rows alone; what was derived from the old one goes first.

        `afterwards` is done while nobody else may say what is derived from the new one.
        """
        self._begin()
        blocks = itertools.chain.from_iterable(rows.blocks() for rows in everything)
        records = (encode(KIND_ADD, block, self._record) for block in blocks)
        with self._set_is_ours():
            sweep_temporaries(self.path)  # they may hold what has been removed since
            remove_durably(self._set_path)
            replace_durably(self.path, itertools.chain((self._header,), records))
            afterwards()
        self._sound = True

    def drop(self) -> None:
        """Remove the log and all that is derived from it; first the set, so that it answers for no log that is gone."""
        with self._set_is_ours():
            remove_durably(self._set_path)
            remove_durably(self.path)
            sweep_temporaries(self.path)
            self.clear()
        self._sound = None

    def rename(self, into: TruthLog) -> None:
        """Take the place of another log, and then what was derived from this one; done again, it changes nothing."""
        if identity_of(self.path) != NO_FILE:
            into.drop()
            with self._set_is_ours():
                rename_durably(self.path, into.path)
        derived = self._set_path.parent
        if identity_of(derived) != NO_FILE:
            into.clear()
            rename_durably(derived, into._set_path.parent)
        self._sound = into._sound = None

    def clear(self) -> None:
        """Remove what was derived from the log; its set is gone already."""
        folder = self._set_path.parent
        if identity_of(folder) != NO_FILE:
            shutil.rmtree(folder)
            sync_folder(folder.parent)

    def _set_is_ours(self) -> contextlib.AbstractContextManager[object]:
        folder = self._set_path.parent
        return locked(folder / LOCK) if identity_of(folder) != NO_FILE else contextlib.nullcontext()

    def _begin(self) -> None:
        sound, self._sound = self._sound, False  # until this write is through
        if not sound:  # whoever made the folders and the name may have died before they were durable
            make_folder(self.path.parent)

    def records_in(self, identity: Identity) -> int:
        """Whole records of a log of this size."""
        return max(identity.size - HEADER.size, 0) // self._record.itemsize


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock between processes; yields False where it is taken and we do not wait."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def record_of(dim: int) -> np.dtype[np.void]:
    return np.dtype([("id", "<i8"), ("hash", "<u8"), ("kind", "<u4"), ("crc", "<u4"), ("vector", "<f4", (dim,))])


def _header(dim: int, fingerprint: bytes) -> bytes:
    crc = zlib.crc32(HEADER.pack(MAGIC, dim, fingerprint, 0))
    return HEADER.pack(MAGIC, dim, fingerprint, crc)


def encode(kind: int, rows: Rows, record: np.dtype[np.void]) -> bytes:
    """Records, each with its CRC."""
    records = np.zeros(len(rows.ids), record)
    records["id"], records["hash"], records["kind"], records["vector"] = rows.ids, rows.hashes, kind, rows.vectors
    records["crc"] = crcs_of(records.tobytes(), len(records), record.itemsize)
    return records.tobytes()


def crcs_of(data: bytes, n_records: int, size: int) -> npt.NDArray[np.uint32]:
    """The CRC-32 of each record, without its CRC field."""
    view = memoryview(data)
    crc, prefix, vector = zlib.crc32, PREFIX.size, PREFIX.size + 4
    starts = range(0, n_records * size, size)
    found = (crc(view[at + vector : at + size], crc(view[at : at + prefix])) for at in starts)
    return np.fromiter(found, np.uint32, n_records)


def positions(held: Ids, ids: Ids) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """(place in `held`, which ascends, of each id; whether it is there)."""
    if not len(held):
        return np.zeros(len(ids), np.intp), np.zeros(len(ids), bool)
    at = np.minimum(np.searchsorted(held, ids), len(held) - 1)
    return at, held[at] == ids


def merged(held: Rows, news: Rows, adds: npt.NDArray[np.bool_]) -> Rows:
    """`held` after a sequence of additions and removals in any order of ids; the last word about an id counts."""
    every = np.concatenate([held.ids, news.ids])
    last = len(every) - 1 - np.unique(every[::-1], return_index=True)[1]  # ascending by id
    alive = np.concatenate([np.ones(len(held.ids), bool), adds])[last]
    chosen = last[alive]
    vectors = news.vectors if not len(held.ids) else np.concatenate([held.vectors, news.vectors])
    hashes = np.concatenate([held.hashes, news.hashes])
    return Rows(every[chosen], hashes[chosen], np.ascontiguousarray(vectors[chosen], np.float32))
