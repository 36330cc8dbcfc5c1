"""A question to an answer: lexical, vector and matrix recall over the runs of a scope, asked at the same time.

Purpose: hybrid recall. Passages are ranked by lexical and vector scores fused over one pool and by what stands beside
them; the matrix adds associations, never a ranking. Invariants: everything is bound to the scope's tenant; all three
recalls are asked unless the question or the scope's setting leaves one out; missing or damaged vectors are embedded
again before the answer, so damage costs time and changes nothing; an embedder that does not answer leaves words alone,
and the answer says so first; a matrix knows neither past nor filter, so a filtered question gets no associations, and
the answer says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass

import numpy as np

from emm_engine.catalog.roster import Mask, Roster, Rosters
from emm_engine.catalog.search import CatalogReader
from emm_engine.catalog.store import Catalog, Run
from emm_engine.catalog.waiting import latest_wait
from emm_engine.embeddings.provider import Embedder, Float32Array
from emm_engine.errors import EmbedderUnavailable, TextRefused
from emm_engine.extraction.conditions import embedded_conditions
from emm_engine.matrices.consult import Consulting
from emm_engine.matrices.shelf import recall
from emm_engine.retrieval.answer import Answer, Association, Citation
from emm_engine.retrieval.associations import Strength, decode
from emm_engine.retrieval.clock import Clock
from emm_engine.retrieval.context import build, n_tokens
from emm_engine.retrieval.fusion import POOL, Floats, Places, Ranking, best_of
from emm_engine.retrieval.legs import Legs
from emm_engine.retrieval.lexical import LexicalRecall, Reading
from emm_engine.retrieval.nearest import NOBODY, Nearest, VectorRecall
from emm_engine.retrieval.patterns import NEAREST, Patterns
from emm_engine.retrieval.question import LEXICAL, MATRIX, VECTOR, Filters, Question
from emm_engine.retrieval.quoting import cite
from emm_engine.retrieval.ranking import merged
from emm_engine.retrieval.visible import Visible
from emm_engine.settings import RETRIEVAL_LOCAL, Settings
from emm_engine.vectors.store import VectorStore

ASSOCIATIONS = 6

Models = Callable[[Run], tuple[Embedder, VectorStore]]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What every step of one question needs."""

    question: Question
    recalls: tuple[str, ...]
    runs: Sequence[Run]
    reader: CatalogReader
    roster: Roster
    visible: Mask  # (n,) of the roster
    clock: Clock


class Retrieval:
    """Answers questions over an open archive; keeps nothing that the catalog cannot outdate."""

    def __init__(
        self, catalog: Catalog, consulting: Consulting, models: Models, open_catalog: Callable[[], Catalog]
    ) -> None:
        self.legs = Legs(open_catalog)
        self._catalog = catalog
        self._models = models
        self._settings = Settings(catalog)
        self._rosters = Rosters(catalog)
        self._visible = Visible()
        self._lexical = LexicalRecall(catalog, self.legs)
        self._vectors = VectorRecall(catalog)
        self._patterns = Patterns(catalog, consulting, self._vectors)

    def close(self) -> None:
        self.legs.close()

    def ask(self, question: Question) -> Answer:
        clock, scope = Clock(), question.scope
        recalls = question.asks(self._settings.get(scope, RETRIEVAL_LOCAL))
        runs = self._catalog.runs(scope)
        if not runs:
            return _answer(question, recalls, clock, [f"nothing has been ingested under {scope}"])
        reader = CatalogReader(self._catalog, runs[0].tenant_id, runs)
        roster = self._rosters.of(runs)
        visible = self._visible.of(roster, question.filters, reader)
        asked = _Asked(question, recalls, runs, reader, roster, visible, clock)
        clock.mark("roster")
        words = self._lexical.begin(question.text, runs[0].tenant_id, roster) if LEXICAL in recalls else None
        clock.mark(LEXICAL)
        try:
            if self._catalog.embedder(scope.tenant, scope.domain) is None:
                return self._from_text(asked, words)
            return self._from_all(asked, words)
        finally:
            if words is not None:
                words.wait()  # also where another recall has failed

    def _from_text(self, asked: _Asked, words: Reading | None, failure: str = "") -> Answer:
        """An answer by words alone: there is no embedder yet, or it does not answer now."""
        ranked = merged(asked.roster, asked.visible, _ranking(asked, words), None, _no_cosines)
        notes = self._lag(asked)
        if failure:
            notes = [f"WORDS ALONE, no vectors and no associations: {failure}", *notes]
        notes = notes or [f"nothing has been ingested under {asked.question.scope}"]
        citations = cite(asked.reader, ranked.first(asked.question.k))
        return _answer(asked.question, asked.recalls, asked.clock, notes, citations)

    def _from_all(self, asked: _Asked, words: Reading | None) -> Answer:
        embedder, store = self._models(asked.runs[0])
        try:
            key, conditions = _keys(embedder, asked.question.text)
        except (EmbedderUnavailable, TextRefused) as error:
            return self._from_text(asked, words, str(error))
        asked.clock.mark("embed")
        n_missing = self._vectors.make_ready(asked.runs, asked.roster, embedder, store)
        asked.clock.mark("vectors_ready")
        patterns = self._begin_matrix(asked, conditions)
        asked.clock.mark(MATRIX)
        try:
            n_wanted = max(POOL if VECTOR in asked.recalls else 0, NEAREST if patterns is not None else 0)
            nearest = self._nearest(asked, key, store, n_wanted)
            asked.clock.mark(VECTOR)
            if words is not None:
                words.join()
        finally:
            if patterns is not None:
                wait([patterns])
        asked.clock.mark(MATRIX)
        ranking = _ranking(asked, words)
        asked.clock.mark(LEXICAL)
        by_vectors = nearest.places[:POOL] if VECTOR in asked.recalls else None
        ranked = merged(
            asked.roster,
            asked.visible,
            ranking,
            by_vectors,
            lambda places: self._vectors.cosines(key, asked.runs, asked.roster, places, store).astype(np.float64),
            embedder.beyond_words,
        )
        asked.clock.mark("fusion")
        citations = cite(asked.reader, ranked.first(asked.question.k))
        alone = cite(asked.reader, _alone(asked, nearest, ranking)) if by_vectors is not None else []
        asked.clock.mark("quotes")
        notes = self._notes(asked, key)
        if n_missing:
            notes.append(f"{n_missing} of the passages have no vector and were ranked by their words: run emm embed")
        associations: list[Association] = []
        if patterns is not None:
            found = patterns.result()
            associations = self._patterns.associations(
                found, key, asked.runs, asked.roster, nearest, asked.reader, store
            )
            if not associations:
                n_pairs = self._patterns.standing(asked.runs).absorbed
                notes.append(f"no association stands out ({n_pairs} pair{'s' if n_pairs > 1 else ''})")
        asked.clock.mark("evidence")
        weight = embedder.beyond_words if by_vectors is not None else 0.0
        return _answer(asked.question, asked.recalls, asked.clock, notes, citations, associations, alone, weight)

    def _begin_matrix(self, asked: _Asked, key: Float32Array) -> Future[list[Strength]] | None:
        if MATRIX not in asked.recalls or asked.question.filters != Filters() or not key.any():
            return None
        memories = self._patterns.memories(asked.question.scope)
        if not memories:
            return None
        candidates = self._patterns.candidates(asked.runs, asked.reader, memories)
        asked.clock.mark("candidates")
        return self.legs.computing(lambda: decode(recall(memories, key), candidates, ASSOCIATIONS))

    def _nearest(self, asked: _Asked, key: Float32Array, store: VectorStore, count: int) -> Nearest:
        if not count or not key.any():
            return NOBODY
        return self._vectors.nearest(key, count, asked.runs, asked.roster, asked.visible, store)

    def _lag(self, asked: _Asked) -> list[str]:
        """What no matrix has absorbed yet, and why an embedder failed."""
        n_waiting = self._patterns.standing(asked.runs).pending
        verb = "passage waits" if n_waiting == 1 else "passages wait"
        notes = [f"{n_waiting} {verb} for the matrix: run emm ingest again"] if n_waiting else []
        failed = latest_wait(self._catalog, asked.runs)
        if failed is not None:
            notes.append(f"embedding failed at {failed.last_try}, next try {failed.next_try}: {failed.last_error}")
        return notes

    def _notes(self, asked: _Asked, key: Float32Array) -> list[str]:
        notes, filters = self._lag(asked), asked.question.filters
        if VECTOR in asked.recalls and not key.any():
            notes.append("the embedder knows none of the question's words; the ranking is lexical alone")
        if MATRIX in asked.recalls and filters.as_of is not None:
            notes.append("the matrix holds no past: no associations for a question as of a moment")
        elif MATRIX in asked.recalls and filters != Filters():
            notes.append("the matrix knows no filter but the scope: no associations for a filtered question")
        if filters.dated:
            undated = asked.reader.undated()
            if undated:
                notes.append(f"{undated} documents without a date are left out")
        return notes


def _keys(embedder: Embedder, question: str) -> tuple[Float32Array, Float32Array]:
    """(for the vectors, for the matrix): the same, unless the question is a list of conditions."""
    conditions = embedded_conditions(question)
    rows = embedder.embed([question] if conditions == question else [question, conditions])
    return rows[0], rows[-1]


def _ranking(asked: _Asked, words: Reading | None) -> Ranking | None:
    if words is None:
        return None
    scores = words.scores()
    return Ranking(scores, best_of(np.where(asked.visible, scores, 0.0)))


def _alone(asked: _Asked, nearest: Nearest, words: Ranking | None) -> list[tuple[int, float, float, float]]:
    """The best by vectors alone, each with its BM25."""
    places = nearest.places[: asked.question.k]
    lexical = words.scores[places].tolist() if words is not None else [0.0] * len(places)
    cosines = nearest.cosines[: asked.question.k].tolist()
    return list(zip(asked.roster.ids[places].tolist(), cosines, lexical, cosines, strict=True))


def _no_cosines(places: Places) -> Floats:
    return np.zeros(len(places), np.float64)


def _answer(
    question: Question,
    recalls: tuple[str, ...],
    clock: Clock,
    notes: Sequence[str],
    citations: Sequence[Citation] = (),
    associations: Sequence[Association] = (),
    vector_only: Sequence[Citation] = (),
    vector_weight: float = 0.0,
) -> Answer:
    context, cited, linked = build(citations, associations, question.token_budget)
    left_out = len(citations) - len(cited)
    if left_out:
        notes = [*notes, f"{left_out} of {len(citations)} passages did not fit the token budget"]
    clock.mark("context")
    return Answer(
        question=question.text,
        scope=str(question.scope),
        filters=question.filters,
        recalls=recalls,
        context=context,
        n_tokens=n_tokens(context),
        citations=cited,
        associations=linked,
        vector_only=tuple(vector_only),
        vector_weight=vector_weight,
        notes=tuple(notes),
        timings_ms=clock.total(),
    )
