"""How exact the operations of rule 2 are: unlearning, merging, and P after very many writes.

Purpose: figures behind "as if it had never been written" and "as if written in one pass". Invariants: each compares
with a memory of the same kernel that took the straight way; P is judged by the numeric level of verify (spec P-5) and
by its eigenvalues in binary64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from emm import kernel
from emm.errors import GateError
from emm.state import Float32Array, MatrixState, Parameters, empty_state
from emm.testing.capacity import distance
from emm.testing.keys import Trial, text_like_keys, unit_values
from emm.verify.numeric import check_state

PARTS = (2, 4, 16)
UNLEARNT = 0.2  # share of the pairs
GATE_EXPONENTS = (-10.0, 5.0)  # β is 2^-10 to 32
_BATCH = 5000


@dataclass(frozen=True, slots=True)
class ExactRow:
    """Relative Frobenius distances from the memory that took the straight way."""

    what: str
    keys: str
    load: float
    n_pairs: int
    distance: float  # of M
    gain_distance: float  # of P
    refused: int  # pairs whose unlearning was refused, and which the other memory therefore keeps


def _written(parameters: Parameters, x: Float32Array, values: Float32Array) -> MatrixState:
    state = empty_state(parameters)
    kernel.write(state, x, values)
    return state


def _pairs(trial: Trial) -> tuple[Parameters, Float32Array, Float32Array]:
    """(parameters, φ of the keys, values)."""
    x = kernel.project(trial.draw_keys(), trial.parameters)
    return trial.parameters, x, unit_values(len(x), trial.dim, trial.seed)


def unlearning_row(trial: Trial) -> ExactRow:
    """Write all pairs, take a fifth out again, compare with a memory that never saw those."""
    parameters, x, values = _pairs(trial)
    state = _written(parameters, x, values)
    gone = np.random.default_rng([trial.seed, 7]).permutation(len(x))[: round(UNLEARNT * len(x))]
    kept = np.ones(len(x), bool)
    refused = 0
    for row in gone:
        try:
            kernel.unlearn(state, x[row : row + 1], values[row : row + 1])
            kept[row] = False
        except GateError:
            refused += 1
    return _row("unlearning 20 %", trial, state, _written(parameters, x[kept], values[kept]), refused)


def merging_row(parts: int, trial: Trial) -> ExactRow:
    """Write the pairs into several memories in turn, merge them, compare with one pass over all."""
    parameters, x, values = _pairs(trial)
    merged = kernel.merge([_written(parameters, x[part::parts], values[part::parts]) for part in range(parts)])
    return _row(f"merging {parts} parts", trial, merged, _written(parameters, x, values))


def _row(what: str, trial: Trial, found: MatrixState, wanted: MatrixState, refused: int = 0) -> ExactRow:
    gains = kernel.inverse_gram(found), kernel.inverse_gram(wanted)
    return ExactRow(
        what, trial.keys, trial.load, trial.n_pairs, distance(found.matrix, wanted.matrix), distance(*gains), refused
    )


# --- P over very many writes ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EnduranceRow:
    """One scenario of writes without end."""

    scenario: str
    rank: int
    n_writes: int
    findings: int  # of verify's numeric level, over all looks
    looks: int
    smallest: float  # smallest eigenvalue of P at any look, ÷ 1/λ
    largest: float  # largest diagonal element of P at any look, ÷ 1/λ
    refused: int  # batches that the kernel refused


Draw = Callable[[np.random.Generator, int, int], Float32Array]  # (generator, n, key_dim) -> keys


def _repeated(distinct: int) -> Draw:
    return lambda random, n, key_dim: text_like_keys(distinct, key_dim, 1)[random.integers(0, distinct, n)]


def _fresh(random: np.random.Generator, n: int, key_dim: int) -> Float32Array:
    return text_like_keys(n, key_dim, int(random.integers(1 << 30)))


SCENARIOS: dict[str, tuple[Draw, float]] = {
    "32 keys again and again, no decay": (_repeated(32), 1.0),
    "32 keys again and again, decay 0.999": (_repeated(32), 0.999),
    "one key again and again, no decay": (_repeated(1), 1.0),
    "one key again and again, decay 0.9": (_repeated(1), 0.9),
    "new keys, no decay": (_fresh, 1.0),
    "new keys, decay 0.9999": (_fresh, 0.9999),
}


def endurance_row(
    scenario: str, n_writes: int = 1_000_000, rank: int = 64, seed: int = 0, dim: int = 16
) -> EnduranceRow:
    """Write with β log-uniform over its range; look at P 20 times on the way."""
    draw, decay = SCENARIOS[scenario]
    random = np.random.default_rng([seed, 8])
    parameters = Parameters(dim, 2 * rank, rank)
    state = empty_state(parameters)
    prior = 1 / float(np.float32(parameters.ridge))
    findings = looks = refused = 0
    smallest, largest = np.inf, 0.0
    written, due = 0, n_writes / 20
    while written < n_writes:
        n = min(_BATCH, n_writes - written, max(1, round(n_writes / 20)))
        gates = np.exp2(random.uniform(*GATE_EXPONENTS, n)).astype(np.float32)
        x = kernel.project(draw(random, n, parameters.key_dim), parameters)
        try:
            kernel.write(state, x, random.standard_normal((n, dim), np.float32), decay, gates)
        except GateError:
            refused += 1
        written += n
        if written >= due:
            due += n_writes / 20
            looks += 1
            findings += sum(1 for _ in check_state(state, scenario))
            gain = kernel.inverse_gram(state).astype(np.float64)
            smallest = min(smallest, float(np.linalg.eigvalsh(gain)[0]) / prior)
            largest = max(largest, float(np.diagonal(gain).max()) / prior)
    return EnduranceRow(scenario, rank, written, findings, looks, smallest, largest, refused)
