"""The pairs that a memory's journal still holds: re-solving from them, and finding one of them.

Purpose: "the library keeps the pairs" made usable. Invariants: a re-solve replays every commit from
the first, in order, at the new rank, with the same arithmetic as any other replay; it is refused
(`HistoryError`) unless every pair in the state is at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from emm.codec.pairs import decode_pairs
from emm.errors import CorruptionError, HistoryError
from emm.layout import STATE_BYTES_MAX, Flag, RecordType
from emm.state import Float32Array, Parameters, empty_state
from emm.storage.names import list_memory, segment_name
from emm.storage.recovery import check_chain
from emm.storage.replay import Replayer
from emm.storage.segment_file import LoggedCommit, SegmentReader
from emm.vfs.protocol import Directory

Progress = Callable[[int, int], None]  # (commits done, commits in all)


@dataclass(slots=True)
class History:
    """The journal of one memory, from its first commit to `lsn`."""

    directory: Directory
    uuid: bytes
    lsn: int
    parameters: Parameters  # the memory's present ones
    flags: Flag
    floor_generation: int

    def missing(self) -> str | None:
        """Why not every pair of the state is at hand, or None when all are."""
        if self.flags & Flag.FOREIGN_PAIRS:
            return "its journal never held all of them (it was merged, upgraded or re-solved from given pairs)"
        segments = list_memory(self.directory).segments
        if self.lsn and segments != tuple(range(1, len(segments) + 1)):
            gap = next((n for n in range(1, len(segments) + 1) if n not in segments), 1)
            return f"the journal no longer starts at the first commit ({segment_name(gap)} was pruned)"
        return None

    def commits(self) -> Iterator[LoggedCommit]:
        """Every live commit that is at hand, in LSN order, chain-checked from the first segment present."""
        readers = [SegmentReader(self.directory, number, self.uuid) for number in list_memory(self.directory).segments]
        chain = readers[0].header.chain if readers else bytes(32)
        lsn = readers[0].header.first_lsn - 1 if readers else 0
        for index, reader in enumerate(readers):
            end = readers[index + 1].header.first_lsn if index + 1 < len(readers) else self.lsn + 1
            for logged in reader.commits():
                if logged.lsn >= min(end, self.lsn + 1):
                    break
                check_chain(chain, logged)
                chain, lsn = logged.commit.chain, logged.lsn
                yield logged
        if lsn != self.lsn:
            raise CorruptionError(
                "the journal ends before the memory does",
                rule="R-6",
                file=self.directory.url,
                expected=f"lsn {self.lsn}",
                found=f"lsn {lsn}",
            )

    def resolve(
        self, rank: int, *, progress: Progress | None = None, state_bytes_max: int = STATE_BYTES_MAX
    ) -> Replayer:
        """The state of all commits replayed at `rank`: as if the memory had had that rank from the start."""
        reason = self.missing()
        if reason is not None:
            raise HistoryError(f"the pairs are not all at hand: {reason}; give them with pairs=")
        replayer = Replayer(
            empty_state(replace(self.parameters, rank=rank)), resolving=True, state_bytes_max=state_bytes_max
        )
        for logged in self.commits():
            replayer.apply(logged)
            if progress is not None:
                progress(logged.lsn, self.lsn)
        return replayer

    def written_ranks(self, keys: Float32Array, values: Float32Array) -> list[int]:
        """The rank at which each pair counts as written, for an unlearn that needs to know.

        Raises `HistoryError` for a pair that the journal does not hold, or that was decayed or
        forgotten after it was written, or was unlearned already.
        """
        wanted: dict[bytes, list[int]] = {}
        for row in range(len(keys)):
            wanted.setdefault(_fingerprint(keys[row], values[row]), []).append(row)
        forget_rows: dict[bytes, list[int]] = {}
        for row in range(len(keys)):
            forget_rows.setdefault(keys[row].tobytes(), []).append(row)
        ranks = [0] * len(keys)
        faults = ["was never written, or its journal was pruned"] * len(keys)
        floor_lsn, floor_rank = self._floor()
        for logged in self.commits():
            for record in logged.records:
                if record.type not in (RecordType.WRITE, RecordType.UNLEARN, RecordType.FORGET):
                    continue
                batch = decode_pairs(record, self.parameters.key_dim, self.parameters.dim)
                rank = max(batch.rank, floor_rank) if logged.lsn <= floor_lsn else batch.rank
                for index in range(len(batch)):
                    if record.type is RecordType.FORGET:
                        for row in forget_rows.get(batch.keys[index].tobytes(), ()):
                            ranks[row], faults[row] = 0, f"was forgotten by commit {logged.lsn}"
                        continue
                    if record.type is RecordType.WRITE and batch.decay_gates[index] != 1:
                        for row in range(len(keys)):
                            if ranks[row]:
                                ranks[row], faults[row] = 0, f"has decayed since (commit {logged.lsn})"
                    for row in wanted.get(_fingerprint(batch.keys[index], batch.values[index]), ()):
                        if record.type is RecordType.WRITE:
                            ranks[row] = rank
                        else:
                            ranks[row], faults[row] = 0, f"was unlearned by commit {logged.lsn}"
        for row, rank in enumerate(ranks):
            if rank == 0:
                raise HistoryError(f"pair {row} cannot be unlearned: it {faults[row]}")
        return ranks

    def _floor(self) -> tuple[int, int]:
        """(last LSN before the newest re-solve, rank after it): older pairs count as written at that rank."""
        for number in list_memory(self.directory).segments:
            header = SegmentReader(self.directory, number, self.uuid).header
            if header.floor_generation == self.floor_generation:
                return header.first_lsn - 1, header.rank
        return self.lsn, self.parameters.rank


def _fingerprint(key: Float32Array, value: Float32Array) -> bytes:
    return np.ascontiguousarray(key).tobytes() + np.ascontiguousarray(value).tobytes()
