"""Dreams: what they change, what they never change, and what they say about it.

Red when: a run that did not opt in is touched; a superseded version is still answered, or a kept pair lost; a
dream after a dream changes anything; labels of an older extractor stay in the matrix; a newer write is overwritten; a
candidate that answers worse is put in place; a budget is not kept; a report says other than what happened.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import emm
from emm_engine import Archive, Document, Scope
from emm_engine.dream import distill, probes
from emm_engine.dream.kept import KeptPairs
from emm_engine.dream.plan import plan_of
from emm_engine.ingest import pipeline
from emm_engine.settings import SHARING_DREAM, Settings
from tests.engine.dream_life import RUN, dreams, make_archive, make_memory, newer_extractor, notes, only, waiting


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settled") / "archive"
    make_archive(path, notes(1))
    return path


@pytest.fixture
def archive(tmp_path: Path, settled: Path) -> Iterator[Archive]:
    """40 notes in the matrix, opted in, nothing waiting; each test its own copy."""
    shutil.copytree(settled, tmp_path / "archive")
    with Archive.open(tmp_path / "archive") as opened:
        yield opened


def memory_of(archive: Archive) -> emm.Memory:
    return emm.open(str(archive.memory_path(RUN)))


def digest(archive: Archive) -> str:
    with memory_of(archive) as memory:
        return memory.digest


def pairs_of(archive: Archive) -> KeptPairs:
    run = archive._catalog.runs(RUN)[0]
    return KeptPairs(archive._catalog, run, archive._keys_of)


def from_scratch(archive: Archive, tmp_path: Path, rank: int = 128) -> np.typing.NDArray[np.float32]:
    """M of a memory that was given what the archive keeps, and nothing else."""
    pairs = pairs_of(archive)
    ids = pairs.kept()
    with emm.create(
        str(tmp_path / f"scratch {rank}"), dim=768, rank=rank, key_dim=256, ridge=1.0, expand_at=0.0
    ) as memory:
        memory.write(pairs.keys(ids), pairs.written(ids, 768))
        return np.array(memory.matrix)


# --- opting in, and having nothing to do ---------------------------------------------------------


def test_who_did_not_opt_in_is_left_alone(tmp_path: Path) -> None:
    make_archive(tmp_path / "a", notes(1), opted_in=False)
    with Archive.open(tmp_path / "a") as archive:
        waiting(archive, notes(2))
        before = archive.tree()
        assert archive.dreamer().opted_in() == [] and dreams(archive) == []
        settings = Settings(archive._catalog)
        settings.set(Scope("other", "code"), SHARING_DREAM, True)
        settings.set(Scope("lab", "code", "bench"), SHARING_DREAM, True)
        settings.set(RUN, SHARING_DREAM, False)
        assert dreams(archive) == [] and archive.tree() == before
        settings.set(RUN, SHARING_DREAM, True)
        assert only(dreams(archive)).learnt == 40


def test_dreaming_twice_is_dreaming_once(archive: Archive) -> None:
    before = digest(archive)
    report = only(dreams(archive))
    assert (report.outcome, report.writes, report.learnt, report.superseded) == ("done", 0, 0, 0)
    assert report.recall_before == report.recall_after and report.recall_after is not None
    assert dreams(archive) == [] and digest(archive) == before
    archive.ingest(notes(1, 40, 2), RUN)
    assert only(dreams(archive)).recall_after is not None and dreams(archive) == []


# --- ingest and supersession ---------------------------------------------------------------------


def test_what_waits_is_learnt_and_no_superseded_version_is_answered(archive: Archive, tmp_path: Path) -> None:
    """The older versions are in the matrix and superseded in the catalog: asked for them, it names their marks."""
    waiting(archive, notes(2))
    report = only(dreams(archive))
    assert (report.learnt, report.superseded) == (40, 40)
    assert report.stale_before[0] == report.stale_before[1] == 40 and report.stale_after == (0, 40)
    (status,) = archive.tree()
    assert (status.absorbed, status.pending, status.stale) == (40, 0, 0)
    with memory_of(archive) as memory:
        assert memory.write_count == 40
        assert np.abs(memory.matrix - from_scratch(archive, tmp_path)).max() < 1e-4


def test_a_stale_answer_is_seen(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when the measure says 0 whatever the matrix holds."""
    monkeypatch.setattr(pipeline.Ingest, "_unlearn_stale", lambda *_: 0)
    monkeypatch.setattr("emm_engine.dream.cycle.plan_of", lambda *a: dataclasses.replace(plan_of(*a), way="nothing"))
    waiting(archive, notes(2, 0, 10))
    report = only(dreams(archive))
    assert report.stale_before[0] >= 3 and report.stale_after[0] >= 3 and report.stale_after[1] == 10


def test_what_could_not_be_unlearned_is_solved_away(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`unlearn` refuses where too little else is stored along a key: that ended every later ingest of the run."""

    def refuse(*_: object, **__: object) -> int:
        raise emm.GateError("refused")

    with monkeypatch.context() as patch:
        patch.setattr(emm.Memory, "unlearn", refuse)
        assert archive.ingest(notes(2, 0, 3), RUN).unlearned == 0
        assert archive.tree()[0].stale == 3
        report = only(dreams(archive))
    assert (report.outcome, report.superseded, report.stale_after[0]) == ("done", 3, 0)
    (status,) = archive.tree()
    assert (status.absorbed, status.stale) == (40, 0)
    with memory_of(archive) as memory:
        assert np.abs(memory.matrix - from_scratch(archive, tmp_path)).max() < 1e-4
    assert archive.ingest(notes(3, 0, 3), RUN).unlearned == 3  # and the ledger still agrees with the memory


def test_roll_ups_above_a_run_hold_what_the_dream_made_of_it(archive: Archive) -> None:
    """A swap that left the LSN as it was would pass for no change at all."""
    archive.ingest(notes(1, 100, 10), Scope("lab", "code", "bench", "second"))
    waiting(archive, notes(2, 0, 10))
    with pytest.MonkeyPatch.context() as patch:
        newer_extractor(patch)
        reports = dreams(archive)
    assert reports[0].relabelled == 7 and not any("behind" in note for report in reports for note in report.notes)
    (project,) = archive.rollup(Scope("lab", "code", "bench"))
    assert (project.outcome, project.n_runs, project.n_pairs) == ("fresh", 2, 50)
    merged = archive.path / Scope("lab", "code", "bench").memory_path
    runs = [archive.memory_path(Scope("lab", "code", "bench", name)) for name in ("host", "second")]
    with emm.open(str(merged)) as rolled, emm.merge([str(run) for run in runs], str(archive.path / "again")) as again:
        assert np.array_equal(rolled.matrix, again.matrix)


# --- extract -------------------------------------------------------------------------------------


def test_a_newer_extractor_reaches_text_that_was_ingested_long_ago(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert only(dreams(archive)).relabelled == 0
    newer_extractor(monkeypatch)
    report = only(dreams(archive))
    assert (report.outcome, report.relabelled, report.writes) == ("done", 10, 20)
    assert report.surprise is not None and report.surprise[1] < report.surprise[0]
    with memory_of(archive) as memory:
        assert memory.write_count == 40 and memory.lsn == archive.tree()[0].lsn
        assert np.abs(memory.matrix - from_scratch(archive, tmp_path)).max() < 1e-4
    shown = {a.kind for a in archive.ask("furnace case 8 crucible", RUN).associations}
    assert archive.tree()[0].absorbed == 40 and shown
    assert archive._catalog.query(
        "SELECT count(*) FROM pair_labels JOIN labels USING(label_id) WHERE kind = 'case'"
    ) == [(10,)]
    assert dreams(archive) == []
    assert archive.ingest(notes(2, 0, 1), RUN).unlearned == 1  # with its new labels, which are those it was given


def test_two_texts_of_one_title_that_disagree_are_reported_and_both_kept(archive: Archive) -> None:
    def measured(year: int, value: str) -> Document:
        return Document("log", "alloy 7", f"Measured again.\nmelting point: {value} K", f"{year}-01-01T00:00:00Z")

    archive.ingest([measured(2011, "933"), measured(2012, "933"), measured(2013, "931")], RUN)
    report = only(dreams(archive))
    assert report.contradictions == 1 and report.superseded == 0
    quotes = {c.quote for c in archive.ask("melting point of the alloy", RUN).citations}
    assert {quote[-5:] for quote in quotes if "melting" in quote} == {"933 K", "931 K"}


# --- expansion -----------------------------------------------------------------------------------


def test_a_full_matrix_is_solved_anew_at_a_larger_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ingest could not raise its rank (or a dream's own ingest has filled it); the catalog has the pairs."""
    monkeypatch.setattr("emm_engine.matrices.growth.Growth.grow_if_saturated", lambda *_: [])
    path = tmp_path / "a"
    with Archive.create(path) as archive:
        make_memory(archive, "preconditioned", rank=16, ridge=2.0**-10, expand_at=0.0)
        archive.ingest(notes(1), RUN)
        Settings(archive._catalog).set(RUN, SHARING_DREAM, True)
        report = only(dreams(archive))
        assert report.outcome == "done" and report.rank == (16, 32)
        assert report.saturation[0] >= 0.85 and report.writes == 40
        assert report.recall_before is not None and report.recall_after is not None
        assert report.recall_after.cosine > report.recall_before.cosine + 0.05
        assert archive.tree()[0].rank == 32
        while archive.dreamer().due():
            report = only(dreams(archive))
        assert report.saturation[1] < 0.85 and archive.ingest(notes(2), RUN).unlearned == 40


# --- rule 1 --------------------------------------------------------------------------------------


def test_rule_1_is_rebuilt_without_superseded_versions_and_replayed(tmp_path: Path) -> None:
    make_archive(tmp_path / "a", notes(1), notes(2), rule="gated-delta")
    with Archive.open(tmp_path / "a") as archive:
        (status,) = archive.tree()
        assert (status.absorbed, status.stale) == (80, 40)
        report = only(dreams(archive))
        assert (report.outcome, report.superseded, report.replayed) == ("done", 40, 40)
        assert report.stale_before[0] > 0 and report.stale_after[0] == 0
        assert report.recall_before is not None and report.recall_after is not None
        assert report.recall_after.cosine > report.recall_before.cosine
        (status,) = archive.tree()
        assert (status.absorbed, status.stale) == (40, 0)
        assert dreams(archive) == [], "a replay finds nothing new in what it has replayed"
        assert archive.ingest(notes(3, 0, 2), RUN).resumed == "clean"


# --- giving way ----------------------------------------------------------------------------------


def test_a_writer_who_commits_in_mid_dream_wins(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dream has its candidate; then an ingest commits. Consolidation that overwrites newer writes is what users of
    other memories complain about most.
    """
    only(dreams(archive))
    newer_extractor(monkeypatch)
    written: list[str] = []

    def intrude(text: str) -> None:
        if text == "phase complete" and not written:
            with Archive.open(archive.path) as other:
                other.ingest(notes(1, 60, 3), RUN)
            written.append(digest(archive))

    report = only(dreams(archive, intrude))
    assert (report.outcome, report.relabelled) == ("yielded", 0) and "written to" in report.why
    assert digest(archive) == written[0]
    assert not any(path.is_dir() for path in (archive.path / "dreams").iterdir())
    report = only(dreams(archive))
    assert (report.outcome, report.relabelled) == ("done", 10)  # note 60 was ingested by the newer extractor
    assert archive.tree()[0].absorbed == 43


def test_a_writer_between_the_swap_and_the_end_makes_the_run_due_again(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cycle noted at its end what the run looked like by then, with what an ingest had just superseded: rule 1 kept
    that for ever. `emm_fuzz.dream_kill --seed 3` found it.
    """
    only(dreams(archive))
    newer_extractor(monkeypatch)

    def intrude(text: str) -> None:
        if text == "swap settled":
            waiting(archive, notes(2, 0, 2))

    assert only(dreams(archive, intrude)).outcome == "done"
    assert only(dreams(archive)).superseded == 2 and not archive.dreamer().due()


def test_a_writer_at_work_is_not_waited_for(archive: Archive) -> None:
    waiting(archive, notes(2, 0, 2))
    with emm.open(str(archive.memory_path(RUN)), mode="a"):
        report = only(dreams(archive))
        assert report.outcome == "running" and "another process is writing" in report.why
    assert only(dreams(archive)).outcome == "done"


def test_two_dreamers_do_not_dream_together(archive: Archive) -> None:
    with Archive.open(archive.path) as other:
        dreaming = archive.dreamer().dream(lambda: pytest.fail("no budget is needed before the lock"))
        other_dreams = other.dreamer()
        with other_dreams._alone(), pytest.raises(emm.FencedError, match="another process is dreaming"):
            next(dreaming)


# --- rolling back --------------------------------------------------------------------------------


def test_a_bad_distillation_is_rolled_back(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted bug: the candidate is given noise for values."""
    only(dreams(archive))
    before, answer = digest(archive), archive.ask("crucible", RUN).associations
    newer_extractor(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(
            distill.Distillation,
            "_truth",
            lambda self, part, plan, dim: np.random.default_rng(1).standard_normal((len(part), dim), np.float32),
        )
        report = only(dreams(archive))
        assert (report.outcome, report.relabelled) == ("rolled-back", 0) and "probes got worse" in report.why
        assert report.recall_before is not None and report.recall_after is not None
        assert report.recall_after.cosine < report.recall_before.cosine
        assert digest(archive) == before and archive.ask("crucible", RUN).associations == answer
        assert dreams(archive) == [], "the same again would come to the same"
    archive.ingest(notes(1, 50, 1), RUN)
    assert only(dreams(archive)).relabelled == 10


def test_the_probes_see_what_ordinary_rounding_does_not_move() -> None:
    good = probes.Recall(100, 0.9, 0.8, 0.85, 0.75)
    assert not good.worse_than(good)
    assert not dataclasses.replace(good, cosine=0.795).worse_than(good)
    for name in ("top1", "cosine", "held_out_top1", "held_out_cosine"):
        assert dataclasses.replace(good, **{name: getattr(good, name) - 0.03}).worse_than(good)


def test_which_pairs_are_probed_follows_from_the_cycle() -> None:
    kept = list(range(1, 2000, 2))
    assert probes.chosen(7, kept) == probes.chosen(7, kept) != probes.chosen(8, kept)
    assert len(set(probes.chosen(7, kept))) == probes.PROBES_MAX and set(probes.chosen(7, kept)) <= set(kept)


# --- budgets -------------------------------------------------------------------------------------


def test_a_dream_whose_time_is_up_goes_on_where_it_was(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    only(dreams(archive))
    newer_extractor(monkeypatch)
    phases: list[str] = []
    outcomes = []
    while archive.dreamer().due():
        report = only(dreams(archive, lambda text: phases.append(text), seconds=0.004))
        outcomes.append(report.outcome)
        assert len(outcomes) < 40
    assert outcomes[-1] == "done" and "running" in outcomes
    assert only_phases(phases) == ["ingest", "extract", "probe", "distill", "checkpoint", "complete"]
    assert archive.dreamer().reports()[0].relabelled == 10


def only_phases(told: list[str]) -> list[str]:
    """The phases in the order in which they were begun, each once however often it was gone on with."""
    return list(dict.fromkeys(text.removeprefix("phase ") for text in told if text.startswith("phase ")))


def test_what_a_budget_of_writes_leaves_the_next_dream_does(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    only(dreams(archive))
    newer_extractor(monkeypatch)
    first = only(dreams(archive, writes=8))
    assert (first.relabelled, first.writes) == (4, 8) and "6 changes wait" in first.notes[0]
    second = only(dreams(archive))
    assert second.relabelled == 6 and dreams(archive) == []


# --- reports -------------------------------------------------------------------------------------


def test_reports_are_kept_and_hold_no_text(archive: Archive) -> None:
    waiting(archive, notes(2))
    report = only(dreams(archive))
    (kept,) = archive.dreamer().reports()
    assert kept == report
    assert set(report.phase_seconds) == {"ingest", "extract", "probe", "distill", "checkpoint", "complete"}
    assert json.loads(json.dumps(report.to_dict()))["learnt"] == 40
    stored = archive._catalog.query("SELECT facts FROM cycles")[0][0]
    assert "furnace" not in stored and "mark" not in stored
    assert archive.dreamer().reports(Scope("other", "code")) == []
