"""One wrong bit in anything that a CRC-32 covers is found, however long it is."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from emm.verify.bitflip import flip_behind


@pytest.mark.parametrize("n_bytes", [1, 40, 65_536, 65_537, 1_000_003])
def test_a_flip_is_found_where_it_is(n_bytes: int) -> None:
    """Red when the steps of 64 KiB go the wrong way, or the last one is left out."""
    random = np.random.default_rng(n_bytes)
    data = bytearray(random.bytes(n_bytes))
    stated = zlib.crc32(data)
    for place in {0, n_bytes - 1, n_bytes // 2, int(random.integers(n_bytes))}:
        bit = int(random.integers(8))
        data[place] ^= 1 << bit
        assert flip_behind(zlib.crc32(data) ^ stated, n_bytes) == (n_bytes - 1 - place, bit)
        data[place] ^= 1 << bit


def test_two_flips_are_not_taken_for_one() -> None:
    """In a short string no other place explains them. Red when a place outside it is reported."""
    data = bytearray(200)
    stated = zlib.crc32(data)
    found = []
    for place in range(0, 190, 10):
        data[place] ^= 1
        data[place + 5] ^= 4
        found.append(flip_behind(zlib.crc32(data) ^ stated, 200))
        data[place] ^= 1
        data[place + 5] ^= 4
    assert found == [None] * len(found)
