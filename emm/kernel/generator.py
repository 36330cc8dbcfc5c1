"""SplitMix64 and the draws that φ takes from it, defined to the bit (rule A-6).

Purpose: the seeded signs and the ordering of φ must come out the same on every machine and in every
language, so the generator is one that fits in three lines anywhere. It is a counter run through a
mixer, so the words can be computed all at once.
Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

_GAMMA = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


class Generator:
    """A stream of 64-bit words; `words(n)` takes the next n of them."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def words(self, n: int) -> Words:
        """The next n words."""
        steps = np.arange(1, n + 1, dtype=np.uint64)
        z = steps * np.uint64(_GAMMA) + np.uint64(self._state)  # wraps modulo 2⁶⁴, as it should
        self._state = (self._state + n * _GAMMA) & _MASK
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    def signs(self, n: int) -> npt.NDArray[np.float32]:
        """n numbers ±1: bit i mod 64, least significant first, of word i div 64; a set bit is −1."""
        words = self.words((n + 63) // 64)
        bits = (words[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
        return np.where(bits.reshape(-1)[:n] == 1, np.float32(-1), np.float32(1)).astype(np.float32)

    def shuffled(self, n: int) -> npt.NDArray[np.int64]:
        """0 … n−1 in random order: for i = n−1 down to 1, swap entries i and bounded(i + 1)."""
        items = list(range(n))
        limits = np.arange(n, 1, -1, dtype=np.uint64)
        for i, j in zip(range(n - 1, 0, -1), bounded(self.words(n - 1), limits).tolist(), strict=True):
            items[i], items[j] = items[j], items[i]
        return np.array(items, np.int64)


def bounded(words: Words, limits: Words) -> Words:
    """floor(word · limit / 2⁶⁴) for limits up to 2³²: the bounded draw of rule A-6."""
    low = ((words & np.uint64(0xFFFFFFFF)) * limits) >> np.uint64(32)
    return ((words >> np.uint64(32)) * limits + low) >> np.uint64(32)
