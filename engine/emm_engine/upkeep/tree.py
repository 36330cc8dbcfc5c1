"""The archive as a tree: tenants, domains, projects and runs, in the order they are shown.

Purpose: sums over runs, and what the roll-up of each project and domain is worth. Invariants: looking writes nothing;
no number on one tenant's lines depends on another tenant's data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from emm_engine.catalog.closures import Closures
from emm_engine.catalog.store import Catalog
from emm_engine.hierarchy import Place, Scope, Tenant
from emm_engine.matrices.consult import Consulting
from emm_engine.matrices.growth import SATURATION_MAX
from emm_engine.matrices.shelf import MatrixShelf
from emm_engine.reports import LevelStatus, RunStatus

LEVELS: tuple[tuple[str, Callable[[Scope], Place]], ...] = (
    ("tenant", lambda run: Tenant(run.tenant)),
    ("domain", lambda run: Scope(run.tenant, run.domain)),
    ("project", lambda run: Scope(run.tenant, run.domain, run.project)),
)


class Tree:
    """Reads an open archive."""

    def __init__(self, catalog: Catalog, shelf: MatrixShelf, consulting: Consulting) -> None:
        self._closures = Closures(catalog)
        self._shelf = shelf
        self._consulting = consulting

    def lines(self, runs: Sequence[RunStatus], depth: int = 0) -> Iterator[LevelStatus | RunStatus]:
        """Each tenant, domain and project before what is below it. `runs` come in order of name."""
        if depth == len(LEVELS):
            yield from runs
            return
        level, place_of = LEVELS[depth]
        for place, below in groupby(runs, lambda run: place_of(Scope.parse(run.scope))):
            part = list(below)
            yield self._level(level, place, part)
            yield from self.lines(part, depth + 1)

    def _level(self, level: str, place: Place, runs: Sequence[RunStatus]) -> LevelStatus:
        rollup, rank, dim, saturation, hint = "", 0, 0, 0.0, ""
        if isinstance(place, Scope):
            standing = self._consulting.standing(place)
            parts = standing.parts(place)
            rollup = "empty" if not parts else "one part" if len(parts) == 1 else "behind"
            memory = None
            if rollup == "behind" and standing.is_fresh(place):
                memory = self._shelf.rollup_reader(place, standing.memory_uuids[str(place)])
            if memory is not None:
                rollup, rank, dim, saturation = "fresh", memory.rank, memory.dim, float(memory.saturation)
            hint = "emm rollup brings it up to date" if rollup == "behind" else hint_of(rank, saturation)
        return LevelStatus(
            scope=str(place),
            level=level,
            runs=len(runs),
            documents=sum(run.documents for run in runs),
            passages=sum(run.passages for run in runs),
            absorbed=sum(run.absorbed for run in runs),
            pending=sum(run.pending for run in runs),
            stale=sum(run.stale for run in runs),
            rollup=rollup,
            rank=rank,
            dim=dim,
            saturation=saturation,
            closed=self._closures.closed_by(place) is not None,
            hint=hint,
        )


def hint_of(rank: int, saturation: float, rank_most: int | None = None) -> str:
    """What a keeper could do about a memory of that rank (`rank_most`: the numbers of a key)."""
    if saturation <= SATURATION_MAX:
        return ""
    if rank_most is not None and rank < rank_most:
        return "the next ingest raises its rank"
    return "full; a new domain may start with a larger rank (emm domain)"
