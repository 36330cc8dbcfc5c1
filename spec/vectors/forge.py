"""Edits that keep every checksum but the one in question: what a forger, or a bug in a writer, would leave.

Purpose: show that a rule refuses a file, not a CRC. Invariants: every function takes the bytes of a whole file and
gives those of another; all that covers the changed bytes is made anew unless its name says otherwise.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass

from emm.layout import BLOCK_BYTES, BLOCK_ENTRY, COMMIT_PAYLOAD, HEADER, LINEAGE, RECORD_HEADER, SEGMENT_HEADER

_SHA, _CRC = HEADER.offset("sha256"), HEADER.offset("crc32")
TABLE = HEADER.size + LINEAGE.size
ALIGNMENT = 4096


@dataclass(frozen=True, slots=True)
class Parts:
    """A snapshot file, cut where its parts begin."""

    header: bytes
    lineage: bytes
    table: bytes
    metadata: bytes
    padding: bytes
    payload: bytes  # with its padding
    rest: bytes = b""  # whatever follows the mirror

    def join(self) -> bytes:
        """The file, with the head's SHA-256, the header's CRC and the mirror made anew."""
        body = self.lineage + self.table + self.metadata
        blank = self.header[:_SHA] + bytes(32) + self.header[_SHA + 32 : _CRC] + bytes(4)
        digest = hashlib.sha256(blank + body + self.padding).digest()
        header = with_crc(self.header[:_SHA] + digest + self.header[_SHA + 32 :])
        mirror = self.table + self.metadata + self.lineage + header
        return header + body + self.padding + self.payload + mirror + self.rest


def with_crc(header: bytes) -> bytes:
    """A header (of a snapshot or a segment) with a valid CRC-32 in its last four bytes."""
    return header[:124] + zlib.crc32(header[:124]).to_bytes(4, "little")


def cut(data: bytes) -> Parts:
    """The parts of a valid snapshot file."""
    values = HEADER.unpack(data)
    n_blocks = -(-values["payload_bytes"] // BLOCK_BYTES)
    metadata = TABLE + n_blocks * BLOCK_ENTRY.size
    head = metadata + values["metadata_bytes"]
    payload = -(-head // ALIGNMENT) * ALIGNMENT
    return Parts(
        data[: HEADER.size],
        data[HEADER.size : TABLE],
        data[TABLE:metadata],
        data[metadata:head],
        data[head:payload],
        data[payload : payload + n_blocks * BLOCK_BYTES],
    )


def patch(data: bytes, offset: int, new: bytes) -> bytes:
    """`data` with `new` at `offset`, and nothing else changed."""
    return data[:offset] + new + data[offset + len(new) :]


def flip(data: bytes, offset: int, bit: int = 0) -> bytes:
    """`data` with one bit flipped, and nothing else changed."""
    return patch(data, offset, bytes([data[offset] ^ 1 << bit]))


def head(data: bytes, offset: int, new: bytes) -> bytes:
    """A snapshot with `new` at `offset` of its header, lineage, table, metadata or the padding behind them."""
    parts = cut(data)
    before = parts.header + parts.lineage + parts.table + parts.metadata + parts.padding
    edited, pieces, at = patch(before, offset, new), [], 0
    for each in (parts.header, parts.lineage, parts.table, parts.metadata, parts.padding):
        pieces.append(edited[at : at + len(each)])
        at += len(each)
    return Parts(*pieces, parts.payload).join()


def header_only(data: bytes, offset: int, new: bytes, *, both: bool = True) -> bytes:
    """A snapshot whose header (and, with `both`, the one of its mirror) is patched; only the header's CRC follows."""
    edited = with_crc(patch(data[: HEADER.size], offset, new))
    return edited + data[HEADER.size : -HEADER.size] + (edited if both else data[-HEADER.size :])


def metadata(data: bytes, text: bytes) -> bytes:
    """A snapshot with other metadata, whatever it is."""
    parts = cut(data)
    length = len(text).to_bytes(4, "little")
    header = patch(parts.header, HEADER.offset("metadata_bytes"), length)
    used = TABLE + len(parts.table) + len(text)
    padding = bytes(-used % ALIGNMENT)
    return Parts(header, parts.lineage, parts.table, text, padding, parts.payload).join()


def payload(data: bytes, offset: int, new: bytes) -> bytes:
    """A snapshot with `new` at `offset` of its payload; table, head and mirror follow."""
    parts = cut(data)
    edited = patch(parts.payload, offset, new)
    blocks = [edited[at : at + BLOCK_BYTES] for at in range(0, len(edited), BLOCK_BYTES)]
    table = b"".join(zlib.crc32(each).to_bytes(4, "little") + hashlib.sha256(each).digest() for each in blocks)
    return Parts(parts.header, parts.lineage, table, parts.metadata, parts.padding, edited).join()


def payload_offset(data: bytes) -> int:
    """Where the payload of a valid snapshot begins."""
    parts = cut(data)
    return TABLE + len(parts.table) + len(parts.metadata) + len(parts.padding)


# --- segments ---------------------------------------------------------------------------------------


def segment(data: bytes, offset: int, new: bytes) -> bytes:
    """A segment with `new` in its header."""
    return with_crc(patch(data[: SEGMENT_HEADER.size], offset, new)) + data[SEGMENT_HEADER.size :]


def offsets(data: bytes) -> list[int]:
    """Where the records of a valid segment begin, and the end of the last one."""
    found = [SEGMENT_HEADER.size]
    while found[-1] < len(data):
        length = RECORD_HEADER.unpack(data, found[-1])["length"]
        found.append(found[-1] + -(-(RECORD_HEADER.size + length + 4) // 8) * 8)
    return found


def record(data: bytes, index: int, offset: int, new: bytes, uuid: bytes) -> bytes:
    """A segment with `new` at `offset` of record `index` (its header, payload or zeros); its two CRCs follow."""
    start, end = offsets(data)[index : index + 2]
    edited = patch(data[start : end - 4], offset, new)
    edited = edited[:28] + zlib.crc32(edited[:28]).to_bytes(4, "little") + edited[32:]
    trailer = zlib.crc32(edited, zlib.crc32(uuid)).to_bytes(4, "little")
    return data[:start] + edited + trailer + data[end:]


CHAIN = RECORD_HEADER.size + COMMIT_PAYLOAD.offset("chain")  # of a commit record
