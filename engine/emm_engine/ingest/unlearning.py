"""Take forgotten pairs out of a run's matrix.

Purpose: what a forgetting leaves to do, done by it or by the next ingest. Invariants: exact: the very keys and values
that were written; a pair is taken out once, wherever a process dies; what the memory refuses to take out exactly stays
noted, and nothing has changed.
"""

from __future__ import annotations

import emm
from emm_engine.catalog.forgotten import ForgottenPairs
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.store import Catalog, Run

PAIRS_PER_BATCH = 256  # one matrix commit
RULE = "preconditioned"  # the one that unlearns exactly


def unlearn_forgotten(catalog: Catalog, run: Run, memory: emm.Memory) -> int:
    """How many pairs were taken out. The ledger is reconciled, the memory open for writing."""
    forgotten, ledger = ForgottenPairs(catalog, run), PairLedger(catalog, run)
    if not forgotten.count():
        return 0
    forgotten.reconcile()
    n_done = 0
    while memory.rule == RULE:
        ids, keys, values = forgotten.pending(PAIRS_PER_BATCH)
        if not ids or (keys.shape[1], values.shape[1]) != (memory.key_dim, memory.dim):
            break
        batch = forgotten.intend(ids, memory.write_count)
        try:
            lsn = memory.unlearn(keys, values, rank=memory.rank)  # the ledger vouches
        except (emm.GateError, emm.HistoryError):  # nothing was changed
            ledger.withdraw(batch)
            forgotten.reconcile()
            break
        ledger.settle(batch, lsn)
        forgotten.reconcile()
        n_done += len(ids)
    return n_done
