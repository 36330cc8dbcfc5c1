"""Workloads as data, and the model that says what a memory must be after each operation of one.

Purpose: a case is a list of words, faults and perhaps one crash image; it can be enumerated, shrunk and replayed from
one line of JSON. Invariants: what an operation writes follows from its place in the workload alone; the model (that of
the kill harness) calls the kernel directly and knows nothing of journals, snapshots or recovery; an operation that a
memory must refuse at that moment makes the workload inapplicable, it is not skipped in silence.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np

from emm import kernel
from emm.codec.payload import state_digest
from emm.errors import GateError
from emm.layout import Flag
from emm.state import MatrixState, Parameters, empty_state
from emm_fuzz.crash_states import Spec, Tear
from emm_fuzz.simulated_disk import Fault
from emm_fuzz.workload import Pair, Step, apply_step, make_step, solve_again

DIM: Final = 16
RANK: Final = 16
KEY_DIM: Final = 32
N_LARGE: Final = 12  # pairs of a batch that spans several small sectors

MUTATIONS: Final = ("write", "write-large", "decay", "unlearn", "forget", "configure", "bare", "resolve")
NEUTRAL: Final = ("checkpoint", "prune", "prune-journal", "mark", "second", "refused", "reopen", "kill", "close")
OPERATIONS: Final = MUTATIONS + NEUTRAL

PLACE_FIXED: Final = 900  # operations numbered from here on write the same whatever came before them

State = tuple[int, str]  # (LSN, digest)


@dataclass(frozen=True, slots=True)
class Case:
    """One run: a new memory lives through `workload`. With `point` and `spec` only that crash image is looked at."""

    workload: tuple[str, ...]
    faults: tuple[Fault, ...] = ()
    seed: int = 0
    point: int | None = None
    spec: Spec | None = None

    def to_json(self) -> str:
        plain: dict[str, Any] = {"workload": self.workload, "seed": self.seed}
        if self.faults:
            plain["faults"] = [[each.call, each.nth, each.how] for each in self.faults]
        if self.point is not None:
            plain["point"] = self.point
        if self.spec is not None:
            plain["spec"] = self.spec
        return json.dumps(plain, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Case:
        plain = json.loads(text)
        spec = plain.get("spec")
        if spec is not None:
            sector, kept, fill, tear = spec
            spec = Spec(sector, kept, fill, None if tear is None else Tear(*tear))
        faults = tuple(Fault(*each) for each in plain.get("faults", ()))
        return cls(tuple(plain["workload"]), faults, plain.get("seed", 0), plain.get("point"), spec)


@dataclass(frozen=True, slots=True)
class Moment:
    """What a memory is at one moment of its life, as the model has it."""

    matrix: MatrixState = field(default_factory=lambda: empty_state(Parameters(DIM, KEY_DIM, RANK)))
    lsn: int = 0
    steps: tuple[Step, ...] = ()
    pairs: tuple[Pair, ...] = ()
    journal_whole: bool = True

    @property
    def state(self) -> State:
        return self.lsn, state_digest(self.matrix, self.lsn).hex()


@lru_cache(maxsize=4096)
def step_for(moment_steps: int, word: str, place: int) -> Step:
    """The pairs that operation number `place` writes (`moment_steps` keeps repeated words apart after a fault)."""
    random = np.random.default_rng([place, moment_steps, 0xCA5E])
    n = N_LARGE if word == "write-large" else 1
    keys = random.standard_normal((n, KEY_DIM)).astype(np.float32) / np.float32(4)
    values = random.standard_normal((n, DIM)).astype(np.float32)
    decays = np.full(n, 0.875 if word == "decay" else 1.0, np.float32)
    return make_step("write", (), keys=keys, values=values, gates=np.ones(n, np.float32), decays=decays)


def advance(moment: Moment, word: str, place: int) -> tuple[Moment, Step | None] | None:
    """(the moment after, the step to perform or None); None when a memory must refuse `word` here."""
    rank = moment.matrix.parameters.rank
    if word in NEUTRAL:
        return (replace(moment, journal_whole=False) if word == "prune-journal" else moment), None
    if word in ("write", "write-large", "decay"):
        step = step_for(0 if place >= PLACE_FIXED else len(moment.steps), word, place)
        gates = zip(step.keys, step.values, step.gates, strict=True)
        pairs = moment.pairs + tuple(Pair(key, value, float(gate), rank) for key, value, gate in gates)
        return _after(moment, step, pairs), step
    if word == "configure":
        step = make_step("configure", (), expand_at=float(place % 2))
        return _after(moment, step, moment.pairs), step
    if word == "bare":
        step = make_step("bare", (), rank=2 * rank)
        return (_after(moment, step, moment.pairs), step) if 2 * rank <= KEY_DIM else None
    if word == "resolve":
        return _resolve(moment, rank)
    return _take_out(moment, word) if moment.pairs else None


def _after(moment: Moment, step: Step, pairs: tuple[Pair, ...]) -> Moment:
    matrix = apply_step(moment.matrix, step)
    return replace(moment, matrix=matrix, lsn=moment.lsn + 1, steps=(*moment.steps, step), pairs=pairs)


def _resolve(moment: Moment, rank: int) -> tuple[Moment, Step] | None:
    if not moment.journal_whole or rank >= KEY_DIM or moment.matrix.flags & Flag.DECAYED:
        return None  # with decay an unlearned pair is not left out; the model does not go there
    step = make_step("resolve", (), rank=KEY_DIM)
    matrix = solve_again(moment.steps, replace(moment.matrix.parameters, rank=KEY_DIM))
    pairs = tuple(replace(pair, rank=KEY_DIM) for pair in moment.pairs)
    return replace(moment, matrix=matrix, steps=(*moment.steps, step), pairs=pairs), step


def _take_out(moment: Moment, word: str) -> tuple[Moment, Step] | None:
    if word == "forget":
        step = make_step("forget", (), keys=moment.pairs[0].key[None])
        return _after(moment, step, moment.pairs[1:]), step
    pair = moment.pairs[-1]
    if moment.matrix.flags & Flag.DECAYED:
        return None
    asked = 0 if moment.journal_whole else pair.rank
    gates = np.array([pair.gate], np.float32)
    step = make_step("unlearn", (), keys=pair.key[None], values=pair.value[None], gates=gates, rank=asked)
    after = replace(_after(moment, make_step("configure", ()), moment.pairs[:-1]), matrix=moment.matrix.copy())
    try:
        x = kernel.project(step.keys, moment.matrix.parameters)
        kernel.unlearn(after.matrix, x, step.values, gates, pair.rank)
    except GateError:
        return None
    return replace(after, steps=(*moment.steps, step)), step


def applicable(workload: Sequence[str]) -> bool:
    """True when a memory can live through all of it."""
    moment = Moment()
    for place, word in enumerate(workload):
        found = advance(moment, word, place)
        if found is None:
            return False
        moment = found[0]
    return True


def workloads(length: int, words: Sequence[str] = OPERATIONS) -> Iterator[tuple[str, ...]]:
    """Every applicable workload of exactly this length, in a fixed order."""
    return (each for each in itertools.product(words, repeat=length) if applicable(each))


def random_workload(random: np.random.Generator, length: int) -> tuple[str, ...]:
    """A seeded workload in which most operations write."""
    weights = np.array([3.0] * len(MUTATIONS) + [1.5] * len(NEUTRAL))
    moment = Moment()
    found: list[str] = []
    while len(found) < length:
        word = str(random.choice(OPERATIONS, p=weights / weights.sum()))
        after = advance(moment, word, len(found))
        if after is not None:
            moment = after[0]
            found.append(word)
    return tuple(found)
