"""Recompute what a plan says: rows of a state from a base and the mended journal.

Purpose: fetch the base's rows from whichever copy has them and replay the commits onto them. Invariants: every block of
a base is compared with its SHA-256 when it is read; a chain value that does not follow ends it.
"""

from __future__ import annotations

from dataclasses import dataclass

from emm.errors import EmmError, StorageError
from emm.repair.mended import Base
from emm.repair.overlay import MendedJournal, commits_after
from emm.repair.rows import Rebuilt, Rows, empty_rows, read_rows, replay_rows
from emm.repair.snapshots import SnapshotMender
from emm.state import MatrixState
from emm.storage.replay import Replayer


@dataclass(frozen=True, slots=True)
class Computer:
    """Of one memory."""

    url: str
    snapshots: SnapshotMender
    journal: MendedJournal
    state_bytes_max: int

    def replayed(self, base: Base, rows: Rows, dim: int, through: tuple[int, bytes]) -> tuple[Rebuilt, Replayer]:
        state, segment, write_count, expand_at = self._base(base, rows)
        commits = commits_after(self.journal, self.snapshots.own.uuid, segment, base.lsn)
        try:
            return replay_rows(
                Replayer(state, write_count=write_count, expand_at=expand_at),
                rows,
                dim,
                (base.lsn, base.chain),
                commits,
                through,
                state_bytes_max=self.state_bytes_max,
            )
        except EmmError as error:
            raise error.located(self.url) from None

    def _base(self, base: Base, rows: Rows) -> tuple[MatrixState, int, int, float]:
        """(rows of the base, the segment that goes on from it, its write count, its expansion threshold)."""
        if base.generation is None:
            return empty_rows(base.parameters, rows), 1, 0, 0.0
        assert base.copy is not None
        generation, copy = base.generation, base.copy
        mended = self.snapshots.mended.get(generation)
        found = copy.heads[generation] if copy.is_replica else mended.found if mended is not None else None
        assert found is not None

        def block(index: int) -> bytes:
            if not copy.is_replica:
                assert mended is not None
                return self.snapshots.block(mended, index)
            data = copy.block(generation, index, found.head.table[index])
            if data is None:
                raise StorageError("the replica changed while it was read", file=copy.directory.url)
            return data

        lineage = found.head.lineage
        return read_rows(found.head.header, rows, block), lineage.segment_next, lineage.write_count, lineage.expand_at
