"""Numbers as a few names, so that a pattern over them can repeat.

Purpose: `87.3` is an outcome that never comes again, `80..90` is one that does. A column's step is 1, 2 or 5 times a
power of ten, about a fifth of its usual spread; bands begin at multiples of it. Invariants: names depend on the step
alone, so they stay when a column grows, until its spread doubles; a band holds its lower end and not its upper one; a
column of few distinct values keeps them as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BANDS = 5  # about so many over the middle nine tenths of a column
DISTINCT_MAX = 8  # so few values are names already
_MANTISSAS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Bands:
    """How the numbers of one column are named. `step` None: each number is its own name."""

    step: float | None

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Bands:
        """The bands of a column, from a sample of its values; what is not finite is left out."""
        finite = np.asarray(values, np.float64)
        finite = finite[np.isfinite(finite)]
        if len(np.unique(finite)) <= DISTINCT_MAX:
            return cls(None)
        low, high = np.quantile(finite, (0.05, 0.95))
        spread = float(high - low) or float(np.ptp(finite))
        if not (math.isfinite(spread) and spread > 0 and math.isfinite(spread / BANDS)):
            return cls(None)
        power = math.floor(math.log10(spread / BANDS))
        if not -300 < power < 300:
            return cls(None)
        rough = spread / BANDS / 10.0**power
        return cls(next(each for each in _MANTISSAS if each >= rough * (1 - 1e-9)) * 10.0**power)

    def name(self, value: float) -> str:
        """`80..90` for 87.3 at a step of 10; the number itself without a step."""
        if self.step is None or not math.isfinite(value) or abs(value) > 1e15 * self.step:
            return number(value)
        low = math.floor(round(value / self.step, 9))
        decimals = max(0, -math.floor(math.log10(self.step) + 1e-9))
        if decimals > 9 or self.step > 1e9:
            return f"{number(low * self.step)}..{number((low + 1) * self.step)}"
        return f"{low * self.step:.{decimals}f}..{(low + 1) * self.step:.{decimals}f}"


def number(value: float) -> str:
    """At most six digits, without an exponent where six digits do."""
    return f"{value:.6g}"
