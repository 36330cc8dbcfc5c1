"""What can be made of one snapshot: its head, and the source of each damaged block.

Purpose: the values that planning and writing share. Invariants: a block is in at most one of `sources`, `replay` and
`lost`; one that is in none is our own and whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from emm.repair.copies import MemoryCopy
from emm.repair.heads import FoundHead
from emm.repair.plan import Part
from emm.repair.rows import Rows
from emm.state import Parameters
from emm.verify.bitflip import BitFlip


@dataclass(frozen=True, slots=True)
class Base:
    """A state to replay from. `generation` None is the memory before its first commit."""

    generation: int | None
    copy: MemoryCopy | None
    parameters: Parameters
    lsn: int
    chain: bytes

    def __str__(self) -> str:
        if self.generation is None:
            return "an empty memory"
        where = "the replica's " if self.copy is not None and self.copy.is_replica else ""
        return f"{where}generation {self.generation}"


@dataclass(frozen=True, slots=True)
class Replay:
    """Which rows are recomputed, from where."""

    base: Base
    rows: Rows
    blocks: tuple[int, ...]  # that they fill


@dataclass(frozen=True, slots=True)
class OtherBlock:
    """The same 64 KiB elsewhere."""

    copy: MemoryCopy
    generation: int
    index: int


@dataclass(slots=True)
class MendedSnapshot:
    """What can be made of one generation."""

    generation: int
    found: FoundHead | None = None  # its own, or a replica's
    exact: bool = True  # the head is proven to be the original's
    sources: dict[int, BitFlip | OtherBlock] = field(default_factory=dict)  # of damaged blocks; all others are our own
    replay: Replay | None = None
    parts: list[Part] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    reason: str | None = None  # why blocks are lost

    @property
    def whole(self) -> bool:
        return self.found is not None and not self.lost

    def ready(self, index: int) -> bool:
        """True when a block needs no replay."""
        return self.whole and (self.replay is None or index not in self.replay.blocks)
