"""Lexical scores, word by word: BM25 from the tenant's own full-text table.

Purpose: what one word of a question is worth in each passage. Invariants: BM25 is a sum over words, so the scores of a
question are the sums of its words' scores, and a word that was scored once serves every question until the catalog
changes; no statistic of another tenant's words moves a score; words are quoted, so no question is syntax.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from emm_engine.catalog.store import Catalog
from emm_engine.catalog.textindex import Postings as Postings
from emm_engine.stopwords import STOPWORDS

QUESTION_TERMS_MAX = 64
WEIGHT_OF_NOTHING = 1e-5  # FTS5 gives a word that more than half of all passages have an inverse frequency of 1e-6

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

    def tells(self, word: str) -> bool:
        """Whether a word is worth anything: some passage has it, and at least half of the tenant's have not."""
        return self._fulltext.worth(self._tenant_id, word) > WEIGHT_OF_NOTHING

    def scores(self, word: str) -> Postings:
        """Every passage of the tenant that has a word, superseded ones included, with its BM25 for this word alone."""
        return self._fulltext.postings(self._tenant_id, word)
