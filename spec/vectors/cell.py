"""A v3 writer and the recurrent cell behind it, for vectors and tests (`spec/emm-v3.md`, V3-11): v3 is frozen.

Purpose: make v3 files, whole and broken. Invariants: the recurrence is V3-11 step by step in binary64, its state is
rounded to binary32 when it is written; nothing of the library is used but the header's table and the magic, so that a
reader is held against other code.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from emm.v3.layout import V3_HEADER, V3_MAGIC, V3Flag

CRC_AT = 60
NO_FLAGS = V3Flag(0)


@dataclass
class Mlstm:
    """One cell of dim d. `write` one pair at a time; `bytes` gives the file."""

    dim: int
    flags: V3Flag = NO_FLAGS
    matrix: npt.NDArray[np.float64] = field(init=False)
    normaliser: npt.NDArray[np.float64] = field(init=False)
    log_scale: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.matrix = np.zeros((self.dim, self.dim))
        self.normaliser = np.zeros(self.dim)

    def write(self, key: npt.ArrayLike, value: npt.ArrayLike, forget: float = 1.0, log_input: float = 0.0) -> None:
        """V3-11 with a forget gate in (0, 1] and the input gate's pre-activation."""
        k, v = np.asarray(key, np.float64), np.asarray(value, np.float64)
        if self.flags & V3Flag.KEYS_NORMALISED and np.any(k):
            k = k / math.sqrt(float(k @ k))
        if not self.flags & V3Flag.SCALE_ON_QUERY:
            k = k / math.sqrt(self.dim)
        if self.flags & V3Flag.SIGMOID_INPUT:
            kept, weight, scale = forget, 1.0 / (1.0 + math.exp(-log_input)), 0.0
        else:
            scale = max(math.log(forget) + self.log_scale, log_input)
            kept = math.exp(math.log(forget) + self.log_scale - scale)
            weight = math.exp(log_input - scale)
        self.matrix = kept * self.matrix + weight * np.outer(v, k)
        self.normaliser = kept * self.normaliser + weight * k
        self.log_scale = scale

    def read(self, query: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """V3-12 for one query, from the state before it is rounded."""
        q = np.asarray(query, np.float64)
        if self.flags & V3Flag.KEYS_NORMALISED and np.any(q):
            q = q / math.sqrt(float(q @ q))
        if self.flags & V3Flag.SCALE_ON_QUERY:
            q = q / math.sqrt(self.dim)
        found: npt.NDArray[np.float64] = self.matrix @ q
        weight = max(abs(float(self.normaliser @ q)), math.exp(-self.log_scale))
        return found / weight if weight > 0 else found  # zeros over a floor that binary64 cannot hold

    def bytes(self) -> bytes:
        """The v3 file."""
        header = V3_HEADER.pack(
            {
                "magic": V3_MAGIC,
                "version": 3,
                "dtype": 1,
                "flags": int(self.flags),
                "dim": self.dim,
                "log_scale": self.log_scale,
                "crc32": 0,
            }
        )
        return with_crc(header + self.matrix.astype("<f4").tobytes() + self.normaliser.astype("<f4").tobytes())


def with_crc(data: bytes) -> bytes:
    """A whole file with its CRC-32 made anew."""
    blank = data[:CRC_AT] + bytes(4) + data[CRC_AT + 4 :]
    return data[:CRC_AT] + zlib.crc32(blank).to_bytes(4, "little") + data[CRC_AT + 4 :]


def patched(data: bytes, offset: int, new: bytes) -> bytes:
    """`data` with `new` at `offset` and a CRC-32 that fits."""
    return with_crc(data[:offset] + new + data[offset + len(new) :])
