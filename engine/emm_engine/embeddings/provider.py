"""What an embedding provider is, and where a domain's fitted model is kept.

Purpose: one small interface behind which TF-IDF + SVD, MiniLM and HTTP services stand alike. Invariants:
an embedder never changes once fitted, its fingerprint is the SHA-256 of its stored form, and vectors made
under another fingerprint are never compared with it; a stored model is checked against its fingerprint
before a byte of it is parsed, and a missing or changed one is a loud `EmbedderError`, never empty answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from emm_engine.errors import EmbedderError
from emm_engine.files import make_folder, replace_durably

Float32Array = npt.NDArray[np.float32]


class Embedder(Protocol):
    """A fitted model. Deterministic: the same text gives the same bits on the same machine."""

    @property
    def fingerprint(self) -> str:
        """64 hex digits: SHA-256 of the stored form."""
        ...

    @property
    def dim(self) -> int:
        """Numbers in a vector; the key_dim of the memories fed from it."""
        ...

    def embed(self, texts: Sequence[str]) -> Float32Array:
        """(n, dim) float32; rows have length one, or zero for a text the model knows nothing of."""
        ...

    def salient_terms(self, texts: Sequence[str], count: int) -> list[list[tuple[str, float]]]:
        """For each text its heaviest terms with weights in (0, 1], heaviest first, at most `count`."""
        ...

    def to_bytes(self) -> bytes:
        """The stored form, without pickle."""
        ...


class Provider(Protocol):
    """Makes and reopens embedders of one kind."""

    name: str

    def fit(self, texts: Sequence[str], dim: int) -> Embedder:
        """A model of these texts (any number, also one), with `dim` numbers in a vector."""
        ...

    def from_bytes(self, data: bytes) -> Embedder:
        """The embedder that `to_bytes` stored; `EmbedderError` when it does not parse."""
        ...


class EmbedderFolder:
    """Stored models of an archive: one immutable file each, named by fingerprint."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, fingerprint: str) -> Path:
        return self._folder / f"{fingerprint[:32]}.npz"

    def save(self, embedder: Embedder) -> str:
        """Store durably (the file appears whole, after fsync); returns the fingerprint."""
        data = embedder.to_bytes()
        fingerprint = hashlib.sha256(data).hexdigest()
        make_folder(self._folder)
        replace_durably(self._path(fingerprint), data)
        return fingerprint

    def copy(self, fingerprint: str, into: EmbedderFolder) -> None:
        """Store a model in another archive's folder too, whole or not at all."""
        data = self._bytes(fingerprint)
        make_folder(into._folder)
        replace_durably(into._path(fingerprint), data)

    def load(self, provider: Provider, fingerprint: str) -> Embedder:
        """The model with this fingerprint; `EmbedderError` when it is missing or its bytes differ."""
        return provider.from_bytes(self._bytes(fingerprint))

    def _bytes(self, fingerprint: str) -> bytes:
        path = self._path(fingerprint)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise EmbedderError("the embedding model is missing", file=path.name, expected=fingerprint) from None
        found = hashlib.sha256(data).hexdigest()
        if found != fingerprint:
            raise EmbedderError("the embedding model changed", file=path.name, expected=fingerprint, found=found)
        return data
