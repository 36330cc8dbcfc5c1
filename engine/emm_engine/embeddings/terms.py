"""The words of a domain and how rare they are: a TF-IDF model without anything behind it.

Purpose: what LSA's vectors are made from, and the salient terms of every embedder, also of one that knows no words of
its own (a service, a network with fixed weights). Invariants: the order of terms is fixed, so the same texts give the
same model; a term is taken in one pass over the text, whatever the text is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from emm_engine.embeddings.provider import Float32Array
from emm_engine.errors import EmbedderError
from emm_engine.words import analyse

TERMS_MAX = 20_000
TERM_CHARS_MAX = 40


class TermModel:
    """Terms and their inverse document frequencies (n_terms,)."""

    def __init__(self, terms: Sequence[str], idf: Float32Array) -> None:
        self.terms = list(terms)
        self.idf = np.ascontiguousarray(idf, np.float32)
        self._vectorizer = _vectorizer()
        self._vectorizer.vocabulary_ = {term: index for index, term in enumerate(self.terms)}
        self._vectorizer.idf_ = self.idf

    @classmethod
    def fit(cls, texts: Sequence[str]) -> tuple[TermModel, csr_matrix]:
        """A model of these texts, and their weights (n_texts, n_terms)."""
        vectorizer = _vectorizer(min_df=2 if len(texts) >= 50 else 1)
        try:
            weights = csr_matrix(vectorizer.fit_transform(texts), dtype=np.float32)
        except ValueError:  # no text holds a single term
            return cls([], np.zeros(0, np.float32)), csr_matrix((len(texts), 0), dtype=np.float32)
        return cls(vectorizer.get_feature_names_out().tolist(), vectorizer.idf_), weights

    def stored(self) -> dict[str, npt.NDArray[np.generic]]:
        """Arrays for an `.npz` without pickle."""
        return {"terms": np.frombuffer("\n".join(self.terms).encode(), np.uint8), "idf": self.idf}

    @classmethod
    def from_stored(cls, stored: Mapping[str, npt.NDArray[np.generic]]) -> TermModel:
        """The model that `stored` gave; `EmbedderError` when it contradicts itself."""
        text, idf = bytes(stored["terms"]).decode(), stored["idf"]
        terms = text.split("\n") if text else []
        if idf.shape != (len(terms),):
            raise EmbedderError("the embedding model contradicts itself", expected=(len(terms),), found=idf.shape)
        return cls(terms, idf.astype(np.float32))

    def weights(self, texts: Sequence[str]) -> csr_matrix:
        """(n_texts, n_terms) TF-IDF, rows of length one."""
        if not self.terms:  # the vectoriser refuses an empty vocabulary
            return csr_matrix((len(texts), 0), dtype=np.float32)
        return csr_matrix(self._vectorizer.transform(texts), dtype=np.float32)

    def salient(self, texts: Sequence[str], count: int) -> list[list[tuple[str, float]]]:
        """For each text its heaviest terms with weights in (0, 1], heaviest first, at most `count`."""
        if not texts:
            return []
        weights = self.weights(texts)
        found = []
        for row in range(weights.shape[0]):
            low, high = weights.indptr[row], weights.indptr[row + 1]
            data, indices = weights.data[low:high], weights.indices[low:high]
            order = np.lexsort((indices, -data))
            named = ((self.terms[indices[at]], float(data[at])) for at in order)
            found.append([item for item in named if _is_word(item[0])][:count])
        return found


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
