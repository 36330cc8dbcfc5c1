"""How an older catalog becomes a newer one.

Purpose: element n holds the statements that lead from schema version n + 1 to n + 2. Invariants: what was released is
never edited; each migration is one transaction; a migration adds, and what it takes away is derived data alone.
"""

from __future__ import annotations

from typing import Final

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (  # 2: what a scope was told, and whether it still takes documents
        "ALTER TABLE scopes ADD COLUMN closed INTEGER NOT NULL DEFAULT 0",
        "CREATE TABLE settings(tenant_id INTEGER NOT NULL REFERENCES tenants, scope TEXT NOT NULL, "
        "key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY(tenant_id, scope, key)) WITHOUT ROWID",
    ),
    (  # which documents are hidden from an answer, without reading all of them
        "CREATE INDEX documents_superseded ON documents(scope_id) WHERE superseded = 1",
    ),
)
