"""What the catalog knows of derived things, and how it lets go of them.

Purpose: take runs, or a whole domain, back to their text alone, from which the next ingest (also of nothing) makes
everything again. Invariants: one transaction; text, documents' own labels, versions and spans stay as they are; a run
that was let go of is marked until its memory is gone from the disk, so a process that dies in between leaves nothing
that the next writer would take for the run's memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from emm_engine.catalog.store import Catalog, Run

FULLTEXT_BATCH = 1000  # passages indexed together


def let_go(catalog: Catalog, runs: Sequence[Run], domains: Sequence[tuple[int, str]] = ()) -> None:
    """Inside a transaction: these runs' pairs wait again, and these domains (tenant id, name) have no embedder."""
    ids = [(run.scope_id,) for run in runs]
    catalog.executemany(
        "DELETE FROM pair_labels WHERE passage_id IN (SELECT passage_id FROM pairs WHERE scope_id = ?)", ids
    )
    catalog.executemany("UPDATE pairs SET written_by = NULL, unlearned_by = NULL WHERE scope_id = ?", ids)
    catalog.executemany("DELETE FROM unlearnings WHERE scope_id = ?", ids)
    catalog.executemany("DELETE FROM batches WHERE scope_id = ?", ids)
    catalog.executemany("UPDATE scopes SET memory_uuid = NULL WHERE scope_id = ?", ids)
    catalog.executemany(
        "INSERT INTO discarded(scope_id, tenant_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
        [(run.scope_id, run.tenant_id) for run in runs],
    )
    catalog.executemany("DELETE FROM embedders WHERE tenant_id = ? AND domain = ?", list(domains))
    forget_dreams(catalog, runs)
    forget_phrases(catalog, runs)
    for tenant_id in sorted({run.tenant_id for run in runs}):
        drop_unused_labels(catalog, tenant_id)


def forget_dreams(catalog: Catalog, runs: Sequence[Run]) -> None:
    """Inside a transaction: cycles under way end, swaps are off, and the runs are due again."""
    ids = [(run.scope_id,) for run in runs]
    of_run = "cycle_id IN (SELECT cycle_id FROM cycles WHERE scope_id = ?)"
    catalog.executemany(f"DELETE FROM cycle_pairs WHERE {of_run}", ids)
    catalog.executemany(
        "UPDATE cycles SET state = CASE WHEN state = 'running' THEN 'yielded' ELSE state END, "
        "ended = coalesce(ended, started), swap = NULL, seen = NULL WHERE scope_id = ?",
        ids,
    )
    for table in ("relabels", "extractions"):
        catalog.executemany(f"DELETE FROM {table} WHERE scope_id = ?", ids)


def forget_phrases(catalog: Catalog, runs: Sequence[Run]) -> None:
    """Inside a transaction: the phrases of the runs' domains go, and are found anew by the next ingest."""
    domains = sorted({(run.tenant_id, run.scope.domain) for run in runs})
    catalog.executemany("DELETE FROM phrases WHERE tenant_id = ? AND domain = ?", domains)


def complete_pairs(catalog: Catalog, tenant_id: int) -> None:
    """Inside a transaction: every passage has its pair."""
    catalog.executemany(
        "INSERT INTO pairs(passage_id, tenant_id, scope_id, superseded) "
        "SELECT passage_id, passages.tenant_id, passages.scope_id, superseded "
        "FROM passages JOIN documents USING(document_id) WHERE passages.tenant_id = ? ON CONFLICT DO NOTHING",
        [(tenant_id,)],
    )


def refill_fulltext(catalog: Catalog, tenant_id: int) -> int:
    """Make a tenant's index of words anew, in one transaction; how many passages it holds."""
    n_passages, newest = 0, 0
    with catalog.transaction():
        catalog.fulltext.drop(tenant_id)
        catalog.fulltext.create(tenant_id)
        while entries := catalog.query(
            "SELECT passage_id, source, title, substr(text, start + 1, end - start) FROM passages JOIN documents "
            "USING(document_id) WHERE passages.tenant_id = ? AND passage_id > ? ORDER BY passage_id LIMIT ?",
            (tenant_id, newest, FULLTEXT_BATCH),
        ):
            catalog.fulltext.add(tenant_id, [(row[0], row[1], row[2], row[3]) for row in entries])
            n_passages += len(entries)
            newest = entries[-1][0]
    return n_passages


def drop_unused_labels(catalog: Catalog, tenant_id: int) -> int:
    """Inside a transaction: remove the labels that nothing carries any more; how many."""
    carriers = [
        table for table, columns in catalog.database.columns().items() if "label_id" in columns and table != "labels"
    ]
    unused = " AND ".join(f"NOT EXISTS (SELECT 1 FROM {t} WHERE {t}.label_id = labels.label_id)" for t in carriers)
    rows = catalog.query(f"SELECT label_id FROM labels WHERE tenant_id = ? AND {unused}", (tenant_id,))
    catalog.executemany("DELETE FROM labels WHERE label_id = ?", rows)
    catalog.forget_labels()
    return len(rows)
