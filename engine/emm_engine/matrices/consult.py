"""Which memories answer for a scope: its own, its project's, its domain's.

Purpose: a question at a run is asked of the run's memory and of the roll-ups above it; a question at a project or
domain of one roll-up instead of every run. Invariants: only a fresh roll-up is asked, and where the scope's own is not,
the memories that it would have been merged from are, so staleness costs time and no pair; a memory is asked once
though it may stand for several levels; nothing outside the scope's own line of ancestors is asked.
"""

from __future__ import annotations

import emm
from emm_engine.catalog.rollups import Rollups, Standing
from emm_engine.catalog.store import Catalog
from emm_engine.hierarchy import Scope
from emm_engine.matrices.shelf import MatrixShelf


class Consulting:
    """Chooses and opens memories; keeps nothing that the catalog cannot outdate."""

    def __init__(self, catalog: Catalog, shelf: MatrixShelf) -> None:
        self._catalog = catalog
        self._shelf = shelf
        self._rollups = Rollups(catalog)
        self._known: dict[Scope, tuple[tuple[int, int], Standing]] = {}  # by domain, with the catalog's version

    def standing(self, scope: Scope) -> Standing:
        """Where the scope's domain stands, read again when the catalog has changed."""
        domain, version = Scope(scope.tenant, scope.domain), self._catalog.version()
        held = self._known.get(domain)
        if held is None or held[0] != version:
            held = (version, self._rollups.standing(domain))
            self._known[domain] = held
        return held[1]

    def memories(self, scope: Scope) -> list[emm.Memory]:
        """The memories to ask for a scope, its own first; none before anything was absorbed.

        `emm_engine.matrices.shelf.recall` weighs them by the strength of each recall.
        """
        standing = self.standing(scope)
        while True:
            opened = [(place, self._open(standing, place)) for place in chosen(standing, scope)]
            lost = {place for place, memory in opened if memory is None and not place.is_run}
            if not lost:
                return [memory for _, memory in opened if memory is not None and memory.write_count]
            standing.unusable |= lost

    def _open(self, standing: Standing, place: Scope) -> emm.Memory | None:
        if not place.is_run:
            return self._shelf.rollup_reader(place, standing.memory_uuids[str(place)])
        (holding,) = standing.below(place)
        return self._shelf.reader(holding.run, holding.lsn)


def chosen(standing: Standing, scope: Scope) -> list[Scope]:
    """The runs and roll-ups to ask for a scope: what holds all of it, then what holds all of each ancestor."""
    places = _own(standing, scope)
    for ancestor in scope.ancestors():
        one = standing.one_for(ancestor)
        if one is not None and one not in places:
            places.append(one)
    return places


def _own(standing: Standing, scope: Scope) -> list[Scope]:
    one = standing.one_for(scope)
    if one is not None:
        return [one] if standing.below(one) else []
    return [place for part in standing.parts(scope) for place in _own(standing, part)]
