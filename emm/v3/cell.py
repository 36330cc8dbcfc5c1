"""What a v3 cell answers (`spec/emm-v3.md`, V3-12): the reading side of the mLSTM equations, in binary64.

Purpose: the answers that an upgrade must keep, computed from the file's own numbers and not from the upgraded state.
Invariants: pure; each answer is rounded to binary32 once, at the end; no query gives infinity or NaN.
Source: Beck, Pöppel, Spanring et al., "xLSTM: Extended Long Short-Term Memory" (2024), the mLSTM's stabilised form.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from emm.state import Float32Array
from emm.v3.codec import Cell
from emm.v3.layout import V3Flag

FLOOR_MIN: Final = 2.0**-1022
FLOOR_MAX: Final = 2.0**970  # so that √dim times it is a floor of P-7
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def floor_of(log_scale: float) -> float:
    """e^−m, the least value of the denominator, within what binary64 holds."""
    if log_scale < -690.0:
        return FLOOR_MAX
    return min(FLOOR_MAX, max(FLOOR_MIN, math.exp(-log_scale))) if log_scale < 708.0 else FLOOR_MIN


def recall(cell: Cell, queries: npt.ArrayLike) -> Float32Array:
    """h of each query: (n, dim) -> (n, dim) float32."""
    q = np.array(queries, np.float64, ndmin=2)
    if cell.flags & V3Flag.KEYS_NORMALISED:
        length = np.linalg.norm(q, axis=1, keepdims=True)
        q /= np.where(length > 0, length, 1.0)
    if cell.flags & V3Flag.SCALE_ON_QUERY:
        q /= math.sqrt(cell.dim)
    weight = np.maximum(np.abs(q @ cell.normaliser.astype(np.float64)), floor_of(cell.log_scale))
    with np.errstate(over="ignore"):
        found = q @ cell.matrix.T.astype(np.float64) / weight[:, None]
    answer: Float32Array = np.clip(found, -_FLOAT32_MAX, _FLOAT32_MAX).astype(np.float32)
    return answer
