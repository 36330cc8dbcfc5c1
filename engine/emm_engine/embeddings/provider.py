"""What an embedding provider is, and where a domain's fitted model is kept.

Purpose: one small interface behind which TF-IDF + SVD, MiniLM and HTTP services stand alike. Invariants:
an embedder never changes once fitted, its fingerprint is the SHA-256 of its stored form, and vectors made
under another fingerprint are never compared with it; a stored model is checked against its fingerprint
before a byte of it is parsed, and a missing or changed one is a loud `EmbedderError`, never empty answers.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from emm_engine.errors import EmbedderError
from emm_engine.files import make_folder, replace_durably

Float32Array = npt.NDArray[np.float32]

_HEX = re.compile("[0-9a-f]+")


class Embedder(Protocol):
    """A fitted model. The same text gives the same bits on the same machine; a service promises nearly the same."""

    instant: bool
    """Thousands of texts a second, always: a question may wait for vectors that are missing."""

    beyond_words: float
    """In (0, 1]: what its vectors know that the words themselves do not tell; 1 for a model that was made elsewhere."""

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

    @property
    def name(self) -> str:
        """What the catalog calls it (`EmbedderChoice.identity`)."""
        ...

    def fit(self, texts: Sequence[str], dim: int) -> Embedder:
        """A model of these texts (any number, also one), with `dim` numbers in a vector, or more where it has more."""
        ...

    def from_bytes(self, data: bytes) -> Embedder:
        """The embedder that `to_bytes` stored; `EmbedderError` when it does not parse."""
        ...


def part_of_name(fingerprint: str) -> str:
    """A fingerprint that files may be named after; `EmbedderError` for anything else a catalog may say."""
    if not isinstance(fingerprint, str) or not _HEX.fullmatch(fingerprint):
        raise EmbedderError("not a fingerprint of a model", expected="hexadecimal digits", found=repr(fingerprint)[:80])
    return fingerprint


class EmbedderFolder:
    """Stored models of an archive: one immutable file each, named by fingerprint."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, fingerprint: str) -> Path:
        return self._folder / f"{part_of_name(fingerprint)[:32]}.npz"

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

    def discard(self, fingerprint: str) -> None:
        """Remove a model that nothing is embedded with any more."""
        self._path(fingerprint).unlink(missing_ok=True)

    def sweep(self, wanted: Collection[str], older_than: float) -> None:
        """Remove every other model that was stored before a moment (seconds since 1970)."""
        keep = {self._path(fingerprint).name for fingerprint in wanted}
        for path in self._folder.glob("*.npz"):
            if path.name not in keep and path.stat().st_mtime < older_than:
                path.unlink(missing_ok=True)

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


def unit_rows(rows: npt.NDArray[np.floating[Any]]) -> Float32Array:
    """Rows scaled to length one; a row of next to nothing becomes zero."""
    dense = np.ascontiguousarray(rows, np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", dense, dense, dtype=np.float64))
    lengths[lengths < 1e-6] = np.inf  # nothing known: the zero vector
    return np.ascontiguousarray(dense / lengths[:, None], np.float32)


def pack_model(head: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The stored form of a model: an `.npz` with a JSON head, without pickle; equal models give equal bytes."""
    stream = io.BytesIO()
    text = json.dumps(head, sort_keys=True)
    np.savez(stream, allow_pickle=False, head=np.frombuffer(text.encode(), np.uint8), **arrays)
    return stream.getvalue()


def unpack_model(data: bytes, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """(head, arrays) of a stored model; `EmbedderError` when it does not parse."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return dict(json.loads(bytes(stored["head"]))), {name: stored[name] for name in names}
    except (ValueError, TypeError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise EmbedderError("the embedding model does not parse", found=str(error)) from error
