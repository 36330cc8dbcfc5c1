"""From the truth log to segments: how a namespace is read, sealed and written anew.

Purpose: the three moves that writers and the background merge share. Invariants: a set that is damaged, or that was
sealed from another log, is passed over and the log alone is read; a log that no longer reaches as far as its set is
damaged, and the set stands; only what is durable in the log is sealed; segments are written before the set that names
them; a rewritten log loses its set first and gets a new one last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from emm_engine.files import Identity, identity_of, sync_file
from emm_engine.vectors.log import Rows, TruthLog
from emm_engine.vectors.segment import (
    MANIFEST,
    DamagedError,
    Model,
    Segment,
    open_segment,
    sha256_of,
    write_segment,
)
from emm_engine.vectors.segment_set import TRIES, Part, SegmentFolder, SegmentSet
from emm_engine.vectors.view import View


@dataclass(frozen=True, slots=True)
class Tuning:
    """When what happens, in vectors."""

    tail_max: int = 4096  # searched in memory; below, exact search is fastest, and there is no second file
    index_min: int = 16_384  # below, a segment is read in passing as fast as its index would answer
    trees: int = 32
    fan_in: int = 4  # segments of one size that become one
    dead_share_max: float = 0.3  # of a segment that is then written anew
    waste_max: float = 0.5  # of a log's records that say nothing any more


DEFAULTS: Final = Tuning()


def read_view(log: TruthLog, folder: SegmentFolder, distrusted: set[str]) -> View:
    """What the namespace holds now. Adds to `distrusted` the mark of a set that proved to be wrong."""
    for _ in range(TRIES):
        sealed, mark = folder.read()
        if mark in distrusted:
            sealed = None
        part = log.read(sealed.n_records, sealed.last_crc) if sealed is not None else log.read()
        if sealed is not None and part.last_crc not in (sealed.last_crc, None):
            if folder.mark() != mark:
                continue  # exchanged between the two looks
            sealed, part = None, log.read()
        try:
            return View.of(sealed, mark, part)
        except DamagedError:
            assert mark is not None
            distrusted.add(mark)
    return View.of(None, None, log.read())


def seal(log: TruthLog, folder: SegmentFolder, model: Model, view: View) -> bool:
    """Turn the tail of a view into a segment; False, and nothing done, where the view is no longer what there is."""
    folder.prepare()
    with folder.lock():
        if folder.mark() != view.mark or identity_of(log.path) != view.identity:
            return False
        if not view.n_records:  # its header is damaged: nothing of it can be read
            folder.withdraw()
            return True
        sync_file(log.path)
        parts = [replace(part, dead=~alive) for part, alive in zip(view.parts, view.alive, strict=True)]
        if len(view.tail.ids):
            parts.append(new_part(folder, model, view.tail.blocks(), 0))
        return publish(log, folder, view.n_records, view.identity, parts)


def rewrite(log: TruthLog, folder: SegmentFolder, model: Model, view: View, tail_max: int) -> None:
    """Begin the log anew with what a view holds, and seal it where it is long; `DamagedError` before that."""
    if view.count < tail_max:
        log.replace(view.rows())
        return
    folder.prepare()
    part = new_part(folder, model, view.rows(), 0)

    def vouch() -> None:
        publish(log, folder, view.count, identity_of(log.path), [part])

    log.replace(view.rows(), vouch)


def publish(log: TruthLog, folder: SegmentFolder, n_records: int, identity: Identity, parts: list[Part]) -> bool:
    """Say that these stand for the log's first records; False where it is another log by now. The lock is ours."""
    end = log.read(n_records)
    if end.identity.inode != identity.inode or end.last_crc is None:
        return False
    folder.publish(SegmentSet(n_records, end.last_crc, tuple(part for part in parts if part.n_alive)))
    return True


def new_part(folder: SegmentFolder, model: Model, blocks: Iterator[Rows], trees: int) -> Part:
    path = write_segment(folder.path, model, blocks, trees)
    segment: Segment = open_segment(path, model, sha256_of(path / MANIFEST))
    return Part(segment, np.zeros(len(segment), bool))
