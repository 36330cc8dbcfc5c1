"""Mend one snapshot: its head, and for each damaged block the source that can be proven.

Purpose: decide block by block, cheapest first: the bytes themselves with one bit put back, the same block in another
generation or in a replica, rows recomputed from an older state. Invariants: nothing is replayed across a state that is
no checkpoint (L-2, R-4); a replica's head is taken only where our own files vouch for it; a block without a source is
named as lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from emm.codec.header import Geometry
from emm.codec.integrity import BlockEntry, check_block
from emm.codec.lineage import ZERO_DIGEST
from emm.errors import CorruptionError, FormatError
from emm.layout import BLOCK_BYTES, Flag, Origin
from emm.repair.copies import MemoryCopy
from emm.repair.heads import FoundHead
from emm.repair.mended import Base, MendedSnapshot, OtherBlock, Replay
from emm.repair.plan import From, Part
from emm.repair.rows import Rows, blocks_needed, rows_of_blocks
from emm.repair.segments import MendedSegment
from emm.storage.names import snapshot_name
from emm.verify.bitflip import BitFlip, locate
from emm.verify.regions import block_spans


@dataclass(slots=True)
class SnapshotMender:
    """Mends generations in ascending order; those before are bases of those after."""

    own: MemoryCopy
    replica: MemoryCopy | None
    suspects: frozenset[int]
    segments: Mapping[int, MendedSegment]
    mended: dict[int, MendedSnapshot] = field(init=False, default_factory=dict)
    notes: list[str] = field(init=False, default_factory=list)
    _known_places: dict[bytes, list[OtherBlock]] = field(init=False, default_factory=dict)

    def run(self) -> dict[int, MendedSnapshot]:
        """Generation → what can be made of it, from the oldest to the newest that is there or must have been."""
        present = self.own.listing.generations
        floors = [each.header.floor_generation for each in self.segments.values() if each.header is not None]
        newest = max([*present, *floors], default=0)
        for generation in range(min(present, default=newest), newest + 1):
            self.mended[generation] = self._snapshot(generation)
        return self.mended

    def block(self, snapshot: MendedSnapshot, index: int) -> bytes:
        """A block that needs no replay, checked against its table entry."""
        assert snapshot.found is not None
        entry = snapshot.found.head.table[index]
        source = snapshot.sources.get(index)
        start = snapshot.found.head.geometry.payload_offset + index * BLOCK_BYTES
        if isinstance(source, OtherBlock):
            data = source.copy.block(source.generation, source.index, entry)
        else:
            data = self.own.raw_block(snapshot.generation, start)
            if data is not None and isinstance(source, BitFlip):
                data = data[: source.offset] + bytes([source.expected]) + data[source.offset + 1 :]
        if data is None:
            raise CorruptionError(
                f"block {index} can no longer be read",
                file=f"{self.own.directory.url}/{snapshot_name(snapshot.generation)}",
                offset=start,
            )
        check_block(data, entry, index, start)
        return data

    # --- one snapshot ---------------------------------------------------------------------------

    def _snapshot(self, generation: int) -> MendedSnapshot:
        mended = MendedSnapshot(generation, self.own.heads.get(generation))
        if generation not in self.suspects and mended.found is not None:
            return mended
        if mended.found is not None:
            mended.parts += mended.found.damage
        else:
            self._adopt_head(mended)
        if mended.found is None:
            return mended
        shape, table = mended.found.head.geometry, mended.found.head.table
        missing = [index for index, entry in enumerate(table) if not self._own_block(mended, shape, index, entry)]
        for index in missing:
            self._mend_block(mended, shape, index, table[index])
        if mended.lost:
            self._recompute(mended, shape)
        mended.parts.sort(key=lambda part: (part.block is not None, part.offset or 0))
        return mended

    def _adopt_head(self, mended: MendedSnapshot) -> None:
        theirs = None if self.replica is None else self.replica.heads.get(mended.generation)
        if theirs is None:
            return
        proof = self._vouched(theirs, mended.generation)
        if proof is None:
            self.notes.append(f"generation {mended.generation} of the replica is not used: nothing here vouches for it")
            return
        mended.found, mended.exact = replace(theirs, damage=()), proof[0]
        shape = theirs.head.geometry
        detail = f"generation {mended.generation} of the replica; {proof[1]}"
        mended.parts.append(Part("head and mirror", From.REPLICA, detail, 0, shape.payload_offset))

    def _vouched(self, theirs: FoundHead, generation: int) -> tuple[bool, str] | None:
        """(True when it is the very file, why) when our own files vouch for a replica's head."""
        header, lineage = theirs.head.header, theirs.head.lineage
        after = self.own.heads.get(generation + 1)
        if after is not None and after.head.lineage.parent_sha256 == header.sha256:
            return True, f"generation {generation + 1} names its SHA-256"
        known = {each.header.first_lsn - 1: each.header.chain for each in self.segments.values() if each.header}
        known |= {each.live_last: each.chain_end for each in self.segments.values() if each.chain_end}
        known |= {each.head.header.lsn: each.head.lineage.chain for each in self.own.heads.values()}
        if known.get(header.lsn) != lineage.chain or (header.lsn and lineage.chain == ZERO_DIGEST):
            return None
        segment = self.segments.get(lineage.segment_next)
        if segment is not None and segment.header is not None and segment.header.first_lsn != header.lsn + 1:
            return None
        return False, "our journal has its chain value"

    def _own_block(self, mended: MendedSnapshot, shape: Geometry, index: int, entry: BlockEntry) -> bool:
        data = self.own.raw_block(mended.generation, shape.payload_offset + index * BLOCK_BYTES)
        try:
            if data is None:
                return False
            check_block(data, entry, index, 0)
        except FormatError:
            return False
        start = shape.payload_offset + index * BLOCK_BYTES
        size = mended.found.size if mended.found is not None else 0
        if mended.generation in self.own.heads and start + BLOCK_BYTES > size:
            cut = max(start, size)
            detail = "cut-off zeros, as the block's SHA-256 proves"
            mended.parts.append(Part("block", From.DERIVED, detail, cut, start + BLOCK_BYTES - cut, index))
        return True

    def _mend_block(self, mended: MendedSnapshot, shape: Geometry, index: int, entry: BlockEntry) -> None:
        """Find a source that needs no arithmetic, or note the block as lost for now."""
        start = shape.payload_offset + index * BLOCK_BYTES
        data = self.own.raw_block(mended.generation, start)
        flip = None if data is None else locate(data, entry)
        spans = block_spans(shape, index)
        if flip is not None:
            mended.sources[index] = flip
            detail = f"flip bit {flip.bit} of byte {start + flip.offset} back, as the block's SHA-256 proves"
            mended.parts.append(Part("block", From.BIT, detail, start + flip.offset, 1, index, spans))
            return
        other = next(self._same_bytes(mended.generation, index, entry), None)
        if other is None:
            mended.lost.append(index)
            return
        mended.sources[index] = other
        source = From.REPLICA if other.copy.is_replica else From.SNAPSHOT
        detail = f"block {other.index} of generation {other.generation}, as its SHA-256 proves"
        mended.parts.append(Part("block", source, detail, start, BLOCK_BYTES, index, spans))

    def _same_bytes(self, generation: int, index: int, entry: BlockEntry) -> Iterator[OtherBlock]:
        for place in self._places().get(entry.sha256, ()):
            itself = place.copy is self.own and (place.generation, place.index) == (generation, index)
            if not itself and place.copy.block(place.generation, place.index, entry) is not None:
                yield place

    def _places(self) -> dict[bytes, list[OtherBlock]]:
        """SHA-256 of a block → where the tables of both copies have it, our own first."""
        if not self._known_places:
            for copy in [self.own, *([] if self.replica is None else [self.replica])]:
                for generation, found in copy.heads.items():
                    for index, entry in enumerate(found.head.table):
                        self._known_places.setdefault(entry.sha256, []).append(OtherBlock(copy, generation, index))
        return self._known_places

    # --- recomputing ----------------------------------------------------------------------------

    def _recompute(self, mended: MendedSnapshot, shape: Geometry) -> None:
        assert mended.found is not None
        header, lineage = mended.found.head.header, mended.found.head.lineage
        if lineage.origin is not Origin.CHECKPOINT:
            mended.reason = f"a state of origin {lineage.origin.name.lower()} is not what a replay gives"
            self.notes.append(f"generation {mended.generation} has origin {lineage.origin.name.lower()}: no replay")
            return
        rows = rows_of_blocks(shape, mended.lost)
        base = self.base(mended.found, rows)
        if base is None:
            mended.reason = "neither an older state with these rows nor the journal from there on is whole"
            return
        mended.replay = Replay(base, rows, tuple(mended.lost))
        span = (
            f"commits {base.lsn + 1}–{header.lsn} replayed onto {base}" if header.lsn > base.lsn else f"{base} itself"
        )
        for index in mended.lost:
            start = shape.payload_offset + index * BLOCK_BYTES
            lsns = (base.lsn + 1, header.lsn) if header.lsn > base.lsn else None
            spans = block_spans(shape, index)
            mended.parts.append(Part("block", From.REPLAY, span, start, BLOCK_BYTES, index, spans, lsns))
        mended.lost = []

    def base(self, target: FoundHead, rows: Rows) -> Base | None:
        """The nearest state from which the journal leads to a snapshot, and which has those rows and all of P."""
        header, lineage = target.head.header, target.head.lineage
        for generation in range(header.generation - 1, lineage.floor_generation - 1, -1):
            for copy in (self.own, self.replica):
                found = None if copy is None else self._at(copy, generation)
                if copy is None or found is None or found.head.header.lsn > header.lsn:
                    continue
                start = found.head.header
                if self.leads(found, header.lsn) and self._has(copy, generation, blocks_needed(start.geometry, rows)):
                    return Base(generation, copy, start.parameters, start.lsn, found.head.lineage.chain)
        first = self.segments.get(1)
        rank = header.parameters.rank if first is None or first.header is None else first.header.rank
        if (
            lineage.floor_generation == 1
            and not header.flags & Flag.FOREIGN_PAIRS
            and self.reach(1, 0, 1) >= header.lsn
        ):
            return Base(None, None, replace(header.parameters, rank=rank), 0, ZERO_DIGEST)
        return None

    def _at(self, copy: MemoryCopy, generation: int) -> FoundHead | None:
        if copy is self.own:
            snapshot = self.mended.get(generation)
            return None if snapshot is None else snapshot.found
        return copy.heads.get(generation)

    def _has(self, copy: MemoryCopy, generation: int, needed: list[int]) -> bool:
        if copy is self.own:
            snapshot = self.mended[generation]
            return all(index not in snapshot.lost and self._ready(snapshot, index) for index in needed)
        table = copy.heads[generation].head.table
        return all(copy.block(generation, index, table[index]) is not None for index in needed)

    def _ready(self, snapshot: MendedSnapshot, index: int) -> bool:
        return snapshot.replay is None or index not in snapshot.replay.blocks

    def leads(self, found: FoundHead, lsn: int) -> bool:
        """True when the journal goes on from that snapshot, with its chain value, up to `lsn`."""
        head = found.head
        segment = self.segments.get(head.lineage.segment_next)
        if head.header.lsn < lsn and (
            segment is None or segment.header is None or segment.header.chain != head.lineage.chain
        ):
            return False
        return self.reach(head.lineage.segment_next, head.header.lsn, head.header.generation) >= lsn

    def reach(self, segment: int, lsn: int, generation: int) -> int:
        """The last commit to which whole segments lead from there (R-2, R-4, R-5)."""
        chain = b""
        while (found := self.segments.get(segment)) is not None and found.header is not None:
            if found.header.first_lsn != lsn + 1 or found.header.floor_generation > generation:
                break
            if chain and found.header.chain != chain:
                break
            lsn, chain = found.live_last, found.chain_end
            if not found.complete:
                break
            segment += 1
        return lsn
