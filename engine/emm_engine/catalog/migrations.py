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
    (  # what a forgetting has begun, what a rebuild takes up again, and what is not to come back
        "CREATE TABLE forgettings(forgetting_id INTEGER PRIMARY KEY AUTOINCREMENT, "
        "tenant_id INTEGER NOT NULL REFERENCES tenants ON DELETE CASCADE, "
        "state TEXT NOT NULL, begun TEXT NOT NULL, facts TEXT NOT NULL)",  # facts: JSON, hashes in place of content
        "CREATE TABLE unlearnings(unlearning_id INTEGER PRIMARY KEY AUTOINCREMENT, "
        "tenant_id INTEGER NOT NULL REFERENCES tenants ON DELETE CASCADE, "
        "scope_id INTEGER NOT NULL REFERENCES scopes ON DELETE CASCADE, "
        "key BLOB NOT NULL, value BLOB NOT NULL, batch_id INTEGER)",  # float32, as they were written
        "CREATE INDEX unlearnings_scope ON unlearnings(scope_id, unlearning_id)",
        "CREATE TABLE blocked(tenant_id INTEGER NOT NULL REFERENCES tenants ON DELETE CASCADE, "
        "content_sha256 BLOB NOT NULL, PRIMARY KEY(tenant_id, content_sha256)) WITHOUT ROWID",
        "CREATE TABLE discarded(scope_id INTEGER PRIMARY KEY REFERENCES scopes ON DELETE CASCADE, "
        "tenant_id INTEGER NOT NULL REFERENCES tenants ON DELETE CASCADE)",  # runs whose memory has to go
        "CREATE TABLE fits(tenant_id INTEGER NOT NULL REFERENCES tenants ON DELETE CASCADE, domain TEXT NOT NULL, "
        "through INTEGER NOT NULL, PRIMARY KEY(tenant_id, domain)) WITHOUT ROWID",  # newest passage fitted on
    ),
)
