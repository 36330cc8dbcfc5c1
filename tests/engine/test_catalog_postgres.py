"""A catalog on a real PostgreSQL server: the same answers, and what only a server can do to an archive.

Red when: a question is answered otherwise than from a file; a password is written down; a folder is joined to the
catalog of another archive; two writers undo each other; a lost connection or a missing right ends in a traceback; an
older catalog stays behind.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

import emm
from emm_engine import Archive, CatalogError, Document, Label, Scope
from emm_engine.catalog import place
from emm_engine.catalog.migrations import MIGRATIONS
from emm_engine.catalog.portable import for_postgresql, statements
from emm_engine.catalog.postgres import PostgresDatabase, parsed, without_secrets
from emm_engine.catalog.schema import SCHEMA_VERSION
from emm_engine.catalog.search import CatalogReader, match_expression
from tests.engine.test_recovery import MOMENTS, ingest_in_child

Make = Callable[..., list[Document]]
Fresh = Callable[[], str]
RUN = Scope("lab", "code", "debian", "host")
QUESTIONS = (
    "pump valve pressure",
    "which locales fail in the archives of tar?",
    "person 2",
    "was it reverted",
    "leaks",
)


def spoken(archive: Archive, question: str, as_of: str | None = None) -> dict[str, object]:
    """An answer without its timings."""
    answer = archive.ask(question, RUN, k=30, token_budget=99_999, as_of=as_of)
    fields: dict[str, object] = json.loads(answer.to_json())
    del fields["timings_ms"]
    return fields


def test_both_catalogs_give_the_same_answers(tmp_path: Path, make_documents: Make, fresh_url: Fresh) -> None:
    """To the last digit of every score. Red when words, ranking, order or dates differ between the two."""
    versions = [
        Document("n", "Über-note", f"Der Rotor (rotor, ROTORS) is {word}; 100 % naïve.", f"200{at}-01-01T00:00:00Z",
                 (Label("Metal", word), Label("metal", word)), "n")
        for at, word in enumerate(("brass", "steel"), 1)
    ]  # fmt: skip
    with (
        Archive.create(tmp_path / "file") as file,
        Archive.create(tmp_path / "server", catalog=fresh_url()) as server,
    ):
        for archive in (file, server):
            archive.ingest([*make_documents(60), versions[0]], RUN)
            archive.ingest([versions[1], *make_documents(20, seed=4)], RUN)
        for question in (*QUESTIONS, "rotor uber naive brass", "the", "%s ? 'x' \\ \"", "ROTORS rotors"):
            assert spoken(server, question) == spoken(file, question)
            assert spoken(server, question, "2004-06") == spoken(file, question, "2004-06")
        assert server.tree() == file.tree()
        assert not (tmp_path / "server" / "catalog.sqlite").exists()


def test_words_and_scores_are_those_of_fts5(tmp_path: Path, fresh_url: Fresh) -> None:
    """Also for a word repeated more often than PostgreSQL counts positions, and for one in most passages."""
    texts = ["pump " * 300, "pumps pumping PUMPED é e\u0301 ﬁ 日本語", "seal", "a_b c-d e.f", "", "\U0001f600 pump"]
    documents = [Document(f"pump/{at}", f"title pump {at}", text + " x") for at, text in enumerate(texts)]
    found = []
    for name, url in (("file", None), ("server", fresh_url())):
        with Archive.create(tmp_path / name, catalog=url) as archive:
            archive.ingest(documents, RUN)
            catalog = place.open_catalog(tmp_path / name)
            reader = CatalogReader(catalog, 1, catalog.runs(RUN), None)
            scores = [
                reader.lexical_scores(match_expression(question))
                for question in ("pump", "pumped seal", "é 日本語", "title pump 3", "b f", "zebra", "pump pumps")
            ]
            every = catalog.fulltext.scores(1, '"pump" AND "x" AND "seal"', "passages.tenant_id = ?", [1])
            found.append([*scores, every])
            catalog.close()
    assert found[0] == found[1]
    assert len(found[0][0]) == 7 and len(found[0][-1]) == 1


def test_an_archive_remembers_its_server_but_no_password(
    tmp_path: Path, make_documents: Make, fresh_url: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fresh_url()
    secret = url.replace("postgres:@", "postgres:hunter2@") + "&password=hunter3"
    monkeypatch.setenv(place.VARIABLE, secret)
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(make_documents(5), RUN)
    for path in (tmp_path / "a").rglob("*"):
        assert path.is_dir() or b"hunter" not in path.read_bytes()
    with Archive.open(tmp_path / "a") as archive:  # by the variable
        assert archive.scopes() == [RUN]
    monkeypatch.delenv(place.VARIABLE)
    with Archive.open(tmp_path / "a") as archive:  # by what it remembers
        assert archive.scopes() == [RUN]
    monkeypatch.setenv(place.VARIABLE, "postgresql://nobody@localhost:1/nothing")
    Archive.create(tmp_path / "b", catalog=fresh_url()).close()  # what is said wins
    with pytest.raises(emm.StorageError) as caught:
        Archive.open(tmp_path / "a")
    assert caught.value.exit_code == 6 and "nobody@localhost:1" in str(caught.value)


def test_a_catalog_belongs_to_one_archive(tmp_path: Path, fresh_url: Fresh) -> None:
    """Red when a second archive writes into the tables of the first, or a folder opens another's catalog."""
    one, two = fresh_url(), fresh_url()
    Archive.create(tmp_path / "one", catalog=one).close()
    with pytest.raises(emm.ExistsError, match="another archive"):
        Archive.create(tmp_path / "again", catalog=one)
    Archive.create(tmp_path / "again", catalog=two).close()  # the refused one left nothing in its way
    with pytest.raises(CatalogError, match="is another archive's"):
        Archive.open(tmp_path / "one", catalog=two)
    with pytest.raises(CatalogError, match="holds no catalog"):
        Archive.open(tmp_path / "one", catalog=fresh_url())
    (tmp_path / "one" / "catalog.json").write_text("[" * 100_000)
    with pytest.raises(CatalogError, match="cannot read where"):
        Archive.open(tmp_path / "one")


def test_a_creation_killed_after_its_tables_goes_on(tmp_path: Path, fresh_url: Fresh) -> None:
    url = fresh_url()
    child = os.fork()
    if child == 0:
        PostgresDatabase.migrate = lambda self: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
        Archive.create(tmp_path / "a", catalog=url)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    with pytest.raises(emm.MissingError):
        Archive.open(tmp_path / "a")
    with Archive.create(tmp_path / "a", catalog=url) as archive:
        assert archive.tree() == []
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["catalog.json"]


@pytest.mark.parametrize("moment", ["after text", "first batch written, not settled"])
def test_killed_anywhere_the_next_ingest_goes_on(
    moment: str, tmp_path: Path, make_documents: Make, fresh_url: Fresh
) -> None:
    documents = make_documents(60)
    Archive.create(tmp_path / "killed", catalog=fresh_url()).close()
    assert ingest_in_child(tmp_path / "killed", documents, MOMENTS[moment]) == signal.SIGKILL
    with Archive.create(tmp_path / "direct") as direct, Archive.open(tmp_path / "killed") as resumed:
        direct.ingest(documents, RUN)
        assert resumed.ingest(documents, RUN).pending == 0
        assert resumed.tree() == direct.tree()
        assert spoken(resumed, QUESTIONS[0]) == spoken(direct, QUESTIONS[0])


def test_writers_of_two_runs_take_turns(tmp_path: Path, make_documents: Make, fresh_url: Fresh) -> None:
    """They share the tenant's labels and words: without turns both make the same label, and one is refused."""
    Archive.create(tmp_path / "a", catalog=fresh_url()).close()
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            with Archive.open(tmp_path / "a") as archive:
                for seed in range(3):
                    archive.ingest(make_documents(8, seed=seed), Scope("lab", "code", "debian", f"run{number}"))
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    with Archive.open(tmp_path / "a") as archive:
        assert [(run.documents, run.pending) for run in archive.tree()] == [(24, 0)] * 3


def test_a_lost_connection_is_told_and_made_anew(tmp_path: Path, make_documents: Make, fresh_url: Fresh) -> None:
    url = fresh_url()
    with Archive.create(tmp_path / "a", catalog=url) as archive:
        archive.ingest(make_documents(10), RUN)
        before = spoken(archive, "pump")
        with psycopg.connect(url, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        with pytest.raises(emm.StorageError) as caught:
            archive.ask("pump", RUN)
        assert caught.value.exit_code == 6
        assert spoken(archive, "pump") == before
        assert archive.ingest(make_documents(5, seed=2), RUN).documents == 5


def test_who_may_only_read_asks_all_the_same(tmp_path: Path, make_documents: Make, fresh_url: Fresh) -> None:
    url = fresh_url()
    with Archive.create(tmp_path / "a", catalog=url) as archive:
        archive.ingest(make_documents(20), RUN)
        before = spoken(archive, "pump valve")
    with psycopg.connect(url, autocommit=True) as server:
        schema = server.execute("SELECT current_schema()").fetchone()[0]  # type: ignore[index]
        server.execute("DROP ROLE IF EXISTS reader")
        server.execute("CREATE ROLE reader LOGIN")
        server.execute(f"GRANT USAGE ON SCHEMA {schema} TO reader")
        server.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader")
    with Archive.open(tmp_path / "a", catalog=url.replace("//postgres:@", "//reader@")) as reader:
        assert spoken(reader, "pump valve") == before
        with pytest.raises(emm.StorageError, match="may not be written"):
            reader.ingest(make_documents(1, seed=9), Scope("new", "code", "p", "r"))
    with psycopg.connect(url, autocommit=True) as server:
        server.execute("DROP OWNED BY reader")
        server.execute("DROP ROLE reader")


def test_an_older_catalog_becomes_one_of_the_newest(tmp_path: Path, fresh_url: Fresh) -> None:
    url = fresh_url()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emm_engine.catalog.postgres.SCHEMA_VERSION", 1)
        Archive.create(tmp_path / "a", catalog=url).close()
    Archive.open(tmp_path / "a").close()
    with psycopg.connect(url, autocommit=True) as server:
        assert server.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone() == (
            str(SCHEMA_VERSION),
        )
        server.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    with pytest.raises(CatalogError, match="another schema") as caught:
        Archive.open(tmp_path / "a")
    assert (caught.value.expected, caught.value.found) == (SCHEMA_VERSION, 99)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("mysql://root@host/db", "mysql"),
        ("not a url", "expected"),
        ("postgresql://host:port/x", "expected"),
        ("postgresql://host/db?passfile=/etc/shadow", "passfile"),
        ("postgresql://host/db?service=x", "service"),
        ("sqlite:///x", "sqlite"),
    ],
)
def test_a_url_that_is_no_servers_is_refused(url: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(emm.InputError, match=word):
        Archive.create(tmp_path / "a", catalog=url)


def test_a_url_is_told_without_its_secrets() -> None:
    told = without_secrets(parsed("postgres://me:s3cret@host:5433/db?password=s3cret&sslmode=require"))
    assert told == "postgresql://me@host:5433/db?sslmode=require"


def test_statements_are_said_to_postgresql() -> None:
    assert for_postgresql("SELECT 'it''s ?%', \"a?\" FROM t WHERE a % ? = end AND x = ?") == (
        "SELECT 'it''s ?%%', \"a?\" FROM t WHERE a %% %s = \"end\" AND x = %s"
    )
    assert for_postgresql("SELECT CASE a WHEN 1 THEN 2 END, end FROM a CROSS JOIN b ON 1 = 1") == (
        'SELECT CASE a WHEN 1 THEN 2 END, "end" FROM a JOIN b ON 1 = 1'
    )
    table = for_postgresql(
        "CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT, b INTEGER PRIMARY KEY REFERENCES u, "
        "text TEXT, c REAL, d BLOB) WITHOUT ROWID"
    )
    assert table == (
        "CREATE TABLE t(a BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, b BIGINT PRIMARY KEY REFERENCES u, "
        'text TEXT COLLATE "C", c DOUBLE PRECISION, d BYTEA) '
    )
    assert statements("a; -- b; c\nd 'x;y';\n") == ["a", "d 'x;y'"]


def test_migrations_are_plain_sql() -> None:
    """Red when a migration uses what only SQLite has; the server above runs them all."""
    for migration in MIGRATIONS:
        for statement in migration:
            assert "OR IGNORE" not in statement and "PRAGMA" not in statement
    assert sqlite3.sqlite_version_info >= (3, 24)  # ON CONFLICT
