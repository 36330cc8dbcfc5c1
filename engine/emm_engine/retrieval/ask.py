"""A question to an answer: lexical, vector and matrix recall over the runs of a scope.

Purpose: hybrid recall. Passages are ranked by lexical and vector scores fused over one pool; the
matrix adds associations beside them, never a ranking. Invariants: everything is bound to the scope's tenant;
missing or damaged vectors are embedded again before the answer, so damage costs time and changes nothing; a
matrix holds no past, so a question `as_of` a moment gets no associations, and the answer says so.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence

import numpy as np

from emm import Memory
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.search import CatalogReader, match_expression
from emm_engine.catalog.store import Catalog, Run
from emm_engine.documents import end_of
from emm_engine.embeddings.provider import Embedder, Float32Array
from emm_engine.hierarchy import Scope
from emm_engine.matrices.consult import Consulting
from emm_engine.matrices.labels import codes
from emm_engine.matrices.shelf import recall
from emm_engine.retrieval.answer import Answer, Association, Citation, Evidence
from emm_engine.retrieval.associations import Candidates, decode
from emm_engine.retrieval.context import build, n_tokens
from emm_engine.retrieval.fusion import POOL, Scored, fuse
from emm_engine.vectors.store import VectorStore

LABEL_SUPPORT_MIN = 2  # a label of one passage is no pattern
ASSOCIATIONS = 6
EVIDENCE = 3
COSINE_MIN = 1e-4  # what lies below it is rounding, not likeness
# what a quote says of its place
WHERE = ("document_id", "passage_id", "source", "title", "date", "file_date", "start", "end")

Models = Callable[[Run], tuple[Embedder, VectorStore]]


class Retrieval:
    """Answers questions over an open archive; keeps nothing that the catalog cannot outdate."""

    def __init__(self, catalog: Catalog, consulting: Consulting, models: Models) -> None:
        self._catalog = catalog
        self._consulting = consulting
        self._models = models
        self._filled: dict[str, tuple[int, int]] = {}
        self._candidates: dict[str, tuple[tuple[int, int], Candidates]] = {}  # by scope, with the catalog's version

    def ask(self, question: str, scope: Scope, k: int, token_budget: int, as_of: str | None) -> Answer:
        clock = _Clock()
        moment = end_of(as_of) if as_of is not None else None
        runs = self._catalog.runs(scope)
        tenant_id = self._catalog.tenant_id(scope.tenant)
        if not runs or tenant_id is None:
            note = f"nothing has been ingested under {scope}"
            return Answer(question, str(scope), as_of, "", 0, (), (), (), (note,), clock.total())
        reader = CatalogReader(self._catalog, tenant_id, runs, moment)
        if self._catalog.embedder(scope.tenant, scope.domain) is None:
            return self._from_text(question, scope, k, token_budget, as_of, runs, reader, clock)
        embedder, vectors = self._models(runs[0])
        key = embedder.embed([question])[0]
        clock.mark("embed")
        self._fill(runs, reader, embedder, vectors)
        clock.mark("vectors_ready")
        ranked, nearest = self._rank(question, key, runs, reader, vectors, clock)
        citations = _cite(reader, ranked[:k])
        vector_only = tuple(_cite(reader, nearest[:k]))
        clock.mark("quotes")
        notes = self._notes(reader, runs, key, as_of)
        associations = [] if as_of is not None else self._associate(key, scope, runs, reader, vectors)
        n_pairs = sum(PairLedger(self._catalog, run).progress().absorbed for run in runs)
        if as_of is None and not associations and n_pairs:
            notes.append(f"no association stands out ({n_pairs} pair{'s' if n_pairs > 1 else ''})")
        clock.mark("matrix")
        context, cited, linked = build(citations, associations, token_budget)
        if len(cited) < len(citations):
            notes.append(f"{len(citations) - len(cited)} of {len(citations)} passages did not fit the token budget")
        clock.mark("context")
        timings = clock.total()
        size = n_tokens(context)
        return Answer(question, str(scope), as_of, context, size, cited, linked, vector_only, tuple(notes), timings)

    def _from_text(
        self,
        question: str,
        scope: Scope,
        k: int,
        token_budget: int,
        as_of: str | None,
        runs: Sequence[Run],
        reader: CatalogReader,
        clock: _Clock,
    ) -> Answer:
        """An answer by words alone: an ingest was stopped after it had stored text and before it had an embedder."""
        lexical = reader.lexical_scores(match_expression(question))
        citations = _cite(reader, fuse(list(lexical), lexical, {})[:k])
        context, cited, _ = build(citations, [], token_budget)
        notes = tuple(self._lag(runs)) or (f"nothing has been ingested under {scope}",)
        return Answer(question, str(scope), as_of, context, n_tokens(context), cited, (), (), notes, clock.total())

    def _lag(self, runs: Sequence[Run]) -> list[str]:
        """At most one note about text that no matrix has absorbed yet."""
        n_waiting = sum(PairLedger(self._catalog, run).progress().pending for run in runs)
        verb = "passage waits" if n_waiting == 1 else "passages wait"
        return [f"{n_waiting} {verb} for the matrix: run emm ingest again"] if n_waiting else []

    def _notes(self, reader: CatalogReader, runs: Sequence[Run], key: Float32Array, as_of: str | None) -> list[str]:
        notes = self._lag(runs)
        if not key.any():
            notes.append("the embedder knows none of the question's words; the ranking is lexical alone")
        if as_of is not None:
            notes.append("the matrix holds no past: no associations for a question as of a moment")
            undated = reader.undated()
            if undated:
                notes.append(f"{undated} documents without a date are left out")
        return notes

    def _fill(self, runs: Sequence[Run], reader: CatalogReader, embedder: Embedder, vectors: VectorStore) -> None:
        """Make sure every passage of the runs has its vector, embedding what the store lacks."""
        version = self._catalog.version()
        if any(self._filled.get(str(run.scope)) != version for run in runs):
            vectors.forget_cached()
            self._filled.clear()
        for run in runs:
            namespace = str(run.scope)
            if self._filled.get(namespace) != version:
                hashes = reader.text_hashes(run.scope_id)
                missing = vectors.missing(namespace, hashes)
                if len(missing):
                    texts = self._catalog.texts(run.tenant_id, missing.tolist())
                    digests = np.fromiter((hashes[identity] for identity in texts), np.uint64, len(texts))
                    ids = np.fromiter(texts, np.int64, len(texts))
                    vectors.hold(namespace, ids, embedder.embed(list(texts.values())), digests)
                self._filled[namespace] = version

    def _rank(
        self,
        question: str,
        key: Float32Array,
        runs: Sequence[Run],
        reader: CatalogReader,
        vectors: VectorStore,
        clock: _Clock,
    ) -> tuple[list[Scored], list[Scored]]:
        """(fused ranking, ranking by vectors alone)."""
        lexical = reader.lexical_scores(match_expression(question))
        words = heapq.nsmallest(POOL, ((-score, identity) for identity, score in lexical.items()))
        clock.mark("lexical")
        filtered = reader.filtered_ids()
        allowed = None if filtered is None else np.asarray(filtered, np.int64)
        near: list[tuple[float, int]] = []
        if key.any():
            for run in runs:
                ids, scores = vectors.search(str(run.scope), key, POOL, allowed)
                near += [(-float(score), int(identity)) for identity, score in zip(ids, scores, strict=True)]
        near = sorted(item for item in near if item[0] < -COSINE_MIN)[:POOL]
        pool = sorted({identity for _, identity in words} | {identity for _, identity in near})
        angles: dict[int, float] = {}
        ids = np.asarray(pool, np.int64)
        for run in runs:
            for identity, score in zip(pool, vectors.scores(str(run.scope), key, ids), strict=True):
                angles[identity] = angles.get(identity, 0.0) + float(score)  # an id lives in one run alone
        clock.mark("vector")
        nearest = [Scored(identity, -score, lexical.get(identity, 0.0), -score) for score, identity in near]
        return fuse(pool, lexical, angles), nearest

    def _associate(
        self, key: Float32Array, scope: Scope, runs: Sequence[Run], reader: CatalogReader, vectors: VectorStore
    ) -> list[Association]:
        memories = self._consulting.memories(scope)
        if not memories or not key.any():
            return []
        candidates = self._candidates_of(scope, reader, memories)
        found = []
        for item in decode(recall(memories, key), candidates, ASSOCIATIONS):
            carriers = reader.carriers(item.label)
            evidence = self._evidence(key, runs, carriers, reader, vectors)
            label = item.label
            found.append(Association(label.kind, label.name, item.strength, item.base, len(carriers), evidence))
        return found

    def _candidates_of(self, scope: Scope, reader: CatalogReader, memories: Sequence[Memory]) -> Candidates:
        version = self._catalog.version()
        held = self._candidates.get(str(scope))
        if held is None or held[0] != version:
            counted = reader.matrix_labels(LABEL_SUPPORT_MIN)
            labels = [label for label, _ in counted]
            n_pairs = max(self._consulting.standing(scope).n_pairs(scope), 1)
            shares = [count / n_pairs for _, count in counted]
            held = (version, Candidates(labels, codes(labels, memories[0].dim), shares))
            self._candidates[str(scope)] = held
        return held[1]

    def _evidence(
        self,
        key: Float32Array,
        runs: Sequence[Run],
        carriers: Sequence[tuple[int, int]],
        reader: CatalogReader,
        vectors: VectorStore,
    ) -> tuple[Evidence, ...]:
        """The nearest passages that carry a label, one for each document."""
        scored: list[tuple[float, int]] = []
        for run in runs:
            ids = np.asarray([identity for identity, scope_id in carriers if scope_id == run.scope_id], np.int64)
            if len(ids):
                scores = vectors.scores(str(run.scope), key, ids)
                scored += [(-float(score), int(identity)) for identity, score in zip(ids, scores, strict=True)]
        nearest = sorted(scored)[: EVIDENCE * 8]
        quotes = reader.quotes([identity for _, identity in nearest])
        chosen: dict[int, Evidence] = {}
        for score, identity in nearest:
            quote = quotes[identity]
            if quote.document_id not in chosen and len(chosen) < EVIDENCE:
                chosen[quote.document_id] = Evidence(
                    **{name: getattr(quote, name) for name in WHERE}, score=-score, number=0
                )
        return tuple(chosen.values())


def _cite(reader: CatalogReader, ranked: Sequence[Scored]) -> list[Citation]:
    quotes = reader.quotes([scored.id for scored in ranked])
    return [
        Citation(
            **{name: getattr(quotes[scored.id], name) for name in WHERE},
            quote=quotes[scored.id].text,
            score=scored.score,
            lexical=scored.lexical,
            vector=scored.vector,
            number=0,
        )
        for scored in ranked
    ]


class _Clock:
    """Milliseconds of each step."""

    def __init__(self) -> None:
        self.marks: dict[str, float] = {}
        self._started = self._last = time.perf_counter()

    def mark(self, name: str) -> None:
        now = time.perf_counter()
        self.marks[name] = round(1000.0 * (now - self._last), 3)
        self._last = now

    def total(self) -> dict[str, float]:
        self.marks["total"] = round(1000.0 * (time.perf_counter() - self._started), 3)
        return self.marks
