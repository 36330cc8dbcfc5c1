"""Roll-ups: one memory of everything below a project or domain, asked only while it is that.

Red when: a roll-up is not, to rounding, the memory that learnt all the pairs; a pair taken out of a run is still
recalled through it; one that is stale, damaged, missing or of another time is asked; a kill leaves one that passes for
fresh; runs of different rank do not merge, or lose pairs when they are raised; anything of another tenant is in it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import emm
from emm_engine import Archive, Document, Label, Scope, ScopeError
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.rollups import Rollups, Standing
from emm_engine.embeddings.backoff import FOR_QUESTIONS
from emm_engine.hierarchy import Shape
from emm_engine.matrices.consult import chosen
from emm_engine.matrices.labels import code, value
from emm_engine.matrices.rollup import RollingUp
from emm_engine.matrices.shelf import recall
from tests.engine.killing import Moment, killed_at

Make = Callable[..., list[Document]]
DOMAIN, PROJECT = Scope("lab", "code"), Scope("lab", "code", "debian")
SHAPE = Shape(64, 128)
RUNS = [Scope("lab", "code", "debian", "a"), Scope("lab", "code", "debian", "b"), Scope("lab", "code", "other", "c")]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, make_documents: Make) -> Path:
    path = tmp_path_factory.mktemp("original") / "archive"
    with Archive.create(path) as opened:
        opened._catalog.executemany("INSERT INTO domains VALUES ('code', ?, ?)", [(SHAPE.rank, SHAPE.dim)])  # quick
        for seed, run in enumerate(RUNS):
            opened.ingest(make_documents(16, seed=seed), run)
    return path


@pytest.fixture
def archive(tmp_path: Path, original: Path) -> Iterator[Archive]:
    """Three runs in two projects, rolled up; each test its own copy."""
    shutil.copytree(original, tmp_path / "archive")
    with Archive.open(tmp_path / "archive") as opened:
        yield opened


def taught(archive: Archive, runs: list[Scope]) -> tuple[np.ndarray, np.ndarray]:
    """(keys, values) of every pair that the ledger says the runs' matrices hold."""
    keys, values = [], []
    for scope in runs:
        (run,) = archive._catalog.runs(scope)
        ids = PairLedger(archive._catalog, run).absorbed()
        kept = PairLedger(archive._catalog, run).kept(ids)
        keys.append(archive._keys_of(run, ids))
        values += [value(kept[identity], SHAPE.dim) for identity in ids]
    return np.concatenate(keys), np.stack(values)


def matrix_of(archive: Archive, scope: Scope) -> np.ndarray:
    with emm.open(str(archive.path / scope.memory_path)) as memory:
        return memory.matrix.copy()


def asked(archive: Archive, scope: Scope) -> list[str]:
    return [str(place) for place in chosen(Rollups(archive._catalog).standing(DOMAIN), scope)]


def without_rollups(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RollingUp, "refresh_above", lambda self, run: [])


@pytest.mark.parametrize(("scope", "runs"), [(PROJECT, RUNS[:2]), (DOMAIN, RUNS)], ids=["project", "domain"])
def test_a_rollup_is_the_memory_that_learnt_all_pairs(
    archive: Archive, tmp_path: Path, scope: Scope, runs: list[Scope]
) -> None:
    keys, values = taught(archive, runs)
    with (
        emm.open(str(archive.path / scope.memory_path)) as rolled,
        emm.create(str(tmp_path / "whole"), dim=SHAPE.dim, rank=SHAPE.rank, key_dim=256, ridge=1.0) as whole,
    ):
        whole.write(keys, values)
        assert rolled.write_count == whole.write_count == len(keys)
        assert np.linalg.norm(rolled.matrix - whole.matrix) < 1e-5 * np.linalg.norm(whole.matrix)
        sources = rolled.metadata["rollup"]["sources"]
    assert sources == [[each.memory_uuid, archive.tree()[0].lsn] for run in runs for each in archive._catalog.runs(run)]


def test_a_run_asks_itself_and_what_is_above_it(archive: Archive) -> None:
    assert asked(archive, RUNS[0]) == ["lab:code/debian/a", "lab:code/debian", "lab:code"]
    assert asked(archive, PROJECT) == ["lab:code/debian", "lab:code"]
    assert asked(archive, DOMAIN) == ["lab:code"]
    assert asked(archive, RUNS[2]) == ["lab:code/other/c", "lab:code"]  # alone in its project, it answers for that
    assert asked(archive, Scope("lab", "code", "nothing")) == ["lab:code"]
    memories = archive._consulting.memories(PROJECT)
    assert [memory.write_count for memory in memories] == [
        len(taught(archive, RUNS[:2])[0]),
        len(taught(archive, RUNS)[0]),
    ]


def test_what_was_taken_out_is_not_recalled_through_a_rollup(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer that was superseded must be gone from project and domain the moment the ingest returns."""
    without_rollups(monkeypatch)

    def note(version: str) -> list[Document]:
        return [
            Document("n", f"note {n}", f"rotor bearing {version}", labels=(Label("verdict", version),), key=str(n))
            for n in range(6)
        ]

    def strength(version: str, scope: Scope) -> float:
        key = archive._models.of(archive._catalog.runs(scope)[0], FOR_QUESTIONS)[0].embed(["note\nrotor bearing"])[0]
        recalled = recall(archive._consulting.memories(scope), key)
        return float(recalled @ code(Label("verdict", version), SHAPE.dim))

    archive.ingest(note("sound"), RUNS[0])
    assert [each.outcome for each in archive.rollup()] == ["made", "one part", "made"]
    before = {scope: strength("sound", scope) for scope in (RUNS[0], PROJECT, DOMAIN)}
    assert min(before.values()) > 0.25
    archive.ingest(note("leaking"), RUNS[0])
    for _ in ("stale", "refreshed"):
        for scope in before:
            assert strength("leaking", scope) > 0.1 and abs(strength("sound", scope)) < before[scope] / 3
        archive.rollup()
    assert asked(archive, RUNS[0]) == ["lab:code/debian/a", "lab:code/debian", "lab:code"]


def test_an_ingest_refreshes_what_is_above_it_and_says_what_it_left(
    archive: Archive, make_documents: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert archive.ingest(make_documents(5, seed=9), RUNS[1]).notices == ()
    assert asked(archive, PROJECT) == ["lab:code/debian", "lab:code"]
    monkeypatch.setattr("emm_engine.matrices.rollup.OPERATIONS_CHEAP", 0)
    notices = archive.ingest(make_documents(5, seed=10), RUNS[1]).notices
    assert [notice.split(":")[1].split(" ")[0] for notice in notices] == ["code/debian", "code"]
    assert all("run emm rollup" in notice or "is behind" in notice for notice in notices)
    assert asked(archive, PROJECT) == ["lab:code/debian/a", "lab:code/debian/b"]


def test_a_second_refresh_changes_nothing(archive: Archive) -> None:
    before = {path: path.read_bytes() for path in archive.path.rglob("*.emm")}
    reports = archive.rollup()
    assert [(each.scope, each.outcome, each.n_runs) for each in reports] == [
        ("lab:code/debian", "fresh", 2),
        ("lab:code/other", "one part", 1),
        ("lab:code", "fresh", 3),
    ]
    assert {path: path.read_bytes() for path in archive.path.rglob("*.emm")} == before
    with pytest.raises(ScopeError):
        archive.rollup(RUNS[0])
    with pytest.raises(emm.MissingError):
        archive.rollup(Scope("lab", "chat"))


MOMENTS = {
    "before the merge": Moment("emm.merge", False, 1),
    "merged, in its hidden place": Moment("emm.merge", True, 1),
    "the old one away": Moment("os.rename", True, 1),
    "the new one there, not recorded": Moment("os.rename", True, 2),
    "before it is recorded": Moment("emm_engine.catalog.rollups.Rollups.record", False, 1),
    "recorded": Moment("emm_engine.catalog.rollups.Rollups.record", True, 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while_refreshing_nothing_wrong_is_asked(
    moment: str, archive: Archive, make_documents: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        without_rollups(patch)
        archive.ingest(make_documents(8, seed=20), RUNS[0])
    shutil.copytree(archive.path, archive.path.with_name("direct"))
    with Archive.open(archive.path.with_name("direct")) as direct:
        direct.rollup()
        expected = [matrix_of(direct, scope).tobytes() for scope in (PROJECT, DOMAIN)]
    assert killed_at(MOMENTS[moment], lambda: Archive.open(archive.path).rollup())
    with Archive.open(archive.path) as again:
        for scope in (RUNS[0], PROJECT, DOMAIN):
            pairs = max(memory.write_count for memory in again._consulting.memories(scope))
            assert pairs in {len(taught(again, [run])[0]) for run in RUNS} | {len(taught(again, RUNS[:2])[0])}
        again.rollup()
        assert [matrix_of(again, scope).tobytes() for scope in (PROJECT, DOMAIN)] == expected
        assert asked(again, DOMAIN) == ["lab:code"]
        assert not list(again.path.rglob(".rollup-*"))


@pytest.mark.parametrize("harm", ["flipped", "gone", "another", "torn"])
def test_a_rollup_that_is_not_the_one_recorded_is_not_asked(archive: Archive, harm: str, tmp_path: Path) -> None:
    place = archive.path / DOMAIN.memory_path
    answer = archive.ask("pressure of the pump valve", DOMAIN).associations
    (file,) = place.glob("*.emm")
    data = bytearray(file.read_bytes())
    if harm == "flipped":
        data[len(data) // 2] ^= 4
        file.write_bytes(data)
    elif harm == "torn":
        file.write_bytes(data[: len(data) // 2])
    else:
        shutil.rmtree(place)
        if harm == "another":
            shutil.copytree(archive.path / PROJECT.memory_path, place)
    with Archive.open(archive.path) as again:
        found = again.ask("pressure of the pump valve", DOMAIN).associations
        assert found[0].name == answer[0].name == "pump" and abs(found[0].strength - answer[0].strength) < 0.2
        assert [memory.write_count for memory in again._consulting.memories(DOMAIN)] == [
            len(taught(again, RUNS[:2])[0]),
            len(taught(again, RUNS[2:])[0]),
        ]
        assert any("roll-up of lab:code is not used" in notice for notice in again.notices)
        assert again.rollup()[-1].outcome == "made"
        assert again.ask("pressure of the pump valve", DOMAIN).associations == answer


def test_a_batch_of_unknown_fate_makes_every_rollup_above_it_stale(archive: Archive) -> None:
    (run,) = archive._catalog.runs(RUNS[0])
    ledger = PairLedger(archive._catalog, run)
    batch = ledger.intend_unlearn(ledger.absorbed()[:3], archive.tree()[0].absorbed)
    assert asked(archive, DOMAIN) == ["lab:code/debian/a", "lab:code/debian/b", "lab:code/other/c"]
    assert [each.outcome for each in archive.rollup()] == ["behind", "one part", "behind"]
    ledger.withdraw(batch)
    assert asked(archive, DOMAIN) == ["lab:code"]


def test_a_run_that_is_being_written_leaves_its_rollups_behind(archive: Archive) -> None:
    (large,), (busy,) = archive._catalog.runs(RUNS[0]), archive._catalog.runs(RUNS[2])
    with archive._shelf.open_writer(large) as memory:
        memory.expand(96)
    with Archive.open(archive.path) as other, archive._shelf.open_writer(busy):
        project, _, domain = other.rollup()
    assert (project.outcome, project.rank, domain.outcome) == ("made", 96, "behind")
    assert domain.why.startswith("lab:code/other/c could not be raised to rank 96")


def test_a_write_between_the_look_and_the_merge_leaves_it_behind(
    archive: Archive, make_documents: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when an ingest at the wrong moment reads as damage, or a roll-up of half of it as fresh."""
    original = RollingUp._sources
    without_rollups(monkeypatch)

    def late(self: RollingUp, standing: Standing, scope: Scope) -> object:
        with Archive.open(archive.path) as other:
            other.ingest(make_documents(2, seed=len(other.tree()[0].scope) + other.tree()[0].documents), RUNS[0])
        return original(self, standing, scope)

    archive.ingest(make_documents(2, seed=77), RUNS[0])
    with monkeypatch.context() as patch:
        patch.setattr(RollingUp, "_sources", late)
        assert [each.outcome for each in archive.rollup()] == ["behind", "one part", "behind"]
    assert asked(archive, DOMAIN) == ["lab:code/debian/a", "lab:code/debian/b", "lab:code/other/c"]
    assert [each.outcome for each in archive.rollup()] == ["made", "one part", "made"]


@pytest.mark.parametrize("pruned", [False, True], ids=["from the journal", "from the catalog"])
def test_runs_of_different_rank_are_raised_to_the_largest_and_merge(archive: Archive, pruned: bool) -> None:
    keys, values = taught(archive, RUNS)
    (small,) = archive._catalog.runs(RUNS[1])
    (large,) = archive._catalog.runs(RUNS[0])
    with archive._shelf.open_writer(large) as memory:
        memory.expand(96)
    with archive._shelf.open_writer(small) as memory:
        if pruned:
            memory.prune(keep=1, journal=True)
        before = (memory.uuid, memory.write_count)
    reports = archive.rollup()
    assert [(each.outcome, each.rank) for each in reports] == [("made", 96), ("one part", 0), ("made", 96)]
    with archive._shelf.open_writer(small) as memory:
        assert (memory.uuid, memory.write_count, memory.rank) == (*before, 96)
        assert PairLedger(archive._catalog, small).reconcile(memory.write_count, memory.lsn) == "clean"
        assert memory.expand_at == (0.0 if pruned else np.float32(0.85))  # what its journal lacks, it never has again
    rolled = archive._consulting.memories(DOMAIN)[0]
    x = rolled.recall(keys)
    whole = emm.create(str(archive.path / "whole"), dim=SHAPE.dim, rank=96, key_dim=256, ridge=1.0)
    with whole:
        whole.write(keys, values)
        assert np.abs(x - whole.recall(keys)).max() < 1e-4


def test_a_rollup_that_would_be_full_has_its_runs_raised(
    tmp_path: Path, make_documents: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when pairs that fit their runs one by one are squeezed into a roll-up of the same rank."""
    with Archive.create(tmp_path / "a") as archive:
        archive.domains.add("tiny", Shape(16, 64))
        runs = [Scope("lab", "tiny", "p", f"r{n}") for n in range(3)]
        with monkeypatch.context() as patch:
            without_rollups(patch)
            for seed, run in enumerate(runs):
                archive.ingest(make_documents(12, seed=seed), run)
        full = 1.01 * max(run.saturation for run in archive.tree())  # between each run and all of them
        monkeypatch.setattr("emm_engine.matrices.growth.SATURATION_MAX", full)
        (cheap, _) = archive._rolling_up.refresh_above(runs[0])
        assert (cheap.outcome, cheap.why) == ("behind", "it would be full at rank 16: run emm rollup")
        report = archive.rollup()[0]
        assert report.outcome == "made" and report.saturation <= full
        assert {run.rank for run in archive.tree()} == {report.rank}
        late = Scope("lab", "tiny", "p", "late")
        assert archive.ingest(make_documents(2, seed=3), late).notices == ()  # starts at the rank of its siblings
        assert archive.tree()[0].rank == report.rank > 16


def test_two_tenants_with_one_name_for_everything_share_nothing(tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as archive:
        for tenant in ("lab", "rival"):
            for seed, run in enumerate(("a", "b")):
                archive.ingest(
                    make_documents(10, seed=seed if tenant == "lab" else 50), Scope(tenant, "small", "p", run)
                )
        for tenant in ("lab", "rival"):
            mine = sum(status.absorbed for status in archive.tree(tenant))
            for scope in (Scope(tenant, "small"), Scope(tenant, "small", "p"), Scope(tenant, "small", "p", "a")):
                memories = archive._consulting.memories(scope)
                assert max(memory.write_count for memory in memories) == mine
                assert all(f"/{tenant}/" in memory.url for memory in memories)
        before = matrix_of(archive, Scope("rival", "small", "p")).tobytes()
        archive.ingest(make_documents(6, seed=7), Scope("lab", "small", "p", "a"))
        archive.rollup()
        assert matrix_of(archive, Scope("rival", "small", "p")).tobytes() == before
