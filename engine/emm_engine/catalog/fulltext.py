"""Lexical scores, word by word: BM25 from the tenant's own full-text table.

Purpose: what one word of a question is worth in each passage. Invariants: BM25 is a sum over words, so the scores of a
question are the sums of its words' scores, and a word that was scored once serves every question until the catalog
changes; no statistic of another tenant's words moves a score; words are quoted, so no question is syntax.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emm_engine.catalog.occurrences import Lengths, Occurrences, read_lengths
from emm_engine.catalog.schema import fulltext_table
from emm_engine.catalog.store import Catalog
from emm_engine.stopwords import STOPWORDS

COLUMN_WEIGHTS = (1.0, 2.0, 1.0)  # source, title, body
K1, B = 1.2, 0.75  # of BM25, as in FTS5
QUESTION_TERMS_MAX = 64
IDF_MIN = 1e-6  # FTS5 gives it to a word that half of all passages have, or more

_WORD = re.compile(r"[^\W_]+")

Postings = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]  # passage ids, ascending, and BM25, higher is better


def telling_words(question: str) -> Sequence[str]:
    """The question's different words in its order, without stop words unless it has no others."""
    words = list(dict.fromkeys(_WORD.findall(question.lower())))
    telling = [word for word in words if word not in STOPWORDS] or words
    return telling[:QUESTION_TERMS_MAX]


class WordIndex:
    """One tenant's words, in whatever thread its catalog belongs to."""

    def __init__(self, catalog: Catalog, tenant_id: int) -> None:
        self._catalog = catalog
        self._table = fulltext_table(tenant_id)

    def state(self) -> tuple[int, int]:
        """(newest passage, how many): changes whenever the tenant's text does, for ids are never used twice."""
        ((newest, count),) = self._catalog.query(f"SELECT coalesce(max(id), 0), count(*) FROM {self._table}_docsize")
        return int(newest), int(count)

    def lengths(self, held: Lengths) -> Lengths:
        """How long each passage is; those `held` are taken over."""
        return read_lengths(self._catalog, self._table, held, self.state()[1])

    def tells(self, word: str, lengths: Lengths) -> bool:
        """Whether a word is worth anything: some passage has it, and more than half of the tenant's have not."""
        ((count,),) = self._catalog.query(
            f"SELECT count(*) FROM {self._table} WHERE {self._table} MATCH ?", (f'"{word}"',)
        )
        return bool(0 < 2 * count < len(lengths))

    def scores(self, word: str, lengths: Lengths) -> Postings:
        """Every passage of the tenant that has a word, superseded ones included, with its BM25 for this word alone."""
        found = Occurrences(self._catalog, self._table).of(word, COLUMN_WEIGHTS)
        if found is None:
            return self._as_phrase(word)
        ids, often = found
        words, known = lengths.of(ids)
        if not known.all():  # another process has just added them
            ids, often, words = ids[known], often[known], words[known]
        if not len(ids):
            return ids, often
        count = len(ids)
        idf = max(math.log((len(lengths) - count + 0.5) / (count + 0.5)), IDF_MIN)
        return ids, idf * (often * (K1 + 1.0)) / (often + K1 * (1.0 - B + B * words / lengths.mean))

    def _as_phrase(self, word: str) -> Postings:
        """The same from FTS5 itself, whatever the word is."""
        table = self._table
        rows = self._catalog.query(
            f"SELECT rowid, -bm25({table}, ?, ?, ?) FROM {table} WHERE {table} MATCH ? ORDER BY rowid",
            (*COLUMN_WEIGHTS, f'"{word}"'),
        )
        n_rows = len(rows)
        ids = np.fromiter((row[0] for row in rows), np.int64, n_rows)
        return ids, np.fromiter((row[1] for row in rows), np.float64, n_rows)
