"""How an older catalog becomes a newer one.

Purpose: element n holds the statements that lead from schema version n + 1 to n + 2. Invariants: what was released is
never edited; each migration is one transaction; a migration adds, and what it takes away is derived data alone.
"""

from __future__ import annotations

from typing import Final

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (  # 2: what a scope was told
        "CREATE TABLE settings(tenant_id INTEGER NOT NULL REFERENCES tenants, scope TEXT NOT NULL, "
        "key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY(tenant_id, scope, key)) WITHOUT ROWID",
    ),
    (  # 3: domains of one's own, and which run memories each roll-up holds
        "CREATE TABLE domains(name TEXT PRIMARY KEY, start_rank INTEGER NOT NULL, dim INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE rollups(tenant_id INTEGER NOT NULL REFERENCES tenants, scope TEXT NOT NULL, "
        "memory_uuid TEXT NOT NULL, memory_rank INTEGER NOT NULL, PRIMARY KEY(tenant_id, scope)) WITHOUT ROWID",
        "CREATE TABLE rollup_sources(tenant_id INTEGER NOT NULL REFERENCES tenants, scope TEXT NOT NULL, "
        "scope_id INTEGER NOT NULL, memory_uuid TEXT NOT NULL, lsn INTEGER NOT NULL, "
        "PRIMARY KEY(tenant_id, scope, scope_id)) WITHOUT ROWID",
    ),
    (  # 4: which documents are hidden from an answer, without reading all of them
        "CREATE INDEX documents_superseded ON documents(scope_id) WHERE superseded = 1",
    ),
    (  # 5: runs that got another name, or came from another archive, and whose files may still lie elsewhere
        "CREATE TABLE relocations(scope_id INTEGER PRIMARY KEY REFERENCES scopes, "
        "tenant_id INTEGER NOT NULL REFERENCES tenants, memory_from TEXT NOT NULL, vectors_from TEXT NOT NULL, "
        "named INTEGER NOT NULL)",
    ),
)
