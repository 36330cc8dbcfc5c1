"""Lexical recall: BM25 of a question for every passage of a roster.

Purpose: exact scores, not a ranking cut short, so that fusion can look up any passage. What a word is worth in each
passage is kept until the catalog changes: common words, which cost most, come back most. Invariants: scores are those
of one FTS5 query for any of the words, to rounding; what is kept has a bound in bytes; one thread at a time.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from emm_engine.catalog.fulltext import WordIndex, telling_words
from emm_engine.catalog.roster import Roster
from emm_engine.catalog.store import Catalog

KEPT_BYTES_MAX = 64 << 20

Scores = npt.NDArray[np.float64]
Worth = tuple[npt.NDArray[np.int32], Scores]  # places in the roster, and the BM25 of a word there


class LexicalRecall:
    """Asks the full-text table through a catalog of its own, which the thread it runs in may use."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._kept: OrderedDict[tuple[tuple[int, ...], str], Worth] = OrderedDict()  # by runs and word
        self._kept_bytes = 0
        self._version: tuple[int, int] | None = None
        self._telling: dict[tuple[int, str], bool] = {}

    def scores(self, question: str, tenant_id: int, roster: Roster) -> Scores:
        """(n,) BM25 of each passage of the roster, 0 where it has none of the question's words."""
        if self._version != roster.version:
            self.forget_kept()
            self._version = roster.version
        index, words = WordIndex(self._catalog, tenant_id), telling_words(question)
        telling = [word for word in words if self._tells(index, tenant_id, word)]
        total = np.zeros(len(roster), np.float64)
        for word in telling or words:  # what is worth nothing beside others still orders what has nothing else
            places, worth = self._worth(index, word, roster)
            total[places] += worth
        return total

    def forget_kept(self) -> None:
        self._kept.clear()
        self._telling.clear()
        self._kept_bytes = 0

    def _tells(self, index: WordIndex, tenant_id: int, word: str) -> bool:
        if (tenant_id, word) not in self._telling:
            self._telling[tenant_id, word] = index.tells(word)
        return self._telling[tenant_id, word]

    def _worth(self, index: WordIndex, word: str, roster: Roster) -> Worth:
        key = (roster.runs, word)
        kept = self._kept.get(key)
        if kept is None:
            ids, scores = index.scores(word)
            places, known = roster.places(ids)
            kept = (places[known].astype(np.int32), scores[known])
            self._kept[key] = kept
            self._kept_bytes += _size(kept)
            while self._kept_bytes > KEPT_BYTES_MAX:
                self._kept_bytes -= _size(self._kept.popitem(last=False)[1])
        else:
            self._kept.move_to_end(key)
        return kept


def _size(worth: Worth) -> int:
    return worth[0].nbytes + worth[1].nbytes
