"""A domain's embedder is changed: in the background, killed anywhere, never an empty answer.

Red when: a kill before the switch loses the old vectors or answers from half of the new; a kill after it loses a memory
or leaves the catalog describing another one; what was done is done again; an ingest in between is forgotten; a memory
after the change differs from one that was made with the new embedder in the first place.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import emm
from emm_engine import Answer, Archive, CatalogError, Document, EmbedderError, EmbedderUnavailable, Label, Scope
from emm_engine.catalog.embedders import EmbedderLedger
from emm_engine.catalog.pairs import PairLedger
from emm_engine.documents import Marked, Passage
from emm_engine.embeddings.provider import EmbedderFolder
from emm_engine.matrices import exchange
from emm_engine.matrices.labels import value
from emm_engine.models import keys
from emm_engine.vectors.segmented import SegmentedVectors
from tests.engine.embedding_service import HandClock, Service, fails, serving

Make = Callable[..., list[Document]]
RUN = Scope("lab", "code", "debian", "host")
OTHER = replace(RUN, project="fedora")
DOMAIN = Scope("lab", "code")
QUESTIONS = ("pump valve pressure", "locale of the archive", "person 2")
OLD = Document("n.md", "note", "The rotor is made of brass.", "2010-01-01T00:00:00Z", (Label("metal", "brass"),), "n")
N_PASSAGES = 72  # of what `holding` makes, the superseded one included
PORTION = 16
NEW = replace(OLD, text="The rotor is made of steel.", date="2012-01-01T00:00:00Z", labels=(Label("metal", "steel"),))


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(Service()) as running:
        yield running


def spoken(archive: Archive) -> list[str]:
    found = []
    for question in QUESTIONS:
        fields = json.loads(archive.ask(question, DOMAIN, k=20, token_budget=9999).to_json())
        del fields["timings_ms"]
        found.append(json.dumps(fields, sort_keys=True))
    return found


def passages(spoken: list[str]) -> list[object]:
    """Answers without what matrices add: a roll-up that is not made yet is stood in for by the runs, not to the bit."""
    return [[json.loads(each)[part] for part in ("citations", "vector_only")] for each in spoken]


def holding(path: Path, make_documents: Make) -> None:
    """Two runs, a superseded pair in one of them."""
    with Archive.create(path) as archive:
        archive.ingest([*make_documents(40), OLD], RUN)
        archive.ingest([NEW], RUN)
        archive.ingest(make_documents(30, seed=3), OTHER)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, make_documents: Make) -> Path:
    path = tmp_path_factory.mktemp("original") / "archive"
    holding(path, make_documents)
    return path


@pytest.fixture
def path(tmp_path: Path, original: Path) -> Path:
    shutil.copytree(original, tmp_path / "archive")
    return tmp_path / "archive"


def leftovers(path: Path) -> list[str]:
    """What a change may leave behind and must not."""
    found = [str(at.relative_to(path)) for at in path.rglob("_next")]
    connection = sqlite3.connect(path / "catalog.sqlite")
    folders = {row[0] for row in connection.execute("SELECT vectors_folder FROM embedders")}
    models = {row[0][:32] for row in connection.execute("SELECT fingerprint FROM embedders")}
    connection.close()
    found += [str(at) for at in (path / "vectors").iterdir() if (at.name if at.name[0] == "_" else "") not in folders]
    return found + [at.name for at in (path / "embedders").iterdir() if at.stem not in models]


def test_every_vector_and_pair_follows(path: Path, service: Service, tmp_path: Path, make_documents: Make) -> None:
    name = f"ollama:m@{service.url}"
    with Archive.open(path, HandClock()) as archive, Archive.create(tmp_path / "direct", HandClock()) as direct:
        before = archive.tree()
        report = archive.reembed(DOMAIN, name)
        assert report.changed and (report.before, report.after) == ("lsa", "ollama:m")
        assert report.embedded == sum(run.passages for run in before) + 1  # with the superseded, for `as_of`
        assert report.pairs == sum(run.absorbed for run in before)
        direct.ingest([*make_documents(40), OLD], RUN, embedder=name)
        direct.ingest([NEW], RUN)
        direct.ingest(make_documents(30, seed=3), OTHER)
        for run in (RUN, OTHER):
            with emm.open(str(archive.memory_path(run))) as ours, emm.open(str(direct.memory_path(run))) as theirs:
                assert (ours.write_count, ours.rank, ours.key_dim) == (theirs.write_count, theirs.rank, theirs.key_dim)
                assert np.abs(ours.matrix - theirs.matrix).max() < 1e-4
        ours, theirs = (each.ask("pump valve pressure", DOMAIN) for each in (archive, direct))
        assert [c.quote for c in ours.citations] == [c.quote for c in theirs.citations]
        assert [a.name for a in ours.associations] == [a.name for a in theirs.associations] != []
        past = archive.ask("what is the rotor made of?", DOMAIN, k=80, token_budget=9999, as_of="2011")
        assert OLD.text in {citation.quote for citation in past.citations if citation.vector > 0}
        after = archive.tree()
        assert [(r.absorbed, r.pending, r.stale, r.vectors) for r in after] == [
            (r.absorbed, r.pending, r.stale, r.vectors) for r in before
        ]
        assert leftovers(path) == []
        assert archive.ingest([replace(NEW, text="The rotor is gone.")], RUN).unlearned == 1  # the ledger fits
        assert archive.ingest(make_documents(9, seed=8), OTHER).pending == 0


def test_the_same_again_changes_nothing_and_a_refit_does(path: Path, make_documents: Make) -> None:
    with Archive.open(path) as archive:
        archive.ingest([], RUN)
        refit = archive.reembed(DOMAIN, "lsa")  # the first fit knew one run only
        assert refit.changed and leftovers(path) == []
        answers = spoken(archive)
        again = archive.reembed(DOMAIN, "lsa")
        assert (again.changed, again.embedded, again.pairs) == (False, 0, 0)
        assert spoken(archive) == answers and leftovers(path) == []


def test_an_outgrown_fit_is_mended(tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(make_documents(10), RUN)
        notices = archive.ingest(make_documents(120, seed=1), RUN).notices
        assert any("fitted on" in notice and "emm reembed" in notice for notice in notices)
        archive.reembed(DOMAIN, "lsa")
        assert archive.ingest([], RUN).notices == ()


def killer(owner: type | object, name: str, after: bool, nth: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Make the nth call of a function the last thing the process does (before or after the call itself)."""

    def install(patch: pytest.MonkeyPatch) -> None:
        original = getattr(owner, name)
        calls = 0

        def dying(*args: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            if calls == nth and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*args, **named)
            if calls == nth:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        patch.setattr(owner, name, dying)

    return install


BEFORE_THE_SWITCH = {
    "model stored": killer(EmbedderFolder, "save", True, 1),
    "first portion": killer(SegmentedVectors, "add", True, 1),
    "second portion": killer(SegmentedVectors, "add", True, 2),
    "first memory half learnt": killer(emm.Memory, "write", True, 2),
    "second memory staged": killer(emm, "create", True, 2),
    "all learnt": killer(EmbedderLedger, "switch", False, 1),
    "in the transaction": killer(PairLedger, "relearnt", True, 1),
}
AFTER_THE_SWITCH = {
    "switched": killer(exchange, "finish", False, 5),  # two when tidying, two when opening
    "the old memory moved away": killer(exchange.os, "rename", True, 1),
    "the new memory in place": killer(exchange.os, "rename", True, 2),
    "all in place": killer(exchange, "finish", True, 6),
}


def change_in_child(path: Path, embedder: str, install: Callable[[pytest.MonkeyPatch], None]) -> int:
    """Fork, change the embedder with a killer installed, and return the signal the child died of (0: it lived)."""
    child = os.fork()
    if child == 0:
        try:
            patch = pytest.MonkeyPatch()
            patch.setattr(keys, "PORTION_INSTANT", PORTION)
            patch.setattr("emm_engine.reembedding.worker.PAIRS_PER_COMMIT", PORTION)
            install(patch)
            Archive.open(path).reembed(DOMAIN, embedder)
            os._exit(0)
        except BaseException as error:
            print(f"child: {type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory, original: Path) -> tuple[list[str], list[str]]:
    """Answers before the change, and after one that nothing happened to."""
    path = tmp_path_factory.mktemp("changed") / "archive"
    shutil.copytree(original, path)
    with Archive.open(path) as archive:
        before = spoken(archive)
        archive.reembed(DOMAIN, "lsa")
        return before, spoken(archive)


@pytest.mark.parametrize("moment", [*BEFORE_THE_SWITCH, *AFTER_THE_SWITCH])
def test_killed_anywhere_the_old_answers_or_the_new(
    moment: str, path: Path, changed: tuple[list[str], list[str]], tmp_path: Path, make_documents: Make
) -> None:
    before, after = changed
    switched = moment in AFTER_THE_SWITCH
    assert change_in_child(path, "lsa", (BEFORE_THE_SWITCH | AFTER_THE_SWITCH)[moment]) == signal.SIGKILL
    for model in (path / "embedders").iterdir():
        os.utime(model, (0, 0))  # nobody can be about to announce it
    files = sorted(path.rglob("*"))
    with Archive.open(path) as archive:
        answers = spoken(archive)
        assert (passages(answers) == passages(after)) if switched else (answers == before)
        assert [bool(json.loads(each)["associations"]) for each in answers] == [True, True, False]
        assert sorted(path.rglob("*")) == files  # asking writes nothing
    shutil.copytree(path, tmp_path / "other way")
    announced = not switched and moment != "model stored"
    with Archive.open(path) as archive:
        assert [run.pending for run in archive.tree()] == [0, 0]
        report = archive.reembed(DOMAIN, "lsa")
        assert (report.changed, report.resumed) == (not switched, announced)
        if moment == "second portion":
            assert report.embedded == N_PASSAGES - 2 * PORTION
        assert spoken(archive) == after and leftovers(path) == []
    with Archive.open(tmp_path / "other way") as archive:  # not only the change puts right what a killed one left
        report = archive.ingest([*make_documents(3, seed=9), replace(NEW, text="The rotor is gone.")], RUN)
        assert (report.resumed, report.documents, report.unlearned, report.pending) == ("clean", 4, 1, 0)
        archive.embed()  # goes on with the change, where it was announced
        assert not announced or leftovers(tmp_path / "other way") == []
        answer = archive.ask("what became of the rotor?", DOMAIN, k=9)
        assert "The rotor is gone." in {citation.quote for citation in answer.citations} and answer.associations


def test_what_is_ingested_meanwhile_is_in_both(
    path: Path, service: Service, make_documents: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "PORTION_SLOW", 32)
    asked: list[Answer] = []
    with Archive.open(path, HandClock()) as archive, Archive.open(path) as other:
        once = threading.Event()

        def meanwhile(progress: object) -> None:
            if not once.is_set():
                once.set()
                assert other.ingest(make_documents(20, seed=11), RUN).pending == 0
                assert other.ingest(make_documents(5, seed=12), replace(RUN, run="later")).pending == 0
                asked.append(other.ask("pump valve pressure", DOMAIN))

        report = archive.reembed(DOMAIN, f"ollama:m@{service.url}", meanwhile)
        assert asked[0].citations and asked[0].associations and not any("no vector" in n for n in asked[0].notes)
        tree = archive.tree()
        assert report.pairs == sum(run.absorbed for run in tree) and len(tree) == 3
        assert all((run.pending, run.vectors >= run.passages) == (0, True) for run in tree)
        late = other.ask("pump valve pressure", DOMAIN)  # a handle from before the change
        assert late.citations and late.associations == archive.ask("pump valve pressure", DOMAIN).associations


def test_a_question_that_meets_the_switch_is_asked_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when a key of the old space is recalled from a memory of the new one."""
    with Archive.open(path) as archive, Archive.open(path) as changing:
        original, calls = archive._retrieval.ask, 0

        def meets(*args: object, **named: object) -> Answer:
            nonlocal calls
            calls += 1
            answer = original(*args, **named)
            if calls == 1:
                changing.reembed(DOMAIN, "lsa")
                raise CatalogError("the memory was exchanged")
            return answer

        monkeypatch.setattr(archive._retrieval, "ask", meets)
        assert archive.ask("pump valve pressure", DOMAIN).citations and calls == 2


def test_a_service_that_fails_leaves_the_old_and_the_change_goes_on(
    path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "PORTION_SLOW", 31)
    name = f"openai:m@{service.url}/v1"
    with Archive.open(path, HandClock()) as archive:
        before = spoken(archive)
        service.always = fails(503)
        with pytest.raises(EmbedderUnavailable):
            archive.reembed(DOMAIN, name)
        service.faults, service.always = [None] * 3, fails(503)
        with pytest.raises(EmbedderUnavailable):
            archive.reembed(DOMAIN, name)
        assert spoken(archive) == before
        with pytest.raises(EmbedderError, match="--abandon"):
            archive.reembed(DOMAIN, "lsa")
        service.always = None
        n_before = service.n_texts
        assert archive.embed() == []  # nothing waits, but a change is under way: it is finished
        assert archive.tree()[0].embedder == name and service.n_texts - n_before < N_PASSAGES - 31 + 2
        assert leftovers(path) == []


def test_a_change_can_be_dropped(path: Path, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "PORTION_SLOW", 31)
    with Archive.open(path, HandClock()) as archive:
        before = spoken(archive)
        service.faults, service.always = [None] * 3, fails(503)
        with pytest.raises(EmbedderUnavailable):
            archive.reembed(DOMAIN, f"ollama:m@{service.url}")
        assert archive.abandon_reembed(DOMAIN) and not archive.abandon_reembed(DOMAIN)
        assert spoken(archive) == before and leftovers(path) == []


def test_one_change_at_a_time_and_none_under_a_writer(path: Path, make_documents: Make) -> None:
    with Archive.open(path) as first, Archive.open(path) as second:
        met: list[str] = []

        def intrude(progress: object) -> None:
            if not met:
                with pytest.raises(emm.FencedError, match="change of embedder"):
                    second.reembed(DOMAIN, "lsa")
                met.append("change")

        first.reembed(DOMAIN, "lsa", intrude)

        def during(progress: object) -> None:
            if len(met) == 1:
                with pytest.raises(emm.FencedError):
                    second.reembed(DOMAIN, "lsa")
                met.append("ingest")

        first.ingest(make_documents(30, seed=5), RUN, during)
        assert met == ["change", "ingest"]
        assert second.reembed(DOMAIN, "lsa").resumed


def test_a_passage_that_the_new_model_refuses_keeps_its_words(path: Path, service: Service) -> None:
    service.refuses = "made of steel"
    with Archive.open(path, HandClock()) as archive:
        before = archive.tree()
        report = archive.reembed(DOMAIN, f"ollama:m@{service.url}")
        assert report.refused == 1 and report.pairs == sum(run.absorbed for run in before) - 1
        assert NEW.text in {c.quote for c in archive.ask("rotor made of steel", DOMAIN, k=9).citations}
        service.refuses = "\0"
        (mended,) = archive.embed()
        assert (mended.pairs, mended.pending, mended.refused) == (1, 0, 0)


def test_other_tenants_and_domains_keep_theirs(path: Path, make_documents: Make) -> None:
    elsewhere = (replace(RUN, tenant="rival"), replace(RUN, domain="chat"))
    with Archive.open(path) as archive:
        for scope in elsewhere:
            archive.ingest(make_documents(70), scope)
        before = [archive.ask("pump valve pressure", scope) for scope in elsewhere]
        memories = {f: f.read_bytes() for s in elsewhere for f in archive.memory_path(s).iterdir()}
        archive.reembed(DOMAIN, "lsa")
        archive.ingest(make_documents(9, seed=8), RUN)
        archive.reembed(DOMAIN, "lsa")
        for scope, known in zip(elsewhere, before, strict=True):
            answer = archive.ask("pump valve pressure", scope)
            assert (answer.associations, answer.notes) == (known.associations, known.notes)
            found, expected = ([(c.quote, c.vector) for c in each.vector_only] for each in (answer, known))
            assert found == expected
        assert {f: f.read_bytes() for s in elsewhere for f in archive.memory_path(s).iterdir()} == memories
        with pytest.raises(emm.MissingError):
            archive.reembed(Scope("nobody", "code"), "lsa")


def rows_of_a_table(count: int) -> list[Document]:
    """Experiments: the key of a pair is its conditions, in words that nothing else of the text says."""
    found = []
    for number in range(count):
        conditions = f"temperature: {200 + 20 * (number % 5)} K; base: {('naoh', 'koh', 'amine')[number % 3]}"
        outcome = f"yield: {10 * (number % 4)} %"
        text = f"{conditions}\n{outcome}\nremark {number}: the pump leaked while the seal was cold"
        start = len(conditions) + 1
        marks = (Marked(Label("outcome", outcome), start, start + len(outcome)),)
        passage = Passage(0, len(text), (0, len(conditions)), marks)
        found.append(Document("t.csv", f"t row {number}", text, key=f"t#{number}", passages=(passage,)))
    return found


def test_pairs_keep_the_keys_that_they_state(tmp_path: Path, make_documents: Make) -> None:
    """The new memory was learnt under the vectors of whole passages, where a pair of a table has conditions for a key.

    So it predicted worse, and forgetting unlearned keys that had never been written.
    """
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(make_documents(20), RUN)
        archive.ingest(rows_of_a_table(40), RUN)  # so the model that is fitted anew is another
        assert archive.reembed(DOMAIN, "lsa").changed
        (run,) = archive._catalog.runs(RUN)
        ledger = PairLedger(archive._catalog, run)
        ids = ledger.held()
        with emm.open(str(archive.memory_path(RUN))) as memory, archive._shelf.stage(run, memory, 256) as wanted:
            kept = ledger.kept(ids)
            wanted.write(archive._keys_of(run, ids), np.stack([value(kept[each], memory.dim) for each in ids]))
            assert np.abs(memory.matrix - wanted.matrix).max() < 1e-4
