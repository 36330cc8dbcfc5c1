"""Forgetting also reaches what was made above a run, what dreams made of it, and keys that lie beside it.

Red when: a roll-up, a dream's candidate or a later dream still holds a forgotten pair; the vector of a key span stays
in a file, whatever happened to its run before; a matrix unlearns another key than it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import emm
from emm_engine import Archive, Document, Label, Scope, Selection, settings
from emm_engine.catalog.pairs import PairLedger
from emm_engine.documents import Marked, Passage
from emm_engine.matrices.labels import value
from emm_engine.models.keys import key_namespace
from tests.engine.dream_life import RUN as DREAMT
from tests.engine.dream_life import dreams, make_archive, newer_extractor, notes
from tests.engine.test_forgetting import WORDS, holders, needles_of, passages_of
from tests.engine.test_reembed import rows_of_a_table

Make = Callable[..., list[Document]]
ONE, TWO = Scope("lab", "code", "p", "r"), Scope("lab", "code", "p", "s")
ABOVE = Scope("lab", "code", "p")


def test_roll_ups_are_made_anew(tmp_path: Path, make_documents: Make) -> None:
    """Red when a roll-up still holds a pair that its run has forgotten, or is left behind."""
    with Archive.create(tmp_path / "a") as had, Archive.create(tmp_path / "never") as never:
        gone, kept, other = make_documents(5, seed=9), make_documents(20), make_documents(15, seed=3)
        for archive in (had, never):
            archive.ingest(kept, ONE)
            archive.ingest(other, TWO)
        had.ingest(gone, ONE)
        had.rollup(ABOVE)
        (before,) = had.rollup(ABOVE)
        ids = [c.document_id for title in {d.title for d in gone} for c in had.ask(title, ONE, k=40).citations]
        titles = {
            c.document_id: c.title for title in {d.title for d in gone} for c in had.ask(title, ONE, k=40).citations
        }
        chosen = {each for each in ids if titles[each].split()[1].startswith("9.")}
        had.forget(Selection(documents=tuple(sorted(chosen))), purge=True)
        (after,) = had.rollup(ABOVE)
        (fresh,) = never.rollup(ABOVE)
        assert before.n_pairs > after.n_pairs == fresh.n_pairs and after.outcome == "fresh"
        assert [c.quote for c in had.ask("pump", ABOVE).citations] == [
            c.quote for c in never.ask("pump", ABOVE).citations
        ]
        assert list(had.check()) == []


def test_a_closed_scope_forgets_too(tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(make_documents(20), ONE)
        archive.close_scope(ONE)
        n_before = archive.tree()[0].documents
        (first, *_) = archive.ask("pump", ONE).citations
        archive.forget(Selection(documents=(first.document_id,)))
        archive.forget(Selection(documents=(archive.ask("pump", ONE).citations[0].document_id,)), purge=True)
        assert archive.tree()[0].documents == n_before - 2
        archive.rebuild()
        assert archive.tree()[0].documents == n_before - 2 and list(archive.check()) == []


# --- what a dream made of it ---------------------------------------------------------------------


def dream_notes() -> tuple[list[Document], list[Document]]:
    """A run of notes, and one that nobody is to know of, in three versions with words of their own."""
    told = enumerate(("sesquipedal", "quicksilverine", "zymurgicals"), 1)
    secret = [
        Document(
            "vault",
            "vault note",
            f"The crucible {word} was checked in case 400, pressure: {n} bar",  # the newer extractor labels it anew
            f"201{n}-01-01T00:00:00Z",
            (Label("codeword", word),),
            "vault",
        )
        for n, word in told
    ]
    return notes(1), secret


SECRET_WORDS = [b"sesquipedal", b"quicksilverine", b"zymurgicals"]


def dreamt(path: Path, patch: pytest.MonkeyPatch, stop_at: str = "") -> list[bytes]:
    """An archive that has dreamt about the notes, or has begun to; the vectors and values of the secret ones."""
    kept, secret = dream_notes()
    make_archive(path, [*kept, *secret[:1]], secret[1:2], [*secret[2:], *notes(2, count=6)])
    needles = needles_of(path, DREAMT, passages_of(path, "vault"))[len(WORDS) :]

    def tell(text: str) -> None:
        if stop_at and text.startswith(stop_at):
            raise StopAsyncIteration  # of all errors one that nobody else raises

    newer_extractor(patch)
    with Archive.open(path) as archive:
        try:
            (report,) = dreams(archive, tell)
            assert not stop_at and report.outcome == "done"
        except StopAsyncIteration:
            assert stop_at
    return [*SECRET_WORDS, *needles]


@pytest.mark.parametrize("stop_at", ["", "planned", "distilled", "phase complete", "swap adopted"])
def test_what_a_dream_made_of_a_forgotten_text_is_gone(
    stop_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the dream was stopped half-way and its candidate, which holds the pairs, lies on disk."""
    path = tmp_path / "a"
    needles = dreamt(path, monkeypatch, stop_at)
    if stop_at in ("distilled", "phase complete", "swap adopted"):
        assert holders(path / "dreams", needles)
    with Archive.open(path) as archive:
        certificate = archive.forget(Selection(sources=("vault",)), purge=True)
        assert certificate.documents == 3 and certificate.trace is not None and certificate.trace.clean
        assert holders(path, needles) == set()
        assert list(archive.check()) == []
        (report,) = dreams(archive)
        assert report.outcome == "done"
        assert holders(path, needles) == set() and list(archive.check()) == []
        archive.ask("crucible checked", DREAMT)
    with Archive.open(path) as archive:
        never = tmp_path / "never"
        kept, _ = dream_notes()
        make_archive(never, kept, notes(2, count=6))
        with Archive.open(never) as other:
            dreams(other)
            with emm.open(str(archive.memory_path(DREAMT))) as ours, emm.open(str(other.memory_path(DREAMT))) as theirs:
                assert ours.write_count == theirs.write_count and ours.rank == theirs.rank
                assert np.abs(ours.matrix - theirs.matrix).max() < 1e-3


@pytest.mark.parametrize("stop_at", ["", "distilled", "swap adopted"])
def test_a_dream_does_not_bring_back_what_was_unlearned(
    stop_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a purge: a candidate that was made with the text is never swapped in afterwards."""
    path = tmp_path / "a"
    dreamt(path, monkeypatch, stop_at)
    with Archive.open(path) as archive:
        archive.forget(Selection(sources=("vault",)))
        dreams(archive)
        answer = archive.ask("vault crucible checked", DREAMT, k=60, token_budget=99_999)
        told = answer.to_json()
        assert not any(word.decode() in told for word in SECRET_WORDS)
        labels = archive._catalog.query("SELECT name FROM labels WHERE kind = 'codeword'")
        assert labels == [] and list(archive.check()) == []
        with emm.open(str(archive.memory_path(DREAMT))) as memory:
            key = archive._keys_of(archive._catalog.runs(DREAMT)[0], [1])
            recalled = memory.recall(key)[0]
        for word in SECRET_WORDS:
            wanted = value([(Label("codeword", word.decode()), 1.0)], 768)
            assert abs(float(recalled @ wanted)) < 0.15


# --- keys that pairs state ------------------------------------------------------------------------


def stated_needles(path: Path, passage_id: int) -> list[bytes]:
    """The vector of a passage's key span, as the store has it."""
    with Archive.open(path) as archive:
        (run,) = archive._catalog.runs(ONE)
        store = archive._models.store_of(run)
        assert store is not None
        found, rows = store.fetch(key_namespace(run), np.array([passage_id], np.int64))
        assert found.tolist() == [passage_id]
        return [rows[0].tobytes()]


@pytest.mark.parametrize("life", ["", "reembedded", "moved", "imported", "dreamt"])
@pytest.mark.parametrize("purge", [False, True])
def test_a_row_of_a_table_goes_with_the_key_that_it_states(
    purge: bool, life: str, tmp_path: Path, make_documents: Make
) -> None:
    """Its vector lies beside the run's; after a purge no file holds it, and the matrix is as if it had never come."""
    path, place = tmp_path / "a", ONE
    rows = rows_of_a_table(30)
    lone = "temperature: 777 K; base: quicksilverine"
    outcome = "yield: 3 %"
    secret = Document(
        "vault", "vault row", f"{lone}\n{outcome}", key="vault",
        passages=(Passage(0, len(lone) + 1 + len(outcome), (0, len(lone)),
                          (Marked(Label("outcome", outcome), len(lone) + 1, len(lone) + 1 + len(outcome)),)),),
    )  # fmt: skip
    with Archive.create(path) as archive:
        archive.ingest([*make_documents(15), *rows[:20]], place)
        archive.ingest([secret, *rows[20:]], place)
        if life == "reembedded":
            assert archive.reembed(Scope("lab", "code"), "lsa").changed
        elif life == "dreamt":
            settings.Settings(archive._catalog).set(Scope("lab", "code"), settings.SHARING_DREAM, True)
            dreams(archive)
        elif life == "moved":
            archive.move(place, replace(place, run="elsewhere"))
            archive.move(replace(place, run="elsewhere"), place)
        elif life == "imported":
            archive.export(place, tmp_path / "out")
            path = tmp_path / "b"
            with Archive.create(path) as other:
                other.import_from(tmp_path / "out")
    (row,) = passages_of(path, "vault")
    needles = [*stated_needles(path, row), b"quicksilverine"]
    assert holders(path, needles[:1])
    with Archive.open(path) as archive:
        archive.forget(Selection(documents=(document_with(archive, "vault"),)), purge=purge)
        assert list(archive.check()) == []
        run = archive._catalog.runs(place)[0]
        store = archive._models.store_of(run)
        assert store is not None
        assert len(store.fetch(key_namespace(run), np.array([row], np.int64))[0]) == 0
        ledger = PairLedger(archive._catalog, run)
        ids = ledger.held()
        with emm.open(str(archive.memory_path(place))) as memory, archive._shelf.stage(run, memory, 256) as wanted:
            kept = ledger.kept(ids)
            wanted.write(archive._keys_of(run, ids), np.stack([value(kept[each], memory.dim) for each in ids]))
            assert memory.write_count == len(ids)
            assert np.abs(memory.matrix - wanted.matrix).max() < 1e-4
    if purge:
        assert holders(path, needles) == set()


def document_with(archive: Archive, source: str) -> int:
    ((identity,),) = archive._catalog.query("SELECT document_id FROM documents WHERE source = ?", (source,))
    return int(identity)
