"""A scope as an archive of its own, and such an archive's scope in another.

Purpose: `export` and `import` over `Copying`. An exported archive is an archive like any other, with a mark that says
of which scope it is. Invariants: nothing but the scope's rows, memories, vectors, models and settings is read, so no
byte of another tenant, or of another scope, can be in it, except that a domain's embedding model knows the words of the
whole domain; run by run a kill loses nothing, and doing it again goes on where it was; roll-ups do not travel, they
are made anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from emm import MissingError
from emm_engine.catalog import closures
from emm_engine.catalog.closures import Closures
from emm_engine.catalog.domains import Domains
from emm_engine.catalog.forgotten import require_none_unfinished
from emm_engine.catalog.relocations import Relocations
from emm_engine.catalog.said import said_below, said_of, say_where_silent
from emm_engine.catalog.store import Run
from emm_engine.errors import ScopeError
from emm_engine.hierarchy import Place, Scope, chain_of, level_of, parse_place, renamed
from emm_engine.matrices.rollup import RollingUp, RollupReport
from emm_engine.reports import OnProgress
from emm_engine.settings import KEYS
from emm_engine.upkeep.closing import runs_of
from emm_engine.upkeep.copying import CopiedRun, Copying, Side, sweep


@dataclass(frozen=True, slots=True)
class TravelReport:
    """What was exported or imported."""

    source: str  # the scope where it came from
    target: str  # and what it is called there
    path: str  # of the exported archive
    runs: tuple[CopiedRun, ...]
    rollups: tuple[RollupReport, ...]
    seconds: float


class Travelling:
    """Brings a scope of one archive into another."""

    def __init__(self, source: Side, target: Side, rolling_up: RollingUp, progress: OnProgress | None) -> None:
        self._source = source
        self._target = target
        self._rolling_up = rolling_up
        self._copying = Copying(source, target, progress)

    def bring(self, place: Place, into: Place) -> tuple[tuple[CopiedRun, ...], tuple[RollupReport, ...]]:
        """Every run at or below `place`, under names below `into`; what is there already stays as it is.

        `ScopeError` where the levels differ or the target is closed, `ExistsError` where another run has a name,
        `FencedError` while a run is written to, `EmbedderError` where the target's domain has another embedder.
        """
        if level_of(place) != level_of(into):
            raise ScopeError("the scopes are not of one level", expected=f"a {level_of(place)}", found=str(into))
        require_none_unfinished(self._source.catalog, place.tenant)
        runs = [(run, renamed(run.scope, place, into)) for run in self._known(place)]
        domains = sorted({Scope(scope.tenant, scope.domain) for _, scope in runs})
        with self._alone(domains):
            for domain in domains:
                self._target.carrying.end(Relocations(self._target.catalog).in_domain(domain))
                sweep(self._target, domain)
            present = [self._copying.is_present(run, scope) for run, scope in runs]
            if not all(present):
                for above in chain_of(into):
                    Closures(self._target.catalog).require_open(above)
                for run, scope in runs:
                    self._copying.require_embedder(run.scope, scope)
                self._describe_domains(runs)
            copied = tuple(self._copying.run(run, scope) for run, scope in runs)
            self._bring_settings(place, into, runs[0][0].tenant_id)
        projects = sorted({Scope(scope.tenant, scope.domain, scope.project) for _, scope in runs})
        return copied, tuple(self._rolling_up.refresh_cheaply([*projects, *domains]))

    def _known(self, place: Place) -> list[Run]:
        """The runs to bring: those that hold anything."""
        found = [
            run
            for run in runs_of(self._source.catalog, place)
            if run.memory_uuid is not None
            or self._source.catalog.query("SELECT 1 FROM documents WHERE scope_id = ? LIMIT 1", (run.scope_id,))
        ]
        if not found:
            raise MissingError("there is nothing at or below that scope", found=str(place))
        return found

    @contextlib.contextmanager
    def _alone(self, domains: Sequence[Scope]) -> Iterator[None]:
        with contextlib.ExitStack() as held:
            for domain in domains:
                held.enter_context(self._target.carrying.alone_in(domain))
            yield

    def _describe_domains(self, runs: Sequence[tuple[Run, Scope]]) -> None:
        """A domain that the target does not know gets the shape it had; `ScopeError` where it is known by another."""
        ours, theirs = Domains(self._source.catalog), Domains(self._target.catalog)
        for source, target in sorted({(run.scope.domain, scope.domain) for run, scope in runs}):
            wanted, found = ours.shape_of(source), theirs.shape_of(target)
            if wanted == found:
                continue
            if target not in theirs.all():
                theirs.add(target, wanted)
            elif (wanted.dim, wanted.key_dim) != (found.dim, found.key_dim):
                raise ScopeError(f"the domain {target} has memories of another shape", expected=found, found=wanted)

    def _bring_settings(self, place: Place, into: Place, tenant_id: int) -> None:
        """What was said of the place and below it, as far as it means anything here; what is above it stays there."""
        said = []
        for scope, key, value in said_of(said_below(self._source.catalog, tenant_id, place), place, into):
            parse_place(scope)
            if key in KEYS:
                KEYS[key].parse(value)
            if key in KEYS or key == closures.KEY:
                said.append((scope, key, value))
        target = self._target.catalog
        with target.transaction():
            known = target.tenant_id(into.tenant)
            assert known is not None  # its runs are there
            say_where_silent(target, known, said)
