"""Find the one flipped bit behind a block's failed CRC-32, and prove it with the block's SHA-256.

Purpose: rot usually flips single bits, and two checksums of one block are enough to put one back: CRC-32 is
linear, so stated XOR found depends only on the position of the bit, and its polynomial's order (2³² − 1) keeps
the 524,288 positions of a block apart. Invariants: pure; a position is only ever reported when the corrected
block has the SHA-256 that the table states.
"""

from __future__ import annotations

import functools
import hashlib
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emm.codec.integrity import BlockEntry
from emm.layout import BLOCK_BYTES

Words = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class BitFlip:
    """One wrong bit: byte offset inside the block, bit 0 (least significant) to 7, and the byte's two values."""

    offset: int
    bit: int
    found: int
    expected: int


def locate(block: bytes, entry: BlockEntry) -> BitFlip | None:
    """The single flipped bit that explains a damaged block, or None when it is not one flipped bit."""
    syndrome = np.uint32(zlib.crc32(block) ^ entry.crc32)
    ordered, positions = _syndromes()
    index = int(np.searchsorted(ordered, syndrome))
    if index == len(ordered) or ordered[index] != syndrome:
        return None
    from_end, bit = divmod(int(positions[index]), 8)
    offset = BLOCK_BYTES - 1 - from_end
    expected = block[offset] ^ (1 << bit)
    corrected = hashlib.sha256(block[:offset])
    corrected.update(bytes([expected]))
    corrected.update(block[offset + 1 :])
    if corrected.digest() != entry.sha256:
        return None
    return BitFlip(offset, bit, block[offset], expected)


@functools.cache
def _syndromes() -> tuple[Words, npt.NDArray[np.intp]]:
    """(sorted syndromes of all single-bit errors, their positions as 8 × bytes from the end + bit)."""
    shift = np.array([_after_zero_byte(1 << i) for i in range(32)], np.uint32)  # images of the 32 unit registers
    table = np.array([_after_zero_byte(1 << bit) for bit in range(8)], np.uint32)  # a bit of the last byte
    while len(table) < 8 * BLOCK_BYTES:  # the first half again, further from the end by its own length
        table = np.concatenate([table, _apply(shift, table)])
        shift = _apply(shift, shift)
    positions = np.argsort(table)
    return table[positions], positions


def _after_zero_byte(register: int) -> int:
    """CRC-32's register (reflected) after eight more zero bits."""
    for _ in range(8):
        register = register >> 1 ^ (0xEDB88320 if register & 1 else 0)
    return register


def _apply(images: Words, registers: Words) -> Words:
    """A linear map, given by the images of the 32 unit registers, applied to many registers."""
    result = np.zeros_like(registers)
    for bit in range(32):
        result ^= (registers >> np.uint32(bit) & np.uint32(1)) * images[bit]
    return result
