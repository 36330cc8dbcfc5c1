"""Keys and values for the commands: .npy files, or JSON lines on stdin.

Purpose: turn what a person gives into float32 arrays, or say in one sentence which line or row is wrong and why.
Invariants: a batch is whole and valid before it is handed on; nothing is unpickled; a .npy file is mapped, so its
header cannot make us allocate more than the file holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt

from emm_tools.exits import InputProblem

Float32Array = npt.NDArray[np.float32]
LINE_BYTES_MAX = 64 << 20
GATES = ("write_gate", "decay_gate")


@dataclass(frozen=True, slots=True)
class Batch:
    """Some pairs (or keys alone). `where` names them for messages: a file, or the lines they came from."""

    keys: Float32Array  # (n, key_dim)
    values: Float32Array | None  # (n, dim); None where only keys were asked for
    gates: dict[str, Float32Array]  # (n,) each; only those that the lines name
    where: str
    from_lines: bool = False


# --- .npy ------------------------------------------------------------------------------------


def load_array(path: Path) -> Float32Array:
    """A (n, width) array of a floating type, as C-contiguous float32; anything else is refused."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # .npy alone, never a pickle or an archive
    except Exception as error:  # a hostile header ends in almost any: TokenError, TypeError, OverflowError, MemoryError
        raise InputProblem(f"{path} is not a whole .npy file: {error or type(error).__name__}") from error
    if array.ndim != 2:
        raise InputProblem(f"{path} holds an array of shape {array.shape}, expected (n, width).")
    if array.dtype.kind != "f":
        raise InputProblem(f"{path} has dtype {array.dtype}, expected a floating type.")
    with np.errstate(over="ignore"):
        numbers = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.isfinite(numbers).all(axis=1)
    if not finite.all():
        raise InputProblem(f"{path} row {int(np.argmin(finite))} has a NaN, an infinity or a number beyond float32.")
    return numbers


def from_files(keys: Path, values: Path | None) -> Batch:
    """One batch from one or two .npy files with equally many rows."""
    key_rows = load_array(keys)
    value_rows = None if values is None else load_array(values)
    if value_rows is not None and len(value_rows) != len(key_rows):
        raise InputProblem(f"{keys} has {len(key_rows)} rows but {values} has {len(value_rows)}.")
    return Batch(key_rows, value_rows, {}, str(keys))


# --- JSON lines ------------------------------------------------------------------------------


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a finite number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field occurs twice")
    return found


def _numbers(line: int, name: str, found: Any, width: int) -> Float32Array:
    if not isinstance(found, list) or not all(type(item) in (int, float) for item in found):
        raise InputProblem(f'line {line}: "{name}" must be a list of numbers.')
    if len(found) != width:
        raise InputProblem(f'line {line}: "{name}" has {len(found)} numbers, expected {width}.')
    try:
        with np.errstate(over="ignore"):
            row = np.array(found, dtype=np.float64).astype(np.float32)
    except OverflowError:
        row = np.array([np.inf], np.float32)
    if not np.isfinite(row).all():
        raise InputProblem(f'line {line}: "{name}" has a number beyond float32.')
    return row


def _parsed(line: int, data: bytes, allowed: tuple[str, ...], needed: tuple[str, ...]) -> dict[str, Any]:
    try:
        found = json.loads(data, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except RecursionError:
        raise InputProblem(f"line {line} is not JSON: nested too deeply.") from None
    except ValueError as error:
        raise InputProblem(f"line {line} is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise InputProblem(f"line {line}: expected an object with {' and '.join(needed)}.")
    for name in needed:
        if name not in found:
            raise InputProblem(f'line {line} has no "{name}".')
    for name in found:
        if name not in allowed:
            raise InputProblem(f'line {line}: unexpected field "{name}"; this command takes {", ".join(allowed)}.')
    return found


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while data := stream.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(data) > LINE_BYTES_MAX:
            raise InputProblem(f"line {number} is longer than {LINE_BYTES_MAX >> 20} MiB.")
        if data.strip():
            yield number, data


def _gates(rows: list[dict[str, Any]], numbers: list[int]) -> dict[str, Float32Array]:
    gates: dict[str, Float32Array] = {}
    for name in GATES:
        if any(name in row for row in rows):
            column = [_numbers(line, name, [row.get(name, 1.0)], 1) for line, row in zip(numbers, rows, strict=True)]
            gates[name] = np.concatenate(column)
    return gates


def from_lines(
    stream: BinaryIO, *, key_dim: int, dim: int | None, batch: int, gates: tuple[str, ...] = ()
) -> Iterator[Batch]:
    """Batches of up to `batch` lines each; `dim` None asks for keys alone. Blank lines are skipped."""
    needed = ("key",) if dim is None else ("key", "value")
    lines = _lines(stream)
    while chunk := list(islice(lines, batch)):
        numbers = [number for number, _ in chunk]
        rows = [_parsed(number, data, needed + gates, needed) for number, data in chunk]
        keys = np.stack([_numbers(n, "key", row["key"], key_dim) for n, row in zip(numbers, rows, strict=True)])
        values = None
        if dim is not None:
            values = np.stack([_numbers(n, "value", row["value"], dim) for n, row in zip(numbers, rows, strict=True)])
        yield Batch(keys, values, _gates(rows, numbers), f"lines {numbers[0]} to {numbers[-1]}", from_lines=True)


def json_number(value: np.float32) -> float:
    """The shortest decimal number that reads back as the same float32."""
    return float(str(value))
