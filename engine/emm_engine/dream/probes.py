"""The phase *probe*: a held-out set of questions that decides whether a dream did good or harm.

Purpose: judge the memory that is, and the one a dream would put in its place, by the same questions and the same truth.
Invariants: which pairs are probed follows from the cycle's id and the kept pairs; besides their own keys they are asked
by queries that nobody ever wrote, each at cosine 0.9 to its key, displaced as keys differ from each other; measuring
changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

import emm
from emm_engine.dream.kept import KeptPairs
from emm_engine.embeddings.provider import Float32Array

PROBES_MAX: Final = 256
QUERY_COSINE: Final = 0.9
COSINE_LOSS_MAX: Final = 0.01  # a mean cosine may fall by this much: the rounding of exact unlearning, and no more
TOP1_LOSS_MAX: Final = 0.02
_SEED: Final = 0xD3EA


@dataclass(frozen=True, slots=True)
class Probes:
    """Questions and their true answers."""

    keys: Float32Array  # (n, key_dim) as written
    queries: Float32Array  # (n, key_dim) held out
    values: Float32Array  # (m, dim) the different answers there are
    answers: np.typing.NDArray[np.intp]  # (n,) which of them is each probe's own


@dataclass(frozen=True, slots=True)
class Recall:
    """How well a memory answers: shares whose own answer is the nearest, and mean cosines to it."""

    n: int
    top1: float  # asked by the keys themselves
    cosine: float
    held_out_top1: float
    held_out_cosine: float

    def worse_than(self, before: Recall) -> bool:
        """Whether this loses against an earlier measurement by more than rounding."""
        return (
            min(self.cosine - before.cosine, self.held_out_cosine - before.held_out_cosine) < -COSINE_LOSS_MAX
            or min(self.top1 - before.top1, self.held_out_top1 - before.held_out_top1) < -TOP1_LOSS_MAX
        )


def chosen(cycle_id: int, kept: Sequence[int]) -> list[int]:
    """Which pairs are probed, ascending."""
    places = np.random.default_rng([cycle_id, _SEED]).permutation(len(kept))[:PROBES_MAX]
    return sorted(kept[place] for place in places.tolist())


def probes_of(pairs: KeptPairs, cycle_id: int, ids: Sequence[int], dim: int) -> Probes | None:
    """The probes over these pairs; None where none of them has a key and a value."""
    if not ids:
        return None
    keys, values = pairs.keys(ids), pairs.true(ids, dim)
    usable = keys.any(axis=1) & values.any(axis=1)
    if not usable.any():
        return None
    keys = np.ascontiguousarray(keys[usable])
    different, answers = np.unique(values[usable], axis=0, return_inverse=True)
    return Probes(keys, _displaced(keys, cycle_id), different, answers.reshape(-1))


def _displaced(keys: Float32Array, cycle_id: int) -> Float32Array:
    """(n, key_dim): beside each key, its own length, moved the way two other keys differ."""
    random = np.random.default_rng([cycle_id, _SEED, 1])
    wide = keys.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    wide /= lengths
    away = wide[random.permutation(len(wide))] - wide[random.permutation(len(wide))]
    away += 1e-6 * random.standard_normal(wide.shape)
    away -= np.einsum("ij,ij->i", away, wide)[:, None] * wide
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-30)
    moved = QUERY_COSINE * wide + np.sqrt(1.0 - QUERY_COSINE**2) * away
    return np.ascontiguousarray(lengths * moved, np.float32)


def measure(memory: emm.Memory, probes: Probes) -> Recall:
    """Ask a memory all the probes."""
    top1, cosine = _asked(memory, probes.keys, probes)
    held_out_top1, held_out_cosine = _asked(memory, probes.queries, probes)
    return Recall(len(probes.keys), top1, cosine, held_out_top1, held_out_cosine)


def _asked(memory: emm.Memory, queries: Float32Array, probes: Probes) -> tuple[float, float]:
    recalled = memory.recall(queries).astype(np.float64)
    unit = probes.values / np.linalg.norm(probes.values.astype(np.float64), axis=1, keepdims=True)
    lengths = np.maximum(np.linalg.norm(recalled, axis=1), 1e-30)
    cosines = recalled @ unit.T / lengths[:, None]
    own = cosines[np.arange(len(queries)), probes.answers]
    return float(np.mean(own >= cosines.max(axis=1))), float(own.mean())


def surprise(memory: emm.Memory, probes: Probes) -> float:
    """Mean of ‖v − M φ(k)‖ ÷ ‖v‖ over the probed pairs: what the memory gets wrong."""
    values = probes.values[probes.answers]
    missed = np.linalg.norm((values - memory.recall(probes.keys)).astype(np.float64), axis=1)
    return float(np.mean(missed / np.linalg.norm(values.astype(np.float64), axis=1)))
