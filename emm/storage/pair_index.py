"""Where each pair of a journal was written and what became of it, small enough to keep beside an open memory.

Purpose: unlearning needs the rank of every pair it takes out, and reading the whole journal for each call makes many
calls quadratic; the journal is read once and its later commits are added as they are logged. Invariants: 48 bytes for
each pair written, unlearned or forgotten, whatever its size; pairs and keys are known by 128 bits of their SHA-256;
the answer for a pair depends on the events alone, in the order of the log.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emm.codec.pairs import PairBatch
from emm.errors import HistoryError
from emm.layout import RecordType
from emm.state import Float32Array

_EVENT = np.dtype([("key", "<u8", 2), ("pair", "<u8", 2), ("lsn", "<u8"), ("rank", "<u4"), ("kind", "<u4")])
_DIGEST_BYTES = 16


@dataclass(slots=True)
class _Copies:
    """What became of one pair: the copies that are in the state, as (place, rank), and why the last one left."""

    alive: list[tuple[int, int]]
    fault: str = "was never written, or its journal was pruned"


class PairIndex:
    """The writes, unlearns and forgets of a memory up to commit `lsn`."""

    def __init__(self) -> None:
        self.lsn = 0
        self._events = bytearray()  # of _EVENT, in the order of the log
        self._decay = (0, 0)  # (place, LSN) of the last decay: copies from before it have faded

    def add(self, kind: RecordType, batch: PairBatch, rank: int, lsn: int) -> None:
        """Take a batch of commit `lsn` into account; `rank` is the one at which its pairs count as written."""
        before = len(self._events) // _EVENT.itemsize
        events = np.zeros(len(batch), _EVENT)
        keys, pairs = pair_digests(batch.keys, batch.values)
        events["key"], events["pair"] = keys, pairs
        events["lsn"], events["rank"], events["kind"] = lsn, rank, int(kind)
        self._events += events.tobytes()
        if kind is RecordType.WRITE:
            decaying = np.flatnonzero(batch.decay_gates != 1)
            if len(decaying):
                self._decay = (before + int(decaying[-1]), lsn)
        self.lsn = lsn

    def ranks(self, keys: Float32Array, values: Float32Array) -> list[int]:
        """The rank at which each pair counts as written: (n, key_dim), (n, dim).

        A pair given n times must have been written n times more often than it was unlearned. Raises `HistoryError`
        for one that the journal does not hold, or that was decayed, forgotten or unlearned after it was written.
        """
        wanted_keys, wanted = pair_digests(keys, values)
        pairs = {digest.tobytes(): _Copies([]) for digest in wanted}
        by_key: dict[bytes, list[_Copies]] = {}
        for key, digest in zip(wanted_keys, wanted, strict=True):
            by_key.setdefault(key.tobytes(), []).append(pairs[digest.tobytes()])
        events = np.frombuffer(bytes(self._events), _EVENT)
        for place in self._places(events, wanted_keys, wanted):
            self._follow(int(place), events[place], pairs, by_key)
        return [self._rank_of(row, pairs[digest.tobytes()]) for row, digest in enumerate(wanted)]

    @staticmethod
    def _places(events: npt.NDArray[Any], keys: npt.NDArray[np.uint64], pairs: npt.NDArray[np.uint64]) -> Any:
        """Places of events that may concern these pairs, in order."""
        forgets = events["kind"] == int(RecordType.FORGET)
        mine = np.isin(events["pair"][:, 0], pairs[:, 0]) & ~forgets
        return np.flatnonzero(mine | (forgets & np.isin(events["key"][:, 0], keys[:, 0])))

    @staticmethod
    def _follow(place: int, event: Any, pairs: dict[bytes, _Copies], by_key: dict[bytes, list[_Copies]]) -> None:
        kind, rank, lsn = RecordType(int(event["kind"])), int(event["rank"]), int(event["lsn"])
        if kind is RecordType.FORGET:
            for copies in by_key.get(event["key"].tobytes(), ()):
                copies.alive, copies.fault = [], f"was forgotten by commit {lsn}"
            return
        found = pairs.get(event["pair"].tobytes())
        if found is None:
            return
        if kind is RecordType.WRITE:
            found.alive.append((place, rank))
        elif found.alive:
            same = [index for index, (_, written) in enumerate(found.alive) if written == rank]
            del found.alive[same[-1] if same else -1]
            found.fault = f"was unlearned by commit {lsn}"

    def _rank_of(self, row: int, copies: _Copies) -> int:
        if not copies.alive:
            raise HistoryError(f"pair {row} cannot be unlearned: it {copies.fault}")
        place, rank = copies.alive.pop()
        if place < self._decay[0]:
            raise HistoryError(f"pair {row} cannot be unlearned: it has decayed since (commit {self._decay[1]})")
        copies.fault = "is given more often than it was written"
        return rank


def pair_digests(keys: Float32Array, values: Float32Array) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """128 bits for each key and for each pair, as (n, 2) words."""
    n = len(keys)
    found: tuple[bytearray, bytearray] = bytearray(), bytearray()
    for row in range(n):
        digest = hashlib.sha256(keys[row].tobytes())
        found[0].extend(digest.digest()[:_DIGEST_BYTES])
        digest.update(values[row].tobytes())
        found[1].extend(digest.digest()[:_DIGEST_BYTES])
    key_words, pair_words = (np.frombuffer(bytes(each), "<u8").reshape(n, 2) for each in found)
    return key_words, pair_words
