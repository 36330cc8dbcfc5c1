"""The catalog's tables, once, and the version they carry.

Purpose: the tables of every catalog, and one place that creates, migrates or refuses one in a file. Invariants: every
row that belongs to a tenant says so in a column; ids are never used twice (AUTOINCREMENT), because vectors and
citations refer to them; each tenant has a full-text table of its own, so no statistic of one tenant's words moves
another's ranking.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from emm import StorageError
from emm_engine.catalog.migrations import MIGRATIONS
from emm_engine.errors import CatalogError
from emm_engine.files import sync_folder

SCHEMA_VERSION = 1 + len(MIGRATIONS)
TOKENIZER = "porter unicode61 remove_diacritics 2"
FULLTEXT_PREFIX = "fulltext_"  # of the tables that are the indexes of words
LEFTOVER_PREFIX = ".catalog-"  # of a catalog whose maker was killed before it had its name

# Version 1, frozen: what came later is in migrations.py, and a new catalog goes the same way as an old one.
TABLES = """
CREATE TABLE meta(
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE tenants(
    tenant_id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE scopes(                    -- one row for each run
    scope_id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id INTEGER NOT NULL REFERENCES tenants,
    domain TEXT NOT NULL,
    project TEXT NOT NULL,
    run TEXT NOT NULL,
    memory_uuid TEXT,                   -- NULL until the run's memory exists
    UNIQUE(tenant_id, domain, project, run)
);
CREATE TABLE documents(                 -- the text, verbatim: everything else is derived from it
    document_id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id INTEGER NOT NULL REFERENCES tenants,
    scope_id INTEGER NOT NULL REFERENCES scopes,
    source TEXT NOT NULL,
    title TEXT NOT NULL,
    date TEXT NOT NULL,                 -- UTC, ISO 8601 to the second; empty = unknown
    version_key TEXT,                   -- what this is a version of
    text TEXT NOT NULL,
    content_sha256 BLOB NOT NULL,
    superseded INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX documents_content ON documents(scope_id, content_sha256) WHERE superseded = 0;
CREATE INDEX documents_version ON documents(scope_id, version_key) WHERE version_key IS NOT NULL;
CREATE TABLE supersessions(
    old_document_id INTEGER PRIMARY KEY REFERENCES documents,
    new_document_id INTEGER NOT NULL REFERENCES documents,
    tenant_id INTEGER NOT NULL REFERENCES tenants
);
CREATE TABLE passages(                  -- text[start:end] of its document, in code points
    passage_id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id INTEGER NOT NULL REFERENCES tenants,
    scope_id INTEGER NOT NULL REFERENCES scopes,
    document_id INTEGER NOT NULL REFERENCES documents,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    text_hash INTEGER NOT NULL          -- first 8 bytes of SHA-256 of what was embedded, as a signed number
);
CREATE INDEX passages_document ON passages(document_id);
CREATE INDEX passages_scope ON passages(scope_id);
CREATE TABLE labels(
    label_id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id INTEGER NOT NULL REFERENCES tenants,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE(tenant_id, kind, name)
);
CREATE TABLE document_labels(           -- as declared by the source
    document_id INTEGER NOT NULL REFERENCES documents,
    label_id INTEGER NOT NULL REFERENCES labels,
    PRIMARY KEY(document_id, label_id)
) WITHOUT ROWID;
CREATE TABLE batches(                   -- one matrix commit each: intended before it, settled after it
    batch_id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id INTEGER NOT NULL REFERENCES tenants,
    scope_id INTEGER NOT NULL REFERENCES scopes,
    kind TEXT NOT NULL CHECK(kind IN ('write', 'unlearn')),
    n_pairs INTEGER NOT NULL,
    write_count_before INTEGER NOT NULL, -- the memory's count of pairs when the batch was intended
    lsn INTEGER                         -- NULL = intended: the memory's own count says whether it was absorbed
);
CREATE UNIQUE INDEX batches_intended ON batches(scope_id) WHERE lsn IS NULL;
CREATE TABLE pairs(                     -- one for each passage: key = its vector, value = its labels' codes
    passage_id INTEGER PRIMARY KEY REFERENCES passages,
    tenant_id INTEGER NOT NULL REFERENCES tenants,
    scope_id INTEGER NOT NULL REFERENCES scopes,
    written_by INTEGER REFERENCES batches,   -- NULL = pending
    unlearned_by INTEGER REFERENCES batches,
    superseded INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX pairs_pending ON pairs(scope_id, passage_id) WHERE written_by IS NULL AND superseded = 0;
CREATE INDEX pairs_stale ON pairs(scope_id, passage_id) WHERE superseded = 1 AND unlearned_by IS NULL;
CREATE INDEX pairs_batch ON pairs(written_by);
CREATE TABLE pair_labels(
    passage_id INTEGER NOT NULL REFERENCES pairs,
    label_id INTEGER NOT NULL REFERENCES labels,
    weight REAL NOT NULL,
    PRIMARY KEY(passage_id, label_id)
) WITHOUT ROWID;
CREATE INDEX pair_labels_label ON pair_labels(label_id, passage_id);
CREATE TABLE embedders(                 -- one for each domain of a tenant
    tenant_id INTEGER NOT NULL REFERENCES tenants,
    domain TEXT NOT NULL,
    provider TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    dim INTEGER NOT NULL,
    n_fitted INTEGER NOT NULL,          -- passages it was fitted on
    PRIMARY KEY(tenant_id, domain)
) WITHOUT ROWID;
"""


def create_catalog(path: Path) -> None:
    """Make an empty SQLite catalog under a temporary name, then give it its own: it appears whole or not at all.

    `FileExistsError` when the name is taken.
    """
    temporary = path.with_name(f"{LEFTOVER_PREFIX}{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        _connect(str(temporary), TABLES + "PRAGMA user_version = 1;").close()
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def connect(path: Path) -> sqlite3.Connection:
    """A connection in WAL mode that is durable at every commit; the schema is checked.

    Where nothing may be written (a read-only medium, somebody else's archive) it reads only. SQLite cannot make the
    files beside the catalog there that readers and writers share, so a catalog without a log is taken as immutable.
    """
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return _connect(str(path), "")
    log = path.with_name(path.name + "-wal")
    immutable = "" if log.exists() and log.stat().st_size else "&immutable=1"
    return _connect(f"{path.absolute().as_uri()}?mode=ro{immutable}", "", read_only=True)


def _connect(path: str, script: str, *, read_only: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=30.0, uri=read_only)
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten with zeros
        connection.execute("PRAGMA cache_size = -65536")
        if script:
            connection.executescript(f"BEGIN IMMEDIATE; {script} COMMIT;")
        if not read_only:
            _migrate(connection)
        found = _version(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            # a full disk, a lock that is not given up: nothing is known to be damaged
            raise StorageError("the catalog cannot be opened", file=path, found=str(error)) from error
        raise CatalogError("the catalog cannot be read", file=path, found=str(error)) from error
    if found != SCHEMA_VERSION:  # a newer one; or an older one on a medium that cannot be written
        connection.close()
        raise CatalogError("the catalog has another schema", file=path, expected=SCHEMA_VERSION, found=found)
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring an older catalog up to date, one version a transaction; another process may be doing the same."""
    while 1 <= (found := _version(connection)) < SCHEMA_VERSION:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection) == found:
                for statement in MIGRATIONS[found - 1]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {found + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def fulltext_table(tenant_id: int) -> str:
    """Name of a tenant's full-text table."""
    return f"{FULLTEXT_PREFIX}{int(tenant_id)}"


def create_fulltext(tenant_id: int) -> str:
    """The statement for a tenant's index over source, title and passage, which keeps no second copy of the text."""
    return (
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {fulltext_table(tenant_id)} USING fts5("
        f"source, title, body, content='', tokenize='{TOKENIZER}')"
    )
