"""Embedding without weights: TF-IDF and a truncated SVD, fitted on the domain's own texts.

Purpose: the local fallback, measured far better than feature hashing. A vector is the text's
TF-IDF row times the leading right singular vectors (Deerwester et al. 1990), scaled to length one.
Invariants: the fit has a fixed seed and a fixed order of terms, so the same texts give the same model on
the same machine; the stored form is an `.npz` without pickle; a corpus with fewer texts or terms than `dim`
gives exact components padded with zeros.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import numpy as np
from sklearn.utils.extmath import randomized_svd

from emm_engine.embeddings.beyond import known_beyond_words
from emm_engine.embeddings.provider import Float32Array, pack_model, unit_rows, unpack_model
from emm_engine.embeddings.terms import TermModel
from emm_engine.errors import EmbedderError

FORMAT = "emm-lsa-2"
FIRST_FORMAT = "emm-lsa-1"  # says nothing of what is known beyond words
ROUNDS = 4  # power iterations of the randomised SVD
SEED = 0
DENSE_MAX = 300  # up to this many texts the SVD is exact


class LsaEmbedder:
    """A fitted model: terms, their inverse document frequencies, and components (dim, n_terms)."""

    instant = True

    def __init__(self, terms: TermModel, components: Float32Array, beyond_words: float | None) -> None:
        self.beyond_words = beyond_words if beyond_words is not None else 1.0
        self._head = (
            {"format": FORMAT, "beyond_words": beyond_words} if beyond_words is not None else {"format": FIRST_FORMAT}
        )
        self._terms = terms
        self._components = np.ascontiguousarray(components, np.float32)
        self._projection = np.ascontiguousarray(self._components.T)  # (n_terms, dim)

    @property
    def dim(self) -> int:
        return int(self._components.shape[0])

    @functools.cached_property
    def _stored(self) -> bytes:
        head = {**self._head, "dim": self.dim, "terms": len(self._terms.terms)}
        return pack_model(head, {**self._terms.stored(), "components": self._components})

    def to_bytes(self) -> bytes:
        return self._stored

    @functools.cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._stored).hexdigest()

    def embed(self, texts: Sequence[str]) -> Float32Array:
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        return unit_rows(self._terms.weights(texts) @ self._projection)

    def salient_terms(self, texts: Sequence[str], count: int) -> list[list[tuple[str, float]]]:
        return self._terms.salient(texts, count)


class LsaProvider:
    """Fits and reopens `LsaEmbedder`."""

    name = "lsa"

    def fit(self, texts: Sequence[str], dim: int) -> LsaEmbedder:
        terms, components = _fitted(texts, dim)
        beyond = known_beyond_words(texts, dim, lambda some, dim: _projection(*_fitted(some, dim)))
        return LsaEmbedder(terms, components, round(beyond, 3))

    def from_bytes(self, data: bytes) -> LsaEmbedder:
        head, stored = unpack_model(data, ("terms", "idf", "components"))
        terms, components = TermModel.from_stored(stored), stored["components"]
        shape, beyond = (head.get("dim"), len(terms.terms)), head.get("beyond_words")
        format_ = FORMAT if isinstance(beyond, float) and 0.0 < beyond <= 1.0 else FIRST_FORMAT
        if head.get("format") != format_ or components.shape != shape:
            raise EmbedderError(
                "the embedding model contradicts itself", expected=(format_, shape), found=(head, components.shape)
            )
        return LsaEmbedder(terms, components.astype(np.float32), beyond)


def _fitted(texts: Sequence[str], dim: int) -> tuple[TermModel, Float32Array]:
    """(the terms, components (dim, n_terms))."""
    terms, weights = TermModel.fit(texts)
    components = np.zeros((dim, len(terms.terms)), np.float32)
    if terms.terms:
        if min(weights.shape) <= dim or weights.shape[0] <= DENSE_MAX:
            _, singular, right = np.linalg.svd(weights.toarray(), full_matrices=False)
        else:
            _, singular, right = randomized_svd(weights, dim, n_iter=ROUNDS, random_state=SEED)
        kept = int(np.count_nonzero(singular[:dim] > 1e-5 * singular[0]))
        components[:kept] = right[:kept]
    return terms, components


def _projection(terms: TermModel, components: Float32Array) -> tuple[TermModel, Float32Array]:
    return terms, np.ascontiguousarray(components.T)
