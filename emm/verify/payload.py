"""The payload of one snapshot file: every block, what a cut took, and the rules that no checksum holds.

Purpose: name the damaged rows, and mend what the file's own checksums can (a single flipped bit, cut-off zeros).
Invariants: a megabyte is read at a time; a block that cannot be read does not stop the check of the others; what
counts as known was proven by a SHA-256.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from emm.codec.header import Geometry, Header
from emm.codec.integrity import BlockEntry, check_block
from emm.codec.payload import decode_normaliser, decode_payload, decode_scalars
from emm.codec.snapshot import Head
from emm.errors import FormatError
from emm.layout import BLOCK_BYTES
from emm.state import MatrixState
from emm.verify.bitflip import locate
from emm.verify.blocks import BadBlock, BlockReader
from emm.verify.finding import Finding, finding, from_error
from emm.verify.levels import Options
from emm.verify.paranoia import check_block_twice
from emm.verify.regions import block_spans, spans_of
from emm.vfs.protocol import Directory

FROM_HEAD = "from the head of the file"
_ZEROS = bytes(BLOCK_BYTES)


@dataclass(slots=True)
class PayloadCheck:
    """One file and what is known about it so far; `SnapshotCheck` fills in the head."""

    directory: Directory
    name: str
    options: Options
    number: int | None = None  # the generation its name states
    header: Header | None = field(init=False, default=None)
    head: Head | None = field(init=False, default=None)  # decoded, from whichever copy is whole
    lost_blocks: list[int] = field(init=False, default_factory=list)
    state_valid: bool = field(init=False, default=False)  # every payload byte is known, and breaks no rule
    misnamed: bool = field(init=False, default=False)  # its own number is not its name's
    size: int = field(init=False, default=0)
    bytes_read: int = field(init=False, default=0)
    blocks_checked: int = field(init=False, default=0)
    blocks_left_out: int = field(init=False, default=0)  # that are there and the sample did not draw

    @property
    def file(self) -> str:
        return f"{self.directory.url}/{self.name}"

    @property
    def whole(self) -> bool:
        """True when the state can be taken from this file (a damaged mirror does not matter)."""
        return self.head is not None and self.state_valid and not self.misnamed

    def _read(self, offset: int, length: int) -> bytes:
        data = self.directory.read_at(self.name, offset, length)
        self._count_read(length)
        return data

    def _count_read(self, n_bytes: int) -> None:
        self.bytes_read += n_bytes
        if self.options.progress is not None and n_bytes:
            self.options.progress(self.file, n_bytes)

    def _check_truncated(self, size: int, shape: Geometry, table: Sequence[BlockEntry]) -> Iterator[Finding]:
        """What was cut off: zeros and the mirror can be put back, proven by their SHA-256."""
        first = max(0, size - shape.payload_offset) // BLOCK_BYTES
        for index in range(first, shape.n_blocks):
            start = shape.payload_offset + index * BLOCK_BYTES
            rest = self._read(start, min(BLOCK_BYTES, size - start)) if size > start else b""
            try:
                check_block(rest.ljust(BLOCK_BYTES, b"\0"), table[index], index, start)
            except FormatError:
                self.lost_blocks.append(index)
        lost = self.lost_blocks
        yield finding(
            "truncated",
            "the file ends before the bytes its header promises",
            rule="P-3",
            file=self.file,
            offset=size,
            length=shape.file_bytes - size,
            spans=block_spans(shape, lost[0], lost[-1]) if lost else (),
            expected=f"{shape.file_bytes} bytes",
            found=f"{size} bytes",
            repair=None if lost else f"the missing bytes are zeros and the mirror, {FROM_HEAD}",
        )

    def _check_blocks(self, size: int, shape: Geometry, table: Sequence[BlockEntry]) -> Iterator[Finding]:
        present = min(shape.n_blocks, max(0, size - shape.payload_offset) // BLOCK_BYTES)
        indices: Sequence[int] = range(present)
        if self.options.sample is not None and self.head is not None:
            header = self.head.header
            indices = self.options.sample.draws_blocks(present, header.uuid.hex(), header.generation)
            self.blocks_left_out = present - len(indices)
        judge = check_block_twice if self.options.paranoid else check_block
        reader = BlockReader(self.directory, self.name, table, shape.payload_offset, judge)
        for batch in reader.batches(indices, self.options.threads):
            self._count_read(batch.n_read * BLOCK_BYTES)
            self.blocks_checked += batch.n_read
            for each in batch.bad:
                self.lost_blocks.append(each.index)
                yield self._bad_block(shape, each, table[each.index])

    def _bad_block(self, shape: Geometry, bad: BadBlock, entry: BlockEntry) -> Finding:
        if bad.data is not None and isinstance(bad.error, FormatError):
            return self._damaged_block(shape, bad.index, bad.data, entry, bad.error)
        start = shape.payload_offset + bad.index * BLOCK_BYTES
        where = {"file": self.file, "block": bad.index, "offset": start, "length": BLOCK_BYTES}
        return from_error("unreadable", bad.error, **where, spans=block_spans(shape, bad.index))

    def _damaged_block(
        self, shape: Geometry, index: int, block: bytes, entry: BlockEntry, error: FormatError
    ) -> Finding:
        """A block that fails its checksum: the whole block, or the one bit that explains it."""
        start = shape.payload_offset + index * BLOCK_BYTES
        flip = locate(block, entry)
        if flip is None:
            spans = block_spans(shape, index)
            return from_error(
                "block-damaged", error, file=self.file, block=index, offset=start, length=BLOCK_BYTES, spans=spans
            )
        inside = index * BLOCK_BYTES + flip.offset
        return from_error(
            "block-damaged",
            error,
            file=self.file,
            block=index,
            offset=start + flip.offset,
            length=1,
            spans=spans_of(shape, inside, inside + 1),
            expected=f"byte {flip.expected:#04x}",
            found=f"byte {flip.found:#04x}",
            repair=f"flip bit {flip.bit} of byte {start + flip.offset} back, as the block's SHA-256 proves",
        )

    def _check_payload(self, size: int, shape: Geometry) -> Iterator[Finding]:
        """Rules that checksums cannot hold: padding, scalars, unused rows of U, the normaliser (P-2, P-4, P-6, P-7)."""
        assert self.header is not None
        if self.lost_blocks or self.blocks_left_out:
            return
        available = min(size, shape.mirror_offset) - shape.payload_offset  # a cut tail was proven to be zeros
        regions = {region.name: region for region in shape.regions}
        start = next((regions[name].offset for name in ("U", "normaliser") if name in regions), shape.payload_bytes)
        tail = memoryview(self._payload(shape, start, shape.n_blocks * BLOCK_BYTES - start, available))

        def bytes_of(name: str) -> memoryview:
            first = regions[name].offset - start
            return tail[first : first + regions[name].size]

        try:
            self._require_zero(shape, tail, start, shape.payload_bytes, "P-2", "the payload's padding is not zero")
            if "U" in regions:
                gain = decode_scalars(bytes_of("scalars"), self.header.parameters)
                unused = start + gain.count * regions["U"].row_bytes
                self._require_zero(shape, bytes_of("U"), start, unused, "P-6", "an unused row of U is not zero")
            if "normaliser" in regions:
                first = regions["normaliser"].offset - start
                decode_normaliser(tail[first : shape.payload_bytes - start], self.header.parameters)
            self.state_valid = True
        except FormatError as error:
            yield from_error("payload-invalid", error, file=self.file)

    def state(self) -> MatrixState:
        """The state in a file that is `whole`, read again. `StorageError` or `FormatError` when it changed."""
        assert self.head is not None
        shape, header = self.head.geometry, self.head.header
        length = shape.mirror_offset - shape.payload_offset
        available = min(self.size, shape.mirror_offset) - shape.payload_offset
        return decode_payload(self._payload(shape, 0, length, available), header.parameters, header.flags)

    def _payload(self, shape: Geometry, offset: int, length: int, available: int) -> bytes:
        present = max(0, min(length, available - offset))
        data = self.directory.read_at(self.name, shape.payload_offset + offset, present) if present else b""
        return data.ljust(length, b"\0")

    def _require_zero(self, shape: Geometry, data: memoryview, start: int, first: int, rule: str, message: str) -> None:
        """`FormatError` unless `data`, whose first byte is byte `start` of the payload, is zero from `first` on."""
        for offset in range(first - start, len(data), BLOCK_BYTES):
            part = bytes(data[offset : offset + BLOCK_BYTES])
            if part != _ZEROS[: len(part)]:
                where = shape.payload_offset + start + offset
                raise FormatError(message, rule=rule, offset=where, expected=0)
