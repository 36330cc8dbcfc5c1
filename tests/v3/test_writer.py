"""The writer of v3 files is the mLSTM of the paper, step by step. Each test says what would turn it red.

`Paper` below transcribes the published equations in their unstabilised form (C, n and h of the matrix memory) without
any code of the writer: no max state, no scaled matrix, gates as they are. Beck et al. 2024, arXiv 2405.04517.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from emm.v3.codec import decode_v3
from emm.v3.layout import V3Flag
from spec.vectors.cell import Mlstm

D = 12


class Paper:
    """C_t = f C + i v kᵀ, n_t = f n + i k, h = C q / max(|nᵀq|, 1), with k = k_in / √d (equations 19 to 27)."""

    def __init__(self, scale_on_query: bool) -> None:
        self.C, self.n = np.zeros((D, D)), np.zeros(D)
        self.on_query = scale_on_query

    def step(self, k_in: np.ndarray, v: np.ndarray, f: float, i: float) -> None:
        k = k_in if self.on_query else k_in / math.sqrt(D)
        for row in range(D):
            for column in range(D):
                self.C[row, column] = f * self.C[row, column] + i * v[row] * k[column]
        for column in range(D):
            self.n[column] = f * self.n[column] + i * k[column]

    def h(self, q_in: np.ndarray) -> np.ndarray:
        q = q_in / math.sqrt(D) if self.on_query else q_in
        return np.array([sum(self.C[row] * q) for row in range(D)]) / max(abs(sum(self.n * q)), 1.0)


@pytest.mark.parametrize("on_query", [False, True])
@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
def test_v3_11_the_writer_is_the_papers_recurrence_at_every_step(
    on_query: bool, sigmoid: bool, normalised: bool
) -> None:
    """Red when a gate, the stabiliser or the place of 1/√d is wrong at any of 40 steps, in C, in n or in an answer."""
    flags = V3Flag(0)
    for given, flag in (
        (on_query, V3Flag.SCALE_ON_QUERY),
        (sigmoid, V3Flag.SIGMOID_INPUT),
        (normalised, V3Flag.KEYS_NORMALISED),
    ):
        flags |= flag if given else V3Flag(0)
    cell, paper = Mlstm(D, flags), Paper(on_query)
    draw = np.random.default_rng(17)
    for _ in range(40):
        key, value, query = draw.standard_normal((3, D))
        forget, pre = float(1 / (1 + np.exp(-draw.normal(2, 2)))), float(draw.normal(0, 4))
        cell.write(key, value, forget, pre)
        gate = 1 / (1 + math.exp(-pre)) if sigmoid else math.exp(pre)
        unit = 1 / np.linalg.norm(key) if normalised else 1.0
        paper.step(key * unit, value, forget, gate)
        scale = math.exp(cell.log_scale)
        np.testing.assert_allclose(scale * cell.matrix, paper.C, rtol=1e-9, atol=1e-12 * np.abs(paper.C).max())
        np.testing.assert_allclose(scale * cell.normaliser, paper.n, rtol=1e-9, atol=1e-12 * np.abs(paper.n).max())
        asked = query / np.linalg.norm(query) if normalised else query
        np.testing.assert_allclose(cell.read(query), paper.h(asked), rtol=1e-8, atol=1e-12)


def test_the_stabiliser_holds_where_the_plain_equations_overflow() -> None:
    """Red when a gate of e^800 overflows, or the largest weight is not 1."""
    cell = Mlstm(D)
    key, value = np.ones(D) / 4, np.arange(D) / 8
    cell.write(key, value, 1.0, 800.0)
    cell.write(key, -value, 1.0, 100.0)
    assert cell.log_scale == 800.0 and np.isfinite(cell.matrix).all()
    np.testing.assert_allclose(cell.matrix, np.outer(value, key / math.sqrt(D)), rtol=1e-12)


def test_the_file_holds_the_cell_rounded_once() -> None:
    """Red when the file's arrays are not the cell's, row by row, values first."""
    cell = Mlstm(3, V3Flag.SCALE_ON_QUERY)
    cell.write([1, 2, 3], [4, 5, 6])
    found = decode_v3(cell.bytes())
    assert found.matrix.tolist() == [[4, 8, 12], [5, 10, 15], [6, 12, 18]]
    assert found.normaliser.tolist() == [1, 2, 3] and found.log_scale == 0.0
