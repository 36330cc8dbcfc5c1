"""Who dreams, and when there is anything to dream about.

Purpose: find the runs that opted in and have something new, and run their cycles, one after the other. Invariants: a
run whose scope, or one above it, did not say `sharing.dream` is never touched; one process dreams in an archive at a
time; a run in which nothing has changed since its last dream is left alone, so dreaming twice is dreaming once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import emm
from emm_engine.catalog.cycles import Cycles
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.relabels import Relabels
from emm_engine.catalog.store import Catalog, Run
from emm_engine.dream.activity import FOLDER
from emm_engine.dream.budget import Budget
from emm_engine.dream.cycle import CycleRun, MergeUp, Settling, Tell
from emm_engine.dream.extract import extractor_of
from emm_engine.dream.reports import DreamReport, report_of
from emm_engine.dream.verdict import seen_of
from emm_engine.files import make_folder
from emm_engine.hierarchy import Place
from emm_engine.matrices.growth import KeysOf
from emm_engine.matrices.shelf import MatrixShelf
from emm_engine.settings import SHARING_DREAM, Settings

LOCK = "lock"


class Dreamer:
    """Dreams over one archive."""

    def __init__(
        self,
        root: Path,
        catalog: Catalog,
        shelf: MatrixShelf,
        settling: Settling,
        keys_of: KeysOf,
        merge_up: MergeUp = lambda run: [],
        tell: Tell = lambda text: None,
    ) -> None:
        self.folder = root / FOLDER
        self._catalog = catalog
        self._shelf = shelf
        self._settling = settling
        self._keys_of = keys_of
        self._merge_up = merge_up
        self._tell = tell

    def opted_in(self, place: Place | None = None) -> list[Run]:
        """The runs (at or below a place, when given) whose scope shares its dreams, in order of name."""
        settings = Settings(self._catalog)
        return [
            run
            for run in self._catalog.all_runs()
            if (place is None or place.contains(run.scope)) and settings.get(run.scope, SHARING_DREAM)
        ]

    def due(self, place: Place | None = None, writes: int | None = None) -> list[Run]:
        """Those of them in which something has changed since their last dream, or whose dream was cut short.

        A dream with another budget of writes may do what the last one could not.
        """
        return [run for run in self.opted_in(place) if self._is_due(run, writes)]

    def _is_due(self, run: Run, writes: int | None) -> bool:
        cycles, progress = Cycles(self._catalog, run), PairLedger(self._catalog, run).progress()
        if cycles.running() is not None:
            return True
        if not (progress.absorbed or progress.pending or progress.stale):
            return False
        staged, extractor = Relabels(self._catalog, run).count(), extractor_of(self._catalog, run)
        now = seen_of(progress.lsn, progress.pending, progress.stale, staged, extractor, writes)
        return cycles.last_seen() != now

    def dream(self, budget_of: Callable[[], Budget], place: Place | None = None) -> Iterator[DreamReport]:
        """One cycle for each run that is due, each with a budget of its own. `FencedError` while another dreams.

        A run that cannot be dreamt about keeps no other from its dream; the first error is raised after all of them.
        """
        errors: list[emm.EmmError] = []
        with self._alone():
            self._sweep()
            for run in self.opted_in(place):
                budget = budget_of()
                if not self._is_due(run, budget.writes_max):
                    continue
                try:
                    yield self._dream(run, budget)
                except emm.EmmError as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    def _dream(self, run: Run, budget: Budget) -> DreamReport:
        resumed = Cycles(self._catalog, run).running() is not None
        work = CycleRun(
            self.folder,
            self._catalog,
            self._shelf,
            self._settling,
            self._keys_of,
            self._merge_up,
            run,
            budget,
            self._tell,
        )
        cycle = work.go()
        if resumed and cycle.state == "yielded":  # what it had begun with is gone; this dream's own turn is not
            cycle = work.go()
        return report_of(str(run.scope), cycle)

    def reports(self, place: Place | None = None, count: int = 20) -> list[DreamReport]:
        """The newest cycles of each run, newest first, opted in or not."""
        found = [
            report_of(str(run.scope), cycle)
            for run in self._catalog.all_runs()
            if place is None or place.contains(run.scope)
            for cycle in Cycles(self._catalog, run).history(count)
        ]
        return sorted(found, key=lambda report: -report.cycle_id)[:count]

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """The archive's dream lock, which dies with its process."""
        make_folder(self.folder)
        descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise emm.FencedError("another process is dreaming in this archive", file=LOCK) from None
            yield
        finally:
            os.close(descriptor)

    def _sweep(self) -> None:
        """Remove candidates whose cycle is over: their process was killed before it could."""
        alive = {str(row[0]) for row in self._catalog.query("SELECT cycle_id FROM cycles WHERE state = 'running'")}
        for path in self.folder.iterdir():
            if path.is_dir() and path.name not in alive:
                shutil.rmtree(path, ignore_errors=True)
