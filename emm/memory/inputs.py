"""What a caller hands in: checked once, before anything is applied or logged.

Purpose: turn array-likes into exact float32 arrays, or refuse with the offending row named.
Invariants: nothing is converted in silence that would change a number's meaning (no NaN, infinity,
complex, object or masked arrays; float64 is rounded to float32); limits are those of the spec (A-, S-rules).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emm.codec.pairs import PairBatch
from emm.errors import GateError, InputError
from emm.layout import INPUT_MAX, WRITE_GATE_MAX, WRITE_GATE_MIN, Rule
from emm.state import Float32Array, Parameters

ArrayLike = npt.ArrayLike


def matrix_of(name: str, given: ArrayLike, columns: int) -> Float32Array:
    """`given` as (n, columns) float32; one vector of `columns` numbers counts as n = 1."""
    array = _numeric(name, given)
    if array.ndim == 1 and array.shape[0] == columns:
        array = array.reshape(1, columns)
    if array.ndim != 2 or array.shape[1] != columns:
        raise InputError(f"{name} has the wrong shape", expected=f"(n, {columns})", found=tuple(array.shape))
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = np.ascontiguousarray(array, dtype=np.float32)
    good = np.abs(numbers) <= np.float32(INPUT_MAX)
    if not good.all():
        row = int(np.argmin(good.all(axis=1)))
        raise InputError(
            f"{name}, row {row}, holds a number that is not finite or beyond 2^40",
            expected="|number| ≤ 2^40",
            found=_first_bad(numbers[row]),
        )
    return numbers


def gates_of(
    name: str, given: ArrayLike, n_pairs: int, minimum: float, maximum: float, *, open_minimum: bool = False
) -> Float32Array:
    """A scalar or (n_pairs,) array of gates as (n_pairs,) float32 within its range."""
    array = _numeric(name, given)
    if array.shape not in ((), (n_pairs,)):
        raise InputError(f"{name} has the wrong shape", expected=f"a number or ({n_pairs},)", found=tuple(array.shape))
    with np.errstate(over="ignore", invalid="ignore"):
        gates = np.array(np.broadcast_to(array, (n_pairs,)), dtype=np.float32)
    low = gates > minimum if open_minimum else gates >= minimum
    good = low & (gates <= maximum)
    if not good.all():
        row = int(np.argmin(good))
        bracket = "(" if open_minimum else "["
        raise GateError(
            f"{name}, row {row}, is out of range",
            expected=f"{bracket}{minimum:g}, {maximum:g}]",
            found=float(gates[row]),
        )
    return gates


def write_batch(
    parameters: Parameters, keys: ArrayLike, values: ArrayLike, decay_gate: ArrayLike, write_gate: ArrayLike
) -> PairBatch:
    """A validated write: keys (n, key_dim), values (n, dim), gates scalar or (n,)."""
    key_rows, value_rows = pair_rows(parameters, keys, values)
    gate_max = 1.0 if parameters.rule is Rule.GATED_DELTA else WRITE_GATE_MAX
    return PairBatch(
        parameters.rank,
        key_rows,
        value_rows,
        gates_of("write_gate", write_gate, len(key_rows), WRITE_GATE_MIN, gate_max),
        gates_of("decay_gate", decay_gate, len(key_rows), 0.0, 1.0, open_minimum=True),
    )


def pair_rows(parameters: Parameters, keys: ArrayLike, values: ArrayLike) -> tuple[Float32Array, Float32Array]:
    """keys (n, key_dim) and values (n, dim), equally many."""
    rows, value_rows = key_rows(parameters, keys), matrix_of("values", values, parameters.dim)
    if len(rows) != len(value_rows):
        raise InputError("keys and values differ in number", expected=f"{len(rows)} values", found=len(value_rows))
    return rows, value_rows


def key_rows(parameters: Parameters, keys: ArrayLike) -> Float32Array:
    """keys (n, key_dim), each with a norm that the arithmetic allows."""
    rows = matrix_of("keys", keys, parameters.key_dim)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))  # without a copy in float64
    if norms.size and norms.max() > INPUT_MAX:
        row = int(np.argmax(norms))
        raise InputError(f"keys, row {row}, has a norm beyond 2^40", expected="‖key‖ ≤ 2^40", found=float(norms[row]))
    return rows


def integer(name: str, given: object) -> int:
    """`given` as an int, if it is an integer and not a bool."""
    if not isinstance(given, (int, np.integer)) or isinstance(given, bool):
        raise InputError(f"{name} must be an integer", found=repr(given))
    return int(given)


def expand_at_of(given: float) -> float:
    """A saturation threshold, 0 to 1, as the float32 that the format stores."""
    if isinstance(given, bool) or not (isinstance(given, (int, float, np.floating)) and 0.0 <= given <= 1.0):
        raise InputError("expand_at is out of range", expected="0 to 1", found=repr(given))
    return float(np.float32(given))


def ridge_of(given: float) -> float:
    """λ as the float32 that the format stores; its range is checked with the other parameters."""
    if isinstance(given, bool) or not isinstance(given, (int, float, np.floating)):
        raise InputError("ridge must be a number", found=repr(given))
    try:
        with np.errstate(over="ignore"):
            return float(np.float32(given))
    except OverflowError:  # an int beyond every float
        return float("inf")


def _numeric(name: str, given: ArrayLike) -> npt.NDArray[np.generic]:
    if np.ma.is_masked(given):  # asarray would drop the mask and store what it hides
        raise InputError(f"{name} is masked in places", expected="numbers", found="a masked array")
    try:
        array = np.asarray(given)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name} is not an array of numbers: {error}") from None
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} is not an array of real numbers", expected="float32", found=str(array.dtype))
    return array


def _first_bad(row: Float32Array) -> float:
    return float(row[np.argmin(np.abs(row) <= np.float32(INPUT_MAX))])
