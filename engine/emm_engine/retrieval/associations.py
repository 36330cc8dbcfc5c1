"""Read a recalled vector as labels with strengths.

Purpose: what the matrix is for: patterns over everything it absorbed, at a size that does not grow.
Invariants: a strength estimates the share of similar passages that carried the label (1 = all); a label is
named only when it stands out of what random codes would give by chance (so far that among n candidates even one
false name has probability 1 %: Bonferroni's bound on the normal tail) and of its own share of everything, so an
empty memory or a foreign question yields nothing rather than noise, and what is common everywhere is no
association; order is (strength descending, label ascending).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from emm_engine.documents import Label
from emm_engine.embeddings.provider import Float32Array
from emm_engine.matrices.labels import weight_of
from emm_engine.matrices.packed import Packed, products

STRENGTH_MIN = 0.02
FALSE_NAME = 0.01  # probability that chance alone names anything
LIFT_MIN = 1.5  # times a label's share of everything


@dataclass(frozen=True, slots=True)
class Strength:
    """A label, how strongly it was recalled, and its share of everything the matrices hold."""

    label: Label
    strength: float
    base: float
    n_pairs: int  # that carry it


@dataclass(frozen=True, slots=True)
class Candidates:
    """The labels that may be named, their codes, how many pairs carry each, and their shares of all pairs."""

    labels: Sequence[Label]
    codes: Packed
    counts: Sequence[int]
    bases: Sequence[float]


def decode(recalled: Float32Array, candidates: Candidates, count: int) -> list[Strength]:
    """The `count` strongest of the candidates in a recalled vector (dim,), or fewer when few stand out."""
    norm = float(np.linalg.norm(recalled.astype(np.float64)))
    n_labels = len(candidates.labels)
    if not n_labels or norm == 0.0 or count < 1:
        return []
    dots = products(candidates.codes, recalled)
    threshold = norm / math.sqrt(len(recalled)) * NormalDist().inv_cdf(1.0 - FALSE_NAME / n_labels)
    found = []
    for at in np.flatnonzero(dots > threshold).tolist():
        label, base = candidates.labels[at], candidates.bases[at]
        weight = weight_of(label.kind)
        strength = float(dots[at]) / weight if weight else 0.0
        if strength >= max(STRENGTH_MIN, LIFT_MIN * base):
            found.append(Strength(label, strength, base, candidates.counts[at]))
    return sorted(found, key=lambda item: (-item.strength, item.label))[:count]
