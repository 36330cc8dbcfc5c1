"""The pairs that a memory's journal still holds: re-solving from them, and finding one of them.

Purpose: "the library keeps the pairs" made usable. Invariants: a re-solve replays every commit from
the first, in order, at the new rank, with the same arithmetic as any other replay; it is refused
(`HistoryError`) unless every pair in the state is at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from emm.codec.pairs import PairBatch, decode_pairs, encode_pairs
from emm.errors import CorruptionError, HistoryError
from emm.layout import STATE_BYTES_MAX, Flag, RecordType
from emm.state import Parameters, empty_state
from emm.storage.grouped_replay import GroupedReplay
from emm.storage.names import list_memory, segment_name
from emm.storage.pair_index import PairIndex
from emm.storage.recovery import check_chain
from emm.storage.replay import PAIR_TYPES, Replayer
from emm.storage.segment_file import LoggedCommit, SegmentReader
from emm.vfs.protocol import Directory

_PLACED = (RecordType.WRITE, RecordType.UNLEARN)
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
        if self.lsn and (not segments or segments != tuple(range(1, len(segments) + 1))):
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
        if readers and lsn != self.lsn:
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
        """The state of all commits replayed at `rank`: as if the memory had had that rank from the start.

        A pair that was unlearned with the gate it was written with is left out, not written and taken out again:
        at a larger rank it may weigh more, so that taking it out would cost precision or be refused.
        """
        reason = self.missing()
        if reason is not None:
            raise HistoryError(f"the pairs are not all at hand: {reason}; give them with pairs=")
        replayer = Replayer(
            empty_state(replace(self.parameters, rank=rank)), resolving=True, state_bytes_max=state_bytes_max
        )
        left_out = frozenset() if self.flags & Flag.DECAYED else self._taken_out()
        place = 0
        with GroupedReplay(replayer) as grouped:
            for logged in self.commits():
                if left_out:
                    logged, place = self._without(logged, left_out, place)
                grouped.apply(logged)
                if progress is not None:
                    progress(logged.lsn, self.lsn)
            grouped.settle()
        return replayer

    def _taken_out(self) -> frozenset[int]:
        """Places (pairs of writes and unlearns, counted from 0) of unlearns and of the writes that they undo."""
        unlearned = {
            _fingerprint(batch, row)
            for _, kind, batch in self._batches()
            if kind is RecordType.UNLEARN
            for row in range(len(batch))
        }
        written: dict[bytes, list[int]] = {fingerprint: [] for fingerprint in unlearned}
        found: set[int] = set()
        for first, kind, batch in self._batches() if unlearned else ():
            for row in range(len(batch)):
                places = written.get(_fingerprint(batch, row))
                if places is not None and kind is RecordType.WRITE:
                    places.append(first + row)
                elif places:
                    found |= {places.pop(), first + row}
        return frozenset(found)

    def _batches(self) -> Iterator[tuple[int, RecordType, PairBatch]]:
        """(place of its first pair, type, pairs) of every write and unlearn."""
        place = 0
        for logged in self.commits():
            for record in logged.records:
                if record.type in _PLACED:
                    batch = decode_pairs(record, self.parameters.key_dim, self.parameters.dim)
                    yield place, record.type, batch
                    place += len(batch)

    def _without(self, logged: LoggedCommit, left_out: frozenset[int], place: int) -> tuple[LoggedCommit, int]:
        """The commit without the pairs at those places, and the place after it."""
        records = []
        for record in logged.records:
            if record.type not in _PLACED:
                records.append(record)
                continue
            batch = decode_pairs(record, self.parameters.key_dim, self.parameters.dim)
            kept = [row for row in range(len(batch)) if place + row not in left_out]
            place += len(batch)
            if kept:
                records.append(replace(record, payload=encode_pairs(record.type, batch.rows(kept))))
        return replace(logged, records=tuple(records)), place

    def pair_index(self) -> PairIndex:
        """Every write, unlearn and forget of the journal; pairs from before a re-solve have its rank or more."""
        index = PairIndex()
        floor_lsn, floor_rank = self._floor()
        for logged in self.commits():
            if self.flags & Flag.FOREIGN_PAIRS and logged.lsn <= floor_lsn:
                continue  # the state began anew from pairs that were given
            for record in logged.records:
                if record.type in PAIR_TYPES:
                    batch = decode_pairs(record, self.parameters.key_dim, self.parameters.dim)
                    rank = max(batch.rank, floor_rank) if logged.lsn <= floor_lsn else batch.rank
                    index.add(record.type, batch, rank, logged.lsn)
        index.lsn = self.lsn
        return index

    def _floor(self) -> tuple[int, int]:
        """(last LSN before the newest re-solve, rank after it): older pairs count as written at that rank."""
        for number in list_memory(self.directory).segments:
            header = SegmentReader(self.directory, number, self.uuid).header
            if header.floor_generation == self.floor_generation:
                return header.first_lsn - 1, header.rank
        return self.lsn, self.parameters.rank


def _fingerprint(batch: PairBatch, row: int) -> bytes:
    return b"".join(array[row].tobytes() for array in (batch.keys, batch.values, batch.write_gates))
