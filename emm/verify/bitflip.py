"""Find the one flipped bit behind a block's failed CRC-32, and prove it with the block's SHA-256.

Purpose: rot usually flips single bits, and two checksums of one block are enough to put one back: CRC-32 is
linear, so stated XOR found depends only on the position of the bit, and its polynomial's order (2³² − 1) keeps
all positions apart in anything shorter than 512 MiB. Invariants: pure; a position in a block is only ever reported
when the corrected block has the SHA-256 that the table states.
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
    place = flip_behind(zlib.crc32(block) ^ entry.crc32, BLOCK_BYTES)
    if place is None:
        return None
    from_end, bit = place
    offset = BLOCK_BYTES - 1 - from_end
    expected = block[offset] ^ (1 << bit)
    corrected = hashlib.sha256(block[:offset])
    corrected.update(bytes([expected]))
    corrected.update(block[offset + 1 :])
    if corrected.digest() != entry.sha256:
        return None
    return BitFlip(offset, bit, block[offset], expected)


def flip_behind(syndrome: int, n_bytes: int) -> tuple[int, int] | None:
    """(bytes from the end, bit) of the one flip in `n_bytes` bytes that changes their CRC-32 by `syndrome`, or None.

    64 KiB are looked up at once; longer strings are stepped through, the register going back by 64 KiB each time.
    """
    ordered, positions = _syndromes()
    register = np.array([syndrome], np.uint32)
    for passed in range(0, n_bytes, BLOCK_BYTES):
        index = int(np.searchsorted(ordered, register[0]))
        if index < len(ordered) and ordered[index] == register[0]:
            from_end, bit = divmod(int(positions[index]), 8)
            return (passed + from_end, bit) if passed + from_end < n_bytes else None
        register = _apply(_block_back(), register)
    return None


@functools.cache
def _block_back() -> Words:
    """Images of the unit registers 64 KiB of zeros earlier: one bit's step has order 2³² − 1, so it goes around."""
    step = np.array([bit >> 1 ^ (0xEDB88320 if bit & 1 else 0) for bit in (1 << i for i in range(32))], np.uint32)
    result = np.uint32(1) << np.arange(32, dtype=np.uint32)
    times = 2**32 - 1 - 8 * BLOCK_BYTES
    while times:
        if times & 1:
            result = _apply(step, result)
        step, times = _apply(step, step), times >> 1
    return result


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
