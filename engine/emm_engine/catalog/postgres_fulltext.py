"""Search by words in PostgreSQL, with the words and the ranking of SQLite's FTS5.

Purpose: the same question finds the same passages with the same scores whichever database holds the catalog.
PostgreSQL's own text search has other words (its parser and stemmer) and no BM25: a `tsvector` tells how often a word
occurs only by being taken apart. So a passage is a row of its distinct words with their counts, and the words are made
by FTS5 itself, in memory. Invariants: `terms` is sorted, `counts` has one number for each of its words and columns;
a score is computed as FTS5 computes it, from the same whole numbers in the same order, so it is the same float.
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from emm_engine.catalog.database import Database
from emm_engine.catalog.fulltext import COLUMN_WEIGHTS, Entry
from emm_engine.catalog.schema import TOKENIZER, fulltext_table

K1: Final = 1.2
B: Final = 0.75
IDF_MIN: Final = 1e-6  # for a word in more than half of all passages
COUNT_MAX: Final = 32_767
N_COLUMNS: Final = len(COLUMN_WEIGHTS)

_QUOTED: Final = re.compile(r'"([^"]*)"')


class Fts5Words:
    """The words of texts as FTS5 makes them."""

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
                found[at - 1].append((int(column[1:]), word))
        finally:
            self._connection.execute("INSERT INTO t(t) VALUES ('delete-all')")
        return found


class PostgresFullText:
    """`FullText` in PostgreSQL: a table for each tenant, and its totals."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._words = Fts5Words()

    def create(self, tenant_id: int) -> None:
        table = fulltext_table(tenant_id)
        self._database.execute(
            f"CREATE TABLE IF NOT EXISTS {table}(passage_id INTEGER PRIMARY KEY, n_words INTEGER NOT NULL, "
            'terms text[] COLLATE "C" NOT NULL, counts smallint[] NOT NULL)'
        )
        self._database.execute(f"CREATE INDEX IF NOT EXISTS {table}_terms ON {table} USING gin(terms)")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS fulltext_totals(table_name TEXT PRIMARY KEY, n_passages INTEGER NOT NULL, "
            "n_words INTEGER NOT NULL)"
        )
        self._database.execute(
            "INSERT INTO fulltext_totals VALUES (?, 0, 0) ON CONFLICT (table_name) DO NOTHING", (table,)
        )

    def drop(self, tenant_id: int) -> None:
        if self.count(tenant_id) >= 0:
            self._database.execute(f"DROP TABLE {fulltext_table(tenant_id)}")
            self._database.execute("DELETE FROM fulltext_totals WHERE table_name = ?", (fulltext_table(tenant_id),))

    def add(self, tenant_id: int, entries: Sequence[Entry]) -> None:
        table = fulltext_table(tenant_id)
        rows, n_words = [], 0
        for (passage_id, *_), words in zip(entries, self._words.of([entry[1:] for entry in entries]), strict=True):
            counted = Counter(words)
            terms = sorted({word for _, word in counted})
            counts = [min(counted[column, term], COUNT_MAX) for term in terms for column in range(N_COLUMNS)]
            rows.append((passage_id, len(words), terms, counts))
            n_words += len(words)
        self._database.executemany(f"INSERT INTO {table}(passage_id, n_words, terms, counts) VALUES (?, ?, ?, ?)", rows)
        self._add_totals(table, len(rows), n_words)

    def remove(self, tenant_id: int, entries: Sequence[Entry]) -> None:
        table = fulltext_table(tenant_id)
        gone = [
            self._database.query(f"DELETE FROM {table} WHERE passage_id = ? RETURNING n_words", entry[:1])
            for entry in entries
        ]
        self._add_totals(table, -sum(map(len, gone)), -sum(row[0] for rows in gone for row in rows))

    def _add_totals(self, table: str, n_passages: int, n_words: int) -> None:
        self._database.execute(
            "UPDATE fulltext_totals SET n_passages = n_passages + ?, n_words = n_words + ? WHERE table_name = ?",
            (n_passages, n_words, table),
        )

    def scores(self, tenant_id: int, expression: str, where: str, parameters: Sequence[object]) -> dict[int, float]:
        phrases = [
            [word for _, word in words]
            for words in self._words.of([(quoted, "", "") for quoted in _QUOTED.findall(expression)])
        ]
        every = " AND " in expression
        terms = sorted({word for phrase in phrases for word in phrase})
        if not terms or (every and not all(phrases)):
            return {}
        table = fulltext_table(tenant_id)
        places = ", ".join(f"array_position(terms, ?) AS p{at}" for at in range(len(terms)))
        weighted = ", ".join(
            "coalesce("
            + " + ".join(f"{weight} * counts[{N_COLUMNS} * p{at} - {N_COLUMNS - 1 - column}]" for column, weight in
                         enumerate(COLUMN_WEIGHTS))
            + ", 0)"
            for at in range(len(terms))
        )  # fmt: skip
        rows = self._database.query(
            f"WITH hits AS (SELECT passage_id, n_words, counts, {places} FROM {table} "
            f"WHERE terms && CAST(? AS text[])) SELECT passage_id, {where}, n_words, {weighted} "
            "FROM hits JOIN passages USING(passage_id) JOIN documents USING(document_id)",
            (*terms, terms, *parameters),
        )
        return self._bm25(table, rows, [[terms.index(word) for word in phrase] for phrase in phrases], every)

    def _bm25(
        self, table: str, rows: Sequence[tuple[object, ...]], phrases: Sequence[Sequence[int]], every: bool
    ) -> dict[int, float]:
        """FTS5's own arithmetic. Its statistics count all matches, visible or not."""
        if not rows:
            return {}
        n_passages, n_words = self._database.query(
            "SELECT n_passages, n_words FROM fulltext_totals WHERE table_name = ?", (table,)
        )[0]
        ids = [row[0] for row in rows]
        visible = np.array([bool(row[1]) for row in rows])
        lengths = np.array([row[2] for row in rows], np.float64)
        found = np.array([row[3:] for row in rows], np.float64)  # (n, terms): how often, weighted
        average = n_words / n_passages
        total = np.zeros(len(rows))
        matched = np.ones(len(rows), bool) if every else np.zeros(len(rows), bool)
        for phrase in phrases:
            often = found[:, phrase].min(axis=1) if phrase else np.zeros(len(rows))
            n_hits = int(np.count_nonzero(often))
            idf = max(math.log((n_passages - n_hits + 0.5) / (n_hits + 0.5)), 0.0) or IDF_MIN
            total += idf * ((often * (K1 + 1.0)) / (often + K1 * (1.0 - B + B * lengths / average)))
            matched = matched & (often > 0) if every else matched | (often > 0)
        return {identity: float(total[at]) for at, identity in enumerate(ids) if visible[at] and matched[at]}  # type: ignore[misc]

    def count(self, tenant_id: int) -> int:
        table = fulltext_table(tenant_id)
        if not self._database.query(
            "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = ?", (table,)
        ):
            return -1
        return int(self._database.query(f"SELECT count(*) FROM {table}")[0][0])
