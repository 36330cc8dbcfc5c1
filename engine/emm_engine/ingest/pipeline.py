"""Documents into an archive: text first, then vectors, then the matrix.

Purpose: one resumable pipeline. (1) take the run's memory, which is the lock; (2) settle what an interrupted
ingest left; (3) store documents in durable transactions; (4) fit the domain's embedder and count its phrases where
that was not done; (5) absorb every pending pair: vector log, intended batch, matrix commit, settled batch; (6) take
superseded pairs out of the matrix; (7) checkpoint. Invariants: killed anywhere, the next ingest (also of nothing)
continues with no pair missing or doubled; an embedder that cannot be had stops (4) to (6) and nothing else: what is
stored stays and waits, with the reason; passages are held a chunk at a time, never all of them, nor all their ids.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

import numpy as np

import emm
from emm_engine.catalog.material import Material, declared, materials
from emm_engine.catalog.pairs import PairLedger, Taught
from emm_engine.catalog.phrases import phrase_model
from emm_engine.catalog.search import CatalogReader
from emm_engine.catalog.store import Added, Catalog, Run
from emm_engine.catalog.waiting import WaitingList
from emm_engine.documents import Document, Marked
from emm_engine.embeddings.backoff import Clock
from emm_engine.embeddings.provider import Embedder
from emm_engine.errors import EmbedderUnavailable
from emm_engine.extraction.facts import facts
from emm_engine.extraction.keyphrases import PhraseModel
from emm_engine.ingest.unlearning import unlearn_forgotten
from emm_engine.matrices.labels import taught, value
from emm_engine.matrices.shelf import MatrixShelf
from emm_engine.models.keys import KeyMaker
from emm_engine.reports import IngestReport, OnProgress, Progress
from emm_engine.vectors.store import VectorStore

DOCUMENTS_PER_TRANSACTION = 1000
PASSAGES_PER_CHUNK = 2048  # given keys and labels together
PAIRS_PER_BATCH = 256  # one matrix commit
FIT_ENOUGH = 4000  # passages beyond which an embedder's fit is no longer the limit
OUTGROWN_RATIO = 4

Models = Callable[[Run], tuple[Embedder, VectorStore]]


class Ingest:
    """One ingest into one run: a context manager that holds the run's memory, which is the lock."""

    def __init__(
        self,
        catalog: Catalog,
        run: Run,
        shelf: MatrixShelf,
        models: Models,
        clock: Clock,
        progress: OnProgress | None,
    ) -> None:
        self._catalog = catalog
        self._run = run
        self._shelf = shelf
        self._models = models
        self._clock = clock
        self._progress = progress
        self._ledger = PairLedger(catalog, run)
        self._waiting = WaitingList(catalog, run)
        self._reader = CatalogReader(catalog, run.tenant_id, [run])
        self._namespace = str(run.scope)
        self._phase_seconds: dict[str, float] = {}
        self._n_pairs = self._n_unlearned = 0
        self.memory = shelf.open_writer(run)

    def __enter__(self) -> Ingest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.memory.close()

    def run(self, documents: Iterable[Document]) -> IngestReport:
        """Do it all; what was stored before an exception stays stored."""
        started = time.perf_counter()
        resumed = self._ledger.reconcile(self.memory.write_count, self.memory.lsn)
        n_forgotten = unlearn_forgotten(self._catalog, self._run, self.memory)
        n_read, added = self._store(documents)
        notices: list[str] = []
        if self._has_passages():
            try:
                self._derive()
            except EmbedderUnavailable as error:
                wait = self._waiting.failed(error, self._clock.now(), random.Random())
                notices = [
                    f"{error}; the text is stored and found by its words, `emm embed` makes its vectors "
                    f"(next try {wait.next_try})"
                ]
            else:
                self._waiting.succeeded()
        if self._n_pairs or self._n_unlearned or n_forgotten:
            self.memory.checkpoint()
        return IngestReport(
            scope=self._namespace,
            entries_read=n_read,
            documents=added.documents,
            duplicates=added.duplicates,
            empty=added.empty,
            superseded=added.superseded,
            passages=added.passages,
            pairs=self._n_pairs,
            unlearned=self._n_unlearned,
            pending=self._ledger.progress().pending,
            refused=len(self._waiting.refused()),
            resumed=resumed,
            lsn=self.memory.lsn,
            rank=self.memory.rank,
            saturation=float(self.memory.saturation),
            seconds=time.perf_counter() - started,
            phase_seconds=self._phase_seconds,
            blocked=added.blocked,
            notices=(*notices, *self.memory.notices, *self._outgrown(), *self._refused()),
        )

    def _derive(self) -> None:
        """Vectors and matrix, as far as the embedder goes."""
        phase = time.perf_counter()
        embedder, vectors = self._models(self._run)
        vectors.forget_cached()  # what a question held in memory alone is not in the log
        if self.memory.key_dim != embedder.dim:  # made before anybody knew how wide the vectors are
            self.memory = self._shelf.remade(self._run, self.memory, embedder.dim)
        phrases = phrase_model(self._catalog, self._run)
        self._tell("fitting", 1, 1, phase)
        phase = time.perf_counter()
        try:
            keys = KeyMaker(self._catalog, self._run, embedder, vectors)
            self._repair_vectors(keys)
            self._absorb(embedder, keys, phrases)
            self._unlearn_stale(keys)
        finally:
            self._phase_seconds["absorbing"] = time.perf_counter() - phase

    def _refused(self) -> list[str]:
        refused = self._waiting.refused()
        first = next(iter(refused.values()), "")
        return [f"{len(refused)} passages have no vector, the embedder refused them: {first}"] if refused else []

    def _outgrown(self) -> list[str]:
        """Say so when the domain has outgrown the texts that its embedder was fitted on."""
        n_fitted, n_passages = self._catalog.embedder_coverage(self._run.tenant_id, self._run.scope.domain)
        if not n_fitted or n_fitted >= min(n_passages, FIT_ENOUGH) / OUTGROWN_RATIO:
            return []  # none is fitted while a service that was never reached is waited for
        place = f"{self._run.scope.tenant}:{self._run.scope.domain}"
        return [
            f"the embedder was fitted on {n_fitted} passage{'s' if n_fitted > 1 else ''} and the domain now holds "
            f"{n_passages}: recall suffers until `emm reembed ARCHIVE --scope {place}` fits it again"
        ]

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

    def _repair_vectors(self, keys: KeyMaker) -> None:
        """Embed again what the log should hold and does not (damage, a lost tail); pending pairs come later."""
        last, n_filled = 0, 0
        while chunk := self._ledger.settled_after(last, PASSAGES_PER_CHUNK):
            last = chunk[-1]
            n_filled += keys.fill(self._reader.text_hashes(self._run.scope_id, chunk))
        if n_filled:
            self._catalog.outdate()

    # --- the matrix ------------------------------------------------------------------------------

    def _absorb(self, embedder: Embedder, keys: KeyMaker, phrases: PhraseModel) -> None:
        """Every pending pair, oldest first."""
        started = time.perf_counter()
        n_done, n_total = 0, self._ledger.progress().pending
        while chunk := self._ledger.pending(PASSAGES_PER_CHUNK if embedder.instant else PAIRS_PER_BATCH):
            ids, rows = keys.keys(chunk, self._reader.text_hashes(self._run.scope_id, chunk))
            passages = materials(self._catalog, self._run.tenant_id, ids)
            labels = extracted(self._catalog, self._run, passages, phrases)
            for low in range(0, len(ids), PAIRS_PER_BATCH):
                self._write(ids[low : low + PAIRS_PER_BATCH], rows[low : low + PAIRS_PER_BATCH], labels)
                n_done += len(ids[low : low + PAIRS_PER_BATCH])
                self._tell("absorbing", n_done, n_total, started)

    def _write(
        self,
        ids: Sequence[int],
        keys: np.typing.NDArray[np.float32],
        labels: dict[int, list[Taught]],
    ) -> None:
        dim = self.memory.dim
        values = np.stack([value(((each.mark.label, each.weight) for each in labels[i]), dim) for i in ids])
        batch = self._ledger.intend_write({identity: labels[identity] for identity in ids}, self.memory.write_count)
        self._ledger.settle(batch, self.memory.write(np.ascontiguousarray(keys), values))
        self._n_pairs += len(ids)

    def _unlearn_stale(self, keys: KeyMaker) -> None:
        """Take superseded pairs out exactly: the same keys and values that were written.

        What the memory's rule cannot take out, or not exactly, stays for a dream to solve the memory without it.
        """
        while self.memory.rule == "preconditioned" and (chunk := self._ledger.stale(PAIRS_PER_BATCH)):
            ids, rows = keys.keys(chunk, self._reader.text_hashes(self._run.scope_id, chunk))
            kept = self._ledger.kept(ids)
            values = np.stack([value(kept[identity], self.memory.dim) for identity in ids])
            batch = self._ledger.intend_unlearn(ids, self.memory.write_count)
            try:
                lsn = self.memory.unlearn(rows, values, rank=self.memory.rank)  # the ledger vouches
            except emm.GateError:  # nothing was changed
                self._ledger.withdraw(batch)
                break
            self._ledger.settle(batch, lsn)
            self._n_unlearned += len(ids)


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
