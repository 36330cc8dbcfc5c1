"""φ: from a key of key_dim numbers to x of rank numbers (rules A-6 to A-8).

Purpose: build, once per (key_dim, seed), what φ needs: padded size, signs, ordering, scale. The
arithmetic itself (butterflies) is the backend's. Invariants: the ordering does not depend on the
rank, so φ nests: a larger rank keeps every earlier coordinate to the bit.

The ordering is stratified: zero padding makes the n coordinates of the transform dependent in
groups {lo, lo + m, lo + 2m, lo + 3m}, m = n/4, so each pass takes one of every group.
Source: Ailon and Chazelle (2009) for signs and Hadamard; spec A-6 for the strata.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from emm.errors import InputError
from emm.kernel.generator import Generator
from emm.layout import DIM_MAX, RANK_MULTIPLE, Projection
from emm.state import Float32Array, Parameters


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What φ does to every key of one memory."""

    padded: int  # n, a power of two
    signs: Float32Array  # (n,) ±1
    order: npt.NDArray[np.int32]  # (n,) a permutation; the first `rank` entries are kept
    scale: np.float32  # fl(1/√n)


@lru_cache(maxsize=64)
def plan(key_dim: int, seed: int) -> Plan:
    """Signs, ordering and scale of φ for keys of `key_dim` ≥ 16 numbers."""
    n = 1 << max(key_dim - 1, 1).bit_length()
    m = n // 4
    generator = Generator(seed)
    signs = generator.signs(n)
    words = generator.words(m)
    h = (words >> np.uint64(62)).astype(np.int64)
    t = ((words >> np.uint64(61)) & np.uint64(1)).astype(np.int64)
    ascending = np.arange(m, dtype=np.int64)
    first, second = generator.shuffled(m), generator.shuffled(m)
    order = np.concatenate(
        [
            h[first] * m + first,
            (h ^ 1)[second] * m + second,
            (h ^ 2 ^ t) * m + ascending,
            (h ^ 3 ^ t) * m + ascending,
        ]
    ).astype(np.int32)
    for array in (signs, order):
        array.flags.writeable = False
    return Plan(n, signs, order, np.float32(1.0 / np.sqrt(np.float64(n))))


def check_parameters(parameters: Parameters) -> None:
    """Raise `InputError` unless the shape of a memory obeys rules A-1 and A-6."""
    for name in ("dim", "key_dim", "rank"):
        value = getattr(parameters, name)
        if not 1 <= value <= DIM_MAX:
            raise InputError(f"{name} is out of range", rule="A-1", expected=f"1 to {DIM_MAX}", found=value)
    rank, key_dim = parameters.rank, parameters.key_dim
    if rank % RANK_MULTIPLE:
        raise InputError("rank must be a multiple of 16", rule="A-1", found=rank)
    if parameters.projection is Projection.HADAMARD and rank > key_dim:
        raise InputError("rank may not exceed key_dim: more buys nothing", rule="A-6", expected=key_dim, found=rank)
    if parameters.projection is Projection.NONE and rank < key_dim:
        raise InputError(
            "without a projection the rank must hold the whole key", rule="A-6", expected=f"≥ {key_dim}", found=rank
        )
    ridge = parameters.ridge
    if not (2.0**-20 <= ridge <= 2.0**20 and float(np.float32(ridge)) == ridge):
        raise InputError("ridge must be a float32", rule="A-1", expected="2^-20 to 2^20", found=ridge)
    if not 0 <= parameters.seed < 1 << 64:
        raise InputError("the projection seed is a 64-bit number", rule="A-6", found=parameters.seed)
