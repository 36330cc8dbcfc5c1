"""What an embedder that was fitted on an archive has learnt from it, beyond the words themselves.

Purpose: lexical recall knows which words a passage has. Vectors made of the same words add what the archive taught
about words that go together: much where it is thousands of abstracts, little where it is some hundred turns of a talk.
Fusion weighs them by that. Method: fit on every other text; split the terms of each of the rest into two halves that
share none; one half should lie nearer to the other than to those of other texts. By chance it is nearer than to half of
them. Invariants: no text is measured with a model that it was fitted on; nothing is random; too few tell nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from emm_engine.embeddings.provider import Float32Array, unit_rows
from emm_engine.embeddings.terms import TermModel

TEXTS_MIN: Final = 100  # below, a share of pairs says too little
TEXTS_MAX: Final = 4000  # evenly spread: what is known hardly grows beyond
ASKED_MAX: Final = 500  # of those that are split
LEAST: Final = 0.05  # so that what only vectors find is found

Fit = Callable[[Sequence[str], int], tuple[TermModel, Float32Array]]


def known_beyond_words(texts: Sequence[str], dim: int, fit: Fit) -> float:
    """From `LEAST` (nothing) to 1 (everything): how much surer than chance a text's halves are told to be one.

    1 where there are too few texts to tell. `fit` gives terms and a projection (n_terms, dim).
    """
    chosen = texts[:: -(-len(texts) // TEXTS_MAX)]
    if len(chosen) < TEXTS_MIN:
        return 1.0
    terms, projection = fit(chosen[::2], dim)
    rest = chosen[1::2]
    asked = rest[:: -(-len(rest) // ASKED_MAX)]
    one, other = (unit_rows(half @ projection) for half in _halves(terms.weights(asked)))
    told = one.any(axis=1) & other.any(axis=1)
    if told.sum() < TEXTS_MIN // 4:
        return 1.0
    cosines = one[told] @ other[told].T
    own = np.diag(cosines)[:, None]
    nearer = (cosines < own).sum() + 0.5 * ((cosines == own).sum() - len(own))
    share = float(nearer) / (len(own) * (len(own) - 1))  # the area below the curve of hits over false alarms
    return max(2.0 * share - 1.0, LEAST)


def _halves(weights: csr_matrix) -> tuple[csr_matrix, csr_matrix]:
    """Two matrices (n, n_terms) that share no term of a row: every other of its terms by weight."""
    one, other = weights.copy(), weights.copy()
    for row in range(weights.shape[0]):
        part = slice(weights.indptr[row], weights.indptr[row + 1])
        order: npt.NDArray[np.intp] = np.argsort(weights.data[part], kind="stable")
        one.data[part][order[1::2]] = 0.0
        other.data[part][order[::2]] = 0.0
    return one, other
