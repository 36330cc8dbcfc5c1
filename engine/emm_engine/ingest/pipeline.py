"""Documents into an archive: text first, then vectors, then the matrix.

Purpose: one resumable pipeline. (1) take the run's memory, which is the lock; (2) settle what an interrupted
ingest left; (3) store documents in durable transactions; (4) fit the domain's embedder if there is none;
(5) absorb every pending pair: vector log, intended batch, matrix commit, settled batch; (6) take superseded
pairs out of the matrix; (7) checkpoint. Invariants: killed anywhere, the next ingest (also of nothing) continues
with no pair missing or doubled; memory use does not grow with the corpus, except for ids and the embedder's sample.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

import emm
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.search import CatalogReader
from emm_engine.catalog.store import Added, Catalog, Run
from emm_engine.documents import Document, Label
from emm_engine.embeddings.provider import Embedder
from emm_engine.matrices.labels import TERMS_PER_PASSAGE, pair_labels, value
from emm_engine.reports import IngestReport, OnProgress, Progress
from emm_engine.vectors.store import Ids, VectorStore

DOCUMENTS_PER_TRANSACTION = 1000
PASSAGES_PER_CHUNK = 2048  # embedded together
PAIRS_PER_BATCH = 256  # one matrix commit
FIT_ENOUGH = 4000  # passages beyond which an embedder's fit is no longer the limit
OUTGROWN_RATIO = 4

Models = Callable[[Run], tuple[Embedder, VectorStore]]


class Ingest:
    """One ingest into one run, over an open writer of its memory."""

    def __init__(
        self, catalog: Catalog, run: Run, memory: emm.Memory, models: Models, progress: OnProgress | None
    ) -> None:
        self._catalog = catalog
        self._run = run
        self._memory = memory
        self._models = models
        self._progress = progress
        self._ledger = PairLedger(catalog, run)
        self._namespace = str(run.scope)
        self._phase_seconds: dict[str, float] = {}

    def run(self, documents: Iterable[Document]) -> IngestReport:
        """Do it all; what was stored before an exception stays stored."""
        started = time.perf_counter()
        resumed = self._ledger.reconcile(self._memory.write_count, self._memory.lsn)
        n_read, added = self._store(documents)
        n_pairs, n_unlearned = 0, 0
        if self._has_passages():
            phase = time.perf_counter()
            embedder, vectors = self._models(self._run)
            vectors.forget_cached()  # what a question held in memory alone is not in the log
            self._tell("fitting", 1, 1, phase)
            phase = time.perf_counter()
            self._repair_vectors(embedder, vectors)
            n_pairs = self._absorb(embedder, vectors)
            n_unlearned = self._unlearn_stale(embedder)
            if n_pairs or n_unlearned:
                self._memory.checkpoint()
            self._phase_seconds["absorbing"] = time.perf_counter() - phase
        return IngestReport(
            scope=self._namespace,
            entries_read=n_read,
            documents=added.documents,
            duplicates=added.duplicates,
            empty=added.empty,
            superseded=added.superseded,
            passages=added.passages,
            pairs=n_pairs,
            unlearned=n_unlearned,
            pending=self._ledger.progress().pending,
            resumed=resumed,
            lsn=self._memory.lsn,
            rank=self._memory.rank,
            saturation=float(self._memory.saturation),
            seconds=time.perf_counter() - started,
            phase_seconds=self._phase_seconds,
            notices=(*self._memory.notices, *self._outgrown()),
        )

    def _outgrown(self) -> list[str]:
        """Say so when the domain has outgrown the texts that its embedder was fitted on."""
        n_fitted, n_passages = self._catalog.embedder_coverage(self._run.tenant_id, self._run.scope.domain)
        if n_fitted >= min(n_passages, FIT_ENOUGH) / OUTGROWN_RATIO:
            return []
        return [f"the embedder was fitted on {n_fitted} passages and the domain now holds {n_passages}: recall suffers"]

    def _tell(self, phase: str, done: int, total: int | None, started: float) -> None:
        seconds = time.perf_counter() - started
        self._phase_seconds[phase] = seconds
        if self._progress is not None:
            self._progress(Progress(phase, done, total, seconds))

    def _store(self, documents: Iterable[Document]) -> tuple[int, Added]:
        started = time.perf_counter()
        total, n_read = Added(), 0
        source = iter(documents)
        while part := list(itertools.islice(source, DOCUMENTS_PER_TRANSACTION)):
            total += self._catalog.add_documents(self._run, part)
            n_read += len(part)
            self._tell("reading", n_read, None, started)
        return n_read, total

    def _has_passages(self) -> bool:
        return bool(self._catalog.query("SELECT 1 FROM passages WHERE scope_id = ? LIMIT 1", (self._run.scope_id,)))

    # --- vectors ---------------------------------------------------------------------------------

    def _hashes(self) -> dict[int, int]:
        return CatalogReader(self._catalog, self._run.tenant_id, [self._run]).text_hashes(self._run.scope_id)

    def _repair_vectors(self, embedder: Embedder, vectors: VectorStore) -> None:
        """Embed again what the log should hold and does not (damage, a lost tail); pending pairs come later."""
        hashes = self._hashes()
        pending = set(self._ledger.pending(len(hashes)))
        settled = {identity: digest for identity, digest in hashes.items() if identity not in pending}
        missing = vectors.missing(self._namespace, settled)
        for low in range(0, len(missing), PASSAGES_PER_CHUNK):
            part = missing[low : low + PASSAGES_PER_CHUNK]
            texts = self._catalog.texts(self._run.tenant_id, part.tolist())
            self._add_vectors(vectors, part, embedder.embed(list(texts.values())), hashes)

    def _add_vectors(
        self, vectors: VectorStore, ids: Ids, rows: np.typing.NDArray[np.float32], hashes: dict[int, int]
    ) -> None:
        digests = np.fromiter((hashes[identity] for identity in ids.tolist()), np.uint64, len(ids))
        vectors.add(self._namespace, ids, rows, digests)

    # --- the matrix ------------------------------------------------------------------------------

    def _absorb(self, embedder: Embedder, vectors: VectorStore) -> int:
        """Every pending pair, oldest first."""
        started = time.perf_counter()
        hashes = self._hashes()
        n_done, n_total = 0, self._ledger.progress().pending
        while chunk := self._ledger.pending(PASSAGES_PER_CHUNK):
            texts = list(self._catalog.texts(self._run.tenant_id, chunk).values())
            keys = embedder.embed(texts)
            absent = np.isin(chunk, vectors.missing(self._namespace, {i: hashes[i] for i in chunk}))
            if absent.any():
                self._add_vectors(vectors, np.asarray(chunk, np.int64)[absent], keys[absent], hashes)
            terms = embedder.salient_terms(texts, TERMS_PER_PASSAGE)
            declared = self._ledger.declared(chunk)
            labels = {
                identity: pair_labels(declared[identity], named, text.partition("\n")[2])
                for identity, named, text in zip(chunk, terms, texts, strict=True)
            }
            for low in range(0, len(chunk), PAIRS_PER_BATCH):
                self._write(chunk[low : low + PAIRS_PER_BATCH], keys[low : low + PAIRS_PER_BATCH], labels)
                n_done += len(chunk[low : low + PAIRS_PER_BATCH])
                self._tell("absorbing", n_done, n_total, started)
        return n_done

    def _write(
        self,
        ids: Sequence[int],
        keys: np.typing.NDArray[np.float32],
        labels: dict[int, list[tuple[Label, float]]],
    ) -> None:
        values = np.stack([value(labels[identity], self._memory.dim) for identity in ids])
        batch = self._ledger.intend_write({identity: labels[identity] for identity in ids}, self._memory.write_count)
        self._ledger.settle(batch, self._memory.write(np.ascontiguousarray(keys), values))

    def _unlearn_stale(self, embedder: Embedder) -> int:
        """Take superseded pairs out exactly: the same keys and values that were written."""
        n_done = 0
        while chunk := self._ledger.stale(PAIRS_PER_BATCH):
            keys = embedder.embed(list(self._catalog.texts(self._run.tenant_id, chunk).values()))
            kept = self._ledger.kept(chunk)
            values = np.stack([value(kept[identity], self._memory.dim) for identity in chunk])
            batch = self._ledger.intend_unlearn(chunk, self._memory.write_count)
            self._ledger.settle(batch, self._memory.unlearn(keys, values, rank=self._memory.rank))  # the ledger vouches
            n_done += len(chunk)
        return n_done
