"""Ollama and OpenAI-compatible services, over real sockets.

Red when: vectors come back in another order than the texts; a passing failure is not tried again, or a lasting one for
ever; Retry-After is cut short; a slow, endless, huge, truncated, wrong or hostile answer becomes vectors, or hangs; a
key reaches another host, plain http, a message or a file.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emm import InputError
from emm_engine.embeddings.backoff import Backoff, Patience, retry_after_s
from emm_engine.embeddings.choice import EmbedderChoice, Endpoint
from emm_engine.embeddings.http_keys import key_for, variable_of
from emm_engine.embeddings.http_service import DIM_MAX, TEXTS_PER_REQUEST, HttpEncoder
from emm_engine.embeddings.pretrained import PROBE, PretrainedProvider, lifted
from emm_engine.embeddings.provider import Float32Array, unit_rows
from emm_engine.errors import EmbedderError, EmbedderUnavailable, TextRefused
from tests.engine.embedding_service import (
    Behaviour,
    HandClock,
    Service,
    drips,
    fails,
    hangs_up,
    says,
    serving,
    sleeps,
)

TEXTS = ["the pump leaks", "the valve holds", "a wholly different matter"]
PATIENCE = Patience(attempts=4, timeout_s=5.0, wait_s_max=100.0, backoff=Backoff(1.0, 8.0))


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(Service()) as running:
        yield running


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def encoder(
    service: Service, clock: HandClock, kind: str = "ollama", patience: Patience = PATIENCE, **environment: str
) -> HttpEncoder:
    choice = EmbedderChoice.parse(f"{kind}:some-model:latest@{service.url}")
    return HttpEncoder(choice, patience, clock, random.Random(7), environment)


def expected(service: Service, texts: list[str]) -> Float32Array:
    return unit_rows(np.array([service.vector(text) for text in texts]))


# --- the protocols --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ollama", "openai"])
def test_vectors_come_in_batches_and_in_order(service: Service, clock: HandClock, kind: str) -> None:
    texts = [f"text {number} of the pump" for number in range(2 * TEXTS_PER_REQUEST + 3)]
    rows = encoder(service, clock, kind).encode(texts)
    assert rows.dtype == np.float32 and np.array_equal(rows, expected(service, texts))
    assert [len(request["input"]) for request in service.requests] == [TEXTS_PER_REQUEST, TEXTS_PER_REQUEST, 3]
    assert {request["model"] for request in service.requests} == {"some-model:latest"}
    assert set(service.paths) == {"/api/embed" if kind == "ollama" else "/v1/embeddings"}
    assert encoder(service, clock, kind).encode([]).shape[0] == 0


def test_an_address_may_hold_a_path_and_the_version(service: Service, clock: HandClock) -> None:
    for path, asked in (("", "/v1/embeddings"), ("/v1/", "/v1/embeddings"), ("/proxy/v1", "/proxy/v1/embeddings")):
        choice = EmbedderChoice.parse(f"openai:m@{service.url}{path}")
        HttpEncoder(choice, PATIENCE, clock, random.Random(7), {}).encode(TEXTS)
        assert service.paths[-1] == asked


@pytest.mark.parametrize(
    ("text", "kind", "model", "url"),
    [
        ("lsa", "lsa", "", ""),
        ("minilm", "minilm", "", ""),
        ("ollama:nomic-embed-text:latest", "ollama", "nomic-embed-text:latest", "http://127.0.0.1:11434"),
        ("ollama:a@b@http://gpu-box:11434/", "ollama", "a@b", "http://gpu-box:11434"),
        ("openai:text-embedding-3-small", "openai", "text-embedding-3-small", "https://api.openai.com"),
        ("openai:m@https://[::1]:443/api", "openai", "m", "https://[::1]/api"),
    ],
)
def test_an_embedder_is_named(text: str, kind: str, model: str, url: str) -> None:
    choice = EmbedderChoice.parse(text)
    assert (choice.kind, choice.model, choice.url) == (kind, model, url)
    assert EmbedderChoice.parse(str(choice)) == choice


@pytest.mark.parametrize(
    "text",
    [
        "", "word2vec", "lsa:3", "minilm@http://x", "ollama", "ollama:", "ollama:m@http://", "ollama:m@http://u:geheim@h",
        "openai:m@http://h?key=geheim", "openai:m@http://h#geheim", "openai:m@http://h:99999", "openai:m x",
        "openai:m@https://h h", "ollama:" + "m" * 600, "openai:m@http://[::1",
    ],
)  # fmt: skip
def test_what_is_no_embedder_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        EmbedderChoice.parse(text)
    assert "geheim" not in str(caught.value)


# --- failures that pass ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [fails(500), fails(503), fails(408), hangs_up, says("{"), says(b"\xff\xfe"), says(""), sleeps(0.3)],
    ids=["500", "503", "408", "half an answer", "half JSON", "no text", "empty", "hangs up"],
)
def test_what_passes_is_tried_again_after_growing_waits(service: Service, clock: HandClock, fault: Behaviour) -> None:
    service.faults = [fault, fault]
    assert np.array_equal(encoder(service, clock).encode(TEXTS), expected(service, TEXTS))
    assert len(service.requests) == 3
    first, second = clock.slept
    assert 0.5 <= first <= 1.0 <= second <= 2.0


def test_patience_ends(service: Service, clock: HandClock) -> None:
    service.always = fails(500, {"error": "out of memory"})
    with pytest.raises(EmbedderUnavailable, match="HTTP 500: out of memory") as caught:
        encoder(service, clock).encode(TEXTS)
    assert len(service.requests) == PATIENCE.attempts and caught.value.exit_code == 6 and caught.value.transient
    assert len(clock.slept) == PATIENCE.attempts - 1


def test_waits_do_not_all_end_together(service: Service) -> None:
    """Red when jitter is gone: everybody who waited for a service comes back at the same moment."""
    waits = {Backoff(1.0, 8.0).wait_s(3, random.Random(seed)) for seed in range(20)}
    assert len(waits) == 20 and min(waits) >= 2.0 and max(waits) <= 4.0
    assert Backoff(1.0, 8.0).wait_s(10**6, random.Random(1)) <= 8.0


def test_retry_after_is_kept(service: Service, clock: HandClock) -> None:
    service.faults = [fails(429, Retry_After="37")]
    encoder(service, clock).encode(TEXTS)
    assert clock.slept == [37.0]
    service.faults = [fails(503, Retry_After=formatdate(clock.time + 55, usegmt=True))]
    encoder(service, clock).encode(TEXTS)
    assert clock.slept[1] == pytest.approx(55.0, abs=1.0)


def test_a_service_that_asks_for_more_than_our_patience_is_left_alone(service: Service, clock: HandClock) -> None:
    service.faults = [fails(429, Retry_After="3600")]
    with pytest.raises(EmbedderUnavailable) as caught:
        encoder(service, clock).encode(TEXTS)
    assert caught.value.retry_after_s == 3600.0 and clock.slept == [] and len(service.requests) == 1


@pytest.mark.parametrize("header", [None, "", "soon", "-5", "1e9", "9" * 40, "Mon, 99 Foo 2020", "\u0663"])
def test_a_senseless_retry_after_asks_for_nothing(header: str | None) -> None:
    assert retry_after_s(header, 0.0) == 0.0


# --- failures that last ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 301, 307, 204])
def test_what_only_a_person_can_mend_is_not_tried_again(service: Service, clock: HandClock, status: int) -> None:
    service.always = fails(status, {"error": {"message": "model not found"}}, Location="http://127.0.0.1:1/")
    with pytest.raises(EmbedderUnavailable, match=f"HTTP {status}") as caught:
        encoder(service, clock).encode(TEXTS)
    assert len(service.requests) == 1 and not caught.value.transient


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_text_is_told_apart(service: Service, clock: HandClock, status: int) -> None:
    service.always = fails(status, {"error": "too long"})
    with pytest.raises(TextRefused, match="too long"):
        encoder(service, clock).encode(TEXTS)
    assert len(service.requests) == 1


def test_nobody_there(clock: HandClock) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        gone = Service()
        gone.url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EmbedderUnavailable, match="Connection refused"):
            encoder(gone, clock).encode(TEXTS)
    assert len(clock.slept) == PATIENCE.attempts - 1


def test_a_server_that_does_not_speak_tls_is_no_service(service: Service, clock: HandClock) -> None:
    service.url = service.url.replace("http:", "https:")
    with pytest.raises(EmbedderUnavailable, match=r"(?i)ssl|reset|closed"):
        encoder(service, clock, patience=replace(PATIENCE, attempts=1, timeout_s=2.0)).encode(TEXTS)


@pytest.mark.parametrize("fault", [sleeps(3.0), drips], ids=["silent", "a byte at a time"])
def test_a_slow_answer_has_one_deadline(service: Service, clock: HandClock, fault: Behaviour) -> None:
    """Red when the timeout is that of one read: a byte now and then would hold us for ever."""
    service.always = fault
    started = time.perf_counter()
    with pytest.raises(EmbedderUnavailable, match=r"no whole answer within 0\.2 s|timed out"):
        encoder(service, clock, patience=replace(PATIENCE, attempts=1, timeout_s=0.2)).encode(TEXTS)
    assert time.perf_counter() - started < 2.0


# --- answers that lie -----------------------------------------------------------------------------


def _rows(change: Any) -> Behaviour:
    return says(lambda right: {**right, "embeddings": change(right["embeddings"])})


LIES: dict[str, Behaviour] = {
    "one vector too few": _rows(lambda rows: rows[1:]),
    "one vector too many": _rows(lambda rows: [*rows, rows[0]]),
    "NaN": _rows(lambda rows: [[float("nan"), *rows[0][1:]], *rows[1:]]),
    "infinity": _rows(lambda rows: [[float("inf"), *rows[0][1:]], *rows[1:]]),
    "beyond float32": _rows(lambda rows: [[1e39, *rows[0][1:]], *rows[1:]]),
    "beyond float64": says(lambda right: {**right, "embeddings": [[10**400] * 4] * 3}),
    "1e999": says('{"embeddings": [[1e999, 1.0], [1.0, 1.0], [1.0, 1.0]]}'),
    "several lengths": _rows(lambda rows: [rows[0][:-1], *rows[1:]]),
    "no numbers": _rows(lambda rows: [["1.0"] * len(rows[0]), *rows[1:]]),
    "truths": _rows(lambda rows: [[True] * len(rows[0]), *rows[1:]]),
    "nulls": _rows(lambda rows: [[None] * len(rows[0]), *rows[1:]]),
    "zeros": _rows(lambda rows: [[0.0] * len(rows[0]), *rows[1:]]),
    "empty vectors": _rows(lambda rows: [[] for _ in rows]),
    "wider than anything": _rows(lambda rows: [[1.0] * (DIM_MAX + 1) for _ in rows]),
    "no list": _rows(lambda rows: {"0": rows[0]}),
    "a list of objects": _rows(lambda rows: [{"0": 1.0} for _ in rows]),
    "another field": says(lambda right: {"vectors": right["embeddings"]}),
    "a number": says("7"),
    "deep": says("[" * 100_000),
    "compressed": says(b"\x1f\x8b", Content_Encoding="gzip"),
    "huge, and says so": says(" " * (2 << 20) + "{}"),
    "huge without a length": says(" " * (2 << 20) + "{}", Content_Length="", Transfer_Encoding="x", Connection="close"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_wrong_answer_never_becomes_vectors(service: Service, clock: HandClock, lie: str) -> None:
    service.always = LIES[lie]
    with pytest.raises(EmbedderUnavailable) as caught:
        encoder(service, clock, patience=replace(PATIENCE, attempts=2)).encode(TEXTS)
    assert len(str(caught.value)) < 500 and len(service.requests) == 2


@pytest.mark.parametrize("indices", [[0, 1, 1], [0, 1, 3], [-1, 0, 1], ["0", "1", "2"], [0, 1, True], [0, 1]])
def test_indices_that_are_not_those_of_the_texts_are_refused(
    service: Service, clock: HandClock, indices: list[Any]
) -> None:
    service.always = says(
        lambda right: {"data": [{**item, "index": at} for at, item in zip(indices, right["data"], strict=False)]}
    )
    with pytest.raises(EmbedderUnavailable):
        encoder(service, clock, "openai", replace(PATIENCE, attempts=1)).encode(TEXTS)


# --- keys -----------------------------------------------------------------------------------------

KEY = "sk-very-secret-0123456789"


def test_a_key_comes_from_the_variable_of_its_host_and_is_sent(service: Service, clock: HandClock) -> None:
    encoder(service, clock, "openai", EMM_EMBEDDER_KEY_127_0_0_1=KEY, OPENAI_API_KEY="another").encode(TEXTS)
    assert service.headers[-1]["Authorization"] == f"Bearer {KEY}"
    encoder(service, clock, "openai", OPENAI_API_KEY=KEY, EMM_EMBEDDER_KEY_GPU_BOX=KEY).encode(TEXTS)
    assert "Authorization" not in service.headers[-1]


def test_a_key_is_for_one_host_and_for_no_ears() -> None:
    environment = {"OPENAI_API_KEY": KEY, "EMM_EMBEDDER_KEY_GPU_BOX_LAB": KEY}
    assert key_for(Endpoint.parse("https://api.openai.com"), environment) == KEY
    assert key_for(Endpoint.parse("https://gpu-box.lab"), environment) == KEY
    assert key_for(Endpoint.parse("https://api.openai.com.evil.example"), environment) is None
    assert variable_of(Endpoint.parse("https://gpu-box.lab:8443/v1")) == "EMM_EMBEDDER_KEY_GPU_BOX_LAB"
    for url in ("http://gpu-box.lab", "http://api.openai.com"):
        with pytest.raises(EmbedderUnavailable, match="https or to this machine") as caught:
            key_for(Endpoint.parse(url), environment)
        assert KEY not in str(caught.value)


@pytest.mark.parametrize("key", ["sk\r\nX-Evil: 1", "sk \u00fc", "s k", "\x00"])
def test_a_key_that_would_break_the_request_is_refused_unseen(service: Service, clock: HandClock, key: str) -> None:
    with pytest.raises(EmbedderUnavailable, match="something else than a key") as caught:
        encoder(service, clock, EMM_EMBEDDER_KEY_127_0_0_1=key).encode(TEXTS)
    assert key not in str(caught.value) and not service.requests


def test_a_service_that_repeats_the_key_does_not_make_us_repeat_it(service: Service, clock: HandClock) -> None:
    service.always = fails(401, {"error": {"message": f"the key {KEY} is not valid\x1b[31m\n"}})
    with pytest.raises(EmbedderUnavailable, match=r"the key \*\*\* is not valid") as caught:
        encoder(service, clock, EMM_EMBEDDER_KEY_127_0_0_1=KEY).encode(TEXTS)
    assert KEY not in repr(caught.value.__dict__) and "\x1b" not in str(caught.value)


# --- an embedder of a domain ----------------------------------------------------------------------


def test_lifting_keeps_every_inner_product_to_the_bit() -> None:
    rows = unit_rows(np.random.default_rng(0).standard_normal((40, 48)))
    wide = lifted(rows, 256)
    assert wide.shape == (40, 256) and lifted(wide, 256) is wide
    exact = np.einsum("ik,jk->ij", rows.astype(np.float64), rows.astype(np.float64))
    assert np.array_equal(np.einsum("ik,jk->ij", wide.astype(np.float64), wide.astype(np.float64)), exact)


@pytest.mark.parametrize(("source_dim", "dim"), [(48, 256), (256, 256), (300, 300)])
def test_a_fitted_embedder_reopens_and_recognises_its_model(
    service: Service, clock: HandClock, source_dim: int, dim: int
) -> None:
    service.dim = source_dim
    provider = PretrainedProvider(encoder(service, clock))
    fitted = provider.fit(TEXTS, 256)
    again = provider.from_bytes(fitted.to_bytes())
    assert again.fingerprint == fitted.fingerprint and again.dim == dim
    rows = again.embed(TEXTS)
    assert rows.shape == (3, dim) and np.array_equal(rows[:, :source_dim], expected(service, TEXTS))
    assert service.requests[-1]["input"] == [PROBE, *TEXTS]  # one request, with the probe in it
    again.embed(TEXTS[:1])
    assert service.requests[-1]["input"] == TEXTS[:1]
    assert again.salient_terms(["a pump leaks"], 2) == fitted.salient_terms(["a pump leaks"], 2) != [[]]
    assert service.url.encode() not in fitted.to_bytes()  # it may move


@pytest.mark.parametrize("change", [{"seed": "model two"}, {"dim": 64}, {"dim": 32}])
def test_another_model_behind_the_same_name_is_loud(service: Service, clock: HandClock, change: dict[str, Any]) -> None:
    """Red when vectors of two models are compared with each other: noise that looks like answers."""
    stored = PretrainedProvider(encoder(service, clock)).fit(TEXTS, 256).to_bytes()
    for name, value in change.items():
        setattr(service, name, value)
    embedder = PretrainedProvider(encoder(service, clock)).from_bytes(stored)
    for _ in range(2):
        with pytest.raises(EmbedderError, match="emm reembed") as caught:
            embedder.embed(TEXTS)
        assert not isinstance(caught.value, EmbedderUnavailable) and caught.value.exit_code == 4


def test_a_model_of_another_name_is_not_read(service: Service, clock: HandClock) -> None:
    stored = PretrainedProvider(encoder(service, clock)).fit(TEXTS, 256).to_bytes()
    for provider, data in (
        (PretrainedProvider(encoder(service, clock, "openai")), stored),
        (PretrainedProvider(encoder(service, clock)), stored[:-7]),
        (PretrainedProvider(encoder(service, clock)), b"no model"),
    ):
        with pytest.raises(EmbedderError):
            provider.from_bytes(data)


def test_a_service_that_refuses_the_probe_has_no_such_model(service: Service, clock: HandClock) -> None:
    service.always = fails(400, {"error": "no such model"})
    with pytest.raises(EmbedderUnavailable, match="no such model"):
        PretrainedProvider(encoder(service, clock)).fit(TEXTS, 256)


def test_a_key_is_in_no_stored_model(service: Service, clock: HandClock, tmp_path: Path) -> None:
    fitted = PretrainedProvider(encoder(service, clock, EMM_EMBEDDER_KEY_127_0_0_1=KEY)).fit(TEXTS, 256)
    assert service.headers[-1]["Authorization"].endswith(KEY) and KEY.encode() not in fitted.to_bytes()
