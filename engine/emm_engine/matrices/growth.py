"""A larger rank for a run's memory, solved again from the pairs that are kept.

Purpose: growth where the library cannot do it by itself. `Memory.write` doubles the rank past 0.85 saturation from the
pairs in its journal; where the journal no longer holds them all (pruned, merged, solved from given pairs before), the
catalog does: which passages the matrix absorbed, with which labels, and their keys from the vector store or by
embedding the texts again. Invariants: the pairs given are exactly those that the ledger says are in, in the
order they came, so the count of pairs stays what the ledger expects; the new state appears in one published
snapshot or not at all, and the ledger is not touched, so a kill leaves either rank and both agree with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

import emm
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.store import Catalog, Run
from emm_engine.embeddings.provider import Float32Array
from emm_engine.errors import CatalogError
from emm_engine.hierarchy import RANK_STEP
from emm_engine.matrices.labels import value

SATURATION_MAX: Final = 0.85
PAIR_BYTES_MAX: Final = 2 << 30  # of keys and values held at once; beyond it a memory keeps its rank and says so

KeysOf = Callable[[Run, Sequence[int]], Float32Array]  # (n,) passage ids of a run -> (n, key_dim), as they were written


class Growth:
    """Raises ranks."""

    def __init__(self, catalog: Catalog, keys_of: KeysOf) -> None:
        self._catalog = catalog
        self._keys_of = keys_of

    def grow_if_saturated(self, run: Run, memory: emm.Memory) -> list[str]:
        """Double the rank while the matrix is too full; what a person should know of it."""
        notices = []
        while is_full(memory):
            rank = min(2 * memory.rank, rank_max(memory))
            try:
                self.raise_rank(run, memory, rank)
            except emm.LimitError as error:
                notices.append(f"{run.scope} keeps its rank of {memory.rank}: {error}")
                break
            notices.append(f"the rank of {run.scope} was raised to {rank}, solved again from the kept pairs")
        return notices

    def raise_rank(self, run: Run, memory: emm.Memory, rank: int) -> None:
        """Solve the memory again at a larger rank: from its journal, else from the catalog.

        The caller holds the memory open for append, with the ledger reconciled. `LimitError` where the pairs are
        too many to be given at once, `CatalogError` where the catalog has not all of them.
        """
        try:
            memory.expand(rank)
        except emm.HistoryError:
            keys, values = self._kept(run, memory)
            memory.expand(rank, pairs=(keys, values))
            if memory.expand_at:
                memory.configure(expand_at=0.0)  # its journal will never hold them again: growing is ours from now on

    def _kept(self, run: Run, memory: emm.Memory) -> tuple[Float32Array, Float32Array]:
        """(keys, values) of every pair that is in the matrix, in the order they were written."""
        ledger = PairLedger(self._catalog, run)
        ids = ledger.absorbed()
        if len(ids) != memory.write_count:
            raise CatalogError(
                f"the catalog cannot say what is in the memory of {run.scope}",
                expected=f"{memory.write_count} pairs",
                found=f"{len(ids)} pairs",
            )
        n_bytes = 4 * len(ids) * (memory.key_dim + memory.dim)
        if n_bytes > PAIR_BYTES_MAX:
            raise emm.LimitError(
                "its pairs are too many to be solved again at once", expected=f"{PAIR_BYTES_MAX} bytes", found=n_bytes
            )
        labels = ledger.kept(ids)
        values = np.empty((len(ids), memory.dim), np.float32)
        for row, identity in enumerate(ids):
            values[row] = value(labels[identity], memory.dim)
        return self._keys_of(run, ids), values


def rank_max(memory: emm.Memory) -> int:
    """More than the numbers of a key buys nothing."""
    return memory.key_dim // RANK_STEP * RANK_STEP


def is_full(memory: emm.Memory) -> bool:
    """Whether the matrix is too full at its rank, and a larger one would help."""
    return memory.saturation > SATURATION_MAX and memory.rank < rank_max(memory)
