"""SHA-256 of blocks, many at once where the processor can.

Purpose: every block has a digest of its own (T-1), so sixteen of them can be computed side by side; one SHA-256 alone
is a chain of steps that leaves most of a processor idle. Invariants: the digests are `hashlib`'s, which serves where
the compiled code is absent, where the processor has no AVX-512, for a few blocks, and, with a warning, where a test at
first use finds another digest; the lock of the interpreter is released meanwhile.
"""

from __future__ import annotations

import hashlib
import warnings
from functools import lru_cache
from typing import Any, Final

from emm.layout import BLOCK_BYTES

DIGEST_BYTES: Final = 32
_TOGETHER_MIN: Final = 7  # blocks: fewer are faster one after another


def block_digests(blocks: bytes | bytearray | memoryview) -> list[bytes]:
    """The SHA-256 of each of the whole blocks (65536 bytes) that lie here one behind another."""
    view = memoryview(blocks).cast("B")
    n_blocks, rest = divmod(len(view), BLOCK_BYTES)
    assert rest == 0, "whole blocks"
    lanes = side_by_side()
    together = 0
    if lanes is not None:
        over = n_blocks % lanes.width
        together = n_blocks - (over if over < _TOGETHER_MIN else 0)
    found = lanes.digests(view[: together * BLOCK_BYTES], BLOCK_BYTES) if lanes is not None and together else []
    starts = range(together * BLOCK_BYTES, len(view), BLOCK_BYTES)
    return found + [hashlib.sha256(view[start : start + BLOCK_BYTES]).digest() for start in starts]


def hashed_by() -> str:
    """How blocks are hashed here, in words for a benchmark's page."""
    lanes = side_by_side()
    return "hashlib" if lanes is None else f"{lanes.width} blocks side by side"


class Lanes:
    """The compiled code."""

    def __init__(self, module: Any, width: int) -> None:
        self._ffi, self._lib = module.ffi, module.lib
        self.width = width  # blocks at once

    def digests(self, data: memoryview, size: int) -> list[bytes]:
        """Of consecutive pieces of `size` bytes, a multiple of 64."""
        n, rest = divmod(len(data), size)
        assert rest == 0 and size % 64 == 0 and size, "whole pieces of whole chunks"
        out = bytearray(n * DIGEST_BYTES)
        from_buffer = self._ffi.from_buffer
        self._lib.emm_hash_blocks(from_buffer("uint8_t[]", data), n, size, from_buffer("uint8_t[]", out))
        return [bytes(out[start : start + DIGEST_BYTES]) for start in range(0, len(out), DIGEST_BYTES)]


@lru_cache(maxsize=1)
def side_by_side() -> Lanes | None:
    """The compiled code, where it is there, runs on this processor and is right."""
    try:
        from emm.codec import _blocks  # type: ignore[attr-defined, unused-ignore]
    except ImportError:
        return None
    width = int(_blocks.lib.emm_hash_lanes())
    if not width:
        return None
    lanes = Lanes(_blocks, width)
    if not is_right(lanes):
        warnings.warn(
            "the compiled SHA-256 of EMM computes wrong digests: its compiler broke it; hashlib is used instead",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    return lanes


def is_right(lanes: Lanes) -> bool:
    """Whether the compiled code agrees with `hashlib`, on a full and a partial group (a tenth of a millisecond)."""
    size, n = 128, lanes.width + 3
    data = bytes((7 * each * each + 13 * each) % 251 for each in range(n * size))
    expected = [hashlib.sha256(data[start : start + size]).digest() for start in range(0, len(data), size)]
    return lanes.digests(memoryview(data), size) == expected
