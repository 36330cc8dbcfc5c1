"""Lexical scores, word by word: BM25 from the tenant's own full-text table.

Purpose: what one word of a question is worth in each passage. Invariants: BM25 is a sum over words, so the scores of a
question are the sums of its words' scores, and a word that was scored once serves every question until the catalog
changes; no statistic of another tenant's words moves a score; words are quoted, so no question is syntax.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from emm_engine.catalog.occurrences import Lengths
from emm_engine.catalog.store import Catalog
from emm_engine.catalog.textindex import Postings as Postings
from emm_engine.stopwords import STOPWORDS

QUESTION_TERMS_MAX = 64

_WORD = re.compile(r"[^\W_]+")


def telling_words(question: str) -> Sequence[str]:
    """The question's different words in its order, without stop words unless it has no others."""
    words = list(dict.fromkeys(_WORD.findall(question.lower())))
    telling = [word for word in words if word not in STOPWORDS] or words
    return telling[:QUESTION_TERMS_MAX]


class WordIndex:
    """One tenant's words, in whatever thread its catalog belongs to."""

    def __init__(self, catalog: Catalog, tenant_id: int) -> None:
        self._fulltext = catalog.fulltext
        self._tenant_id = tenant_id

    def state(self) -> tuple[int, int]:
        """(newest passage, how many): changes whenever the tenant's text does, for ids are never used twice."""
        return self._fulltext.state(self._tenant_id)

    def lengths(self, held: Lengths | None = None) -> Lengths:
        """How long each passage is, as far as scores need it; those `held` are taken over."""
        return self._fulltext.lengths(self._tenant_id, Lengths.none() if held is None else held)

    def tells(self, word: str, lengths: Lengths | None = None) -> bool:
        """Whether a word is worth anything: some passage has it, and more than half of the tenant's have not."""
        return self._fulltext.tells(self._tenant_id, word, self.lengths() if lengths is None else lengths)

    def scores(self, word: str, lengths: Lengths | None = None) -> Postings:
        """Every passage of the tenant that has a word, superseded ones included, with its BM25 for this word alone."""
        return self._fulltext.postings(self._tenant_id, word, self.lengths() if lengths is None else lengths)
