"""The phase *distill*: a candidate beside the memory, made from the kept pairs.

Purpose: carry out a plan on a copy, commit by commit, while the memory itself stays as it is and open to writers.
Superseded pairs are taken out first, exactly; then pairs get the labels that the text now gives; where the matrix is
too full or cannot unlearn, all kept pairs are solved anew, at the larger rank; rule 1 then replays. Invariants: each
step is one commit, so the candidate's LSN says where a killed distillation goes on, and it comes to the same bits;
a half-made candidate of another plan is thrown away; nothing outside the cycle's own folder is written.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

import emm
from emm_engine.dream.budget import Budget
from emm_engine.dream.kept import KeptPairs, chunks
from emm_engine.dream.plan import Plan, Standing
from emm_engine.dream.replay import gate_of, pass_size, replay_pass
from emm_engine.embeddings.provider import Float32Array
from emm_engine.files import make_folder

CANDIDATE: Final = "memory"
_MAKING: Final = "making"  # a copy that is not whole yet
_PRUNE_EVERY: Final = 64  # commits; a candidate's journal would grow to the size of all pairs

Step = Callable[[emm.Memory], object]


@dataclass(frozen=True, slots=True)
class Made:
    """What a distillation made."""

    digest: str
    rank: int
    n_pairs: int
    saturation: float
    n_writes: int


class Distillation:
    """One plan carried out in one folder."""

    def __init__(
        self,
        folder: Path,
        standing: Standing,
        pairs: KeptPairs,
        budget: Budget,
        tell: Callable[[str], None],
        still_current: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._standing = standing
        self._pairs = pairs
        self._budget = budget
        self._tell = tell
        self._replayed: tuple[Float32Array, Float32Array] | None = None  # keys and values
        self._still_current = still_current  # raises `Yielded` when the memory has moved on

    @property
    def path(self) -> Path:
        """Where the candidate lies."""
        return self._folder / CANDIDATE

    def make(self, live: emm.Memory, plan: Plan) -> Made:
        """The finished candidate. `GateError` when the plan takes out what cannot be taken out exactly."""
        signature = plan.signature(self._standing)
        with self._opened(live, plan, signature) as candidate:
            for number, step in enumerate(self._steps(plan), 1):
                if number <= candidate.lsn:
                    continue  # done before a kill
                self._budget.check()
                self._still_current()
                step(candidate)
                assert candidate.lsn == number
                if number % _PRUNE_EVERY == 0:
                    candidate.checkpoint()
                    candidate.prune(keep=1, journal=True)
                self._tell(f"distilled {number}")
            candidate.checkpoint()
            return Made(candidate.digest, candidate.rank, candidate.write_count, candidate.saturation, plan.n_writes)

    # --- the copy --------------------------------------------------------------------------------

    def _opened(self, live: emm.Memory, plan: Plan, signature: str) -> emm.Memory:
        """The candidate so far, for append: one made for this very plan, or a new one."""
        try:
            found = emm.open(str(self.path), mode="a")
            if found.metadata.get("plan") == signature:
                return found
            found.close()
        except (emm.MissingError, emm.FormatError):  # there is none, or what a killed dream left cannot be read
            pass
        shutil.rmtree(self._folder, ignore_errors=True)
        make_folder(self._folder)
        parameters = live.state().parameters
        making = self._folder / _MAKING
        with emm.create(
            str(making),
            dim=parameters.dim,
            rank=plan.rank,
            key_dim=parameters.key_dim,
            rule=live.rule,
            projection=parameters.projection.name.lower(),
            seed=parameters.seed,
            ridge=live.ridge,
            expand_at=0.0,
            metadata={"plan": signature},
        ) as new:
            if plan.way != "solve":
                new.adopt(live, 0)
        making.rename(self.path)
        return emm.open(str(self.path), mode="a")

    # --- the steps -------------------------------------------------------------------------------

    def _steps(self, plan: Plan) -> Iterator[Step]:
        """One commit each."""
        if plan.way == "solve":
            for part in chunks(plan.kept):
                yield partial(self._write, part, plan)
        elif plan.way == "amend":
            for part in chunks(plan.drops):
                yield partial(self._take_out, part)
            for part in chunks(plan.relabels):
                # the new value first: with more stored along the key, the old one comes out the more exactly
                yield partial(self._write, part, plan)
                yield partial(self._take_out, part)
        left = plan.replay
        for number in itertools.count():
            if left <= 0:
                return
            count = min(pass_size(len(plan.kept)), left)
            yield partial(self._replay, plan, count, gate_of(number))
            left -= count

    def _write(self, part: list[int], plan: Plan, memory: emm.Memory) -> None:
        memory.write(self._pairs.keys(part), self._truth(part, plan, memory.dim))

    def _take_out(self, part: list[int], memory: emm.Memory) -> None:
        keys, values = self._pairs.keys(part), self._pairs.written(part, memory.dim)
        memory.unlearn(keys, values, rank=memory.rank)  # the ledger vouches for the pairs

    def _replay(self, plan: Plan, count: int, gate: float, memory: emm.Memory) -> None:
        if self._replayed is None:
            self._replayed = self._in_files(plan, memory)
        replay_pass(memory, *self._replayed, count, gate)

    def _truth(self, part: list[int], plan: Plan, dim: int) -> Float32Array:
        """(n, dim): staged labels count only where the plan brings them in."""
        values, planned = self._pairs.written(part, dim), set(part).intersection(plan.relabels)
        changed = [row for row, identity in enumerate(part) if identity in planned]
        if changed:
            values[changed] = self._pairs.true([part[row] for row in changed], dim)
        return values

    def _in_files(self, plan: Plan, memory: emm.Memory) -> tuple[Float32Array, Float32Array]:
        """Keys and values of all kept pairs, mapped: every pass of a replay looks at all of them."""
        n_pairs, row = len(plan.kept), 0
        keys = np.memmap(self._folder / "keys", np.float32, "w+", shape=(n_pairs, memory.key_dim))
        values = np.memmap(self._folder / "values", np.float32, "w+", shape=(n_pairs, memory.dim))
        for part in chunks(plan.kept):
            self._budget.check()
            keys[row : row + len(part)] = self._pairs.keys(part)
            values[row : row + len(part)] = self._truth(part, plan, memory.dim)
            row += len(part)
        return keys, values
