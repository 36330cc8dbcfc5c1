"""Checksums of the format: CRC-32/ISO-HDLC per record and block, SHA-256 per block and head.

Purpose: the one place that knows which polynomial and which digest. Invariants: pure functions of
bytes; a block is always hashed with its zero padding (T-1), so every block is 65536 bytes.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass

from emm.errors import ChecksumError, TruncatedError
from emm.layout import BLOCK_BYTES, BLOCK_ENTRY


@dataclass(frozen=True, slots=True)
class BlockEntry:
    """What the integrity table states about one 64 KiB block of the payload."""

    crc32: int
    sha256: bytes

    def encode(self) -> bytes:
        return BLOCK_ENTRY.pack({"crc32": self.crc32, "sha256": self.sha256})


def crc32(*parts: bytes | bytearray | memoryview) -> int:
    """CRC-32/ISO-HDLC (check value CBF43926) of the parts, one after another."""
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return value


def hash_block(block: bytes | memoryview) -> BlockEntry:
    """The table entry of one whole block (65536 bytes)."""
    assert len(block) == BLOCK_BYTES
    return BlockEntry(zlib.crc32(block), hashlib.sha256(block).digest())


def hash_payload(payload: bytes | bytearray | memoryview) -> list[BlockEntry]:
    """Table entries of a payload padded to whole blocks."""
    view = memoryview(payload)
    return [hash_block(view[start : start + BLOCK_BYTES]) for start in range(0, len(view), BLOCK_BYTES)]


def check_block(block: bytes | memoryview, entry: BlockEntry, index: int, offset: int) -> None:
    """Raise `ChecksumError` (T-2 for the CRC, T-3 for the SHA-256) unless the block is what the table states.

    `offset` is the block's byte offset in its file.
    """
    if len(block) != BLOCK_BYTES:
        raise TruncatedError(
            f"block {index} is short", rule="T-1", offset=offset, expected=BLOCK_BYTES, found=len(block)
        )
    found_crc = zlib.crc32(block)
    if found_crc != entry.crc32:
        raise ChecksumError(
            f"block {index} fails its CRC-32",
            rule="T-2",
            offset=offset,
            expected=f"{entry.crc32:08x}",
            found=f"{found_crc:08x}",
        )
    found_sha = hashlib.sha256(block).digest()
    if found_sha != entry.sha256:
        raise ChecksumError(
            f"block {index} fails its SHA-256",
            rule="T-3",
            offset=offset,
            expected=entry.sha256.hex(),
            found=found_sha.hex(),
        )


def encode_table(entries: list[BlockEntry]) -> bytes:
    return b"".join(entry.encode() for entry in entries)


def decode_table(data: bytes | memoryview, n_blocks: int) -> list[BlockEntry]:
    """The entries of `n_blocks` blocks; the caller has checked the SHA-256 that covers them (H-12)."""
    expected = n_blocks * BLOCK_ENTRY.size
    if len(data) != expected:
        raise TruncatedError("the integrity table is short", rule="T-1", expected=expected, found=len(data))
    entries = []
    for index in range(n_blocks):
        values = BLOCK_ENTRY.unpack(data, index * BLOCK_ENTRY.size)
        entries.append(BlockEntry(values["crc32"], values["sha256"]))
    return entries
