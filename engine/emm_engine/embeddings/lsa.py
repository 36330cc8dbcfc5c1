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
import io
import json
import zipfile
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.extmath import randomized_svd

from emm_engine.embeddings.provider import Float32Array
from emm_engine.errors import EmbedderError
from emm_engine.words import analyse

FORMAT = "emm-lsa-1"
TERMS_MAX = 20_000
ROUNDS = 4  # power iterations of the randomised SVD
SEED = 0
DENSE_MAX = 300  # up to this many texts the SVD is exact
TERM_CHARS_MAX = 40


class LsaEmbedder:
    """A fitted model: terms, their inverse document frequencies, and components (dim, n_terms)."""

    def __init__(self, terms: Sequence[str], idf: Float32Array, components: Float32Array) -> None:
        self._terms = list(terms)
        self._idf = np.ascontiguousarray(idf, np.float32)
        self._components = np.ascontiguousarray(components, np.float32)
        self._projection = np.ascontiguousarray(self._components.T)  # (n_terms, dim)
        self._vectorizer = _vectorizer()
        self._vectorizer.vocabulary_ = {term: index for index, term in enumerate(self._terms)}
        self._vectorizer.idf_ = self._idf

    @property
    def dim(self) -> int:
        return int(self._components.shape[0])

    @functools.cached_property
    def _stored(self) -> bytes:
        stream = io.BytesIO()
        head = json.dumps({"format": FORMAT, "dim": self.dim, "terms": len(self._terms)}, sort_keys=True)
        np.savez(
            stream,
            head=np.frombuffer(head.encode(), np.uint8),
            terms=np.frombuffer("\n".join(self._terms).encode(), np.uint8),
            idf=self._idf,
            components=self._components,
        )
        return stream.getvalue()

    def to_bytes(self) -> bytes:
        return self._stored

    @functools.cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._stored).hexdigest()

    def _weights(self, texts: Sequence[str]) -> csr_matrix:
        if not self._terms:  # the vectoriser refuses an empty vocabulary
            return csr_matrix((len(texts), 0), dtype=np.float32)
        return csr_matrix(self._vectorizer.transform(texts), dtype=np.float32)

    def embed(self, texts: Sequence[str]) -> Float32Array:
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        return _unit_rows(self._weights(texts) @ self._projection)

    def salient_terms(self, texts: Sequence[str], count: int) -> list[list[tuple[str, float]]]:
        if not texts:
            return []
        weights = self._weights(texts)
        found = []
        for row in range(weights.shape[0]):
            low, high = weights.indptr[row], weights.indptr[row + 1]
            data, indices = weights.data[low:high], weights.indices[low:high]
            order = np.lexsort((indices, -data))
            named = ((self._terms[indices[at]], float(data[at])) for at in order)
            found.append([item for item in named if _is_word(item[0])][:count])
        return found


class LsaProvider:
    """Fits and reopens `LsaEmbedder`."""

    name = "lsa"

    def fit(self, texts: Sequence[str], dim: int) -> LsaEmbedder:
        vectorizer = _vectorizer(min_df=2 if len(texts) >= 50 else 1)
        try:
            weights = csr_matrix(vectorizer.fit_transform(texts), dtype=np.float32)
        except ValueError:  # no text holds a single term
            return LsaEmbedder([], np.zeros(0, np.float32), np.zeros((dim, 0), np.float32))
        if min(weights.shape) <= dim or weights.shape[0] <= DENSE_MAX:
            _, singular, right = np.linalg.svd(weights.toarray(), full_matrices=False)
        else:
            _, singular, right = randomized_svd(weights, dim, n_iter=ROUNDS, random_state=SEED)
        kept = int(np.count_nonzero(singular[:dim] > 1e-5 * singular[0]))
        components = np.zeros((dim, weights.shape[1]), np.float32)
        components[:kept] = right[:kept]
        return LsaEmbedder(vectorizer.get_feature_names_out().tolist(), vectorizer.idf_, components)

    def from_bytes(self, data: bytes) -> LsaEmbedder:
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                head = json.loads(bytes(stored["head"]))
                text = bytes(stored["terms"]).decode()
                idf, components = stored["idf"], stored["components"]
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise EmbedderError("the embedding model does not parse", found=str(error)) from error
        terms = text.split("\n") if text else []
        shape = (head.get("dim"), len(terms))
        if head.get("format") != FORMAT or components.shape != shape or idf.shape != (len(terms),):
            raise EmbedderError(
                "the embedding model contradicts itself", expected=(FORMAT, shape), found=(head, components.shape)
            )
        return LsaEmbedder(terms, idf, components)


def _vectorizer(min_df: int = 1) -> TfidfVectorizer:
    return TfidfVectorizer(
        analyzer=analyse,
        sublinear_tf=True,
        min_df=min_df,
        max_features=TERMS_MAX,
        dtype=np.float32,
    )


def _is_word(term: str) -> bool:
    return len(term) <= TERM_CHARS_MAX and sum(character.isalpha() for character in term) >= 3


def _unit_rows(rows: npt.NDArray[np.float32]) -> Float32Array:
    dense = np.ascontiguousarray(rows, np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", dense, dense, dtype=np.float64))
    lengths[lengths < 1e-6] = np.inf  # nothing known: the zero vector
    return np.ascontiguousarray(dense / lengths[:, None], np.float32)
