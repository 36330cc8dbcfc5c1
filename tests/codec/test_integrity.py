"""Rules T-1 to T-3 and the CRC polynomial, against `crcmod` (another code base).

Red when the CRC is another polynomial or covers other bytes, when a block is hashed without its padding, when the
SHA-256 check is skipped because the CRC holds, or when a short block or table is accepted.
"""

from __future__ import annotations

import hashlib
import zlib

import crcmod.predefined
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emm.codec.integrity import (
    BlockEntry,
    check_block,
    crc32,
    decode_table,
    encode_table,
    hash_block,
    hash_payload,
)
from emm.errors import ChecksumError, TruncatedError
from emm.layout import BLOCK_BYTES

ORACLE = crcmod.predefined.mkPredefinedCrcFun("crc-32")


def test_crc_has_the_check_value_of_iso_hdlc() -> None:
    assert crc32(b"123456789") == 0xCBF43926 == ORACLE(b"123456789")


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_crc_of_parts_is_crcmods_of_the_whole(parts: list[bytes]) -> None:
    assert crc32(*parts) == ORACLE(b"".join(parts))


def test_t1_every_block_is_hashed_with_its_padding() -> None:
    payload = bytearray(3 * BLOCK_BYTES)
    payload[-BLOCK_BYTES : -BLOCK_BYTES + 5] = b"short"
    table = hash_payload(payload)
    assert len(table) == 3
    last = b"short" + bytes(BLOCK_BYTES - 5)
    assert table[2] == BlockEntry(ORACLE(last), hashlib.sha256(last).digest())
    assert decode_table(encode_table(table), 3) == table


def test_t1_short_block_or_table_is_truncated() -> None:
    block = bytes(BLOCK_BYTES)
    with pytest.raises(TruncatedError) as caught:
        check_block(block[:-1], hash_block(block), 4, 8192)
    assert (caught.value.rule, caught.value.offset, caught.value.found) == ("T-1", 8192, BLOCK_BYTES - 1)
    for length in (0, 71, 73, 108):
        with pytest.raises(TruncatedError) as caught:
            decode_table(bytes(length), 2)
        assert (caught.value.rule, caught.value.expected, caught.value.found) == ("T-1", 72, length)


def test_t2_flipped_bit_fails_the_crc() -> None:
    block = bytearray(b"emm" * BLOCK_BYTES)[:BLOCK_BYTES]
    entry = hash_block(bytes(block))
    check_block(bytes(block), entry, 0, 0)
    for bit in range(0, BLOCK_BYTES * 8, 65_537):
        block[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ChecksumError) as caught:
            check_block(bytes(block), entry, 5, 4096)
        assert (caught.value.rule, caught.value.offset) == ("T-2", 4096)
        assert "block 5" in caught.value.message
        block[bit // 8] ^= 1 << bit % 8


def test_t3_change_that_preserves_the_crc_fails_the_sha() -> None:
    """A CRC is linear: four chosen bytes make any block pass. That is why a digest stands behind it."""
    block = bytes(BLOCK_BYTES)
    entry = hash_block(block)
    forged = _with_crc(b"forged" + bytes(BLOCK_BYTES - 10), zlib.crc32(block))
    assert zlib.crc32(forged) == entry.crc32 and forged != block
    with pytest.raises(ChecksumError) as caught:
        check_block(forged, entry, 1, 4096 + BLOCK_BYTES)
    assert (caught.value.rule, caught.value.offset) == ("T-3", 4096 + BLOCK_BYTES)


def _with_crc(prefix: bytes, wanted: int) -> bytes:
    """`prefix` and four bytes such that the CRC-32 of both is `wanted`."""
    state = zlib.crc32(prefix) ^ 0xFFFFFFFF
    target = wanted ^ 0xFFFFFFFF
    table = [_crc_entry(n) for n in range(256)]
    by_top = {entry >> 24: n for n, entry in enumerate(table)}
    steps = []
    value = target
    for _ in range(4):
        n = by_top[value >> 24]
        steps.append(n)
        value = ((value ^ table[n]) << 8) & 0xFFFFFFFF
    tail = bytearray()
    for n in reversed(steps):
        byte = (state ^ n) & 0xFF
        tail.append(byte)
        state = table[n] ^ (state >> 8)
    assert state == target
    return prefix + bytes(tail)


def _crc_entry(n: int) -> int:
    for _ in range(8):
        n = n >> 1 ^ (0xEDB88320 if n & 1 else 0)
    return n


@pytest.mark.parametrize("length", [0, 1, 7, 64, 4096, BLOCK_BYTES])
def test_the_fast_crc_is_zlibs(length):
    """Red when the optional ISA-L computes another polynomial, or does not go on from a value."""
    isal_zlib = pytest.importorskip(
        "isal.isal_zlib", reason="needs ISA-L, which has wheels for x86_64 and aarch64 only"
    )
    data = bytes(range(251)) * (length // 251 + 1)
    for start in (0, 0xDEADBEEF):
        assert isal_zlib.crc32(data[:length], start) == zlib.crc32(data[:length], start)
    assert crc32(data[:length]) == zlib.crc32(data[:length])


def test_a_table_is_a_sequence():
    """Red when an index past the end decodes what lies there."""
    entries = [hash_block(bytes([n]) * BLOCK_BYTES) for n in range(3)]
    table = decode_table(encode_table(entries), 3)
    assert len(table) == 3 and table[-1] == entries[2] and table[1:] == entries[1:] and list(table) == entries
    for index in (3, -4):
        with pytest.raises(IndexError):
            table[index]
