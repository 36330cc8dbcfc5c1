"""How deep a check goes, and what bounds it.

Purpose: the ladder header < table < blocks < replay < numeric; every level includes the ones below it.
Invariants: `blocks` (the default) reads every byte once, so it is the least level at which a coverage can be
complete.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from emm.errors import InputError
from emm.layout import SEGMENT_SUFFIX, SNAPSHOT_SUFFIX, V3_SUFFIX, VERIFY_STATE_BYTES_MAX
from emm.verify.sample import Sample

if TYPE_CHECKING:
    from emm.verify.finding import Finding

CHECKED_SUFFIXES: Final = (SNAPSHOT_SUFFIX, SEGMENT_SUFFIX, V3_SUFFIX)  # of the files that a walk looks at


class Level(enum.IntEnum):
    """`header` 128 bytes of each file · `table` everything before the payload, and the mirror · `blocks` every
    byte, journal included · `replay` older snapshot + journal = newer snapshot · `numeric` what P may be."""

    HEADER = 1
    TABLE = 2
    BLOCKS = 3
    REPLAY = 4
    NUMERIC = 5

    @property
    def label(self) -> str:
        return self.name.lower()


def parse_level(level: str | Level) -> Level:
    """The level of that name; `InputError` for any other."""
    if isinstance(level, Level):
        return level
    try:
        return Level[str(level).upper()]
    except KeyError:
        names = ", ".join(each.label for each in Level)
        raise InputError("unknown level", expected=f"one of {names}", found=repr(level)) from None


@dataclass(frozen=True, slots=True)
class Options:
    """What one run was asked for. `progress` is called with a file and the bytes just checked in it, `on_finding` with
    a target and what was just seen in it, before anything else of the memory can mend or explain it."""

    level: Level = Level.BLOCKS
    strict: bool = False
    state_bytes_max: int = VERIFY_STATE_BYTES_MAX
    progress: Callable[[str, int], None] | None = None
    on_finding: Callable[[str, Finding], None] | None = None
    threads: int = 1  # that hash the blocks of one large snapshot
    sample: Sample | None = None  # which blocks and journals are read; None = all
    paranoid: bool = False  # a second reading, by another CRC-32 than ours
    interest: frozenset[int] = frozenset()  # LSNs whose chain values are to be kept
