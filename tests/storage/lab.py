"""A small memory to break: dim 16, rank 16, key_dim 16, with the digest of every LSN written down.

Purpose: tests of recovery need the same three things: a life whose every state is known, the bytes a crash would
leave, and journals forged so that one rule alone is broken.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import emm
from emm.codec.journal import JournalRecord, SegmentHeader, encode_record, next_chain
from emm.codec.pairs import Commit, count_pairs
from emm.codec.payload import state_digest
from emm.layout import RecordType
from emm.storage.recovery import Recovered, recover
from emm.storage.segment_file import LoggedCommit, SegmentReader
from emm.testing.frozen import FrozenDirectory

DIM = RANK = KEY_DIM = 16


def batch(seed: int, n: int = 2, key_dim: int = KEY_DIM) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng([seed, 77])
    keys = random.standard_normal((n, key_dim)).astype(np.float32) / 4
    return keys, random.standard_normal((n, DIM)).astype(np.float32)


def create(path: Path, key_dim: int = KEY_DIM) -> emm.Memory:
    return emm.create(str(path), dim=DIM, rank=RANK, key_dim=key_dim, expand_at=0.0)


@dataclass
class Life:
    """A memory that is being written, and what it was at every LSN."""

    path: Path
    memory: emm.Memory
    digests: list[str] = field(default_factory=list)  # by LSN

    @classmethod
    def begin(cls, path: Path, n_commits: int = 0, key_dim: int = KEY_DIM) -> Life:
        memory = create(path, key_dim)
        life = cls(path, memory, [memory.digest])
        life.write(n_commits)
        return life

    def write(self, n_commits: int) -> None:
        for _ in range(n_commits):
            keys, values = batch(self.memory.lsn + 1, key_dim=self.memory.key_dim)
            self.memory.write(keys, values)
            self.digests.append(self.memory.digest)

    def crash(self, to: Path) -> Path:
        """The directory as a kill at this moment leaves it, as a copy."""
        shutil.copytree(self.path, to)
        return to


def files(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in sorted(path.iterdir())}


def read(contents: Mapping[str, bytes | bytearray]) -> Recovered:
    """Recovery over bytes in memory."""
    return recover(FrozenDirectory(contents))


def digest(recovered: Recovered) -> str:
    return state_digest(recovered.state, recovered.lsn).hex()


def commits(contents: Mapping[str, bytes], segment: int = 1) -> tuple[SegmentReader, list[LoggedCommit]]:
    """A segment's reader and its whole commits; the memory's UUID is taken from the first snapshot."""
    uuid = next(data for name, data in contents.items() if name.endswith(".emm"))[64:80]
    reader = SegmentReader(FrozenDirectory(contents), segment, uuid)
    return reader, list(reader.commits())


Records = Sequence[tuple[RecordType, bytes]]


def forge_segment(
    header: SegmentHeader,
    batches: Iterable[Records],
    *,
    synced: int | None = None,  # what every record says was synced; None: the commit before
    tail: Iterable[tuple[RecordType, int]] = (),  # marks and seals, with their LSN
    n_pairs: int | None = None,  # what every commit counts; None: what its records hold
) -> bytes:
    """A segment with valid checksums and chain, whatever its records say."""
    data = bytearray(header.encode())
    chain, lsn = header.chain, header.first_lsn - 1
    for records in batches:
        lsn += 1
        counted = sum(_pairs_in(*record) for record in records) if n_pairs is None else n_pairs
        commit = Commit(1000 + lsn, len(records), counted, 0.0, bytes(32))
        chain = next_chain(chain, [(kind, lsn, payload) for kind, payload in records], commit.encode())
        payload = Commit(1000 + lsn, len(records), counted, 0.0, chain).encode()
        for kind, body in [*records, (RecordType.COMMIT, payload)]:
            data += encode_record(kind, lsn, lsn - 1 if synced is None else min(synced, lsn), body, header.uuid)
    for kind, at in tail:
        data += encode_record(kind, at, at, b"", header.uuid)
    return bytes(data)


def _pairs_in(kind: RecordType, payload: bytes) -> int:
    return count_pairs(JournalRecord(kind, 1, 0, payload))


def bodies(logged: Iterable[LoggedCommit]) -> list[Records]:
    """The records of commits, to forge with."""
    return [[(record.type, record.payload) for record in each.records] for each in logged]
