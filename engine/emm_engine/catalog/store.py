"""The archive's catalog: tenants, runs, documents and passages.

Purpose: the durable text. Everything else (vectors, matrices, full-text index) is derived from it. Invariants:
a transaction is on disk when it returns; the same title and text twice in a run is
one document; a new text under a known version key supersedes the old one and never overwrites it; every query
is bound to one tenant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emm_engine.catalog.database import Database, Row
from emm_engine.catalog.sqlite import SqliteDatabase
from emm_engine.catalog.textindex import Entry, FullText
from emm_engine.chunking import passages
from emm_engine.documents import Document, Label, Marked, Passage, embedded_text, text_hash
from emm_engine.errors import CatalogError
from emm_engine.extraction.spans import document_labels
from emm_engine.hierarchy import Scope

IDS_PER_PAGE = 20_000
IDS_PER_STATEMENT = 500
ID_MAX = 2**63 - 1
LABELS_HELD_MAX = 50_000  # ids in memory: every title is a label, and there is one for each document


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the catalog knows it."""

    scope_id: int
    tenant_id: int
    scope: Scope
    memory_uuid: str | None


@dataclass(frozen=True, slots=True)
class Added:
    """What one transaction of documents did."""

    documents: int = 0
    duplicates: int = 0
    empty: int = 0
    superseded: int = 0
    passages: int = 0
    blocked: int = 0

    def __add__(self, other: Added) -> Added:
        return Added(
            self.documents + other.documents,
            self.duplicates + other.duplicates,
            self.empty + other.empty,
            self.superseded + other.superseded,
            self.passages + other.passages,
            self.blocked + other.blocked,
        )


class Catalog:
    """An open catalog, in a file or on a server. One thread; any number of processes."""

    def __init__(self, where: Path | Database) -> None:
        self._database = where if isinstance(where, Database) else SqliteDatabase(where)
        self._label_ids: dict[tuple[int, Label], int] = {}
        self._labels_seen = -1

    def close(self) -> None:
        self._database.close()

    def again(self) -> Catalog:
        """The same catalog over another connection, for another thread."""
        return Catalog(self._database.again())

    # --- plumbing --------------------------------------------------------------------------------

    @property
    def database(self) -> Database:
        return self._database

    @property
    def fulltext(self) -> FullText:
        """Search by words."""
        return self._database.fulltext

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows of a statement in SQLite's dialect (`portable`); a failing medium raises `StorageError`."""
        return self._database.query(sql, parameters)

    def query_among(self, sql: str, ids: Sequence[Any], before: Sequence[Any] = ()) -> Iterator[Row]:
        """The rows for any number of ids, a few hundred a statement: `sql` says `IN (…)` once.

        `before` are the parameters that stand before it. Rows of one statement are in its order.
        """
        for low in range(0, len(ids), IDS_PER_STATEMENT):
            part = ids[low : low + IDS_PER_STATEMENT]
            yield from self.query(sql.replace("(…)", f"({marks(part)})"), (*before, *part))

    def version(self) -> tuple[int, int]:
        """Changes whenever this or another connection has changed the catalog."""
        return self._database.version()

    def outdate(self) -> None:
        """A new version without a new word: what is derived from it was made again, and readers should look."""
        with self.transaction():
            rows = self.query("SELECT value FROM meta WHERE key = 'outdated'")
            self.executemany("DELETE FROM meta WHERE key = ?", [("outdated",)])
            self.executemany(
                "INSERT INTO meta(key, value) VALUES (?, ?)", [("outdated", str(int(rows[0][0]) + 1 if rows else 1))]
            )

    def executemany(self, sql: str, rows: Sequence[Row]) -> None:
        """Run a statement for each row, inside a transaction."""
        self._database.executemany(sql, rows)

    def insert(self, sql: str, parameters: Sequence[Any]) -> int:
        """Run an INSERT inside a transaction; returns the row's id."""
        return self._database.insert(sql, parameters)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable when it ends."""
        try:
            with self._database.transaction():
                version = self.version()
                if version[0] != self._labels_seen:  # somebody else has written, and may have removed labels
                    self._label_ids.clear()
                    self._labels_seen = version[0]
                yield
        except BaseException:
            self._label_ids.clear()  # may hold ids that were rolled back
            raise

    def forget_labels(self) -> None:
        """Look up every label anew: some were removed."""
        self._label_ids.clear()

    def snapshot(self) -> AbstractContextManager[None]:
        """Reads that see one moment, whatever others write meanwhile."""
        return self._database.snapshot()

    # --- tenants, runs, labels -------------------------------------------------------------------

    def tenant_id(self, name: str) -> int | None:
        rows = self.query("SELECT tenant_id FROM tenants WHERE name = ?", (name,))
        return int(rows[0][0]) if rows else None

    def runs(self, scope: Scope) -> list[Run]:
        """The runs at or below a scope, ordered by name."""
        rows = self.query(
            "SELECT scope_id, tenant_id, domain, project, run, memory_uuid FROM scopes JOIN tenants USING(tenant_id) "
            "WHERE name = ? AND domain = ? AND (? IS NULL OR project = ?) AND (? IS NULL OR run = ?) "
            "ORDER BY project, run",
            (scope.tenant, scope.domain, scope.project, scope.project, scope.run, scope.run),
        )
        return [Run(row[0], row[1], Scope(scope.tenant, row[2], row[3], row[4]), row[5]) for row in rows]

    def all_runs(self) -> list[Run]:
        """Every run of the archive, for its keeper."""
        rows = self.query(
            "SELECT scope_id, tenant_id, name, domain, project, run, memory_uuid FROM scopes JOIN tenants "
            "USING(tenant_id) ORDER BY name, domain, project, run"
        )
        return [Run(row[0], row[1], Scope(*row[2:6]), row[6]) for row in rows]

    def ensure_run(self, scope: Scope) -> Run:
        """The run's row, made (with its tenant and the tenant's full-text table) when new."""
        scope.require_run()
        found = self.runs(scope)
        if found:
            return found[0]
        with self.transaction():
            return self.make_run(scope)

    def make_run(self, scope: Scope) -> Run:
        """What `ensure_run` does, inside a transaction."""
        self.executemany("INSERT INTO tenants(name) VALUES (?) ON CONFLICT DO NOTHING", [(scope.tenant,)])
        tenant_id = self.tenant_id(scope.tenant)
        assert tenant_id is not None
        if self.query("SELECT 1 FROM forgettings WHERE tenant_id = ? AND state = 'tenant'", (tenant_id,)):
            raise CatalogError("a tenant of that name is being forgotten: finish that first", found=scope.tenant)
        self.fulltext.create(tenant_id)
        self.executemany(
            "INSERT INTO scopes(tenant_id, domain, project, run) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [(tenant_id, scope.domain, scope.project, scope.run)],
        )
        return self.runs(scope)[0]

    def bind_memory(self, run: Run, uuid: str) -> None:
        """Record which memory belongs to a run."""
        with self.transaction():
            self.name_memory(run, uuid)

    def name_memory(self, run: Run, uuid: str) -> None:
        """The same, inside a transaction."""
        self.executemany("UPDATE scopes SET memory_uuid = ? WHERE scope_id = ?", [(uuid, run.scope_id)])

    def label_id(self, tenant_id: int, label: Label) -> int:
        """The label's id, made when new; inside a transaction."""
        known = self._label_ids.get((tenant_id, label))
        if known is None:
            where = (tenant_id, label.kind, label.name)
            rows = self.query("SELECT label_id FROM labels WHERE tenant_id = ? AND kind = ? AND name = ?", where)
            known = (
                rows[0][0] if rows else self.insert("INSERT INTO labels(tenant_id, kind, name) VALUES (?,?,?)", where)
            )
            if len(self._label_ids) >= LABELS_HELD_MAX:
                self._label_ids.clear()
            self._label_ids[tenant_id, label] = known
        return known

    # --- documents -------------------------------------------------------------------------------

    def add_documents(self, run: Run, documents: Sequence[Document]) -> Added:
        """Store documents with their passages in one transaction."""
        total = Added()
        with self.transaction():
            for document in documents:
                total += self._add(run, document)
        return total

    def _add(self, run: Run, document: Document) -> Added:
        digest = document.content_sha256
        if self.query(
            "SELECT 1 FROM documents WHERE scope_id = ? AND content_sha256 = ? AND superseded = 0",
            (run.scope_id, digest),
        ):
            return Added(duplicates=1)
        if self.query("SELECT 1 FROM blocked WHERE tenant_id = ? AND content_sha256 = ?", (run.tenant_id, digest)):
            return Added(blocked=1)
        parts = document.passages or tuple(Passage(span.start, span.end) for span in passages(document.text))
        if not parts:
            return Added(empty=1)
        owner = (run.tenant_id, run.scope_id)
        document_id = self.insert(
            "INSERT INTO documents(tenant_id, scope_id, source, title, date, version_key, text, content_sha256) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*owner, document.source, document.title, document.date, document.key, document.text, digest),
        )
        self._mark("document_labels(document_id", run, document_id, document_labels(document))
        entries: list[Entry] = []
        for part in parts:
            body = document.text[part.start : part.end]
            passage_id = self.insert(
                "INSERT INTO passages(tenant_id, scope_id, document_id, start, end, text_hash, key_start, key_end) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(*owner, document_id, part.start, part.end),
                    *(text_hash(embedded_text(document.title, body)), *(part.key or (None, None))),
                ),
            )
            self._mark("passage_labels(passage_id", run, passage_id, part.labels)
            entries.append((passage_id, document.source, document.title, body))
        self.fulltext.add(run.tenant_id, entries)
        self.executemany(
            "INSERT INTO pairs(passage_id, tenant_id, scope_id) VALUES (?, ?, ?)",
            [(entry[0], *owner) for entry in entries],
        )
        superseded = self._supersede(run, document, document_id)
        return Added(documents=1, superseded=superseded, passages=len(parts))

    def _mark(self, table: str, run: Run, owner_id: int, marks: Iterable[Marked]) -> None:
        """Store labels with their spans; of a label that is said twice the first place counts."""
        first: dict[int, Marked] = {}
        for mark in marks:
            first.setdefault(self.label_id(run.tenant_id, mark.label), mark)
        self.executemany(
            f"INSERT INTO {table}, label_id, span_start, span_end) VALUES (?, ?, ?, ?)",
            [
                (owner_id, label_id, mark.start, mark.end)
                for label_id, mark in sorted(first.items(), key=lambda item: item[0])
            ],
        )

    def _supersede(self, run: Run, document: Document, document_id: int) -> int:
        """Retire the current version under the document's key, if there is one."""
        if document.key is None:
            return 0
        older = self.query(
            "SELECT document_id FROM documents WHERE scope_id = ? AND version_key = ? AND superseded = 0 "
            "AND document_id <> ?",
            (run.scope_id, document.key, document_id),
        )
        for (old_id,) in older:
            self.insert("INSERT INTO supersessions VALUES (?, ?, ?)", (old_id, document_id, run.tenant_id))
            self.executemany("UPDATE documents SET superseded = 1 WHERE document_id = ?", [(old_id,)])
            self.executemany(
                "UPDATE pairs SET superseded = 1 "
                "WHERE passage_id IN (SELECT passage_id FROM passages WHERE document_id = ?)",
                [(old_id,)],
            )
        return len(older)

    # --- embedders -------------------------------------------------------------------------------

    def embedder(self, tenant: str, domain: str) -> tuple[str, str, int] | None:
        """(provider, fingerprint, dim) of a tenant's domain, or None before its first ingest."""
        rows = self.query(
            "SELECT provider, fingerprint, dim FROM embedders JOIN tenants USING(tenant_id) "
            "WHERE name = ? AND domain = ?",
            (tenant, domain),
        )
        return (str(rows[0][0]), str(rows[0][1]), int(rows[0][2])) if rows else None

    def embedder_coverage(self, tenant_id: int, domain: str) -> tuple[int, int]:
        """(passages the domain's embedder was fitted on, passages the domain holds)."""
        rows = self.query(
            "SELECT coalesce(max(n_fitted), 0), (SELECT count(*) FROM passages JOIN scopes USING(scope_id) "
            "WHERE passages.tenant_id = ? AND domain = ?) FROM embedders WHERE tenant_id = ? AND domain = ?",
            (tenant_id, domain, tenant_id, domain),
        )
        return int(rows[0][0]), int(rows[0][1])

    def sample_ids(self, tenant_id: int, domain: str, count: int, through: int | None = None) -> list[int]:
        """At most `count` of a domain's passages, ascending, at an even stride; holds no more than those.

        `through` is the newest passage to be among them; None: all there are.
        """
        newest = through if through is not None else ID_MAX
        source = "FROM passages JOIN scopes USING(scope_id) WHERE passages.tenant_id = ? AND domain = ?"
        (n_all,) = self.query(f"SELECT count(*) {source} AND passage_id <= ?", (tenant_id, domain, newest))[0]
        n_chosen = min(count, n_all)
        places = (at * n_all // n_chosen for at in range(n_chosen))
        chosen: list[int] = []
        wanted, seen, last = next(places, None), 0, 0
        while wanted is not None:
            page = self.query(
                f"SELECT passage_id {source} AND passage_id > ? ORDER BY passage_id LIMIT ?",
                (tenant_id, domain, last, IDS_PER_PAGE),
            )
            while wanted is not None and wanted < seen + len(page):
                chosen.append(page[wanted - seen][0])
                wanted = next(places, None)
            if not page:  # fewer than were counted: a passage has just been forgotten
                break
            seen, last = seen + len(page), page[-1][0]
        return chosen

    def texts(self, tenant_id: int, passage_ids: Sequence[int]) -> dict[int, str]:
        """{passage id: what is embedded for it}, in the order asked for."""
        found: dict[int, str] = {}
        for low in range(0, len(passage_ids), 500):
            part = list(passage_ids[low : low + 500])
            rows = self.query(
                "SELECT passage_id, title, substr(text, start + 1, end - start) FROM passages JOIN documents "
                f"USING(document_id) WHERE passages.tenant_id = ? AND passage_id IN ({marks(part)})",
                (tenant_id, *part),
            )
            by_id = {row[0]: embedded_text(row[1], row[2]) for row in rows}
            found |= {identity: by_id[identity] for identity in part if identity in by_id}
        return found


def marks(values: Sequence[Any]) -> str:
    """Question marks for an IN clause; nothing is in that of no values."""
    return ",".join("?" * len(values)) or "NULL"
