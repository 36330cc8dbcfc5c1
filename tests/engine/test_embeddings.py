"""The fallback embedder and how it is kept.

Red when: the fit depends on more than its texts (unseeded SVD, set order); a vector is not of length one; embedding
a text in a batch gives other bits than alone; a stored model is parsed before its SHA-256 is checked, or with pickle;
a corpus with fewer texts than dimensions fails.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emm_engine import Document, EmbedderError
from emm_engine.embeddings.lsa import LsaEmbedder, LsaProvider
from emm_engine.embeddings.provider import EmbedderFolder
from emm_engine.words import analyse, singular

Make = Callable[..., list[Document]]


def fit(texts: list[str], dim: int = 32) -> LsaEmbedder:
    return LsaProvider().fit(texts, dim)


def test_the_same_texts_give_the_same_model(make_documents: Make) -> None:
    texts = [document.text for document in make_documents(900)]  # beyond the exact SVD
    assert fit(texts).to_bytes() == fit(texts).to_bytes()


def test_rows_have_length_one_and_do_not_depend_on_the_batch(make_documents: Make) -> None:
    texts = [document.text for document in make_documents(80)]
    embedder = fit(texts)
    rows = embedder.embed(texts)
    assert rows.dtype == np.float32 and rows.shape == (80, 32)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)
    assert all(np.array_equal(embedder.embed([text])[0], row) for text, row in zip(texts[:10], rows, strict=False))


def test_like_texts_lie_nearer_than_unlike(make_documents: Make) -> None:
    documents = make_documents(200)
    rows = fit([document.text for document in documents]).embed([document.text for document in documents])
    topics = np.array([document.source for document in documents])
    same = topics[:, None] == topics[None, :]
    cosines = rows @ rows.T
    assert cosines[same].mean() > cosines[~same].mean() + 0.1


def test_a_text_of_unknown_words_is_the_zero_vector(make_documents: Make) -> None:
    embedder = fit([document.text for document in make_documents(60)])
    assert not embedder.embed(["zzz qqq", "", "the of and"]).any()


@pytest.mark.parametrize("texts", [["one single text"], ["a b"], ["the", "of"], [""], ["same words"] * 9])
def test_tiny_corpora_are_fitted(texts: list[str]) -> None:
    embedder = fit(texts)
    rows = embedder.embed([*texts, "unseen"])
    assert rows.shape == (len(texts) + 1, 32) and np.isfinite(rows).all()
    assert LsaProvider().from_bytes(embedder.to_bytes()).fingerprint == embedder.fingerprint


def test_a_stored_model_embeds_to_the_same_bits(make_documents: Make, tmp_path: Path) -> None:
    texts = [document.text for document in make_documents(120)]
    embedder = fit(texts)
    folder = EmbedderFolder(tmp_path / "models")
    fingerprint = folder.save(embedder)
    again = folder.load(LsaProvider(), fingerprint)
    assert fingerprint == embedder.fingerprint == again.fingerprint
    assert np.array_equal(embedder.embed(texts), again.embed(texts))
    assert embedder.salient_terms(texts[:5], 3) == again.salient_terms(texts[:5], 3)


def test_a_changed_or_missing_model_is_loud(make_documents: Make, tmp_path: Path) -> None:
    folder = EmbedderFolder(tmp_path)
    fingerprint = folder.save(fit([document.text for document in make_documents(20)]))
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(EmbedderError, match="changed") as caught:
        folder.load(LsaProvider(), fingerprint)
    assert (caught.value.expected, caught.value.found) == (fingerprint, hashlib.sha256(data).hexdigest())
    path.unlink()
    with pytest.raises(EmbedderError, match="missing"):
        folder.load(LsaProvider(), fingerprint)


class Bomb:
    """Leaves a file behind when unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.trace,))


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, head=np.array([Bomb(tmp_path / "trace")], dtype=object))
    with pytest.raises(EmbedderError, match="does not parse"):
        LsaProvider().from_bytes(path.read_bytes())
    assert not (tmp_path / "trace").exists()


def test_salient_terms_are_rare_words_heaviest_first(make_documents: Make) -> None:
    texts = [document.text for document in make_documents(100)]
    (terms,) = fit(texts).salient_terms(["the rotor of the archive archive archive"], 2)
    assert [name for name, _ in terms] == ["archive", "rotor"]
    assert terms[0][1] >= terms[1][1] > 0


def test_plurals_are_made_singular_and_names_kept() -> None:
    words = "libraries failures locales buses glibc status class debris pass"
    assert [singular(word) for word in words.split()] == [
        "library", "failure", "locale", "buse", "glibc", "status", "class", "debris", "pass",
    ]  # fmt: skip


def test_terms_are_found_in_linear_time():
    """Red when the pattern may try a stretch of text again: 24,000 characters of `a_-` took seconds."""
    started = time.perf_counter()
    assert analyse("a_-" * 40_000) == []
    assert time.perf_counter() - started < 2
    assert analyse("The en_US.UTF-8 locales of libc6, x86_64-linux") == [
        "en_us.utf-8",
        "locale",
        "libc6",
        "x86_64-linux",
    ]


# --- what a model knows beyond the words ---------------------------------------------------------


def themed(n_texts: int, n_words: int, n_themes: int, seed: int = 5) -> list[str]:
    """Texts of words that go together (`n_words` of a theme's 40), or, with one theme, of words that do not."""
    random = np.random.default_rng(seed)
    vocabulary = [f"{first}{second}{last}" for first in "bdfgk" for second in "aeiou" for last in "lmnrst"]
    vocabulary = [f"{one}{other}" for one in vocabulary for other in ("dax", "wug", "mip", "tov", "zeb", "lek")]
    width = len(vocabulary) // n_themes
    texts = []
    for _ in range(n_texts):
        theme = vocabulary[width * int(random.integers(n_themes)) :][:width]
        texts.append(" ".join(random.choice(theme, n_words, replace=False)))
    return texts


def test_words_that_go_together_are_learnt_and_others_are_not() -> None:
    """Red when vectors that only repeat the words count as much as words, or those that add to them count less."""
    assert fit(themed(600, 12, 20)).beyond_words > 0.9
    assert fit(themed(600, 12, 1)).beyond_words < 0.15
    assert fit(themed(400, 4, 20)).beyond_words < fit(themed(2000, 12, 20)).beyond_words


@pytest.mark.parametrize("texts", [["one"], ["the of and"] * 500, [""] * 300, themed(99, 12, 1)])
def test_what_cannot_be_told_leaves_the_weight_as_it_is(texts: list[str]) -> None:
    assert fit(texts).beyond_words == 1.0


def test_a_stored_model_says_what_it_knows_and_one_of_an_earlier_version_nothing() -> None:
    made = fit(themed(600, 12, 5))
    again = LsaProvider().from_bytes(made.to_bytes())
    assert again.beyond_words == made.beyond_words < 1.0 and again.fingerprint == made.fingerprint
    earlier = LsaEmbedder(made._terms, made._components, None)
    data = earlier.to_bytes()
    assert b"beyond" not in data and earlier.fingerprint != made.fingerprint
    read = LsaProvider().from_bytes(data)
    assert read.beyond_words == 1.0 and read.to_bytes() == data
    for wrong in (0.0, 1.5, float("nan")):
        with pytest.raises(EmbedderError, match="contradicts itself"):
            LsaProvider().from_bytes(LsaEmbedder(made._terms, made._components, wrong).to_bytes())
