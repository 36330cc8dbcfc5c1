"""What a text says about itself: keyphrases, facts, titles, dates, bands; and where it says it.

Red when: a label's span does not hold its words; a phrase crosses a stop word, a mark or an empty line; single words
alone are found where several belong together; counting grows with the corpus; a band's name depends on its neighbours;
what a catalog stores of a span is not what the text there says.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from emm_engine import Archive, Document, Label, Scope
from emm_engine.catalog.store import Catalog
from emm_engine.documents import FILE_DATE, Marked, Passage
from emm_engine.extraction import keyphrases
from emm_engine.extraction.bands import Bands
from emm_engine.extraction.facts import facts
from emm_engine.extraction.keyphrases import PhraseModel, candidates
from emm_engine.extraction.spans import document_labels, locate
from emm_engine.words import singular

RUN = Scope("lab", "general", "p", "r")
NOTES = [
    "Early warning signals of the pump. Its ball bearings were noisy; pressure: 3.5 bar.",
    "The early warning signal came late,\nand the ball bearing failed.",
    "An early warning\nsignal was seen. Early warning signals are cheap. flow = 2 l/min",
]


def says(label: Label, said: str) -> bool:
    """Whether these characters say the label, for the kinds whose name is a normal form of what is written."""
    if label.kind == "term":
        return " ".join(singular(word.lower()) for word in said.split()) == label.name
    if label.kind == "fact":
        return [fact.label for fact in facts(said)] == [label]
    return said.lower() == label.name.lower()


def test_keyphrases_are_several_words_with_exact_spans() -> None:
    model = PhraseModel.of(NOTES)
    found = model.keyphrases(NOTES[2], start=100)
    assert found[0].label == Label("term", "early warning signal")
    assert (found[0].start, found[0].end) == (103, 103 + len("early warning\nsignal"))
    for text in NOTES:
        for mark in model.keyphrases(text):
            assert mark.start is not None and says(mark.label, text[mark.start : mark.end])


def test_a_phrase_ends_at_stop_words_marks_and_empty_lines() -> None:
    text = "ball bearing. pump of steel, old (valve) wide\n\ngap"
    assert {phrase for phrase, _, _ in candidates(text) if " " in phrase} == {"ball bearing"}
    assert ("x-ray tube", 0, 11) in list(candidates("X-ray tubes"))
    assert [phrase for phrase, _, _ in candidates("12 7.5 ab")] == []


def test_what_occurs_once_is_no_phrase() -> None:
    model = PhraseModel.of([f"common thread and unique{number} word{number}" for number in range(60)])
    assert set(model.counts) == {"common", "thread", "common thread"}
    assert model.n_passages == 60


def test_counting_is_bounded_and_keeps_what_is_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyphrases, "COUNTED_MAX", 50)
    model = PhraseModel.of([f"common thread and unique{number} word{number}" for number in range(500)])
    assert set(model.counts) == {"common", "thread", "common thread"}


def test_facts_have_the_span_of_name_number_and_unit() -> None:
    text = "x\n- Pump pressure: 3.5 bar, yield = 87 %.\nrange: 340..360 K"
    assert [(fact.label.name, text[fact.start : fact.end]) for fact in facts(text)] == [
        ("pump pressure: 3.5 bar", "Pump pressure: 3.5 bar"),
        ("yield: 87 %", "yield = 87 %"),
    ]
    assert facts("heat: 1 K", 40)[0].start == 40


def test_a_label_is_located_as_whole_words_in_any_case() -> None:
    assert locate("Heating; heat. Preheat", "HEAT") == (9, 13)
    assert locate("heating", "heat") is None and locate("heat", "") is None
    assert locate("\u0130stanbul heat", "heat") == (9, 13)  # a capital whose lower case is two characters
    assert locate("a" * 1_000_000 + " heat", "heat") is None


def test_title_month_and_tags_are_labels_with_the_place_that_says_them() -> None:
    text = "---\ntitle: Run 7\ntags: [yield]\n---\nOn 2021-03-04 the yield rose."
    document = Document("n.md", "Run 7", text, "2021-03-04T00:00:00Z", (Label("tag", "yield"), Label("folder", "deep")))
    found = {mark.label: mark for mark in document_labels(document)}
    assert set(found) == {
        Label("tag", "yield"),
        Label("folder", "deep"),
        Label("title", "Run 7"),
        Label("month", "2021-03"),
    }
    assert found[Label("folder", "deep")].start is None  # its source says it, not its text
    for label in (Label("tag", "yield"), Label("title", "Run 7"), Label("month", "2021-03")):
        assert says(label, text[found[label].start : found[label].end])
    dated_by_file = Document("n", "t", "x", "2021-03-04T00:00:00Z", (FILE_DATE,))
    assert "month" not in {mark.label.kind for mark in document_labels(dated_by_file)}


@pytest.mark.parametrize(
    ("values", "value", "name"),
    [
        (range(100), 87.3, "80..100"),
        ([x / 100 for x in range(100)], 0.873, "0.8..1.0"),
        ([101325 + x for x in range(-500, 500, 7)], 101_290.0, "101200..101400"),
        ([-x for x in range(100)], -3.0, "-20..0"),
        (range(100), 80.0, "80..100"),
        ([0, 1, 1, 0], 1.0, "1"),
        ([20.5] * 50, 20.5, "20.5"),
        ([float("nan"), float("inf"), *range(50)], float("nan"), "nan"),
        ([x * 1e200 for x in range(50)], 5e200, "0..1e+201"),
        ([0.0, 1e308, -1e308, *range(9)], 5.0, "5"),
    ],
)
def test_bands_begin_at_multiples_of_a_round_step(values: list[float], value: float, name: str) -> None:
    assert Bands.of(list(values)).name(value) == name


def test_bands_stay_when_a_column_grows() -> None:
    values = [350 + (x * 37 % 100) / 10 for x in range(1000)]
    assert Bands.of(values[:200]) == Bands.of(values) == Bands(2.0)


@pytest.fixture
def stored(tmp_path: Path) -> list[tuple[Label, str | None]]:
    """(label, the characters of the document at its span) of every label of every pair of an archive."""
    table = "conditions: heat: 340..360 K\noutcome: yield: high"
    key = (12, table.index("\n"))
    outcome = Marked(Label("outcome", "yield: high"), table.index("yield"), len(table))
    documents = [
        Document(
            f"{at}.md", f"note {at}", f"---\ntags: wear\n---\n\n{text}", "2021-03-04T00:00:00Z", (Label("tag", "wear"),)
        )
        for at, text in enumerate(NOTES)
    ]
    documents.append(Document("t.csv", "t row 1", table, passages=(Passage(0, len(table), key, (outcome,)),)))
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(documents, RUN)
    catalog = Catalog(tmp_path / "a" / "catalog.sqlite")
    rows = catalog.query(
        "SELECT kind, labels.name, text, span_start, span_end, passages.start, passages.end FROM pair_labels "
        "JOIN labels USING(label_id) JOIN passages USING(passage_id) JOIN documents USING(document_id)"
    )
    catalog.close()
    return [(Label(kind, name), None if low is None else text[low:high]) for kind, name, text, low, high, *_ in rows]


def test_every_stored_span_is_read_again_and_says_its_label(stored: list[tuple[Label, str | None]]) -> None:
    said = [(label, text) for label, text in stored if text is not None]
    assert [(label, text) for label, text in said if not says(label, text)] == []
    kinds = {label.kind for label, _ in said}
    assert kinds == {"term", "fact", "tag", "outcome"}
    assert Label("term", "early warning signal") in [label for label, _ in said]
    unsaid = {label for label, text in stored if text is None}
    assert all(re.fullmatch(r"note \d|2021-03", label.name) for label in unsaid)


def test_of_conditions_and_outcome_nothing_else_is_extracted(stored: list[tuple[Label, str | None]]) -> None:
    """Red when the words or numbers of a row's conditions become labels of its value: the key would predict itself."""
    assert [label for label, _ in stored if "heat" in label.name or "340" in label.name] == []
