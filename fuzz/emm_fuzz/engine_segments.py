"""Segments under attack: every byte of every file of a namespace flipped, and writers and merges killed at every step.

Purpose: the promise that damage and death cost speed and never an answer, on the real files of
`emm_engine.vectors.segmented`. A namespace is built that has a log, an index, tombstones and a tail. Flips: a store
opened over the damaged folder answers what brute force answers, once what it calls missing was given to it, as a reader
does. Kills: a forked process seals, merges or compacts and ends itself at its nth look at the file system; a store
opened over what is left answers for the state before or after, goes on, and is mended by maintenance.

    python -m emm_fuzz.engine_segments            # every byte, every step
    python -m emm_fuzz.engine_segments --stride 97
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from emm_engine.embeddings.provider import Float32Array
from emm_engine.vectors.log import Rows
from emm_engine.vectors.sealing import Tuning
from emm_engine.vectors.searching import search
from emm_engine.vectors.segmented import SegmentedVectors

NAMESPACE: Final = "lab:run/one/day"
DIM: Final = 8
TUNING: Final = Tuning(tail_max=120, index_min=1600, trees=2, fan_in=2, dead_share_max=0.5)
N_ROWS: Final = 1900
N_CLUSTERS: Final = 30
STEPS: Final = frozenset({"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "fcntl.flock"})

Vectors = dict[int, tuple[int, Float32Array]]  # id: (text hash, vector)


def opened(folder: Path) -> SegmentedVectors:
    return SegmentedVectors(folder, DIM, "ab" * 32, TUNING, background=False)


def rows_of(ids: range, seed: int) -> Rows:
    """Vectors in clusters, which an index finds its way in."""
    centres = np.random.default_rng(7).standard_normal((N_CLUSTERS, DIM))
    random = np.random.default_rng([seed, 0x5E6])
    numbers = centres[random.integers(N_CLUSTERS, size=len(ids))] + 0.3 * random.standard_normal((len(ids), DIM))
    unit = (numbers / np.linalg.norm(numbers, axis=1, keepdims=True)).astype(np.float32)
    return Rows(np.array(ids), random.integers(0, 1 << 62, len(ids)).astype(np.uint64), unit)


def add(store: SegmentedVectors, model: Vectors, rows: Rows) -> None:
    store.add(NAMESPACE, rows.ids, rows.vectors, rows.hashes)
    model |= told(rows)


def remove(store: SegmentedVectors, model: Vectors, ids: range) -> None:
    store.remove(NAMESPACE, np.array(ids))
    for identity in ids:
        model.pop(identity, None)


def told(rows: Rows) -> Vectors:
    triples = zip(rows.ids.tolist(), rows.hashes.tolist(), rows.vectors, strict=True)
    return {identity: (digest, vector) for identity, digest, vector in triples}


def build(folder: Path) -> Vectors:
    """A namespace with everything: an indexed segment with tombstones, a small segment, a tail with removals."""
    store, model = opened(folder), Vectors()
    add(store, model, rows_of(range(N_ROWS), 1))
    store.maintain(NAMESPACE)
    remove(store, model, range(0, N_ROWS, 9))
    add(store, model, rows_of(range(5, 60, 11), 2))
    remove(store, model, range(7, 30, 14))
    add(store, model, rows_of(range(5000, 5040), 3))
    view = store._load(NAMESPACE)
    assert any(part.segment.facts for part in view.parts) and len(view.tail.ids) and view.n_sealed
    return model


def differences(folder: Path, model: Vectors) -> Iterator[str]:
    """What a store over this folder gets wrong."""
    store = opened(folder)
    missing = store.missing(NAMESPACE, {identity: digest for identity, (digest, _) in model.items()})
    if len(missing):  # as a reader does: it embeds again what is missing
        digests = np.array([model[identity][0] for identity in missing.tolist()], np.uint64)
        store.hold(NAMESPACE, missing, np.stack([model[identity][1] for identity in missing.tolist()]), digests)
    ids = np.array(sorted(model))
    vectors = np.stack([model[identity][1] for identity in ids.tolist()])
    queries = rows_of(range(3), 4).vectors
    for number, query in enumerate(queries):
        allowed = ids[number::97] if number else None
        exact = np.einsum("ij,j->i", vectors, query, dtype=np.float64).astype(np.float32)
        scored = exact if allowed is None else np.where(np.isin(ids, allowed), exact, -np.inf)
        order = np.lexsort((ids, -scored))[:10]
        yield from _by_index(store, query, dict(zip(ids.tolist(), exact.tolist(), strict=True)))
        found, scores = store.search(NAMESPACE, query, 10, allowed)
        if found.tolist() != ids[order].tolist() or scores.tolist() != exact[order].tolist():
            yield f"query {number}: {found.tolist()} for {ids[order].tolist()}"
    if store.count(NAMESPACE) != len(model):
        yield f"{store.count(NAMESPACE)} vectors, not {len(model)}"


def _by_index(store: SegmentedVectors, query: Float32Array, right: dict[int, float]) -> Iterator[str]:
    """What the index says is not all there is, but each of it is right."""
    ids, scores, _ = store._answered(NAMESPACE, lambda view: search(view, query, 10, None, 1))
    if [right.get(identity) for identity in ids.tolist()] != scores.tolist() or len(ids) != 10:
        yield f"the index answers {ids.tolist()}"


@dataclass(slots=True)
class Tally:
    flips: int = 0
    files: int = 0
    kills: int = 0
    faults: list[str] = field(default_factory=list)

    def summary(self) -> str:
        return f"{self.flips} flips in {self.files} files, {self.kills} kills, {len(self.faults)} faults"


def flip_all(folder: Path, model: Vectors, tally: Tally, stride: int = 1, small: int = 0) -> None:
    """Every `stride`-th byte of every file, and a third of the first `small` ones, each with another bit."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size):
        tally.files += 1
        whole = path.read_bytes()
        for at in sorted({*range(0, len(whole), stride), *range(0, min(small, len(whole)), 3), len(whole) - 1}):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << (at % 8)]) + whole[at + 1 :])
            tally.flips += 1
            for fault in differences(folder, model):
                tally.faults.append(f"{path.relative_to(folder)} byte {at}: {fault}")
        path.write_bytes(whole)


# --- kills -----------------------------------------------------------------------------------------

SCENES: Final[dict[str, Callable[[SegmentedVectors, Vectors], None]]] = {
    "seal": lambda store, model: add(store, model, rows_of(range(6000, 6100), 5)),
    "merge": lambda store, model: print(store.maintain(NAMESPACE), file=open(os.devnull, "w")),  # noqa: SIM115
    "compact": lambda store, model: store.compact(NAMESPACE),
}


def die_at(step: int, act: Callable[[], None]) -> bool:
    """Act in a forked process that ends itself, with SIGKILL, at its nth look at the file system; whether it did."""
    child = os.fork()
    if child == 0:
        left = step

        def watch(event: str, _: tuple[Any, ...]) -> None:
            nonlocal left
            if event in STEPS:
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        try:
            act()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status not in (0, signal.SIGKILL):
        raise AssertionError(f"the writer ended with {status}")
    return status != 0


def kill_all(folder: Path, before: Vectors, tally: Tally, stride: int = 1) -> None:
    """Each scene, killed at every `stride`-th step."""
    for name, scene in SCENES.items():
        step = 0
        while True:
            place = folder.with_name(f"{folder.name}-{name}")
            shutil.copytree(folder, place)
            after = dict(before)
            if name == "seal":
                after |= told(rows_of(range(6000, 6100), 5))
            killed = die_at(step, lambda place=place, scene=scene: scene(opened(place), dict(before)))  # type: ignore[misc]
            tally.kills += killed
            tally.faults += [f"{name}, step {step}: {fault}" for fault in _judged(place, before, after, killed)]
            shutil.rmtree(place)
            if not killed:
                break
            step += stride


def _judged(place: Path, before: Vectors, after: Vectors, killed: bool) -> Iterator[str]:
    wrong = list(differences(place, after))
    model = after
    if wrong and killed:
        wrong, model = list(differences(place, before)), dict(before)
    yield from wrong
    store = opened(place)
    add(store, model, rows_of(range(7000, 7003), 6))
    store.maintain(NAMESPACE)
    yield from differences(place, model)
    store.compact(NAMESPACE)
    yield from differences(place, model)
    rubbish = [path.name for path in place.rglob("*.tmp")]
    if rubbish:
        yield f"left behind: {rubbish}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m emm_fuzz.engine_segments", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--stride", type=int, default=1, help="bytes from flip to flip")
    parser.add_argument("--kill-stride", type=int, default=1, help="steps from kill to kill")
    given = parser.parse_args(arguments)
    tally, started = Tally(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="emm-segments-") as root:
        folder = Path(root) / "vectors"
        model = build(folder)
        kill_all(folder, model, tally, given.kill_stride)
        flip_all(folder, model, tally, given.stride)
    print(f"{tally.summary()}; {time.monotonic() - started:.1f} s")
    for each in tally.faults[:10]:
        print(f"FAULT {each}")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
