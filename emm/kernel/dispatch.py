"""The kernel's face: validated operations on states, carried out by the best backend there is.

Purpose: one place checks arguments (so a backend may trust them), chooses the backend once and says
so when the compiled one is absent. `EMM_KERNEL` = auto | reference | portable | avx2 | avx512 | neon
forces one; `EMM_THREADS` and `use_threads` say how many threads it may use. Invariants: every backend
gives the same bits (tests/kernel holds them to it); an operation that raises leaves the state as it was,
to the bit.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from emm.errors import InputError
from emm.kernel import reference
from emm.kernel.checks import Refused, as_gates, as_rows, check_state, refusal_error, same_count
from emm.kernel.normaliser import normalised
from emm.kernel.projection import Plan, plan
from emm.layout import INPUT_MAX, Flag, Projection, Rule
from emm.state import Float32Array, GainState, MatrixState, Parameters

LEVELS = ("reference", "portable", "avx2", "avx512", "neon")
FLOAT32_MAX = float(np.finfo(np.float32).max)


class Backend(Protocol):
    """Arithmetic on arguments that have been checked. `update`, `forget` and `recall` raise `Refused`."""

    NAME: str  # "reference" or "native"
    LEVEL: str  # one of LEVELS
    FINDS_OUTSIDE: bool  # whether the arithmetic itself refuses numbers out of range (Refusal.INPUT)

    def first_outside(self, rows: Float32Array, bound: float) -> int: ...

    def transform(self, keys: Float32Array, plan: Plan, rank: int) -> Float32Array | int: ...  # int: a bad row

    def recall(self, matrix: Float32Array, x: Float32Array) -> Float32Array: ...

    def recall_one(self, state: MatrixState, x: npt.ArrayLike) -> Float32Array | None: ...

    def write_one(
        self, state: MatrixState, x: npt.ArrayLike, values: npt.ArrayLike, decay: object, gate: object
    ) -> Float32Array | None: ...

    def update(
        self, state: MatrixState, x: Float32Array, values: Float32Array, decay: Float32Array, gate: Float32Array
    ) -> Float32Array: ...

    def dense(self, gain: GainState) -> Float32Array: ...

    def forget(self, state: MatrixState, x: Float32Array) -> None: ...


_lock = threading.Lock()
_chosen: Backend | None = None


def available_levels() -> list[str]:
    """The levels this machine can run, the reference first, the fastest last."""
    try:
        from emm.kernel import native
    except ImportError:
        return ["reference"]
    return ["reference", *native.levels()]


def backend_at(level: str) -> Backend:
    """The backend of one level; `InputError` when it is unknown or this machine cannot run it."""
    if level not in LEVELS or level not in (found := available_levels()):
        known = "auto, " + ", ".join(LEVELS if level not in LEVELS else found)
        raise InputError("EMM_KERNEL names a kernel that cannot run here", expected=known, found=level)
    if level == "reference":
        return cast(Backend, reference)
    from emm.kernel import native

    return native.Native(level)


def _choose() -> Backend:
    wanted = os.environ.get("EMM_KERNEL", "auto").strip().lower() or "auto"
    if wanted != "auto":
        return backend_at(wanted)
    best = available_levels()[-1]
    if best == "reference":
        warnings.warn(
            "the compiled EMM kernel is not installed; the NumPy reference serves, with the same results, "
            "some hundred times slower",
            RuntimeWarning,
            stacklevel=4,
        )
    return backend_at(best)


def active() -> Backend:
    """The backend in use, chosen at the first call."""
    global _chosen
    if _chosen is None:
        with _lock:
            if _chosen is None:
                _chosen = _choose()
    return _chosen


@contextmanager
def forced(level: str) -> Iterator[Backend]:
    """Use one level inside a `with` block (tests and benchmarks; not for several threads at once)."""
    global _chosen
    before, _chosen = _chosen, backend_at(level)
    try:
        yield _chosen
    finally:
        _chosen = before


def backend() -> str:
    """Which kernel computes: "native" or "reference"."""
    return active().NAME


def level() -> str:
    """The level in use: reference, portable, avx2 or avx512."""
    return active().LEVEL


# --- operations ----------------------------------------------------------------------------------


def _bounded(name: str, rows: Float32Array, bound: float, before: int = 0) -> Float32Array:
    """`rows`, unless one of them, `before` more than counted here, holds a number out of range."""
    row = active().first_outside(rows, bound)
    if row >= 0:
        bad = rows[row][~(np.abs(rows[row]) <= bound)]
        expected = "finite numbers" if bound == FLOAT32_MAX else "finite numbers, at most 2^40"
        row += before
        raise InputError(f"{name}, row {row}: number out of range", rule="A-9", expected=expected, found=float(bad[0]))
    return rows


def project(keys: npt.ArrayLike, parameters: Parameters) -> Float32Array:
    """φ (rules A-6 to A-8): keys (n, key_dim) float32 -> x (n, rank) float32. `InputError` names a bad row."""
    rows = as_rows("keys", keys, parameters.key_dim)
    if parameters.projection is Projection.NONE or not active().FINDS_OUTSIDE:
        _bounded("keys", rows, FLOAT32_MAX)
    if parameters.projection is Projection.NONE:
        x = np.zeros((rows.shape[0], parameters.rank), np.float32)
        x[:, : parameters.key_dim] = rows
        return x
    found = active().transform(rows, plan(parameters.key_dim, parameters.seed), parameters.rank)
    if isinstance(found, int):
        _bounded("keys", rows[found:], FLOAT32_MAX, found)
        raise AssertionError("the kernel refused a row that is finite")
    return found


def write(
    state: MatrixState,
    x: npt.ArrayLike,  # (n, rank) float32, φ of the keys
    values: npt.ArrayLike,  # (n, dim) float32
    decay: npt.ArrayLike = 1.0,  # α, a number or (n,)
    gate: npt.ArrayLike = 1.0,  # β, a number or (n,)
) -> Float32Array:
    """Write n pairs in order (rules A-11 to A-13), in place; sets DECAYED where a gate decays.

    Returns ‖e‖₂ of each pair, what the memory got wrong before it (0 for rule 0 and for no-ops). A normaliser goes.
    Raises `InputError` or `GateError` naming the row; then the state is as it was.
    """
    parameters = state.parameters
    try:
        done = (_chosen or active()).write_one(state, x, values, decay, gate)
    except Refused as refused:
        raise _explained(refused, *_pairs(state, x, values)) from None
    if done is not None:
        if state.normaliser is not None:
            state.drop_normaliser()
        return done
    check_state(state, writable=True)
    rows, targets = _pairs(state, x, values)
    n = same_count(x=rows.shape[0], values=targets.shape[0])
    decays = as_gates("decay", decay, n, parameters.rule)
    gates = as_gates("gate", gate, n, parameters.rule)
    surprise = _update(state, rows, targets, decays, gates)
    if (decays != 1).any():
        state.flags |= Flag.DECAYED
    return surprise


def unlearn(
    state: MatrixState,
    x: npt.ArrayLike,  # (n, rank) float32
    values: npt.ArrayLike,  # (n, dim) float32
    gate: npt.ArrayLike = 1.0,  # β the pairs were written with
    rank: int | None = None,  # rank at which the pairs were written; x counts as zero at and beyond it
) -> Float32Array:
    """Take n pairs out again (rule A-14; rule 2 only): the write with gate −β. In place; errors as `write`."""
    check_state(state, writable=True)
    parameters = state.parameters
    if parameters.rule is not Rule.PRECONDITIONED:
        raise InputError("only the preconditioned rule can unlearn", rule="A-14", found=parameters.rule.name)
    rows, targets = _pairs(state, x, values)
    n = same_count(x=rows.shape[0], values=targets.shape[0])
    gates = as_gates("gate", gate, n, parameters.rule)
    if rank is not None and rank != parameters.rank:
        if not (0 < rank < parameters.rank and rank % 16 == 0):
            raise InputError("not a rank this memory has had", rule="A-14", expected=parameters.rank, found=rank)
        rows = rows.copy()
        rows[:, rank:] = 0
    return _update(state, rows, targets, np.ones(n, np.float32), -gates)


def forget(state: MatrixState, x: npt.ArrayLike) -> None:
    """Make M x = 0 for all rows of x (n, rank) jointly (rule A-16), in place; sets FORGOTTEN. P stays."""
    check_state(state, writable=True)
    rows = _bounded("keys", as_rows("x", x, state.parameters.rank), INPUT_MAX)
    try:
        active().forget(state, rows)
    except Refused as refused:
        raise refusal_error(refused) from None
    state.flags |= Flag.FORGOTTEN


def recall(state: MatrixState, x: npt.ArrayLike) -> Float32Array:
    """M x for every row of x, divided by a normaliser where there is one (A-17, A-23): (n, rank) -> (n, dim)."""
    try:
        products = (_chosen or active()).recall_one(
            state, x
        )  # first, and with nothing before it: it takes microseconds
        if products is None:
            products = _products(state, x)
    except Refused as refused:
        _bounded("queries", as_rows("x", x, state.parameters.rank), INPUT_MAX)
        raise refusal_error(refused) from None
    if state.normaliser is None:
        return products
    return normalised(state.normaliser, as_rows("x", x, state.parameters.rank), products)


def _products(state: MatrixState, x: npt.ArrayLike) -> Float32Array:
    check_state(state)
    rows = as_rows("x", x, state.parameters.rank)
    if not active().FINDS_OUTSIDE:
        _bounded("queries", rows, INPUT_MAX)
    return active().recall(state.matrix, rows)


def inverse_gram(state: MatrixState) -> Float32Array:
    """P with everything deferred folded in: a new (rank, rank) float32 array, symmetric to the bit (rule 2 only)."""
    check_state(state)
    if state.gain is None:
        raise InputError("only the preconditioned rule keeps P", rule="A-20", found=state.parameters.rule.name)
    return active().dense(state.gain)


def _pairs(state: MatrixState, x: npt.ArrayLike, values: npt.ArrayLike) -> tuple[Float32Array, Float32Array]:
    rows, targets = as_rows("x", x, state.parameters.rank), as_rows("values", values, state.parameters.dim)
    if not active().FINDS_OUTSIDE:
        _bounded("keys", rows, INPUT_MAX)
        _bounded("values", targets, INPUT_MAX)
    return rows, targets


def _update(
    state: MatrixState, x: Float32Array, values: Float32Array, decay: Float32Array, gate: Float32Array
) -> Float32Array:
    if x.shape[0] == 0:
        return np.zeros(0, np.float32)
    try:
        surprise = active().update(state, x, values, decay, gate)
    except Refused as refused:
        raise _explained(refused, x, values) from None
    if state.normaliser is not None:
        state.drop_normaliser()
    return surprise


def _explained(refused: Refused, x: Float32Array, values: Float32Array) -> InputError:
    """The error for a refusal; a number out of range anywhere in the batch is named first."""
    _bounded("keys", x, INPUT_MAX)
    _bounded("values", values, INPUT_MAX)
    return refusal_error(refused)
