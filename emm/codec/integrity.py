"""Checksums of the format: CRC-32/ISO-HDLC per record and block, SHA-256 per block and head.

Purpose: the one place that knows which polynomial and which digest. Invariants: pure functions of
bytes; a block is always hashed with its zero padding (T-1), so every block is 65536 bytes; zlib and the optional
ISA-L compute the same polynomial, the latter many times as fast; what many blocks hash to is what each does.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from emm.codec.digests import block_digests
from emm.errors import ChecksumError, TruncatedError
from emm.layout import BLOCK_BYTES, BLOCK_ENTRY

_Crc32 = Callable[[bytes | bytearray | memoryview, int], int]


def _fastest() -> _Crc32:
    try:  # the extra "fast"
        from isal import isal_zlib
    except ImportError:
        return zlib.crc32
    found: _Crc32 = isal_zlib.crc32
    return found


_crc32 = _fastest()
_ENTRY = struct.Struct("<" + "".join(field.format for field in BLOCK_ENTRY.fields))  # decoded for every block there is
assert [field.name for field in BLOCK_ENTRY.fields] == ["crc32", "sha256"]  # the fields of `BlockEntry`, in order
RUN_BLOCKS = 16  # hashed at a time: a megabyte, which the cache of a core holds
_RUN_BYTES = RUN_BLOCKS * BLOCK_BYTES
CRC_BY = "zlib" if _crc32 is zlib.crc32 else "isal"  # named by the benchmarks


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
        value = _crc32(part, value)
    return value


def hash_block(block: bytes | memoryview) -> BlockEntry:
    """The table entry of one whole block (65536 bytes)."""
    assert len(block) == BLOCK_BYTES
    return BlockEntry(_crc32(block, 0), hashlib.sha256(block).digest())


def hash_payload(payload: bytes | bytearray | memoryview) -> BlockTable:
    """The table of a payload padded to whole blocks."""
    view = memoryview(payload).cast("B")
    entries: list[bytes] = []
    for start in range(0, len(view), _RUN_BYTES):  # each checksum finds in the cache what the other has read
        run = view[start : start + _RUN_BYTES]
        crcs = [_crc32(run[at : at + BLOCK_BYTES], 0) for at in range(0, len(run), BLOCK_BYTES)]
        entries += map(_ENTRY.pack, crcs, block_digests(run))
    return BlockTable(b"".join(entries))


def blocks_hold(blocks: memoryview, entries: Sequence[BlockEntry]) -> bool:
    """Whether these consecutive whole blocks are what the table states; `check_block` says what is wrong with one."""
    return hash_payload(blocks) == entries


def blocks_in_doubt(payload: memoryview, table: Sequence[BlockEntry]) -> Iterator[tuple[int, BlockEntry]]:
    """(index, entry) of every block that lies in a run with one that fails; the others are what the table states."""
    for first in range(0, len(table), RUN_BLOCKS):
        entries = table[first : first + RUN_BLOCKS]
        run = payload[first * BLOCK_BYTES : (first + len(entries)) * BLOCK_BYTES]
        if len(run) != len(entries) * BLOCK_BYTES or not blocks_hold(run, entries):
            yield from enumerate(entries, first)


def check_block(block: bytes | memoryview, entry: BlockEntry, index: int, offset: int) -> None:
    """Raise `ChecksumError` (T-2 for the CRC, T-3 for the SHA-256) unless the block is what the table states.

    `offset` is the block's byte offset in its file.
    """
    if len(block) != BLOCK_BYTES:
        raise TruncatedError(
            f"block {index} is short", rule="T-1", offset=offset, expected=BLOCK_BYTES, found=len(block)
        )
    found_crc = _crc32(block, 0)
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


@dataclass(frozen=True, slots=True, eq=False)
class BlockTable(Sequence[BlockEntry]):
    """The entries of an integrity table, decoded when they are asked for: the payload may be large."""

    data: bytes

    def __len__(self) -> int:
        return len(self.data) // BLOCK_ENTRY.size

    @overload
    def __getitem__(self, index: int) -> BlockEntry: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[BlockEntry]: ...

    def __getitem__(self, index: int | slice) -> BlockEntry | Sequence[BlockEntry]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return BlockTable(self.data[start * _ENTRY.size : stop * _ENTRY.size])
            return [self._entry(each) for each in range(start, stop, step)]
        if 0 <= index < len(self):
            return self._entry(index)
        if -len(self) <= index < 0:
            return self._entry(index + len(self))
        raise IndexError(index)

    def __iter__(self) -> Iterator[BlockEntry]:
        return map(self._entry, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, BlockTable):
            return self.data == other.data
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.data)

    def _entry(self, index: int) -> BlockEntry:
        return BlockEntry(*_ENTRY.unpack_from(self.data, index * _ENTRY.size))


def encode_table(entries: Sequence[BlockEntry]) -> bytes:
    return entries.data if isinstance(entries, BlockTable) else b"".join(entry.encode() for entry in entries)


def decode_table(data: bytes | memoryview, n_blocks: int) -> BlockTable:
    """The entries of `n_blocks` blocks; the caller has checked the SHA-256 that covers them (H-12)."""
    expected = n_blocks * BLOCK_ENTRY.size
    if len(data) != expected:
        raise TruncatedError("the integrity table is short", rule="T-1", expected=expected, found=len(data))
    return BlockTable(bytes(data))
