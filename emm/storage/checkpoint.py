"""Checkpoints and pruning: when a snapshot is due, publishing it, and what may then be removed.

Purpose: bound the journal that recovery must replay, and the space that old generations take.
Invariants: the newest snapshots are kept and re-read before older ones go; files are removed in
ascending order, a segment only after every snapshot that needs it (R-10); by default the journal is
kept whole, because it holds the pairs from which a memory can be re-solved at a larger rank.
"""

from __future__ import annotations

from dataclasses import dataclass

from emm.errors import InputError
from emm.storage.names import list_memory, segment_name, snapshot_name
from emm.storage.snapshot_file import load_head, load_snapshot
from emm.vfs.protocol import Directory

JOURNAL_BYTES_MIN = 64 << 20
SNAPSHOT_FACTOR = 4
KEEP_DEFAULT = 3


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune removed: file names and their bytes."""

    names: tuple[str, ...]
    freed_bytes: int


def checkpoint_due(logged_bytes: int, snapshot_bytes: int) -> bool:
    """True when the journal since the last snapshot has reached max(64 MiB, 4 × snapshot)."""
    return logged_bytes >= max(JOURNAL_BYTES_MIN, SNAPSHOT_FACTOR * snapshot_bytes)


def prune(directory: Directory, *, keep: int = KEEP_DEFAULT, journal: bool = False) -> Pruned:
    """Keep the newest `keep` snapshots, and with `journal=True` only the segments that they need.

    The caller holds the lock. Nothing is removed unless the newest snapshot is read back whole.
    """
    if keep < 1:
        raise InputError("at least one snapshot must be kept", expected="keep ≥ 1", found=keep)
    listing = list_memory(directory)
    doomed, kept = listing.generations[:-keep], listing.generations[-keep:]
    names = [snapshot_name(generation) for generation in doomed]
    if journal:
        needed = min(load_head(directory, snapshot_name(generation)).lineage.segment_next for generation in kept)
        names += [segment_name(segment) for segment in listing.segments if segment < needed]
    if not names:
        return Pruned((), 0)
    load_snapshot(directory, kept[-1])
    freed = 0
    for name in names:
        size = directory.size(name)
        directory.remove(name)
        freed += size
    return Pruned(tuple(names), freed)
