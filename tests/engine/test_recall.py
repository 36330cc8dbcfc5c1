"""Recall over a whole archive: three recalls at once, filters, what each adds, and what is kept between questions.

Red when: asking one after the other answers differently; a filter lets something through, or hides what it should show
because others filled the pool; what is kept outlives a change of the catalog; a word's score is not what FTS5 says.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import emm
from emm_engine import Answer, Archive, Document, Label, Scope
from emm_engine.catalog.fulltext import WordIndex, telling_words
from emm_engine.catalog.occurrences import Lengths
from emm_engine.catalog.roster import Rosters
from emm_engine.catalog.store import Catalog
from emm_engine.catalog.textindex import Fts5FullText
from emm_engine.embeddings.lsa import LsaEmbedder
from emm_engine.renewal.selection import Selection
from emm_engine.retrieval.legs import Legs
from emm_engine.retrieval.lexical import LexicalRecall
from emm_engine.retrieval.question import Filters, Question, parse_label
from emm_engine.settings import RECALLS, RETRIEVAL_LOCAL, Settings

Make = Callable[..., list[Document]]
RUN = Scope("lab", "code", "debian", "host")
QUESTIONS = ("which locale fails in the archive of tar?", "pressure of the pump valve", "zebra", "seal", "the")


def spoken(answer: Answer) -> dict[str, object]:
    """An answer without its timings."""
    fields: dict[str, object] = json.loads(answer.to_json())
    del fields["timings_ms"]
    return fields


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, make_documents: Make) -> Iterator[Archive]:
    """Two hundred documents that no test changes."""
    with Archive.create(tmp_path_factory.mktemp("recall") / "archive") as opened:
        opened.ingest(make_documents(200), RUN)
        yield opened


@pytest.fixture
def growing(tmp_path: Path, make_documents: Make) -> Iterator[Archive]:
    """Forty documents, each test its own."""
    with Archive.create(tmp_path / "archive") as opened:
        opened.ingest(make_documents(40), RUN)
        yield opened


# --- three recalls ------------------------------------------------------------------------------


def test_asking_at_once_answers_as_asking_one_after_the_other(archive: Archive) -> None:
    at_once = [spoken(archive.ask(question, RUN, k=20)) for question in QUESTIONS]
    archive.parallel = False
    try:
        assert [spoken(archive.ask(question, RUN, k=20)) for question in QUESTIONS] == at_once
    finally:
        archive.parallel = True


def test_each_recall_can_be_left_out(archive: Archive) -> None:
    full = archive.ask("pressure of the pump valve", RUN)
    assert full.recalls == RECALLS and full.associations
    words, vectors, matrix = (
        archive.ask("pressure of the pump valve", RUN, without=set(RECALLS) - {recall}) for recall in RECALLS
    )
    assert words.recalls == ("lexical",) and words.citations and not words.associations and not words.vector_only
    assert all(citation.lexical > 0 and citation.vector == 0 for citation in words.citations)
    assert vectors.citations and all(citation.lexical == 0 for citation in vectors.citations)
    assert [citation.passage_id for citation in vectors.vector_only] == [c.passage_id for c in full.vector_only]
    assert matrix.citations == () and [a.name for a in matrix.associations] == [a.name for a in full.associations]
    assert all(association.evidence for association in matrix.associations)
    for refused in (RECALLS, ("words",)):
        with pytest.raises(emm.InputError, match="recall"):
            archive.ask("pump", RUN, without=refused)


def test_a_scope_can_be_told_which_recalls_to_ask(growing: Archive) -> None:
    with_all = growing.ask("pump valve", RUN)
    catalog = Catalog(growing.path / "catalog.sqlite")
    Settings(catalog).set(Scope("lab", "code"), RETRIEVAL_LOCAL, ("lexical", "matrix"))
    catalog.close()
    told = growing.ask("pump valve", RUN)
    assert (with_all.recalls, told.recalls) == (RECALLS, ("lexical", "matrix"))
    assert not any(citation.vector for citation in told.citations)
    assert growing.ask("pump valve", RUN, without=["matrix"]).recalls == ("lexical",)
    with pytest.raises(emm.InputError, match="no recall is left"):
        growing.ask("pump valve", RUN, without=["matrix", "lexical"])


def test_a_recall_that_fails_is_told_and_the_next_question_is_answered(
    growing: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when a failure in a thread is swallowed, or leaves the threads unusable."""
    expected = spoken(growing.ask("pump valve", RUN))

    def broken(*_: object) -> None:
        raise emm.StorageError("the medium failed")

    for target, name in ((WordIndex, "scores"), (LsaEmbedder, "embed"), (emm.Memory, "recall")):
        with monkeypatch.context() as patched:
            patched.setattr(target, name, broken)
            with pytest.raises(emm.StorageError, match="the medium failed"):
                growing.ask(f"rotor flow {name}", RUN)
        assert spoken(growing.ask("pump valve", RUN)) == expected


def test_the_only_hit_reads_well(tmp_path: Path) -> None:
    """Red when the one passage that answers is shown with the score 0.00: min-max over a pool of one."""
    with Archive.create(tmp_path / "a") as one:
        one.ingest([Document("s", "only", "The seal leaks at 3.5 bar.")], RUN)
        (citation,) = one.ask("what leaks?", RUN).citations
        assert citation.score == 1.0
        one.ingest([Document("s", "other", "The pump leaks, and the rotor, and so on.")], RUN)
        first, second = one.ask("seal leaks", RUN).citations
        assert first.score == 1.0 > second.score > 0.0


# --- lexical ------------------------------------------------------------------------------------


def test_scores_of_words_add_up_to_those_of_fts5(archive: Archive) -> None:
    catalog = Catalog(archive.path / "catalog.sqlite")
    runs = catalog.runs(RUN)
    roster, legs = Rosters(catalog).of(runs), Legs(lambda: Catalog(archive.path / "catalog.sqlite"))
    recall = LexicalRecall(catalog, legs)
    for question in ("locale resolver fails", "pressure of the pump valve 5 bar", "pump", "AND NOT body:"):
        expression = " OR ".join(f'"{word}"' for word in telling_words(question))
        rows = catalog.query(
            "SELECT rowid, -bm25(fulltext_1, 1.0, 2.0, 1.0) FROM fulltext_1 WHERE fulltext_1 MATCH ?", (expression,)
        )
        for _ in range(2):  # the second time from what was kept
            found = recall.begin(question, runs[0].tenant_id, roster).scores()
            expected = np.zeros(len(roster))
            places, known = roster.places(np.array([row[0] for row in rows], np.int64))
            assert known.all()
            expected[places] = [row[1] for row in rows]
            assert np.abs(found - expected).max() < 1e-4  # a word of more than half of all passages is worth 1e-6
    legs.close()
    catalog.close()


def test_a_word_is_worth_what_fts5_says_whatever_the_index_makes_of_it(tmp_path: Path) -> None:
    """Words of one term, of several and of none; in all columns; after passages have come and gone."""
    with Archive.create(tmp_path / "a") as archive:
        texts = (
            "the na\u00efve pump pumps pumping", "x\u0e34y pump", "ABC\u0301 na\u0308ive", "a seal " * 90, "a valve",
            "of brass", "brass", "\u4e2d\u6587 pump", "and so on", "rotor", "rotors rotor", "it", "it is", "it was",
        )  # fmt: skip
        for at, text in enumerate(texts):
            archive.ingest([Document(f"seal/{at}", f"note on the valve {at}" if at % 3 else "", text)], RUN)
        with contextlib.closing(Catalog(tmp_path / "a" / "catalog.sqlite")) as catalog:
            index = WordIndex(catalog, 1)
            held = index.lengths(Lengths.none())
            by_fts5 = Fts5FullText(catalog.database)._as_phrase

            def check(lengths: Lengths) -> None:
                n_found = 0
                for word in {word for text in texts for word in telling_words(text)} | {"note", "nowhere", "a\u0e34b"}:
                    (ids, scores), (same, expected) = index.scores(word, lengths), by_fts5(1, word)
                    assert ids.tolist() == same.tolist()
                    assert np.allclose(scores, expected, rtol=1e-12, atol=0.0)
                    n_found += len(ids)
                    assert index.tells(word, lengths) == (0 < 2 * len(ids) < len(lengths))
                assert n_found > 20

            check(held)
            archive.forget(Selection(scope=RUN, sources=("seal/3",)))
            archive.ingest([Document("s", "more", "the pump of the rotor, a seal")], RUN)
            grown = index.lengths(held)
            assert grown.ids.tolist() == index.lengths(Lengths.none()).ids.tolist() != held.ids.tolist()
            check(grown)


def test_a_word_that_everything_has_still_orders_what_has_nothing_else(tmp_path: Path) -> None:
    with Archive.create(tmp_path / "a") as archive:
        texts = ("pump pump pump", "pump and a valve of brass", "pump, seal")
        archive.ingest([Document("s", f"note {at}", text) for at, text in enumerate(texts)], RUN)
        found = archive.ask("pump", RUN, without=["vector"]).citations
        assert {citation.quote for citation in found} == set(texts)
        assert archive.ask("pump valve", RUN, without=["vector"]).citations[0].quote == texts[1]


# --- filters ------------------------------------------------------------------------------------


def test_filters_show_what_they_name_and_nothing_else(growing: Archive, make_documents: Make) -> None:
    documents = {document.title: document for document in make_documents(40)}  # fewer than a pool holds

    question = "the rotor of the pump, the locale of tar, the driver of the kernel and the glibc resolver fails"

    def asked(**filters: object) -> set[str]:
        answer = growing.ask(question, RUN, k=1000, token_budget=10**6, **filters)  # type: ignore[arg-type]
        assert bool(answer.associations) != bool(filters)
        cited = {citation.title for citation in answer.citations}
        assert {citation.title for citation in answer.vector_only} <= cited
        return cited

    everything = asked()
    assert everything == set(documents)
    for filters, passes in (
        ({"since": "2004-05"}, lambda d: d.date >= "2004-05"),
        ({"until": "2004-05"}, lambda d: d.date < "2004-06"),
        ({"since": "2004", "until": "2006"}, lambda d: "2004" <= d.date < "2007"),
        ({"source": "[pt]*/log"}, lambda d: fnmatch.fnmatchcase(d.source, "[pt]*/log")),
        ({"labels": [Label("package", "tar")]}, lambda d: d.source == "tar/log"),
        (
            {"labels": [Label("package", "tar"), Label("maintainer", "person 3")]},
            lambda d: {("package", "tar"), ("maintainer", "person 3")} <= {(x.kind, x.name) for x in d.labels},
        ),
        ({"source": "pump/*", "since": "2010"}, lambda d: d.source == "pump/log" and d.date >= "2010"),
    ):
        assert asked(**filters) == {title for title in everything if passes(documents[title])}, filters
    for nothing in (
        {"source": "Pump/*"},
        {"source": "pump"},
        {"labels": [Label("package", "none")]},
        {"since": "2030"},
    ):
        assert asked(**nothing) == set()
    assert asked(source="*") == everything
    notes = growing.ask("rotor", RUN, since="2004").notes
    assert any("no associations for a filtered question" in note for note in notes)


def test_a_filter_is_applied_before_the_pool_is_cut(tmp_path: Path, make_documents: Make) -> None:
    """Red when the nearest 100 of everything are sifted: what a filter names is then not found beside 300 others."""
    rare = Document("odd/log", "pump odd", "The pump.", "2001-01-01T00:00:00Z", (Label("package", "odd"),))
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest([*make_documents(150), rare], RUN)
        for without in ([], ["lexical"], ["vector"]):
            (found,) = archive.ask("pump", RUN, labels=[Label("package", "odd")], without=without).citations
            assert found.quote == rare.text


@pytest.mark.parametrize(
    "filters",
    [
        {"since": "2004-5"},
        {"until": "soon"},
        {"since": "2005", "until": "2004-12"},
        {"source": ""},
        {"source": "x" * 1001},
        {"labels": tuple(Label("tag", str(number)) for number in range(17))},
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(filters: dict[str, object]) -> None:
    with pytest.raises(emm.InputError):
        Filters(**filters)  # type: ignore[arg-type]


def test_a_question_is_bounded() -> None:
    assert Question("x", RUN, filters=Filters(since="2004-05", until="2004")).filters.dated
    for wrong in ({"text": " "}, {"text": "x" * 10_001}, {"k": 0}, {"k": 1001}, {"token_budget": 0}):
        with pytest.raises(emm.InputError):
            Question(**{"text": "x", "scope": RUN, **wrong})  # type: ignore[arg-type]
    assert parse_label("tag:a:b") == Label("tag", "a:b")
    for text in ("tag", ":x", "tag:"):
        with pytest.raises(emm.InputError, match="not a label"):
            parse_label(text)


# --- what is kept -------------------------------------------------------------------------------


def test_what_is_kept_does_not_outlive_a_change(growing: Archive, make_documents: Make) -> None:
    """Red when rosters, masks, words or candidates of an older catalog answer: from this handle and from another."""
    question = "what metal is the rotor of?"
    growing.ask(question, RUN)
    with Archive.open(growing.path) as other:
        for word in ("brass", "steel"):
            growing.ingest([Document("n.md", "note", f"The rotor is of {word}.", "2020-01-01T00:00:00Z", key="n")], RUN)
            other.ingest(make_documents(5, seed=ord(word[0])), RUN)
            with Archive.open(growing.path) as fresh:
                expected = [spoken(fresh.ask(question, RUN, k=30)), spoken(fresh.ask(question, RUN, until="2021"))]
            for opened in (growing, other):
                found = [spoken(opened.ask(question, RUN, k=30)), spoken(opened.ask(question, RUN, until="2021"))]
                assert found == expected
            quotes = {citation["quote"] for citation in expected[0]["citations"]}  # type: ignore[attr-defined]
            assert f"The rotor is of {word}." in quotes
        assert "The rotor is of brass." not in quotes


def test_a_roster_that_grew_equals_one_read_anew(growing: Archive, make_documents: Make) -> None:
    """Red when passages that were hidden, added, moved or deleted since are not seen."""
    catalog = Catalog(growing.path / "catalog.sqlite")
    kept, runs = Rosters(catalog), catalog.runs(RUN)

    def same() -> int:
        grown, fresh = kept.of(runs), Rosters(catalog).of(runs)
        for name in ("ids", "scope_ids", "document_ids", "text_hashes", "lengths", "hidden"):
            assert np.array_equal(getattr(grown, name), getattr(fresh, name)), name
        assert kept.of(runs) is grown
        return len(grown)

    n_first = same()
    growing.ingest([Document("n", "n", "old text", key="n")], RUN)
    growing.ingest([Document("n", "n", "new text", key="n"), *make_documents(3, seed=5)], RUN)
    assert same() > n_first and kept.of(runs).hidden.sum() == 1
    with sqlite3.connect(growing.path / "catalog.sqlite") as raw:
        ids = [row[0] for row in raw.execute("SELECT passage_id FROM passages LIMIT 3")]
        for table in ("pair_labels", "pairs", "passages"):
            raw.execute(f"DELETE FROM {table} WHERE passage_id IN ({','.join(map(str, ids))})")
        raw.execute("UPDATE passages SET scope_id = scope_id")
    raw.close()
    assert same() == kept.of(runs).ids.size and not np.isin(ids, kept.of(runs).ids).any()
    catalog.close()


def test_a_passage_that_goes_while_it_is_ranked_is_not_cited(growing: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when another process's `forget` between ranking and quoting ends in a KeyError."""
    first = growing.ask("pump valve", RUN).citations[0].passage_id
    original = Rosters.of

    def and_delete(self: Rosters, runs: object) -> object:
        roster = original(self, runs)  # type: ignore[arg-type]
        with sqlite3.connect(growing.path / "catalog.sqlite") as raw:
            for table in ("pair_labels", "pairs", "passages"):
                raw.execute(f"DELETE FROM {table} WHERE passage_id = ?", (first,))
        raw.close()
        return roster

    monkeypatch.setattr(Rosters, "of", and_delete)
    cited = [citation.passage_id for citation in growing.ask("pump valve", RUN).citations]
    assert cited and first not in cited


# --- evidence -----------------------------------------------------------------------------------


def test_the_strongest_documents_are_the_nearest_carriers(archive: Archive) -> None:
    """Red when evidence is taken from the pool alone, or two passages of one document count twice."""
    with sqlite3.connect(archive.path / "catalog.sqlite") as raw:
        rows = raw.execute(
            "SELECT kind, name, passage_id, document_id FROM pair_labels JOIN labels USING(label_id) "
            "JOIN passages USING(passage_id)"
        ).fetchall()
    raw.close()
    for question in ("pressure of the pump valve", "kernel panic", "locale"):
        every = archive.ask(question, RUN, k=1000, token_budget=10**7)
        cosines = {citation.passage_id: citation.vector for citation in every.citations}
        assert every.associations
        for association in every.associations:
            best: dict[int, float] = {}
            for kind, name, passage_id, document_id in rows:
                if (kind, name) == (association.kind, association.name):
                    best[document_id] = max(best.get(document_id, -1.0), cosines.get(passage_id, -1.0))
            expected = sorted(best.values(), reverse=True)[: len(association.evidence)]
            assert np.allclose([item.score for item in association.evidence], expected, atol=1e-6)
            assert len({item.document_id for item in association.evidence}) == min(3, len(best))
