"""Functional utilisation: how well a memory answers for the pairs that it is to hold, beside how many it could.

Purpose: the figure that effective rank is no measure of. Invariants: the pairs are those of the journal, of each key
the last one that was neither unlearned nor forgotten; where not all of them are at hand the answer says so and is no
guess; in memory are one record of the journal at a time and a few hundred bytes for each pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from emm import kernel
from emm.codec.pairs import PairBatch, decode_pairs
from emm.errors import EmmError
from emm.inspection.matrix import Matrix
from emm.inspection.place import Place
from emm.layout import RecordType
from emm.storage.history import History
from emm.storage.pair_index import pair_digests
from emm.storage.replay import PAIR_TYPES

WORK_MAX = 1 << 39  # multiplications for the answers: half a minute on one core
BATCH_PAIRS = 1024


@dataclass(frozen=True, slots=True)
class Functional:
    """Σ cos²(M φ(k), v) / rank over `n_pairs` pairs; None where `problem` says why."""

    utilisation: float | None
    n_pairs: int = 0
    problem: str | None = None


def functional_of(place: Place, matrix: Matrix) -> Functional:
    """The functional utilisation of the state that was read at a place."""
    if place.kind != "memory" or matrix.state is None:
        what = "a snapshot by itself has no journal" if place.kind != "memory" else "the state cannot be opened"
        return Functional(None, problem=what)
    state = matrix.state
    parameters = state.parameters
    try:
        head = place.head(matrix.generation).known
        floor = head.lineage.floor_generation
        history = History(place.directory, head.header.uuid, matrix.lsn, parameters, state.flags, floor)
        missing = history.missing()
        if missing is not None:
            return Functional(None, problem=f"not every pair is at hand: {missing}")
        answered = _answered(history)
        if len(answered) * parameters.dim * parameters.rank > WORK_MAX:
            return Functional(None, len(answered), "asking for every pair would take more than half a minute")
        total = 0.0
        for first, kind, batch in _batches(history):
            chosen = [row for row in range(len(batch)) if first + row in answered] if kind is RecordType.WRITE else []
            for start in range(0, len(chosen), BATCH_PAIRS):
                pairs = batch.rows(chosen[start : start + BATCH_PAIRS])
                recalled = kernel.recall(state, kernel.project(pairs.keys, parameters))
                total += kernel.functional_utilisation(recalled, pairs.values, parameters.rank)
    except EmmError as error:
        return Functional(None, problem=str(error))
    return Functional(total, len(answered))


def _answered(history: History) -> frozenset[int]:
    """Places of the pairs, counted over all batches, that the memory is to answer for."""
    alive: dict[bytes, list[tuple[int, bytes]]] = {}
    for first, kind, batch in _batches(history):
        for row, (key, pair) in enumerate(zip(*pair_digests(batch.keys, batch.values), strict=True)):
            if kind is RecordType.FORGET:
                alive.pop(key.tobytes(), None)
                continue
            copies = alive.setdefault(key.tobytes(), [])
            if kind is RecordType.WRITE:
                copies.append((first + row, pair.tobytes()))
            else:
                same = [index for index, (_, known) in enumerate(copies) if known == pair.tobytes()]
                if same:
                    del copies[same[-1]]
    return frozenset(copies[-1][0] for copies in alive.values() if copies)


def _batches(history: History) -> Iterator[tuple[int, RecordType, PairBatch]]:
    """(place of its first pair, type, pairs) of every write, unlearn and forget."""
    place = 0
    for logged in history.commits():
        for record in logged.records:
            if record.type in PAIR_TYPES:
                batch = decode_pairs(record, history.parameters.key_dim, history.parameters.dim)
                yield place, record.type, batch
                place += len(batch)
