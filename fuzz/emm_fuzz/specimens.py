"""Memories whose bytes are damaged afterwards, and every moment at which somebody was told that they are safe.

Purpose: each specimen is a short life on a simulated disk through the public API: what a user has after `close()`, what
a killed process leaves, what a successor makes of that. Invariants: the same bytes at every run; `history` holds what
lay on the disk at each acknowledgement, so what was proven is known without asking the code that reads it.
"""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

import emm
from emm.layout import SEGMENT_SUFFIX
from emm_fuzz.cases import State
from emm_fuzz.crash_states import CrashPoint
from emm_fuzz.deterministic import deterministic
from emm_fuzz.judge import PATH, state_of
from emm_fuzz.simulated_disk import SimulatedDisk
from emm_fuzz.simulated_os import mounted

Files = dict[str, bytes]

METADATA: Final = {"lab": "chemistry", "run": 2026}


@dataclass(frozen=True, slots=True)
class Specimen:
    """The files of one memory, the state that was acknowledged last, and all moments before."""

    name: str
    files: Files
    state: State
    history: tuple[tuple[Files, State], ...]
    is_open: bool = False  # its writer was killed: nothing follows the last segment, and nothing seals it
    fenced: dict[str, int] = field(default_factory=dict)  # segment → its acknowledged length, when a successor came

    @property
    def digest(self) -> str:
        """Names these bytes."""
        digest = hashlib.sha256()
        for name in sorted(self.files):
            digest.update(f"{name} {len(self.files[name])} ".encode() + self.files[name])
        return digest.hexdigest()[:16]

    @property
    def last_segment(self) -> str:
        return max(name for name in self.files if name.endswith(SEGMENT_SUFFIX))

    def states(self) -> dict[int, str]:
        """LSN → digest of every state that was acknowledged."""
        return dict(state for _, state in self.history)


@dataclass(slots=True)
class Life:
    """One memory being lived; `tell` is an acknowledgement."""

    disk: SimulatedDisk
    memory: emm.Memory
    random: np.random.Generator
    history: list[tuple[Files, State]] = field(default_factory=list)

    def files(self) -> Files:
        return dict(CrashPoint.of(self.disk, PATH).build_visible() or {})

    def tell(self) -> None:
        self.history.append((self.files(), state_of(self.memory)))

    def pairs(self, n: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        scale = np.float32(self.memory.key_dim**0.5)
        keys = self.random.standard_normal((n, self.memory.key_dim)).astype(np.float32) / scale
        return keys, self.random.standard_normal((n, self.memory.dim)).astype(np.float32)

    def write(self, *counts: int) -> None:
        for n in counts:
            self.memory.write(*self.pairs(n))
            self.tell()

    def mark(self) -> None:
        """What the writer does after an idle second."""
        writer = self.memory._session._writer
        assert writer is not None
        writer._mark_if_idle()
        self.tell()

    def close(self) -> None:
        state = state_of(self.memory)
        self.memory.close()
        self.history.append((self.files(), state))

    def reopen(self) -> None:
        self.memory = emm.open(PATH, "a")
        self.tell()

    def end(self, name: str) -> Specimen:
        files, state = self.history[-1]
        return Specimen(name, files, state, tuple(self.history))


@contextmanager
def living(seed: int, disk: SimulatedDisk | None = None, **shape: Any) -> Iterator[Life]:
    """A new memory of this shape, or the one on `disk`, open for append."""
    with deterministic() as source, mounted(disk or SimulatedDisk()) as found, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a bare expansion says what it costs
        source.number += seed << 32
        memory = emm.create(PATH, expand_at=0.0, metadata=METADATA, **shape) if shape else emm.open(PATH, "a")
        life = Life(found, memory, np.random.default_rng([seed, 0xDA]))
        life.tell()
        try:
            yield life
        finally:
            found.kill()


@functools.cache
def closed() -> Specimen:
    """About 200 KB: two sessions, each closed; one block and two; every kind of record; generation 1 pruned."""
    with living(1, dim=48, rank=64, key_dim=128) as life:
        first = life.pairs(2)
        life.memory.write(*first)
        life.tell()
        life.write(1)
        life.mark()
        _take_out(life, first)
        life.memory.configure(expand_at=0.0)
        life.tell()
        life.write(1)
        life.close()
        life.reopen()
        life.memory.prune(keep=1)
        life.tell()
        _grow_and_take_out(life)
        life.close()
        return life.end("closed")


@functools.cache
def killed() -> Specimen:
    """A process died without a word: the last segment has no seal, and nothing proves its last commit."""
    with living(2, dim=16, rank=16, key_dim=32) as life:
        first = life.pairs(2)
        life.memory.write(*first)
        life.tell()
        life.write(1)
        life.memory.checkpoint()
        life.tell()
        _take_out(life, first)
        life.mark()
        _grow_and_take_out(life)
        return replace(life.end("killed"), is_open=True)


@functools.cache
def taken_over() -> Specimen:
    """A process died in the middle of a write; its successor fenced the torn tail off, wrote on and closed."""
    with living(3, dim=16, rank=16, key_dim=32) as life:
        life.write(2, 1, 1)
        before = life.history.copy()
        life.write(3)
        whole, torn = before[-1][0], life.files()
    name = max(whole)
    half = (len(whole[name]) + len(torn[name])) // 2
    disk = SimulatedDisk.holding(PATH, {**whole, name: torn[name][:half]})
    with living(4, disk) as life:
        life.write(1)
        life.close()
        life.history[:0] = before
        return replace(life.end("taken-over"), fenced={name: len(whole[name])})


@functools.cache
def wide() -> Specimen:
    """Snapshots of five blocks."""
    with living(5, dim=16, rank=256, key_dim=256) as life:
        life.write(9)
        life.close()
        life.reopen()
        life.write(4, 2)
        life.close()
        return life.end("wide")


def branch(of: Specimen, seed: int) -> Specimen:
    """A copy of a closed memory in which somebody else wrote something else and checkpointed twice."""
    with living(seed, SimulatedDisk.holding(PATH, of.files)) as life:
        life.write(1, 1)
        life.memory.checkpoint()
        life.tell()
        life.write(1)
        life.close()
        return life.end(f"branch {seed} of {of.name}")


def _take_out(life: Life, pairs: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]) -> None:
    keys, values = pairs
    life.memory.unlearn(keys[:1], values[:1])
    life.tell()
    life.memory.forget(keys[1:])
    life.tell()


def _grow_and_take_out(life: Life) -> None:
    """A bare expansion, then an unlearn of pairs from before and after it: one batch of two records."""
    old = life.pairs(1)
    life.memory.write(*old)
    life.tell()
    life.memory.expand(2 * life.memory.rank, bare=True)
    life.tell()
    new = life.pairs(1)
    life.memory.write(*new)
    life.tell()
    life.memory.unlearn(np.concatenate([old[0], new[0]]), np.concatenate([old[1], new[1]]))
    life.tell()
    life.write(1, 2)


@functools.cache
def pruned() -> Specimen:
    """The closed memory without its past: one snapshot and no journal, so nothing can stand in for it."""
    with living(6, SimulatedDisk.holding(PATH, closed().files)) as life:
        life.memory.prune(keep=1, journal=True)
        life.tell()
        life.close()
        return life.end("pruned")


SPECIMENS: Final[dict[str, Callable[[], Specimen]]] = {
    "closed": closed,
    "killed": killed,
    "taken-over": taken_over,
    "wide": wide,
    "pruned": pruned,
}
