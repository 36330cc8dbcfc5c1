"""Moving a run or a project to another name in its domain.

Purpose: the order in which names and files change. (1) the runs are recorded as intended, so nobody begins to write
them; (2) each memory is taken once for writing, which fails while an ingest that began before is still at work; (3) one
transaction changes all names; (4) files follow. Invariants: killed before (3) nothing has changed, killed after it
whoever next opens one of the runs for writing ends the move; a document, a pair and a label stay the same rows, so no
text is read and no vector made again; nothing leaves its tenant or its domain.
"""

from __future__ import annotations

from dataclasses import dataclass

import emm
from emm import ExistsError, MissingError
from emm_engine.catalog.closures import Closures
from emm_engine.catalog.embedders import EmbedderLedger
from emm_engine.catalog.forgotten import require_none_unfinished
from emm_engine.catalog.relocations import Relocations
from emm_engine.catalog.store import Catalog, Run
from emm_engine.errors import ScopeError
from emm_engine.hierarchy import Scope
from emm_engine.matrices.carrying import Carrying
from emm_engine.matrices.rollup import RollingUp, RollupReport
from emm_engine.matrices.shelf import MatrixShelf


@dataclass(frozen=True, slots=True)
class MoveReport:
    """What was moved, and what became of the roll-ups above both places."""

    source: str
    target: str
    runs: int
    rollups: tuple[RollupReport, ...]


class Moving:
    """Moves scopes of one archive."""

    def __init__(self, catalog: Catalog, shelf: MatrixShelf, carrying: Carrying, rolling_up: RollingUp) -> None:
        self._catalog = catalog
        self._shelf = shelf
        self._carrying = carrying
        self._rolling_up = rolling_up
        self._closures = Closures(catalog)
        self._relocations = Relocations(catalog)

    def move(self, source: Scope, target: Scope) -> MoveReport:
        """Give a run or project another name, then bring the roll-ups above both up to date where that is cheap."""
        _require_neighbours(source, target)
        require_none_unfinished(self._catalog, source.tenant)
        projects = [Scope(each.tenant, each.domain, each.project) for each in (source, target)]
        with self._carrying.alone_in(source, *projects):
            self._carrying.end(self._relocations.in_domain(source))
            runs = self._runs(source, target)
            self._require_no_change(runs[0])
            for run in runs:
                self._shelf.settle(run)
            self._relocations.intend(runs)
            try:
                for run in runs:
                    self._require_idle(run)
                self._relocations.rename(runs, source, target)
            except BaseException:
                self._carrying.end(self._relocations.in_domain(source))
                raise
            self._carrying.end(self._relocations.in_domain(source))
        above = {*target.ancestors(), *source.ancestors(), *(() if target.is_run else (target,))}
        below_first = sorted(above, key=lambda place: (place.project is None, str(place)))
        rollups = self._rolling_up.refresh_cheaply(below_first)
        return MoveReport(str(source), str(target), len(runs), tuple(rollups))

    def _runs(self, source: Scope, target: Scope) -> list[Run]:
        """What is to be moved; `ScopeError` where a scope above either place is closed."""
        runs = self._catalog.runs(source)
        if not runs:
            raise MissingError("there is no run at or below that scope", found=str(source))
        for above in {*source.ancestors(), *target.ancestors(), target}:
            self._closures.require_open(above)
        for place in (Scope(target.tenant, target.domain, target.project, target.run or run.scope.run) for run in runs):
            if self._catalog.runs(place) or self._shelf.place(place).exists():
                raise ExistsError("there is something under that name already", found=str(place))
        return runs

    def _require_no_change(self, run: Run) -> None:
        """What is embedded anew lies under the names of its runs until it takes the place of the old."""
        if EmbedderLedger(self._catalog, run.tenant_id, run.scope.domain).change() is not None:
            domain = Scope(run.scope.tenant, run.scope.domain)
            raise emm.FencedError(f"{domain} is changing its embedder", expected="none under way (emm embed ends it)")

    def _require_idle(self, run: Run) -> None:
        """`FencedError` while another process has the run's memory for writing."""
        self._shelf.release(run)
        if run.memory_uuid is not None:
            emm.open(str(self._shelf.path(run)), mode="a").close()


def _require_neighbours(source: Scope, target: Scope) -> None:
    if source.tenant != target.tenant:
        raise ScopeError("nothing crosses a tenant", expected=f"a scope of {source.tenant}:", found=str(target))
    if source.domain != target.domain:
        raise ScopeError(
            "a scope stays in its domain, which has an embedder and shapes of its own (emm export, and ingest anew)",
            expected=f"a scope of {source.tenant}:{source.domain}",
            found=str(target),
        )
    if source.project is None or target.project is None or source.is_run != target.is_run:
        raise ScopeError(
            "a run becomes a run, a project a project",
            expected=f"a scope like {source}",
            found=str(target),
        )
    if source == target:
        raise ScopeError("the scope has that name already", found=str(target))
