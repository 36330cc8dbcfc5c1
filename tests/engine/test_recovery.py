"""Killed, fenced, damaged: what happens to an archive in the world.

Red when: the batch is settled before the matrix has it or intended after (a pair doubled or lost); an interrupted
ingest starts over; a second writer stores text before it is fenced off; a damaged or lost vector log, or one restored
from an older state, changes an answer; a missing model or an exchanged memory gives empty answers instead of an error.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import emm
from emm_engine import Archive, CatalogError, Document, EmbedderError, Label, Progress, RunStatus, Scope
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.schema import SCHEMA_VERSION, TABLES, connect
from emm_engine.catalog.store import Catalog
from emm_engine.embeddings.provider import EmbedderFolder
from emm_engine.hierarchy import Shape
from emm_engine.vectors.exact import ExactVectors
from emm_engine.vectors.segmented import SegmentedVectors

Make = Callable[..., list[Document]]
RUN = Scope("lab", "code", "debian", "host")
N_DOCUMENTS = 270  # more than two batches of pairs
QUESTIONS = ("pump valve pressure", "locale of the archive", "person 2")


def spoken(archive: Archive) -> list[str]:
    """Answers to some questions, without timings."""
    found = []
    for question in QUESTIONS:
        fields = json.loads(archive.ask(question, RUN, k=20, token_budget=9999).to_json())
        del fields["timings_ms"]
        found.append(json.dumps(fields, sort_keys=True))
    return found


def digest(archive: Archive) -> str:
    with emm.open(str(archive.memory_path(RUN))) as memory:
        return memory.digest


def killer(owner: type | object, name: str, after: bool, nth: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Make the nth call of a method the last thing the process does (before or after the call itself)."""

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


MOMENTS = {
    "before any text": killer(Catalog, "add_documents", False, 1),
    "after text": killer(Catalog, "add_documents", True, 1),
    "memory made, not recorded": killer(Catalog, "bind_memory", False, 1),
    "model stored, not recorded": killer(EmbedderFolder, "save", True, 1),
    "vectors stored": killer(SegmentedVectors, "add", True, 1),
    "first batch intended": killer(PairLedger, "intend_write", True, 1),
    "first batch written, not settled": killer(emm.Memory, "write", True, 1),
    "second batch intended": killer(PairLedger, "intend_write", True, 2),
    "second batch written, not settled": killer(emm.Memory, "write", True, 2),
    "second batch settled": killer(PairLedger, "settle", True, 2),
    "before the checkpoint": killer(emm.Memory, "checkpoint", False, 1),
}


def ingest_in_child(path: Path, documents: list[Document], install: Callable[[pytest.MonkeyPatch], None]) -> int:
    """Fork, ingest with a killer installed, and return the signal the child died of (0: it lived)."""
    child = os.fork()
    if child == 0:
        try:
            install(pytest.MonkeyPatch())
            Archive.open(path).ingest(documents, RUN)
            os._exit(0)
        except BaseException as error:
            print(f"child: {type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, make_documents: Make
) -> tuple[str, list[str], list[RunStatus]]:
    """(digest of the matrix, answers, tree) of an archive that nothing happened to."""
    with Archive.create(tmp_path_factory.mktemp("direct") / "archive") as direct:
        direct.ingest(make_documents(N_DOCUMENTS), RUN)
        return digest(direct), spoken(direct), direct.tree()


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_anywhere_the_next_ingest_makes_the_same_archive(
    moment: str, tmp_path: Path, make_documents: Make, uninterrupted: tuple[str, list[str], list[RunStatus]]
) -> None:
    documents, (expected, answers, tree) = make_documents(N_DOCUMENTS), uninterrupted
    Archive.create(tmp_path / "killed").close()
    assert ingest_in_child(tmp_path / "killed", documents, MOMENTS[moment]) == signal.SIGKILL
    with Archive.open(tmp_path / "killed") as resumed:
        report = resumed.ingest(documents, RUN)
        outcome = {"first batch intended": "withdrawn", "second batch intended": "withdrawn"}
        settled = "settled" if moment.endswith("not settled") else "clean"
        assert report.resumed == outcome.get(moment, settled)
        assert report.pending == 0
        assert digest(resumed) == expected  # not one pair missing, doubled or reordered, to the bit
        assert spoken(resumed) == answers
        assert resumed.tree() == tree


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_while_the_rank_grows_the_batch_counts_once(
    after: bool, tmp_path: Path, make_documents: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emm_engine.matrices.shelf.RIDGE", 2.0**-6)  # saturates early; the child inherits it
    monkeypatch.setattr("emm_engine.catalog.domains.Domains.shape_of", lambda self, domain: Shape(32, 768))
    documents = make_documents(N_DOCUMENTS)
    with Archive.create(tmp_path / "direct") as direct:
        rank = direct.ingest(documents, RUN).rank
        assert rank > 32
        expected = digest(direct)
    Archive.create(tmp_path / "killed").close()
    assert ingest_in_child(tmp_path / "killed", documents, killer(emm.Memory, "expand", after, 1)) == signal.SIGKILL
    with Archive.open(tmp_path / "killed") as resumed:
        report = resumed.ingest(documents, RUN)
        assert (report.resumed, report.pending, report.rank) == ("settled", 0, rank)
        assert digest(resumed) == expected


def test_killed_while_unlearning_nothing_is_taken_out_twice(tmp_path: Path, make_documents: Make) -> None:
    def version(number: int) -> list[Document]:
        return [
            Document("n", f"note {n}", f"rotor {n} text {number}", labels=(Label("v", str(number)),), key=str(n))
            for n in range(30)
        ]

    with Archive.create(tmp_path / "a") as archive:
        archive.ingest([*make_documents(50), *version(1)], RUN)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with Archive.open(tmp_path / "b") as direct:
        assert direct.ingest(version(2), RUN).unlearned == 30
        expected = digest(direct)
    for after in (True, False):
        shutil.copytree(tmp_path / "a", tmp_path / f"killed {after}")
        path = tmp_path / f"killed {after}"
        assert ingest_in_child(path, version(2), killer(emm.Memory, "unlearn", after, 1)) == signal.SIGKILL
        with Archive.open(path) as resumed:
            report = resumed.ingest([], RUN)
            assert (report.resumed, report.unlearned) == (("settled", 0) if after else ("withdrawn", 30))
            assert digest(resumed) == expected


def test_text_is_durable_and_found_while_the_matrix_lags(tmp_path: Path, make_documents: Make) -> None:
    Archive.create(tmp_path / "a").close()
    ingest_in_child(tmp_path / "a", make_documents(100), MOMENTS["first batch intended"])
    with Archive.open(tmp_path / "a") as archive:
        answer = archive.ask("pump valve pressure", RUN)
        assert answer.citations[0].source == "pump/log" and answer.associations == ()
        (status,) = archive.tree()
        assert status.documents == 100


def test_text_without_an_embedder_is_found_by_its_words(tmp_path: Path, make_documents: Make) -> None:
    """Red when an ingest killed after its text and before its model reads as "nothing has been ingested"."""
    Archive.create(tmp_path / "a").close()
    ingest_in_child(tmp_path / "a", make_documents(100), MOMENTS["after text"])
    with Archive.open(tmp_path / "a") as archive:
        answer = archive.ask("pump valve pressure", RUN, k=3)
        (status,) = archive.tree()
        assert status.pending == 100
        assert answer.notes == (f"{status.pending} passages wait for the matrix: run emm ingest again",)
        assert [citation.source for citation in answer.citations] == ["pump/log"] * 3
        assert answer.citations[0].quote.split("\n")[0].strip() in answer.context
        assert archive.ask("zebra", RUN).citations == ()


def test_a_second_writer_is_fenced_with_nothing_changed(tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as first, Archive.open(tmp_path / "a") as second:
        first.ingest(make_documents(20), RUN)
        fenced: list[emm.FencedError] = []

        def intrude(progress: Progress) -> None:
            if not fenced:
                with pytest.raises(emm.FencedError) as caught:
                    second.ingest(make_documents(10, seed=5), RUN)
                fenced.append(caught.value)

        first.ingest(make_documents(20, seed=1), RUN, intrude)
        assert fenced
        (status,) = second.tree()
        assert (status.documents, status.pending) == (40, 0)
        assert second.ingest(make_documents(10, seed=5), RUN).documents == 10  # freed


def test_any_damage_to_the_vector_log_changes_no_answer(tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(make_documents(60), RUN)
        answers = spoken(archive)
    path = tmp_path / "a" / "vectors" / "lab" / "code" / "debian" / "host.vec"
    whole = path.read_bytes()
    flipped = [whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :] for at in range(0, len(whole), len(whole) // 12)]
    for damaged in [b"", whole[:40], whole[:-1], whole[: len(whole) // 2], whole + b"tail", os.urandom(9999), *flipped]:
        path.write_bytes(damaged)
        with Archive.open(tmp_path / "a") as archive:
            assert spoken(archive) == answers
        assert path.read_bytes() == damaged  # asking writes nothing
    path.unlink()
    with Archive.open(tmp_path / "a") as archive:
        assert spoken(archive) == answers
        archive.ingest([], RUN)  # a writer repairs
        assert path.read_bytes() == whole


def test_vectors_of_other_texts_under_the_same_ids_are_not_used(tmp_path: Path, make_documents: Make) -> None:
    relative = Path("vectors", "lab", "code", "debian", "host.vec")
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(make_documents(60), RUN)
        answers = spoken(archive)
    shuffled = bytearray((tmp_path / "a" / relative).read_bytes())
    store = ExactVectors(tmp_path / "a" / "vectors", 256, fingerprint_of(tmp_path / "a"))
    held = store.everything(str(RUN))
    store.add(str(RUN), held.ids, held.vectors[::-1].copy(), held.hashes[::-1].copy())  # valid records, wrong texts
    assert (tmp_path / "a" / relative).read_bytes() != shuffled
    with Archive.open(tmp_path / "a") as archive:
        assert spoken(archive) == answers


def fingerprint_of(path: Path) -> str:
    connection = sqlite3.connect(path / "catalog.sqlite")
    return str(connection.execute("SELECT fingerprint FROM embedders").fetchone()[0])


def test_a_missing_or_changed_model_is_loud(tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(make_documents(30), RUN)
    (model,) = (tmp_path / "a" / "embedders").iterdir()
    data = model.read_bytes()
    for damaged, word in ((data[:-1], "changed"), (None, "missing")):
        model.unlink()
        if damaged is not None:
            model.write_bytes(damaged)
        with Archive.open(tmp_path / "a") as archive:
            with pytest.raises(EmbedderError, match=word):
                archive.ask("pump", RUN)
            with pytest.raises(EmbedderError, match=word):
                archive.ingest(make_documents(5, seed=3), RUN)
            (status,) = archive.tree()  # the keeper still sees it, with the new text stored and waiting
            assert status.documents == 35 and status.pending > 0


def test_an_older_or_exchanged_memory_is_refused(tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(make_documents(30), RUN)
        memory = archive.memory_path(RUN)
        shutil.copytree(memory, tmp_path / "older")
        archive.ingest(make_documents(30, seed=2), RUN)
    shutil.rmtree(memory)
    shutil.copytree(tmp_path / "older", memory)
    with (
        Archive.open(tmp_path / "a") as archive,
        pytest.raises(CatalogError, match="does not hold the pairs") as caught,
    ):
        archive.ingest([], RUN)
    assert caught.value.exit_code == 4 and "pairs" in caught.value.expected
    shutil.rmtree(memory)
    with Archive.open(tmp_path / "a") as archive, pytest.raises(CatalogError, match="is missing"):
        archive.ingest([], RUN)
    emm.create(str(memory), dim=768, rank=128, key_dim=256).close()
    with Archive.open(tmp_path / "a") as archive, pytest.raises(CatalogError, match="was exchanged"):
        archive.ask("pump valve pressure", RUN)


def test_a_catalog_of_the_first_schema_becomes_one_of_the_newest(tmp_path: Path) -> None:
    """Red when a migration is skipped, or runs twice where two processes open an old catalog."""
    path = tmp_path / "catalog.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(TABLES + "PRAGMA user_version = 1;")
    connection.close()
    for _ in range(2):
        opened = connect(path)
        assert opened.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        opened.close()


def test_a_catalog_of_another_schema_is_refused(tmp_path: Path) -> None:
    Archive.create(tmp_path / "a").close()
    connection = sqlite3.connect(tmp_path / "a" / "catalog.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(CatalogError) as caught:
        Archive.open(tmp_path / "a")
    assert (caught.value.expected, caught.value.found) == (SCHEMA_VERSION, 99)
    with sqlite3.connect(tmp_path / "a" / "catalog.sqlite") as connection:
        connection.execute("PRAGMA user_version = 1")  # what it says of itself and its tables contradict each other
    connection.close()
    with pytest.raises(CatalogError, match="cannot be read"):
        Archive.open(tmp_path / "a")
    (tmp_path / "a" / "catalog.sqlite").write_bytes(b"not a database" * 99)
    with pytest.raises(CatalogError, match="cannot be read"):
        Archive.open(tmp_path / "a")


def test_a_catalog_that_cannot_be_opened_now_is_not_called_damaged(tmp_path: Path) -> None:
    """On a full disk SQLite cannot make the files beside the catalog: that was exit code 4, "damaged, data lost"."""
    Archive.create(tmp_path / "a").close()
    (tmp_path / "a" / "catalog.sqlite-wal").mkdir()
    with pytest.raises(emm.StorageError, match="cannot be opened") as caught:
        Archive.open(tmp_path / "a")
    assert caught.value.exit_code == 6
