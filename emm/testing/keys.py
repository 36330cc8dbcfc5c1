"""Keys, queries and values to measure memories with, from a seed alone.

Purpose: what a memory holds depends on how its keys lie, so figures are given for several families of them. Invariants:
every row has length one; everything follows from its arguments through NumPy's PCG64.
Source: the shared mean (mean cosine 0.3) and the spectrum 1/i of `text_like_keys` are those of sentence embeddings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emm.errors import InputError
from emm.state import Float32Array, Parameters

MEAN_COSINE = 0.3  # of two text-like keys
CLUSTER_COSINE = 0.7  # of two keys of one cluster
CLUSTER_KEYS = 16  # keys of one cluster
PARAPHRASE_COSINE = 0.9  # of a key and its paraphrase


def _unit(rows: npt.NDArray[np.floating]) -> Float32Array:
    found: Float32Array = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def isotropic_keys(n: int, key_dim: int, seed: int) -> Float32Array:
    """n keys in random directions, the case that every theorem likes: (n, key_dim)."""
    return _unit(np.random.default_rng([seed, 3]).standard_normal((n, key_dim)))


def text_like_keys(n: int, key_dim: int, seed: int) -> Float32Array:
    """n keys with a shared mean, covariance spectrum 1/i, mean pairwise cosine ≈ 0.3: (n, key_dim)."""
    random = np.random.default_rng([seed, 1])
    variance = 1.0 / np.arange(1, key_dim + 1)
    direction = random.standard_normal(key_dim)
    mean = direction / np.linalg.norm(direction) * np.sqrt(MEAN_COSINE / (1 - MEAN_COSINE) * variance.sum())
    return _unit(mean + random.standard_normal((n, key_dim)) * np.sqrt(variance))


def clustered_keys(n: int, key_dim: int, seed: int) -> Float32Array:
    """n keys in clusters of 16, cosine 0.7 within a cluster and 0 between two, shuffled: (n, key_dim)."""
    random = np.random.default_rng([seed, 4])
    centres = _unit(random.standard_normal((-(-n // CLUSTER_KEYS), key_dim)))
    own = _unit(random.standard_normal((n, key_dim)))
    member = random.permutation(n) // CLUSTER_KEYS
    return _unit(np.sqrt(CLUSTER_COSINE) * centres[member] + np.sqrt(1 - CLUSTER_COSINE) * own)


KeyFamily = Callable[[int, int, int], Float32Array]  # (n, key_dim, seed) -> (n, key_dim)
KEY_FAMILIES: dict[str, KeyFamily] = {
    "isotropic": isotropic_keys,
    "text-like": text_like_keys,
    "clustered": clustered_keys,
}


def given_keys(keys: npt.ArrayLike) -> KeyFamily:
    """A family that draws rows of `keys` (N, key_dim), made unit; a draw of more than N rows is an `InputError`."""
    rows = np.asarray(keys)
    if rows.ndim != 2 or rows.dtype.kind != "f" or not np.isfinite(rows).all():
        raise InputError("keys must be rows of finite numbers", expected="(N, key_dim)", found=rows.shape)
    rows = rows[np.linalg.norm(rows.astype(np.float64), axis=1) > 0]

    def draw(n: int, key_dim: int, seed: int) -> Float32Array:
        if n > len(rows) or key_dim != rows.shape[1]:
            raise InputError("there are not that many keys", expected=f"at most {rows.shape}", found=(n, key_dim))
        return _unit(rows[np.random.default_rng([seed, 5]).permutation(len(rows))[:n]].astype(np.float64))

    return draw


def paraphrases(keys: Float32Array, seed: int, cosine: float = PARAPHRASE_COSINE) -> Float32Array:
    """A query beside each key, at this cosine, displaced the way the keys differ from each other: (n, key_dim).

    The displacement is the difference of two other keys, so it lies where keys of this family lie; where there is
    none (one key, or equal ones) it is random.
    """
    random = np.random.default_rng([seed, 6])
    wide = keys.astype(np.float64)
    n = len(wide)
    away = wide[random.permutation(n)] - wide[random.permutation(n)] if n > 2 else np.zeros_like(wide)
    away += 1e-6 * random.standard_normal(wide.shape)
    away -= np.einsum("ij,ij->i", away, wide)[:, None] * wide
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    return _unit(cosine * wide + np.sqrt(1 - cosine**2) * away)


def unit_values(n: int, dim: int, seed: int, mean_cosine: float = 0.0) -> Float32Array:
    """n random values with the given mean pairwise cosine: (n, dim)."""
    random = np.random.default_rng([seed, 2])
    shared = random.standard_normal(dim)
    own = random.standard_normal((n, dim))
    return _unit(np.sqrt(mean_cosine) * shared / np.linalg.norm(shared) * np.sqrt(dim) + np.sqrt(1 - mean_cosine) * own)


@dataclass(frozen=True, slots=True)
class Trial:
    """What a row is measured on: load · rank keys of a family, and a memory of the default rule for them."""

    rank: int = 64
    load: float = 1.0  # pairs ÷ rank
    seed: int = 0
    dim: int = 768
    key_dim: int | None = None  # 2 · rank where not given
    keys: str = "text-like"
    family: KeyFamily | None = None  # of that name; one of `KEY_FAMILIES` where not given

    @property
    def n_pairs(self) -> int:
        return max(2, round(self.load * self.rank))

    @property
    def parameters(self) -> Parameters:
        return Parameters(self.dim, 2 * self.rank if self.key_dim is None else self.key_dim, self.rank)

    def draw_keys(self) -> Float32Array:
        """(n_pairs, key_dim)."""
        family = KEY_FAMILIES[self.keys] if self.family is None else self.family
        return family(self.n_pairs, self.parameters.key_dim, self.seed)
