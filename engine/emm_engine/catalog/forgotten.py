"""What has been forgotten in the catalog and not yet everywhere: the pairs to unlearn, and what a purge has to do.

Purpose: a forgetting that was killed anywhere goes on. The order is that of `pairs`: text goes in one transaction that
leaves each pair's key and value (float32, as they were written) to be unlearned; then, batch by batch, an *intended*
batch, one atomic `Memory.unlearn`, the *settled* batch, and the pair's key and value go too. Invariants: a key or value
is kept no longer than the matrix holds it; `facts` hold counts and hashes, no content.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emm import FencedError
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.store import Catalog, Run
from emm_engine.embeddings.provider import Float32Array

# States of a forgetting: the text is gone and pairs are to be unlearned, or memories are to be made anew, or a tenant's
# files are to go; through.
REMOVED, REWRITING, TENANT, DONE = "removed", "rewriting", "tenant", "done"
COMPACTION_KEY = "compaction"  # of `meta`: the database has to be written anew


@dataclass(frozen=True, slots=True)
class Forgetting:
    """A forgetting as the catalog knows it."""

    forgetting_id: int
    tenant_id: int
    state: str
    facts: dict[str, Any]


class Forgettings:
    """The forgettings of an archive."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def begin(self, tenant_id: int, state: str, begun: str, facts: dict[str, Any]) -> int:
        """Inside the transaction that removes the text."""
        return self._catalog.insert(
            "INSERT INTO forgettings(tenant_id, state, begun, facts) VALUES (?, ?, ?, ?)",
            (tenant_id, state, begun, json.dumps(facts, sort_keys=True)),
        )

    def note(self, forgetting_id: int, facts: dict[str, Any]) -> None:
        """Keep what was decided on the way."""
        with self._catalog.transaction():
            self._catalog.executemany(
                "UPDATE forgettings SET facts = ? WHERE forgetting_id = ?",
                [(json.dumps(facts, sort_keys=True), forgetting_id)],
            )

    def done(self, forgetting_id: int, facts: dict[str, Any], *, compact: bool) -> None:
        """Nothing is left to do, but for the database to be compacted."""
        with self._catalog.transaction():
            self._catalog.executemany(
                "UPDATE forgettings SET state = ?, facts = ? WHERE forgetting_id = ?",
                [(DONE, json.dumps(facts, sort_keys=True), forgetting_id)],
            )
            if compact:
                self._owe_compaction()

    def tenant_done(self, tenant_id: int, *, compact: bool) -> None:
        """The tenant's last rows go, this note among them."""
        with self._catalog.transaction():
            for table in ("forgettings", "tenants"):
                self._catalog.executemany(f"DELETE FROM {table} WHERE tenant_id = ?", [(tenant_id,)])
            if compact:
                self._owe_compaction()

    def _owe_compaction(self) -> None:
        self._catalog.executemany(
            "INSERT INTO meta(key, value) VALUES (?, 'due') ON CONFLICT DO NOTHING", [(COMPACTION_KEY,)]
        )

    def compact(self) -> bool:
        """Compact the database where a forgetting asked for it; `StorageError` while another process reads it."""
        if not self._catalog.query("SELECT 1 FROM meta WHERE key = ?", (COMPACTION_KEY,)):
            return False
        self._catalog.database.compact()
        with self._catalog.transaction():
            self._catalog.executemany("DELETE FROM meta WHERE key = ?", [(COMPACTION_KEY,)])
        return True

    def facts(self, forgetting_id: int) -> dict[str, Any] | None:
        """What is noted about a forgetting."""
        rows = self._catalog.query("SELECT facts FROM forgettings WHERE forgetting_id = ?", (forgetting_id,))
        return dict(json.loads(rows[0][0])) if rows else None

    def unfinished(self) -> list[Forgetting]:
        """Those that were interrupted, oldest first."""
        rows = self._catalog.query(
            "SELECT forgetting_id, tenant_id, state, facts FROM forgettings WHERE state <> ? ORDER BY forgetting_id",
            (DONE,),
        )
        return [Forgetting(row[0], row[1], row[2], json.loads(row[3])) for row in rows]


def require_none_unfinished(catalog: Catalog, tenant: str) -> None:
    """`FencedError` while something of a tenant is being forgotten, or its forgetting was interrupted."""
    tenant_id = catalog.tenant_id(tenant)
    if any(each.tenant_id == tenant_id for each in Forgettings(catalog).unfinished()):
        raise FencedError(
            f"a forgetting of the tenant {tenant} is at work or was interrupted",
            expected="none (emm forget --resume ends it)",
        )


class ForgottenPairs:
    """The pairs of one run whose text is gone and that its matrix still holds."""

    def __init__(self, catalog: Catalog, run: Run) -> None:
        self._catalog = catalog
        self._run = run

    def add(self, keys: Float32Array, values: Float32Array) -> None:
        """Inside the transaction that removes the text: (n, key_dim) and (n, dim)."""
        self._catalog.executemany(
            "INSERT INTO unlearnings(tenant_id, scope_id, key, value) VALUES (?, ?, ?, ?)",
            [
                (self._run.tenant_id, self._run.scope_id, key.tobytes(), value.tobytes())
                for key, value in zip(keys, values, strict=True)
            ],
        )

    def count(self) -> int:
        rows = self._catalog.query("SELECT count(*) FROM unlearnings WHERE scope_id = ?", (self._run.scope_id,))
        return int(rows[0][0])

    def reconcile(self) -> None:
        """After the ledger's own reconciling: what a settled batch took out goes, what a withdrawn one had waits."""
        with self._catalog.transaction():
            self._catalog.executemany(
                "DELETE FROM unlearnings WHERE scope_id = ? AND batch_id IN (SELECT batch_id FROM batches)",
                [(self._run.scope_id,)],
            )
            self._catalog.executemany(
                "UPDATE unlearnings SET batch_id = NULL WHERE scope_id = ?", [(self._run.scope_id,)]
            )

    def pending(self, count: int) -> tuple[list[int], Float32Array, Float32Array]:
        """(ids, keys (n, key_dim), values (n, dim)) of the oldest that wait."""
        rows = self._catalog.query(
            "SELECT unlearning_id, key, value FROM unlearnings WHERE scope_id = ? ORDER BY unlearning_id LIMIT ?",
            (self._run.scope_id, count),
        )
        keys, values = (
            np.stack([np.frombuffer(row[at], np.float32) for row in rows]) if rows else np.zeros((0, 0), np.float32)
            for at in (1, 2)
        )
        return [row[0] for row in rows], keys, values

    def intend(self, ids: Sequence[int], write_count: int) -> int:
        """Announce the batch that takes these out."""
        with self._catalog.transaction():
            batch_id = PairLedger(self._catalog, self._run).announce("unlearn", len(ids), write_count)
            self._catalog.executemany(
                "UPDATE unlearnings SET batch_id = ? WHERE unlearning_id = ?", [(batch_id, each) for each in ids]
            )
        return batch_id
