"""The head of a damaged snapshot, from whatever is left of its two copies.

Purpose: header, lineage, table and metadata stand twice in the file; where both copies are damaged in different bytes,
the bytes on which they agree and one choice for each run where they differ still make the head; and where one bit is
wrong in both, it is found. Invariants: a head is accepted only through its SHA-256 (H-12); the search is bounded by
bytes hashed; nothing is read but the two copies.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from emm.codec.header import Geometry, Header, decode_header
from emm.codec.snapshot import Head, decode_head, expected_mirror
from emm.errors import FormatError, StorageError
from emm.layout import HEADER, LINEAGE
from emm.repair.plan import From, Part
from emm.verify.head_copies import first_difference, mirror_as_head
from emm.vfs import Directory

_HASHED_BYTES_MAX = 64 << 20
_RUNS_MAX = 14
_DETAIL = {
    From.HEAD: "the copy before the payload",
    From.MIRROR: "the copy at the end of the file",
    From.BOTH_COPIES: "the whole bytes of both copies",
    From.BIT: "the one wrong bit put back, as the head's SHA-256 proves",
}


@dataclass(frozen=True, slots=True)
class FoundHead:
    """A proven head: its bytes up to the payload, where it was found, and what of the file it does not agree with."""

    data: bytes
    head: Head
    source: From
    size: int  # of the file
    damage: tuple[Part, ...]  # parts of either copy that differ from the proven head

    @property
    def mirror(self) -> bytes:
        return expected_mirror(self.data, self.head.geometry)


def find_head(directory: Directory, name: str, state_bytes_max: int) -> FoundHead | None:
    """The head of a snapshot file, or None when neither copy nor both together prove one."""
    try:
        size = directory.size(name)
    except StorageError:
        return None
    first, last = _read(directory, name, 0, HEADER.size), _read(directory, name, size - HEADER.size, HEADER.size)
    for header in _headers(first, last, size, state_bytes_max):
        shape = header.geometry
        front = _read(directory, name, 0, shape.payload_offset)
        back = _read(directory, name, shape.mirror_offset, shape.head_bytes)
        again = mirror_as_head(back, shape) if len(back) == shape.head_bytes else b""
        found = _proven(front, again, header, state_bytes_max)
        if found is not None:
            data, head, source = found
            damage = (*_front_damage(front, data, shape, source), *_mirror_damage(back, data, shape, size))
            return FoundHead(data, head, source, size, damage)
    return None


def _read(directory: Directory, name: str, offset: int, length: int) -> bytes:
    """What can be read of a range; bytes that are not there, or that the medium refuses, are left out."""
    try:
        size = directory.size(name)
        start = max(0, offset)
        return directory.read_at(name, start, max(0, min(length, size - start)))
    except StorageError:
        return b""


def _headers(first: bytes, last: bytes, size: int, state_bytes_max: int) -> Iterator[Header]:
    """Headers that a CRC-32 vouches for: the first one, the last one, one made of both."""
    seen = []
    for data in itertools.chain((first, last), _mixtures(first, last), _flips(first, HEADER.size)):
        with contextlib.suppress(FormatError):
            header = decode_header(data, state_bytes_max=state_bytes_max)
            if data is not first and header.geometry.file_bytes != size:  # a CRC alone vouches for less than that
                continue
            if header not in seen:
                seen.append(header)
                yield header


def _mixtures(first: bytes, second: bytes) -> Iterator[bytes]:
    """Every choice between two equally long strings for each run of bytes in which they differ, within bounds."""
    if len(first) != len(second) or first == second:
        return
    runs: list[list[int]] = []
    for position in (i for i in range(len(first)) if first[i] != second[i]):
        if runs and runs[-1][1] == position:
            runs[-1][1] = position + 1
        else:
            runs.append([position, position + 1])
    if len(runs) > _RUNS_MAX or len(first) << len(runs) > _HASHED_BYTES_MAX:
        return
    for choice in itertools.product((False, True), repeat=len(runs)):
        mixed = bytearray(first)
        for (start, end), other in zip(runs, choice, strict=True):
            if other:
                mixed[start:end] = second[start:end]
        yield bytes(mixed)


def _flips(data: bytes, bytes_hashed: int) -> Iterator[bytes]:
    """Every string that differs from `data` in one bit, within bounds."""
    if 8 * len(data) * bytes_hashed > _HASHED_BYTES_MAX:
        return
    changed = bytearray(data)
    for position in range(8 * len(data)):
        changed[position // 8] ^= 1 << position % 8
        yield bytes(changed)
        changed[position // 8] ^= 1 << position % 8


def _proven(front: bytes, again: bytes, header: Header, state_bytes_max: int) -> tuple[bytes, Head, From] | None:
    shape = header.geometry
    tries: list[tuple[bytes, From]] = [(front, From.HEAD), (again, From.MIRROR)]
    for data, source in tries:
        head = _decoded(data, shape, state_bytes_max)
        if head is not None:
            return data, head, source
    padding = bytes(shape.payload_offset - shape.head_bytes)
    for data in _flips(front[: shape.head_bytes], shape.payload_offset):
        head = _decoded(data + padding, shape, state_bytes_max)
        if head is not None:
            return data + padding, head, From.BIT
    if len(front) != len(again):
        return None
    ours, theirs = front[: shape.head_bytes], again[: shape.head_bytes]
    for data in itertools.chain(_by_parts(front, again, shape), _mixtures(ours, theirs)):
        head = _decoded(data + padding, shape, state_bytes_max)
        if head is not None:
            return data + padding, head, From.BOTH_COPIES
    return None


def _by_parts(front: bytes, again: bytes, shape: Geometry) -> Iterator[bytes]:
    cuts = (0, *_cuts(shape))
    parts = [(front[a:b], again[a:b]) for a, b in itertools.pairwise(cuts)]
    return (b"".join(choice) for choice in itertools.product(*(dict.fromkeys(part) for part in parts)))


def _cuts(shape: Geometry) -> tuple[int, ...]:
    return HEADER.size, HEADER.size + LINEAGE.size, shape.metadata_offset, shape.head_bytes


def _decoded(data: bytes, shape: Geometry, state_bytes_max: int) -> Head | None:
    try:
        header = decode_header(data, state_bytes_max=state_bytes_max)
        if header.geometry != shape or len(data) != shape.payload_offset:
            return None
        return decode_head(data, header)
    except FormatError:
        return None


def _front_damage(front: bytes, data: bytes, shape: Geometry, source: From) -> Iterator[Part]:
    names = ("header", "lineage", "table", "metadata", "padding")
    for what, (start, end) in zip(names, itertools.pairwise((0, *_cuts(shape), shape.payload_offset)), strict=True):
        if front[start:end] != data[start:end]:
            offset, length = first_difference(front[start:end], data[start:end])
            detail = _DETAIL[source]
            if what == "padding":
                detail = "zeros, as the head's SHA-256 proves"
            yield Part(what, From.DERIVED if what == "padding" else source, detail, start + offset, length)


def _mirror_damage(back: bytes, data: bytes, shape: Geometry, size: int) -> Iterator[Part]:
    expected = expected_mirror(data, shape)
    if back != expected:
        offset, length = first_difference(back, expected)
        yield Part("mirror", From.HEAD, "repeated from the proven head", shape.mirror_offset + offset, length)
    if size > shape.file_bytes:
        extra = size - shape.file_bytes
        yield Part("tail", From.DERIVED, "bytes after the mirror are left out", shape.file_bytes, extra)
