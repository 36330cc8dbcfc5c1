"""A dream is killed (SIGKILL, a real process) between its phases and inside them; the next one finishes or takes back.

Red when a kill loses or doubles a pair, leaves labels of two extractors, leaves a memory that the ledger contradicts,
keeps an ingest from working before the next dream, or when the dream that goes on comes to other bits than one that
nobody disturbed. `python -m emm_fuzz.dream_kill` does this at every step and at random moments.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

import emm
from emm_engine import Archive, RunStatus
from emm_engine.catalog.pairs import PairLedger
from emm_engine.dream.kept import KeptPairs
from tests.engine.dream_life import RUN, dreams, make_archive, newer_extractor, notes, only, waiting

MOMENTS = (
    "phase extract",
    "examined",
    "phase distill",
    "planned",
    "distilled 1",
    "phase checkpoint",
    "phase complete",
    "swap intended",
    "swap adopted",
    "swap settled",
)
State = tuple[str, list[RunStatus], list[tuple[object, ...]]]


def state(path: Path) -> State:
    """Digest of the matrix, tree, and every pair's labels as the matrix holds them."""
    with Archive.open(path) as archive:
        with emm.open(str(archive.memory_path(RUN))) as memory:
            digest = memory.digest
        labels = archive._catalog.query(
            "SELECT passage_id, kind, name, weight FROM pair_labels JOIN labels USING(label_id) "
            "ORDER BY passage_id, kind, name"
        )
        return digest, archive.tree(), labels


def dream_until(path: Path, moment: str) -> int:
    """Dream in a child that kills itself as soon as it has told `moment`; the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:

            def dying(text: str) -> None:
                if text.startswith(moment):
                    os.kill(os.getpid(), signal.SIGKILL)

            with Archive.open(path) as archive:
                dreams(archive, dying)
        finally:
            os._exit(1)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


@pytest.fixture(scope="module")
def newer() -> object:
    with pytest.MonkeyPatch.context() as patch:
        newer_extractor(patch)
        yield patch


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 notes; newer versions of six wait, and the extractor is about to change."""
    path = tmp_path_factory.mktemp("before") / "archive"
    make_archive(path, notes(1, 0, 30))
    with Archive.open(path) as archive:
        only(dreams(archive))
        waiting(archive, notes(2, 0, 6))
    return path


@pytest.fixture(scope="module")
def undisturbed(before: Path, newer: object, tmp_path_factory: pytest.TempPathFactory) -> State:
    path = tmp_path_factory.mktemp("calm") / "archive"
    shutil.copytree(before, path)
    with Archive.open(path) as archive:
        report = only(dreams(archive))
        assert (report.outcome, report.learnt, report.superseded, report.relabelled) == ("done", 6, 6, 6)
    return state(path)


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_anywhere_the_next_dream_comes_to_the_same(
    moment: str, before: Path, undisturbed: State, tmp_path: Path
) -> None:
    path = tmp_path / "archive"
    shutil.copytree(before, path)
    assert dream_until(path, moment) == signal.SIGKILL
    assert str(emm.verify(str(path)).verdict).startswith("clean")
    with Archive.open(path) as archive:
        reports = dreams(archive)
        assert [report.outcome for report in reports] == ["done"] and not archive.dreamer().due()
        assert (reports[0].learnt, reports[0].superseded, reports[0].relabelled) == (6, 6, 6)
        assert not any(each.is_dir() for each in (path / "dreams").iterdir())
    assert state(path) == undisturbed


@pytest.mark.parametrize("moment", ["swap intended", "swap adopted"])
def test_an_ingest_after_a_torn_swap_needs_no_dream_first(
    moment: str, before: Path, undisturbed: State, tmp_path: Path
) -> None:
    """Whoever opens the memory next settles the swap; the ledger would contradict it else."""
    path = tmp_path / "archive"
    shutil.copytree(before, path)
    assert dream_until(path, moment) == signal.SIGKILL
    with Archive.open(path) as archive:
        report = archive.ingest(notes(3, 0, 2), RUN)
        assert (report.resumed, report.pending, report.unlearned) == ("clean", 0, 2)
        assert only(dreams(archive)).outcome == "done"
        assert [report.relabelled for report in dreams(archive)] == ([0] if moment == "swap adopted" else [])
        (status,) = archive.tree()
        assert (status.absorbed, status.stale) == (30, 0) and not archive.dreamer().due()
        assert archive._catalog.query("SELECT count(*) FROM relabels") == [(0,)]


@pytest.mark.parametrize("moment", ["phase probe", "phase distill", "planned", "phase complete"])
def test_an_ingest_killed_beside_a_dream_confuses_neither(
    moment: str, before: Path, newer: object, tmp_path: Path
) -> None:
    """It has intended a batch that the memory never saw: the ledger calls its pairs written, the matrix has none.

    Red when a plan takes such pairs for kept, or a swap is made before the ledger is reconciled.
    """
    path = tmp_path / "archive"
    shutil.copytree(before, path)
    told: list[str] = []

    def intrude(text: str) -> None:
        if text.startswith(moment) and moment not in told:
            told.append(moment)
            child = os.fork()
            if child == 0:
                try:
                    original = PairLedger.intend_write

                    def dying(*arguments: object) -> int:
                        original(*arguments)  # type: ignore[arg-type]
                        os.kill(os.getpid(), signal.SIGKILL)
                        return 0

                    PairLedger.intend_write = dying  # type: ignore[method-assign, assignment]
                    with Archive.open(path) as other:
                        other.ingest(notes(1, 50, 4), RUN)
                finally:
                    os._exit(1)
            assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL

    with Archive.open(path) as archive:
        assert only(dreams(archive, intrude)).outcome == "done"
        while archive.dreamer().due():
            assert only(dreams(archive)).outcome == "done"
        (status,) = archive.tree()
        assert (status.absorbed, status.pending, status.stale) == (34, 0, 0)
        assert archive.ingest([], RUN).resumed == "clean"
        run = archive._catalog.runs(RUN)[0]
        pairs = KeptPairs(archive._catalog, run, archive._keys_of)
        ids = pairs.kept()
        with (
            emm.open(str(archive.memory_path(RUN))) as memory,
            emm.create(str(tmp_path / "alone"), dim=768, rank=memory.rank, key_dim=256, ridge=1.0) as alone,
        ):
            alone.write(pairs.keys(ids), pairs.written(ids, 768))
            assert memory.write_count == 34 and np.abs(memory.matrix - alone.matrix).max() < 1e-4
