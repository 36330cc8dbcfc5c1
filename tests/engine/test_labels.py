"""Codes, values, facts and their decoding.

Red when: a code depends on anything but kind, name and dim (a pinned digest says so), codes are not of length one;
a value is not the weighted sum; decoding names labels that only chance put there, or labels that are as common
everywhere, or forgets to divide by the kind's weight.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from emm_engine import Label
from emm_engine.documents import Marked
from emm_engine.extraction.facts import facts
from emm_engine.matrices.labels import code, codes, taught, value, weight_of
from emm_engine.matrices.packed import packed, products
from emm_engine.retrieval.associations import Candidates, decode

DIM = 768


def candidates(labels: list[Label], bases: list[float] | None = None) -> Candidates:
    return Candidates(labels, packed(labels, DIM), [1] * len(labels), bases or [0.0] * len(labels))


def test_a_code_is_sha256_in_counter_mode() -> None:
    found = code(Label("package", "tar"), DIM)
    bits = b"".join(hashlib.sha256(bytes([c, 0, 0, 0]) + b"package\0tar").digest() for c in range(3))
    signs = [1 - 2 * ((bits[at // 8] >> (at % 8)) & 1) for at in range(DIM)]
    assert np.array_equal(np.sign(found), np.array(signs, np.float32))
    assert np.linalg.norm(found) == pytest.approx(1.0, abs=1e-6)
    assert not np.array_equal(found, code(Label("packag", "e\N{SYMBOL FOR NULL}tar"), DIM))


def test_codes_of_different_labels_are_nearly_orthogonal() -> None:
    rows = codes([Label("term", str(number)) for number in range(300)], DIM).astype(np.float64)
    cosines = rows @ rows.T - np.eye(300)
    assert np.abs(cosines).max() < 0.2 and abs(cosines.mean()) < 0.005


def test_a_value_is_the_weighted_sum_in_any_order() -> None:
    weighted = [(Label("package", "tar"), 1.0), (Label("term", "locale"), 0.5), (Label("a", "b"), 0.25)]
    expected = sum(weight * code(label, DIM).astype(np.float64) for label, weight in weighted)
    assert np.allclose(value(weighted, DIM), expected, atol=1e-7)
    many = [(Label("term", str(number)), 0.1 * number + 0.03) for number in range(30)]
    assert np.array_equal(value(many, DIM), value(reversed(many), DIM))
    assert not value([], DIM).any()


def test_facts_are_name_value_unit() -> None:
    text = "  * Pump pressure: 3.5 bar\nyield = 87 %, temp: -4e2 \u00b0C; version 1.2: no\nurl http://x:80/"
    assert [fact.label.name for fact in facts(text)] == ["pump pressure: 3.5 bar", "yield: 87 %", "temp: -4e2 \u00b0C"]


def test_a_passage_teaches_what_is_declared_and_extracted_with_their_weights() -> None:
    declared = [Marked(Label("package", "tar"), 3, 6), Marked(Label("bug", "7"))]
    extracted = [Marked(Label("term", name)) for name in ("locale", "tar")] + facts("rate: 5 Hz", 10)
    found = taught(declared, extracted)
    assert found[-1].mark == Marked(Label("term", "locale")) and Marked(Label("package", "tar"), 3, 6) in [
        each.mark for each in found
    ]
    assert {each.mark.label: each.weight for each in found} == {
        Label("package", "tar"): 1.0,
        Label("term", "locale"): weight_of("term"),
        Label("fact", "rate: 5 Hz"): weight_of("fact"),
    }


def test_decoding_finds_the_labels_of_a_mixture_with_their_strengths() -> None:
    labels = [Label("package", str(number)) for number in range(500)] + [Label("maintainer", "ann")]
    recalled = value([(labels[3], 0.8), (labels[9], 0.4), (labels[-1], weight_of("maintainer") * 0.6)], DIM)
    found = decode(recalled, candidates(labels), 10)
    assert [item.label for item in found] == [labels[3], labels[-1], labels[9]]
    assert [item.strength for item in found] == pytest.approx([0.8, 0.6, 0.4], abs=0.12)


def test_chance_names_nothing() -> None:
    labels = [Label("package", str(number)) for number in range(500)]
    chance = np.random.default_rng(0)
    noise = [chance.standard_normal(DIM).astype(np.float32) for _ in range(100)]
    choice = candidates(labels)
    assert sum(len(decode(vector, choice, 10)) for vector in noise) <= 3
    assert decode(np.zeros(DIM, np.float32), candidates(labels), 10) == []
    assert decode(code(labels[0], DIM), candidates([]), 10) == []


def test_what_is_common_everywhere_is_no_association() -> None:
    labels = [Label("urgency", "medium"), Label("package", "tar")]
    recalled = value([(labels[0], 0.7 * weight_of("urgency")), (labels[1], 0.3)], DIM)
    assert [item.label for item in decode(recalled, candidates(labels, [0.66, 0.01]), 5)] == [labels[1]]
    assert len(decode(recalled, candidates(labels, [0.1, 0.01]), 5)) == 2


@pytest.mark.parametrize("dim", [8, 100, 512, 768, 1024])
def test_packed_codes_give_the_products_of_the_codes(dim: int) -> None:
    """Red when a bit stands for another number or another sign, or the numbers beyond `dim` count."""
    labels = [Label("tag", f"name {number}") for number in range(300)]
    vector = np.random.default_rng(dim).standard_normal(dim).astype(np.float32)
    expected = codes(labels, dim).astype(np.float64) @ vector
    assert np.abs(products(packed(labels, dim), vector) - expected).max() < 1e-5
    assert products(packed([], dim), vector).shape == (0,)
