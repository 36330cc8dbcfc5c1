"""Search by words in PostgreSQL, with the words and the ranking of SQLite's FTS5.

Purpose: the same question finds the same passages with the same scores whichever database holds the catalog.
PostgreSQL's own text search has other words (its parser and stemmer) and no BM25: a `tsvector` tells how often a word
occurs only by being taken apart. So a passage is a row of its distinct words with their counts, and the words are made
by FTS5 itself, in memory. Invariants: `terms` is sorted, `counts` has one number for each of its words and columns;
a score is computed as FTS5 computes it, from the same whole numbers in the same order, so it is the same float.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from emm_engine.catalog.database import Database
from emm_engine.catalog.occurrences import Lengths
from emm_engine.catalog.schema import FULLTEXT_PREFIX, TOKENIZER, fulltext_table
from emm_engine.catalog.textindex import COLUMN_WEIGHTS, Entry, Postings, bm25

TERM_CHARS_MAX: Final = 200  # an index takes 2,704 bytes a word; a longer one is known by its hash
N_COLUMNS: Final = len(COLUMN_WEIGHTS)
TOTALS: Final = FULLTEXT_PREFIX + "totals"
MAKE_TOTALS: Final = (
    f"CREATE TABLE {TOTALS}(tenant_id INTEGER PRIMARY KEY REFERENCES tenants ON DELETE CASCADE, "
    "n_passages INTEGER NOT NULL, n_words INTEGER NOT NULL)"
)


class Fts5Words:
    """The words of texts as FTS5 makes them. One thread."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        columns = ", ".join(f"c{at}" for at in range(N_COLUMNS))
        self._connection.execute(f"CREATE VIRTUAL TABLE t USING fts5({columns}, content='', tokenize='{TOKENIZER}')")
        self._connection.execute("CREATE VIRTUAL TABLE v USING fts5vocab(t, 'instance')")

    def of(self, rows: Sequence[Sequence[str]]) -> list[list[tuple[int, str]]]:
        """For each row of texts, one for each column, its words in order: (column, word)."""
        found: list[list[tuple[int, str]]] = [[] for _ in rows]
        marks = ", ".join("?" * N_COLUMNS)
        self._connection.executemany(
            f"INSERT INTO t(rowid, c0, c1, c2) VALUES (?, {marks})", [(at, *row) for at, row in enumerate(rows, 1)]
        )
        try:
            for at, column, word in self._connection.execute("SELECT doc, col, term FROM v ORDER BY doc, col, offset"):
                found[at - 1].append((int(column[1:]), _indexed(word)))
        finally:
            self._connection.execute("INSERT INTO t(t) VALUES ('delete-all')")
        return found

    def phrase(self, word: str) -> list[str]:
        """What a quoted word of a question asks for: mostly one word, without its ending."""
        return [part for _, part in self.of([(word, *[""] * (N_COLUMNS - 1))])[0]]


def _indexed(word: str) -> str:
    """A word as it is kept; no other begins with that character."""
    return word if len(word) <= TERM_CHARS_MAX else "\x01" + hashlib.sha256(word.encode()).hexdigest()


class PostgresFullText:
    """`FullText` in PostgreSQL: a table for each tenant, and its totals."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._words = Fts5Words()

    def create(self, tenant_id: int) -> None:
        table = fulltext_table(tenant_id)
        self._database.execute(
            f"CREATE TABLE IF NOT EXISTS {table}(passage_id INTEGER PRIMARY KEY, n_words INTEGER NOT NULL, "
            'terms text[] COLLATE "C" NOT NULL, counts int4[] NOT NULL)'
        )
        self._database.execute(f"ALTER TABLE {table} ALTER COLUMN terms SET STATISTICS 0")  # as of all content
        self._database.execute(f"CREATE INDEX IF NOT EXISTS {table}_terms ON {table} USING gin(terms)")
        self._database.execute(f"INSERT INTO {TOTALS} VALUES (?, 0, 0) ON CONFLICT DO NOTHING", (tenant_id,))

    def drop(self, tenant_id: int) -> None:
        self._database.execute(f"DROP TABLE IF EXISTS {fulltext_table(tenant_id)}")
        self._database.execute(f"DELETE FROM {TOTALS} WHERE tenant_id = ?", (tenant_id,))

    def add(self, tenant_id: int, entries: Sequence[Entry]) -> None:
        rows, n_words = [], 0
        for (passage_id, *_), words in zip(entries, self._words.of([entry[1:] for entry in entries]), strict=True):
            counted = Counter(words)
            terms = sorted({word for _, word in counted})
            counts = [counted[column, term] for term in terms for column in range(N_COLUMNS)]
            rows.append((passage_id, len(words), terms, counts))
            n_words += len(words)
        table = fulltext_table(tenant_id)
        self._database.executemany(f"INSERT INTO {table}(passage_id, n_words, terms, counts) VALUES (?, ?, ?, ?)", rows)
        self._add_totals(tenant_id, len(rows), n_words)

    def remove(self, tenant_id: int, entries: Sequence[Entry]) -> None:
        gone = [
            row
            for entry in entries
            for row in self._database.query(
                f"DELETE FROM {fulltext_table(tenant_id)} WHERE passage_id = ? RETURNING n_words", entry[:1]
            )
        ]
        self._add_totals(tenant_id, -len(gone), -sum(row[0] for row in gone))

    def _add_totals(self, tenant_id: int, n_passages: int, n_words: int) -> None:
        self._database.execute(
            f"UPDATE {TOTALS} SET n_passages = n_passages + ?, n_words = n_words + ? WHERE tenant_id = ?",
            (n_passages, n_words, tenant_id),
        )

    def state(self, tenant_id: int) -> tuple[int, int]:
        newest = f"SELECT coalesce(max(passage_id), 0) FROM {fulltext_table(tenant_id)}"
        ((newest_id, count),) = self._database.query(
            f"SELECT ({newest}), n_passages FROM {TOTALS} WHERE tenant_id = ?", (tenant_id,)
        )
        return int(newest_id), int(count)

    def lengths(self, tenant_id: int, held: Lengths) -> Lengths:
        """None: the server has each passage's length beside its words."""
        return held

    def tells(self, tenant_id: int, word: str, lengths: Lengths) -> bool:
        rows = self._found(tenant_id, word, first=True)
        return bool(rows) and 2 * rows[0][3] < rows[0][4]

    def postings(self, tenant_id: int, word: str, lengths: Lengths | None = None) -> Postings:
        """FTS5's own arithmetic; its statistics count all passages of the tenant."""
        rows = self._found(tenant_id, word)
        if not rows:
            return np.zeros(0, np.int64), np.zeros(0, np.float64)
        ids = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        n_words, often = np.array([row[1:3] for row in rows], np.float64).T
        n_hits, n_passages, n_words_in_all = rows[0][3:]
        return ids, bm25(often, n_words, int(n_hits), int(n_passages), n_words_in_all / n_passages)

    def _found(self, tenant_id: int, word: str, *, first: bool = False) -> list[tuple[float, ...]]:
        """As `_of_term`. `first`: one passage alone."""
        phrase = self._words.phrase(word)
        if len(phrase) == 1:
            return self._of_term(tenant_id, phrase[0], first=first)
        return self._of_phrase(tenant_id, phrase)

    def _of_term(self, tenant_id: int, term: str, *, first: bool) -> list[tuple[float, ...]]:
        """(passage id, its words, weighted occurrences of the term, passages that have it, passages, words)."""
        often = " + ".join(f"? * counts[{N_COLUMNS} * place - {N_COLUMNS - 1 - at}]" for at in range(N_COLUMNS))
        return self._database.query(
            "SELECT hits.passage_id, hits.n_words, often, count(*) OVER (), totals.n_passages, totals.n_words "
            f"FROM (SELECT passage_id, n_words, {often} AS often FROM (SELECT passage_id, n_words, counts, "
            f"array_position(terms, ?) AS place FROM {fulltext_table(tenant_id)} WHERE terms @> CAST(? AS text[])) "
            f"AS placed) AS hits JOIN {TOTALS} AS totals ON totals.tenant_id = ? ORDER BY hits.passage_id"
            + (" LIMIT 1" if first else ""),
            (*COLUMN_WEIGHTS, term, [term], tenant_id),
        )

    def _of_phrase(self, tenant_id: int, phrase: Sequence[str]) -> list[tuple[float, ...]]:
        """The same for what FTS5 takes apart where a question does not: its parts have to stand side by side."""
        if not phrase:
            return []
        texts = self._database.query(
            "SELECT passages.passage_id, n_words, source, title, substr(text, start + 1, passages.end - start) "
            f"FROM {fulltext_table(tenant_id)} AS hits JOIN passages ON passages.passage_id = hits.passage_id "
            "JOIN documents USING(document_id) WHERE terms @> CAST(? AS text[]) ORDER BY passages.passage_id",
            (list(phrase),),
        )
        wanted, found = list(phrase), []
        for row, words in zip(texts, self._words.of([row[2:] for row in texts]), strict=True):
            windows = (words[at : at + len(wanted)] for at in range(len(words) - len(wanted) + 1))
            columns = [part[0][0] for part in windows if part[0][0] == part[-1][0] and [w for _, w in part] == wanted]
            if columns:
                found.append((*row[:2], sum(COLUMN_WEIGHTS[column] for column in columns)))
        totals = self._database.query(f"SELECT n_passages, n_words FROM {TOTALS} WHERE tenant_id = ?", (tenant_id,))
        return [(*row, len(found), *totals[0]) for row in found]

    def holding(self, tenant_id: int, words: Sequence[str], where: str, parameters: Sequence[object]) -> list[int]:
        found: set[int] | None = None
        for word in words:
            ids = set(self.postings(tenant_id, word)[0].tolist())
            found = ids if found is None else found & ids
        rows = self._database.query(
            f"SELECT passage_id FROM passages WHERE passage_id = ANY(CAST(? AS bigint[])) AND {where} "
            "ORDER BY passage_id",
            (sorted(found or ()), *parameters),
        )
        return [row[0] for row in rows]

    def count(self, tenant_id: int) -> int:
        table = fulltext_table(tenant_id)
        if not self._database.query(
            "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = ?", (table,)
        ):
            return -1
        return int(self._database.query(f"SELECT count(*) FROM {table}")[0][0])
