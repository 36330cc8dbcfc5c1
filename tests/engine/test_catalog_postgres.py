"""A catalog on a real PostgreSQL server: the same answers all through an archive's life, and what only a server can do.

Red when: a question is answered otherwise than from a file; what was acknowledged is lost; a password is written down
or told; a folder is joined to the catalog of another archive; two writers undo each other; a lost connection, a server
that is not there or a missing right ends in anything but one sentence; an older catalog stays behind.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import emm
from emm_engine import Archive, CatalogError, Document, Label, Scope
from emm_engine.catalog import place
from emm_engine.catalog.migrations import MIGRATIONS
from emm_engine.catalog.portable import for_postgresql, statements
from emm_engine.catalog.postgres import PostgresDatabase
from emm_engine.catalog.schema import SCHEMA_VERSION
from emm_engine.catalog.server_url import parsed, without_secrets
from emm_engine.hierarchy import Shape
from emm_engine.renewal.selection import Selection
from emm_engine.settings import SHARING_DREAM
from tests.engine.dream_life import dreams
from tests.engine.postgres_server import new_database, schema_of, told
from tests.engine.test_recovery import MOMENTS, ingest_in_child

Make = Callable[..., list[Document]]
RUN = Scope("lab", "code", "debian", "host")
DOMAIN = Scope("lab", "lathe")  # of a life: a domain with small memories
HOME = Scope("lab", "lathe", "debian", "host")
OTHER = Scope("lab", "lathe", "debian", "other")
MOVED = Scope("lab", "lathe", "ubuntu", "host")
GUEST = Scope("guest", "lathe", "debian", "host")
QUESTIONS = ("which valves fail in the archives of tar?", "ROTORS rotor uber naive brass %s ? 'x' \\ \"", "the")
EXACT = 1e-9


@pytest.fixture(autouse=True)
def no_server_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(place.VARIABLE, raising=False)


def spoken(archive: Archive, question: str, scope: Scope = RUN, as_of: str | None = None) -> dict[str, object]:
    """An answer without its timings."""
    answer = archive.ask(question, scope, k=30, token_budget=99_999, as_of=as_of)
    fields: dict[str, object] = json.loads(answer.to_json())
    del fields["timings_ms"]
    return fields


def state(archive: Archive) -> dict[str, object]:
    """All that an archive tells: answers of every scope, its tree, its matrices, what a check finds."""
    answers = {
        f"{question} in {scope} as of {moment}": spoken(archive, question, scope, moment)
        for question, scopes, moment in (
            *((question, [DOMAIN], None) for question in QUESTIONS),
            (QUESTIONS[0], archive.scopes(), None),
            (QUESTIONS[1], [DOMAIN], "2004-06"),
        )
        for scope in scopes
    }
    matrices = {}
    for scope in archive.scopes():
        with emm.open(str(archive.memory_path(scope))) as memory:
            matrices[str(scope)] = memory.digest
    return {"answers": answers, "tree": archive.levels(), "matrices": matrices, "check": list(archive.check())}


def assert_same(ours: object, theirs: object, where: str = "") -> None:
    """Equal, and numbers to 1e-9."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        assert list(ours) == list(theirs), where
        for key in theirs:
            assert_same(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(theirs, list) and isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for at, (one, two) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(one, two, f"{where}/{at}")
    elif isinstance(theirs, float) and isinstance(ours, float):
        assert abs(ours - theirs) <= EXACT, where
    else:
        assert ours == theirs, where


def life(path: Path, catalog: str, make_documents: Make) -> Iterator[tuple[str, dict[str, object]]]:
    """What an archive tells after each thing that is done to it."""
    versions = [
        Document("n", f"Über-note {word}", f"Der Rotor (rotor, ROTORS) is {word}; 100 % naïve.",
                 f"200{at}-01-01T00:00:00Z", (Label("Metal", word), Label("metal", word)), "n")
        for at, word in enumerate(("brass", "steel", "glass"), 1)
    ]  # fmt: skip
    with Archive.create(path, catalog=catalog) as archive:
        archive.domains.add(DOMAIN.domain, Shape(64, 128))
        archive.ingest([*make_documents(50), versions[0]], HOME)
        archive.ingest([versions[1], *make_documents(15, seed=4)], HOME)
        archive.ingest(make_documents(12, seed=5), OTHER)
        archive.ingest(make_documents(15, seed=6), GUEST)
        yield "ingested", state(archive)
        forgotten = archive.forget(Selection(queries=("seal leak", "brass"), scope=DOMAIN))
        yield "forgotten", {**state(archive), "pairs": forgotten.pairs, "revived": forgotten.revived}
        purged = archive.forget(Selection(sources=("pump/*",), scope=OTHER), purge=True, block=True)
        assert purged.trace is not None and purged.trace.clean
        archive.ingest(make_documents(12, seed=5), OTHER)
        yield "purged", {**state(archive), "hashes": purged.content_sha256}
        archive.settings.set(DOMAIN, SHARING_DREAM, True)
        archive._catalog.add_documents(archive._catalog.runs(HOME)[0], [versions[2]])  # and not in the matrix
        found = [(report.scope, report.outcome) for report in dreams(archive)]
        yield "dreamt", {**state(archive), "reports": found}
        archive.rebuild(DOMAIN)
        archive.close_scope(OTHER)
        archive.move(HOME, MOVED)
        yield "rebuilt and moved", state(archive)
        archive.reembed(DOMAIN, "lsa")
        archive.export(Scope("lab", DOMAIN.domain, "ubuntu"), path.with_name(f"{path.name} exported"))
        archive.forget_tenant("guest")
        archive.import_from(path.with_name(f"{path.name} exported"), Scope("friend", DOMAIN.domain, "ubuntu"))
        yield "exported and imported", state(archive)
    with Archive.open(path) as archive:
        yield "opened again", state(archive)


def test_both_catalogs_tell_the_same_all_through_a_life(tmp_path: Path, make_documents: Make, postgres: str) -> None:
    """The same passages in the same order, and scores to 1e-9; matrices to the bit."""
    file = life(tmp_path / "file", place.IN_THE_FOLDER, make_documents)
    server = life(tmp_path / "server", postgres, make_documents)
    for (step, theirs), (_, ours) in zip(file, server, strict=True):
        assert theirs["check"] == [], step
        assert_same(ours, theirs, step)
    assert not (tmp_path / "server" / place.EMBEDDED_NAME).exists()


# --- nothing is lost ----------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["after text", "first batch written, not settled"])
def test_killed_anywhere_the_next_ingest_goes_on(
    moment: str, tmp_path: Path, make_documents: Make, postgres: str
) -> None:
    documents = make_documents(40)
    Archive.create(tmp_path / "killed", catalog=postgres).close()
    assert ingest_in_child(tmp_path / "killed", documents, MOMENTS[moment]) == signal.SIGKILL
    with Archive.create(tmp_path / "direct") as direct, Archive.open(tmp_path / "killed") as resumed:
        direct.ingest(documents, RUN)
        assert resumed.ingest(documents, RUN).pending == 0
        assert resumed.tree() == direct.tree()
        assert spoken(resumed, QUESTIONS[0]) == spoken(direct, QUESTIONS[0])


def test_what_was_acknowledged_outlives_a_kill_from_outside(
    tmp_path: Path, make_documents: Make, postgres: str
) -> None:
    documents = make_documents(400)
    Archive.create(tmp_path / "a", catalog=postgres).close()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with Archive.open(tmp_path / "a") as archive:
            for at in range(0, len(documents), 4):
                archive.ingest(documents[at : at + 4], RUN)
                os.write(writing, b"4")
        os._exit(0)
    os.close(writing)
    acknowledged = 4 * len(os.read(reading, 1)) + 4 * len(os.read(reading, 1))
    time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    while more := os.read(reading, 4096):
        acknowledged += 4 * len(more)
    os.close(reading)
    with Archive.open(tmp_path / "a") as archive:
        (run,) = archive.tree()
        assert acknowledged <= run.documents < len(documents)
        archive.ingest(documents[:acknowledged], RUN)
        (run,) = archive.tree()
        assert run.pending == 0 and list(archive.check()) == []


def test_writers_of_two_runs_take_turns(tmp_path: Path, make_documents: Make, postgres: str) -> None:
    """They share the tenant's labels and words: without turns both make the same label, and one is refused."""
    Archive.create(tmp_path / "a", catalog=postgres).close()
    children = []
    for number in range(2):
        child = os.fork()
        if child == 0:
            with Archive.open(tmp_path / "a") as archive:
                for seed in range(3):
                    archive.ingest(make_documents(6, seed=seed), Scope("lab", "code", "debian", f"run{number}"))
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    with Archive.open(tmp_path / "a") as archive:
        assert [(run.documents, run.pending) for run in archive.tree()] == [(18, 0)] * 2


def test_a_purge_leaves_nothing_in_the_tables(tmp_path: Path, make_documents: Make, postgres: str) -> None:
    """Neither in rows nor in what the planner has noted of them; the server's own log is its keeper's."""
    url = new_database(postgres)
    secret = Document("vault/1", "zymurgic", "The zymurgic quicksilver is below the hearth.")
    with Archive.create(tmp_path / "a", catalog=url) as archive:
        archive.ingest([*make_documents(10), secret], RUN)
        told(url, "ANALYZE", "CHECKPOINT")
        assert holders(url, b"zymurgic")
        archive.forget(Selection(sources=("vault/*",)), purge=True)
        told(url, "CHECKPOINT")
        assert holders(url, b"zymurgic") == []


def holders(url: str, needle: bytes) -> list[str]:
    """The files of a database that hold some bytes."""
    ((data, folder),) = told(
        url,
        "SELECT current_setting('data_directory'), oid::text FROM pg_database WHERE datname = current_database()",
    )
    files = (path for path in Path(str(data), "base", str(folder)).iterdir() if path.is_file())
    return [path.name for path in files if needle in path.read_bytes()]


# --- which catalog ------------------------------------------------------------------------------


def test_an_archive_remembers_its_server_but_no_password(
    tmp_path: Path, make_documents: Make, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = postgres.replace("postgres:@", "postgres:hunter2@") + "&password=hunter3"
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
    monkeypatch.setenv(place.VARIABLE, "postgresql://nobody:hunter2@localhost:1/nothing")
    Archive.create(tmp_path / "b", catalog=postgres).close()  # what is said wins
    with pytest.raises(emm.StorageError, match="cannot be reached") as caught:
        Archive.open(tmp_path / "a")
    assert caught.value.exit_code == 6 and "nobody@localhost:1" in str(caught.value)
    assert "hunter" not in str(caught.value)


def test_archives_of_one_server_share_nothing(tmp_path: Path, make_documents: Make, postgres: str) -> None:
    """Red when a second archive writes into the tables of the first, or a folder opens another's catalog."""
    for name in ("one", "two"):
        with Archive.create(tmp_path / name, catalog=postgres) as archive:
            archive.ingest(make_documents(4, seed=len(name + name[0])), Scope("lab", "code", "p", name))
    assert schema_of(tmp_path / "one") != schema_of(tmp_path / "two")
    for name in ("one", "two"):
        with Archive.open(tmp_path / name) as archive:
            assert [scope.run for scope in archive.scopes()] == [name]
    with pytest.raises(CatalogError, match="holds no catalog of this archive"):
        Archive.open(tmp_path / "one", catalog=new_database(postgres))
    with pytest.raises(emm.ExistsError):
        Archive.create(tmp_path / "one", catalog=postgres)
    with pytest.raises(emm.InputError, match="not an exported one"), Archive.open(tmp_path / "one") as archive:
        archive.import_from(tmp_path / "two")  # it could name any server
    for link in ("[" * 100_000, '{"format": 1, "catalog": "postgresql://x/y", "archive": "\\"; DROP"}', "{}"):
        (tmp_path / "one" / place.LINK_NAME).write_text(link)
        with pytest.raises(CatalogError, match="cannot read where"):
            Archive.open(tmp_path / "one")


def test_a_creation_killed_after_its_tables_goes_on(tmp_path: Path, postgres: str) -> None:
    child = os.fork()
    if child == 0:
        PostgresDatabase.migrate = lambda self: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
        Archive.create(tmp_path / "a", catalog=postgres)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    with pytest.raises(emm.MissingError):
        Archive.open(tmp_path / "a")
    (pending,) = (tmp_path / "a").iterdir()
    with Archive.create(tmp_path / "a", catalog=postgres) as archive:
        assert archive.tree() == []
    assert [path.name for path in (tmp_path / "a").iterdir()] == [place.LINK_NAME]
    assert schema_of(tmp_path / "a").removeprefix("emm_") in pending.name  # what was begun was ended


def test_an_older_catalog_becomes_one_of_the_newest(tmp_path: Path, postgres: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emm_engine.catalog.postgres.SCHEMA_VERSION", 1)
        Archive.create(tmp_path / "a", catalog=postgres).close()
    meta = f"{schema_of(tmp_path / 'a')}.meta"
    Archive.open(tmp_path / "a").close()
    assert told(postgres, f"SELECT value FROM {meta} WHERE key = 'schema_version'") == [(str(SCHEMA_VERSION),)]
    told(postgres, f"UPDATE {meta} SET value = '99' WHERE key = 'schema_version'")
    with pytest.raises(CatalogError, match="another schema") as caught:
        Archive.open(tmp_path / "a")
    assert (caught.value.expected, caught.value.found) == (SCHEMA_VERSION, 99)


# --- what goes wrong ----------------------------------------------------------------------------


def test_a_lost_connection_is_told_and_made_anew(tmp_path: Path, make_documents: Make, postgres: str) -> None:
    with Archive.create(tmp_path / "a", catalog=postgres) as archive:
        archive.ingest(make_documents(10), RUN)
        before = spoken(archive, "pump")
        told(
            postgres,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        )
        with pytest.raises(emm.StorageError) as caught:
            archive.ask("pump", RUN)
        assert caught.value.exit_code == 6
        for _ in range(3):  # each of its connections may have to find out
            try:
                assert spoken(archive, "pump") == before
                break
            except emm.StorageError:
                continue
        assert spoken(archive, "pump") == before
        assert archive.ingest(make_documents(5, seed=2), RUN).documents == 5


def test_who_may_only_read_asks_all_the_same(tmp_path: Path, make_documents: Make, postgres: str) -> None:
    with Archive.create(tmp_path / "a", catalog=postgres) as archive:
        archive.ingest(make_documents(20), RUN)
        before = spoken(archive, "pump valve")
    schema = schema_of(tmp_path / "a")
    told(
        postgres,
        "CREATE ROLE reader LOGIN",
        f"GRANT USAGE ON SCHEMA {schema} TO reader",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader",
    )
    with Archive.open(tmp_path / "a", catalog=postgres.replace("//postgres:@", "//reader@")) as reader:
        assert spoken(reader, "pump valve") == before
        with pytest.raises(emm.StorageError, match="may not be written"):
            reader.ingest(make_documents(1, seed=9), Scope("new", "code", "p", "r"))
    told(postgres, "DROP OWNED BY reader", "DROP ROLE reader")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("mysql://root:hunter2@host/db", "mysql"),
        ("not a url", "expected"),
        ("postgresql://me:hunter2@host:port/x", "expected"),
        ("postgresql://host/db?passfile=/etc/shadow", "passfile"),
        ("postgresql://host/db?service=x", "service"),
        ("postgresql://host/db?options=-csearch_path%3Dother", "options"),
        ("sqlite:///x", "sqlite"),
    ],
)
def test_a_url_that_is_no_servers_is_refused(url: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(emm.InputError, match=word) as caught:
        Archive.create(tmp_path / "a", catalog=url)
    assert "hunter" not in str(caught.value)


def test_a_url_is_told_without_its_secrets() -> None:
    url = without_secrets(parsed("postgres://me:s3cret@host:5433/db?password=s3cret&sslmode=require"))
    assert url == "postgresql://me@host:5433/db?sslmode=require"


# --- one SQL for both ---------------------------------------------------------------------------


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
