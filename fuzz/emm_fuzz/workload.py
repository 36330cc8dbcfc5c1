"""A seeded life of one memory, and the digest that each moment of it must have.

Purpose: what the kill harness writes, and the model it is judged by. A `Plan` is a list of stages; stage i+1
follows from stage i by one mutation (a commit, or a re-solve, which keeps the LSN). Checkpoints, prunes and
reopenings are tied to stages too, but change no bit. Invariants: the plan follows from the seed alone; the model
calls the kernel directly and knows nothing of journals, snapshots or recovery, so both can only agree by being
right; every stage's digest is unique, so a recovered memory says by its digest where it stands.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

import emm
from emm import kernel
from emm.codec.payload import state_digest
from emm.errors import GateError
from emm.layout import Flag
from emm.state import Float32Array, MatrixState, Parameters, empty_state

DIM = 16
KEY_DIM = 64
RANK = 16
N_STAGES = 60
N_LARGE = 400  # pairs of a batch that spans many pages, so that a kill can tear it


@dataclass(frozen=True, slots=True)
class Pair:
    """One pair as it was written; `rank` is the rank at which it counts as written."""

    key: Float32Array
    value: Float32Array
    gate: float
    rank: int


@dataclass(frozen=True, slots=True)
class Step:
    """One mutation and the harmless operations before it."""

    kind: str  # write, unlearn, forget, configure, bare, resolve
    keys: Float32Array
    values: Float32Array
    gates: Float32Array
    decays: Float32Array
    rank: int = 0  # the new one (bare, resolve), or the pair's where the journal cannot be asked (unlearn)
    expand_at: float = 0.0
    before: tuple[str, ...] = ()  # checkpoint, prune, prune-journal, reopen, mark


@dataclass(frozen=True, slots=True)
class Stage:
    """What the memory must be after a step."""

    lsn: int
    rank: int
    digest: str


@dataclass(slots=True)
class Plan:
    """`steps[i]` leads from `stages[i]` to `stages[i + 1]`."""

    seed: int
    steps: list[Step] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)

    def stage_of(self, digest: str) -> int | None:
        """Index of the stage with this digest, or None when no moment of this life looks like that."""
        return next((index for index, stage in enumerate(self.stages) if stage.digest == digest), None)

    def create(self, url: str) -> None:
        """The memory of stage 0."""
        emm.create(url, dim=DIM, rank=RANK, key_dim=KEY_DIM, expand_at=0.0).close()


class _Builder:
    """Runs the model forward, choosing each step by the seed and by what the memory may still do."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng([seed, 0xE77])
        self.plan = Plan(seed)
        self.state = empty_state(Parameters(DIM, KEY_DIM, RANK))
        self.lsn = 0
        self.pairs: list[Pair] = []
        self.decaying = seed % 4 == 3  # such a life never unlearns
        self.journal_whole = True
        self.plan.stages.append(self._stage())

    def _stage(self) -> Stage:
        return Stage(self.lsn, self.state.parameters.rank, state_digest(self.state, self.lsn).hex())

    def build(self, n_stages: int) -> Plan:
        while len(self.plan.stages) < n_stages:
            step = self._choose(n_stages)
            self.state = apply_step(self.state, step)
            self.lsn += step.kind != "resolve"
            if step.kind == "resolve":
                self.state = solve_again(self.plan.steps, replace(self.state.parameters, rank=step.rank))
                self.pairs = [replace(pair, rank=step.rank) for pair in self.pairs]
            self.plan.steps.append(step)
            self.plan.stages.append(self._stage())
        assert len({stage.digest for stage in self.plan.stages}) == len(self.plan.stages)
        return self.plan

    def _choose(self, n_stages: int) -> Step:
        done = len(self.plan.steps)
        before = tuple(
            name for name, share in (("checkpoint", 0.1), ("prune", 0.04), ("reopen", 0.05)) if self._chance(share)
        )
        rank = self.state.parameters.rank
        if done > 0.8 * n_stages and self.journal_whole and self._chance(0.2):
            self.journal_whole = False
            before += ("prune-journal",)
        if done > 8 and self.journal_whole and rank < KEY_DIM and self._chance(0.1):
            bare = self._chance(0.4) and 2 * rank <= KEY_DIM
            return self._grow("bare" if bare else "resolve", rank, before)
        draw = self.random.random()
        if draw < 0.12 and not self.decaying and self.pairs:
            step = self._unlearn(before)
            if step is not None:
                return step
        if draw < 0.18 and self.pairs:
            return self._forget(before)
        if draw < 0.24:
            return make_step("configure", before, expand_at=float(self.random.choice([0.0, 1.0])))
        return self._write(before)

    def _chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def _write(self, before: tuple[str, ...]) -> Step:
        n = N_LARGE if self._chance(0.06) else int(self.random.integers(1, 6))
        keys = self.random.standard_normal((n, KEY_DIM)).astype(np.float32) / np.float32(8)
        values = self.random.standard_normal((n, DIM)).astype(np.float32)
        gates = self.random.choice(np.array([1.0, 0.5, 2.0], np.float32), n)
        decays = np.where(self.random.random(n) < 0.5 * self.decaying, np.float32(0.99), np.float32(1))
        rank = self.state.parameters.rank
        self.pairs += [Pair(k, v, float(g), rank) for k, v, g in zip(keys, values, gates, strict=True)]
        return make_step("write", before, keys=keys, values=values, gates=gates, decays=decays)

    def _unlearn(self, before: tuple[str, ...]) -> Step | None:
        index = int(self.random.integers(len(self.pairs)))
        pair = self.pairs[index]
        asked = 0 if self.journal_whole else pair.rank
        gates = np.array([pair.gate], np.float32)
        step = make_step("unlearn", before, keys=pair.key[None], values=pair.value[None], gates=gates, rank=asked)
        x = kernel.project(step.keys, self.state.parameters)
        try:
            kernel.unlearn(self.state.copy(), x, step.values, gates, pair.rank)
        except GateError:
            return None
        if asked == 0 and pair.rank != self.state.parameters.rank and not self.state.flags & Flag.BARE_EXPANDED:
            raise AssertionError("only a bare expansion leaves pairs at an older rank")
        del self.pairs[index]
        self.state = self.state.copy()
        kernel.unlearn(self.state, x, step.values, gates, pair.rank)
        return step

    def _forget(self, before: tuple[str, ...]) -> Step:
        index = int(self.random.integers(len(self.pairs)))
        return make_step("forget", before, keys=self.pairs.pop(index).key[None])

    def _grow(self, kind: str, rank: int, before: tuple[str, ...]) -> Step:
        return make_step(kind, before, rank=2 * rank if kind == "bare" else min(KEY_DIM, rank + 16))


def make_step(kind: str, before: tuple[str, ...], **fields: object) -> Step:
    nothing = np.empty(0, np.float32)
    values = {"keys": nothing, "values": nothing, "gates": nothing, "decays": nothing, **fields}
    return Step(kind, before=before, **values)  # type: ignore[arg-type]


def apply_step(state: MatrixState, step: Step) -> MatrixState:
    """The model's side of one step (an unlearn was applied when it was chosen)."""
    if step.kind == "bare":
        return kernel.expand(state, step.rank)
    state = state.copy()
    if step.kind == "write":
        kernel.write(state, kernel.project(step.keys, state.parameters), step.values, step.decays, step.gates)
    elif step.kind == "forget":
        kernel.forget(state, kernel.project(step.keys, state.parameters))
    return state


def solve_again(steps: Sequence[Step], parameters: Parameters) -> MatrixState:
    """Every commit of these steps again at another rank, without the pairs that were taken out in equal measure."""
    state = empty_state(parameters)
    gone = {(step.keys.tobytes(), step.values.tobytes()) for step in steps if step.kind == "unlearn"}
    for step in steps:
        if step.kind == "write":
            rows = [(key.tobytes(), value.tobytes()) for key, value in zip(step.keys, step.values, strict=True)]
            kept = [index for index, row in enumerate(rows) if row not in gone]
            if kept:
                x = kernel.project(step.keys[kept], state.parameters)
                kernel.write(state, x, step.values[kept], step.decays[kept], step.gates[kept])
        elif step.kind == "forget":
            kernel.forget(state, kernel.project(step.keys, state.parameters))
    return state


def build_plan(seed: int, n_stages: int = N_STAGES) -> Plan:
    """The life of memory number `seed`."""
    return _Builder(seed).build(n_stages)


def perform(memory: emm.Memory, step: Step) -> None:
    """The memory's side of one step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a bare expansion says what it costs
        if step.kind == "write":
            memory.write(step.keys, step.values, step.decays, step.gates)
        elif step.kind == "unlearn":
            memory.unlearn(step.keys, step.values, step.gates, step.rank or None)
        elif step.kind == "forget":
            memory.forget(step.keys)
        elif step.kind == "configure":
            memory.configure(expand_at=step.expand_at)
        else:
            memory.expand(step.rank, bare=step.kind == "bare")


def begin(url: str, plan: Plan, tell: Callable[[str], None]) -> None:
    """Create the memory, then `live`."""
    tell("create")
    plan.create(url)
    tell("= 0")
    live(url, plan, tell)


def idle_mark(memory: emm.Memory) -> None:
    """What the journal does by itself after an idle second."""
    writer = memory._session._writer
    assert writer is not None
    writer._mark_if_idle()


def live(url: str, plan: Plan, tell: Callable[[str], None]) -> None:
    """Open the memory and live on from where it stands, to the end of the plan, and close it.

    `tell` hears what is about to be done, and `= i` when stage i is acknowledged: it must never be lost after that.
    """
    tell("open")
    memory = emm.open(url, "a")
    stage = plan.stage_of(memory.digest)
    if stage is None:
        tell(f"! unknown digest at lsn {memory.lsn} rank {memory.rank}")
        return
    tell(f"= {stage}")
    for index in range(stage, len(plan.steps)):
        step = plan.steps[index]
        for name in step.before:
            tell(name)
            if name == "reopen":
                memory.close()
                memory = emm.open(url, "a")
            elif name == "checkpoint":
                memory.checkpoint()
            elif name == "mark":
                idle_mark(memory)
            else:
                memory.prune(keep=1 + index % 3, journal=name == "prune-journal")
        tell(step.kind)
        perform(memory, step)
        if memory.digest != plan.stages[index + 1].digest:
            tell(f"! digest differs from the model's after step {index} ({step.kind})")
            return
        tell(f"= {index + 1}")
    tell("close")
    memory.close()
    tell("done")
