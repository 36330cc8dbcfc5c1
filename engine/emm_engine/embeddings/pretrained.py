"""A model that came fitted (a network in a wheel, a service), made an embedder of one domain.

Purpose: join three things: an encoder that is not ours to change, a lift to the width of the domain's keys, and the
domain's own TF-IDF for salient terms. Invariants: the lift keeps every inner product, to the bit; what the encoder said
about a fixed sentence when the domain was fitted is stored, and is asked for again before the first vector of a
process is used, so another model behind the same name is an `EmbedderError` and never a mixture of two spaces; the
address of a service is no part of the stored form, so a service may move.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from emm_engine.embeddings.provider import Float32Array, pack_model, unpack_model
from emm_engine.embeddings.terms import TermModel
from emm_engine.errors import EmbedderError, EmbedderUnavailable, TextRefused

FORMAT = "emm-pretrained-1"
PROBE = "Probe 7: the pump's valve was replaced on Tuesday; pressure 2.5 bar, yield 93 %."
LIKENESS_MIN = 0.999  # services differ in the last bits from call to call; another quantisation differs by more


class Encoder(Protocol):
    """Text to vectors, by something that is not fitted here."""

    name: str  # `EmbedderChoice.identity`

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """(n, source_dim) float32, rows of length one; `EmbedderUnavailable` when it cannot now."""
        ...


def lifted(rows: Float32Array, dim: int) -> Float32Array:
    """(n, source_dim) → (n, dim) by zeros behind: an isometry, exact in every bit of every inner product.

    Nothing is gained by a rotation after it: φ flips signs and mixes all coordinates before it keeps `rank` of them.
    """
    assert rows.shape[1] <= dim
    if rows.shape[1] == dim:
        return rows
    wide = np.zeros((len(rows), dim), np.float32)
    wide[:, : rows.shape[1]] = rows
    return wide


class PretrainedEmbedder:
    """An encoder, its lift, and the domain's terms. `probe` (source_dim,) is what the encoder said of `PROBE`."""

    instant = False
    beyond_words = 1.0

    def __init__(self, encoder: Encoder, terms: TermModel, probe: Float32Array, dim: int) -> None:
        self._encoder = encoder
        self._terms = terms
        self._probe = probe
        self._dim = dim
        self._recognised = False

    @property
    def dim(self) -> int:
        return self._dim

    @functools.cached_property
    def _stored(self) -> bytes:
        head = {"format": FORMAT, "encoder": self._encoder.name, "dim": self._dim, "source_dim": len(self._probe)}
        return pack_model(head, {**self._terms.stored(), "probe": self._probe})

    def to_bytes(self) -> bytes:
        return self._stored

    @functools.cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._stored).hexdigest()

    def embed(self, texts: Sequence[str]) -> Float32Array:
        if not texts:
            return np.zeros((0, self._dim), np.float32)
        rows = self._encoder.encode(texts) if self._recognised else self._first(texts)
        self._require_width(rows)
        return lifted(rows, self._dim)

    def _first(self, texts: Sequence[str]) -> Float32Array:
        """The probe and the texts in one go, for one request is half of two."""
        try:
            rows = self._encoder.encode([PROBE, *texts])
        except TextRefused:  # which of them?
            rows = np.concatenate([_probed(self._encoder), self._encoder.encode(texts)])
        self._require_width(rows)
        likeness = float(rows[0].astype(np.float64) @ self._probe.astype(np.float64))
        if likeness < LIKENESS_MIN:
            raise self._changed(f"cosine {LIKENESS_MIN} or more to its own vector of the probe", f"{likeness:.4f}")
        self._recognised = True
        return rows[1:]

    def _require_width(self, rows: Float32Array) -> None:
        if rows.shape[1] != len(self._probe):
            raise self._changed(f"{len(self._probe)} numbers in a vector", rows.shape[1])

    def _changed(self, expected: object, found: object) -> EmbedderError:
        return EmbedderError(
            f"{self._encoder.name} is another model than the one that the stored vectors were made with; "
            "bring that one back, or embed everything anew with `emm reembed`",
            expected=expected,
            found=found,
        )

    def salient_terms(self, texts: Sequence[str], count: int) -> list[list[tuple[str, float]]]:
        return self._terms.salient(texts, count)


def _probed(encoder: Encoder) -> Float32Array:
    """(1, source_dim) for the probe; a service that refuses even that has no such model."""
    try:
        return encoder.encode([PROBE])
    except TextRefused as error:
        raise EmbedderUnavailable(str(error)).permanent() from error


class PretrainedProvider:
    """Makes and reopens `PretrainedEmbedder` over one encoder."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    @property
    def name(self) -> str:
        return self._encoder.name

    def fit(self, texts: Sequence[str], dim: int) -> PretrainedEmbedder:
        probe = _probed(self._encoder)[0]
        terms, _ = TermModel.fit(texts)
        return PretrainedEmbedder(self._encoder, terms, probe, max(dim, len(probe)))

    def from_bytes(self, data: bytes) -> PretrainedEmbedder:
        head, stored = unpack_model(data, ("terms", "idf", "probe"))
        probe, dim = stored["probe"].astype(np.float32), head.get("dim")
        expected = (FORMAT, self.name, probe.size)
        found = (head.get("format"), head.get("encoder"), head.get("source_dim"))
        if found != expected or probe.ndim != 1 or type(dim) is not int or dim < probe.size:
            raise EmbedderError("the embedding model contradicts itself", expected=expected, found=(*found, dim))
        return PretrainedEmbedder(self._encoder, TermModel.from_stored(stored), probe, dim)
