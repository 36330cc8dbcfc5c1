"""Vectors on a PostgreSQL server with pgvector: for a team, when one machine is not enough.

Purpose: the same interface and the same answers as the embedded stores. Every namespace has a table, and an HNSW index
once it is large, of its own: one index over all of them, filtered afterwards, loses the small ones. The one module that
imports psycopg and pgvector. Invariants: what the server ranks is rough, scores are computed here from the stored
float32 numbers; a filter is always answered exactly; a write is one transaction, durable as the server's
`synchronous_commit` says; a failing server is a `StorageError` that names neither address nor user.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql

from emm import InputError, StorageError
from emm_engine.embeddings.provider import Float32Array
from emm_engine.vectors.guard import RecallGuard
from emm_engine.vectors.log import Hashes, Rows, merged, positions
from emm_engine.vectors.ranking import ROUGH_ERROR, best, dots
from emm_engine.vectors.store import Ids, RecallReport

INDEX_MIN: Final = 16_384  # vectors of a namespace; below, the server looks at all of them
EF_SEARCH: Final = 100  # of an HNSW index that is not yet known to need more
EF_SEARCH_MAX: Final = 1000  # pgvector's own limit
DIM_MAX: Final = 16_000  # pgvector's limits, of a vector and of an indexed one
INDEXED_DIM_MAX: Final = 2_000


class PgVectors:
    """`VectorStore` on a server, for one embedder, in one schema. Other archives have other schemas."""

    def __init__(self, url: str, schema: str, dim: int, fingerprint: str, index_min: int = INDEX_MIN) -> None:
        if not 1 <= dim <= DIM_MAX:
            raise InputError("pgvector does not take such vectors", expected=f"1 to {DIM_MAX} numbers", found=dim)
        self._url = url
        self._schema = schema
        self._dim = dim
        self._fingerprint = fingerprint
        self._index_min = index_min if dim <= INDEXED_DIM_MAX else None
        self._connection: psycopg.Connection[Any] | None = None
        self._shards: dict[str, tuple[sql.Identifier, bool]] = {}  # (table, whether it has an index)
        self._held: dict[str, Rows] = {}
        self._guards: dict[str, RecallGuard] = {}

    # --- writing ---------------------------------------------------------------------------------

    def add(self, namespace: str, ids: Ids, vectors: Float32Array, text_hashes: Hashes) -> None:
        assert vectors.shape == (len(ids), self._dim) and vectors.dtype == np.float32
        news = merged(Rows.none(self._dim), Rows(ids, text_hashes, vectors), np.ones(len(ids), bool))
        with self._talk() as server:
            self._held.pop(namespace, None)
            with server.transaction():
                table = self._made(server, namespace)
                server.execute(_q("CREATE TEMP TABLE news (LIKE {} INCLUDING DEFAULTS) ON COMMIT DROP", table))
                with server.cursor().copy("COPY news (id, hash, embedding) FROM STDIN (FORMAT BINARY)") as copy:
                    copy.set_types(["int8", "int8", "vector"])
                    for row in zip(news.ids.tolist(), _signed(news.hashes), news.vectors, strict=True):
                        copy.write_row(row)
                server.execute(
                    _q(
                        "INSERT INTO {} SELECT id, hash, embedding FROM news "
                        "ON CONFLICT (id) DO UPDATE SET hash = EXCLUDED.hash, embedding = EXCLUDED.embedding",
                        table,
                    )
                )
            self._index(server, namespace)

    def remove(self, namespace: str, ids: Ids) -> None:
        with self._talk() as server:
            self._held.pop(namespace, None)
            if (shard := self._shard(server, namespace)) is not None:
                server.execute(_q("DELETE FROM {} WHERE id = ANY(%s)", shard[0]), (ids.tolist(),))

    def compact(self, namespace: str) -> None:
        """Rewrites the table; what the server's journal and backups hold is the server's to forget."""
        with self._talk() as server:
            if (shard := self._shard(server, namespace)) is None:
                return
            server.execute(_q("VACUUM FULL {}", shard[0]))

    def drop(self, namespace: str) -> None:
        with self._talk() as server:
            if (shard := self._shard(server, namespace)) is not None:
                with server.transaction():
                    server.execute(_q("DROP TABLE {}", shard[0]))
                    server.execute(
                        _q("DELETE FROM {} WHERE namespace = %s AND fingerprint = %s", self._named("shards")),
                        (namespace, self._fingerprint),
                    )
        for known in (self._shards, self._held, self._guards):
            known.pop(namespace, None)

    def rename(self, namespace: str, into: str) -> None:
        with self._talk() as server:
            if self._shard(server, namespace) is not None:
                with server.transaction():
                    self.drop(into)
                    server.execute(
                        _q(
                            "UPDATE {} SET namespace = %s WHERE namespace = %s AND fingerprint = %s",
                            self._named("shards"),
                        ),
                        (into, namespace, self._fingerprint),
                    )
        for known in (self._shards, self._held, self._guards):
            for each in (namespace, into):
                known.pop(each, None)

    def maintain(self, namespace: str) -> list[str]:
        """Clears dead rows away, which an index would have to step over."""
        with self._talk() as server:
            if (shard := self._shard(server, namespace)) is None:
                return []
            server.execute(_q("VACUUM (ANALYZE) {}", shard[0]))
        return ["cleared dead rows away"]

    def hold(self, namespace: str, ids: Ids, vectors: Float32Array, text_hashes: Hashes) -> None:
        held = self._held.get(namespace, Rows.none(self._dim))
        self._held[namespace] = merged(held, Rows(ids, text_hashes, vectors), np.ones(len(ids), bool))

    def forget_cached(self) -> None:
        self._held.clear()
        self._shards.clear()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- reading ---------------------------------------------------------------------------------

    def search(
        self, namespace: str, query: Float32Array, k: int, allowed: Ids | None = None
    ) -> tuple[Ids, Float32Array]:
        guard = self._guards.setdefault(namespace, RecallGuard())
        with self._talk() as server:
            if namespace not in self._held and allowed is None and query.any():
                found = self._by_index(server, namespace, query, k, EF_SEARCH * guard.factor)
                if found is not None:
                    if not guard.due():
                        return found
                    exact = self._exactly(server, namespace, query, k, None)
                    guard.learn(found[0], exact[0])
                    return exact
            return self._exactly(server, namespace, query, k, allowed)

    def scores(self, namespace: str, query: Float32Array, ids: Ids) -> Float32Array:
        found = np.zeros(len(ids), np.float32)
        for source in self._sources(namespace, ids):
            at, known = positions(source.ids, ids)
            found[known] = dots(source.vectors[at[known]], query)
        return found

    def fetch(self, namespace: str, ids: Ids) -> tuple[Ids, Float32Array]:
        found, kept = np.zeros((len(ids), self._dim), np.float32), np.zeros(len(ids), bool)
        for source in self._sources(namespace, ids):
            at, known = positions(source.ids, ids)
            found[known] = source.vectors[at[known]]
            kept |= known
        return ids[kept], found[kept]

    def _sources(self, namespace: str, ids: Ids) -> tuple[Rows, Rows]:
        """Rows of these ids on the server, and all that are held in memory, which count more."""
        with self._talk() as server:
            rows = self._stored(server, namespace, "WHERE id = ANY(%s)", (np.unique(ids).tolist(),))
        return rows, self._held.get(namespace, Rows.none(self._dim))

    def count(self, namespace: str) -> int:
        with self._talk() as server:
            return self._count(server, namespace)

    def missing(self, namespace: str, expected: Mapping[int, int]) -> Ids:
        held = self._held.get(namespace, Rows.none(self._dim))
        found: dict[int, int] = {}
        with self._talk() as server:
            if (shard := self._shard(server, namespace)) is not None:
                answer = server.execute(_q("SELECT id, hash FROM {} WHERE id = ANY(%s)", shard[0]), (list(expected),))
                found = {identity: digest % (1 << 64) for identity, digest in answer}
        found |= dict(zip(held.ids.tolist(), held.hashes.tolist(), strict=True))
        return np.array(sorted(each for each, digest in expected.items() if found.get(each) != digest), np.int64)

    def recall(self, namespace: str) -> RecallReport:
        guard = self._guards.get(namespace, RecallGuard())
        with self._talk() as server:
            shard = self._shard(server, namespace)
        if shard is None or not shard[1] or EF_SEARCH * guard.factor > EF_SEARCH_MAX:
            return RecallReport(1.0, guard.n_checked, None)
        return RecallReport(guard.recall, guard.n_checked, EF_SEARCH * guard.factor)

    # --- the server ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _talk(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._connected()
            yield self._connection
        except BaseException as error:
            self._shards.clear()  # what was looked up may have been made in a transaction that is no more
            if not isinstance(error, psycopg.Error):
                raise
            code = f" ({error.sqlstate})" if error.sqlstate else ""
            raise StorageError(f"the vector server failed{code}", found=type(error).__name__) from error

    def _connected(self) -> psycopg.Connection[Any]:
        server = psycopg.connect(self._url, autocommit=True)
        with server.transaction():
            server.execute("SELECT pg_advisory_xact_lock(hashtext('emm vectors'))")  # two at once would both create
            server.execute("CREATE EXTENSION IF NOT EXISTS vector")
            server.execute(_q("CREATE SCHEMA IF NOT EXISTS {}", sql.Identifier(self._schema)))
            server.execute(
                _q(
                    "CREATE TABLE IF NOT EXISTS {} (shard BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
                    "namespace TEXT NOT NULL, fingerprint TEXT NOT NULL, indexed BOOLEAN NOT NULL DEFAULT FALSE, "
                    "UNIQUE (namespace, fingerprint))",
                    self._named("shards"),
                )
            )
        register_vector(server)
        return server

    def _named(self, table: str) -> sql.Identifier:
        return sql.Identifier(self._schema, table)

    def _shard(self, server: psycopg.Connection[Any], namespace: str) -> tuple[sql.Identifier, bool] | None:
        if namespace not in self._shards:
            said = server.execute(
                _q("SELECT shard, indexed FROM {} WHERE namespace = %s AND fingerprint = %s", self._named("shards")),
                (namespace, self._fingerprint),
            ).fetchone()
            if said is None:
                return None
            self._shards[namespace] = (self._named(f"vectors_{said[0]}"), said[1])
        return self._shards[namespace]

    def _made(self, server: psycopg.Connection[Any], namespace: str) -> sql.Identifier:
        """The table of a namespace, made where there is none; inside a transaction."""
        server.execute(
            _q("INSERT INTO {} (namespace, fingerprint) VALUES (%s, %s) ON CONFLICT DO NOTHING", self._named("shards")),
            (namespace, self._fingerprint),
        )
        shard = self._shard(server, namespace)
        assert shard is not None
        server.execute(
            _q(
                "CREATE TABLE IF NOT EXISTS {} (id BIGINT PRIMARY KEY, hash BIGINT NOT NULL, "
                "embedding vector({}) NOT NULL)",
                shard[0],
                sql.Literal(self._dim),
            )
        )
        return shard[0]

    def _index(self, server: psycopg.Connection[Any], namespace: str) -> None:
        """Index a table that has become large; searches go on meanwhile."""
        shard = self._shard(server, namespace)
        assert shard is not None
        if shard[1] or self._index_min is None or self._count(server, namespace) < self._index_min:
            return
        with server.transaction():
            server.execute(_q("CREATE INDEX ON {} USING hnsw (embedding vector_ip_ops)", shard[0]))
            server.execute(
                _q("UPDATE {} SET indexed = TRUE WHERE namespace = %s AND fingerprint = %s", self._named("shards")),
                (namespace, self._fingerprint),
            )
        self._shards[namespace] = (shard[0], True)

    def _count(self, server: psycopg.Connection[Any], namespace: str) -> int:
        held = self._held.get(namespace, Rows.none(self._dim)).ids.tolist()
        if (shard := self._shard(server, namespace)) is None:
            return len(held)
        answer = server.execute(_q("SELECT count(*) FROM {} WHERE NOT id = ANY(%s)", shard[0]), (held,)).fetchone()
        assert answer is not None
        return int(answer[0]) + len(held)

    def _stored(self, server: psycopg.Connection[Any], namespace: str, where: str, values: tuple[Any, ...]) -> Rows:
        """Rows of a namespace's table, ascending; without their hashes."""
        if (shard := self._shard(server, namespace)) is None:
            return Rows.none(self._dim)
        with server.cursor(binary=True) as cursor:
            cursor.execute(_q("SELECT id, vector_send(embedding) FROM {} " + where, shard[0]), values)
            found = sorted(cursor.fetchall())
        if not found:
            return Rows.none(self._dim)
        numbers = np.frombuffer(b"".join(data[4:] for _, data in found), ">f4").reshape(len(found), self._dim)
        ids = np.array([identity for identity, _ in found], np.int64)
        return Rows(ids, np.zeros(len(ids), np.uint64), numbers.astype(np.float32))

    def _exactly(
        self, server: psycopg.Connection[Any], namespace: str, query: Float32Array, k: int, allowed: Ids | None
    ) -> tuple[Ids, Float32Array]:
        held = self._held.get(namespace, Rows.none(self._dim))
        rows = Rows.none(self._dim)
        if k > 0 and (shard := self._shard(server, namespace)) is not None:
            listed = "" if allowed is None else " AND id = ANY(%(allowed)s)"
            rough = (
                "WITH rough AS MATERIALIZED (SELECT id, -(embedding <#> %(query)s) AS score FROM {table} "
                f"WHERE NOT id = ANY(%(held)s){listed}), "
                "floor AS (SELECT score FROM rough ORDER BY score DESC OFFSET %(skip)s LIMIT 1) "
                "SELECT id FROM rough WHERE score >= coalesce((SELECT score FROM floor), '-infinity') - %(error)s"
            )
            values = {
                "query": query,
                "held": held.ids.tolist(),
                "skip": k - 1,
                "error": ROUGH_ERROR * max(1.0, float(np.linalg.norm(query))),
                "allowed": None if allowed is None else allowed.tolist(),
            }
            near = [identity for (identity,) in server.execute(_q(rough, table=shard[0]), values)]
            rows = self._stored(server, namespace, "WHERE id = ANY(%s)", (near,))
        mine = np.ones(len(held.ids), bool) if allowed is None else np.isin(held.ids, allowed)
        ids = np.concatenate([rows.ids, held.ids[mine]])
        return best(ids, dots(np.concatenate([rows.vectors, held.vectors[mine]]), query), k)

    def _by_index(
        self, server: psycopg.Connection[Any], namespace: str, query: Float32Array, k: int, ef_search: int
    ) -> tuple[Ids, Float32Array] | None:
        """What the index finds; None where it has no say."""
        shard = self._shard(server, namespace)
        if shard is None or not shard[1] or k <= 0 or max(2 * k, ef_search) > EF_SEARCH_MAX:
            return None
        with server.transaction():
            server.execute(sql.SQL("SET LOCAL hnsw.ef_search = {}").format(max(2 * k, ef_search)))
            rows = self._stored(server, namespace, "ORDER BY embedding <#> %s LIMIT %s", (query, 2 * k))
        if len(rows.ids) < 2 * k:  # an index over many dead rows finds fewer
            return None
        return best(rows.ids, dots(rows.vectors, query), k)


def _q(text: str, *names: sql.Composable, **named: sql.Composable) -> sql.Composed:
    return sql.SQL(text).format(*names, **named)


def _signed(hashes: Hashes) -> list[int]:
    """As PostgreSQL's BIGINT."""
    return [int(digest) for digest in hashes.astype(np.uint64).view(np.int64)]
