"""The last level: numbers that the arithmetic guarantees whatever was written (spec P-5).

Purpose: find a state that is whole by its checksums and still could not have been computed. Invariants: pure;
P is formed in float64 a band of rows at a time, so no second matrix of the state's size is held; the slack
of 2⁻¹⁰ is the format's, not a guess of this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from emm.state import Float32Array, GainState, MatrixState
from emm.verify.finding import Finding, Span, finding

SLACK: Final = 1.0 + 2.0**-10
_BAND_ELEMENTS: Final = 1 << 20


def check_state(state: MatrixState, file: str) -> Iterator[Finding]:
    """At most one finding of each kind, at the first element that shows it."""
    arrays = [("M", state.matrix)]
    if state.gain is not None:
        arrays += [("P", state.gain.pbar), ("U", state.gain.u)]
    sound = True
    for region, array in arrays:
        for row, column in _first(_bands(array), lambda band: ~np.isfinite(band)):
            sound = False
            yield _at("not-finite", f"{region} holds a number that is not finite", file, region, row, column, array)
    if state.gain is None or not sound:
        return
    yield from _check_symmetry(state.gain, file)
    yield from _check_bounds(state, state.gain, file)


def _bands(array: Float32Array) -> Iterator[tuple[int, Float32Array]]:
    n_rows = max(1, _BAND_ELEMENTS // max(1, array.shape[1]))
    for start in range(0, len(array), n_rows):
        yield start, array[start : start + n_rows]


def _first(
    bands: Iterator[tuple[int, Float32Array]], wrong: Callable[[Float32Array], npt.NDArray[np.bool_]]
) -> Iterator[tuple[int, int]]:
    """(row, column) of the first element for which `wrong` holds; nothing when there is none."""
    for start, band in bands:
        mask = wrong(band)
        if mask.any():
            row, column = np.unravel_index(int(np.argmax(mask)), mask.shape)
            yield start + int(row), int(column)
            return


def _at(code: str, message: str, file: str, region: str, row: int, column: int, array: Float32Array) -> Finding:
    spans = (Span(region, (row, row), (column, column)),)
    return finding(code, message, rule="P-5", file=file, spans=spans, found=float(array[row, column]))


def _check_symmetry(gain: GainState, file: str) -> Iterator[Finding]:
    bits = gain.pbar.view(np.uint32)
    for start, band in _bands(gain.pbar):
        differs = band.view(np.uint32) != bits[:, start : start + len(band)].T
        if differs.any():
            row, column = (int(i) for i in np.unravel_index(int(np.argmax(differs)), differs.shape))
            spans = (Span("P", (start + row, start + row), (column, column)),)
            yield finding(
                "gain-not-symmetric",
                "P̄ is not symmetric to the bit",
                rule="P-5",
                file=file,
                spans=spans,
                expected=float(gain.pbar[column, start + row]),
                found=float(gain.pbar[start + row, column]),
            )
            return


def _check_bounds(state: MatrixState, gain: GainState, file: str) -> Iterator[Finding]:
    """0 < Pᵢᵢ ≤ P₀(1+2⁻¹⁰) and |Pᵢⱼ| ≤ √(PᵢᵢPⱼⱼ)(1+2⁻¹⁰)."""
    u = gain.u[: gain.count].astype(np.float64)
    sigma = np.array([-1.0 if gain.signs >> k & 1 else 1.0 for k in range(gain.count)])
    diagonal = np.diagonal(gain.pbar).astype(np.float64) * gain.scale + gain.leak - (sigma[:, None] * u * u).sum(axis=0)
    prior = float(np.float32(1.0) / np.float32(state.parameters.ridge))
    outside = ~((diagonal > 0) & (diagonal <= prior * SLACK))
    if outside.any():
        row = int(np.argmax(outside))
        yield finding(
            "gain-out-of-bounds",
            "a diagonal element of P is out of bounds",
            rule="P-5",
            file=file,
            spans=(Span("P", (row, row), (row, row)),),
            expected=f"in (0, {prior * SLACK}]",
            found=float(diagonal[row]),
        )
        return
    root = np.sqrt(diagonal)
    for start, band in _bands(gain.pbar):
        rows = slice(start, start + len(band))
        p = band * np.float64(gain.scale) - (u[:, rows].T * sigma) @ u
        p[np.arange(len(band)), np.arange(start, start + len(band))] = diagonal[rows]
        beyond = np.abs(p) > root[rows, None] * root * SLACK
        if beyond.any():
            row, column = (int(i) for i in np.unravel_index(int(np.argmax(beyond)), beyond.shape))
            yield finding(
                "gain-out-of-bounds",
                "an element of P is larger than its diagonal allows",
                rule="P-5",
                file=file,
                spans=(Span("P", (start + row, start + row), (column, column)),),
                expected=f"at most {root[start + row] * root[column] * SLACK:g}",
                found=float(p[row, column]),
            )
            return
