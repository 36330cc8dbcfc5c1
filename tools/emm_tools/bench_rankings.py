"""The rankings of an archive over one collection: what it answers, and what each of its recalls would alone.

Purpose: the ranking half of `emm bench engine`. Invariants: every ranking comes out of `Archive.ask`, with all recalls
or without some; of the ways to merge them only reciprocal rank fusion, which the engine does not have, is written here;
a document counts where its best passage stands.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from emm_tools.bench_questions import Corpus
from emm_tools.bench_scores import metric, summary

if TYPE_CHECKING:
    from emm_engine import Answer, Archive, Citation

METRICS = {"cranfield": ("nDCG@10", "recall@10"), "med": ("nDCG@10", "recall@10"),
           "locomo": ("recall@5", "recall@10", "recall@20")}  # fmt: skip
BM25, VECTORS, RRF = "BM25 alone", "vectors alone", "reciprocal rank fusion"
EQUAL, CONVEX = "convex, equal weights", "convex fusion alone"
BM25_NEAR, VECTORS_NEAR, OURS = "--without vector", "--without lexical", "emm ask"
RANKINGS = (BM25, VECTORS, RRF, EQUAL, CONVEX, BM25_NEAR, VECTORS_NEAR, OURS)
RRF_K = 60  # Cormack, Clarke & Büttcher 2009
DEPTH = 100  # of the rankings that reciprocal rank fusion merges, as of those that the engine does
PASSAGES_MAX = 1000
TOKENS_MAX = 100_000_000
EVERY = "all"


def reciprocal_rank_fusion(rankings: Iterable[Sequence[int]]) -> list[int]:
    """Σ 1 / (60 + place) over the rankings, best first, ties to the lower id."""
    worth: dict[int, float] = defaultdict(float)
    for ranking in rankings:
        for at, item in enumerate(ranking, 1):
            worth[item] += 1.0 / (RRF_K + at)
    return sorted(worth, key=lambda item: (-worth[item], item))


@dataclass(frozen=True, slots=True)
class Answers:
    """What an archive cites for one question: with all recalls, with words alone, with vectors alone."""

    fused: Sequence[Citation]
    words: Sequence[Citation]
    vectors: Sequence[Citation]
    vector_weight: float = 1.0  # in the engine's fusion

    @classmethod
    def of(cls, archive: Archive, corpus: Corpus, question: str) -> Answers:
        def asked(*without: str) -> Answer:
            return archive.ask(question, corpus.scope, PASSAGES_MAX, TOKENS_MAX, without=without)

        every = asked()
        words, vectors = asked("vector", "matrix"), asked("lexical", "matrix")
        return cls(every.citations, words.citations, vectors.citations, every.vector_weight)

    def rankings(self) -> dict[str, list[Citation]]:
        """Passages, best first, in each of the ways; "alone" is without what neighbours are worth."""
        known = {each.passage_id: each for each in (*self.words, *self.vectors, *self.fused)}
        lexical = _ordered([(each.lexical, each.passage_id) for each in self.words])[:DEPTH]
        vector = _ordered([(each.vector, each.passage_id) for each in self.vectors])[:DEPTH]
        ids = {
            BM25: lexical,
            VECTORS: vector,
            RRF: reciprocal_rank_fusion([lexical, vector]),
            EQUAL: self._convex(lexical, vector, 1.0),
            CONVEX: self._convex(lexical, vector, self.vector_weight),
            BM25_NEAR: [each.passage_id for each in self.words],
            VECTORS_NEAR: [each.passage_id for each in self.vectors],
            OURS: [each.passage_id for each in self.fused],
        }
        return {name: [known[each] for each in ids[name]] for name in RANKINGS}

    def _convex(self, lexical: Sequence[int], vector: Sequence[int], vector_weight: float) -> list[int]:
        """The engine's fusion of the exact scores that it cites, before it looks at neighbours."""
        from emm_engine.retrieval.fusion import Ranking, fuse

        members = set(lexical) | set(vector)
        pool = sorted((each for each in self.fused if each.passage_id in members), key=lambda each: each.passage_id)
        if not pool:
            return []
        place = {each.passage_id: at for at, each in enumerate(pool)}

        def ranking(scores: Sequence[float], best: Sequence[int]) -> Ranking:
            return Ranking(np.array(scores), np.array([place[each] for each in best if each in place], np.int64))

        words = ranking([each.lexical for each in pool], lexical)
        angles = ranking([each.vector for each in pool], vector)
        worth = fuse(words, angles, np.arange(len(pool)), np.ones(len(pool), bool), vector_weight)
        return _ordered(list(zip(worth.tolist(), place, strict=True)))


def _ordered(scored: Sequence[tuple[float, int]]) -> list[int]:
    """Ids of what scores above 0, by (score descending, id ascending)."""
    return [identity for score, identity in sorted(scored, key=lambda each: (-each[0], each[1])) if score > 0.0]


def measure_rankings(name: str, corpora: Sequence[Corpus], embedder: str, place: Path) -> dict[str, Any]:
    """Scores of every ranking over a collection, all questions together and by category."""
    from emm_engine import Archive

    values: dict[str, dict[str, dict[str, list[float]]]] = {}  # by group, metric and ranking, a value for each question
    n_passages = 0
    with Archive.open(place) if place.exists() else Archive.create(place) as archive:
        for corpus in corpora:
            archive.ingest(corpus.documents, corpus.scope, embedder=embedder)
            click.echo(f"{name}, {embedder}: {corpus.scope} is ingested", err=True)
        n_passages = sum(status.passages for status in archive.tree())
        for corpus in corpora:
            for asked in corpus.questions:
                found = Answers.of(archive, corpus, asked.text).rankings()
                named = {way: list(dict.fromkeys(map(corpus.name_of, ranking))) for way, ranking in found.items()}
                for group in (EVERY, *([asked.category] if asked.category else [])):
                    scores = values.setdefault(group, {each: {way: [] for way in RANKINGS} for each in METRICS[name]})
                    for each, ways in scores.items():
                        for way, ranking in named.items():
                            ways[way].append(metric(each, ranking, asked.wanted))
    return {
        "documents": sum(len(corpus.documents) for corpus in corpora),
        "passages": n_passages,
        "groups": {
            group: {
                "questions": len(next(iter(scores.values()))[OURS]),
                "scores": {each: summary(ways, [OURS]) for each, ways in scores.items()},
            }
            for group, scores in sorted(values.items(), key=lambda item: (item[0] != EVERY, item[0]))
        },
    }
