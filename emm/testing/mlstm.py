"""A small reference of v3's storage: the matrix cell of xLSTM (mLSTM), as published.

Purpose: show what the cell that EMM began with does better and worse, measured and not remembered. Invariants: NumPy
in binary64; C and n are kept as e^m C̃ and e^m ñ, so an exponential input gate cannot overflow.
Source: Beck, Pöppel, Spanring et al., "xLSTM: Extended Long Short-Term Memory" (2024), equations 19 to 27, without
projections and output gate; keys are taken as given (the 1/√d of the paper is a constant that the normaliser takes out
again wherever |nᵀq| ≥ 1).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from emm.layout import Rule
from emm.state import Float32Array, MatrixState, Parameters

MLSTM_NAME = "mLSTM cell (v3)"


class Mlstm:
    """C ← f C + i v kᵀ, n ← f n + i k; recall C q ÷ max(|nᵀq|, 1)."""

    def __init__(self, dim: int, rank: int) -> None:
        self._matrix = np.zeros((dim, rank))  # C̃
        self._normaliser = np.zeros(rank)  # ñ
        self._log_scale = 0.0  # m

    def write(
        self,
        x: Float32Array,  # (n, rank)
        values: Float32Array,  # (n, dim)
        forget: float = 1.0,  # f, in (0, 1]
        log_input: npt.ArrayLike = 0.0,  # log i, a number or (n,)
    ) -> None:
        """Store pairs in order: the recurrence summed up over the batch, each pair faded by those behind it."""
        n = len(x)
        log_forget = float(np.log(forget))
        log_weights = np.broadcast_to(log_input, n) + log_forget * np.arange(n - 1, -1, -1)
        log_kept = self._log_scale + n * log_forget
        scale = max(log_kept, float(log_weights.max()))
        kept, weights = np.exp(log_kept - scale), np.exp(log_weights - scale)
        wide = x.astype(np.float64)
        self._matrix = kept * self._matrix + (weights[:, None] * values).T @ wide
        self._normaliser = kept * self._normaliser + weights @ wide
        self._log_scale = scale

    def recall(self, x: Float32Array) -> Float32Array:
        """(n, rank) -> (n, dim)."""
        wide = x.astype(np.float64)
        weight = np.maximum(np.abs(wide @ self._normaliser), np.exp(-self._log_scale))
        found: Float32Array = (wide @ self._matrix.T / weight[:, None]).astype(np.float32)
        return found

    @property
    def log_scale(self) -> float:
        """m."""
        return self._log_scale

    def scaled(self) -> tuple[Float32Array, Float32Array]:
        """(C̃, ñ), rounded to binary32: what a v3 file holds beside m."""
        return self._matrix.astype(np.float32), self._normaliser.astype(np.float32)

    def as_state(self, parameters: Parameters) -> MatrixState:
        """C as a state of rule 0, for the measures that look at a matrix."""
        matrix = (np.exp(self._log_scale) * self._matrix).astype(np.float32)
        return MatrixState(replace(parameters, rule=Rule.OUTER_PRODUCT), matrix, None)
