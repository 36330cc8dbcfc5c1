"""Take passages out of the catalog as if they had never been there.

Purpose: one transaction that removes texts and everything in the catalog that was made from them or points at them,
in every table that has such a column, whoever added it. Invariants: the versions of a text close ranks (what a removed
version had replaced is replaced by its successor, or is current again where there is none); a document that keeps some
of its passages keeps the spans of those, and blanks stand where the others were; labels that nothing carries any more
go too; other tenants' rows are never touched.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from emm_engine.catalog.derived import drop_unused_labels, refill_fulltext
from emm_engine.catalog.store import Catalog
from emm_engine.documents import Document, embedded_text, text_hash

BLANK = " "


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal took away besides the passages it was given."""

    labels: int
    revived: int  # documents that are current again


def remove_passages(catalog: Catalog, tenant_id: int, passage_ids: Collection[int], *, block: bool) -> Removed:
    """Inside a transaction: remove passages of one tenant, and each document of which nothing is left.

    `block` keeps the hash of each document's content, so that the same content is refused later.
    """
    by_document: dict[int, list[int]] = {}
    for passage_id, document_id in catalog.query_among(
        "SELECT passage_id, document_id FROM passages WHERE tenant_id = ? AND passage_id IN (…)",
        sorted(passage_ids),
        (tenant_id,),
    ):
        by_document.setdefault(document_id, []).append(passage_id)
    gone = sorted(passage_id for ids in by_document.values() for passage_id in ids)
    if block:
        catalog.executemany(
            "INSERT INTO blocked(tenant_id, content_sha256) SELECT tenant_id, content_sha256 FROM documents "
            "WHERE document_id = ? ON CONFLICT DO NOTHING",
            [(document_id,) for document_id in by_document],
        )
    _remove_words(catalog, tenant_id, gone)
    whole = []
    for document_id, ids in by_document.items():
        n_passages = catalog.query("SELECT count(*) FROM passages WHERE document_id = ?", (document_id,))[0][0]
        if n_passages == len(ids):
            whole.append(document_id)
        else:
            _blank(catalog, document_id, ids)
    revived = sum(_close_ranks(catalog, document_id) for document_id in whole)
    _delete(catalog, "passage_id", gone)
    _delete(catalog, "document_id", whole)
    return Removed(drop_unused_labels(catalog, tenant_id), revived)


def remove_tenant(catalog: Catalog, tenant_id: int, keep: Sequence[str] = ()) -> None:
    """Inside a transaction: remove every row of a tenant but those of the tables to `keep`, and its index of words."""
    catalog.fulltext.drop(tenant_id)
    columns = catalog.database.columns()
    owners = {"label_id": "labels", "document_id": "documents", "passage_id": "passages"}
    for table in reversed(columns):
        if table in keep:
            continue
        if "tenant_id" in columns[table]:
            catalog.executemany(f"DELETE FROM {table} WHERE tenant_id = ?", [(tenant_id,)])
            continue
        for column, owner in owners.items():
            if column in columns[table]:
                catalog.executemany(
                    f"DELETE FROM {table} WHERE {column} IN (SELECT {column} FROM {owner} WHERE tenant_id = ?)",
                    [(tenant_id,)],
                )
    catalog.forget_labels()


def refill_damaged_words(catalog: Catalog, tenant_id: int) -> None:
    """Make a tenant's index of words anew where it does not have as many passages as the catalog."""
    (count,) = catalog.query("SELECT count(*) FROM passages WHERE tenant_id = ?", (tenant_id,))[0]
    if catalog.fulltext.count(tenant_id) != count:
        refill_fulltext(catalog, tenant_id)


def _remove_words(catalog: Catalog, tenant_id: int, passage_ids: Sequence[int]) -> None:
    """Take passages out of the index of words, which is told each text as it was indexed.

    A text that has changed since cannot be told, so the index is given up: it is made anew when all is through.
    """
    entries = []
    for passage_id, source, title, body, stored in catalog.query_among(
        "SELECT passage_id, source, title, substr(text, start + 1, end - start), text_hash FROM passages "
        "JOIN documents USING(document_id) WHERE passages.tenant_id = ? AND passage_id IN (…)",
        passage_ids,
        (tenant_id,),
    ):
        if text_hash(embedded_text(title, body)) != stored:
            catalog.fulltext.drop(tenant_id)
            catalog.fulltext.create(tenant_id)
            return
        entries.append((passage_id, source, title, body))
    catalog.fulltext.remove(tenant_id, entries)


def _blank(catalog: Catalog, document_id: int, passage_ids: Sequence[int]) -> None:
    """Put blanks in place of some of a document's passages; its hash is then that of the text as it is."""
    ((title, text),) = catalog.query("SELECT title, text FROM documents WHERE document_id = ?", (document_id,))
    for start, end in catalog.query_among("SELECT start, end FROM passages WHERE passage_id IN (…)", passage_ids):
        text = text[:start] + BLANK * (end - start) + text[end:]
    digest = Document("", title, text).content_sha256
    catalog.executemany(
        "UPDATE documents SET text = ?, content_sha256 = ? WHERE document_id = ?", [(text, digest, document_id)]
    )


def _close_ranks(catalog: Catalog, document_id: int) -> int:
    """Take a document out of its line of versions; 1 where an older one is current again."""
    newer = catalog.query("SELECT new_document_id FROM supersessions WHERE old_document_id = ?", (document_id,))
    older = catalog.query("SELECT old_document_id FROM supersessions WHERE new_document_id = ?", (document_id,))
    revived = 0
    for (old_id,) in older:
        if newer:
            catalog.executemany(
                "UPDATE supersessions SET new_document_id = ? WHERE old_document_id = ?", [(newer[0][0], old_id)]
            )
        else:
            catalog.executemany("DELETE FROM supersessions WHERE old_document_id = ?", [(old_id,)])
            revived += _revive(catalog, old_id, document_id)
    catalog.executemany("DELETE FROM supersessions WHERE old_document_id = ?", [(document_id,)])
    return revived


def _revive(catalog: Catalog, document_id: int, removed_id: int) -> int:
    """Make a document current again; 0 where its very text is current already, under another name."""
    ((scope_id, tenant_id, digest),) = catalog.query(
        "SELECT scope_id, tenant_id, content_sha256 FROM documents WHERE document_id = ?", (document_id,)
    )
    same = catalog.query(
        "SELECT document_id FROM documents WHERE scope_id = ? AND content_sha256 = ? AND superseded = 0 "
        "AND document_id <> ?",
        (scope_id, digest, removed_id),
    )
    if same:
        catalog.executemany("INSERT INTO supersessions VALUES (?, ?, ?)", [(document_id, same[0][0], tenant_id)])
        return 0
    catalog.executemany("UPDATE documents SET superseded = 0 WHERE document_id = ?", [(document_id,)])
    waiting = "passage_id IN (SELECT passage_id FROM passages WHERE document_id = ?)"
    out = f"passage_id IN (SELECT passage_id FROM pairs WHERE unlearned_by IS NOT NULL AND {waiting})"
    catalog.executemany(f"DELETE FROM pair_labels WHERE {out}", [(document_id,)])
    catalog.executemany(
        f"UPDATE pairs SET written_by = NULL, unlearned_by = NULL WHERE unlearned_by IS NOT NULL AND {waiting}",
        [(document_id,)],
    )
    catalog.executemany(f"UPDATE pairs SET superseded = 0 WHERE {waiting}", [(document_id,)])
    return 1


def _delete(catalog: Catalog, column: str, ids: Sequence[int]) -> None:
    """Remove the rows of every table that has a column, a table before those it refers to."""
    columns = catalog.database.columns()
    for table in reversed(columns):
        if column in columns[table]:
            catalog.executemany(f"DELETE FROM {table} WHERE {column} = ?", [(identity,) for identity in ids])
