"""Segments become larger ones, in a process of their own.

Purpose: keep a namespace at a few segments a size, each without many tombstones, the large ones with an index.
Invariants: inputs are checked byte for byte before anything is made of them; what was sealed or removed while a merge
ran is carried over under the lock, and a merge whose inputs are no longer in the set is thrown away; the child has
the lowest priority and says nothing: whatever happens to it, the store answers.

    python -m emm_engine.vectors.merge ARCHIVE/vectors NAMESPACE DIM FINGERPRINT TUNING
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from emm_engine.vectors.log import TruthLog, positions
from emm_engine.vectors.sealing import Tuning, new_part, read_view, seal
from emm_engine.vectors.segment import CODES, INDEX, DamagedError, Model
from emm_engine.vectors.segment_set import MERGE_LOCK, Part, SegmentFolder, SegmentSet
from emm_engine.vectors.view import View

NICE: Final = 10


class Background:
    """At most one merging child process for each namespace of a folder."""

    def __init__(self, folder: Path, model: Model, tuning: Tuning) -> None:
        self._folder = folder
        self._model = model
        self._tuning = tuning
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, namespace: str) -> None:
        """Merge, unless a child of ours is at it. A system without room for a process keeps the segments it has."""
        child = self._children.get(namespace)
        if child is not None and child.poll() is None:
            return
        tuning = json.dumps(asdict(self._tuning))
        what = [str(self._folder.absolute()), namespace, str(self._model.dim), self._model.fingerprint, tuning]
        threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        try:
            self._children[namespace] = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, *what],
                env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            return

    def wait(self) -> None:
        for child in self._children.values():
            child.wait()


def plan(sealed: SegmentSet, tuning: Tuning, spoilt: Collection[str] = ()) -> tuple[Part, ...]:
    """The segments that are to become one next; none where all is well. `spoilt`: those to be written anew."""
    tiers: dict[int, list[Part]] = {}
    for part in sealed.parts:
        tier = int(math.log(max(part.n_alive / tuning.tail_max, 1.0), tuning.fan_in) + 1e-9)
        tiers.setdefault(tier, []).append(part)
    for tier in sorted(tiers):
        if len(tiers[tier]) >= tuning.fan_in:
            return tuple(tiers[tier])
    for part in sealed.parts:
        n, n_alive = len(part.segment), part.n_alive
        unindexed = n_alive >= tuning.index_min and not part.segment.index_tried
        if unindexed or part.segment.name in spoilt or n - n_alive > tuning.dead_share_max * n:
            return (part,)
    return ()


def merge(folder: SegmentFolder, model: Model, chosen: Sequence[Part], tuning: Tuning) -> bool:
    """Put one segment in the place of these; False where the set has lost one of them meanwhile."""
    for part in chosen:
        part.segment.check()
    alive = View.over(chosen, model.dim)
    trees = tuning.trees if alive.count >= tuning.index_min else 0
    new = [new_part(folder, model, alive.rows(), trees)] if alive.count else []
    names = {part.segment.name for part in chosen}
    with folder.lock():
        sealed, _ = folder.read()
        now = {part.segment.name: part for part in sealed.parts} if sealed is not None else {}
        if sealed is None or not names <= now.keys():
            return False
        for part in chosen:
            died = part.segment.ids[now[part.segment.name].dead & ~part.dead]
            for each in new:
                at, known = positions(each.segment.ids, died)
                each.dead[at[known]] = True
        others = [part for name, part in now.items() if name not in names]
        folder.publish(SegmentSet(sealed.n_records, sealed.last_crc, (*others, *new)))
    return True


def maintain(root: Path, namespace: str, model: Model, tuning: Tuning, thorough: bool = False) -> list[str]:
    """Seal, mend and merge until nothing is to be done; what was done, in words. `thorough`: check every file first."""
    log = TruthLog(root, namespace, model.dim, model.fingerprint)
    folder = SegmentFolder(root, namespace, model)
    view, done = read_view(log, folder, set()), list[str]()
    if view.n_records < tuning.tail_max and not folder.path.is_dir():
        return done
    folder.prepare()
    with folder.lock(MERGE_LOCK, wait=thorough) as ours:
        if not ours:
            return done
        distrusted: set[str] = set()
        spoilt = _spoilt(folder, distrusted, done) if thorough else set()
        while True:
            view = read_view(log, folder, distrusted)
            useless = view.sealed is None and view.mark is not None
            if useless or view.n_records - view.n_sealed >= tuning.tail_max:
                if not seal(log, folder, model, view):
                    break  # a writer is at work: it seals by itself
                done.append(f"sealed {len(view.tail.ids)} vectors of the log")
                continue
            chosen = plan(view.sealed, tuning, spoilt) if view.sealed is not None else ()
            if not chosen:
                break
            try:
                if merge(folder, model, chosen, tuning):
                    done.append(f"merged {len(chosen)} segments of {sum(part.n_alive for part in chosen)} vectors")
            except DamagedError as error:
                assert view.mark is not None
                distrusted.add(view.mark)
                done.append(f"{error} of a segment is damaged: sealing the log anew")
        with folder.lock():
            folder.sweep()
    return done


def _spoilt(folder: SegmentFolder, distrusted: set[str], done: list[str]) -> set[str]:
    """Names of segments whose index or codes are damaged or not there; distrusts the set where anything else is."""
    sealed, mark = folder.read()
    spoilt = set()
    for part in sealed.parts if sealed is not None else ():
        try:
            part.segment.check()
        except DamagedError as error:
            done.append(f"{error} of segment {part.segment.name} is damaged")
            if str(error) in (CODES, INDEX):
                spoilt.add(part.segment.name)
            elif mark is not None:
                distrusted.add(mark)
        else:
            if not part.segment.has_codes:
                done.append(f"{CODES} of segment {part.segment.name} is not there")
                spoilt.add(part.segment.name)
    return spoilt


def main(arguments: list[str]) -> int:
    folder, namespace, dim, fingerprint, tuning = arguments
    os.nice(NICE)
    try:
        maintain(Path(folder), namespace, Model(int(dim), fingerprint), Tuning(**json.loads(tuning)))
    except OSError:  # no space, or the archive was removed under us
        return 6
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
