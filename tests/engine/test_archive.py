"""Documents in, cited answers out: real SQLite, real memories, real files.

Red when: a quote is not the stored text of its span; the same text twice is stored twice; a superseded text is still
quoted or still in the matrix; `as_of` shows the future; another tenant's texts move a score; an empty archive raises.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import emm
from emm_engine import Answer, Archive, Document, Label, Progress, Scope, ScopeError
from emm_engine.documents import FILE_DATE
from emm_engine.errors import CatalogError
from emm_engine.retrieval.context import n_tokens

Make = Callable[..., list[Document]]
RUN = Scope("lab", "code", "debian", "host")


def spoken(answer: Answer) -> str:
    """An answer without its timings."""
    fields = json.loads(answer.to_json())
    del fields["timings_ms"]
    return json.dumps(fields, sort_keys=True)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, make_documents: Make) -> Path:
    path = tmp_path_factory.mktemp("original") / "archive"
    with Archive.create(path) as opened:
        opened.ingest(make_documents(200), RUN)
    return path


@pytest.fixture
def archive(tmp_path: Path, original: Path) -> Iterator[Archive]:
    """An archive of 200 documents, each test its own copy."""
    shutil.copytree(original, tmp_path / "archive")
    with Archive.open(tmp_path / "archive") as opened:
        yield opened


def test_quotes_are_the_stored_text_of_their_spans(archive: Archive, make_documents: Make) -> None:
    texts = {document.title: document.text for document in make_documents(200)}
    answer = archive.ask("which locale fails in the archive of tar?", RUN, k=8)
    assert len(answer.citations) == 8
    for citation in (*answer.citations, *answer.vector_only):
        assert citation.quote == texts[citation.title][citation.start : citation.end]
    for citation in answer.citations:
        lines = [f"    {line}" for line in citation.quote.split("\n")]
        assert "\n".join(lines) in answer.context
        assert f"[{citation.number}] {citation.source}: {citation.title}, {citation.date[:10]}, " in answer.context


def test_questions_find_their_topic_in_words_vectors_and_matrix(archive: Archive) -> None:
    answer = archive.ask("pressure of the pump valve", RUN)
    assert {citation.source for citation in answer.citations} == {"pump/log"}
    assert {citation.source for citation in answer.vector_only} == {"pump/log"}
    first = next(each for each in answer.associations if each.kind == "package")
    assert first.name == "pump"
    assert first.strength > 0.5 > first.base > 0.1
    assert [item.source for item in first.evidence] == ["pump/log"] * 3
    assert len({item.document_id for item in first.evidence}) == 3
    assert "~ package pump: strength" in answer.context


def test_scores_are_ordered_and_the_pool_is_scaled(archive: Archive) -> None:
    answer = archive.ask("kernel driver panic", RUN, k=50, token_budget=100_000)
    scores = [citation.score for citation in answer.citations]
    assert scores == sorted(scores, reverse=True) and scores[-1] >= 0.0 and scores[0] <= 1.0
    cosines = [citation.score for citation in answer.vector_only]
    assert cosines == sorted(cosines, reverse=True)


def test_the_block_keeps_its_budget_and_says_what_it_left_out(archive: Archive) -> None:
    for budget in (1, 40, 150, 400):
        answer = archive.ask("kernel driver panic", RUN, k=10, token_budget=budget)
        assert n_tokens(answer.context) == answer.n_tokens <= budget
        assert len(answer.citations) < 10
        assert f"{10 - len(answer.citations)} of 10 passages did not fit the token budget" in answer.notes


def test_the_same_documents_again_change_nothing(archive: Archive, make_documents: Make) -> None:
    question = "which seal leaks?"
    before, tree = spoken(archive.ask(question, RUN)), archive.tree()
    again = archive.ingest(make_documents(200), RUN)
    assert (again.entries_read, again.duplicates, again.documents, again.pairs) == (200, 200, 0, 0)
    moved = [replace(document, source="elsewhere", date="") for document in make_documents(5)]
    assert archive.ingest(moved, RUN).duplicates == 5
    assert spoken(archive.ask(question, RUN)) == before
    assert archive.tree() == tree


def test_everything_is_there_after_reopening(archive: Archive) -> None:
    before = spoken(archive.ask("malloc symbol", RUN))
    archive.close()
    with Archive.open(archive.path) as again:
        assert spoken(again.ask("malloc symbol", RUN)) == before
        (status,) = again.tree()
    assert (status.documents, status.pending, status.stale) == (200, 0, 0)
    assert status.absorbed == status.passages == status.vectors


def test_the_matrix_holds_every_pair_of_the_ledger(archive: Archive) -> None:
    with emm.open(str(archive.memory_path(RUN))) as memory:
        (status,) = archive.tree()
        assert memory.write_count == status.absorbed and memory.lsn == status.lsn
        assert (memory.dim, memory.key_dim, memory.rule) == (768, 256, "preconditioned")
    connection = sqlite3.connect(archive.path / "catalog.sqlite")
    assert connection.execute("SELECT count(*) FROM pairs JOIN batches ON written_by = batch_id").fetchone() == (
        status.absorbed,
    )
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_new_version_supersedes_the_old_and_leaves_no_trace_in_the_matrix(
    tmp_path: Path, make_documents: Make
) -> None:
    old = Document(
        "n.md", "note", "The rotor is made of brass.", "2010-01-01T00:00:00Z", (Label("metal", "brass"),), "n"
    )
    new = Document(
        "n.md", "note", "The rotor is made of steel.", "2012-01-01T00:00:00Z", (Label("metal", "steel"),), "n"
    )
    base = make_documents(60)
    with Archive.create(tmp_path / "one") as changed, Archive.create(tmp_path / "two") as direct:
        changed.ingest([*base, old], RUN)
        report = changed.ingest([new], RUN)
        assert (report.superseded, report.unlearned, report.pairs) == (1, 1, 1)
        quotes = {
            c.quote for c in changed.ask("what metal is the rotor made of?", RUN, k=60, token_budget=9999).citations
        }
        assert new.text in quotes and old.text not in quotes
        past = changed.ask("what metal is the rotor made of?", RUN, k=60, token_budget=9999, as_of="2011")
        assert old.text in {c.quote for c in past.citations} and new.text not in {c.quote for c in past.citations}
        assert changed.ingest([new], RUN).duplicates == 1
        back = changed.ingest([old], RUN)  # reverting is a new version, not a duplicate
        assert (back.documents, back.superseded, back.unlearned) == (1, 1, 1)
        direct.ingest([*base, old], RUN)
        with (
            emm.open(str(changed.memory_path(RUN))) as ours,
            emm.open(str(direct.memory_path(RUN))) as theirs,
        ):
            assert ours.write_count == theirs.write_count
            assert np.abs(ours.matrix - theirs.matrix).max() < 1e-4


def test_as_of_shows_only_what_was_known(archive: Archive) -> None:
    answer = archive.ask("kernel driver panic", RUN, k=20, token_budget=9999, as_of="2004-05")
    assert answer.citations and answer.associations == ()
    assert all(citation.date < "2004-06" for citation in (*answer.citations, *answer.vector_only))
    assert any("no past" in note for note in answer.notes)
    assert archive.ask("kernel", RUN, as_of="1990").citations == ()


@pytest.mark.parametrize(
    "moment", ["yesterday", "2004-5", "2004-05-1", "2004-05-01T1:2:3Z", "２００４", "2004-02-30", ""]
)
def test_a_moment_that_does_not_sort_as_text_is_refused(archive: Archive, moment: str) -> None:
    """strptime takes `2004-1` for January, but as a text it lies after every other month of 2004.

    Red when `end_of` leaves the form to strptime.
    """
    with pytest.raises(emm.InputError, match="not a date"):
        archive.ask("kernel", RUN, as_of=moment)


def test_an_archive_that_cannot_be_written_is_asked_all_the_same(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only an owner could ask: SQLite makes two files beside a catalog in WAL mode as soon as it reads.

    Red when `connect` opens an unwritable catalog as any other. (Tests run as root, whom no mode keeps from writing.)
    """
    expected, path = spoken(archive.ask("kernel driver panic", RUN)), archive.path
    archive.close()
    before = sorted(path.rglob("*"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with Archive.open(path) as reader:
        assert spoken(reader.ask("kernel driver panic", RUN)) == expected
        assert [run.pending for run in reader.tree()] == [0]
        assert sorted(path.rglob("*")) == before
        with pytest.raises(emm.StorageError, match="readonly"):
            reader.ingest([], replace(RUN, run="new"))


def test_a_stored_text_that_changed_is_loud(archive: Archive) -> None:
    """SQLite keeps no checksums, so a flipped bit of a stored text was cited as an exact passage.

    Red when `CatalogReader.quotes` does not compare a text with its hash.
    """
    cited = archive.ask("kernel driver panic", RUN).citations[0]
    with sqlite3.connect(archive.path / "catalog.sqlite") as catalog:
        catalog.execute(
            "UPDATE documents SET text = replace(text, 'kernel', 'lernel') WHERE document_id = ?", (cited.document_id,)
        )
    with pytest.raises(CatalogError, match="not what was stored") as caught:
        archive.ask("kernel driver panic", RUN)
    assert caught.value.exit_code == 4


def test_no_other_tenant_moves_an_answer(tmp_path: Path, make_documents: Make) -> None:
    mine, theirs = Scope("a", "code", "p", "r"), Scope("b", "code", "p", "r")
    secret = Document("vault", "vault", "The valve code is xylophone. kernel kernel kernel", "2001-01-01T00:00:00Z")
    with Archive.create(tmp_path / "alone") as alone, Archive.create(tmp_path / "shared") as shared:
        alone.ingest(make_documents(80), mine)
        shared.ingest(make_documents(80), mine)
        shared.ingest([*make_documents(150, seed=9), secret], theirs)
        for question in ("xylophone valve", "kernel driver panic", "person 3"):
            one, two = (archive.ask(question, mine, k=30, token_budget=9999) for archive in (alone, shared))
            assert spoken(one) == spoken(two)
            assert "xylophone" not in two.context
        assert "xylophone" in shared.ask("xylophone", theirs).context
        assert [status.scope for status in shared.tree("a")] == ["a:code/p/r"]


def test_a_wider_scope_asks_every_run_below_it(tmp_path: Path) -> None:
    with Archive.create(tmp_path / "a") as archive:
        for run in ("one", "two"):
            texts = [f"{run} pump pressure note {number} valve" for number in range(5)]
            documents = [Document(run, f"{run} {n}", text, labels=(Label("run", run),)) for n, text in enumerate(texts)]
            archive.ingest(documents, Scope("t", "code", "p", run))
        both = archive.ask("pump pressure", Scope("t", "code"), k=10, token_budget=9999)
        assert {citation.source for citation in both.citations} == {"one", "two"}
        one = archive.ask("pump pressure", Scope("t", "code", "p", "one"), k=10)
        assert {citation.source for citation in one.citations} == {"one"}
        assert archive.ask("pump", Scope("t", "chat")).citations == ()


def test_an_empty_archive_answers_honestly(tmp_path: Path) -> None:
    with Archive.create(tmp_path / "a") as archive:
        assert archive.tree() == []
        answer = archive.ask("anything?", RUN)
        assert (answer.citations, answer.associations, answer.context) == ((), (), "")
        assert answer.notes == (f"nothing has been ingested under {RUN}",)
        report = archive.ingest([], RUN)
        assert (report.entries_read, report.pairs, report.resumed) == (0, 0, "clean")
        assert archive.ask("anything?", RUN).citations == ()
        assert archive.ingest([Document("s", "t", "  \n ")], RUN).empty == 1
    with pytest.raises(emm.MissingError):
        Archive.open(tmp_path / "nothing")
    with pytest.raises(emm.ExistsError):
        Archive.create(tmp_path / "a")


def test_one_document_is_enough_and_an_unknown_question_gets_a_note(tmp_path: Path) -> None:
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest([Document("s", "only", "The seal leaks at 3.5 bar.", labels=(Label("part", "seal"),))], RUN)
        assert archive.ask("what leaks?", RUN).citations[0].quote == "The seal leaks at 3.5 bar."
        foreign = archive.ask("zebra", RUN)
        assert foreign.citations == () and foreign.associations == ()
        assert any("none of the question's words" in note for note in foreign.notes)


def test_no_question_is_fulltext_syntax(archive: Archive) -> None:
    for question in (
        '"',
        "a AND NOT",
        "body: pump",
        "pump*",
        "NEAR(a b)",
        "^pump",
        "\u00e9\u4e2d\u6587",
        "'; DROP TABLE documents; --",
    ):
        archive.ask(question, RUN)
    with pytest.raises(emm.InputError, match="empty question"):
        archive.ask(" ", RUN)
    with pytest.raises(emm.InputError):
        archive.ask("pump", RUN, k=0)
    with pytest.raises(emm.InputError, match="too long"):
        archive.ask("pump " * 3000, RUN)
    with pytest.raises(ScopeError):
        archive.ingest([], Scope("lab", "code"))


def test_reports_answers_and_progress_are_plain_data(archive: Archive, make_documents: Make) -> None:
    seen: list[Progress] = []
    report = archive.ingest(make_documents(30, seed=4), RUN, seen.append)
    told = json.loads(report.to_json())
    assert told["documents"] == 30 and told["entries_per_second"] > 0
    assert [p.phase for p in seen] == sorted((p.phase for p in seen), key=["reading", "fitting", "absorbing"].index)
    last = seen[-1]
    assert (last.phase, last.done, last.total) == ("absorbing", report.pairs, report.pairs)
    answer = json.loads(archive.ask("pump pressure", RUN).to_json())
    assert answer["citations"][0]["quote"] and answer["associations"][0]["evidence"][0]["score"] > 0
    assert answer["timings_ms"]["total"] > 0


def test_texts_that_sqlite_would_cut_are_refused() -> None:
    for text in ("a\0b", "a\ud800"):
        with pytest.raises(emm.InputError, match="NUL or lone surrogates"):
            Document("s", "t", text)
    for date in ("2020-01-01", "２０２０-01-01T00:00:00Z"):
        with pytest.raises(emm.InputError, match="not a date"):
            Document("s", "t", "x", date)


def test_what_counts_once_for_each_passage_is_bounded() -> None:
    """A title is embedded and indexed with every passage of its text: 16 MB of one heading were gigabytes and hours."""
    with pytest.raises(emm.InputError, match="title is too long"):
        Document("s", "t" * 1001, "x")
    with pytest.raises(emm.InputError, match="too many labels"):
        Document("s", "t", "x", "", tuple(Label("tag", str(number)) for number in range(257)))


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest([Document("s\x1b[2J", "t\x07", "pump \x1b]0;owned\x07 \u202e\x9b2J pressure")], RUN)
        answer = archive.ask("pump pressure", RUN)
        assert "\x1b" in answer.citations[0].quote
        assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(answer.context + answer.to_json())
        assert json.loads(answer.to_json())["citations"][0]["quote"] == answer.citations[0].quote
        archive.ask("pump \udcff", RUN).to_json().encode()  # a question that was not UTF-8


def test_a_domain_that_outgrew_its_embedder_says_so(tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as archive:
        assert archive.ingest(make_documents(5), RUN).notices == ()
        (notice,) = archive.ingest(make_documents(100, seed=2), RUN).notices
        assert "was fitted on" in notice and "recall suffers until `emm reembed ARCHIVE --scope " in notice


def test_a_creation_killed_before_its_catalog_has_a_name_is_made_anew(tmp_path):
    """Red when `create` builds the catalog under its final name: a kill then left a folder nobody could use."""
    folder = tmp_path / "archive"
    child = os.fork()
    if child == 0:
        os.link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        Archive.create(folder)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert [path.name for path in folder.iterdir()] != []
    with Archive.create(folder) as archive:
        assert archive.tree() == []
    with pytest.raises(emm.ExistsError):
        Archive.create(folder)


def test_a_passage_without_a_common_word_or_angle_is_not_listed(tmp_path: Path) -> None:
    """Red when the pool is listed to its end: passages that share nothing with the question filled an answer."""
    texts = ("The pump leaks.", "The pump seal leaks at night.", "Quarks have colour.", "Bananas ripen slowly.")
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest([Document("s", f"note {at}", text) for at, text in enumerate(texts)], RUN)
        answer = archive.ask("pump leaks", RUN, k=9)
        assert {citation.quote for citation in answer.citations} == set(texts[:2])
        assert {citation.quote for citation in answer.vector_only} == set(texts[:2])
        assert all(citation.lexical or citation.vector > 0 for citation in answer.citations)


def test_an_answer_says_that_no_association_stands_out(archive: Archive, tmp_path: Path) -> None:
    """Red when the note is left out, or comes beside associations."""
    with Archive.create(tmp_path / "plain") as plain:
        plain.ingest([Document("s", "only", "The seal leaks at 3.5 bar.")], RUN)
        assert "no association stands out (1 pair)" in plain.ask("what leaks?", RUN).notes
    answer = archive.ask("pressure of the pump valve", RUN)
    assert answer.associations and not any("stands out" in note for note in answer.notes)


def test_a_run_counts_its_current_passages(tmp_path: Path) -> None:
    """Red when `tree` counts the passages of superseded versions: more than documents, pairs and answers hold."""
    with Archive.create(tmp_path / "a") as archive:
        for word in ("brass", "steel", "glass"):
            archive.ingest([Document("n.md", "note", f"The rotor is of {word}.", key="n")], RUN)
        (status,) = archive.tree()
        assert (status.documents, status.passages, status.absorbed) == (1, 1, 1)


def test_a_citation_says_whose_date_and_whose_characters_it_tells(tmp_path: Path) -> None:
    """Red when a file's own date looks like the text's, or the characters of a changelog's entry like the file's."""
    date = "2020-01-01T00:00:00Z"
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest([Document("n.md", "note", "  pump rotor", date, (FILE_DATE,))], RUN)
        archive.ingest([Document("tar/changelog.Debian.gz", "tar 1", "pump seal", date)], RUN)
        answer = archive.ask("pump", RUN)
        assert {citation.source: citation.file_date for citation in answer.citations} == {
            "n.md": True,
            "tar/changelog.Debian.gz": False,
        }
        assert "n.md: note, 2020-01-01 (file date), chars 2–12, score" in answer.context
        assert "tar 1, 2020-01-01, chars 0–9 of the entry, score" in answer.context
