"""Exact search over the truth log alone: everything in memory, no second file.

Purpose: the reference that every store is held against, and the store where Annoy is not installed. Invariants: what
`log` and `ranking` promise; a reader's additions in memory are never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emm_engine.embeddings.provider import Float32Array
from emm_engine.files import Identity, identity_of
from emm_engine.vectors.log import KIND_ADD, KIND_REMOVE, Hashes, Rows, TruthLog, merged, positions
from emm_engine.vectors.ranking import allowed_places, best, contenders, dots
from emm_engine.vectors.store import Ids, RecallReport


@dataclass(slots=True)
class _Namespace:
    rows: Rows
    identity: Identity  # of the file that they were read from
    damaged: bool
    extended: bool = False  # a reader added vectors that the file does not hold


class ExactVectors:
    """`VectorStore` over a folder, for one embedder."""

    def __init__(self, folder: Path, dim: int, fingerprint: str) -> None:
        self._folder = folder
        self._dim = dim
        self._fingerprint = fingerprint
        self._logs: dict[str, TruthLog] = {}
        self._open: dict[str, _Namespace] = {}

    # --- writing ---------------------------------------------------------------------------------

    def add(self, namespace: str, ids: Ids, vectors: Float32Array, text_hashes: Hashes) -> None:
        assert vectors.shape == (len(ids), self._dim) and vectors.dtype == np.float32
        assert len(text_hashes) == len(ids)
        self._append(namespace, KIND_ADD, Rows(ids, text_hashes, vectors))

    def remove(self, namespace: str, ids: Ids) -> None:
        known = ids[np.isin(ids, self._current(namespace).rows.ids)]
        if len(known):
            blank = np.zeros((len(known), self._dim), np.float32)
            self._append(namespace, KIND_REMOVE, Rows(known, np.zeros(len(known), np.uint64), blank))

    def compact(self, namespace: str) -> None:
        held = self._current(namespace)
        if held.identity.size:
            log = self._log(namespace)
            log.replace([held.rows], afterwards=log.clear)
            self._open.pop(namespace)

    def drop(self, namespace: str) -> None:
        self._log(namespace).drop()
        self._open.pop(namespace, None)

    def maintain(self, namespace: str) -> list[str]:
        return []  # nothing is derived

    def hold(self, namespace: str, ids: Ids, vectors: Float32Array, text_hashes: Hashes) -> None:
        held = self._load(namespace)
        rows = merged(held.rows, Rows(ids, text_hashes, vectors), np.ones(len(ids), bool))
        self._open[namespace] = _Namespace(rows, held.identity, held.damaged, extended=True)

    def rename(self, namespace: str, into: str) -> None:
        self._log(namespace).rename(self._log(into))
        for each in (namespace, into):
            self._open.pop(each, None)

    def forget_cached(self) -> None:
        self._open.clear()

    def close(self) -> None:
        self._open.clear()

    # --- reading ---------------------------------------------------------------------------------

    def search(
        self, namespace: str, query: Float32Array, k: int, allowed: Ids | None = None
    ) -> tuple[Ids, Float32Array]:
        rows = self._load(namespace).rows
        at = contenders(rows.vectors, query, k, allowed_places(rows.ids, allowed))
        return best(rows.ids[at], dots(rows.vectors[at], query), k)

    def scores(self, namespace: str, query: Float32Array, ids: Ids) -> Float32Array:
        rows = self._load(namespace).rows
        found = np.zeros(len(ids), np.float32)
        at, known = positions(rows.ids, ids)
        found[known] = dots(rows.vectors[at[known]], query)
        return found

    def fetch(self, namespace: str, ids: Ids) -> tuple[Ids, Float32Array]:
        rows = self._load(namespace).rows
        at, known = positions(rows.ids, ids)
        return ids[known], np.ascontiguousarray(rows.vectors[at[known]])

    def count(self, namespace: str) -> int:
        return len(self._load(namespace).rows.ids)

    def missing(self, namespace: str, expected: Mapping[int, int]) -> Ids:
        rows = self._load(namespace).rows
        wanted = np.fromiter(expected, np.int64, len(expected))
        hashes = np.fromiter(expected.values(), np.uint64, len(expected))
        at, known = positions(rows.ids, wanted)
        known[known] = rows.hashes[at[known]] == hashes[known]
        return np.sort(wanted[~known])

    def everything(self, namespace: str) -> Rows:
        """Every vector, in memory."""
        return self._load(namespace).rows

    def recall(self, namespace: str) -> RecallReport:
        return RecallReport(1.0, 0, None)

    # --- the file --------------------------------------------------------------------------------

    def _log(self, namespace: str) -> TruthLog:
        if namespace not in self._logs:
            self._logs[namespace] = TruthLog(self._folder, namespace, self._dim, self._fingerprint)
        return self._logs[namespace]

    def _load(self, namespace: str) -> _Namespace:
        if namespace not in self._open:
            part = self._log(namespace).read()
            self._open[namespace] = _Namespace(part.rows, part.identity, part.damaged)
        return self._open[namespace]

    def _current(self, namespace: str) -> _Namespace:
        """What the file holds now, also where another process or a write of ours that failed has changed it."""
        known = self._open.get(namespace)
        if known is not None and (known.extended or identity_of(self._log(namespace).path) != known.identity):
            del self._open[namespace]
        return self._load(namespace)

    def _append(self, namespace: str, kind: int, news: Rows) -> None:
        held, log = self._current(namespace), self._log(namespace)
        if held.damaged or held.identity.size == 0 or log.failed:
            log.replace([held.rows])
        identity = log.append(kind, news)
        rows = merged(held.rows, news, np.full(len(news.ids), kind == KIND_ADD))
        self._open[namespace] = _Namespace(rows, identity, damaged=False)
