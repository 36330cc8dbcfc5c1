"""Passages are exact spans.

Red when: a span is taken from a stripped or rejoined copy of the text; white space is kept at a span's ends; text
between two spans is lost; a block without any break is let through at more than the maximum.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emm_engine.chunking import Span, passages

TEXTS = st.text(st.sampled_from("ab .\n*-#\t\u00e9\U0001f980"), max_size=400)


@given(TEXTS, st.integers(5, 40), st.integers(0, 30))
def test_every_visible_character_lies_in_exactly_one_passage(text: str, target: int, more: int) -> None:
    spans = passages(text, target, target + more)
    covered = [at for span in spans for at in range(span.start, span.end)]
    assert covered == sorted(set(covered))
    assert {at for at, c in enumerate(text) if not c.isspace()} <= set(covered)
    for span in spans:
        passage = text[span.start : span.end]
        assert passage == passage.strip() != ""
        assert len(passage) <= target + more


def test_bullets_stay_whole_and_are_packed_up_to_the_target() -> None:
    text = "  * first bullet\n    goes on\n  * second bullet\n\n  * third bullet"
    assert [text[s.start : s.end] for s in passages(text, 30, 60)] == [
        "* first bullet\n    goes on",
        "* second bullet",
        "* third bullet",
    ]
    assert passages(text, 200, 400) == [Span(2, len(text))]


def test_long_paragraphs_are_cut_at_sentences_then_words_then_anywhere() -> None:
    sentences = "One two three. Four five six. Seven eight nine."
    assert [sentences[s.start : s.end] for s in passages(sentences, 20, 32)] == [
        "One two three. Four five six.",
        "Seven eight nine.",
    ]
    assert [s.end - s.start for s in passages("x" * 25, 10, 10)] == [10, 10, 5]


def test_white_space_alone_has_no_passages() -> None:
    assert passages(" \n\t \n") == [] == passages("")
