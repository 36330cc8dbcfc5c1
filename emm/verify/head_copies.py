"""The two copies of a snapshot's head, and what can be made of them when either is damaged.

Purpose: a head is header, lineage, table and metadata; the mirror repeats all four. When both copies are
damaged in different parts, the parts that are whole still make one head. Invariants: a head is only ever
accepted through its SHA-256 (H-12); pure.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from emm.codec.header import Geometry, Header, decode_header
from emm.codec.snapshot import Head, decode_head, expected_mirror, head_from_mirror
from emm.errors import FormatError
from emm.layout import HEADER, LINEAGE


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy, laid out as the head is: its bytes, what they decode to, and why they do not."""

    data: bytes
    head: Head | None
    error: FormatError | None


def read_copy(data: bytes, geometry: Geometry, state_bytes_max: int, known: Header | None = None) -> Copy:
    """Decode a head of the given geometry; `known` is what its first bytes were decoded to already."""
    try:
        header = known or decode_header(data, state_bytes_max=state_bytes_max)
        if header.geometry != geometry:
            raise FormatError("the two headers contradict each other", rule="T-4", offset=0)
        return Copy(data, decode_head(data, header), None)
    except FormatError as error:
        return Copy(data, None, error)


def mirror_as_head(mirror: bytes, geometry: Geometry) -> bytes:
    """The head that a mirror of full length repeats."""
    return head_from_mirror(mirror, geometry)


def mirror_of(head: bytes, geometry: Geometry) -> bytes:
    """The mirror that belongs to a head."""
    return expected_mirror(head, geometry)


def combine(first: bytes, second: bytes, header: Header) -> Head | None:
    """A head from the whole parts of two damaged copies, proven by its SHA-256, or None."""
    shape = header.geometry
    cuts = (0, HEADER.size, HEADER.size + LINEAGE.size, shape.metadata_offset, shape.head_bytes)
    parts = [(first[a:b], second[a:b]) for a, b in itertools.pairwise(cuts)]
    padding = bytes(shape.payload_offset - shape.head_bytes)
    for choice in itertools.product(*(dict.fromkeys(part) for part in parts)):
        data = b"".join(choice) + padding
        try:
            own = decode_header(data)
            if own.geometry == shape:
                return decode_head(data, own)
        except FormatError:
            continue
    return None


def first_difference(found: bytes, expected: bytes) -> tuple[int, int]:
    """(offset, length) of the range in which two strings of bytes differ; length 0 when they do not."""
    if found == expected:
        return 0, 0
    shared = min(len(found), len(expected))
    start = next((i for i in range(shared) if found[i] != expected[i]), shared)
    if len(found) != len(expected):
        return start, max(len(found), len(expected)) - start
    end = next(i for i in range(shared, 0, -1) if found[i - 1] != expected[i - 1])
    return start, end - start
