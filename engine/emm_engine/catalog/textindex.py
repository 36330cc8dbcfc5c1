"""Search by words: what both databases offer, and SQLite's way.

Purpose: a small interface behind which FTS5 and PostgreSQL stand alike. Invariants: each tenant has an index of its
own, so no statistic of one tenant's words moves another's ranking; a score is Okapi BM25 (k1 = 1.2, b = 0.75) over the
tenant's passages, superseded ones included, with the weights of `COLUMN_WEIGHTS`; the index keeps no copy of the text
and can be filled again from the catalog.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from emm_engine.catalog.database import Database
from emm_engine.catalog.occurrences import Lengths, Occurrences, read_lengths
from emm_engine.catalog.schema import create_fulltext, fulltext_table

COLUMN_WEIGHTS = (1.0, 2.0, 1.0)  # source, title, body
K1: Final = 1.2
B: Final = 0.75
IDF_MIN: Final = 1e-6  # FTS5 gives it to a word that half of all passages have, or more

Numbers = npt.NDArray[np.float64]
Entry = tuple[int, str, str, str]  # passage id, source, title, body
Postings = tuple[npt.NDArray[np.int64], Numbers]  # passage ids, ascending, and BM25, higher is better


def bm25(often: Numbers, lengths: Numbers, n_hits: int, n_passages: int, mean_length: float) -> Numbers:
    """What a word is worth in each passage that has it, in the order of FTS5's own arithmetic.

    `often`: its weighted occurrences there; `lengths`: the words there; `n_hits`: of `n_passages` that have it.
    """
    idf = max(math.log((n_passages - n_hits + 0.5) / (n_hits + 0.5)), IDF_MIN)
    weight: Numbers = often * (K1 + 1.0) / (often + K1 * (1.0 - B + B * lengths / mean_length))
    return idf * weight


class FullText(Protocol):
    """The indexes of an archive's tenants. Writing happens inside a transaction of the catalog."""

    def create(self, tenant_id: int) -> None:
        """Make the tenant's index where there is none."""
        ...

    def drop(self, tenant_id: int) -> None:
        """Remove the tenant's index where there is one."""
        ...

    def add(self, tenant_id: int, entries: Sequence[Entry]) -> None:
        """Index passages that are not in the index."""
        ...

    def remove(self, tenant_id: int, entries: Sequence[Entry]) -> None:
        """Take passages out, given as they were added."""
        ...

    def state(self, tenant_id: int) -> tuple[int, int]:
        """(newest passage, how many), of an index that is there."""
        ...

    def lengths(self, tenant_id: int, held: Lengths) -> Lengths:
        """What `tells` and `postings` want to know of every passage; what is `held` of it is taken over."""
        ...

    def tells(self, tenant_id: int, word: str, lengths: Lengths) -> bool:
        """Whether some passage has a word, and more than half of them have not."""
        ...

    def postings(self, tenant_id: int, word: str, lengths: Lengths) -> Postings:
        """Every passage that has a word, superseded ones included, with its BM25 for this word alone."""
        ...

    def holding(self, tenant_id: int, words: Sequence[str], where: str, parameters: Sequence[object]) -> list[int]:
        """The passages that have all of these words; `where` is a condition over `passages` that says which may."""
        ...

    def count(self, tenant_id: int) -> int:
        """How many passages are indexed; -1 where there is no index."""
        ...


class Fts5FullText:
    """`FullText` in SQLite: a contentless FTS5 table for each tenant, rowid = passage id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, tenant_id: int) -> None:
        self._database.execute(create_fulltext(tenant_id))

    def drop(self, tenant_id: int) -> None:
        self._database.execute(f"DROP TABLE IF EXISTS {fulltext_table(tenant_id)}")

    def add(self, tenant_id: int, entries: Sequence[Entry]) -> None:
        table = fulltext_table(tenant_id)
        self._database.executemany(f"INSERT INTO {table}(rowid, source, title, body) VALUES (?, ?, ?, ?)", entries)

    def remove(self, tenant_id: int, entries: Sequence[Entry]) -> None:
        table = fulltext_table(tenant_id)  # a table without content is told what to take out
        self._database.executemany(
            f"INSERT INTO {table}({table}, rowid, source, title, body) VALUES ('delete', ?, ?, ?, ?)", entries
        )

    def state(self, tenant_id: int) -> tuple[int, int]:
        table = fulltext_table(tenant_id)
        ((newest, count),) = self._database.query(f"SELECT coalesce(max(id), 0), count(*) FROM {table}_docsize")
        return int(newest), int(count)

    def lengths(self, tenant_id: int, held: Lengths) -> Lengths:
        return read_lengths(self._database, fulltext_table(tenant_id), held, self.state(tenant_id)[1])

    def tells(self, tenant_id: int, word: str, lengths: Lengths) -> bool:
        table = fulltext_table(tenant_id)
        ((count,),) = self._database.query(f"SELECT count(*) FROM {table} WHERE {table} MATCH ?", (f'"{word}"',))
        return bool(0 < 2 * count < len(lengths))

    def postings(self, tenant_id: int, word: str, lengths: Lengths) -> Postings:
        found = Occurrences(self._database, fulltext_table(tenant_id)).of(word, COLUMN_WEIGHTS)
        if found is None:
            return self._as_phrase(tenant_id, word)
        ids, often = found
        words, known = lengths.of(ids)
        if not known.all():  # another process has just added them
            ids, often, words = ids[known], often[known], words[known]
        if not len(ids):
            return ids, often
        return ids, bm25(often, words.astype(np.float64), len(ids), len(lengths), lengths.mean)

    def _as_phrase(self, tenant_id: int, word: str) -> Postings:
        """The same from FTS5 itself, whatever the word is."""
        table = fulltext_table(tenant_id)
        rows = self._database.query(
            f"SELECT rowid, -bm25({table}, ?, ?, ?) FROM {table} WHERE {table} MATCH ? ORDER BY rowid",
            (*COLUMN_WEIGHTS, f'"{word}"'),
        )
        n_rows = len(rows)
        ids = np.fromiter((row[0] for row in rows), np.int64, n_rows)
        return ids, np.fromiter((row[1] for row in rows), np.float64, n_rows)

    def holding(self, tenant_id: int, words: Sequence[str], where: str, parameters: Sequence[object]) -> list[int]:
        """CROSS JOIN fixes the order: from the matches to their rows (the other way round takes seconds)."""
        table = fulltext_table(tenant_id)
        expression = " AND ".join(f'"{word}"' for word in words)
        rows = self._database.query(
            f"SELECT passage_id FROM {table} CROSS JOIN passages ON passage_id = {table}.rowid "
            f"WHERE {table} MATCH ? AND {where} ORDER BY passage_id",
            (expression, *parameters),
        )
        return [row[0] for row in rows]

    def count(self, tenant_id: int) -> int:
        table = fulltext_table(tenant_id)
        if not self._database.query("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)):
            return -1
        return int(self._database.query(f"SELECT count(*) FROM {table}_docsize")[0][0])
