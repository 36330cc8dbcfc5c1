"""φ: nesting, isometry, the strata, and digests that pin it down (rules A-6 to A-8).

Red when: the ordering depends on the rank, a pass of the ordering uses another member of a stratum, the scale or the
signs change, or any draw is taken in another order (the digests).
"""

from __future__ import annotations

import hashlib
from fractions import Fraction

import numpy as np
import pytest

from emm import kernel
from emm.errors import InputError
from emm.kernel.generator import Generator, bounded
from emm.kernel.projection import plan
from emm.layout import SEED_DEFAULT, Projection
from emm.state import Parameters


def keys(n: int, key_dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, key_dim)).astype(np.float32)


def test_a6_splitmix_gives_the_published_words() -> None:
    assert [int(word) for word in Generator(1234567).words(5)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_a6_words_taken_in_pieces_are_the_same_stream() -> None:
    whole, parts = Generator(2**64 - 5).words(9), Generator(2**64 - 5)
    assert np.array_equal(np.concatenate([parts.words(2), parts.words(0), parts.words(7)]), whole)


def test_a6_bounded_draw_is_the_high_word_of_the_product() -> None:
    words = Generator(9).words(200)
    limits = np.arange(1, 201, dtype=np.uint64) * np.uint64(21_000_017) % np.uint64(2**32) + np.uint64(1)
    expected = [int(word) * int(limit) >> 64 for word, limit in zip(words, limits, strict=True)]
    assert bounded(words, limits).tolist() == expected


@pytest.mark.parametrize("key_dim", [16, 17, 128, 384, 768, 1000])
def test_a6_each_pass_takes_one_of_every_stratum(key_dim: int) -> None:
    order = plan(key_dim, SEED_DEFAULT).order
    m = len(order) // 4
    assert sorted(order) == list(range(4 * m))
    for start in range(0, 4 * m, m):
        assert sorted(order[start : start + m] % m) == list(range(m))
    first, second = order[:m], order[m : 2 * m]
    pair = {int(lo): int(hi) for lo, hi in zip(first % m, first // m, strict=True)}
    assert all(pair[int(i) % m] ^ 1 == int(i) // m for i in second)
    assert not np.array_equal(first % m, second % m) or m == 4


def test_a6_a_larger_rank_keeps_every_earlier_coordinate() -> None:
    sample = keys(5, 384)
    wide = kernel.project(sample, Parameters(1, 384, 384))
    for rank in (16, 64, 256):
        assert kernel.project(sample, Parameters(1, 384, rank)).tobytes() == wide[:, :rank].tobytes()


def test_a7_full_rank_keeps_norms_and_angles() -> None:
    sample = keys(20, 512)
    x = kernel.project(sample, Parameters(1, 512, 512))
    assert np.allclose(x @ x.T, sample @ sample.T, atol=2e-3)


@pytest.mark.parametrize(("key_dim", "rank"), [(384, 384), (384, 256), (384, 128), (768, 512), (272, 256)])
def test_a6_padding_loses_no_direction(key_dim: int, rank: int) -> None:
    """A plain random cut of 384 → 512 loses 9 of 256 coordinates and 39 of 384."""
    basis = kernel.project(np.eye(key_dim, dtype=np.float32), Parameters(1, key_dim, rank)).astype(np.float64)
    smallest = np.linalg.svd(basis, compute_uv=False)[-1]
    assert smallest > 1e-3


def test_a7_other_seeds_give_other_projections() -> None:
    sample = keys(1, 64)
    found = {kernel.project(sample, Parameters(1, 64, 32, seed=seed)).tobytes() for seed in range(20)}
    assert len(found) == 20


def test_a7_scale_is_the_nearest_binary32_to_one_over_root_n() -> None:
    for power in range(4, 15):
        n, scale = 1 << power, plan(1 << power, 0).scale
        below, above = np.nextafter(scale, np.float32(0)), np.nextafter(scale, np.float32(1))
        low, high = (
            (Fraction(float(scale)) + Fraction(float(below))) / 2,
            (Fraction(float(scale)) + Fraction(float(above))) / 2,
        )
        assert low**2 * n <= 1 <= high**2 * n


def test_a8_without_a_projection_keys_are_padded() -> None:
    sample = keys(3, 20)
    x = kernel.project(sample, Parameters(1, 20, 32, projection=Projection.NONE))
    assert np.array_equal(x[:, :20], sample) and not x[:, 20:].view(np.uint32).any()


@pytest.mark.parametrize(
    ("parameters", "rule"),
    [
        (Parameters(8, 64, 24), "A-1"),
        (Parameters(8, 64, 80), "A-6"),
        (Parameters(8, 64, 48, projection=Projection.NONE), "A-6"),
        (Parameters(0, 64, 48), "A-1"),
        (Parameters(8, 64, 48, ridge=0.0), "A-1"),
        (Parameters(8, 64, 48, ridge=0.1), "A-1"),  # not a float32
        (Parameters(8, 64, 48, ridge=float("nan")), "A-1"),
        (Parameters(8, 64, 48, seed=1 << 64), "A-6"),
    ],
)
def test_a1_shapes_that_are_not_allowed(parameters: Parameters, rule: str) -> None:
    with pytest.raises(InputError) as caught:
        kernel.check_parameters(parameters)
    assert caught.value.rule == rule


def test_a9_bad_keys_are_refused_by_row() -> None:
    sample = keys(4, 64)
    sample[2, 7] = np.nan
    with pytest.raises(InputError, match="row 2"):
        kernel.project(sample, Parameters(1, 64, 32))
    sample[2, 7] = np.inf
    with pytest.raises(InputError, match="row 2"):
        kernel.project(sample, Parameters(1, 64, 32))
    with pytest.raises(InputError, match="float32"):
        kernel.project(np.zeros((2, 64)), Parameters(1, 64, 32))
    with pytest.raises(InputError, match="shape"):
        kernel.project(np.zeros((2, 63), np.float32), Parameters(1, 64, 32))


def test_a6_the_check_values_of_the_spec() -> None:
    found = plan(16, SEED_DEFAULT)
    assert "".join("+" if sign > 0 else "-" for sign in found.signs) == "----++--++-+--++"
    assert found.order.tolist() == [8, 7, 2, 1, 5, 12, 6, 3, 4, 13, 10, 11, 0, 9, 14, 15]
    x = kernel.project(np.arange(1, 17, dtype=np.float32), Parameters(1, 16, 16))[0]
    expected = [-9.5, 5.5, -2.5, -5.5, -5.5, -5.5, 13.5, 5.5, 2.5, 6.5, 17.5, -6.5, 2.5, 6.5, -24.5, -4.5]
    assert x.tolist() == expected


def exact_keys(n: int, key_dim: int) -> np.ndarray:
    """Numbers that follow from SplitMix64 alone, so that no library's generator can move the digests."""
    words = Generator(42).words(n * key_dim) >> np.uint64(40)
    return ((words.astype(np.float64) - 2**23) / 2**23).astype(np.float32).reshape(n, key_dim)


@pytest.mark.parametrize(
    ("key_dim", "rank", "digest"),
    [
        (16, 16, "1f098ea2a534cf2d4b98d0c8db49db80"),
        (384, 64, "bf063645c3f6eb22854a55360733e646"),
        (768, 512, "9374ec4fa42ddbfcdf08ad739da1e008"),
    ],
)
def test_a7_frozen_projections(key_dim: int, rank: int, digest: str) -> None:
    x = kernel.project(exact_keys(4, key_dim), Parameters(1, key_dim, rank))
    assert hashlib.sha256(x.astype("<f4").tobytes()).hexdigest()[:32] == digest
