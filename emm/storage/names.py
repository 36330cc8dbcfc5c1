"""File names of a memory directory (spec N-rules): sixteen digits and a suffix, nothing else.

Purpose: map generations and segment numbers to names and back. Invariants: a name that does not
match exactly is not ours and is never opened; numbers start at 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from emm.errors import MissingError
from emm.layout import NAME_DIGITS, SEGMENT_SUFFIX, SNAPSHOT_SUFFIX
from emm.vfs.protocol import Directory

_NAME = re.compile(rf"([0-9]{{{NAME_DIGITS}}})({re.escape(SNAPSHOT_SUFFIX)}|{re.escape(SEGMENT_SUFFIX)})")


@dataclass(frozen=True, slots=True)
class Listing:
    """What a memory directory holds: generations and segment numbers, ascending."""

    generations: tuple[int, ...]
    segments: tuple[int, ...]


def snapshot_name(generation: int) -> str:
    return f"{generation:0{NAME_DIGITS}d}{SNAPSHOT_SUFFIX}"


def segment_name(segment: int) -> str:
    return f"{segment:0{NAME_DIGITS}d}{SEGMENT_SUFFIX}"


def parse_name(name: str) -> tuple[str, int] | None:
    """(suffix, number) of one of our names, else None."""
    match = _NAME.fullmatch(name)
    if match is None or int(match[1]) == 0:
        return None
    return match[2], int(match[1])


def list_memory(directory: Directory) -> Listing:
    """Generations and segments present; `MissingError` when there is not one snapshot or segment."""
    found: dict[str, list[int]] = {SNAPSHOT_SUFFIX: [], SEGMENT_SUFFIX: []}
    for name in directory.list():
        parsed = parse_name(name)
        if parsed is not None:
            found[parsed[0]].append(parsed[1])
    listing = Listing(tuple(sorted(found[SNAPSHOT_SUFFIX])), tuple(sorted(found[SEGMENT_SUFFIX])))
    if not listing.generations and not listing.segments:
        raise MissingError("there is no memory here", file=directory.url)
    return listing
