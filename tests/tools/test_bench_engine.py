"""`emm bench engine`: its readers, its predictors, a small run, and the page that shows the stored one.

Red when: a turn is not a passage of its own or loses its neighbours; a collection is read otherwise than it is written;
a predictor sees an entry before it has to guess it; the page is not what the stored run prints.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from emm_engine import Archive
from emm_engine.chunking import passages
from emm_engine.errors import EmbedderUnavailable
from emm_tools.bench_engine_text import target_lines, text_of
from emm_tools.bench_patterns import RANK, Entry, Matrix, Neighbours, Prior, entries, guesses
from emm_tools.bench_questions import collection
from emm_tools.bench_rankings import OURS, RANKINGS, Answers
from emm_tools.exits import InputProblem

STORED = Path(__file__).parent.parent.parent / "docs" / "benchmarks"
WORDS = ("basalt", "granite", "marble", "quartz", "gneiss", "slate")


def write_med(folder: Path) -> None:
    (folder / "med").mkdir()
    texts = [f"{word} and {other} in thin layers" for word in WORDS for other in WORDS if word != other]
    (folder / "med" / "MED.ALL").write_text("".join(f".I {at}\n.W\n{text}\n" for at, text in enumerate(texts, 1)))
    (folder / "med" / "MED.QRY").write_text(".I 1\n.W\nwhere is marble?\n.I 2\n.W\nslate\n.I 3\n.W\nunjudged\n")
    wanted = [f"1 0 {at} 1" for at, text in enumerate(texts, 1) if "marble" in text] + ["2 0 30 1", "2 0 1 0"]
    (folder / "med" / "MED.REL").write_text("\n".join(wanted) + "\n")


def write_locomo(folder: Path) -> None:
    (folder / "locomo").mkdir()
    long = "a very long turn, " * 60
    sessions = [["hello", "I lost my keys.", long, "- one\n\n- two"], ["good morning", "where were they?"]]
    talk: dict[str, object] = {}
    for number, texts in enumerate(sessions, 1):
        turns = [{"speaker": "Ann", "dia_id": f"D{number}:{at}", "text": text} for at, text in enumerate(texts, 1)]
        turns[1]["blip_caption"] = "a door"
        talk |= {f"session_{number}_date_time": "1:56 pm on 8 May, 2023", f"session_{number}": turns}
    asked = [
        {"question": "What did Ann lose?", "evidence": ["D1:2; D2:2", "D9:9"], "category": 1},
        {"question": "Unanswerable?", "evidence": ["D1:1"], "category": 5},
        {"question": "Without evidence?", "evidence": [], "category": 4},
    ]
    (folder / "locomo" / "some.json").write_text(json.dumps([{"conversation": talk, "qa": asked}]))


def test_med_is_read_with_its_judgements(tmp_path: Path) -> None:
    write_med(tmp_path)
    (corpus,) = collection("med", tmp_path)
    assert [asked.text for asked in corpus.questions] == ["where is marble?", "slate"]
    assert corpus.questions[1].wanted == {"30"} and len(corpus.documents) == 30
    with pytest.raises(InputProblem, match="does not hold cranfield"):
        collection("cranfield", tmp_path)
    (tmp_path / "med" / "MED.REL").write_text("1 0 2\n")
    with pytest.raises(InputProblem, match="cannot be read as med"):
        collection("med", tmp_path)


def test_cranfield_is_read_with_its_judgements(tmp_path: Path) -> None:
    folder = tmp_path / "cranfield"
    folder.mkdir()
    (folder / "cran.all.1400.xml").write_text(
        "<doc>\n<docno>1</docno>\n<title>\nwings\n</title>\n<text>\nof planes\n</text>\n</doc>\n"
        "<doc><docno>2</docno></doc>"
    )
    (folder / "cran.qry.xml").write_text("<top><num>9</num><title>\nwhat lifts?\n</title></top>")
    (folder / "cranqrel.trec.txt").write_text("1 0 1 2\n1 0 2 -1\n")
    (corpus,) = collection("cranfield", tmp_path)
    assert [(each.source, each.title, each.text) for each in corpus.documents] == [
        ("1", "wings", "of planes"),
        ("2", "2", "2"),
    ]
    assert [(each.text, each.wanted) for each in corpus.questions] == [("what lifts?", {"1"})]


def test_a_turn_is_a_passage_with_its_session_around_it(tmp_path: Path) -> None:
    write_locomo(tmp_path)
    (corpus,) = collection("locomo", tmp_path)
    first = corpus.documents[0]
    turns = corpus.turns[first.source]
    found = [(turns.at(span.start), first.text[span.start : span.end]) for span in passages(first.text)]
    assert [name for name, _ in found] == ["D1:1", "D1:2", "D1:3", "D1:4"]
    assert found[1][1] == "Ann: I lost my keys. [image: a door]" and found[3][1] == "Ann: - one\n\n- two"
    assert [asked.wanted for asked in corpus.questions] == [{"D1:2", "D2:2"}]
    with Archive.create(tmp_path / "archive") as archive:
        archive.ingest(corpus.documents, corpus.scope)
        found_at = Answers.of(archive, corpus, "Which keys were lost?").rankings()
    named = {way: [corpus.name_of(each) for each in ranking] for way, ranking in found_at.items()}
    assert tuple(named) == RANKINGS and all(ranking[0] == "D1:2" for ranking in named.values())
    assert named["BM25 alone"] == ["D1:2"], "alone, only what has a word"
    assert {"D1:1", "D1:3"} <= set(named[OURS]) and {"D1:1", "D1:3"} <= set(named["--without vector"])


def test_rankings_alone_are_those_of_the_scores_that_are_cited(tmp_path: Path) -> None:
    write_med(tmp_path)
    (corpus,) = collection("med", tmp_path)
    with Archive.create(tmp_path / "archive") as archive:
        archive.ingest(corpus.documents, corpus.scope)
        found = Answers.of(archive, corpus, "marble and slate").rankings()
        alone = archive.ask("marble and slate", corpus.scope, 1000, 10**7).vector_only
    lexical, vector = ([getattr(each, name) for each in found[way]] for way, name in
                       (("BM25 alone", "lexical"), ("vectors alone", "vector")))  # fmt: skip
    assert lexical == sorted(lexical, reverse=True) and min(lexical) > 0
    assert vector == sorted(vector, reverse=True)
    assert [each.passage_id for each in found["vectors alone"]] == [each.passage_id for each in alone]
    one_a_document = [each.passage_id for each in found["convex fusion alone"]]
    assert one_a_document == [each.passage_id for each in found[OURS]], "without neighbours, smoothing changes nothing"


def test_entries_come_in_the_order_of_time_with_the_tags_that_count(tmp_path: Path) -> None:
    (tmp_path / "lab-notebook").mkdir()
    rows = [
        {"id": "2012/03/01/b", "date": "2010-03-01", "title": "B", "text": "two", "tags": ["x", "y"]},
        {"id": "2011/01/01/a", "date": "2011-01-01", "title": "A", "text": "one", "tags": ["x"]},
        {"id": "2013/01/01/c", "date": "2013-01-01", "title": "C", "text": "three", "tags": []},
    ]
    (tmp_path / "lab-notebook" / "entries.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert entries(tmp_path, "date", 1) == [Entry("B\ntwo", ("x", "y")), Entry("A\none", ("x",))]
    assert entries(tmp_path, "id", 2) == [Entry("A\none", ("x",)), Entry("B\ntwo", ("x",))]
    with pytest.raises(InputProblem, match="cannot be read as a notebook"):
        entries(tmp_path / "nothing", "date", 1)


def without_minilm() -> None:
    raise EmbedderUnavailable("minilm is not here")


def unit(*numbers: float) -> np.ndarray:
    key = np.zeros(RANK, np.float32)
    key[: len(numbers)] = numbers
    return key / np.float32(np.linalg.norm(key))


def test_online_an_entry_is_learnt_after_it_was_guessed() -> None:
    """The tag of the later entries is new: held out nobody can know it, online the second of them can."""
    keys = np.stack([unit(1), unit(0, 1), unit(0.1, 1)])
    tags = np.array([[1, 0], [0, 1], [0, 1]], np.float32)
    for online, second in ((False, False), (True, True)):
        hits = guesses(Neighbours(1, None, 3, 2), keys, tags, 1, online)
        assert hits[:, 0].tolist() == [False, second]


def test_neighbours_vote_by_cosine_and_fade_with_age() -> None:
    predictor = Neighbours(3, None, 3, 2)
    fading = Neighbours(3, 1.0, 3, 2)
    for each in (predictor, fading):
        each.learn(unit(1), np.array([1, 0], np.float32))
        each.learn(unit(0, 1), np.array([0, 1], np.float32))
        each.learn(unit(1, 1), np.array([0, 1], np.float32))
    assert predictor.scores(unit(1)) == pytest.approx([1.0, np.sqrt(0.5)])
    assert fading.scores(unit(1)) == pytest.approx([0.25, np.sqrt(0.5)])


def test_the_prior_and_the_matrix_guess_what_they_learnt(tmp_path: Path) -> None:
    keys = np.stack([unit(1), unit(0, 1), unit(0, 1, 0.1), unit(1, 0.1)])
    tags = np.array([[1, 0], [0, 1], [0, 1], [1, 0]], np.float32)
    assert guesses(Prior(2), keys, tags, 3, False).tolist() == [[False, True, False]]
    codes = np.eye(2, 768, dtype=np.float32)
    for rule, gate in (("preconditioned", 1.0), ("gated-delta", 0.3)):
        matrix = Matrix(tmp_path / rule, rule, gate, codes)
        assert guesses(matrix, keys, tags, 3, False).tolist() == [[True, False, False]]
        if rule == "gated-delta":
            assert matrix.scores(unit(1))[0] == pytest.approx(0.3, abs=1e-4), "one write with gate 0.3"
        matrix.close()


def test_a_small_run_prints_what_it_stores(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emm_tools.bench_engine.minilm_keys", without_minilm)
    monkeypatch.delenv("EMM_DATA", raising=False)
    write_med(tmp_path)
    stored = tmp_path / "run.json"
    measured = run("emm", "bench", "engine", "--data", tmp_path, "--only", "med", "--json", stored)
    assert measured.code == 0 and "MED, lsa: 2 questions, 30 documents, 30 passages" in measured.out
    assert "left out: minilm" in measured.out and "MED, lsa, nDCG@10:" in measured.out
    assert run("emm", "bench", "engine", "--from", stored).out == measured.out
    stored.write_text("{}")
    assert run("emm", "bench", "engine", "--from", stored).code == 2
    assert run("emm", "bench", "engine", "--only", "med").code == 2
    assert run("emm", "bench", "engine", "--data", tmp_path, "--only", "trec").code == 2


def test_the_engine_page_shows_the_stored_run(run, tmp_path: Path) -> None:
    """Red when a figure on the page is not the one in docs/benchmarks/engine.json."""
    page = tmp_path / "engine.md"
    page.write_text((STORED / "engine.md").read_text())
    run("emm", "bench", "engine", "--from", STORED / "engine.json", "--write", page)
    assert page.read_text() == (STORED / "engine.md").read_text()


def test_a_target_that_is_missed_says_so() -> None:
    report = json.loads((STORED / "engine.json").read_text())
    worse = copy.deepcopy(report)
    for found in worse["collections"].values():
        for embedder in found.values():
            for group in embedder["groups"].values():
                for ways in group["scores"].values():
                    ways[OURS]["score"][0] = 0.01
    assert text_of(worse) != text_of(report)
    lines = [line for line in target_lines(worse) if not line.startswith("Notebook")]
    assert lines and all(line.endswith("NOT MET") for line in lines)
