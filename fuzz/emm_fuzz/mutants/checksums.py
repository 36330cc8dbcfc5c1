"""Checksums that leave something out, one field each.

Purpose: the mutants of what a CRC-32 covers. Invariants: writer and reader agree, so nothing fails in a life without
damage; where another check judges the same bytes, the mutant is equivalent and says which one does.
"""

from __future__ import annotations

from typing import Final

from emm_fuzz.damage import flip, foreign_record
from emm_fuzz.mutants.damages import relabelled
from emm_fuzz.mutants.killers import believed, damaged
from emm_fuzz.mutants.patching import Patch
from emm_fuzz.mutants.planting import Mutant

ENCODE: Final = "emm.codec.journal:encode_record"
HEADER: Final = "emm.codec.journal:_record_header"
DECODE: Final = "emm.codec.journal:decode_record"
WAL1: Final = "0000000000000001.wal"
WAL2: Final = "0000000000000002.wal"

_WRITTEN: Final = "crc32(uuid, header, payload, padding)"
_READ: Final = "crc32(uuid, data[: size - RECORD_TRAILER_BYTES])"


def _record_crc(written: str, read: str) -> tuple[Patch, Patch]:
    """The CRC-32 behind a record over these bytes instead."""
    return Patch(ENCODE, _WRITTEN, f"crc32({written})"), Patch(DECODE, _READ, f"crc32({read})")


def _without(first: int, end: int) -> tuple[Patch, ...]:
    """Neither CRC-32 of a record covers these bytes of its header."""
    covered = f"[:{first}], {{0}}[{end}:_RECORD_CRC]"
    return (
        Patch(ENCODE, "crc32(header[:_RECORD_CRC])", f"crc32(header{covered.format('header')})"),
        Patch(HEADER, "crc32(data[:_RECORD_CRC])", f"crc32(data{covered.format('data')})"),
        *_record_crc(
            f"uuid, header[:{first}], header[{end}:], payload, padding",
            f"uuid, data[:{first}], data[{end} : size - RECORD_TRAILER_BYTES]",
        ),
    )


CHECKSUMS: Final = (
    Mutant(
        "crc-without-type",
        "A record's type is in neither of its CRCs.",
        _without(4, 6),
        damaged("write", "mark", by=relabelled(WAL1, -1, type=8), what="a mark that became a seal"),
    ),
    Mutant(
        "crc-without-synced-through",
        "What a record says was synced before it is in neither of its CRCs.",
        _without(16, 24),
        damaged(
            "write",
            "write",
            "mark",
            by=relabelled(WAL1, 3, synced_through=0),
            what="a commit that proves less than it did",
        ),
    ),
    Mutant(
        "crc-without-lsn",
        "A record's LSN is in neither of its CRCs.",
        _without(8, 16),
        damaged("write", "write", "mark", by=relabelled(WAL1, 3, lsn=3), what="a commit under another LSN"),
        equivalent="every LSN must follow the one before (J-11), and the chain covers it (J-12); as evidence only what "
        "a record says was synced counts",
    ),
    Mutant(
        "crc-without-length",
        "A record's length is in neither of its CRCs.",
        _without(24, 28),
        damaged("write", "mark", by=relabelled(WAL1, -1, length=3), what="a mark that has a payload"),
        equivalent="a length decides which bytes the CRC covers, so only one that pads to the same size could pass; "
        "that is refused by J-11 and J-13 to J-17, because every length follows from the type and the counts",
    ),
    Mutant(
        "crc-without-uuid",
        "A record of another memory, left in reused blocks, passes for evidence.",
        _record_crc("header, payload, padding", "data[: size - RECORD_TRAILER_BYTES]"),
        believed("write", with_=foreign_record(99), what="a record of another memory behind the last commit"),
    ),
    Mutant(
        "crc-without-padding",
        "A record's CRC does not cover the zeros before it.",
        _record_crc("uuid, header, payload", "uuid, data[: RECORD_HEADER.size + length]"),
        damaged("write", "mark", by=flip(WAL1, -6), what="a flip in the zeros of a mark"),
        equivalent="J-10 itself demands that they are zeros",
    ),
    Mutant(
        "record-header-crc-partial",
        "The CRC of a record's header covers its first 16 bytes.",
        (
            Patch(ENCODE, "crc32(header[:_RECORD_CRC])", "crc32(header[:16])"),
            Patch(HEADER, "crc32(data[:_RECORD_CRC])", "crc32(data[:16])"),
        ),
        damaged("write", "mark", by=flip(WAL1, -20), what="a flip in what a mark says was synced"),
        equivalent="the CRC behind the record covers the whole header; the first one is there to trust the length, and "
        "a length that is wrong puts that CRC elsewhere",
    ),
    Mutant(
        "header-crc-partial",
        "The CRC of a snapshot's header covers its first 64 bytes.",
        (
            Patch("emm.codec.header:encode_header", "crc32(data[:_CRC_OFFSET])", "crc32(data[:64])"),
            Patch("emm.codec.header:decode_header", "crc32(data[:_CRC_OFFSET])", "crc32(data[:64])"),
        ),
        damaged("write", by=flip("0000000000000001.emm", 70), what="a flip in the UUID", must_refuse=True),
        equivalent="the head's SHA-256 covers the header too (H-12), and no header counts without it",
    ),
    Mutant(
        "segment-header-crc-partial",
        "The CRC of a segment's header does not cover the length that it states of the segment before.",
        (
            Patch(
                "emm.codec.journal:SegmentHeader.encode",
                "crc32(data[:_SEGMENT_CRC])",
                "crc32(data[:104])",
            ),
            Patch("emm.codec.journal:decode_segment_header", "crc32(data[:_SEGMENT_CRC])", "crc32(data[:104])"),
        ),
        damaged(
            "write",
            "checkpoint",
            "write",
            by=flip(WAL2, 108, 7),
            what="a flip in the stated length of the segment before",
            must_refuse=True,
        ),
    ),
)
