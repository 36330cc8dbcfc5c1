"""Domains of one's own, growth from the catalog, closing, and the tree.

Red when: a domain's shape changes under its runs; a rank that the journal cannot raise stays, or loses or doubles
pairs; a closed scope takes a document or an ingest that is at work is closed over; a tree's sums are not its runs'.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import emm
from emm_engine import Archive, Document, LevelStatus, Progress, RunStatus, Scope, ScopeError
from emm_engine.catalog.pairs import PairLedger
from emm_engine.hierarchy import DOMAINS, Shape, Tenant, parse_place
from emm_engine.matrices.labels import value

Make = Callable[..., list[Document]]
RUN = Scope("lab", "small", "p", "r")
SHAPE = Shape(64, 128)


def small(path: Path) -> Archive:
    archive = Archive.create(path)
    archive.domains.add("small", SHAPE)
    return archive


# --- domains -------------------------------------------------------------------------------------


def test_a_domain_of_ones_own_decides_the_shape_and_outlives_the_process(tmp_path: Path, make_documents: Make) -> None:
    small(tmp_path / "a").close()
    with Archive.open(tmp_path / "a") as archive:
        assert archive.domains.all() == dict(sorted({**DOMAINS, "small": SHAPE}.items()))
        assert archive.domains.shape_of("unheard_of") == DOMAINS["general"]
        archive.ingest(make_documents(4), RUN)
        with emm.open(str(archive.memory_path(RUN))) as memory:
            assert (memory.rank, memory.dim, memory.key_dim) == (64, 128, 256)
        archive.domains.add("small", SHAPE)  # again: nothing
        with pytest.raises(emm.ExistsError):
            archive.domains.add("small", Shape(64, 256))
        with pytest.raises(emm.ExistsError):
            archive.domains.add("code", Shape(64, 256))
        with pytest.raises(emm.InputError, match="has runs"):
            archive.domains.remove("small")
        archive.domains.add("spare", SHAPE)
        archive.domains.remove("spare")
        with pytest.raises(emm.MissingError):
            archive.domains.remove("spare")


def test_a_domain_with_runs_keeps_its_dim_and_key_dim(tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as archive:
        archive._catalog.ensure_run(Scope("lab", "unnamed", "p", "r"))
        for shape in (Shape(64, 512), Shape(512, 768)):
            with pytest.raises(emm.InputError, match="stay as they are"):
                archive.domains.add("unnamed", shape)
        archive.domains.add("unnamed", Shape(128, 768))


@pytest.mark.parametrize(("rank", "dim"), [(0, 768), (17, 768), (-16, 768), (1 << 40, 768), (64, 1), (64, 1 << 40)])
def test_a_shape_has_bounds(rank: int, dim: int) -> None:
    with pytest.raises(emm.InputError):
        Shape(rank, dim)


@pytest.mark.parametrize("name", ["_rollup", "..", "a/b", "Upper", ""])
def test_a_domain_has_a_name_like_any_scope(name: str, tmp_path: Path) -> None:
    with Archive.create(tmp_path / "a") as archive, pytest.raises(ScopeError):
        archive.domains.add(name, SHAPE)


# --- growth from the catalog ---------------------------------------------------------------------


def killed_while_growing(path: Path, documents: list[Document], run: Scope, after: bool) -> int:
    """Ingest in a child that dies before or after it solves the memory again from given pairs; its signal."""
    child = os.fork()
    if child == 0:
        original = emm.Memory.expand

        def dying(self: emm.Memory, rank: int, pairs: object = None, **more: object) -> int:
            if pairs is not None and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            generation = original(self, rank, pairs, **more)  # type: ignore[arg-type]
            if pairs is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            return generation

        try:
            emm.Memory.expand = dying  # type: ignore[assignment, method-assign]
            Archive.open(path).ingest(documents, run)
        except BaseException as error:
            print(f"child: {type(error).__name__}: {error}", file=sys.stderr)
        finally:
            os._exit(1)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


def test_a_rank_that_the_journal_cannot_raise_is_raised_from_the_catalog(
    tmp_path: Path, make_documents: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pruned journal made a run keep its rank for ever, saturated or not. Also: killed before and after."""
    monkeypatch.setattr("emm_engine.matrices.shelf.RIDGE", 2.0**-6)
    monkeypatch.setattr("emm_engine.matrices.growth.SATURATION_MAX", 0.72)  # between the two ingests
    archive = Archive.create(tmp_path / "a")
    archive.domains.add("tiny", Shape(16, 128))
    run = Scope("lab", "tiny", "p", "r")
    archive.ingest(make_documents(24), run)
    with emm.open(str(archive.memory_path(run)), mode="a") as memory:
        memory.checkpoint()
        memory.prune(keep=1, journal=True)
        before = (memory.uuid, memory.rank)
    archive.close()
    for after in (False, True):
        assert killed_while_growing(tmp_path / "a", make_documents(60), run, after) == signal.SIGKILL
    with Archive.open(tmp_path / "a") as archive:
        report = archive.ingest([], run)
        (status,) = archive.tree()
        assert report.rank == status.rank > before[1] and status.saturation <= 0.85 and status.hint == ""
        (row,) = archive._catalog.runs(run)
        ledger = PairLedger(archive._catalog, row)
        with emm.open(str(archive.memory_path(run)), mode="a") as memory:
            assert memory.uuid == before[0] and memory.write_count == status.absorbed
            assert ledger.reconcile(memory.write_count, memory.lsn) == "clean"
            values = np.stack([value(labels, memory.dim) for labels in ledger.kept(ledger.absorbed()).values()])
            shape = {"dim": 128, "rank": memory.rank, "key_dim": 256, "ridge": 2.0**-6}
            with emm.create(str(tmp_path / "whole"), **shape) as whole:  # type: ignore[arg-type]
                whole.write(archive._keys_of(row, ledger.absorbed()), values)
                assert np.linalg.norm(memory.matrix - whole.matrix) < 1e-5 * np.linalg.norm(whole.matrix)
        ids = ledger.absorbed()[:3]
        with archive._shelf.open_writer(row) as memory:  # and what was solved again can still be taken out
            kept = ledger.kept(ids)
            values = np.stack([value(kept[identity], memory.dim) for identity in ids])
            memory.unlearn(archive._keys_of(row, ids), values, rank=memory.rank)


# --- closing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["lab:small/p/r", "lab:small/p", "lab:small", "lab:"])
def test_a_closed_scope_takes_no_document_at_or_below_it(place: str, tmp_path: Path, make_documents: Make) -> None:
    with small(tmp_path / "a") as archive:
        archive.ingest(make_documents(3), RUN)
        tree = archive.tree()
        assert archive.close_scope(parse_place(place)) is True
        assert archive.close_scope(parse_place(place)) is False
        with pytest.raises(ScopeError, match="is closed") as caught:
            archive.ingest(make_documents(3, seed=1), RUN)
        assert caught.value.found == place and caught.value.exit_code == 2
        if place != str(RUN):
            with pytest.raises(ScopeError):
                archive.ingest(make_documents(1), Scope("lab", "small", "p", "unborn"))
        assert [status.closed for status in archive.tree()] == [True]
        assert len(archive.scopes()) == 1 and archive.tree()[0].documents == tree[0].documents
        assert archive.ask("pump", RUN).citations
        archive.ingest(make_documents(1), Scope("rival", "small", "p", "r"))  # a namesake of another tenant is open
        assert archive.reopen_scope(parse_place(place)) is True
        assert archive.ingest(make_documents(3, seed=1), RUN).documents == 3


def test_reopening_lifts_one_mark(tmp_path: Path, make_documents: Make) -> None:
    with small(tmp_path / "a") as archive:
        archive.ingest(make_documents(2), RUN)
        project = Scope("lab", "small", "p")
        archive.close_scope(RUN)
        archive.close_scope(project)
        with pytest.raises(ScopeError, match="is closed") as caught:
            archive.reopen_scope(RUN)
        assert caught.value.found == str(project)
        assert archive.reopen_scope(project) is True and archive.reopen_scope(project) is False
        archive.ingest(make_documents(2), RUN)
        with pytest.raises(emm.MissingError):
            archive.close_scope(Tenant("nobody"))


def test_closing_waits_for_no_ingest_and_closes_over_none(tmp_path: Path, make_documents: Make) -> None:
    with small(tmp_path / "a") as archive, Archive.open(tmp_path / "a") as other:
        refused: list[emm.FencedError] = []

        def meanwhile(progress: Progress) -> None:
            if not refused:
                with pytest.raises(emm.FencedError) as caught:
                    other.close_scope(Scope("lab", "small"))
                refused.append(caught.value)

        assert archive.ingest(make_documents(3), RUN, meanwhile).documents == 3
        assert refused and not other.tree()[0].closed
        assert other.close_scope(Scope("lab", "small")) is True


def test_closing_finishes_what_an_interrupted_ingest_left(tmp_path: Path, make_documents: Make) -> None:
    with small(tmp_path / "a") as archive:
        run = archive._catalog.ensure_run(RUN)
        archive._catalog.add_documents(run, make_documents(4))
        assert archive.tree()[0].pending > 0
        archive.close_scope(RUN)
        status = archive.tree()[0]
        assert (status.pending, status.closed) == (0, True) and status.absorbed > 0


# --- the tree ------------------------------------------------------------------------------------


def test_the_tree_sums_up_and_says_how_roll_ups_stand(tmp_path: Path, make_documents: Make) -> None:
    with small(tmp_path / "a") as archive:
        for seed, text in enumerate(("lab:small/p/a", "lab:small/p/b", "lab:small/q/c", "rival:small/p/a")):
            archive.ingest(make_documents(4, seed=seed), Scope.parse(text))
        archive.close_scope(Scope("lab", "small", "q"))
        before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
        lines = archive.levels()
        names = ["lab:", "lab:small", "lab:small/p", "lab:small/p/a", "lab:small/p/b", "lab:small/q", "lab:small/q/c"]
        assert [line.scope for line in lines] == [*names, "rival:", "rival:small", "rival:small/p", "rival:small/p/a"]
        assert [line for line in lines if isinstance(line, RunStatus)] == archive.tree()
        levels = {line.scope: line for line in lines if isinstance(line, LevelStatus)}
        for level in levels.values():
            below = [run for run in archive.tree() if parse_place(level.scope).contains(Scope.parse(run.scope))]
            assert level.documents == sum(run.documents for run in below) == 4 * len(below) == 4 * level.runs
            assert level.absorbed == sum(run.absorbed for run in below) and level.pending == level.stale == 0
        assert {name: level.rollup for name, level in levels.items()} == {
            "lab:": "",
            "lab:small": "fresh",
            "lab:small/p": "fresh",
            "lab:small/q": "one part",
            "rival:": "",
            "rival:small": "one part",
            "rival:small/p": "one part",
        }
        assert 0.0 < levels["lab:small/p"].saturation < levels["lab:small"].saturation < 0.85
        assert [name for name, level in levels.items() if level.closed] == ["lab:small/q"]
        assert archive.levels("rival") == lines[7:]
        assert {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()} == before
