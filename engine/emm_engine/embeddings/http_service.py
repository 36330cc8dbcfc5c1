"""Vectors from a service over HTTP: Ollama's `/api/embed`, and `/v1/embeddings` as OpenAI defined it.

Purpose: texts in batches out, checked numbers back. Invariants: an answer counts only when it has one vector for each
text, each of the same length, of finite numbers, not zero; whatever else a service says is an `EmbedderUnavailable`,
tried again with growing waits and never longer than the caller's patience; order is the texts' own.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from emm_engine.embeddings.backoff import Clock, Patience
from emm_engine.embeddings.choice import OLLAMA, EmbedderChoice
from emm_engine.embeddings.http_keys import key_for
from emm_engine.embeddings.http_wire import Request, Wire
from emm_engine.embeddings.provider import Float32Array, unit_rows
from emm_engine.errors import EmbedderUnavailable

TEXTS_PER_REQUEST = 32
DIM_MAX = 8192
NUMBER_BYTES_MAX = 32  # of one number in JSON, with its comma and spaces
ANSWER_BYTES_SPARE = 65_536
LENGTH_MIN = 1e-6
VERSION = "/v1"  # people give an address with it or without


class Dialect(Protocol):
    """How a kind of service is asked, and how it answers."""

    path: str

    def body(self, model: str, texts: Sequence[str]) -> Mapping[str, Any]:
        """What to post."""
        ...

    def rows(self, answer: Any, count: int) -> Any:
        """The vectors in an answer, in the order of the texts; `ValueError` says what is wrong with it."""
        ...


class Ollama:
    path = "/api/embed"

    def body(self, model: str, texts: Sequence[str]) -> Mapping[str, Any]:
        return {"model": model, "input": list(texts), "truncate": True}

    def rows(self, answer: Any, count: int) -> Any:
        return _field(answer, "embeddings")


class OpenAi:
    path = "/v1/embeddings"

    def body(self, model: str, texts: Sequence[str]) -> Mapping[str, Any]:
        return {"model": model, "input": list(texts), "encoding_format": "float"}

    def rows(self, answer: Any, count: int) -> Any:
        data = _field(answer, "data")
        if not isinstance(data, list):
            raise ValueError("data is no list")
        places = [_field(item, "index") for item in data]
        if any(type(place) is not int for place in places) or sorted(places) != list(range(count)):
            raise ValueError(f"its indices are not those of {count} texts")
        return [row for _, row in sorted(zip(places, (_field(item, "embedding") for item in data), strict=True))]


class HttpEncoder:
    """`Encoder` over a service."""

    def __init__(
        self,
        choice: EmbedderChoice,
        patience: Patience,
        clock: Clock,
        chance: random.Random,
        environment: Mapping[str, str],
    ) -> None:
        self.name = choice.identity
        self._model = choice.model
        self._endpoint = choice.endpoint
        self._patience = patience
        self._clock = clock
        self._chance = chance
        self._environment = environment
        self._dialect: Dialect = Ollama() if choice.kind == OLLAMA else OpenAi()
        named = self._endpoint.path.endswith(VERSION) and self._dialect.path.startswith(VERSION)
        self._path = self._dialect.path.removeprefix(VERSION) if named else self._dialect.path

    def encode(self, texts: Sequence[str]) -> Float32Array:
        if not texts:
            return np.zeros((0, 0), np.float32)
        parts = [
            self._patiently(texts[low : low + TEXTS_PER_REQUEST]) for low in range(0, len(texts), TEXTS_PER_REQUEST)
        ]
        if len({part.shape[1] for part in parts}) > 1:
            raise EmbedderUnavailable(f"{self._endpoint} does not embed: its vectors have several lengths")
        return np.concatenate(parts)

    def _patiently(self, texts: Sequence[str]) -> Float32Array:
        """One batch, tried as often as the caller's patience allows."""
        wire = Wire(self._endpoint, self._patience.timeout_s, key_for(self._endpoint, self._environment))
        n_failed = 0
        while True:
            try:
                return self._once(wire, texts)
            except EmbedderUnavailable as error:
                n_failed += 1
                wait = max(self._patience.backoff.wait_s(n_failed, self._chance), error.retry_after_s)
                if not error.transient or n_failed >= self._patience.attempts or wait > self._patience.wait_s_max:
                    raise
                self._clock.sleep(wait)

    def _once(self, wire: Wire, texts: Sequence[str]) -> Float32Array:
        most = ANSWER_BYTES_SPARE + len(texts) * DIM_MAX * NUMBER_BYTES_MAX
        request = Request(self._path, self._dialect.body(self._model, texts), most)
        answer = wire.post(request, self._clock.now())
        try:
            return _checked(self._dialect.rows(answer, len(texts)), len(texts))
        except ValueError as error:
            raise EmbedderUnavailable(f"{self._endpoint} does not embed: {error}") from error


def _field(value: Any, name: str) -> Any:
    if not isinstance(value, dict) or name not in value:
        raise ValueError(f"the answer has no {name}")
    return value[name]


def _checked(rows: Any, count: int) -> Float32Array:
    """(count, dim) float32 of length one, from parsed JSON; `ValueError` says what is wrong with it."""
    if not isinstance(rows, list) or len(rows) != count:
        found = len(rows) if isinstance(rows, list) else "no"
        raise ValueError(f"it answers with {found} vectors for {count} texts")
    lengths = {len(row) if isinstance(row, list) else 0 for row in rows}
    if len(lengths) != 1 or not 0 < (dim := lengths.pop()) <= DIM_MAX:
        raise ValueError(f"its vectors are not all of one length from 1 to {DIM_MAX}")
    if any(type(number) not in (float, int) for row in rows for number in row):
        raise ValueError("its vectors hold something else than numbers")
    try:
        exact = np.array(rows, np.float64).reshape(count, dim)
    except OverflowError as error:
        raise ValueError("its vectors hold numbers beyond all bounds") from error
    if not (np.abs(exact) <= np.finfo(np.float32).max).all():  # false for NaN as well
        raise ValueError("its vectors hold numbers beyond all bounds")
    if np.sqrt(np.einsum("ij,ij->i", exact, exact)).min() < LENGTH_MIN:
        raise ValueError("it answers with zero vectors")
    return unit_rows(exact)
