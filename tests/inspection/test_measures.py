"""Spectrum, heat map and history: the right numbers, in bounded memory, and said where there are none.

Red when: a chunked sum differs from NumPy's decomposition, a large matrix is widened whole, a limit is silent, a cell
is not the mean of its numbers, or a saturation in the history is not that of the memory at that commit.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import emm
from emm import inspection, kernel
from emm.inspection import functional
from emm.inspection.history import UTILISATION_POINTS_MAX

MIB = 1 << 20


def matrix_of(rows: np.ndarray) -> inspection.Matrix:
    return inspection.Matrix("test", 1, 1, rows.astype(np.float32))


@pytest.mark.parametrize("shape", [(40, 16), (16, 40), (1, 16), (16, 1), (33, 33)])
def test_the_spectrum_is_that_of_numpy(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    found = inspection.spectrum_of(matrix)
    assert found.values == pytest.approx(np.linalg.svd(matrix.astype(float), compute_uv=False), abs=1e-6)
    energy = np.square(found.values) / np.square(found.values).sum()
    assert found.effective_rank == pytest.approx(np.exp(-(energy * np.log(energy)).sum()))


def test_the_rank_that_holds_the_energy() -> None:
    found = inspection.spectrum_of(np.diag([3.0, 1.0, 0.0]).astype(np.float32))  # energies 9 and 1
    assert [found.rank_holding(share) for share in (0.5, 0.9, 0.91, 1.0)] == [1, 1, 2, 2]
    zero = inspection.spectrum_of(np.zeros((4, 3), np.float32))
    assert zero.effective_rank == 0.0 and zero.rank_holding(0.9) is None


@pytest.mark.parametrize(("bad", "said"), [(np.nan, "1 numbers that are not finite"), (np.inf, "not finite")])
def test_a_matrix_that_holds_no_number_is_said_and_no_crash(bad: float, said: str) -> None:
    matrix = np.ones((4, 3), np.float32)
    matrix[2, 1] = bad
    found = inspection.spectrum_of(matrix)
    assert found.values == () and found.effective_rank is None and said in (found.problem or "")
    cells = inspection.heat_map(matrix_of(matrix)).cells
    assert np.isnan(cells).sum() == 1 and np.isnan(cells[2, 1])


def test_the_limit_of_the_spectrum_is_stated() -> None:
    found = inspection.spectrum_of(np.ones((40, 33), np.float32), side_max=32)
    assert found.effective_rank is None and found.problem is not None
    assert "33" in found.problem and "32" in found.problem


def peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(65_536, 256), (256, 65_536)])
def test_a_large_matrix_is_never_widened_whole(shape: tuple[int, int]) -> None:
    """M has 64 MiB, in binary64 it would have 128; a chunk has 32, the Gram matrix a half."""
    matrix = np.ones(shape, np.float32)
    whole = inspection.Matrix("test", 1, 1, matrix)
    assert peak(lambda: inspection.spectrum_of(matrix)) < 48 * MIB
    assert peak(lambda: inspection.heat_map(whole)) < 16 * MIB


def test_cells_are_root_mean_squares_also_at_the_edges() -> None:
    matrix = np.random.default_rng(2).standard_normal((70, 33)).astype(np.float32)
    found = inspection.heat_map(matrix_of(matrix), cells_max=16)
    assert (found.rows_per_cell, found.columns_per_cell, found.cells.shape) == (5, 3, (14, 11))
    expected = np.sqrt(np.square(matrix.astype(float)).reshape(14, 5, 11, 3).mean(axis=(1, 3)))
    assert found.cells == pytest.approx(expected) and not found.signed
    uneven = inspection.heat_map(matrix_of(matrix[:66, :31]), cells_max=16).cells
    assert uneven[-1, -1] == pytest.approx(np.sqrt(np.square(matrix[65:66, 30:31].astype(float)).mean()))


def test_small_matrices_keep_their_signs() -> None:
    matrix = np.random.default_rng(3).standard_normal((5, 4)).astype(np.float32)
    found = inspection.heat_map(matrix_of(matrix))
    assert found.signed and np.array_equal(found.cells.astype(np.float32), matrix)


def test_the_history_holds_the_measures_of_each_commit(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    saturations, utilisations = [], []
    n_commits = UTILISATION_POINTS_MAX + 10
    with emm.create(tmp_path / "m", dim=8, rank=16, key_dim=16, expand_at=0) as memory:
        for index in range(n_commits):
            memory.write(rng.standard_normal((1, 16), np.float32), rng.standard_normal((1, 8), np.float32))
            if index == 30:
                memory.checkpoint()
            saturations.append(memory.saturation)
            utilisations.append((inspection.spectrum_of(memory.matrix).effective_rank or 0.0) / 16)
    found = emm.inspect(tmp_path / "m", history=True)
    assert [commit.saturation for commit in found.commits] == pytest.approx(saturations)
    sampled = [index for index, commit in enumerate(found.commits) if commit.utilisation is not None]
    assert len(sampled) == UTILISATION_POINTS_MAX and sampled[0] == 0 and sampled[-1] == n_commits - 1
    shown = [found.commits[index].utilisation for index in sampled]
    assert shown == pytest.approx([utilisations[index] for index in sampled])
    assert found.history_problem is None


def test_functional_utilisation_is_over_the_pairs_that_are_to_be_answered(tmp_path: Path, monkeypatch) -> None:
    """Red when a pair counts that was replaced, unlearned or forgotten, or one that came after is left out."""
    rng = np.random.default_rng(5)
    keys = rng.standard_normal((6, 16), np.float32) * np.float32(0.1)  # so small that a pair can be taken out
    values = rng.standard_normal((9, 8), np.float32)
    with emm.create(tmp_path / "m", dim=8, rank=16, key_dim=16, expand_at=0) as memory:
        memory.write(keys, values[:6])
        memory.write(keys[:2], values[6:8])  # instead of what they had
        memory.unlearn(keys[2:3], values[2:3])
        memory.forget(keys[3:4])
        memory.checkpoint()
        memory.write(keys[3:4], values[8:9])
        held = [(0, 6), (1, 7), (3, 8), (4, 4), (5, 5)]
        recalled = memory.recall(keys[[key for key, _ in held]])
        expected = kernel.functional_utilisation(recalled, values[[value for _, value in held]], 16)
    found = inspection.spectrum(tmp_path / "m").functional
    assert found is not None and found.problem is None and found.n_pairs == len(held)
    assert found.utilisation == pytest.approx(expected, rel=1e-6) and 0.1 < expected < 1
    monkeypatch.setattr(functional, "WORK_MAX", len(held) * 8 * 16 - 1)
    refused = inspection.spectrum(tmp_path / "m").functional
    assert refused is not None and refused.utilisation is None and "half a minute" in str(refused.problem)


def test_functional_utilisation_is_not_guessed(lived: Path) -> None:
    """Red when pairs that are not at hand are passed over."""
    newest = inspection.spectrum(max(lived.glob("*.emm"))).functional
    assert newest is not None and newest.utilisation is None and "no journal" in str(newest.problem)
    min(lived.glob("*.wal")).unlink()
    found = inspection.spectrum(lived).functional
    assert found is not None and found.utilisation is None and found.problem


def test_commits_that_no_generation_reaches_are_named(lived: Path) -> None:
    for old in sorted(lived.glob("*.emm"))[:-2]:
        old.unlink()
    found = emm.inspect(lived, history=True)
    assert [commit.saturation is None for commit in found.commits] == [True] * 5 + [False]
    assert found.history_problem == "commits 1–5 cannot be replayed on a generation that is still there"


@pytest.mark.parametrize("rule", ["gated-delta", "outer-product"])
def test_rules_without_p_say_why_there_is_no_history(tmp_path: Path, rule: str) -> None:
    with emm.create(tmp_path / "m", dim=8, rank=16, key_dim=16, rule=rule, expand_at=0) as memory:
        memory.write(np.eye(3, 16, dtype=np.float32), np.eye(3, 8, dtype=np.float32))
        saturation = memory.saturation
    found = emm.inspect(tmp_path / "m", state=True)
    assert found.state is not None and found.state.saturation == pytest.approx(saturation)
    assert "keeps no P" in (found.history_problem or "") and found.commits[0].saturation is None
