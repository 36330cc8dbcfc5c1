"""Values for the matrix: labels as codes, and how a passage gets its labels without a language model.

Purpose: a pair's value is the weighted sum of its labels' codes, so a recalled vector can be read as labels
with strengths. Invariants: a label's code is a function of its kind, its name and dim alone (SHA-256 in
counter mode gives signs ±1/√dim), the same on every machine and for ever; a value is a function of the
labels and weights that the catalog keeps, so every pair can be written again or taken out exactly.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterable, Sequence
from types import MappingProxyType

import numpy as np

from emm_engine.catalog.pairs import Taught
from emm_engine.documents import Label, Marked
from emm_engine.embeddings.provider import Float32Array

EXTRACTOR_VERSION = 1  # raised whenever the same text would be given other labels or weights
WEIGHT_DEFAULT = 1.0
WEIGHTS = MappingProxyType(
    {
        "urgency": 0.25,
        "distribution": 0.25,
        "maintainer": 0.5,
        "term": 0.5,
        "fact": 0.5,
        "participant": 0.5,
        "author": 0.5,
        "title": 0.25,
        "month": 0.25,
        "bug": 0.0,  # names one event, not a pattern: kept in the catalog, never in the matrix
        "date": 0.0,  # says where a date comes from
    }
)
NAME_CHARS_MAX = 200


def weight_of(kind: str) -> float:
    """How much a label of this kind counts in a value."""
    return WEIGHTS.get(kind, WEIGHT_DEFAULT)


def sign_bits(label: Label, dim: int) -> bytes:
    """The signs of a label's code, at least `dim` bits, least significant first; 1 is minus.

    Block c is SHA-256(c as 4 little-endian bytes ‖ kind ‖ 0 ‖ name).
    """
    seed = label.kind.encode() + b"\0" + label.name.encode()
    return b"".join(hashlib.sha256(counter.to_bytes(4, "little") + seed).digest() for counter in range(-(-dim // 256)))


@functools.lru_cache(maxsize=16_384)
def code(label: Label, dim: int) -> Float32Array:
    """(dim,) float32 of length one (to rounding), read-only: entry i is signed by bit i of `sign_bits`."""
    bits = np.unpackbits(np.frombuffer(sign_bits(label, dim), np.uint8), bitorder="little")[:dim]
    signs = (1.0 - 2.0 * bits.astype(np.float64)) / math.sqrt(dim)
    result = signs.astype(np.float32)
    result.flags.writeable = False
    return result


def codes(labels: Sequence[Label], dim: int) -> Float32Array:
    """(n, dim) float32, one row for each label."""
    if not labels:
        return np.zeros((0, dim), np.float32)
    return np.stack([code(label, dim) for label in labels])


def value(weighted: Iterable[tuple[Label, float]], dim: int) -> Float32Array:
    """(dim,) float32: Σ weight · code, added in the order of the labels."""
    total = np.zeros(dim, np.float32)
    for label, weight in sorted(weighted):
        total += np.float32(weight) * code(label, dim)
    return total


def taught(declared: Iterable[Marked], extracted: Iterable[Marked]) -> list[Taught]:
    """What a passage teaches the matrix, in the order of the labels: what was declared, and what its text says.

    A term that merely repeats a declared label's name is left out: it would be the same pattern twice.
    """
    found: dict[Label, Marked] = {}
    for mark in declared:
        found.setdefault(mark.label, mark)
    names = {label.name.lower() for label in found}
    for mark in extracted:
        if mark.label.kind != "term" or mark.label.name not in names:
            found.setdefault(mark.label, mark)
    weighted = ((mark, weight_of(label.kind)) for label, mark in sorted(found.items(), key=lambda item: item[0]))
    return [Taught(mark, weight) for mark, weight in weighted if weight and len(mark.label.name) <= NAME_CHARS_MAX]
