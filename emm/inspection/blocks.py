"""The blocks of one snapshot: what each holds, and whether it still matches its checksums.

Purpose: a map of the damage, and the payload's bytes as far as they can be believed. Invariants: read by `read_ranges`,
`BATCH` blocks at a time; a block that is damaged, missing or cannot be read is an entry with a problem and stops
nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from emm.codec.header import Geometry
from emm.codec.integrity import check_block
from emm.codec.snapshot import Head
from emm.errors import EmmError
from emm.inspection.place import FoundHead, opened
from emm.inspection.values import BlockInfo, RegionInfo
from emm.layout import BLOCK_BYTES
from emm.verify.regions import block_spans
from emm.vfs import Directory

BATCH = 64  # 4 MiB
_SCALARS = ("scalars", "reading")  # regions without rows of numbers


@dataclass(frozen=True, slots=True)
class BlocksView:
    """The payload of one generation. `head_from` is "mirror" when the head at the front of the file is damaged."""

    url: str
    name: str
    generation: int
    lsn: int
    head_from: str
    head_problem: str | None
    regions: tuple[RegionInfo, ...]
    blocks: tuple[BlockInfo, ...]
    exit_code: int = 0

    @property
    def damaged(self) -> tuple[BlockInfo, ...]:
        return tuple(each for each in self.blocks if each.problem is not None)


def blocks(url: str | os.PathLike[str], *, generation: int | None = None) -> BlocksView:
    """Every block of a generation (by default the newest with a head), compared with its checksums.

    Raises `MissingError`, `InputError` for a generation that is not there, or what is wrong with its head when neither
    copy of it is whole.
    """
    with opened(url) as place:
        found = place.head(generation)
        return BlocksView(
            place.url,
            found.name,
            found.generation,
            found.known.header.lsn,
            found.head_from or "head",
            None if found.error is None else str(found.error),
            regions_of(found.known),
            tuple(block_infos(place.directory, found, compare=True)),
        )


def regions_of(head: Head) -> tuple[RegionInfo, ...]:
    """The arrays of the payload, with offsets from the start of the file."""
    base = head.geometry.payload_offset
    return tuple(
        RegionInfo(r.name, base + r.offset, r.size, r.n_rows, 0 if r.name in _SCALARS else r.row_bytes // 4)
        for r in head.geometry.regions
    )


def block_infos(directory: Directory, found: FoundHead, *, compare: bool) -> Iterator[BlockInfo]:
    """What the integrity table says of each block and, with `compare`, whether the file agrees."""
    head = found.known
    problems: dict[int, str | None] = {}
    if compare:
        checked = checked_blocks(directory, found, range(head.geometry.n_blocks))
        problems = {index: problem for index, _, problem in checked}
    for index, entry in enumerate(head.table):
        offset = head.geometry.payload_offset + index * BLOCK_BYTES
        holds = block_spans(head.geometry, index)
        yield BlockInfo(index, offset, holds, f"{entry.crc32:08x}", entry.sha256.hex(), problems.get(index))


def checked_blocks(
    directory: Directory, found: FoundHead, indexes: range
) -> Iterator[tuple[int, bytes | None, str | None]]:
    """(index, its bytes, None) of whole blocks, (index, None, what is wrong) of the others, in order."""
    head, name = found.known, found.name
    for start in range(indexes.start, indexes.stop, BATCH):
        batch = range(start, min(start + BATCH, indexes.stop))
        for index, data, problem in _read(directory, found, batch):
            if data is not None:
                try:
                    check_block(data, head.table[index], index, _place(head.geometry, index)[0])
                except EmmError as error:
                    data, problem = None, str(error.located(f"{directory.url}/{name}"))
            yield index, data, problem


def _place(shape: Geometry, index: int) -> tuple[int, int]:
    return shape.payload_offset + index * BLOCK_BYTES, BLOCK_BYTES


def _read(directory: Directory, found: FoundHead, batch: range) -> Iterator[tuple[int, bytes | None, str | None]]:
    """The bytes of some blocks in one call, or one by one where that fails."""
    shape = found.known.geometry
    present = [index for index in batch if sum(_place(shape, index)) <= found.bytes]
    try:
        data = dict(zip(present, directory.read_ranges(found.name, [_place(shape, i) for i in present]), strict=True))
    except EmmError:
        data = {}
    for index in batch:
        if index in data:
            yield index, data[index], None
        elif index not in present:
            yield index, None, f"block {index} is missing: the file ends at byte {found.bytes}"
        else:
            try:
                yield index, directory.read_at(found.name, *_place(shape, index)), None
            except EmmError as error:
                yield index, None, str(error)
