"""One memory learnt by many workers, each from a part of the pairs.

Purpose: a unit is a part of the pairs and the shape of a memory; its result is the memory of these pairs, and all of
them merge to the memory of all pairs. Invariants: the parts are a function of the pairs alone, so the result is the
same to the bit for any number of workers; it is within the bound of merging (about 1e-5) of what one process learns
from all pairs in one pass; rows are taken from the arrays as they are needed, so arrays that are mapped stay on disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

import emm
from emm import InputError
from emm_engine.embeddings.provider import Float32Array
from emm_engine.scale.merging import merge_through
from emm_engine.scale.partial import Partial
from emm_engine.scale.unit import identity_of
from emm_engine.scale.workers import Workers

PAIRS_PER_PART: Final = 4096
PARTS_MAX: Final = 64  # beyond it parts grow: merging costs more than what it saves


@dataclass(frozen=True, slots=True)
class Like:
    """The memory to make: M is (dim, rank), a key has key_dim numbers; rule 2 with the ridge λ."""

    dim: int
    rank: int
    key_dim: int
    ridge: float

    def create(self, path: Path) -> emm.Memory:
        """An empty one that never expands: it would not merge."""
        return emm.create(
            str(path), dim=self.dim, rank=self.rank, key_dim=self.key_dim, ridge=self.ridge, expand_at=0.0
        )


@dataclass(frozen=True, slots=True, eq=False)
class LearnUnit:
    """Part of the pairs."""

    like: Like
    keys: Float32Array  # (n, key_dim)
    values: Float32Array  # (n, dim)

    @property
    def identity(self) -> str:
        return identity_of("learn", repr(self.like), self.keys.tobytes(), self.values.tobytes())

    def run(self) -> Partial:
        with tempfile.TemporaryDirectory(prefix="emm-learn-") as scratch:
            path = Path(scratch) / "part"
            with self.like.create(path) as memory:
                memory.write(self.keys, self.values)
                memory.checkpoint()
            return Partial.of(path)


def learn_through(workers: Workers, like: Like, keys: Float32Array, values: Float32Array, into: Path) -> emm.Memory:
    """A new memory at `into` of the pairs keys (n, key_dim) and values (n, dim), open for append.

    `InputError` where the arrays do not fit, `ExistsError` where there is something at `into`.
    """
    for name, array, width in (("keys", keys, like.key_dim), ("values", values, like.dim)):
        if array.ndim != 2 or array.shape[1] != width or len(array) != len(keys) or not len(array):
            raise InputError(f"the {name} do not fit", expected=(len(keys) or "n > 0", width), found=array.shape)
    return merge_through(workers, list(workers.results(_parts(like, keys, values))), into)


def _parts(like: Like, keys: Float32Array, values: Float32Array) -> Iterator[LearnUnit]:
    n_part = max(PAIRS_PER_PART, -(-len(keys) // PARTS_MAX))
    for low in range(0, len(keys), n_part):
        part = slice(low, low + n_part)
        yield LearnUnit(
            like, np.ascontiguousarray(keys[part], np.float32), np.ascontiguousarray(values[part], np.float32)
        )
