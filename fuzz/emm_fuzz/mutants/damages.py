"""Damage that single mutants need: records and files that are whole, and belong elsewhere or say something else.

Purpose: what `emm_fuzz.damage` does not have. Invariants: every CRC that a thoughtless writer or a lost sector would
get right is right, so that only the check in question can notice.
"""

from __future__ import annotations

import hashlib

from emm.codec.header import decode_header
from emm.codec.integrity import crc32, hash_block
from emm.layout import BLOCK_BYTES, BLOCK_ENTRY, HEADER, RECORD_HEADER
from emm.storage.names import segment_name, snapshot_name
from emm_fuzz.anatomy import records
from emm_fuzz.damage import Damage, Files, scene


def relabelled(name: str, record: int, **fields: int) -> Damage:
    """Fields of the header of one of a segment's records changed, and nothing else."""

    def damage(files: Files) -> Files:
        start = records(files, name)[record].offset
        data = files[name]
        header = RECORD_HEADER.pack({**RECORD_HEADER.unpack(data, start), **fields})
        return {**files, name: data[:start] + header + data[start + RECORD_HEADER.size :]}

    return damage


def other_branch(segment: int, *workload: str) -> Damage:
    """A segment as the same memory would have it, had it lived through this from its creation on."""
    return lambda files: {**files, segment_name(segment): scene(*workload).files[segment_name(segment)]}


def swapped_blocks(generation: int, first: int, second: int) -> Damage:
    """Two blocks of a snapshot's payload in each other's place."""

    def damage(files: Files) -> Files:
        name = snapshot_name(generation)
        data = bytearray(files[name])
        start = decode_header(files[name][: HEADER.size]).geometry.payload_offset
        one, two = (slice(start + n * BLOCK_BYTES, start + (n + 1) * BLOCK_BYTES) for n in (first, second))
        data[one], data[two] = data[two], data[one]
        return {**files, name: bytes(data)}

    return damage


def forged(generation: int, block: int) -> Damage:
    """A number in a block changed together with every CRC-32 on the way and the head's SHA-256; not the block's."""

    def damage(files: Files) -> Files:
        name = snapshot_name(generation)
        data = bytearray(files[name])
        shape = decode_header(files[name][: HEADER.size]).geometry
        start = shape.payload_offset + block * BLOCK_BYTES
        data[start] ^= 1
        entry = shape.table_offset + block * BLOCK_ENTRY.size
        data[entry : entry + 4] = hash_block(bytes(data[start : start + BLOCK_BYTES])).crc32.to_bytes(4, "little")
        sha, crc = HEADER.offset("sha256"), HEADER.offset("crc32")
        data[sha : sha + 32], data[crc : crc + 4] = bytes(32), bytes(4)
        data[sha : sha + 32] = hashlib.sha256(data[: shape.payload_offset]).digest()
        data[crc : crc + 4] = crc32(bytes(data[:crc])).to_bytes(4, "little")
        return {**files, name: bytes(data)}

    return damage
