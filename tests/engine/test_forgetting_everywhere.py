"""Forgetting also reaches what was made above a run, and runs that take no more documents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from emm_engine import Archive, Document, Scope, Selection

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
