"""Every offset, size, magic and limit of a v3 file, once.

Purpose: the table below builds the `struct` codec, and `spec/tables.py` writes it into `spec/emm-v3.md`; a test fails
when the two differ. Invariants, asserted at import: fields are contiguous, little-endian, and add up to 64 bytes.
"""

from __future__ import annotations

import enum
from typing import Final

from emm.layout import Field, Record


class V3Flag(enum.IntFlag):
    """What a reader must know about the numbers of a v3 file."""

    SCALE_ON_QUERY = 1
    SIGMOID_INPUT = 2
    KEYS_NORMALISED = 4


V3_FLAG_MEANINGS: Final = {
    V3Flag.SCALE_ON_QUERY: "the factor 1/√dim lies on the query; else it lies on the stored key",
    V3Flag.SIGMOID_INPUT: "the input gate was a sigmoid, and m is 0; else it was an exponential",
    V3Flag.KEYS_NORMALISED: "keys were brought to length 1 before they were stored, and queries must be",
}

V3_MAGIC: Final = bytes.fromhex("89454d330d0a1a0a")  # \x89 E M 3 \r \n \x1a \n
V3_VERSION: Final = 3
V3_DTYPE_FLOAT32: Final = 1
V3_DIM_MAX: Final = 1 << 16
V3_NUMBER_MAX: Final = 2.0**60  # √dim times it, times a query, over all of dim: still finite in binary32

V3_HEADER: Final = Record(
    "V3Header",
    64,
    [
        Field(0, "8s", "magic", "`89 45 4D 33 0D 0A 1A 0A`; not v4's, so that a v4 reader refuses the file as foreign"),
        Field(8, "H", "version", "3"),
        Field(10, "B", "dtype", "1 = IEEE-754 binary32"),
        Field(11, "B", "reserved_a", "zero"),
        Field(12, "I", "flags", "see V3Flag"),
        Field(16, "I", "dim", "d: numbers in a key and in a value; rows and columns of C̃"),
        Field(20, "f", "log_scale", "m: the true C is eᵐ C̃, the true normaliser eᵐ ñ"),
        Field(24, "36s", "reserved_b", "zero"),
        Field(60, "I", "crc32", "CRC-32 of the whole file with these four bytes taken as zero"),
    ],
)


def v3_file_bytes(dim: int) -> int:
    """Length of a v3 file: header, C̃ (dim × dim) and ñ (dim), without padding (V3-2)."""
    return V3_HEADER.size + 4 * dim * (dim + 1)
