"""Everything but the catalog deleted: it all comes back, and the answers with it.

Red when: something that answers need is kept outside the catalog alone; a rebuilt model, vector or matrix differs; a
kill in a rebuild leaves an archive that the next one does not mend; damage to a text is not named, or is built upon.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import emm
from emm_engine import Archive, CatalogError, Document, Label, Progress, RunStatus, Scope
from emm_engine.catalog import place
from emm_engine.matrices.shelf import MatrixShelf
from emm_engine.renewal import rebuilding
from emm_engine.renewal.selection import Selection
from tests.engine.test_recovery import killer

Make = Callable[..., list[Document]]
RUN, OTHER = Scope("lab", "code", "debian", "host"), Scope("lab", "code", "debian", "other")
FOREIGN = Scope("guest", "chat", "p", "r")
QUESTIONS = ("pump valve pressure", "which locales fail?", "person 2")


def spoken(archive: Archive, scope: Scope, question: str) -> dict[str, object]:
    """An answer without its timings."""
    fields: dict[str, object] = json.loads(archive.ask(question, scope, k=30, token_budget=99_999).to_json())
    del fields["timings_ms"]
    return fields


def everything(archive: Archive) -> list[object]:
    """All that an archive says, and the bits of its memories."""
    scopes = archive.scopes()
    answers = [spoken(archive, scope, question) for scope in scopes for question in QUESTIONS]
    return [answers, [bits(archive, scope) for scope in scopes], tree(archive)]


def bits(archive: Archive, scope: Scope) -> tuple[int, bytes, bytes]:
    """(pairs, M, P) of a run's memory. (Its digest also tells in how many commits they came.)"""
    with emm.open(str(archive.memory_path(scope))) as memory:
        assert memory.inverse_gram is not None
        return memory.write_count, memory.matrix.tobytes(), memory.inverse_gram.tobytes()


def tree(archive: Archive) -> list[RunStatus]:
    """Every run, but for the number of its last commit."""
    return [replace(status, lsn=0) for status in archive.tree()]


def delete_the_rest(path: Path) -> None:
    """Everything of an archive but its catalog."""
    for each in path.iterdir():
        if not each.name.startswith("catalog."):
            shutil.rmtree(each)


def sql(path: Path, statement: str) -> None:
    """Do something to an archive's catalog behind its back."""
    catalog = place.open_catalog(path)
    with catalog.transaction():
        catalog.executemany(statement, [()])
    catalog.close()


@pytest.fixture
def archive_path(tmp_path: Path, make_documents: Make) -> Path:
    """Two tenants, three runs, more than one ingest, a copy, nothing superseded."""
    path = tmp_path / "archive"
    with Archive.create(path) as archive:
        archive.ingest(make_documents(30), RUN)
        archive.ingest(make_documents(15, seed=3), OTHER)
        archive.ingest([*make_documents(10, seed=5), *make_documents(5)], RUN)
        archive.ingest(make_documents(8, seed=7), FOREIGN)
    return path


def test_everything_comes_back_from_the_catalog(archive_path: Path) -> None:
    """To the bit: models, vectors, matrices, words, answers."""
    with Archive.open(archive_path) as archive:
        before = everything(archive)
        models = sorted(path.name for path in (archive_path / "embedders").iterdir())
    delete_the_rest(archive_path)
    catalog = place.open_catalog(archive_path)
    with catalog.transaction():
        for tenant_id in (1, 2):
            catalog.fulltext.drop(tenant_id)
    catalog.close()
    with Archive.open(archive_path) as archive:
        codes = {finding.code for finding in archive.check()}
        assert codes == {"words-missing", "memory-missing", "model-missing"}
        report = archive.rebuild()
        assert everything(archive) == before
        assert list(archive.check()) == []
        assert [model.before for model in report.models] == [model.after for model in report.models]
        assert report.passages_indexed == sum(status.passages for status in archive.tree())
    assert sorted(path.name for path in (archive_path / "embedders").iterdir()) == models
    with Archive.open(archive_path) as archive:
        archive.rebuild(Scope("guest", "chat"))  # of one domain, and twice
        assert everything(archive) == before


def test_superseded_versions_stay_and_their_pairs_do_not_come_back(tmp_path: Path, make_documents: Make) -> None:
    """A matrix that unlearned has rounded; the rebuilt one never knew the pair. All else is the same."""

    def note(word: str, year: int) -> Document:
        text = f"The rotor is of {word}."
        return Document("n", f"note {word}", text, f"{year}-01-01T00:00:00Z", (Label("m", word),), "n")

    with Archive.create(tmp_path / "a") as archive:
        archive.ingest([*make_documents(60), note("brass", 2010)], RUN)
        archive.ingest([note("steel", 2012)], RUN)
        before = [spoken(archive, RUN, question) for question in ("rotor", *QUESTIONS)]
        past = archive.ask("rotor of brass", RUN, as_of="2011").citations
        with emm.open(str(archive.memory_path(RUN))) as memory:
            matrix, digest = memory.matrix.copy(), memory.digest
        archive.rebuild()
        for old, question in zip(before, ("rotor", *QUESTIONS), strict=True):
            new = spoken(archive, RUN, question)
            assert {**new, "associations": None, "context": None} == {**old, "associations": None, "context": None}
            assert [item["name"] for item in new["associations"]] == [item["name"] for item in old["associations"]]  # type: ignore[attr-defined]
        assert archive.ask("rotor of brass", RUN, as_of="2011").citations == past
        with emm.open(str(archive.memory_path(RUN))) as memory:
            assert memory.digest != digest and np.abs(memory.matrix - matrix).max() < 1e-4
        (status,) = archive.tree()
        assert (status.absorbed, status.stale, status.pending) == (status.passages, 0, 0)
        assert list(archive.check()) == []


MOMENTS = {
    "runs stripped": killer(rebuilding, "complete_pairs", False, 1),
    "catalog let go, memory there": killer(MatrixShelf, "discard", False, 1),
    "one memory gone": killer(MatrixShelf, "discard", True, 1),
    "a batch written": killer(emm.Memory, "write", True, 2),
}


@pytest.mark.parametrize(("moment", "then"), zip(MOMENTS, ["rebuild", "ingest", "rebuild", "ingest"], strict=True))
def test_killed_anywhere_it_goes_on(moment: str, then: str, tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(make_documents(150), RUN)
        archive.ingest(make_documents(20, seed=3), OTHER)
        before = everything(archive)
    child = os.fork()
    if child == 0:
        MOMENTS[moment](pytest.MonkeyPatch())
        Archive.open(tmp_path / "a").rebuild()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    with Archive.open(tmp_path / "a") as archive:
        assert archive.ask("pump valve pressure", RUN).citations  # the text is found all the while
        if then == "rebuild":
            archive.rebuild()
        else:
            for scope in archive.scopes():
                archive.ingest([], scope)
        assert everything(archive) == before
        assert list(archive.check()) == []
    assert not list((tmp_path / "a").rglob(".*"))


def test_a_run_that_is_being_written_is_left_alone(tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as first, Archive.open(tmp_path / "a") as second:
        first.ingest(make_documents(20), OTHER)
        before = bits(second, OTHER)
        intruded = []

        def intrude(progress: Progress) -> None:
            with pytest.raises(emm.FencedError):
                second.rebuild()
            assert bits(second, OTHER) == before
            intruded.append(progress)

        first.ingest(make_documents(20, seed=1), RUN, intrude)
        assert intruded and list(second.check()) == []


def test_damage_to_a_text_is_named_and_not_built_upon(archive_path: Path, make_documents: Make) -> None:
    """And the way out works: forget what is damaged, ingest it again."""
    victim = next(document for document in make_documents(30) if document.title.startswith("pump"))
    sql(archive_path, "UPDATE documents SET text = replace(text, 'pump', 'pulp') WHERE title = '" + victim.title + "'")
    sql(archive_path, "UPDATE passages SET start = start + 1 WHERE passage_id = 3")
    with Archive.open(archive_path) as archive:
        before = tree(archive)
        named = {(finding.code, finding.kind) for finding in archive.check()}
        assert named == {("document-changed", "text"), ("passage-changed", "text")}
        with pytest.raises(CatalogError, match="pump/log") as caught:
            archive.rebuild()
        assert caught.value.exit_code == 4 and tree(archive) == before
        ids = [int(finding.where.split("document ")[1].split(" ")[0]) for finding in archive.check()]
        assert archive.forget(Selection(documents=tuple(ids)), purge=True).documents == 2
        archive.ingest(make_documents(30), RUN)
        assert list(archive.check()) == []
        archive.rebuild()
        assert [status.documents for status in archive.tree()] == [status.documents for status in before]


def test_each_missing_thing_is_found(archive_path: Path) -> None:
    """Red when a check overlooks one, or writes."""
    shutil.copytree(archive_path / "memories", archive_path.parent / "memories")
    run = "run lab:code/debian/host"

    def findings() -> set[tuple[str, str]]:
        with Archive.open(archive_path) as archive:
            return {(finding.code, finding.where) for finding in archive.check()}

    assert findings() == set()
    (archive_path / "vectors" / "lab" / "code" / "debian" / "host.vec").write_bytes(b"")
    assert findings() == {("vectors-missing", run)}
    shutil.rmtree(archive_path / "memories" / "lab" / "code" / "debian" / "host")
    assert findings() == {("vectors-missing", run), ("memory-missing", run)}
    shutil.copytree(
        archive_path.parent / "memories" / "lab" / "code" / "debian" / "other",
        archive_path / "memories" / "lab" / "code" / "debian" / "host",
    )
    assert findings() == {("vectors-missing", run), ("memory-exchanged", run)}
    for table in ("pair_labels", "pairs"):
        sql(archive_path, f"DELETE FROM {table} WHERE passage_id = (SELECT max(passage_id) FROM passages)")
    assert ("pairs-missing", "tenant guest") in findings()
    with Archive.open(archive_path) as archive:
        archive.rebuild()
        assert list(archive.check()) == []


def test_a_model_can_be_fitted_on_all_there_is_now(tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(make_documents(5), RUN)
        (notice,) = archive.ingest(make_documents(100, seed=2), RUN).notices
        assert "recall suffers" in notice
        (model,) = archive.rebuild().models
        assert model.before == model.after
        (model,) = archive.rebuild(refit=True).models
        assert model.before != model.after
        assert archive.ingest([], RUN).notices == ()
        assert len(list((tmp_path / "a" / "embedders").iterdir())) == 1


def test_a_damaged_file_of_the_database_is_named(tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(make_documents(60), RUN)
    with sqlite3.connect(tmp_path / "a" / "catalog.sqlite") as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("DELETE FROM labels WHERE label_id = 1")
    with Archive.open(tmp_path / "a") as archive:
        assert {(finding.code, finding.kind) for finding in archive.check()} == {("database-damaged", "text")}
        with pytest.raises(CatalogError, match="refers to rows of labels"):
            archive.rebuild()
