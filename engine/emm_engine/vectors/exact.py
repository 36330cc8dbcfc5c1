"""Exact search over a durable append log: one file for each namespace.

Purpose: the truth log of a namespace and, below a few ten thousand vectors, also the fastest index. A file is a
64-byte header (magic, dim, embedder fingerprint, CRC) and records of fixed size (id, text hash, kind, CRC-32,
vector). Invariants: a record counts only when its CRC matches, so a flipped byte or a torn tail loses exactly
the records it touches, which the caller embeds again from the catalog; reading never writes; a writer that
finds damage, or whose last write failed, publishes a clean log under the same name, whole, before it appends; the
first write of a handle makes the names durable that it finds.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emm_engine.embeddings.provider import Float32Array
from emm_engine.files import append_durably, make_folder, read_whole, rename_durably, replace_durably, size_of
from emm_engine.vectors.store import Ids, Rows

MAGIC = b"\x89EMMVEC\n"
HEADER = struct.Struct("<8sI12x32sI4x")  # magic, dim, fingerprint, CRC-32 of the fields before it
PREFIX = struct.Struct("<qQI")  # id, text hash, kind
ROUGH_ERROR = 1e-4  # more than a float32 sum of products of unit vectors can be off, whatever its order
KIND_ADD, KIND_REMOVE = 1, 2
assert HEADER.size == 64 and PREFIX.size == 20


def _record(dim: int) -> np.dtype[np.void]:
    return np.dtype([("id", "<i8"), ("hash", "<u8"), ("kind", "<u4"), ("crc", "<u4"), ("vector", "<f4", (dim,))])


@dataclass(slots=True)
class _Namespace:
    ids: Ids  # (n,) ascending
    hashes: npt.NDArray[np.uint64]  # (n,)
    vectors: Float32Array  # (n, dim)
    size: int  # bytes of the file that this was read from
    damaged: bool  # the file holds bytes that are not whole, valid records
    extended: bool = False  # a reader added vectors that the file does not hold


class ExactVectors:
    """`VectorStore` over a folder, for one embedder."""

    def __init__(self, folder: Path, dim: int, fingerprint: str) -> None:
        self._folder = folder
        self._dim = dim
        self._fingerprint = bytes.fromhex(fingerprint)
        self._record = _record(dim)
        self._open: dict[str, _Namespace] = {}
        self._sound: dict[str, bool] = {}  # namespaces that this handle wrote to: False once a write has failed

    def _path(self, namespace: str) -> Path:
        return self._folder / (namespace.replace(":", "/") + ".vec")

    # --- the interface ---------------------------------------------------------------------------

    def add(self, namespace: str, ids: Ids, vectors: Float32Array, text_hashes: npt.NDArray[np.uint64]) -> None:
        assert vectors.shape == (len(ids), self._dim) and vectors.dtype == np.float32
        assert len(text_hashes) == len(ids)
        self._append(namespace, KIND_ADD, ids, text_hashes, vectors)

    def remove(self, namespace: str, ids: Ids) -> None:
        known = ids[np.isin(ids, self._current(namespace).ids)]
        if len(known):
            blank = np.zeros((len(known), self._dim), np.float32)
            self._append(namespace, KIND_REMOVE, known, np.zeros(len(known), np.uint64), blank)

    def search(
        self, namespace: str, query: Float32Array, k: int, allowed: Ids | None = None
    ) -> tuple[Ids, Float32Array]:
        held = self._load(namespace)
        rough = held.vectors @ query
        at = np.arange(len(held.ids)) if allowed is None else np.flatnonzero(np.isin(held.ids, allowed))
        if 0 < k < len(at):
            floor = np.partition(rough[at], len(at) - k)[len(at) - k] - ROUGH_ERROR
            at = at[rough[at] >= floor]  # whatever could be among the k best; the exact scores below decide
        ids, scores = held.ids[at], _dots(held.vectors[at], query)
        order = np.lexsort((ids, -scores))[: max(k, 0)]
        return ids[order], scores[order]

    def scores(self, namespace: str, query: Float32Array, ids: Ids) -> Float32Array:
        held = self._load(namespace)
        found = np.zeros(len(ids), np.float32)
        if len(held.ids) and len(ids):
            at = np.minimum(np.searchsorted(held.ids, ids), len(held.ids) - 1)
            known = held.ids[at] == ids
            found[known] = _dots(held.vectors[at[known]], query)
        return found

    def count(self, namespace: str) -> int:
        return len(self._load(namespace).ids)

    def missing(self, namespace: str, expected: Mapping[int, int]) -> Ids:
        held = self._load(namespace)
        wanted = np.fromiter(expected, np.int64, len(expected))
        hashes = np.fromiter(expected.values(), np.uint64, len(expected))
        absent = np.ones(len(wanted), bool)
        if len(held.ids) and len(wanted):
            at = np.minimum(np.searchsorted(held.ids, wanted), len(held.ids) - 1)
            absent = (held.ids[at] != wanted) | (held.hashes[at] != hashes)
        return np.sort(wanted[absent])

    def hold(self, namespace: str, ids: Ids, vectors: Float32Array, text_hashes: npt.NDArray[np.uint64]) -> None:
        held = self._load(namespace)
        self._open[namespace] = _merged(held, ids, text_hashes, vectors, np.ones(len(ids), bool))
        self._open[namespace].extended = True

    def everything(self, namespace: str) -> Rows:
        return self._current(namespace)

    def rename(self, namespace: str, into: str) -> None:
        rename_durably(self._path(namespace), self._path(into))
        for each in (namespace, into):
            self._open.pop(each, None)
            self._sound.pop(each, None)

    def forget_cached(self) -> None:
        self._open.clear()

    # --- the file --------------------------------------------------------------------------------

    def _load(self, namespace: str) -> _Namespace:
        if namespace not in self._open:
            self._open[namespace] = self._parse(read_whole(self._path(namespace)))
        return self._open[namespace]

    def _current(self, namespace: str) -> _Namespace:
        """What the file holds now, also where another process or a write of ours that failed has changed it."""
        known = self._open.get(namespace)
        if known is not None and (known.extended or size_of(self._path(namespace)) != known.size):
            del self._open[namespace]
        return self._load(namespace)

    def _parse(self, data: bytes) -> _Namespace:
        empty = _Namespace(
            np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros((0, self._dim), np.float32), len(data), bool(data)
        )
        if data[: HEADER.size] != self._header():
            return empty
        size = self._record.itemsize
        n_records, torn = divmod(len(data) - HEADER.size, size)
        records = np.frombuffer(data, self._record, n_records, HEADER.size)
        view = memoryview(data)
        crcs = np.fromiter(
            (_crc(view[at : at + size]) for at in range(HEADER.size, HEADER.size + n_records * size, size)),
            np.uint32,
            n_records,
        )
        valid = crcs == records["crc"]
        held = _merged(
            empty,
            records["id"][valid].astype(np.int64),
            records["hash"][valid].astype(np.uint64),
            records["vector"][valid].astype(np.float32),
            records["kind"][valid] == KIND_ADD,
        )
        held.damaged = torn != 0 or not bool(valid.all())
        return held

    def _header(self) -> bytes:
        crc = zlib.crc32(HEADER.pack(MAGIC, self._dim, self._fingerprint, 0))
        return HEADER.pack(MAGIC, self._dim, self._fingerprint, crc)

    def _encode(self, kind: int, ids: Ids, hashes: npt.NDArray[np.uint64], vectors: Float32Array) -> bytes:
        records = np.zeros(len(ids), self._record)
        records["id"], records["hash"], records["kind"], records["vector"] = ids, hashes, kind, vectors
        size, view = self._record.itemsize, memoryview(records.tobytes())
        records["crc"] = [_crc(view[at : at + size]) for at in range(0, len(view), size)]
        return records.tobytes()

    def _append(
        self, namespace: str, kind: int, ids: Ids, hashes: npt.NDArray[np.uint64], vectors: Float32Array
    ) -> None:
        path, held = self._path(namespace), self._current(namespace)
        sound = self._sound.get(namespace)
        self._sound[namespace] = False  # until this write is through
        if not sound:  # whoever made the folders and the name may have died before they were durable
            make_folder(path.parent)
        if held.damaged or held.size == 0 or sound is False:  # what a failed sync dropped is still there to be read
            replace_durably(path, self._header() + self._encode(KIND_ADD, held.ids, held.hashes, held.vectors))
        size = append_durably(path, self._encode(kind, ids, hashes, vectors))
        self._sound[namespace] = True
        merged = _merged(held, ids, hashes, vectors, np.full(len(ids), kind == KIND_ADD))
        merged.size, merged.damaged = size, False
        self._open[namespace] = merged


def _crc(record: memoryview) -> int:
    """CRC-32 of a record without its CRC field."""
    return zlib.crc32(record[PREFIX.size + 4 :], zlib.crc32(record[: PREFIX.size]))


def _dots(vectors: Float32Array, query: Float32Array) -> Float32Array:
    """Dot products in float64, each row by itself: a row's score does not depend on the rows beside it."""
    products: npt.NDArray[np.float64] = np.einsum("ij,j->i", vectors, query, dtype=np.float64)
    return products.astype(np.float32)


def _merged(
    held: _Namespace,
    ids: Ids,
    hashes: npt.NDArray[np.uint64],
    vectors: Float32Array,
    adds: npt.NDArray[np.bool_],
) -> _Namespace:
    """`held` after a sequence of additions and removals; the last word about an id counts."""
    every = np.concatenate([held.ids, ids])
    last = len(every) - 1 - np.unique(every[::-1], return_index=True)[1]  # ascending by id
    alive = np.concatenate([np.ones(len(held.ids), bool), adds])[last]
    chosen = last[alive]
    return _Namespace(
        every[chosen],
        np.concatenate([held.hashes, hashes])[chosen],
        np.ascontiguousarray(np.concatenate([held.vectors, vectors])[chosen]),
        held.size,
        held.damaged,
    )
