"""What a memory must be after each operation, computed without journals, snapshots or recovery.

Purpose: the model that runs are judged by (the arithmetic of the kill harness, operation by operation). Invariants:
what an operation writes follows from its word and its place in the workload alone; an operation that a memory must
refuse at that moment is told (`advance` gives None), it is not skipped in silence.

A word is an operation, perhaps with numbers: `write 3 0.5 0.9` writes three pairs with write gate 0.5 and decay gate
0.9; `unlearn 2` takes out the last pair but two, `forget 1 3` three keys from the second pair on; `resolve 1` solves
anew one step of rank further, `resolve` as far as it goes; `merge 4` merges with a memory of four pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

import numpy as np

from emm import kernel
from emm.codec.payload import state_digest
from emm.errors import GateError
from emm.layout import RANK_MULTIPLE, Flag, Rule
from emm.state import MatrixState, Parameters, empty_state
from emm_fuzz.geometry import DEFAULT, GEOMETRIES, rank_max
from emm_fuzz.workload import Pair, Step, apply_step, make_step, solve_again

N_LARGE: Final = 12  # pairs of a batch that spans several small sectors
N_OTHER: Final = 2  # pairs of the other memory in a merge

MUTATIONS: Final = ("write", "write-large", "decay", "unlearn", "forget", "configure", "merge", "bare", "resolve")
NEUTRAL: Final = ("checkpoint", "prune", "prune-journal", "mark", "second", "refused", "reopen", "kill", "close")
OPERATIONS: Final = MUTATIONS + NEUTRAL
EVENTS: Final = ("fault", "cut", "die")  # what befalls the operations after it, see `runs`

PLACE_FIXED: Final = 900  # operations numbered from here on write the same whatever came before them
PLACE_OTHER: Final = 2000  # what the other memory of a merge writes

State = tuple[int, str]  # (LSN, digest)


@dataclass(frozen=True, slots=True)
class Moment:
    """What a memory is at one moment of its life, as the model has it."""

    matrix: MatrixState = field(default_factory=lambda: empty_state(GEOMETRIES[DEFAULT].parameters))
    lsn: int = 0
    steps: tuple[Step, ...] = ()
    pairs: tuple[Pair, ...] = ()
    journal_whole: bool = True
    n_foreign: int = 0  # the first pairs that its journal never held
    n_faded: int = 0  # the first pairs that a decay gate has weakened since

    @property
    def state(self) -> State:
        return self.lsn, state_digest(self.matrix, self.lsn).hex()

    @property
    def parameters(self) -> Parameters:
        return self.matrix.parameters

    def without(self, first: int, count: int = 1) -> Moment:
        """The same moment without some of its pairs."""
        gone = range(first, min(first + count, len(self.pairs)))
        return replace(
            self,
            pairs=tuple(pair for index, pair in enumerate(self.pairs) if index not in gone),
            n_foreign=self.n_foreign - sum(index < self.n_foreign for index in gone),
            n_faded=self.n_faded - sum(index < self.n_faded for index in gone),
        )


def first_moment(parameters: Parameters) -> Moment:
    """A memory that was just created."""
    return Moment(empty_state(parameters))


@lru_cache(maxsize=4096)
def step_for(
    moment_steps: int,
    word: str,
    place: int,
    key_dim: int = GEOMETRIES[DEFAULT].key_dim,
    dim: int = GEOMETRIES[DEFAULT].dim,
) -> Step:
    """The pairs that operation number `place` writes (`moment_steps` keeps repeated words apart after a fault)."""
    random = np.random.default_rng([place, moment_steps, 0xCA5E])
    kind, *numbers = word.split()
    n = int(numbers[0]) if numbers else N_LARGE if kind == "write-large" else 1
    gate = float(numbers[1]) if len(numbers) > 1 else 1.0
    decay = float(numbers[2]) if len(numbers) > 2 else 0.875 if kind == "decay" else 1.0
    keys = random.standard_normal((n, key_dim)).astype(np.float32) / np.float32(np.sqrt(key_dim / 2))
    values = random.standard_normal((n, dim)).astype(np.float32)
    return make_step(
        "write",
        (),
        keys=keys,
        values=values,
        gates=np.full(n, gate, np.float32),
        decays=np.full(n, decay, np.float32),
    )


def advance(moment: Moment, word: str, place: int) -> tuple[Moment, Step | None] | None:
    """(the moment after, the step to perform or None); None when a memory must refuse `word` here."""
    kind, *numbers = word.split()
    if kind in NEUTRAL or kind in EVENTS:
        return (replace(moment, journal_whole=False) if kind == "prune-journal" else moment), None
    if kind in ("write", "write-large", "decay"):
        return _write(moment, word, place)
    if kind == "configure":
        step = make_step("configure", (), expand_at=float(numbers[0]) if numbers else float(place % 2))
        return _after(moment, step), step
    if kind == "merge":
        return _merge(moment, place, int(numbers[0]) if numbers else N_OTHER)
    if kind == "bare":
        step = make_step("bare", (), rank=2 * moment.parameters.rank)
        return (_after(moment, step), step) if step.rank <= rank_max(moment.parameters) else None
    if kind == "resolve":
        return _resolve(moment, int(numbers[0]) if numbers else None)
    assert kind in ("unlearn", "forget"), word
    if not moment.pairs:
        return None
    return _unlearn(moment, *map(int, numbers)) if kind == "unlearn" else _forget(moment, *map(int, numbers))


def _after(moment: Moment, step: Step) -> Moment:
    matrix = apply_step(moment.matrix, step)
    return replace(moment, matrix=matrix, lsn=moment.lsn + 1, steps=(*moment.steps, step))


def _write(moment: Moment, word: str, place: int) -> tuple[Moment, Step] | None:
    parameters = moment.parameters
    step = step_for(0 if place >= PLACE_FIXED else len(moment.steps), word, place, parameters.key_dim, parameters.dim)
    if parameters.rule is Rule.GATED_DELTA and step.gates.max() > 1:
        return None
    gates = zip(step.keys, step.values, step.gates, strict=True)
    pairs = moment.pairs + tuple(Pair(key, value, float(gate), parameters.rank) for key, value, gate in gates)
    faded = len(pairs) - 1 if step.decays[-1] != 1 else moment.n_faded
    return replace(_after(moment, step), pairs=pairs, n_faded=faded), step


def _resolve(moment: Moment, n_steps: int | None) -> tuple[Moment, Step] | None:
    rank, largest = moment.parameters.rank, rank_max(moment.parameters)
    if not moment.journal_whole or rank >= largest or moment.matrix.flags & (Flag.DECAYED | Flag.FOREIGN_PAIRS):
        return None  # with decay an unlearned pair is not left out; the model does not go there
    rank = largest if n_steps is None else min(largest, rank + RANK_MULTIPLE * n_steps)
    step = make_step("resolve", (), rank=rank)
    matrix = solve_again(moment.steps, replace(moment.parameters, rank=rank))
    pairs = tuple(replace(pair, rank=rank) for pair in moment.pairs)
    return replace(moment, matrix=matrix, steps=(*moment.steps, step), pairs=pairs), step


def _forget(moment: Moment, first: int = 0, count: int = 1) -> tuple[Moment, Step]:
    first %= len(moment.pairs)
    keys = np.stack([pair.key for pair in moment.pairs[first : first + count]])
    step = make_step("forget", (), keys=keys)
    return _after(moment, step).without(first, count), step


def _unlearn(moment: Moment, back: int = 0) -> tuple[Moment, Step] | None:
    index = len(moment.pairs) - 1 - back % len(moment.pairs)
    pair = moment.pairs[index]
    if moment.parameters.rule is not Rule.PRECONDITIONED or index < moment.n_faded:
        return None
    asked = 0 if moment.journal_whole and index >= moment.n_foreign else pair.rank
    gates = np.array([pair.gate], np.float32)
    step = make_step("unlearn", (), keys=pair.key[None], values=pair.value[None], gates=gates, rank=asked)
    after = replace(moment, matrix=moment.matrix.copy(), lsn=moment.lsn + 1, steps=(*moment.steps, step))
    try:
        kernel.unlearn(after.matrix, kernel.project(step.keys, moment.parameters), step.values, gates, pair.rank)
    except GateError:
        return None
    return after.without(index), step


def _merge(moment: Moment, place: int, n_other: int) -> tuple[Moment, None] | None:
    barred = moment.matrix.flags & (Flag.DECAYED | Flag.BARE_EXPANDED)
    if moment.parameters.rule is not Rule.PRECONDITIONED or barred:
        return None
    other = other_moment(moment.parameters, place, n_other)
    pairs = moment.pairs + other.pairs
    return Moment(kernel.merge([moment.matrix, other.matrix]), pairs=pairs, n_foreign=len(pairs)), None


@lru_cache(maxsize=256)
def other_moment(parameters: Parameters, place: int, n_pairs: int) -> Moment:
    """The other memory of the merge that is operation number `place`."""
    found = advance(first_moment(parameters), f"write {n_pairs}", PLACE_OTHER + place)
    assert found is not None
    return found[0]
