"""Make the repairs that verify names for one file from its own bytes: bits put back, head and mirror from each other.

Purpose: what a keeper would do by hand, so that "damaged-repairable" can be held against the result. Invariants: pure;
nothing but the damaged file and the words of the repairs is used, never the file as it was.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import Final

from emm.codec.header import Geometry, decode_header
from emm.codec.snapshot import decode_head, expected_mirror, head_from_mirror
from emm.errors import FormatError
from emm.layout import HEADER, LINEAGE
from emm.verify.payload import FROM_HEAD
from emm.verify.snapshot import FROM_BOTH, FROM_MIRROR

EXTRA: Final = "leave the extra bytes out"
CUT_TAIL: Final = f"the missing bytes are zeros and the mirror, {FROM_HEAD}"
_FLIP: Final = re.compile(r"flip bit (\d) of byte (\d+) back, as the block's SHA-256 proves")
_ORDER: Final = (FROM_BOTH, FROM_MIRROR, EXTRA, CUT_TAIL, FROM_HEAD)  # a head is needed before what follows from it


def is_inside_the_file(repair: str) -> bool:
    """True for a repair that needs nothing but the damaged file."""
    return repair in _ORDER or _FLIP.fullmatch(repair) is not None


def mended(data: bytes, repairs: Iterable[str]) -> bytes:
    """The file after all of these repairs."""
    for repair in sorted(set(repairs), key=lambda each: _ORDER.index(each) if each in _ORDER else -1):
        data = _mended_once(data, repair)
    return data


def _mended_once(data: bytes, repair: str) -> bytes:
    if match := _FLIP.fullmatch(repair):
        flipped = bytearray(data)
        flipped[int(match[2])] ^= 1 << int(match[1])
        return bytes(flipped)
    if repair == FROM_MIRROR:
        shape = decode_header(data[-HEADER.size :]).geometry
        return head_from_mirror(data[shape.mirror_offset :], shape) + data[shape.payload_offset :]
    if repair == FROM_BOTH:
        return _from_both(data)
    shape = decode_header(data[: HEADER.size]).geometry
    if repair == EXTRA:
        return data[: shape.file_bytes]
    mirror = expected_mirror(data[: shape.payload_offset], shape)
    return data[: shape.mirror_offset].ljust(shape.mirror_offset, b"\0") + mirror


def _from_both(data: bytes) -> bytes:
    """Each part of the head from whichever copy makes the SHA-256 of the whole head fit."""
    for header_at in (0, len(data) - HEADER.size):
        try:
            shape = decode_header(data[header_at : header_at + HEADER.size]).geometry
            return _combined(data, shape)
        except FormatError:
            continue
    return data


def _combined(data: bytes, shape: Geometry) -> bytes:
    copies = data[: shape.payload_offset], head_from_mirror(data[shape.mirror_offset :], shape)
    cuts = (0, HEADER.size, HEADER.size + LINEAGE.size, shape.metadata_offset, shape.head_bytes)
    padding = bytes(shape.payload_offset - shape.head_bytes)
    for choice in itertools.product(copies, repeat=len(cuts) - 1):
        parts = zip(choice, itertools.pairwise(cuts), strict=True)
        head = b"".join(copy[start:end] for copy, (start, end) in parts) + padding
        try:
            decode_head(head, decode_header(head))
        except FormatError:
            continue
        return head + data[shape.payload_offset : shape.mirror_offset] + expected_mirror(head, shape)
    return data
