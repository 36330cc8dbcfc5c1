"""SHA-256 of many blocks at once: the digests are hashlib's, whatever computes them."""

from __future__ import annotations

import hashlib
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emm.codec import digests
from emm.codec.digests import DIGEST_BYTES, Lanes, block_digests, is_right, side_by_side
from emm.codec.integrity import RUN_BLOCKS, blocks_hold, blocks_in_doubt, hash_block, hash_payload
from emm.layout import BLOCK_BYTES

compiled = pytest.mark.skipif(side_by_side() is None, reason="needs AVX-512 and a C compiler")


def lanes() -> Lanes:
    found = side_by_side()
    assert found is not None
    return found


def one_by_one(data: bytes, size: int) -> list[bytes]:
    return [hashlib.sha256(data[start : start + size]).digest() for start in range(0, len(data), size)]


@pytest.mark.parametrize("n_blocks", [0, 1, 6, 7, 15, 16, 17, 22, 23, 40])
def test_blocks_hash_to_what_hashlib_says(n_blocks: int) -> None:
    """Red when a group that is not full, the last one or the first one hashes a block of another lane."""
    data = np.random.default_rng(n_blocks).bytes(n_blocks * BLOCK_BYTES)
    assert block_digests(data) == one_by_one(data, BLOCK_BYTES)
    assert hash_payload(data) == [
        hash_block(data[start : start + BLOCK_BYTES]) for start in range(0, len(data), BLOCK_BYTES)
    ]


@compiled
@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.sampled_from([64, 128, 192, 4096]), st.integers(0, 70), st.integers(0, 2**32))
def test_any_number_of_pieces_at_any_address(n: int, size: int, shift: int, seed: int) -> None:
    data = np.random.default_rng(seed).bytes(shift + n * size)
    assert lanes().digests(memoryview(data)[shift:], size) == one_by_one(data[shift:], size)


@compiled
def test_a_message_of_the_standard() -> None:
    """FIPS 180-4's own padding is part of a digest: 64 bytes of "a", and a million zeros in one piece."""
    found = lanes().digests(memoryview(b"a" * 64), 64)[0].hex()
    assert found == "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb"
    zeros = bytes(1 << 20)
    assert lanes().digests(memoryview(zeros), len(zeros)) == [hashlib.sha256(zeros).digest()]


@compiled
def test_nothing_beside_the_digests_is_written() -> None:
    lib, ffi = digests.side_by_side()._lib, digests.side_by_side()._ffi  # type: ignore[union-attr]
    data, out = np.random.default_rng(1).bytes(5 * 64), bytearray(b"\xa5" * (2 * 64 + 5 * DIGEST_BYTES))
    lib.emm_hash_blocks(ffi.from_buffer("uint8_t[]", data), 5, 64, ffi.from_buffer("uint8_t[]", out) + 64)
    assert out[:64] == out[-64:] == b"\xa5" * 64
    assert bytes(out[64:-64]) == b"".join(one_by_one(data, 64))


def test_one_changed_bit_in_any_block_is_noticed() -> None:
    data = bytearray(np.random.default_rng(2).bytes(23 * BLOCK_BYTES))
    entries = hash_payload(bytes(data))
    assert blocks_hold(memoryview(data), entries)
    for block in range(23):
        data[block * BLOCK_BYTES + 1000 * block] ^= 4
        assert not blocks_hold(memoryview(data), entries), block
        data[block * BLOCK_BYTES + 1000 * block] ^= 4
    assert not blocks_hold(memoryview(data), entries[:-1]) and not blocks_hold(memoryview(data), entries[::-1])


def test_only_blocks_beside_a_damaged_one_are_in_doubt() -> None:
    """Red when a run with damage is taken for whole, or one that is cut short."""
    data = bytearray(np.random.default_rng(4).bytes(2 * RUN_BLOCKS * BLOCK_BYTES + BLOCK_BYTES))
    table = hash_payload(data)
    assert not list(blocks_in_doubt(memoryview(data), table))
    data[(RUN_BLOCKS + 3) * BLOCK_BYTES] ^= 1
    second = list(enumerate(table))[RUN_BLOCKS : 2 * RUN_BLOCKS]
    assert list(blocks_in_doubt(memoryview(data), table)) == second
    last = (2 * RUN_BLOCKS, table[2 * RUN_BLOCKS])
    assert list(blocks_in_doubt(memoryview(data)[:-1], table)) == [*second, last]


def test_without_the_compiled_code_hashlib_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "side_by_side", lambda: None)
    data = np.random.default_rng(3).bytes(9 * BLOCK_BYTES)
    assert block_digests(data) == one_by_one(data, BLOCK_BYTES)


@compiled
def test_code_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that breaks it costs speed and a warning, never a digest."""
    right = Lanes.digests

    def wrong(self: Lanes, data: memoryview, size: int) -> list[bytes]:
        found = right(self, data, size)
        return [*found[:-1], found[-1][::-1]]

    with monkeypatch.context() as patch:
        patch.setattr(Lanes, "digests", wrong)
        assert not is_right(lanes())
        side_by_side.cache_clear()
        with pytest.warns(RuntimeWarning, match="wrong digests"):
            assert side_by_side() is None
    side_by_side.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert side_by_side() is not None
