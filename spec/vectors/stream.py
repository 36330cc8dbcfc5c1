"""Numbers for vectors: SplitMix64 (spec A-6), so that they are the same on every machine and in every language.

The k-th number of a stream is ((word >> 40) − 2²³) / 2²³ of the k-th word: 24 bits, exact in binary32, in [−1, 1).
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from spec.twin import words


class Numbers:
    """A stream of numbers with one seed."""

    def __init__(self, seed: int) -> None:
        self._words = words(seed)

    def row(self, n: int) -> list[float]:
        return [((word >> 40) - (1 << 23)) / (1 << 23) for word in itertools.islice(self._words, n)]

    def rows(self, n_rows: int, n: int) -> npt.NDArray[np.float32]:
        """(n_rows, n) float32, row by row."""
        return np.array([self.row(n) for _ in range(n_rows)], np.float32).reshape(n_rows, n)
