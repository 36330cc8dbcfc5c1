"""What a memory answers when a key's value has changed: the latest version, a stale one, or something else.

Purpose: compare the ways of rewriting, among them superseding (unlearn the old pair, write the new), which only rule 2
has, with what v3's cell does with its forget gate. Invariants: every way sees the same versions in the same order, all
keys at version 1, then all at version 2, and so on; an answer is the stored value, of any key and version, nearest by
cosine.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from emm import kernel
from emm.errors import GateError
from emm.layout import Rule
from emm.state import Float32Array, Parameters, empty_state
from emm.testing.keys import Trial, unit_values
from emm.testing.mlstm import MLSTM_NAME, Mlstm

VERSIONS = 5
DRIFT_GATE = 0.3  # β of rule 1 where keys are rewritten
CELL_FORGET = 0.9  # f of v3's cell, once for each version
RULE2_DECAY = 0.999  # α of rule 2, for each pair
SUPERSEDE = "preconditioned, superseding"


@dataclass(frozen=True, slots=True)
class RewriteRow:
    """One way at one load: shares of the keys, after the last version."""

    way: str
    keys: str
    load: float  # keys ÷ rank
    n_keys: int
    latest: float  # the answer is the key's latest value
    stale: float  # the answer is an older value of the same key
    other: float  # the answer is a value of another key
    refused: int  # pairs that could not be unlearned: too little else was stored along their key


Values = list[Float32Array]  # of each version, (n, dim)
Way = Callable[[Parameters, Float32Array, Values], tuple[Float32Array, int]]  # φ of keys → (recall, pairs refused)


def _plain(rule: Rule, gate: float = 1.0, decay: float = 1.0) -> Way:
    def run(parameters: Parameters, x: Float32Array, versions: Values) -> tuple[Float32Array, int]:
        state = empty_state(
            Parameters(parameters.dim, parameters.key_dim, parameters.rank, rule, ridge=parameters.ridge)
        )
        for values in versions:
            kernel.write(state, x, values, decay, gate)
        return kernel.recall(state, x), 0

    return run


def _superseding(parameters: Parameters, x: Float32Array, versions: Values) -> tuple[Float32Array, int]:
    state = empty_state(parameters)
    kernel.write(state, x, versions[0])
    refused = 0
    for old, new in itertools.pairwise(versions):
        for row in range(len(x)):
            one = slice(row, row + 1)
            try:
                kernel.unlearn(state, x[one], old[one])
            except GateError:
                refused += 1
            kernel.write(state, x[one], new[one])
    return kernel.recall(state, x), refused


def _cell(forget: float) -> Way:
    def run(parameters: Parameters, x: Float32Array, versions: Values) -> tuple[Float32Array, int]:
        cell = Mlstm(parameters.dim, parameters.rank)
        for values in versions:
            cell.write(x[:1], values[:1], forget)
            cell.write(x[1:], values[1:])
        return cell.recall(x), 0

    return run


WAYS: dict[str, Way] = {
    "outer-product": _plain(Rule.OUTER_PRODUCT),
    "gated-delta": _plain(Rule.GATED_DELTA),
    f"gated-delta, β = {DRIFT_GATE:g}": _plain(Rule.GATED_DELTA, DRIFT_GATE),
    "preconditioned": _plain(Rule.PRECONDITIONED),
    f"preconditioned, α = {RULE2_DECAY:g}": _plain(Rule.PRECONDITIONED, decay=RULE2_DECAY),
    SUPERSEDE: _superseding,
    MLSTM_NAME: _cell(1.0),
    f"{MLSTM_NAME}, f = {CELL_FORGET:g} a version": _cell(CELL_FORGET),
}


def rewrite_row(way: str, trial: Trial) -> RewriteRow:
    """Write `VERSIONS` versions of load · rank keys in one of the `WAYS`, and ask for every key."""
    n, parameters = trial.n_pairs, trial.parameters
    x = kernel.project(trial.draw_keys(), parameters)
    stored = unit_values(n * VERSIONS, trial.dim, trial.seed)
    versions = [stored[number * n : (number + 1) * n] for number in range(VERSIONS)]
    recalled, refused = WAYS[way](parameters, x, versions)
    answer = np.argmax(recalled @ stored.T, axis=1)
    mine = answer % n == np.arange(n)
    latest = float(np.mean(mine & (answer // n == VERSIONS - 1)))
    stale = float(np.mean(mine & (answer // n < VERSIONS - 1)))
    return RewriteRow(way, trial.keys, trial.load, n, latest, stale, 1.0 - latest - stale, refused)
