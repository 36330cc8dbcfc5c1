"""What pairs are made of: the texts of their keys and the labels of their values.

Purpose: whoever writes a pair, takes it out or solves anew reads the same characters, here. Invariants: everything is
bound to one tenant; a pair's key is embedded from its passage's key span where it has one, and then from nothing else
(neither title nor outcome), else from title and passage; the order is the one asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emm_engine.catalog.database import Row
from emm_engine.catalog.store import Catalog, marks
from emm_engine.documents import Label, Marked, embedded_text

IDS_PER_QUERY = 500


@dataclass(frozen=True, slots=True)
class Material:
    """One passage as text."""

    passage_id: int
    title: str
    start: int  # of the passage in its document
    text: str
    key: str | None  # the text of its key span

    @property
    def embedded(self) -> str:
        """What its vector is made of."""
        return embedded_text(self.title, self.text)


def materials(catalog: Catalog, tenant_id: int, passage_ids: Sequence[int]) -> list[Material]:
    """The passages, in the order of their ids."""
    rows = _by_parts(
        catalog,
        tenant_id,
        passage_ids,
        "SELECT passage_id, title, start, substr(text, start + 1, end - start), "
        "substr(text, key_start + 1, key_end - key_start) FROM passages JOIN documents USING(document_id) "
        "WHERE passages.tenant_id = ? AND passage_id IN",
    )
    by_id = {row[0]: Material(*row) for row in rows}
    return [by_id[identity] for identity in passage_ids]


def own_keys(catalog: Catalog, tenant_id: int, passage_ids: Sequence[int]) -> dict[int, str]:
    """{passage id: the text of its key span} of those that have one."""
    rows = _by_parts(
        catalog,
        tenant_id,
        passage_ids,
        "SELECT passage_id, substr(text, key_start + 1, key_end - key_start) FROM passages JOIN documents "
        "USING(document_id) WHERE key_start IS NOT NULL AND passages.tenant_id = ? AND passage_id IN",
    )
    return {row[0]: row[1] for row in rows}


def declared(catalog: Catalog, tenant_id: int, passage_ids: Sequence[int]) -> dict[int, list[Marked]]:
    """{passage id: what its source said of it, and of its document}."""
    found: dict[int, list[Marked]] = {identity: [] for identity in passage_ids}
    for table, key in (("passage_labels", "passage_id"), ("document_labels", "document_id")):
        rows = _by_parts(
            catalog,
            tenant_id,
            passage_ids,
            f"SELECT passages.passage_id, kind, name, span_start, span_end FROM passages JOIN {table} USING({key}) "
            "JOIN labels USING(label_id) WHERE passages.tenant_id = ? AND passages.passage_id IN",
        )
        for identity, kind, name, start, end in rows:
            found[identity].append(Marked(Label(kind, name), start, end))
    return found


def _by_parts(catalog: Catalog, tenant_id: int, passage_ids: Sequence[int], sql: str) -> list[Row]:
    rows: list[Row] = []
    for low in range(0, len(passage_ids), IDS_PER_QUERY):
        part = list(passage_ids[low : low + IDS_PER_QUERY])
        rows += catalog.query(f"{sql} ({marks(part)})", (tenant_id, *part))
    return rows
