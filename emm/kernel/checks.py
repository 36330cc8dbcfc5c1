"""What the kernel accepts, and how it says no (rules A-1, A-9 to A-11).

Purpose: shapes, types, finiteness and gate ranges are checked in one place, before any arithmetic,
for both backends; and a refusal found by the arithmetic becomes an error that names row, rule and
number. Invariants: nothing here changes a state; every message names the offending row.
"""

from __future__ import annotations

import enum
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from emm.errors import GateError, InputError
from emm.layout import INPUT_MAX, UNLEARN_DENOMINATOR_MIN, WRITE_GATE_MAX, WRITE_GATE_MIN, Rule
from emm.state import Float32Array, GainState, MatrixState

SQUARE_MAX = INPUT_MAX * INPUT_MAX  # dot(x, x) stays at or below it; 2⁸⁰, exactly a float32


class Refusal(enum.IntEnum):
    """Why a write is refused; the compiled kernel returns the same numbers."""

    NONE = 0
    KEY_NORM = 1  # dot(x, x) is above 2⁸⁰ or not a number
    INDEFINITE = 2  # s = xᵀPx is negative or not finite
    DENOMINATOR = 3  # d = 1 − β·s is below 2⁻⁶ (unlearn)
    GAIN = 4  # g, u or P̄ would not be finite
    MATRIX = 5  # M would not be finite
    INPUT = 6  # a number of x or a value is outside ±2⁴⁰; `dispatch` finds it again and names it


class Refused(Exception):
    """Raised by a backend before it has changed anything."""

    def __init__(self, reason: Refusal, row: int, value: float = math.nan) -> None:
        super().__init__(reason, row, value)
        self.reason, self.row, self.value = reason, row, value


def refusal_error(refused: Refused) -> InputError:
    """The error that a caller sees for a refusal."""
    row, value = refused.row, refused.value
    match refused.reason:
        case Refusal.KEY_NORM:
            return InputError(f"row {row}: the key is too long", rule="A-9", expected="dot(x, x) ≤ 2^80", found=value)
        case Refusal.DENOMINATOR:
            limit = UNLEARN_DENOMINATOR_MIN
            return GateError(
                f"row {row}: the pair cannot be taken out exactly; re-solve from the kept pairs instead",
                rule="A-14",
                expected=f"1 − β·xᵀPx ≥ {limit}",
                found=value,
            )
        case Refusal.INDEFINITE:
            return GateError(
                f"row {row}: the inverse Gram matrix is no longer positive along this key",
                rule="A-13",
                expected="xᵀPx finite and ≥ 0",
                found=value,
            )
        case Refusal.GAIN:
            return GateError(f"row {row}: the gain of this key is not finite", rule="A-13")
        case _:
            return GateError("the write would store a number that is not finite", rule="A-9")


def as_rows(name: str, array: npt.ArrayLike, columns: int) -> Float32Array:
    """`array` as a C-contiguous (n, columns) float32 array; a single vector counts as one row."""
    given = np.asarray(array)
    if given.dtype != np.float32:
        raise InputError(f"{name} must be float32", rule="A-9", expected="float32", found=str(given.dtype))
    if given.ndim == 1:
        given = given.reshape(1, -1)
    if given.ndim != 2 or given.shape[1] != columns:
        raise InputError(f"{name} has the wrong shape", rule="A-9", expected=f"(n, {columns})", found=given.shape)
    return np.require(given, requirements=["C_CONTIGUOUS", "ALIGNED"])


def as_gates(name: str, gate: npt.ArrayLike, n: int, rule: Rule) -> Float32Array:
    """`gate` as an (n,) float32 array inside its range; `name` is "decay" or "gate"."""
    given: npt.NDArray[Any] = np.asarray(gate)
    if given.dtype.kind not in "fiu":
        raise InputError(f"{name} must be a number", rule="A-10", found=str(given.dtype))
    if given.ndim > 1 or (given.ndim == 1 and given.shape != (n,)):
        raise InputError(f"{name} has the wrong shape", rule="A-10", expected=f"a number or ({n},)", found=given.shape)
    with np.errstate(over="ignore", under="ignore"):
        gates = np.ascontiguousarray(np.broadcast_to(given.astype(np.float32), (n,)))
    if name == "decay":
        bad, wanted = ~((gates > 0) & (gates <= 1)), "0 < α ≤ 1"
    else:
        top = 1.0 if rule is Rule.GATED_DELTA else WRITE_GATE_MAX
        bad, wanted = ~((gates >= WRITE_GATE_MIN) & (gates <= top)), f"2^-10 ≤ β ≤ {top:g}"
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"row {row}: {name} is out of range", rule="A-10", expected=wanted, found=float(gates[row]))
    return gates


def same_count(**counts: int) -> int:
    """The number of rows all arguments agree on."""
    if len(set(counts.values())) != 1:
        raise InputError("the arguments differ in their number of rows", rule="A-9", found=counts)
    return next(iter(counts.values()))


def check_state(state: MatrixState, *, writable: bool = False) -> None:
    """Programmer errors: arrays of the wrong kind reach no backend (a mapped file may only be read)."""
    parameters = state.parameters
    check_matrix(state)
    assert state.matrix.flags.writeable or not writable, "matrix is read-only: copy the state before writing"
    assert (state.gain is not None) == (parameters.rule is Rule.PRECONDITIONED), "gain belongs to rule 2"
    if state.gain is not None:
        check_gain(state.gain, parameters.rank)


def check_matrix(state: MatrixState) -> None:
    """M is what the parameters say."""
    _check_array("matrix", state.matrix, (state.parameters.dim, state.parameters.rank))


def check_gain(gain: GainState, rank: int) -> None:
    """P̄, U and the count are what the rank says."""
    _check_array("pbar", gain.pbar, (rank, rank))
    _check_array("u", gain.u, (16, rank))
    assert 0 <= gain.count < 16, "count is 0 to 15"


def _check_array(name: str, array: Float32Array, shape: tuple[int, int]) -> None:
    assert array.shape == shape, f"{name} has shape {array.shape}, not {shape}"
    assert array.dtype == np.float32 and array.flags.c_contiguous and array.flags.aligned, (
        f"{name} must be plain float32"
    )
