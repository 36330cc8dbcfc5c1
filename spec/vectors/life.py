"""A deterministic writer: a memory's files, one operation after another, and the digest of its state.

Purpose: make vectors that a library would have written, without its clock, its random numbers and its disk. Invariants:
the state is moved by the operations that are logged, so `digest` is known without reading anything back; numbers come
from SplitMix64 (spec A-6); `log` can log what no writer would, with every checksum and chain value right.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from emm import kernel
from emm.codec.header import decode_header
from emm.codec.journal import SegmentHeader, encode_record, next_chain
from emm.codec.lineage import Lineage
from emm.codec.pairs import Commit, PairBatch, encode_expand, encode_pairs, encode_parameters
from emm.codec.payload import state_digest
from emm.codec.snapshot import Snapshot, encode_snapshot
from emm.layout import HEADER, Origin, RecordType, Rule
from emm.state import MatrixState, Parameters, empty_state

from .stream import Numbers

UUID = bytes(range(16))
OTHER_UUID = bytes(range(100, 116))
NONCE = bytes(range(16, 32))
TIME_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z

Record = tuple[RecordType, bytes]


def small(rule: int = 2, **fields: Any) -> Parameters:
    """The shape most vectors have: dim 4, key_dim 16, rank 16."""
    shape = {"dim": 4, "key_dim": 16, "rank": 16} | fields
    return Parameters(rule=Rule(rule), **shape)


@dataclass
class Life:
    """A memory that is being written. `files` holds every file as it is now."""

    parameters: Parameters = field(default_factory=small)
    uuid: bytes = UUID
    expand_at: float = 0.0
    metadata: dict[str, Any] = field(default_factory=dict)
    origin: Origin = Origin.CHECKPOINT
    parent_uuid: bytes = bytes(16)
    state: MatrixState | None = None  # None: an empty one
    lsn: int = 0
    chain: bytes = bytes(32)
    generation: int = 0
    first_generation: int = 1
    write_count: int = 0
    segment: int = 0  # the last one begun
    is_open: bool = False
    sealed_bytes: int = 0
    proven: int = 0
    files: dict[str, bytearray] = field(default_factory=dict)
    chains: dict[int, bytes] = field(default_factory=dict)  # LSN → chain value
    ends: dict[int, int] = field(default_factory=dict)  # LSN → where its commit ends in its segment
    surprises: list[float] = field(default_factory=list)  # of the pairs that were applied and not yet logged

    def __post_init__(self) -> None:
        if self.state is None:
            self.state = empty_state(self.parameters)
        self.floor = self.first_generation
        self.generation = self.first_generation - 1
        self.parent_sha256 = bytes(32)
        self.proven = self.lsn
        self.chains[self.lsn] = self.chain
        self.checkpoint(self.origin)

    # --- what there is ------------------------------------------------------------------------------

    def copy(self) -> Life:
        return copy.deepcopy(self)

    def bytes(self) -> dict[str, bytes]:
        return {name: bytes(data) for name, data in self.files.items()}

    @property
    def digest(self) -> str:
        return state_digest(self.state, self.lsn).hex()

    @property
    def wal(self) -> str:
        """Name of the last segment."""
        return f"{self.segment:016d}.wal"

    @property
    def emm(self) -> str:
        """Name of the newest snapshot."""
        return f"{self.generation:016d}.emm"

    def without(self, *names: str) -> dict[str, bytes]:
        """The files but for some."""
        return {name: data for name, data in self.bytes().items() if name not in names}

    def replaced(self, name: str, data: bytes) -> dict[str, bytes]:
        return self.bytes() | {name: bytes(data)}

    # --- snapshots ----------------------------------------------------------------------------------

    def checkpoint(self, origin: Origin = Origin.CHECKPOINT, **lineage: Any) -> Life:
        """Publish the state as the next generation; ends the segment."""
        self.seal()
        self.generation += 1
        if origin is not Origin.CHECKPOINT:
            self.floor = self.generation
        stated = {
            "write_count": self.write_count,
            "time_us": TIME_US + self.lsn % 1000,
            "chain": self.chain,
            "parent_sha256": self.parent_sha256,
            "parent_uuid": self.parent_uuid,
            "writer_nonce": NONCE,
            "floor_generation": self.floor,
            "segment_next": self.segment + 1,
            "expand_at": self.expand_at,
            "origin": origin,
        }
        lineage = Lineage(**(stated | lineage))
        made = Snapshot(self.state, self.generation, self.lsn, self.uuid, lineage, self.metadata)
        data = encode_snapshot(made)
        self.files[self.emm] = bytearray(data)
        self.parent_sha256 = decode_header(data[: HEADER.size]).sha256
        self.proven = self.lsn
        return self

    # --- the journal --------------------------------------------------------------------------------

    def begin(self, **stated: Any) -> Life:
        """Start a segment, whose header may state something else than a writer would."""
        self.segment += 1
        fields = {
            "segment": self.segment,
            "first_lsn": self.lsn + 1,
            "floor_generation": self.floor,
            "uuid": self.uuid,
            "writer_nonce": NONCE,
            "chain": self.chain,
            "previous_bytes": self.sealed_bytes,
            "rank": self.state.parameters.rank,
        }
        self.files[self.wal] = bytearray(SegmentHeader(**(fields | stated)).encode())
        self.is_open = True
        return self

    def append(self, data: bytes) -> Life:
        """Bytes at the end of the last segment, whatever they are."""
        self.files[self.wal] += data
        return self

    def record(self, kind: RecordType, lsn: int, synced: int, payload: bytes = b"") -> bytes:
        return encode_record(kind, lsn, synced, payload, self.uuid)

    def log(self, records: Sequence[Record], **stated: Any) -> Life:
        """Log one batch as the next commit without applying it. `stated` overrides fields of the commit."""
        if not self.is_open:
            self.begin()
        lsn = self.lsn + 1
        fields = {"time_us": TIME_US + lsn % 1000, "n_records": len(records), "n_pairs": _n_pairs(records)}
        fields["surprise"] = float(np.float32(sum(self.surprises) / max(1, fields["n_pairs"])))
        self.surprises = []
        commit = Commit(**(fields | stated), chain=bytes(32))
        self.chain = next_chain(self.chain, [(kind, lsn, payload) for kind, payload in records], commit.encode())
        payload = Commit(**(fields | stated), chain=self.chain).encode()
        for kind, body in [*records, (RecordType.COMMIT, payload)]:
            self.append(self.record(kind, lsn, self.proven, body))
        self.lsn = self.proven = lsn
        self.chains[lsn], self.ends[lsn] = self.chain, len(self.files[self.wal])
        return self

    def mark(self) -> Life:
        return self.append(self.record(RecordType.MARK, self.lsn, self.lsn))

    def seal(self) -> Life:
        if self.is_open:
            self.append(self.record(RecordType.SEAL, self.lsn, self.lsn))
            self.end()
        return self

    def again(self, lsn: int, **stated: Any) -> Life:
        """A new segment that holds every commit from `lsn` on again, as R-9 asks of a writer, and a mark."""
        old = bytes(self.files[self.wal])[self.ends.get(lsn - 1, 128) : self.ends[self.lsn]]
        self.end().begin(**({"first_lsn": lsn, "chain": self.chains[lsn - 1], "rank": self.parameters.rank} | stated))
        return self.append(old).mark()

    def end(self) -> Life:
        """Stop writing to the segment, without a seal."""
        self.is_open = False
        self.sealed_bytes = len(self.files[self.wal])
        return self

    # --- operations ---------------------------------------------------------------------------------

    def pairs(self, n: int, seed: int | None = None) -> PairBatch:
        """Pairs of small numbers with gates 1; the seed is the LSN unless given."""
        parameters = self.state.parameters
        source = Numbers(1000 + (self.lsn + 1 if seed is None else seed))
        keys, values = source.rows(n, parameters.key_dim), source.rows(n, parameters.dim)
        one = np.ones(n, np.float32)
        return PairBatch(parameters.rank, keys, values, one, one)

    def write(self, n: int = 2, **gates: float) -> Life:
        return self.commit(self.writing(self.pairs(n), **gates))

    def writing(self, pairs: PairBatch, decay: float | None = None, gate: float | None = None) -> Record:
        """Apply a write, and give the record to log. Gates are numbers for all pairs."""
        one = np.ones(len(pairs), np.float32)
        decays = pairs.decay_gates if decay is None else one * np.float32(decay)
        gates = pairs.write_gates if gate is None else one * np.float32(gate)
        x = kernel.project(pairs.keys, self.state.parameters)
        self.surprises += kernel.write(self.state, x, pairs.values, decays, gates).tolist()
        self.write_count += len(pairs)
        return write_record(PairBatch(pairs.rank, pairs.keys, pairs.values, gates, decays))

    def unlearning(self, pairs: PairBatch) -> Record:
        x = kernel.project(pairs.keys, self.state.parameters)
        surprise = kernel.unlearn(self.state, x, pairs.values, pairs.write_gates, pairs.rank)
        self.surprises += surprise.tolist()
        self.write_count -= len(pairs)
        return RecordType.UNLEARN, encode_pairs(RecordType.UNLEARN, pairs)

    def forgetting(self, pairs: PairBatch) -> Record:
        kernel.forget(self.state, kernel.project(pairs.keys, self.state.parameters))
        return RecordType.FORGET, encode_pairs(RecordType.FORGET, pairs)

    def expanding(self, rank: int) -> Record:
        self.state = kernel.expand(self.state, rank)
        return RecordType.EXPAND, encode_expand(rank)

    def threshold(self, expand_at: float) -> Record:
        self.expand_at = expand_at
        return RecordType.PARAMETERS, encode_parameters(expand_at)

    def commit(self, *records: Record) -> Life:
        """Log records whose operations have been applied."""
        return self.log(records)


def write_record(pairs: PairBatch) -> Record:
    """A write record of pairs that need not be lawful."""
    return RecordType.WRITE, encode_pairs(RecordType.WRITE, pairs)


def _n_pairs(records: Sequence[Record]) -> int:
    """Pairs (or keys) in the records: the first number of a PairsHeader."""
    with_pairs = (RecordType.WRITE, RecordType.UNLEARN, RecordType.FORGET)
    return sum(int.from_bytes(payload[:4], "little") for kind, payload in records if kind in with_pairs)
