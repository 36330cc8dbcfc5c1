"""The held-out test is honest.

Red when: the split is not by date, newer texts reach the embedder or the matrix, the winner is not the best, a tie
or a difference that chance explains is told as a win, or a pattern that is plainly there is not learnt.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

import emm
from emm_engine import Document
from emm_engine.embeddings.lsa import LsaEmbedder, LsaProvider
from emm_engine.matrices.holdout import Entry, Paired, Score, _winner, entries_of, holdout

Make = Callable[..., list[Document]]


def test_a_plain_pattern_is_learnt_and_beats_the_prior(make_documents: Make) -> None:
    report = holdout(entries_of(make_documents(300), "package"))
    by_name = {score.name: score for score in report.scores}
    assert set(by_name) == {"matrix", "neighbours", "prior"}
    assert by_name["matrix"].p_at_1 > 0.9 > 0.5 > by_name["prior"].p_at_1
    assert report.n_learnt == 210 and report.n_predicted == 90 and report.n_labels == 4
    assert (report.rank, report.dim) == (512, 768)


def test_labels_without_a_pattern_are_not_predicted(make_documents: Make) -> None:
    chance = random.Random(1)
    entries = [Entry(e.date, e.text, (str(chance.randrange(20)),)) for e in entries_of(make_documents(400), "package")]
    assert all(score.p_at_1 < 0.2 for score in holdout(entries).scores)


def test_the_newer_part_is_never_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    fit = LsaProvider.fit

    def recording(provider: LsaProvider, texts: Sequence[str], dim: int) -> LsaEmbedder:
        seen.extend(texts)
        return fit(provider, texts, dim)

    monkeypatch.setattr(LsaProvider, "fit", recording)
    old = [Entry(f"2001-01-01T00:00:{n:02}Z", f"alpha beta number{n}", ("old",)) for n in range(35)]
    new = [Entry(f"2002-01-01T00:00:{n:02}Z", f"gamma delta number{n}", ("new",)) for n in range(15)]
    report = holdout([*new, *old])
    assert report.split_date == "2002-01-01T00:00:00Z" and report.n_unseen == 15
    assert all(score.p_at_3 == 0.0 for score in report.scores)
    assert len(seen) == 35 and not any("gamma" in text for text in seen)


def test_the_report_counts_what_makes_it_easy_or_hard(make_documents: Make) -> None:
    documents = make_documents(100)
    report = holdout(entries_of([*documents, *documents], "package"))
    assert report.n_learnt + report.n_predicted == 100  # duplicates are dropped
    assert report.n_named == 30  # the fixture's texts name their topic
    assert report.n_dates == len({document.date for document in documents})
    with pytest.raises(emm.InputError, match="too few"):
        holdout(entries_of(documents[:5], "package"))


def test_any_of_several_labels_is_a_hit() -> None:
    entries = [
        Entry(f"20{n:02}-01-01T00:00:00Z", "rotor bearing" if n % 2 else "locale charset", (f"x{n % 2}", "both"))
        for n in range(60)
    ]
    report = holdout(entries)
    by_name = {score.name: score for score in report.scores}
    assert by_name["matrix"].p_at_3 == by_name["neighbours"].p_at_1 == by_name["prior"].p_at_1 == 1.0
    assert report.n_labels == 3
    assert report.winner == "tie"


@pytest.mark.parametrize(
    ("matrix", "neighbours", "alone", "winner"),
    [
        ((0.60, 0.80), (0.60, 0.80), (5, 5), "tie"),
        ((0.61, 0.80), (0.60, 0.90), (9, 5), "not distinguishable"),
        ((0.60, 0.90), (0.60, 0.80), (5, 5), "not distinguishable"),
        ((0.70, 0.80), (0.60, 0.80), (25, 5), "matrix"),
        ((0.60, 0.80), (0.70, 0.80), (5, 25), "neighbours"),
        ((0.10, 0.80), (0.11, 0.80), (5, 6), "prior"),
    ],
)
def test_nobody_wins_what_chance_explains(
    matrix: tuple[float, float], neighbours: tuple[float, float], alone: tuple[int, int], winner: str
) -> None:
    """Red when `_winner` goes by the shares alone: of equal predictors the first of the list was the "winner"."""
    ours, theirs = alone
    right = np.repeat([(True, False), (False, True), (True, True)], (ours, theirs, 7), axis=0)
    paired = Paired.of(right[:, 0], right[:, 1])
    assert (paired.matrix_alone, paired.neighbours_alone) == alone
    assert paired.z == pytest.approx((ours - theirs) / (ours + theirs) ** 0.5)
    named = {"matrix": matrix, "neighbours": neighbours, "prior": (0.5, 0.5)}
    scores = [Score(name, "", *shares, 0.0) for name, shares in named.items()]
    assert _winner(scores, paired) == winner
