"""Texts embedded by many workers.

Purpose: an `Embedder` that has its texts embedded elsewhere, so that whoever uses one need not know. Invariants: rows
come in the order of the texts, each what the model itself gives for its text, whatever the number of workers; a worker
loads a model once, from bytes whose SHA-256 is its fingerprint, and is sent them when it has not got it, so it needs
none of the archive's files; what comes back is refused unless it has the right shape and only finite numbers.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from emm_engine.embeddings.provider import Embedder, Float32Array
from emm_engine.errors import EmbedderError, WorkError
from emm_engine.scale.unit import identity_of
from emm_engine.scale.workers import Workers

TEXTS_PER_UNIT: Final = 128
MODELS_HELD: Final = 2  # by a worker

_models: OrderedDict[str, Embedder] = OrderedDict()  # of this process, by fingerprint, oldest use first


@dataclass(frozen=True, slots=True)
class EmbedUnit:
    """Some texts and the model for them; its bytes only where a worker has asked for them."""

    kind: str
    fingerprint: str
    texts: tuple[str, ...]
    model: bytes | None = None

    @property
    def identity(self) -> str:
        return identity_of("embed", self.kind, self.fingerprint, *self.texts)

    def run(self) -> Float32Array | None:
        """(n, dim) float32; None where this process has not got the model."""
        embedder = _model(self)
        return embedder.embed(self.texts) if embedder is not None else None


class FannedEmbedder:
    """A fitted model whose texts are embedded by workers."""

    def __init__(self, embedder: Embedder, kind: str, workers: Workers) -> None:
        self.instant = embedder.instant
        self.beyond_words = embedder.beyond_words
        self._embedder = embedder
        self._kind = kind
        self._workers = workers
        self._sent = False  # the model, to as many units as there are workers

    @property
    def fingerprint(self) -> str:
        return self._embedder.fingerprint

    @property
    def dim(self) -> int:
        return self._embedder.dim

    def to_bytes(self) -> bytes:
        return self._embedder.to_bytes()

    def salient_terms(self, texts: Sequence[str], count: int) -> list[list[tuple[str, float]]]:
        return self._embedder.salient_terms(texts, count)

    def embed(self, texts: Sequence[str]) -> Float32Array:
        n_seeds = 0 if self._sent else self._workers.count
        units = [
            EmbedUnit(
                self._kind,
                self.fingerprint,
                tuple(texts[low : low + TEXTS_PER_UNIT]),
                self.to_bytes() if low < n_seeds * TEXTS_PER_UNIT else None,
            )
            for low in range(0, len(texts), TEXTS_PER_UNIT)
        ]
        self._sent = self._sent or bool(units)
        return np.concatenate([np.zeros((0, self.dim), np.float32), *self._rows(units)])

    def _rows(self, units: Sequence[EmbedUnit]) -> Iterator[Float32Array]:
        for unit, rows in zip(units, self._workers.results(units), strict=True):
            if rows is None:  # a worker that came later
                (rows,) = self._workers.results([replace(unit, model=self.to_bytes())])
            expected = (len(unit.texts), self.dim)
            if not isinstance(rows, np.ndarray) or rows.dtype != np.float32 or rows.shape != expected:
                raise WorkError(f"{unit.identity} gave no vectors", expected=expected, found=type(rows).__name__)
            if not np.isfinite(rows).all():
                raise WorkError(f"{unit.identity} gave numbers that are not finite")
            yield rows


def fanned(embedder: Embedder, workers: Workers) -> Embedder:
    """The embedder with its work handed to workers; itself where its kind cannot be sent (a service over HTTP)."""
    from emm_engine.embeddings.lsa import LsaEmbedder  # scikit-learn takes a second that `--help` need not wait

    return FannedEmbedder(embedder, "lsa", workers) if isinstance(embedder, LsaEmbedder) else embedder


def _model(unit: EmbedUnit) -> Embedder | None:
    """The unit's model, kept for the next one."""
    held = _models.get(unit.fingerprint)
    if held is None and unit.model is None:
        return None
    if held is None:
        assert unit.model is not None
        found = hashlib.sha256(unit.model).hexdigest()
        if found != unit.fingerprint:
            raise EmbedderError("the embedding model changed on its way", expected=unit.fingerprint, found=found)
        held = _reopened(unit.kind, unit.model)
    _models[unit.fingerprint] = held
    _models.move_to_end(unit.fingerprint)
    while len(_models) > MODELS_HELD:
        _models.popitem(last=False)
    return held


def _reopened(kind: str, data: bytes) -> Embedder:
    from emm_engine.embeddings.lsa import LsaProvider

    if kind != LsaProvider.name:
        raise EmbedderError("workers know no such embedder", expected=LsaProvider.name, found=kind)
    return LsaProvider().from_bytes(data)
