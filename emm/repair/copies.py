"""One copy of a memory as a source of parts: the damaged one itself, or a replica of it.

Purpose: give heads, blocks and segment bytes of a copy, whatever state it is in. Invariants: reads only; a block is
given only when it has the SHA-256 that was asked for; a file of another memory, or under a wrong name, gives nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from emm.codec.integrity import BlockEntry, check_block
from emm.codec.journal import SegmentHeader, decode_segment_header
from emm.errors import FormatError, InputError, StorageError
from emm.layout import BLOCK_BYTES, SEGMENT_HEADER
from emm.repair.heads import FoundHead, find_head
from emm.storage.names import Listing, list_memory, segment_name, snapshot_name
from emm.vfs import Directory


@dataclass(slots=True)
class MemoryCopy:
    """A memory directory that is read part by part."""

    directory: Directory
    is_replica: bool
    state_bytes_max: int
    listing: Listing = field(init=False)
    uuid: bytes = field(init=False, default=b"")
    heads: dict[int, FoundHead] = field(init=False, default_factory=dict)  # of this memory, under their right names
    headers: dict[int, SegmentHeader] = field(init=False, default_factory=dict)  # whole ones of this memory

    def __post_init__(self) -> None:
        self.listing = list_memory(self.directory)
        found = {g: find_head(self.directory, snapshot_name(g), self.state_bytes_max) for g in self.listing.generations}
        known = {g: each for g, each in found.items() if each is not None and each.head.header.generation == g}
        headers = {n: header for n in self.listing.segments if (header := self._header(n)) is not None}
        named = [each.head.header.uuid for each in known.values()] or [each.uuid for each in headers.values()]
        if not named:
            what = "the replica" if self.is_replica else "the memory"
            raise FormatError(f"nothing in {what} says which memory it is", file=self.directory.url, rule="N-6")
        counts = Counter(named)
        self.uuid = max(reversed(named), key=lambda uuid: counts[uuid])
        self.heads = {g: each for g, each in known.items() if each.head.header.uuid == self.uuid}
        self.headers = {n: header for n, header in headers.items() if header.uuid == self.uuid}

    def _header(self, number: int) -> SegmentHeader | None:
        try:
            size = self.directory.size(segment_name(number))
            header = decode_segment_header(
                self.directory.read_at(segment_name(number), 0, min(SEGMENT_HEADER.size, size))
            )
        except (FormatError, StorageError):
            return None
        return header if header.segment == number else None

    def require_same_memory(self, uuid: bytes) -> None:
        """`InputError` unless this is a copy of the memory with that UUID."""
        if self.uuid != uuid:
            raise InputError(
                "the replica is a copy of another memory",
                rule="N-6",
                file=self.directory.url,
                expected=uuid.hex(),
                found=self.uuid.hex(),
            )

    def raw_block(self, generation: int, offset: int) -> bytes | None:
        """64 KiB at a byte of a snapshot file, cut-off bytes taken as zeros; None where nothing can be read."""
        name = snapshot_name(generation)
        try:
            size = self.directory.size(name)
            if offset >= size:
                return bytes(BLOCK_BYTES)
            return self.directory.read_at(name, offset, min(BLOCK_BYTES, size - offset)).ljust(BLOCK_BYTES, b"\0")
        except (StorageError, FormatError):
            return None

    def block(self, generation: int, index: int, entry: BlockEntry) -> bytes | None:
        """Block `index` of a generation whose head is known, when it is the block of that table entry."""
        found = self.heads.get(generation)
        if found is None:
            return None
        start = found.head.geometry.payload_offset + index * BLOCK_BYTES
        data = self.raw_block(generation, start)
        try:
            if data is not None:
                check_block(data, entry, index, start)
            return data
        except FormatError:
            return None

    def segment(self, number: int) -> bytes | None:
        """All bytes of a segment file, or None when there are none to be had."""
        try:
            name = segment_name(number)
            return self.directory.read_at(name, 0, self.directory.size(name))
        except (StorageError, FormatError):
            return None
