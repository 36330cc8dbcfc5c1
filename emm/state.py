"""The values that codec and kernel share: parameters of a memory and its arithmetic state.

Purpose: let `emm.codec` (bytes) and `emm.kernel` (arithmetic) speak of the same thing without
knowing each other. Invariants: arrays are C-contiguous float32; M is (dim, rank), P̄ is (rank, rank),
U is (16, rank); unused rows of U are zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emm.layout import DEFERRED_MAX, RIDGE_DEFAULT, SEED_DEFAULT, Flag, Projection, Rule

NO_FLAGS = Flag(0)

Float32Array = npt.NDArray[np.float32]

ALIGNMENT_BYTES = 64  # of a cache line: rows that start on one are read and written in half the accesses


def aligned_empty(*shape: int) -> Float32Array:
    """A C-contiguous float32 array of this shape that starts on a cache line, with whatever was in memory."""
    count = int(np.prod(shape, dtype=np.int64))
    buffer = np.empty(count + ALIGNMENT_BYTES // 4, np.float32)
    start = -buffer.ctypes.data % ALIGNMENT_BYTES // 4
    return buffer[start : start + count].reshape(shape)


def aligned_zeros(*shape: int) -> Float32Array:
    """`aligned_empty`, all +0."""
    count = int(np.prod(shape, dtype=np.int64))
    buffer = np.zeros(count + ALIGNMENT_BYTES // 4, np.float32)  # pages that nobody touches cost nothing
    start = -buffer.ctypes.data % ALIGNMENT_BYTES // 4
    return buffer[start : start + count].reshape(shape)


def aligned_copy(array: Float32Array) -> Float32Array:
    """A copy of `array` that starts on a cache line."""
    copy = aligned_empty(*array.shape)
    copy[...] = array
    return copy


@dataclass(frozen=True, slots=True)
class Parameters:
    """What never changes in a memory's life, except `rank`, which expansion raises."""

    dim: int
    key_dim: int
    rank: int
    rule: Rule = Rule.PRECONDITIONED
    projection: Projection = Projection.HADAMARD
    seed: int = SEED_DEFAULT
    ridge: float = RIDGE_DEFAULT  # λ, exactly a float32


@dataclass(slots=True)
class GainState:
    """P = scale·P̄ + leak·I − Σ σₖ uₖuₖᵀ, kept deferred (spec A-rules)."""

    pbar: Float32Array  # (rank, rank)
    u: Float32Array  # (16, rank)
    signs: int  # bit k set: σₖ = −1
    count: int  # rows of u in use, 0..15
    scale: float  # a, exactly a float32
    leak: float  # b, exactly a float32
    gram_trace: float  # Σ β xᵀx, float64

    def copy(self) -> GainState:
        pbar, u = aligned_copy(self.pbar), aligned_copy(self.u)
        return GainState(pbar, u, self.signs, self.count, self.scale, self.leak, self.gram_trace)


@dataclass(frozen=True, slots=True)
class Normaliser:
    """By what the answers of an upgraded memory are divided until its first write (spec A-23)."""

    vector: Float32Array  # (rank,), n
    floor: float  # float64, above 0: the least denominator
    query_length: bool  # whether `floor` is taken times the length of the query


@dataclass(slots=True)
class MatrixState:
    """The whole arithmetic state of one memory. `gain` is None for rules 0 and 1.

    The flag NORMALISER is set exactly when there is a normaliser.
    """

    parameters: Parameters
    matrix: Float32Array  # (dim, rank), M
    gain: GainState | None
    flags: Flag = NO_FLAGS
    normaliser: Normaliser | None = None

    def copy(self) -> MatrixState:
        gain = None if self.gain is None else self.gain.copy()
        own = self.normaliser
        if own is not None:  # its array may lie in a mapped file
            own = Normaliser(aligned_copy(own.vector), own.floor, own.query_length)
        return MatrixState(self.parameters, aligned_copy(self.matrix), gain, self.flags, own)

    def drop_normaliser(self) -> None:
        """What the first write does: from then on the answers are M x."""
        self.normaliser = None
        self.flags &= ~Flag.NORMALISER


def empty_state(parameters: Parameters) -> MatrixState:
    """The state before the first write: M = 0, P̄ = I/λ."""
    matrix = aligned_zeros(parameters.dim, parameters.rank)
    gain = None
    if parameters.rule is Rule.PRECONDITIONED:
        prior = np.float32(1.0) / np.float32(parameters.ridge)
        pbar = aligned_zeros(parameters.rank, parameters.rank)
        np.fill_diagonal(pbar, prior)
        gain = GainState(pbar, aligned_zeros(DEFERRED_MAX, parameters.rank), 0, 0, 1.0, 0.0, 0.0)
    return MatrixState(parameters, matrix, gain)
