"""How often each passage has a word, and how long each passage is: what BM25 is made of, read in few steps of SQLite.

Purpose: FTS5's own bm25() looks up the length of every passage that has the word, and the interpreter takes its lock
once for each row; for a word in half of 100,000 passages that is most of an answer. Here a word is one row: SQLite
gathers its occurrences by itself while other threads go on. Invariants: the numbers are those that bm25() uses; nothing
is written but tables in the connection's own memory, which name the terms that a word is indexed under.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emm_engine.catalog.database import Database
from emm_engine.catalog.schema import TOKENIZER

COLUMNS = ("source", "title", "body")  # names of different lengths, which tell them apart below 2 ** COLUMN_BITS
COLUMN_BITS = 3

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Lengths:
    """The words in each of a tenant's n passages, as its index counts them."""

    ids: Ids  # (n,) ascending
    words: Ids  # (n,) of all columns together

    @classmethod
    def none(cls) -> Lengths:
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def mean(self) -> float:
        return float(self.words.mean())

    def of(self, ids: Ids) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """(words of these passages, which of them are known); a number means nothing where it is not."""
        at = np.minimum(np.searchsorted(self.ids, ids), max(len(self.ids) - 1, 0))
        if not len(self.ids):
            return np.zeros(len(ids), np.int64), np.zeros(len(ids), bool)
        return self.words[at], self.ids[at] == ids


def read_lengths(database: Database, table: str, held: Lengths, count: int) -> Lengths:
    """The lengths of the `count` passages of a full-text table; those `held` are not read again."""
    last = int(held.ids[-1]) if len(held) else 0
    rows = database.query(f"SELECT id, sz FROM {table}_docsize WHERE id > ? ORDER BY id", (last,))
    if len(held) and len(held) + len(rows) != count:  # some are gone
        return read_lengths(database, table, Lengths.none(), count)
    if not rows:
        return held
    ids = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    words = _totals([row[1] for row in rows])
    return Lengths(np.concatenate([held.ids, ids]), np.concatenate([held.words, words]))


def _totals(sizes: list[bytes]) -> Ids:
    """(n,) the sum of the numbers in each: bytes of seven bits each, the highest first, the last below 128."""
    data = np.frombuffer(b"".join(sizes), np.uint8)
    lasts = np.flatnonzero(data < 128)
    places = np.arange(len(data))
    shifts = 7 * (lasts[np.searchsorted(lasts, places)] - places)
    starts = np.cumsum([0, *map(len, sizes[:-1])])
    totals: Ids = np.add.reduceat((data & 127).astype(np.int64) << shifts, starts)
    return totals


class Occurrences:
    """The occurrences of words in one tenant's full-text table, in whatever thread its database belongs to."""

    def __init__(self, database: Database, table: str) -> None:
        self._database = database
        self._table = table
        self._listed = f"temp.{table}_occurrences"

    def of(self, word: str, weights: tuple[float, ...]) -> tuple[Ids, Floats] | None:
        """(ids of the passages that have a word, ascending; how often, each column by its weight).

        None where the index knows the word as several terms, or none.
        """
        terms = self._terms(word)
        if len(terms) != 1:
            return None
        ((text,),) = self._database.query(
            f"SELECT group_concat((doc << {COLUMN_BITS}) + length(col)) FROM {self._listed} WHERE term = ?", (terms[0],)
        )
        numbers = np.fromstring(text or "", np.int64, sep=",")  # type: ignore[call-overload, unused-ignore]
        worth = np.zeros(1 << COLUMN_BITS)
        worth[[len(name) for name in COLUMNS]] = weights
        ids, often = numbers >> COLUMN_BITS, worth[numbers & ((1 << COLUMN_BITS) - 1)]
        if not (np.diff(ids) >= 0).all():
            order = np.argsort(ids, kind="stable")
            ids, often = ids[order], often[order]
        starts = np.flatnonzero(np.diff(ids, prepend=-1))
        return ids[starts], np.add.reduceat(often, starts) if len(starts) else often

    def _terms(self, word: str) -> list[str]:
        """What the index makes of a word."""
        query = self._database.query
        self._prepare()
        query("INSERT INTO temp.asked(rowid, word) VALUES (1, ?)", (word,))
        terms = [str(row[0]) for row in query("SELECT term FROM temp.asked_terms")]
        query("INSERT INTO temp.asked(asked) VALUES ('delete-all')")
        return terms

    def _prepare(self) -> None:
        query = self._database.query
        if query("PRAGMA temp_store")[0][0] != 2:
            query("PRAGMA temp_store = MEMORY")
            query(f"CREATE VIRTUAL TABLE temp.asked USING fts5(word, content='', tokenize='{TOKENIZER}')")
            query("CREATE VIRTUAL TABLE temp.asked_terms USING fts5vocab(temp, asked, instance)")
        query(f"CREATE VIRTUAL TABLE IF NOT EXISTS {self._listed} USING fts5vocab(main, {self._table}, instance)")
