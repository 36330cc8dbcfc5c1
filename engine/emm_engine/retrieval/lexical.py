"""Lexical recall: BM25 of a question for every passage of a roster.

Purpose: exact scores, not a ranking cut short, so that fusion can look up any passage. What a word is worth in each
passage is kept until the tenant's text changes: common words, which cost most, come back most. Invariants: scores are
those of one FTS5 query for any of the words, to rounding; what is kept has a bound in bytes; words that are not kept
are read in all reading threads, and everything else happens in the thread that asks.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import wait

import numpy as np
import numpy.typing as npt

from emm_engine.catalog.fulltext import Postings, WordIndex, telling_words
from emm_engine.catalog.occurrences import Lengths
from emm_engine.catalog.roster import Roster
from emm_engine.catalog.store import Catalog
from emm_engine.retrieval.legs import Legs

KEPT_BYTES_MAX = 64 << 20
ENTRY_BYTES = 500  # of a word, about, beside its arrays

Scores = npt.NDArray[np.float64]
Worth = tuple[npt.NDArray[np.int32], Scores]  # places in the roster, and the BM25 of a word there
Key = tuple[tuple[int, ...], str]  # runs and word
Found = dict[str, Postings | None]  # None: the word tells nothing beside others


class LexicalRecall:
    """Reads the words of questions and keeps what they are worth."""

    def __init__(self, catalog: Catalog, legs: Legs) -> None:
        self._catalog = catalog
        self._legs = legs
        self._kept: OrderedDict[Key, Worth | None] = OrderedDict()
        self._kept_bytes = 0
        self._read_at: dict[int, tuple[tuple[int, int], tuple[int, int]]] = {}  # by tenant: version, state of its text
        self._lengths: dict[int, Lengths] = {}  # by tenant

    def begin(self, question: str, tenant_id: int, roster: Roster) -> Reading:
        """Start to read the question's words."""
        self._refresh(tenant_id, roster)
        words = telling_words(question)
        missing = [word for word in words if (roster.runs, word) not in self._kept]
        return Reading(self, words, tenant_id, roster, self._start(missing, tenant_id, only_telling=True))

    def _refresh(self, tenant_id: int, roster: Roster) -> None:
        """Drop what is kept when the tenant's text is no longer what it was read from."""
        version, state = self._read_at.get(tenant_id, (None, None))
        if version != roster.version:
            index = WordIndex(self._catalog, tenant_id)
            now = index.state()
            if state != now:
                self._kept.clear()
                self._kept_bytes = 0
                self._lengths[tenant_id] = index.lengths(self._lengths.get(tenant_id, Lengths.none()))
            self._read_at[tenant_id] = (roster.version, now)

    def _start(self, words: Iterable[str], tenant_id: int, *, only_telling: bool) -> _Task:
        todo, lengths = deque(words), self._lengths[tenant_id]

        def work(catalog: Catalog) -> Found:
            index, found = WordIndex(catalog, tenant_id), Found()
            while todo:
                try:
                    word = todo.popleft()
                except IndexError:  # another thread has just taken the last
                    break
                telling = not only_telling or index.tells(word, lengths)
                found[word] = index.scores(word, lengths) if telling else None
            return found

        return _Task(self._legs, work, todo)

    def finish(self, words: Iterable[str], tenant_id: int, roster: Roster, started: _Task) -> Scores:
        """(n,) BM25 of each passage of the roster, 0 where it has none of the words."""
        worths = self._gathered(words, roster, started)
        if not any(worth is not None for worth in worths.values()):
            # what is worth nothing beside others still orders what has nothing else
            every = self._start(words, tenant_id, only_telling=False).found()
            worths = {word: _placed(postings, roster) for word, postings in every.items()}
        total = np.zeros(len(roster), np.float64)
        for word in words:
            worth = worths[word]
            if worth is not None:
                total[worth[0]] += worth[1]
        return total

    def _gathered(self, words: Iterable[str], roster: Roster, started: _Task) -> dict[str, Worth | None]:
        read = started.found()
        worths: dict[str, Worth | None] = {}
        for word in words:
            key = (roster.runs, word)
            if word in read:
                self._keep(key, _placed(read[word], roster))
            worths[word] = self._kept[key]
            self._kept.move_to_end(key)
        while self._kept_bytes > KEPT_BYTES_MAX:
            self._kept_bytes -= _size(self._kept.popitem(last=False)[1])
        return worths

    def _keep(self, key: Key, worth: Worth | None) -> None:
        self._kept[key] = worth
        self._kept_bytes += _size(worth)


class _Task:
    """Words to read, shared by the reading threads."""

    def __init__(self, legs: Legs, work: Callable[[Catalog], Found], todo: deque[str]) -> None:
        self._legs = legs
        self._work = work
        self._todo = todo
        self._started = legs.reading(work) if todo else []

    def join(self) -> None:
        """Let every reading thread help with what is left."""
        if self._todo:
            self._started += self._legs.joining(self._work)

    def wait(self) -> None:
        wait(self._started)

    def found(self) -> Found:
        self.join()
        self.wait()
        return {word: postings for each in self._started for word, postings in each.result().items()}


class Reading:
    """The words of one question, on their way."""

    def __init__(
        self, recall: LexicalRecall, words: Sequence[str], tenant_id: int, roster: Roster, started: _Task
    ) -> None:
        self._recall = recall
        self._words = words
        self._tenant_id = tenant_id
        self._roster = roster
        self._started = started

    def scores(self) -> Scores:
        """(n,) BM25 of each passage of the roster."""
        return self._recall.finish(self._words, self._tenant_id, self._roster, self._started)

    def join(self) -> None:
        """Whoever asks has nothing more to do until the words are read: let more threads read."""
        self._started.join()

    def wait(self) -> None:
        """Until no thread reads for this question."""
        self._started.wait()


def _placed(postings: Postings | None, roster: Roster) -> Worth | None:
    if postings is None:
        return None
    ids, scores = postings
    places, known = roster.places(ids)
    return places[known].astype(np.int32), scores[known]


def _size(worth: Worth | None) -> int:
    return ENTRY_BYTES + (worth[0].nbytes + worth[1].nbytes if worth is not None else 0)
