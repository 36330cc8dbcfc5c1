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
        return GainState(
            self.pbar.copy(), self.u.copy(), self.signs, self.count, self.scale, self.leak, self.gram_trace
        )


@dataclass(slots=True)
class MatrixState:
    """The whole arithmetic state of one memory. `gain` is None for rules 0 and 1."""

    parameters: Parameters
    matrix: Float32Array  # (dim, rank), M
    gain: GainState | None
    flags: Flag = NO_FLAGS

    def copy(self) -> MatrixState:
        gain = None if self.gain is None else self.gain.copy()
        return MatrixState(self.parameters, self.matrix.copy(), gain, self.flags)


def empty_state(parameters: Parameters) -> MatrixState:
    """The state before the first write: M = 0, P̄ = I/λ."""
    matrix = np.zeros((parameters.dim, parameters.rank), np.float32)
    gain = None
    if parameters.rule is Rule.PRECONDITIONED:
        prior = np.float32(1.0) / np.float32(parameters.ridge)
        pbar = np.zeros((parameters.rank, parameters.rank), np.float32)
        np.fill_diagonal(pbar, prior)
        gain = GainState(pbar, np.zeros((DEFERRED_MAX, parameters.rank), np.float32), 0, 0, 1.0, 0.0, 0.0)
    return MatrixState(parameters, matrix, gain)
