"""A real process that ingests a folder, killed again and again: the archive ends as if nothing had happened.

Red when a note's text is acknowledged before it is durable, when a pair is absorbed twice or not at all, when a
superseded text is quoted again, when an interrupted ingest cannot be repeated, when a killed `create` leaves a name
that nobody can use, or when ingesting everything once more changes something.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import tempfile
from pathlib import Path

import pytest

from emm_engine import Archive
from emm_engine.catalog.pairs import PairLedger
from emm_fuzz.engine_checks import check_answer, check_catalog
from emm_fuzz.engine_kill import life, run
from emm_fuzz.engine_life import current_notes, ingest_on, parts_of
from emm_fuzz.fork_server import Writers
from emm_fuzz.kill import memory_folder
from emm_fuzz.kill_judge import BrokenPromiseError

KILLS = 60


def test_killed_again_and_again_an_ingest_ends_as_if_undisturbed() -> None:
    tally = run(KILLS, 1, memory_folder())
    print(tally.kills, tally.phases)
    assert tally.faults == []
    assert tally.kills >= KILLS and tally.verified >= KILLS
    assert tally.acknowledged == 7 * tally.lives  # each life came to its end
    assert {"ingest", "reading", "fitting"} <= set(tally.phases)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of a life of three ingests, made by a process of its own."""
    root = tmp_path_factory.mktemp("engine")
    with Writers() as writers:
        pid = writers.start(lambda tell: ingest_on(root / "archive", root / "notes", parts_of(1)[:3], 0, tell))
        assert writers.reap(pid) == 0
    return root / "archive"


def test_a_note_that_is_lost_or_changed_is_found(archive: Path) -> None:
    """Red when the check could not fail."""
    parts = parts_of(1)
    check_catalog(archive, parts, 3)
    with pytest.raises(BrokenPromiseError, match="is stored as None"):
        check_catalog(archive, parts, 4)
    with pytest.raises(BrokenPromiseError, match="nobody ingested"):
        check_catalog(archive, parts, 1)
    with Archive.open(archive) as opened:
        note = next(iter(current_notes(parts, 3).values()))
        check_answer(opened, note, [])
        missing = next(iter(parts[3].notes))
        with pytest.raises(BrokenPromiseError, match="is answered with"):
            check_answer(opened, missing, [])
        check_answer(opened, missing, [parts[3]])  # begun since: either answer may come
    connection = sqlite3.connect(archive / "catalog.sqlite")
    with connection:
        connection.execute("UPDATE documents SET text = 'x' || substr(text, 2) WHERE title = ?", (note.title,))
    connection.close()
    with pytest.raises(BrokenPromiseError, match="is stored as"):
        check_catalog(archive, parts, 3)


def test_a_pair_that_the_catalog_does_not_know_of_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when a broken order of steps would go unnoticed: here a batch is announced after the matrix has it."""
    intend, settle = PairLedger.intend_write, PairLedger.settle
    pending: list[tuple[dict[int, list[object]], int]] = []

    def intend_late(self: PairLedger, labels: dict[int, list[object]], write_count: int) -> int:
        pending.append((labels, write_count))
        return -1

    def settle_late(self: PairLedger, batch_id: int, lsn: int) -> None:
        if "undisturbed" not in str(self._catalog.query("PRAGMA database_list")):
            os.kill(os.getpid(), signal.SIGKILL)
        settle(self, intend(self, *pending.pop()), lsn)

    monkeypatch.setattr(PairLedger, "intend_write", intend_late)
    monkeypatch.setattr(PairLedger, "settle", settle_late)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where evidence is kept
    faults = life(3, str(tmp_path)).faults
    assert any("does not hold the pairs" in fault for fault in faults)
    assert list(tmp_path.glob("emm-engine-fault-*/archive/catalog.sqlite"))
