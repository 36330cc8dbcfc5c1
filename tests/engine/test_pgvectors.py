"""pgvector holds to the contract, on a real server that the tests start.

Red when: it breaks the contract; tenants or archives share a table; what HNSW does not find is answered all the same;
a server that is gone is anything but a StorageError.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pgserver
import psycopg
import pytest

import emm
from emm_engine import Archive, Document, Scope
from emm_engine.vectors.pgvectors import PgVectors
from tests.engine.vector_store_contract import (
    DIM,
    FINGERPRINT,
    NAME,
    VectorStoreContract,
    clustered,
    expected,
    found,
    put,
    unit,
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = pgserver.get_server(tmp_path_factory.mktemp("pg"))
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def schema(request: pytest.FixtureRequest) -> str:
    return "emm_" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]


@pytest.fixture
def open_store(url: str, schema: str) -> Iterator[Callable[..., PgVectors]]:
    made: list[PgVectors] = []

    def opened(fingerprint: str = FINGERPRINT, **named: int) -> PgVectors:
        made.append(PgVectors(url, schema, DIM, fingerprint, **named))
        return made[-1]

    yield opened
    for store in made:
        store.close()


class TestPgVectors(VectorStoreContract):
    @pytest.fixture
    def open_store(self, open_store: Callable[..., PgVectors]) -> Callable[..., PgVectors]:
        return open_store


def test_an_index_answers_where_a_namespace_is_large_and_filters_stay_exact(
    open_store: Callable[..., PgVectors],
) -> None:
    store, rows, ids = open_store(index_min=1500), clustered(2000), np.arange(2000)
    put(store, ids, rows)
    put(store, ids[:50], unit(50), "u:small/one/run")  # a small tenant beside a large one
    model = {int(identity): (row, 0) for identity, row in zip(ids, rows, strict=True)}
    assert store.recall(NAME).search_k == 100 and store.recall("u:small/one/run").search_k is None
    hits = 0
    for query in clustered(60, 3):
        wanted = expected(model, query, 10)
        answer = found(store, query, 10)
        assert answer == sorted(answer, key=lambda pair: (-pair[1], pair[0]))
        hits += len(set(wanted) & set(answer))
        allowed = ids[7::100]
        assert found(store, query, 5, allowed) == expected(model, query, 5, set(allowed.tolist()))
        assert len(found(store, query, 10, namespace="u:small/one/run")) == 10
    assert hits >= 588 and 16 <= store.recall(NAME).n_checked < 60
    assert store.recall(NAME).recall >= 0.98


def test_an_index_that_misses_is_given_up(
    open_store: Callable[..., PgVectors], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, rows = open_store(index_min=100), clustered(200)
    put(store, np.arange(200), rows)
    monkeypatch.setattr(
        PgVectors,
        "_by_index",
        lambda self, server, name, query, k, ef: None if ef > 1000 else (np.arange(k), np.zeros(k, np.float32)),
    )
    model = {identity: (row, 0) for identity, row in enumerate(rows)}
    for query in clustered(30, 4):
        assert found(store, query, 10) == expected(model, query, 10)
    assert store.recall(NAME).search_k is None


def test_archives_in_other_schemas_are_not_seen(url: str, open_store: Callable[..., PgVectors]) -> None:
    put(open_store(), np.arange(3), unit(3))
    other = PgVectors(url, "emm_other", DIM, FINGERPRINT)
    assert other.count(NAME) == 0
    other.close()


def test_names_with_quotes_are_names(url: str, open_store: Callable[..., PgVectors]) -> None:
    store = open_store()
    name = "t:d/p/r'; DROP TABLE shards; --\""
    put(store, np.arange(3), unit(3), name)
    odd = PgVectors(url, 'emm "; DROP', DIM, FINGERPRINT)
    put(odd, np.arange(2), unit(2), name)
    assert store.count(name) == 3 and odd.count(name) == 2 and store.count("t:d/p/r") == 0
    odd.close()


def test_a_dropped_namespace_leaves_no_table(url: str, schema: str, open_store: Callable[..., PgVectors]) -> None:
    store = open_store()
    put(store, np.arange(3), unit(3))
    store.drop(NAME)
    with psycopg.connect(url) as server:
        tables = server.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,)).fetchall()
    assert tables == [("shards",)]
    put(store, np.arange(2), unit(2))
    assert store.count(NAME) == open_store().count(NAME) == 2


def test_a_lost_connection_is_made_again_and_a_lost_server_is_a_storage_error(
    tmp_path: Path, url: str, open_store: Callable[..., PgVectors]
) -> None:
    store = open_store()
    put(store, np.arange(3), unit(3))
    with psycopg.connect(url, autocommit=True) as server:
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    with pytest.raises(emm.StorageError) as caught:
        store.count(NAME)
    assert caught.value.exit_code == 6 and url not in str(caught.value)
    assert store.count(NAME) == 3
    gone = PgVectors(f"postgresql://someone:secret@/x?host={tmp_path}", "emm", DIM, FINGERPRINT)
    with pytest.raises(emm.StorageError) as caught:
        gone.count(NAME)
    assert "secret" not in str(caught.value) and "someone" not in str(caught.value)


def test_an_archive_uses_the_server_that_is_named(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, make_documents: Callable[..., list[Document]]
) -> None:
    run = Scope.parse("lab:code/debian/host")
    monkeypatch.setenv("EMM_VECTORS", url)
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(make_documents(30), run)
        (status,) = archive.tree()
        assert status.vectors == status.passages > 0
        answer = archive.ask("seal leak of the pump", run)
    assert answer.citations and answer.vector_only
    assert not (tmp_path / "a" / "vectors").exists()
    monkeypatch.delenv("EMM_VECTORS")
    with Archive.open(tmp_path / "a") as archive:  # without the server: embedded again, the same answer
        again = archive.ask("seal leak of the pump", run)
    assert (again.context, again.citations) == (answer.context, answer.citations)


def test_vectors_longer_than_the_server_takes_are_refused() -> None:
    with pytest.raises(emm.InputError):
        PgVectors("postgresql://", "emm", 16_001, FINGERPRINT)
