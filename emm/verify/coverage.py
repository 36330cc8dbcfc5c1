"""How much a check looked at, and what it had to leave out.

Purpose: "clean" means little without it. Invariants: `complete` only when every byte of every file was
read at level `blocks` or above and nothing was left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from emm.verify.levels import Level


@dataclass(slots=True)
class Coverage:
    """Counts of what was checked; `left_out` says in words what was not."""

    level: Level
    memories: int = 0
    snapshots: int = 0
    segments: int = 0
    v3_files: int = 0
    bytes_total: int = 0  # of the files looked at
    bytes_read: int = 0
    blocks: int = 0
    commits: int = 0
    commits_replayed: int = 0
    snapshots_compared: int = 0
    blocks_left_out: int = 0  # that a sample did not draw
    journals_left_out: int = 0
    left_out: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return self.level >= Level.BLOCKS and not (self.left_out or self.blocks_left_out or self.journals_left_out)

    def add(self, other: Coverage) -> None:
        """Add the counts of another target."""
        for name in (
            "memories",
            "snapshots",
            "segments",
            "v3_files",
            "bytes_total",
            "bytes_read",
            "blocks",
            "commits",
            "commits_replayed",
            "snapshots_compared",
            "blocks_left_out",
            "journals_left_out",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.left_out += other.left_out

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "level": self.level.label,
            "complete": self.complete,
            "memories": self.memories,
            "snapshots": self.snapshots,
            "segments": self.segments,
            "v3_files": self.v3_files,
            "bytes_total": self.bytes_total,
            "bytes_read": self.bytes_read,
            "blocks": self.blocks,
            "commits": self.commits,
            "commits_replayed": self.commits_replayed,
            "snapshots_compared": self.snapshots_compared,
            "blocks_left_out": self.blocks_left_out,
            "journals_left_out": self.journals_left_out,
            "left_out": list(self.left_out),
        }
