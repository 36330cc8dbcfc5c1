"""The engine's vector log on the simulated disk: acknowledged vectors survive, torn ones are absent, none is made up.

Purpose: the promises of `emm_engine.vectors.log` and `emm_engine.files`, attacked as those of a memory are.
Invariants: after any crash every id has the vector that was acknowledged last or one that was started since, or none
where none was acknowledged; what a writer has seen and gone on from is durable once its own next batch is.

    python -m emm_fuzz.engine_logs --length 4
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from unittest import mock

import numpy as np

from emm_engine import files
from emm_engine.vectors.exact import ExactVectors
from emm_engine.vectors.segmented import SegmentedVectors
from emm_fuzz.crash_states import LIGHT, Bounds, Image, image_hash, images
from emm_fuzz.judge import ViolationError
from emm_fuzz.places import crash_point
from emm_fuzz.simulated_disk import Fault, SimulatedDisk
from emm_fuzz.simulated_os import System, mounted

FOLDER: Final = "/archive/vectors"
RUN: Final = "/archive/vectors/lab/run"  # the folder of the log
NAMESPACE: Final = "lab:run/one"
DIM: Final = 8
WORDS: Final = ("add", "add-many", "again", "remove", "reopen", "kill")

Vector = tuple[int, bytes] | None  # (text hash, numbers); None: no vector
Held = Mapping[int, Vector]


@contextlib.contextmanager
def engine_on(disk: SimulatedDisk) -> Iterator[None]:
    """What the engine's files do in this block happens on `disk`."""
    with (
        mounted(disk),
        mock.patch.object(files, "os", System(disk)),
        mock.patch.object(files, "temporary_name", lambda: f".{next(disk.temporary):016x}.tmp"),
    ):
        yield


Store = ExactVectors | SegmentedVectors


def held_by(vectors: Store) -> dict[int, Vector]:
    """Every id with its vector, to the bit."""
    found = vectors.everything(NAMESPACE)
    rows = zip(found.ids.tolist(), found.hashes.tolist(), found.vectors, strict=True)
    return {identity: (digest, row.tobytes()) for identity, digest, row in rows}


def batch(word: str, place: int) -> dict[int, Vector]:
    """What operation number `place` writes: new ids, or those of the first batches again."""
    random = np.random.default_rng([place, 0x7EC])
    count = 40 if word == "add-many" else 2
    first = 0 if word in ("again", "remove") else 100 * place
    rows = random.standard_normal((count, DIM)).astype(np.float32)
    if word == "remove":
        return {first + 100 * row: None for row in range(count)}
    return {first + row: (1000 * place + row, rows[row].tobytes()) for row in range(count)}


@dataclass(slots=True)
class Tally:
    workloads: int = 0
    raw: int = 0
    distinct: int = 0
    killed: int = 0
    faults: int = 0
    violations: list[str] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)

    def summary(self) -> str:
        return (
            f"{self.workloads} workloads, {self.raw} raw states, {self.distinct} distinct, {self.killed} kills before "
            f"the power cut, {self.faults} faults met, {len(self.violations)} violations"
        )


class LogRun:
    """One log living through one workload."""

    def __init__(
        self,
        words: Sequence[str],
        tally: Tally,
        faults: Sequence[Fault] = (),
        bounds: Bounds = LIGHT,
        kind: type[Store] = ExactVectors,
    ) -> None:
        self.words = words
        self.tally = tally
        self.bounds = bounds
        self.kind = kind
        self.disk = SimulatedDisk(faults)
        self.disk.put("/archive", {"catalog.sqlite": b"is not part of this"})
        self.acknowledged: dict[int, Vector] = {}
        self.started: dict[int, list[Vector]] = {}
        self.nested = False
        self.excused = False  # a failed sync dropped data of a process that is no more: who comes after cannot know

    def go(self) -> None:
        self.tally.workloads += 1
        self.disk.on_sync = self._look
        with engine_on(self.disk):
            vectors = self._store()
            for place, word in enumerate(self.words):
                if word in ("reopen", "kill"):
                    if self.disk.in_doubt:
                        break  # nothing is promised any more, see `ends`
                    vectors = self._successor(word)
                else:
                    self._write(vectors, batch(word, place))
            self._look("end")
        self.tally.faults += self.disk.faults_met

    def _store(self) -> Store:
        return self.kind(Path(FOLDER), DIM, "ab" * 32)

    def _successor(self, word: str) -> Store:
        if word == "kill":
            self.disk.kill()
        self.excused = self.disk.dropped
        return self._store()

    def _write(self, vectors: Store, wanted: Held) -> None:
        """One batch. What was to be seen before counts as acknowledged with it, since it will not be written again."""
        try:
            seen = held_by(self._store())
            for identity, vector in wanted.items():
                self.started.setdefault(identity, []).append(vector)
            syncs = self.disk.calls["fsync"]
            write(vectors, wanted)
        except OSError:
            if not self.disk.faults_met:
                raise
            return
        if not self.excused and self.disk.calls["fsync"] > syncs:
            known = self.acknowledged.keys() | self.started.keys()
            self.acknowledged, self.started = {identity: seen.get(identity) for identity in known}, {}
        self.acknowledged |= wanted
        self.started = {identity: each for identity, each in self.started.items() if identity not in wanted}
        self._look("acknowledged")

    def _look(self, kind: str) -> None:
        """Everything that a crash could leave here."""
        point = crash_point(self.disk, RUN)
        for chosen in images(point, self.bounds, 0):
            self.tally.raw += 1
            key = image_hash(chosen.image) + repr((sorted(self.acknowledged.items()), self.started)).encode()
            if key in self.tally.seen:
                continue
            self.tally.seen.add(key)
            self.tally.distinct += 1
            self._judge(chosen.image, f"before {kind}, {chosen.spec}")
        if not self.nested and point.units(512) and not self.disk.in_doubt:
            self.tally.killed += 1
            self._go_on_from(self.disk.clone())

    def _judge(self, image: Image, where: str) -> None:
        with engine_on(SimulatedDisk.holding(RUN, image)) as _:
            found = held_by(self._store())
        for identity in found.keys() | self.acknowledged.keys():
            allowed = [self.acknowledged.get(identity), *self.started.get(identity, ())]
            if found.get(identity) not in allowed:
                raise ViolationError(f"{where}: id {identity} is {found.get(identity)}, allowed {allowed}")
        if not self.nested:
            self._go_on_from(SimulatedDisk.holding(RUN, image))

    def _go_on_from(self, disk: SimulatedDisk) -> None:
        """A new process on what is left embeds again what is missing, as an ingest does, with crashes on its way."""
        after = LogRun((), self.tally, bounds=Bounds(8, 2, 1), kind=self.kind)
        after.disk, after.nested, after.excused = disk, True, disk.dropped
        after.acknowledged, after.started = dict(self.acknowledged), {k: list(v) for k, v in self.started.items()}
        disk.on_sync = after._look
        with engine_on(disk):
            after._write(self._store(), batch("add", 90))


def write(vectors: Store, wanted: Held) -> None:
    """Additions or removals through the store."""
    ids = np.fromiter(wanted, np.int64, len(wanted))
    rows = [vector for vector in wanted.values() if vector is not None]
    if not rows:
        vectors.remove(NAMESPACE, ids)
        return
    numbers = np.stack([np.frombuffer(data, np.float32) for _, data in rows])
    vectors.add(NAMESPACE, ids, numbers, np.array([digest for digest, _ in rows], np.uint64))


def explore(length: int, tally: Tally, kind: type[Store] = ExactVectors) -> None:
    """Every workload of that length; stops at the first violation, which names the words."""
    for words in itertools.product(WORDS, repeat=length):
        run_one(words, tally, kind=kind)


def run_one(words: Sequence[str], tally: Tally, faults: Sequence[Fault] = (), kind: type[Store] = ExactVectors) -> None:
    try:
        LogRun(words, tally, faults, kind=kind).go()
    except ViolationError as error:
        plan = "".join(f", {each.call} {each.nth} {each.how}" for each in faults)
        tally.violations.append(f"{' '.join(words)}{plan}: {error}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m emm_fuzz.engine_logs", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--length", type=int, default=3)
    given = parser.parse_args(arguments)
    tally = Tally()
    started = time.monotonic()
    for length in range(1, given.length + 1):
        explore(length, tally)
    print(f"{tally.summary()}; {time.monotonic() - started:.1f} s")
    for each in tally.violations[:10]:
        print(f"VIOLATION {each}")
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
