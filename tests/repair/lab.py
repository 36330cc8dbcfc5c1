"""A small memory with a history, to be damaged and repaired, and what every state of it was.

Purpose: three blocks whose borders fall inside rows, three generations, five segments, every kind of record, and the
digest after every commit, so that a test can say "as it was" to the bit.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import emm
from emm.codec.header import Geometry, decode_header
from emm.codec.journal import JournalRecord, decode_record
from emm.errors import EmmError
from emm.layout import BLOCK_BYTES, SEGMENT_HEADER
from emm.repair import Plan, Result, execute, plan

DIM, RANK, KEY_DIM = 700, 48, 48
Files = dict[str, bytes]


@dataclass(frozen=True)
class History:
    """A memory as files, and its digest after each commit."""

    files: Files
    digests: dict[int, str]

    @property
    def lsn(self) -> int:
        return max(self.digests)

    @property
    def snapshots(self) -> list[str]:
        return sorted(name for name in self.files if name.endswith(".emm"))

    @property
    def segments(self) -> list[str]:
        return sorted(name for name in self.files if name.endswith(".wal"))

    @property
    def uuid(self) -> bytes:
        return self.files[self.snapshots[0]][64:80]

    def damaged(self, changed: Mapping[str, bytes | None]) -> Files:
        """The files with some of them changed, or gone (None)."""
        merged = {**self.files, **changed}
        return {name: data for name, data in merged.items() if data is not None}


def read_files(path: Path) -> Files:
    return {each.name: each.read_bytes() for each in sorted(path.iterdir())}


def write_files(path: Path, files: Mapping[str, bytes]) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def pairs(seed: int, n: int, dim: int = DIM, key_dim: int = KEY_DIM) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, 6])
    keys = rng.standard_normal((n, key_dim)).astype(np.float32) / 7
    return keys, rng.standard_normal((n, dim)).astype(np.float32)


def live(path: Path, dim: int = DIM, rank: int = RANK) -> History:
    """Write the memory at `path`: generations 4 to 6, commits 1 to 9, a mark, seals."""
    digests: dict[int, str] = {}

    def note(memory: emm.Memory) -> None:
        digests[memory.lsn] = memory.digest

    with emm.create(path, dim=dim, rank=rank, key_dim=KEY_DIM, expand_at=0, metadata={"name": "repair"}) as memory:
        note(memory)
        memory.write(*pairs(1, 12, dim))
        note(memory)
        keys, values = pairs(1, 12, dim)
        memory.unlearn(keys[:2], values[:2])
        note(memory)
        memory.checkpoint()
        memory.write(*pairs(2, 5, dim))
        note(memory)
        memory._session.require_writable()._mark_if_idle()
        memory.forget(pairs(3, 2, dim)[0])
        note(memory)
        memory.checkpoint()
        memory.write(*pairs(4, 17, dim), write_gate=0.5)
        note(memory)
    with emm.open(path, "a") as memory:
        memory.configure(expand_at=0.5)
        note(memory)
        memory.configure(expand_at=0.0)
        note(memory)
        memory.write(*pairs(5, 3, dim))
        note(memory)
        memory.checkpoint()
        memory.write(*pairs(6, 2, dim))
        note(memory)
    return History(read_files(path), digests)


# --- damage --------------------------------------------------------------------------------------


def flipped(data: bytes, offset: int, bit: int = 3) -> bytes:
    changed = bytearray(data)
    changed[offset] ^= 1 << bit
    return bytes(changed)


def smeared(data: bytes, offset: int, length: int = 7) -> bytes:
    """Several bits flipped in each of several bytes: no single flip explains it."""
    changed = bytearray(data)
    for place in range(offset, min(offset + length, len(data))):
        changed[place] ^= 0x5A
    return bytes(changed)


def shape_of(data: bytes) -> Geometry:
    return decode_header(data).geometry


def mirror_place(shape: Geometry, offset: int) -> int:
    """Where the mirror repeats a byte of the head."""
    if offset >= shape.table_offset:
        return shape.mirror_offset + offset - shape.table_offset
    after = shape.mirror_offset + shape.head_bytes - shape.table_offset
    return after + (offset - 128 if offset >= 128 else shape.table_offset - 128 + offset)


def both_copies(data: bytes, offset: int, length: int = 3) -> bytes:
    """The same bytes smeared in head and mirror: nothing proves the head any more."""
    place = mirror_place(shape_of(data), offset)
    assert data[place : place + length] == data[offset : offset + length]
    return smeared(smeared(data, offset, length), place, length)


def records(history: History, name: str) -> list[JournalRecord]:
    data, offset, found = history.files[name], SEGMENT_HEADER.size, []
    while offset < len(data):
        found.append(decode_record(data[offset:], offset, history.uuid))
        offset += found[-1].size
    return found


# --- repair ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What a repair came to. `files` and `digest` are None when nothing was written."""

    plan: Plan
    result: Result | None
    error: EmmError | None
    files: Files | None
    digest: str | None
    lsn: int | None

    def same_files(self, history: History) -> bool:
        """True when the repaired memory has exactly the original's files, bit for bit."""
        kept = {name: data for name, data in (self.files or {}).items() if not name.endswith(".json")}
        return kept == history.files


def hashes(path: Path) -> dict[str, str]:
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in path.iterdir()}


def repair(
    tmp_path: Path, files: Mapping[str, bytes], *, against: Path | None = None, allow_loss: bool = False
) -> Outcome:
    """Repair a copy of the files; the damaged copy and the replica must be untouched by it."""
    damaged, out = write_files(tmp_path / "damaged", files), tmp_path / "repaired"
    shutil.rmtree(out, ignore_errors=True)
    before, theirs = hashes(damaged), None if against is None else hashes(against)
    found = plan(damaged, against=against)
    result = error = None
    try:
        result = execute(found, out, allow_loss=allow_loss)
    except EmmError as raised:
        error = raised
    assert hashes(damaged) == before, "the damaged memory was touched"
    assert against is None or hashes(against) == theirs, "the replica was touched"
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []
    if result is None:
        assert not out.exists()
        return Outcome(found, None, error, None, None, None)
    with emm.open(out) as memory:
        return Outcome(found, result, None, read_files(out), memory.digest, memory.lsn)


def in_block(data: bytes, block: int) -> bytes:
    return smeared(data, shape_of(data).payload_offset + block * BLOCK_BYTES + 500, 600)


def damaged_record(history: History, name: str, index: int = 0) -> bytes:
    """A record with its payload smeared: nothing but a replica has it."""
    record = records(history, name)[index]
    return smeared(history.files[name], record.offset + 48, 60)
