"""Moving runs and projects: names in one transaction, files after them.

Red when: a moved scope answers otherwise than before; a kill at any step leaves a run that cannot be read, or that the
next writer does not put right; a run is renamed under an ingest; settings, marks or vectors stay behind; the old name
cannot be used again; a move leaves its tenant or its domain.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import emm
from emm_engine import Archive, Document, Progress, Scope, ScopeError
from emm_engine.hierarchy import parse_place
from emm_engine.settings import SHARING_DREAM
from tests.engine.killing import Moment, killed_at

Make = Callable[..., list[Document]]
A, B, C = (Scope.parse(f"lab:code/{name}") for name in ("debian/a", "debian/b", "other/c"))
RIVAL = Scope("rival", "code", "debian", "a")
DOMAIN = Scope("lab", "code")
MOVES = {
    "a run in its project": (A, Scope.parse("lab:code/debian/z")),
    "a run to another project": (A, Scope.parse("lab:code/other/a")),
    "a run to a new project": (C, Scope.parse("lab:code/fresh/c")),
    "a project": (Scope.parse("lab:code/debian"), Scope.parse("lab:code/ubuntu")),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, make_documents: Make) -> Path:
    path = tmp_path_factory.mktemp("original") / "archive"
    with Archive.create(path) as opened:
        opened._catalog.executemany("INSERT INTO domains VALUES ('code', 64, 128)", [()])  # quick
        for seed, run in enumerate((A, B, C, RIVAL)):
            opened.ingest(make_documents(12, seed=seed), run)
        opened.settings.set(A, SHARING_DREAM, True)
        opened.settings.set(Scope.parse("lab:code/debian"), SHARING_DREAM, False)
    return path


@pytest.fixture
def archive(tmp_path: Path, original: Path) -> Iterator[Archive]:
    shutil.copytree(original, tmp_path / "archive")
    with Archive.open(tmp_path / "archive") as opened:
        yield opened


def named(scope: Scope, move: tuple[Scope, Scope]) -> Scope:
    """What a scope is called after a move."""
    source, target = move
    return Scope.parse(str(target) + str(scope)[len(str(source)) :]) if source.contains(scope) else scope


def state(archive: Archive, move: tuple[Scope, Scope] | None = None) -> dict[str, object]:
    """Answers and matrices of every run, by the names that they have after the move."""
    found: dict[str, object] = {}
    for scope in archive.scopes():
        answer = json.loads(archive.ask("pressure of the pump valve", scope, k=9, token_budget=9999).to_json())
        for each in ("timings_ms", "scope", "associations", "context", "n_tokens", "notes"):  # these hear the ancestors
            del answer[each]
        with archive._shelf.open_reader(archive._catalog.runs(scope)[0]) as memory:
            digest = memory.digest
        found[str(named(scope, move)) if move is not None else str(scope)] = (digest, json.dumps(answer))
    return found


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_a_moved_scope_is_the_same_under_another_name(
    archive: Archive, move: tuple[Scope, Scope], make_documents: Make
) -> None:
    before, tree = state(archive, move), [run for run in archive.tree() if move[0].contains(Scope.parse(run.scope))]
    report = archive.move(*move)
    assert (report.source, report.target, report.runs) == (str(move[0]), str(move[1]), len(tree))
    assert state(archive) == before
    for status in tree:
        scope = named(Scope.parse(status.scope), move)
        (now,) = [each for each in archive.tree() if each.scope == str(scope)]
        assert (now.vectors, now.absorbed, now.lsn) == (status.vectors, status.absorbed, status.lsn)
        assert emm.verify(str(archive.memory_path(scope))).verdict == "clean"
        assert not archive.memory_path(Scope.parse(status.scope)).exists()
    assert all(each.outcome in ("made", "fresh", "one part", "empty") for each in report.rollups)
    assert [each.outcome for each in archive.rollup(DOMAIN)][-1] == "fresh"
    old = A if move[0].contains(A) else C
    assert archive.ingest(make_documents(4, seed=30), old).documents == 4  # the name is free
    assert archive.ingest(make_documents(4, seed=31), named(old, move)).documents == 4
    assert emm.verify(str(archive.path)).verdict == "clean"


def test_what_was_said_goes_with_it(archive: Archive) -> None:
    target = Scope.parse("lab:code/ubuntu")
    archive.settings.set(target, SHARING_DREAM, True)  # said of a place where nothing was
    archive.close_scope(A)
    archive.move(Scope.parse("lab:code/debian"), target)
    assert archive.settings.get(target, SHARING_DREAM) is False
    assert archive.settings.get(Scope.parse("lab:code/ubuntu/a"), SHARING_DREAM) is True
    assert archive.settings.get(A, SHARING_DREAM) is False
    with pytest.raises(ScopeError, match="is closed"):
        archive.ingest([], Scope.parse("lab:code/ubuntu/a"))
    archive.ingest([], A)


REFUSED = {
    "another tenant": ("lab:code/debian/a", "rival:code/debian/z", ScopeError, "nothing crosses a tenant"),
    "another domain": ("lab:code/debian/a", "lab:chat/debian/a", ScopeError, "stays in its domain"),
    "a run to a project": ("lab:code/debian/a", "lab:code/new", ScopeError, "a run becomes a run"),
    "a domain": ("lab:code", "lab:code/new", ScopeError, "a run becomes a run"),
    "itself": ("lab:code/debian", "lab:code/debian", ScopeError, "has that name already"),
    "a taken run": ("lab:code/debian/a", "lab:code/debian/b", emm.ExistsError, "under that name"),
    "a taken project": ("lab:code/debian", "lab:code/other", emm.ExistsError, "under that name"),
    "nothing there": ("lab:code/nothing", "lab:code/new", emm.MissingError, "no run at or below"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_move_that_cannot_be_is_refused_in_one_sentence(archive: Archive, case: str) -> None:
    source, target, error, words = REFUSED[case]
    before = state(archive)
    with pytest.raises(error, match=words):
        archive.move(Scope.parse(source), Scope.parse(target))
    assert state(archive) == before


def test_a_closed_scope_gives_nothing_and_takes_nothing(archive: Archive) -> None:
    archive.close_scope(Scope.parse("lab:code/other"))
    for source, target in ((C, "lab:code/debian/c"), (A, "lab:code/other/a")):
        with pytest.raises(ScopeError, match="is closed"):
            archive.move(source, Scope.parse(target))
    archive.move(Scope.parse("lab:code/other"), Scope.parse("lab:code/elsewhere"))
    assert [run.closed for run in archive.tree() if run.scope.startswith("lab:code/elsewhere")] == [True]
    assert archive.reopen_scope(parse_place("lab:code/elsewhere"))


def test_a_run_is_not_renamed_under_an_ingest(archive: Archive, make_documents: Make) -> None:
    refused: list[emm.FencedError] = []

    def meanwhile(progress: Progress) -> None:
        if not refused:
            with Archive.open(archive.path) as other, pytest.raises(emm.FencedError) as caught:
                other.move(Scope.parse("lab:code/debian"), Scope.parse("lab:code/ubuntu"))
            refused.append(caught.value)

    assert archive.ingest(make_documents(3, seed=40), B, meanwhile).documents == 3
    assert refused[0].exit_code == 11
    assert archive._catalog.query("SELECT * FROM relocations") == []
    archive.move(Scope.parse("lab:code/debian"), Scope.parse("lab:code/ubuntu"))
    assert archive.ingest(make_documents(3, seed=40), Scope.parse("lab:code/ubuntu/b")).duplicates == 3


def test_a_domain_that_changes_its_embedder_is_not_moved(archive: Archive) -> None:
    """What is embedded anew lies beside the old under the names of the runs: a move would leave it behind."""
    (row,) = archive._catalog.query("SELECT tenant_id FROM tenants WHERE name = 'lab'")
    change = (*row, "code", "lsa", "ab" * 32, 256, 9)
    archive._catalog.executemany("INSERT INTO reembeds VALUES (?, ?, ?, ?, ?, ?, 0)", [change])
    with pytest.raises(emm.FencedError, match="is changing its embedder"):
        archive.move(A, Scope.parse("lab:code/debian/z"))


MOMENTS = {
    "intended": Moment("emm_engine.catalog.relocations.Relocations.intend", True, 1),
    "names changed": Moment("emm_engine.catalog.relocations.Relocations.rename", True, 1),
    "before the first memory": Moment("os.rename", False, 1),
    "the first memory there": Moment("os.rename", True, 1),
    "its vectors there": Moment("emm_engine.vectors.segmented.SegmentedVectors.rename", True, 1),
    "the first run done": Moment("emm_engine.catalog.relocations.Relocations.end", True, 1),
    "the second memory there": Moment("emm_engine.vectors.segmented.SegmentedVectors.rename", False, 2),
    "all done": Moment("emm_engine.catalog.relocations.Relocations.end", True, 2),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_step_readers_go_on_and_the_next_writer_ends_it(
    moment: str, archive: Archive, make_documents: Make
) -> None:
    move = MOVES["a project"]
    before, after = state(archive), state(archive, move)
    assert killed_at(MOMENTS[moment], lambda: Archive.open(archive.path).move(*move))
    expected = before if moment == "intended" else after
    with Archive.open(archive.path) as reader:
        assert state(reader) == expected  # nothing is written for this
        assert [run.scope for run in reader.tree()] == sorted(expected)
    for scope in (A, named(A, move)):  # both names are written to, by somebody who has not heard of the move
        with Archive.open(archive.path) as writer:
            writer.ingest([], scope)
    with Archive.open(archive.path) as again:
        now = state(again)
        assert {name: now[name] for name in expected} == expected
        assert again._catalog.query("SELECT * FROM relocations") == []
        assert again.ingest(make_documents(12), A if moment == "intended" else named(A, move)).duplicates == 12
        again.rollup()
        assert emm.verify(str(archive.path)).verdict == "clean"
        if moment != "intended":
            assert not (again.path / "vectors/lab/code/debian/b.vec").exists()


def test_nobody_writes_what_is_being_moved(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between names and files: an ingest is fenced off under both names, a question is answered."""
    move = MOVES["a project"]
    before = state(archive, move)
    original = os.rename
    seen: list[str] = []

    def watched(source: object, target: object) -> None:
        if str(source).endswith("debian/a"):
            with Archive.open(archive.path) as other:
                for scope in (A, named(A, move)):
                    with pytest.raises(emm.FencedError):
                        other.ingest([], scope)
                seen.extend(name for name, value in state(other).items() if value == before[name])
        original(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rename", watched)
    archive.move(*move)
    assert sorted(seen) == sorted(before)
