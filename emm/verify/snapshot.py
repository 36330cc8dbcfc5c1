"""Check one snapshot file, from its first 128 bytes to every block.

Purpose: say what is wrong with a `.emm` file, which rows of which array it touches, and what the file itself
can still mend (its head and mirror repeat each other). Invariants: the file is read in pieces of 64 KiB
beside its head; a size is believed only after a CRC or SHA-256 has vouched for it; a block that cannot be
read does not stop the check of the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from emm.codec.header import Geometry, Header, decode_header
from emm.errors import (
    FormatError,
    LimitError,
    MissingError,
    NotEmmError,
    StorageError,
    TruncatedError,
    UnsupportedError,
)
from emm.layout import HEADER
from emm.verify.finding import Finding, finding, from_error
from emm.verify.head_copies import Copy, combine, first_difference, mirror_as_head, mirror_of, read_copy
from emm.verify.levels import Level
from emm.verify.payload import FROM_HEAD, PayloadCheck
from emm.vfs.local import holding

_AHEAD_BYTES = 4096  # the whole head of a snapshot of up to 6 MiB
FROM_MIRROR = "from the mirror at the end of the file"
FROM_BOTH = "from the whole parts of head and mirror together"


@dataclass(slots=True)
class SnapshotCheck(PayloadCheck):
    """Checks one file. After `run` is exhausted the fields say what is known about it."""

    _front: bytes = field(init=False, default=b"", repr=False)  # of the file, read with the header

    def run(self) -> Iterator[Finding]:
        """Findings, from the front of the file to its end."""
        try:
            with holding(self.directory, self.name):
                self.size = self.directory.size(self.name)
                yield from self._check(self.size)
        except MissingError as error:
            yield from_error("changed-while-reading", error.located(self.file))
        except TruncatedError as error:
            yield from_error("changed-while-reading", error.located(self.file))
        except StorageError as error:
            yield from_error("unreadable", error.located(self.file))

    # --- the head -------------------------------------------------------------------------------

    def _check(self, size: int) -> Iterator[Finding]:
        ahead = HEADER.size if self.options.level is Level.HEADER else _AHEAD_BYTES
        self._front = self._read(0, min(ahead, size))
        first = self._front[: HEADER.size]
        try:
            self.header = decode_header(first, state_bytes_max=self.options.state_bytes_max)
        except (LimitError, UnsupportedError) as error:
            yield from_error("over-limit" if isinstance(error, LimitError) else "unsupported", error, file=self.file)
            return
        except FormatError as error:
            yield from self._check_from_end(size, error)
            return
        if self.options.level is Level.HEADER:
            yield from self._check_name(self.header)
            return
        yield from self._check_copies(size, self.header.geometry, self.header)

    def _check_from_end(self, size: int, error: FormatError) -> Iterator[Finding]:
        """The first 128 bytes are not a header: perhaps the last 128 are."""
        looks_like_emm = not isinstance(error, NotEmmError)
        try:
            if size < 2 * HEADER.size:
                raise error
            last = self._read(size - HEADER.size, HEADER.size)
            header = decode_header(last, state_bytes_max=self.options.state_bytes_max)
            looks_like_emm = True  # something was put before it, or cut out (S-7: a sign of EMM)
            if header.geometry.file_bytes != size:
                raise error
        except FormatError:
            if not looks_like_emm:
                yield from_error("not-emm", error, file=self.file)
            else:
                yield from_error("header-damaged", error, file=self.file, offset=0, length=HEADER.size)
            return
        self.header = header
        if self.options.level is Level.HEADER:
            where = {"file": self.file, "offset": 0, "length": HEADER.size}
            yield from_error("header-damaged", error, **where, repair=FROM_MIRROR)
            return
        yield from self._check_copies(size, header.geometry)

    def _check_copies(self, size: int, shape: Geometry, front: Header | None = None) -> Iterator[Finding]:
        """Both copies of the head, the length of the file, then the blocks. `front`: the header, from the front."""
        assert self.header is not None
        limit = self.options.state_bytes_max
        known, head_bytes = len(self._front), min(size, shape.payload_offset)
        rest = self._read(known, head_bytes - known) if known < head_bytes else b""
        head = read_copy(self._front[:head_bytes] + rest, shape, limit, front)
        mirror: Copy | None = None
        mirror_bytes = b""
        if size >= shape.file_bytes:
            mirror_bytes = self._read(shape.mirror_offset, shape.head_bytes)
            repeated = mirror_as_head(mirror_bytes, shape)
            mirror = head if repeated == head.data else read_copy(repeated, shape, limit)
        self.head = head.head or (mirror.head if mirror is not None else None)
        combined = None
        if self.head is None and mirror is not None:
            self.head = combined = combine(head.data, mirror.data, self.header)
        if self.head is not None:
            self.header = self.head.header
        yield from self._judge_head(head, mirror, combined is not None)
        if mirror is not None:
            yield from self._judge_mirror(mirror, mirror_bytes, head, shape, combined is not None)
        yield from self._check_name(self.header)
        if size > shape.file_bytes:
            yield finding(
                "trailing-bytes",
                "the file goes on after its mirror",
                rule="P-3",
                file=self.file,
                offset=shape.file_bytes,
                length=size - shape.file_bytes,
                expected=f"{shape.file_bytes} bytes",
                found=f"{size} bytes",
                repair="leave the extra bytes out" if self.head is not None else None,
            )
        if self.head is None:
            return
        if size < shape.file_bytes:
            yield from self._check_truncated(size, shape, self.head.table)
        if self.options.level >= Level.BLOCKS:
            yield from self._check_blocks(size, shape, self.head.table)
            yield from self._check_payload(size, shape)

    def _judge_head(self, head: Copy, mirror: Copy | None, combined: bool) -> Iterator[Finding]:
        if head.head is not None or head.error is None:
            return
        offset, length = head.error.offset, None
        repair, found, expected = None, None, None
        code = "header-damaged" if head.error.rule in ("H-1", "H-2") else "head-damaged"
        if mirror is not None and mirror.head is not None:
            offset, length = first_difference(head.data, mirror.data)
            repair = FROM_MIRROR
            found, expected = (data[offset : offset + min(length, 16)].hex() for data in (head.data, mirror.data))
        elif combined:
            repair = FROM_BOTH
        evidence = {"expected": expected, "found": found} if repair == FROM_MIRROR else {}
        yield from_error(code, head.error, file=self.file, offset=offset, length=length, repair=repair, **evidence)

    def _judge_mirror(
        self, mirror: Copy, found: bytes, head: Copy, shape: Geometry, combined: bool
    ) -> Iterator[Finding]:
        if head.head is not None:
            expected = mirror_of(head.data, shape)
            offset, length = first_difference(found, expected)
            if length:
                yield finding(
                    "mirror-damaged",
                    "the mirror differs from the head",
                    rule="T-4",
                    file=self.file,
                    offset=shape.mirror_offset + offset,
                    length=length,
                    expected=expected[offset : offset + min(length, 16)].hex(),
                    found=found[offset : offset + min(length, 16)].hex(),
                    repair=FROM_HEAD,
                )
        elif mirror.head is None and mirror.error is not None:
            repair = FROM_BOTH if combined else None
            yield from_error(
                "mirror-damaged",
                mirror.error,
                file=self.file,
                offset=shape.mirror_offset,
                length=shape.head_bytes,
                repair=repair,
            )

    def _check_name(self, header: Header) -> Iterator[Finding]:
        if self.number is not None and header.generation != self.number:
            self.misnamed = True
            yield finding(
                "wrong-name",
                "the generation in the header is not the one in the file's name",
                rule="N-2",
                file=self.file,
                offset=HEADER.offset("generation"),
                expected=self.number,
                found=header.generation,
            )
