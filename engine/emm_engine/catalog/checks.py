"""Whether the catalog is what was stored, and agrees with itself.

Purpose: everything an archive has is derived from the catalog, so it is read against its own hashes. Invariants:
checking reads and never writes; a finding names what it found and where; `TEXT` findings mean that content was lost or
changed, which nothing in the archive can undo, every other finding is of something that can be made anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from emm_engine.catalog.store import Catalog
from emm_engine.documents import Document, embedded_text, text_hash

PAGE: Final = 100  # documents read at a time

Kind = Literal["text", "derived"]
TEXT: Final[Kind] = "text"
DERIVED: Final[Kind] = "derived"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    code: str
    kind: Kind
    where: str  # a document, a run, a tenant, a file
    message: str


def check_texts(catalog: Catalog) -> Iterator[Finding]:
    """The database itself, then every document and passage against its hash."""
    for problem in catalog.database.problems():
        yield Finding("database-damaged", TEXT, catalog.database.name, problem)
    newest = 0
    while page := catalog.query(
        "SELECT document_id, source, title, text, content_sha256 FROM documents WHERE document_id > ? "
        "ORDER BY document_id LIMIT ?",
        (newest, PAGE),
    ):
        for document_id, source, title, text, digest in page:
            where = f"document {document_id} ({source})"
            if Document("", title, text).content_sha256 != digest:
                yield Finding("document-changed", TEXT, where, "title or text is not what was stored")
                continue
            for passage_id, start, end, stored in catalog.query(
                "SELECT passage_id, start, end, text_hash FROM passages WHERE document_id = ? ORDER BY passage_id",
                (document_id,),
            ):
                if text_hash(embedded_text(title, text[start:end])) != stored:
                    yield Finding("passage-changed", TEXT, f"passage {passage_id} of {where}", "not what was cut")
        newest = page[-1][0]


def check_tables(catalog: Catalog) -> Iterator[Finding]:
    """Passages without pairs, documents without passages, and the index of words."""
    for document_id, source in catalog.query(
        "SELECT document_id, source FROM documents WHERE NOT EXISTS "
        "(SELECT 1 FROM passages WHERE passages.document_id = documents.document_id) ORDER BY document_id"
    ):
        yield Finding("document-empty", TEXT, f"document {document_id} ({source})", "none of its passages is there")
    for tenant_id, name in catalog.query("SELECT tenant_id, name FROM tenants ORDER BY name"):
        n_passages, n_pairs = catalog.query(
            "SELECT (SELECT count(*) FROM passages WHERE tenant_id = ?), (SELECT count(*) FROM pairs "
            "WHERE tenant_id = ?)",
            (tenant_id, tenant_id),
        )[0]
        n_indexed = catalog.fulltext.count(tenant_id)
        if n_indexed != n_passages:
            found = f"{n_indexed} of {n_passages} passages are indexed" if n_indexed >= 0 else "there is no index"
            yield Finding("words-missing", DERIVED, f"tenant {name}", found)
        if n_pairs != n_passages:
            yield Finding("pairs-missing", DERIVED, f"tenant {name}", f"{n_pairs} pairs for {n_passages} passages")
