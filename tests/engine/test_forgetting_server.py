"""Forgetting where the vectors are on a PostgreSQL server with pgvector, which the tests start.

Red when: the server, or a file from before the server was named, still holds a vector of a forgotten text, its name, or
of a tenant that is gone; or what nobody asked to forget goes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pgserver
import psycopg
import pytest
from psycopg import sql

import emm
from emm_engine import Archive, Document, Scope, Selection
from tests.engine.test_forgetting import FOREIGN, RUN, SECRET, holders, needles_of, passages_of, told
from tests.engine.test_reembed import rows_of_a_table

Make = Callable[..., list[Document]]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = pgserver.get_server(tmp_path_factory.mktemp("pg"))
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(autouse=True)
def named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is the one that archives use."""
    monkeypatch.setenv("EMM_VECTORS", url)


def shards(url: str) -> dict[str, list[tuple[int, bytes]]]:
    """{namespace: its (id, vector)} of all archives and models on the server."""
    found: dict[str, list[tuple[int, bytes]]] = {}
    with psycopg.connect(url) as server:
        for (schema,) in server.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'shards'").fetchall():
            listed = sql.SQL("SELECT namespace, shard FROM {}").format(sql.Identifier(schema, "shards"))
            for namespace, shard in server.execute(listed).fetchall():
                table = sql.Identifier(schema, f"vectors_{shard}")
                rows = server.execute(sql.SQL("SELECT id, embedding::text FROM {}").format(table)).fetchall()
                found.setdefault(namespace, []).extend((row[0], row[1].encode()) for row in rows)
    return found


def clear(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as server:
        for (schema,) in server.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'shards'").fetchall():
            server.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


@pytest.mark.parametrize("purge", [False, True])
def test_passages_leave_the_server(purge: bool, tmp_path: Path, url: str, make_documents: Make) -> None:
    """A document, and a row of a table with its key; with a purge the model is another, and all vectors with it."""
    clear(url)
    path = tmp_path / "had"
    rows = rows_of_a_table(6)
    with Archive.create(path) as had, Archive.create(tmp_path / "never") as never:
        had.ingest([*make_documents(25), SECRET, *rows], RUN)
        before = shards(url)
        never.ingest([*make_documents(25), *rows[1:]], RUN)
        expected = told(never, RUN, False)
        ids = {*passages_of(path, SECRET.source), passages_of(path, "t.csv")[0]}
        theirs = {name: len(found) for name, found in before.items()}
        assert len(ids & set(dict(before[str(RUN)]))) == 4 and len(ids & set(dict(before[f"{RUN}/_keys"]))) == 1
        had.forget(Selection(pairs=tuple(ids)), purge=purge)
        never.forget_tenant("lab")
        after = shards(url)
        assert {name: len(found) for name, found in after.items()} == {
            str(RUN): theirs[str(RUN)] - 4,
            f"{RUN}/_keys": theirs[f"{RUN}/_keys"] - 1,
        }
        assert not any(ids & set(dict(found)) for found in after.values())
        if purge:
            assert told(had, RUN, False) == expected
        assert list(had.check()) == []


def test_a_tenant_leaves_the_server(tmp_path: Path, url: str, make_documents: Make) -> None:
    """Its files went, and its vectors stayed on the server for ever, under its name."""
    clear(url)
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest([*make_documents(20), *rows_of_a_table(4)], FOREIGN)
        archive.ingest([*make_documents(20), *rows_of_a_table(4)], RUN)
        before = shards(url)
        assert {str(FOREIGN), f"{FOREIGN}/_keys"} < set(before)
        archive.forget_tenant("guest", purge=True)
        assert shards(url) == {name: rows for name, rows in before.items() if name.startswith("lab:")}
        assert list(archive.check()) == []


def test_another_model_leaves_nothing_of_the_old_one(tmp_path: Path, url: str, make_documents: Make) -> None:
    """After a change of embedder the old vectors were of no use to anybody, and no forgetting would have found them."""
    clear(url)
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(make_documents(20), RUN)
        archive.ingest([SECRET, *rows_of_a_table(4)], RUN)
        old = {vector for rows in shards(url).values() for _, vector in rows}
        assert archive.reembed(Scope("lab", "code"), "lsa").changed
        new = shards(url)
        assert not old & {vector for rows in new.values() for _, vector in rows}
        (status,) = archive.tree()
        assert len(new[str(RUN)]) == status.passages
        archive.forget_tenant("lab", purge=True)
        assert shards(url) == {}


def test_files_from_before_the_server_was_named_forget_too(
    tmp_path: Path, url: str, make_documents: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    monkeypatch.delenv("EMM_VECTORS")
    with Archive.create(path) as archive:
        archive.ingest([*make_documents(25), SECRET], RUN)
    needles = needles_of(path, RUN, passages_of(path, SECRET.source))
    monkeypatch.setenv("EMM_VECTORS", url)
    with Archive.open(path) as archive:
        archive.ingest(make_documents(5, seed=3), RUN)
        archive.forget(Selection(sources=("vault/*",)), purge=True)
        assert holders(path, needles) == set()


def test_a_server_that_is_gone_stops_a_forgetting_before_it_begins(
    tmp_path: Path, make_documents: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest([*make_documents(20), SECRET], RUN)
        before = archive.tree()
    monkeypatch.setenv("EMM_VECTORS", f"postgresql://x@/x?host={tmp_path}")
    with Archive.open(tmp_path / "a") as archive:
        for act in (
            lambda: archive.forget(Selection(sources=("vault/*",))),
            lambda: archive.forget_tenant("lab"),
        ):
            with pytest.raises(emm.StorageError):
                act()
        assert archive.finish_forgetting() == 0
        assert archive._catalog.query("SELECT count(*) FROM documents") == [(before[0].documents,)]
