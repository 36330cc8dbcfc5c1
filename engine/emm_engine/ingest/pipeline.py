"""Documents into an archive: text first, then vectors, then the matrix.

Purpose: one resumable pipeline. (1) take the run's memory, which is the lock; (2) settle what an interrupted
ingest left; (3) store documents in durable transactions; (4) fit the domain's embedder and count its phrases where
that was not done; (5) absorb every pending pair: vector log, intended batch, matrix commit, settled batch; (6) take
superseded pairs out of the matrix; (7) checkpoint. Invariants: killed anywhere, the next ingest (also of nothing)
continues with no pair missing or doubled; passages are held a chunk at a time, never all of them, nor all their ids.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

import emm
from emm_engine.catalog.material import Material, declared, materials, pair_keys, vectors_and_keys
from emm_engine.catalog.pairs import PairLedger, Taught
from emm_engine.catalog.phrases import phrase_model
from emm_engine.catalog.search import CatalogReader
from emm_engine.catalog.store import Added, Catalog, Run
from emm_engine.documents import Document, Marked
from emm_engine.embeddings.provider import Embedder
from emm_engine.extraction.facts import facts
from emm_engine.extraction.keyphrases import PhraseModel
from emm_engine.matrices.labels import taught, value
from emm_engine.reports import IngestReport, Progress
from emm_engine.vectors.store import Ids, VectorStore

DOCUMENTS_PER_TRANSACTION = 1000
PASSAGES_PER_CHUNK = 2048  # embedded together
PAIRS_PER_BATCH = 256  # one matrix commit
FIT_ENOUGH = 4000  # passages beyond which an embedder's fit is no longer the limit
OUTGROWN_RATIO = 4

OnProgress = Callable[[Progress], None]
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
        self._reader = CatalogReader(catalog, run.tenant_id, [run], None)
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
            phrases = phrase_model(self._catalog, self._run)
            self._tell("fitting", 1, 1, phase)
            phase = time.perf_counter()
            self._repair_vectors(embedder, vectors)
            n_pairs = self._absorb(embedder, vectors, phrases)
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

    def _repair_vectors(self, embedder: Embedder, vectors: VectorStore) -> None:
        """Embed again what the log should hold and does not (damage, a lost tail); pending pairs come later."""
        last = 0
        while chunk := self._ledger.settled_after(last, PASSAGES_PER_CHUNK):
            last = chunk[-1]
            hashes = self._reader.text_hashes(self._run.scope_id, chunk)
            missing = vectors.missing(self._namespace, hashes)
            if len(missing):
                passages = materials(self._catalog, self._run.tenant_id, missing.tolist())
                rows = embedder.embed([passage.embedded for passage in passages])
                vectors.add(self._namespace, missing, rows, _digests(missing, hashes))

    # --- the matrix ------------------------------------------------------------------------------

    def _absorb(self, embedder: Embedder, vectors: VectorStore, phrases: PhraseModel) -> int:
        """Every pending pair, oldest first."""
        started = time.perf_counter()
        n_done, n_total = 0, self._ledger.progress().pending
        while chunk := self._ledger.pending(PASSAGES_PER_CHUNK):
            passages = materials(self._catalog, self._run.tenant_id, chunk)
            rows, keys = vectors_and_keys(embedder, passages)
            hashes = self._reader.text_hashes(self._run.scope_id, chunk)
            ids = np.asarray(chunk, np.int64)
            absent = np.isin(ids, vectors.missing(self._namespace, hashes))
            if absent.any():
                vectors.add(self._namespace, ids[absent], rows[absent], _digests(ids[absent], hashes))
            labels = extracted(self._catalog, self._run, passages, phrases)
            for low in range(0, len(chunk), PAIRS_PER_BATCH):
                self._write(chunk[low : low + PAIRS_PER_BATCH], keys[low : low + PAIRS_PER_BATCH], labels)
                n_done += len(chunk[low : low + PAIRS_PER_BATCH])
                self._tell("absorbing", n_done, n_total, started)
        return n_done

    def _write(
        self,
        ids: Sequence[int],
        keys: np.typing.NDArray[np.float32],
        labels: dict[int, list[Taught]],
    ) -> None:
        dim = self._memory.dim
        values = np.stack([value(((each.mark.label, each.weight) for each in labels[i]), dim) for i in ids])
        batch = self._ledger.intend_write({identity: labels[identity] for identity in ids}, self._memory.write_count)
        self._ledger.settle(batch, self._memory.write(np.ascontiguousarray(keys), values))

    def _unlearn_stale(self, embedder: Embedder) -> int:
        """Take superseded pairs out exactly: the same keys and values that were written.

        What the memory's rule cannot take out, or not exactly, stays for a dream to solve the memory without it.
        """
        n_done = 0
        while self._memory.rule == "preconditioned" and (chunk := self._ledger.stale(PAIRS_PER_BATCH)):
            keys = pair_keys(embedder, materials(self._catalog, self._run.tenant_id, chunk))
            kept = self._ledger.kept(chunk)
            values = np.stack([value(kept[identity], self._memory.dim) for identity in chunk])
            batch = self._ledger.intend_unlearn(chunk, self._memory.write_count)
            try:
                lsn = self._memory.unlearn(keys, values, rank=self._memory.rank)  # the ledger vouches
            except emm.GateError:  # nothing was changed
                self._ledger.withdraw(batch)
                break
            self._ledger.settle(batch, lsn)
            n_done += len(chunk)
        return n_done


def extracted(
    catalog: Catalog, run: Run, passages: Sequence[Material], phrases: PhraseModel
) -> dict[int, list[Taught]]:
    """{passage id: what its pair teaches the matrix}: what its source declared, and what its text says."""
    known = declared(catalog, run.tenant_id, [passage.passage_id for passage in passages])
    return {each.passage_id: taught(known[each.passage_id], _said(each, phrases)) for each in passages}


def _said(passage: Material, phrases: PhraseModel) -> list[Marked]:
    """What a passage's text says; of conditions and outcome, which have a key of their own, the source said it all."""
    if passage.key is not None:
        return []
    return phrases.keyphrases(passage.text, passage.start) + facts(passage.text, passage.start)


def _digests(ids: Ids, hashes: dict[int, int]) -> np.typing.NDArray[np.uint64]:
    return np.fromiter((hashes[identity] for identity in ids.tolist()), np.uint64, len(ids))
