"""Closing a scope: after it returns, nothing is being written there and nothing will be.

Purpose: the order that makes a mark in the catalog mean something. The mark is set first, so no new ingest begins; then
each run's memory is taken once for writing, which fails while an ingest that began before the mark is still at work,
and what an interrupted one left is finished. Invariants: a scope that could not be closed carries no mark of
this call; closing twice changes nothing; closing stops documents, not forgetting, roll-ups or dreams.
"""

from __future__ import annotations

from collections.abc import Callable

from emm import MissingError
from emm_engine.catalog.closures import Closures
from emm_engine.catalog.store import Catalog, Run
from emm_engine.hierarchy import Place

Finish = Callable[[Run], object]  # takes the run's memory for writing, ends what was interrupted, gives it up


def runs_of(catalog: Catalog, place: Place) -> list[Run]:
    """The runs at or below a scope, or of a whole tenant; `MissingError` where there are none."""
    found = [run for run in catalog.all_runs() if place.contains(run.scope)]
    if not found:
        raise MissingError("there is no run at or below that scope", found=str(place))
    return found


def close(catalog: Catalog, place: Place, finish: Finish) -> bool:
    """Close a scope or tenant that has runs; False when it was closed already. `FencedError` while it is written to."""
    runs, closures = runs_of(catalog, place), Closures(catalog)
    if closures.closed_by(place) is not None:
        return False
    closures.mark(place)
    try:
        for run in runs:
            finish(run)
    except BaseException:
        closures.lift(place)
        raise
    return True


def reopen(catalog: Catalog, place: Place) -> bool:
    """Lift a scope's own mark; False when it carried none. `ScopeError` where it stays closed from above."""
    closures = Closures(catalog)
    carried = str(place) in closures.marks(place.tenant)
    if carried:
        closures.lift(place)
    closures.require_open(place)
    return carried
