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
    (  # 5: which embedder a domain was given, what waits for it and why, and a change of embedder under way
        "ALTER TABLE embedders ADD COLUMN vectors_folder TEXT NOT NULL DEFAULT ''",
        "CREATE TABLE embedder_choices(tenant_id INTEGER NOT NULL REFERENCES tenants, domain TEXT NOT NULL, "
        "spec TEXT NOT NULL, PRIMARY KEY(tenant_id, domain))",
        "CREATE TABLE embed_waits(scope_id INTEGER PRIMARY KEY REFERENCES scopes, tenant_id INTEGER NOT NULL "
        "REFERENCES tenants, attempts INTEGER NOT NULL, last_error TEXT NOT NULL, last_try TEXT NOT NULL, "
        "next_try TEXT NOT NULL)",
        "CREATE TABLE embed_refusals(passage_id INTEGER PRIMARY KEY REFERENCES passages, tenant_id INTEGER NOT NULL "
        "REFERENCES tenants, scope_id INTEGER NOT NULL REFERENCES scopes, reason TEXT NOT NULL)",
        "CREATE INDEX embed_refusals_scope ON embed_refusals(scope_id)",
        "CREATE TABLE reembeds(tenant_id INTEGER NOT NULL REFERENCES tenants, domain TEXT NOT NULL, "
        "spec TEXT NOT NULL, fingerprint TEXT NOT NULL, dim INTEGER NOT NULL, n_fitted INTEGER NOT NULL, "
        "PRIMARY KEY(tenant_id, domain))",
    ),
    (  # 6: which characters say a label or make a pair's key, labels of single passages, phrases of a domain
        "ALTER TABLE passages ADD COLUMN key_start INTEGER",
        "ALTER TABLE passages ADD COLUMN key_end INTEGER",
        "ALTER TABLE document_labels ADD COLUMN span_start INTEGER",
        "ALTER TABLE document_labels ADD COLUMN span_end INTEGER",
        "ALTER TABLE pair_labels ADD COLUMN span_start INTEGER",
        "ALTER TABLE pair_labels ADD COLUMN span_end INTEGER",
        "CREATE TABLE passage_labels(passage_id INTEGER NOT NULL REFERENCES passages, "
        "label_id INTEGER NOT NULL REFERENCES labels, span_start INTEGER, span_end INTEGER, "
        "PRIMARY KEY(passage_id, label_id)) WITHOUT ROWID",
        "CREATE TABLE phrases(tenant_id INTEGER NOT NULL REFERENCES tenants, domain TEXT NOT NULL, "
        "phrase TEXT NOT NULL, n_passages INTEGER NOT NULL, PRIMARY KEY(tenant_id, domain, phrase)) WITHOUT ROWID",
    ),
    (  # 7: dreams: where each cycle stands, which pairs it changes, and labels staged for them
        "CREATE TABLE cycles(cycle_id INTEGER PRIMARY KEY AUTOINCREMENT, "
        "tenant_id INTEGER NOT NULL REFERENCES tenants ON DELETE CASCADE, "
        "scope_id INTEGER NOT NULL REFERENCES scopes ON DELETE CASCADE, "
        "phase TEXT NOT NULL, state TEXT NOT NULL, started TEXT NOT NULL, ended TEXT, "
        "facts TEXT NOT NULL, swap TEXT, seen TEXT)",
        "CREATE UNIQUE INDEX cycles_running ON cycles(scope_id) WHERE state = 'running'",
        "CREATE TABLE cycle_pairs(cycle_id INTEGER NOT NULL REFERENCES cycles ON DELETE CASCADE, "
        "passage_id INTEGER NOT NULL REFERENCES pairs ON DELETE CASCADE, act TEXT NOT NULL, "
        "PRIMARY KEY(cycle_id, passage_id))",
        "CREATE TABLE extractions(scope_id INTEGER PRIMARY KEY REFERENCES scopes ON DELETE CASCADE, "
        "tenant_id INTEGER NOT NULL REFERENCES tenants ON DELETE CASCADE, "
        "extractor TEXT NOT NULL, passage_id INTEGER NOT NULL)",
        "CREATE TABLE relabels(passage_id INTEGER PRIMARY KEY REFERENCES pairs ON DELETE CASCADE, "
        "tenant_id INTEGER NOT NULL REFERENCES tenants ON DELETE CASCADE, "
        "scope_id INTEGER NOT NULL REFERENCES scopes ON DELETE CASCADE)",
        "CREATE INDEX relabels_scope ON relabels(scope_id, passage_id)",
        "CREATE TABLE relabel_labels(passage_id INTEGER NOT NULL REFERENCES relabels ON DELETE CASCADE, "
        "label_id INTEGER NOT NULL REFERENCES labels ON DELETE CASCADE, weight REAL NOT NULL, "
        "span_start INTEGER, span_end INTEGER, PRIMARY KEY(passage_id, label_id))",
    ),
    (  # 8: what a forgetting has begun, what a rebuild takes up again, and what is not to come back
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
        "ALTER TABLE reembeds ADD COLUMN through INTEGER NOT NULL DEFAULT 0",
        "CREATE TABLE fits(tenant_id INTEGER NOT NULL REFERENCES tenants ON DELETE CASCADE, domain TEXT NOT NULL, "
        "through INTEGER NOT NULL, PRIMARY KEY(tenant_id, domain)) WITHOUT ROWID",  # newest passage fitted on
    ),
    (  # 9: runs that got another name, or came from another archive, and whose files may still lie elsewhere
        "CREATE TABLE relocations(scope_id INTEGER PRIMARY KEY REFERENCES scopes ON DELETE CASCADE, "
        "tenant_id INTEGER NOT NULL REFERENCES tenants ON DELETE CASCADE, "
        "memory_from TEXT NOT NULL, vectors_from TEXT NOT NULL, named INTEGER NOT NULL)",
    ),
)
