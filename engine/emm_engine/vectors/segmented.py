"""The embedded default: a log-structured store of Annoy segments over the truth log.

Purpose: answer at the same order and with the same scores as exact search, from memory-mapped files. A namespace is its
log, an exact tail in memory, and sealed segments; an index proposes rows, the stored float32 numbers decide.
Invariants: what is added or removed is in the log, durable, before anything else; a tail beyond `Tuning.tail_max`
becomes a segment; segments become larger ones in a child process; damage to any of their files is passed over, and the
log answers; a reader writes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from emm_engine.embeddings.provider import Float32Array
from emm_engine.files import identity_of
from emm_engine.vectors.guard import RecallGuard
from emm_engine.vectors.log import KIND_ADD, KIND_REMOVE, Hashes, Rows, TruthLog
from emm_engine.vectors.merge import Background, maintain, plan
from emm_engine.vectors.ranking import dots
from emm_engine.vectors.sealing import DEFAULTS, Tuning, read_view, rewrite, seal
from emm_engine.vectors.searching import search
from emm_engine.vectors.segment import DamagedError, Model
from emm_engine.vectors.segment_set import MERGE_LOCK, SegmentFolder
from emm_engine.vectors.store import Ids, RecallReport
from emm_engine.vectors.view import View

Found = TypeVar("Found")


class SegmentedVectors:
    """`VectorStore` over a folder, for one embedder."""

    def __init__(
        self, folder: Path, dim: int, fingerprint: str, tuning: Tuning = DEFAULTS, background: bool = True
    ) -> None:
        self._folder = folder
        self._model = Model(dim, fingerprint)
        self._tuning = tuning
        self._background = Background(folder, self._model, tuning) if background else None
        self._logs: dict[str, TruthLog] = {}
        self._folders: dict[str, SegmentFolder] = {}
        self._open: dict[str, View] = {}
        self._held: dict[str, list[Rows]] = {}  # what a reader added in memory
        self._distrusted: set[str] = set()  # marks of sets of which a part proved to be damaged
        self._guards: dict[str, RecallGuard] = {}

    # --- writing ---------------------------------------------------------------------------------

    def add(self, namespace: str, ids: Ids, vectors: Float32Array, text_hashes: Hashes) -> None:
        assert vectors.shape == (len(ids), self._model.dim) and vectors.dtype == np.float32
        assert len(text_hashes) == len(ids)
        self._append(namespace, KIND_ADD, Rows(ids, text_hashes, vectors))

    def remove(self, namespace: str, ids: Ids) -> None:
        known = ids[self._current(namespace).known(ids)]
        if len(known):
            blank = np.zeros((len(known), self._model.dim), np.float32)
            self._append(namespace, KIND_REMOVE, Rows(known, np.zeros(len(known), np.uint64), blank))

    def compact(self, namespace: str) -> None:
        folder = self._segments(namespace)
        if not self._current(namespace).identity.size:
            return
        if not folder.path.is_dir():
            self._anew(namespace)
            return
        with folder.lock(MERGE_LOCK):  # a merge at work could still put old vectors into a new segment
            self._anew(namespace)
            with folder.lock():
                folder.sweep()
        self._grow(namespace)

    def drop(self, namespace: str) -> None:
        folder = self._segments(namespace)
        with folder.lock(MERGE_LOCK) if folder.path.is_dir() else contextlib.nullcontext():
            self._log(namespace).drop()
        for known in (self._open, self._held, self._guards, self._folders):
            known.pop(namespace, None)

    def hold(self, namespace: str, ids: Ids, vectors: Float32Array, text_hashes: Hashes) -> None:
        news = Rows(ids, text_hashes, vectors)
        self._load(namespace).extend(news, np.ones(len(ids), bool))
        self._held.setdefault(namespace, []).append(news)

    def rename(self, namespace: str, into: str) -> None:
        folder = self._segments(namespace)
        with folder.lock(MERGE_LOCK) if folder.path.is_dir() else contextlib.nullcontext():
            self._log(namespace).rename(self._log(into))
        for known in (self._open, self._held, self._guards, self._folders):
            for each in (namespace, into):
                known.pop(each, None)

    def forget_cached(self) -> None:
        self._open.clear()
        self._held.clear()

    def close(self) -> None:
        self.forget_cached()
        self._folders.clear()

    def maintain(self, namespace: str) -> list[str]:
        self._open.pop(namespace, None)
        return maintain(self._folder, namespace, self._model, self._tuning, thorough=True)

    def wait(self) -> None:
        """Until no background merge of this handle runs."""
        if self._background is not None:
            self._background.wait()

    def _append(self, namespace: str, kind: int, news: Rows) -> None:
        log, view = self._log(namespace), self._current(namespace)
        if view.damaged or not view.identity.size or log.failed:
            view = self._anew(namespace)
        identity = log.append(kind, news)
        view.extend(news, np.full(len(news.ids), kind == KIND_ADD))
        view.identity, view.n_records = identity, log.records_in(identity)
        waste = view.n_records - view.count
        if view.n_records - view.n_sealed >= self._tuning.tail_max:
            if waste > max(self._tuning.waste_max * view.n_records, self._tuning.tail_max):
                self._anew(namespace)
            else:
                seal(log, self._segments(namespace), self._model, view)
                del self._open[namespace]
            self._grow(namespace)

    def _anew(self, namespace: str) -> View:
        """Write the log anew, from what there is."""
        for _ in range(2):
            view = self._current(namespace)
            try:
                rewrite(self._log(namespace), self._segments(namespace), self._model, view, self._tuning.tail_max)
            except DamagedError:
                self._distrust(namespace, view)
                continue
            break
        self._open.pop(namespace, None)
        return self._load(namespace)

    def _grow(self, namespace: str) -> None:
        """Let a child process merge and index what has become ripe."""
        view = self._load(namespace)
        if self._background is not None and view.sealed is not None and plan(view.sealed, self._tuning):
            self._background.start(namespace)

    # --- reading ---------------------------------------------------------------------------------

    def search(
        self, namespace: str, query: Float32Array, k: int, allowed: Ids | None = None
    ) -> tuple[Ids, Float32Array]:
        def answer(view: View) -> tuple[Ids, Float32Array]:
            guard = self._guards.setdefault(namespace, RecallGuard())
            ids, scores, indexed = search(view, query, k, allowed, guard.factor)
            if not indexed or not guard.due():
                return ids, scores
            exact, exact_scores, _ = search(view, query, k, allowed, None)
            guard.learn(ids, exact)
            return exact, exact_scores

        return self._answered(namespace, answer)

    def scores(self, namespace: str, query: Float32Array, ids: Ids) -> Float32Array:
        return self._answered(namespace, lambda view: dots(view.vectors_of(ids)[0], query))

    def fetch(self, namespace: str, ids: Ids) -> tuple[Ids, Float32Array]:
        def answer(view: View) -> tuple[Ids, Float32Array]:
            rows, known = view.vectors_of(ids)
            return ids[known], rows[known]

        return self._answered(namespace, answer)

    def count(self, namespace: str) -> int:
        return self._load(namespace).count

    def missing(self, namespace: str, expected: Mapping[int, int]) -> Ids:
        wanted = np.fromiter(expected, np.int64, len(expected))
        hashes, known = self._load(namespace).hashes_of(wanted)
        right = known & (hashes == np.fromiter(expected.values(), np.uint64, len(expected)))
        return np.sort(wanted[~right])

    def everything(self, namespace: str) -> Rows:
        """Every vector, in memory."""
        return self._answered(namespace, _gathered)

    def recall(self, namespace: str) -> RecallReport:
        guard = self._guards.get(namespace, RecallGuard())
        facts = [part.segment.facts for part in self._load(namespace).parts if part.segment.facts is not None]
        if not facts:
            return RecallReport(1.0, guard.n_checked, None)
        measured = min(each.recall for each in facts)
        search_k = guard.factor * max(each.search_k for each in facts)
        return RecallReport(guard.recall if guard.recall is not None else measured, guard.n_checked, search_k)

    def _answered(self, namespace: str, answer: Callable[[View], Found]) -> Found:
        """An answer from what there is; from the log alone, once a segment has proved to be damaged."""
        view = self._load(namespace)
        try:
            return answer(view)
        except DamagedError:
            self._distrust(namespace, view)
            return answer(self._load(namespace))

    def _distrust(self, namespace: str, view: View) -> None:
        assert view.mark is not None
        self._distrusted.add(view.mark)
        self._open.pop(namespace, None)

    # --- what there is ---------------------------------------------------------------------------

    def _log(self, namespace: str) -> TruthLog:
        if namespace not in self._logs:
            self._logs[namespace] = TruthLog(self._folder, namespace, self._model.dim, self._model.fingerprint)
        return self._logs[namespace]

    def _segments(self, namespace: str) -> SegmentFolder:
        if namespace not in self._folders:
            self._folders[namespace] = SegmentFolder(self._folder, namespace, self._model)
        return self._folders[namespace]

    def _load(self, namespace: str) -> View:
        if namespace not in self._open:
            view = read_view(self._log(namespace), self._segments(namespace), self._distrusted)
            for news in self._held.get(namespace, ()):
                view.extend(news, np.ones(len(news.ids), bool))
            self._open[namespace] = view
        return self._open[namespace]

    def _current(self, namespace: str) -> View:
        """What the files hold now, also where another process or a write of ours that failed has changed them."""
        view = self._open.get(namespace)
        if self._held.pop(namespace, None) or (
            view is not None
            and (identity_of(self._log(namespace).path), self._segments(namespace).mark()) != (view.identity, view.mark)
        ):
            self._open.pop(namespace, None)
        return self._load(namespace)


def _gathered(view: View) -> Rows:
    blocks = list(view.rows())
    if not blocks:
        return view.tail
    return Rows(
        np.concatenate([each.ids for each in blocks]),
        np.concatenate([each.hashes for each in blocks]),
        np.concatenate([each.vectors for each in blocks]),
    )
