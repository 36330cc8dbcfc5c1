"""Text first, vectors when they can be had.

Red when: a service that is down loses a document, fails an ingest, or gives an empty answer; the queue forgets what the
service said, asks again too early or starts over; a text that is refused holds up the others; what was waiting differs
in the end from what never had to wait.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import emm
from emm_engine import Archive, Document, EmbedderError, Label, Scope
from emm_engine.embeddings.backoff import FOR_INGEST
from emm_engine.embeddings.http_service import TEXTS_PER_REQUEST
from emm_engine.models import keys
from tests.engine.embedding_service import HandClock, Service, fails, serving

Make = Callable[..., list[Document]]
RUN = Scope("lab", "code", "debian", "host")
DOMAIN = Scope("lab", "code")
QUESTIONS = ("pump valve pressure", "locale of the archive", "person 2")


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(Service()) as running:
        yield running


def named(service: Service) -> str:
    return f"ollama:m@{service.url}"


def spoken(archive: Archive) -> list[str]:
    found = []
    for question in QUESTIONS:
        fields = json.loads(archive.ask(question, RUN, k=20, token_budget=9999).to_json())
        del fields["timings_ms"]
        found.append(json.dumps(fields, sort_keys=True))
    return found


def digest(archive: Archive) -> str:
    with emm.open(str(archive.memory_path(RUN))) as memory:
        return memory.digest


def unlearned_note(n_pairs: int) -> Document:
    return Document("n.md", "note", f"The rotor {n_pairs} is made of brass.", "", (Label("metal", "brass"),), "n")


def test_an_embedder_is_named_once_and_remembered(tmp_path: Path, service: Service, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as archive:
        report = archive.ingest(make_documents(60), RUN, embedder=named(service))
        assert report.pending == 0 and report.notices == ()
    with Archive.open(tmp_path / "a") as archive:
        n_before = len(service.requests)
        answer = archive.ask("pump valve pressure", RUN)
        assert len(service.requests) == n_before + 1  # the question and the probe, in one
        assert answer.citations[0].source == "pump/log" and answer.vector_only and answer.associations
        (status,) = archive.tree()
        assert (status.embedder, status.waiting, status.vectors) == (named(service), "", status.passages)
        n_before = service.n_texts
        assert archive.ingest(make_documents(61)[60:], RUN).pending == 0
        assert service.n_texts - n_before <= 3 + 1  # only what is new


def test_a_wide_model_gets_memories_as_wide(tmp_path: Path, service: Service, make_documents: Make) -> None:
    service.dim = 300
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(make_documents(30), RUN, embedder=named(service))
        with emm.open(str(archive.memory_path(RUN))) as memory:
            assert (memory.key_dim, memory.rank) == (300, 128) and memory.write_count == archive.tree()[0].absorbed
        assert not (archive.memory_path(RUN).parent / "_next").exists()
        assert archive.ask("pump valve pressure", RUN).associations
        archive.ingest(make_documents(9, seed=4), replace(RUN, run="other"))
        with emm.open(str(archive.memory_path(replace(RUN, run="other")))) as memory:
            assert memory.key_dim == 300


def test_text_is_stored_and_found_while_nobody_embeds(tmp_path: Path, service: Service, make_documents: Make) -> None:
    service.always = fails(503)
    clock = HandClock()
    with Archive.create(tmp_path / "a", clock) as archive:
        report = archive.ingest(make_documents(60), RUN, embedder=named(service))
        assert report.documents == 60 and report.pending == report.passages and report.pairs == 0
        assert "HTTP 503" in report.notices[0] and "emm embed" in report.notices[0]
        assert len(report.notices) == 1  # nothing of a model that was never fitted
        answer = archive.ask("pump valve pressure", RUN, k=3)
        assert [citation.source for citation in answer.citations] == ["pump/log"] * 3
        assert f"{report.pending} passages wait" in answer.notes[0] and "HTTP 503" in answer.notes[1]
        (status,) = archive.tree()
        assert status.pending == report.pending and "tries: 1, next " in status.waiting and "HTTP 503" in status.waiting
        assert len(clock.slept) == FOR_INGEST.attempts - 1


def test_the_queue_waits_longer_each_time_and_works_off(tmp_path: Path, service: Service, make_documents: Make) -> None:
    clock = HandClock()
    with Archive.create(tmp_path / "direct", clock) as direct:
        direct.ingest(make_documents(60), RUN, embedder=named(service))
        expected = spoken(direct), digest(direct)
    service.always = fails(429, Retry_After="900")
    with Archive.create(tmp_path / "a", clock) as archive:
        archive.ingest(make_documents(60), RUN, embedder=named(service))
        n_requests = len(service.requests)
        assert archive.embed(due_only=True) == [] and len(service.requests) == n_requests
        clock.time += 890  # what the service asked for is more than our own first wait
        assert archive.embed(due_only=True) == []
        clock.time += 15
        service.always = fails(500)
        waits = []
        for attempt in range(2, 6):
            (report,) = archive.embed()
            (status,) = archive.tree()
            assert report.pending and f"tries: {attempt}, next " in status.waiting
            connection = sqlite3.connect(tmp_path / "a" / "catalog.sqlite")
            waits.append(connection.execute("SELECT last_try, next_try FROM embed_waits").fetchone())
            connection.close()
        seconds = [np.datetime64(after[:-1]) - np.datetime64(before[:-1]) for before, after in waits]
        assert seconds == sorted(seconds) and seconds[-1] > 2 * seconds[0]
        service.always = None
        (report,) = archive.embed()
        assert report.pending == 0 and archive.embed() == []
        assert archive.tree()[0].waiting == ""
        assert (spoken(archive), digest(archive)) == expected


def test_work_that_was_done_is_not_asked_for_again(
    tmp_path: Path, service: Service, make_documents: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when a service that fails in the middle of a corpus is asked for the first half again."""
    monkeypatch.setattr(keys, "PORTION_SLOW", TEXTS_PER_REQUEST)
    with Archive.create(tmp_path / "a", HandClock()) as archive:
        well = [None] * 4  # the probe to fit; the probe again with 31 texts, the 32nd; the next 32
        service.faults = [*well, *[fails(500)] * FOR_INGEST.attempts]
        report = archive.ingest(make_documents(100), RUN, embedder=named(service))
        assert report.pending == report.passages > 3 * TEXTS_PER_REQUEST
        assert archive.tree()[0].vectors == 2 * TEXTS_PER_REQUEST
        n_before = service.n_texts
        (after,) = archive.embed()
        assert after.pending == 0
        assert service.n_texts - n_before == report.passages - 2 * TEXTS_PER_REQUEST


def test_a_refused_text_holds_up_nobody(tmp_path: Path, service: Service, make_documents: Make) -> None:
    service.refuses = "unspeakable"
    bad = Document("bad.md", "bad", "An unspeakable pump.", "", (Label("package", "pump"),))
    with Archive.create(tmp_path / "a", HandClock()) as archive:
        documents = make_documents(40)
        report = archive.ingest([*documents[:20], bad, *documents[20:]], RUN, embedder=named(service))
        assert (report.pending, report.refused, report.pairs) == (1, 1, report.passages - 1)
        assert "context length" in report.notices[0]
        assert archive.ask("unspeakable pump", RUN).citations[0].source == "bad.md"
        assert archive.embed(due_only=True) == []
        (again,) = archive.embed()  # a person asks: it is tried once more
        assert again.refused == 1
        service.refuses = "\0"
        (again,) = archive.embed()
        assert (again.refused, again.pending, again.pairs) == (0, 0, 1)


def test_a_question_survives_a_service_that_is_gone(tmp_path: Path, make_documents: Make) -> None:
    """Red when an answer is empty, or only fails, because nobody embeds the question."""
    with Archive.create(tmp_path / "a", HandClock()) as archive:
        with serving(Service()) as service:
            archive.ingest(make_documents(60), RUN, embedder=named(service))
            whole = archive.ask("pump valve pressure", RUN, k=3)
        answer = archive.ask("pump valve pressure", RUN, k=3)
        assert {citation.source for citation in answer.citations} == {"pump/log"}
        assert answer.notes[0].startswith("WORDS ALONE") and "Connection refused" in answer.notes[0]
        assert not answer.associations and whole.associations
        with serving(service, int(service.url.rpartition(":")[2])):
            assert archive.ask("pump valve pressure", RUN, k=3).citations == whole.citations


def test_missing_vectors_of_a_slow_embedder_are_said_and_made_later(
    tmp_path: Path, service: Service, make_documents: Make
) -> None:
    with Archive.create(tmp_path / "a", HandClock()) as archive:
        archive.ingest(make_documents(60), RUN, embedder=named(service))
        expected = spoken(archive)
    (tmp_path / "a" / "vectors" / "lab" / "code" / "debian" / "host.vec").unlink()
    with Archive.open(tmp_path / "a", HandClock()) as archive:
        n_before = service.n_texts
        answer = archive.ask("pump valve pressure", RUN)
        assert service.n_texts == n_before + 2 and answer.citations  # the question and the probe, and no passage
        assert any("have no vector" in note and "emm embed" in note for note in answer.notes)
        assert [report.pending for report in archive.embed()] == [0]
        assert spoken(archive) == expected


def test_superseded_pairs_are_taken_out_by_the_very_keys_that_were_written(
    tmp_path: Path, service: Service, make_documents: Make
) -> None:
    """Red when a pair is unlearned under a key that a service gave a second time: never quite the same again."""
    with Archive.create(tmp_path / "a", HandClock()) as archive:
        archive.ingest([*make_documents(30), unlearned_note(1)], RUN, embedder=named(service))
        n_before = service.n_texts
        report = archive.ingest([unlearned_note(2)], RUN)
        assert (report.superseded, report.unlearned, report.pairs) == (1, 1, 1)
        assert service.n_texts == n_before + 1  # the new text; no old one


def test_another_embedder_than_the_recorded_is_refused_by_name(
    tmp_path: Path, service: Service, make_documents: Make
) -> None:
    with Archive.create(tmp_path / "a", HandClock()) as archive:
        archive.ingest(make_documents(20), RUN)
        before = archive.tree()
        for other in ("minilm", named(service)):
            with pytest.raises(
                EmbedderError, match=f"emm reembed ARCHIVE --scope lab:code --embedder {other}"
            ) as caught:
                archive.ingest(make_documents(5, seed=2), RUN, embedder=other)
            assert caught.value.expected == "lsa"
        assert archive.tree() == before and not service.requests
        assert archive.ingest(make_documents(5, seed=2), RUN, embedder="lsa").documents == 5
        assert archive.ingest(make_documents(5), replace(RUN, domain="chat"), embedder=named(service)).pending == 0


def test_a_service_may_move(tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a", HandClock()) as archive:
        with serving(Service()) as service:
            archive.ingest(make_documents(20), RUN, embedder=named(service))
            expected = spoken(archive)
        with serving(Service()) as moved:
            archive.ingest([], RUN, embedder=named(moved))
            assert spoken(archive) == expected and moved.requests


def test_another_model_under_the_same_name_is_loud_to_askers_and_writers(
    tmp_path: Path, service: Service, make_documents: Make
) -> None:
    with Archive.create(tmp_path / "a", HandClock()) as archive:
        archive.ingest(make_documents(20), RUN, embedder=named(service))
    service.seed = "model two"
    with Archive.open(tmp_path / "a", HandClock()) as archive:
        with pytest.raises(EmbedderError, match="emm reembed"):
            archive.ask("pump", RUN)
        with pytest.raises(EmbedderError, match="emm reembed"):
            archive.ingest(make_documents(5, seed=2), RUN)
        assert archive.tree()[0].documents == 25  # stored all the same
        assert archive.reembed(DOMAIN, named(service)).changed
        assert archive.ask("pump valve pressure", RUN).citations[0].source == "pump/log"


def test_no_file_of_an_archive_holds_a_key(
    tmp_path: Path, service: Service, make_documents: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-very-secret-0123456789"
    monkeypatch.setenv("EMM_EMBEDDER_KEY_127_0_0_1", key)
    with Archive.create(tmp_path / "a", HandClock()) as archive:
        archive.ingest(make_documents(10), RUN, embedder=named(service))
        service.always = fails(401, {"error": f"bad key {key}"})
        archive.ingest(make_documents(5, seed=3), RUN)
        assert "bad key ***" in archive.tree()[0].waiting
    assert service.headers[-1]["Authorization"] == f"Bearer {key}"
    for path in (tmp_path / "a").rglob("*"):
        assert not path.is_file() or key.encode() not in path.read_bytes(), path
