"""Make everything that is derived anew, from the catalog alone.

Purpose: vectors, embedding models, memories and the index of words can be deleted, damaged or outdated; the catalog's
texts, versions and labels are enough to have them back. A run is let go of (its pairs wait again, its memory and
vectors go) and then absorbed by the ordinary ingest. Invariants: killed anywhere, the text is there and found by its
words, and the next rebuild or ingest goes on; a model is fitted on the passages it was fitted on before, so the same
text gives the same model, vectors and answers; a run that somebody writes is refused with nothing changed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import emm
from emm_engine.catalog.derived import complete_pairs, let_go, refill_fulltext
from emm_engine.catalog.store import Catalog, Run
from emm_engine.matrices.growth import KeysOf
from emm_engine.matrices.rollup import RollingUp
from emm_engine.matrices.shelf import MatrixShelf
from emm_engine.models.domain import DomainModels
from emm_engine.reports import IngestReport, to_json

Domain = tuple[str, str]  # tenant, domain


@dataclass(frozen=True, slots=True)
class RebuiltRun:
    """A run, made anew."""

    scope: str
    pairs: int
    rank: int
    saturation: float


@dataclass(frozen=True, slots=True)
class RebuiltModel:
    """A domain's embedding model, before and after: the same fingerprint where it is the same model."""

    domain: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuild made."""

    runs: tuple[RebuiltRun, ...]
    models: tuple[RebuiltModel, ...]
    passages_indexed: int
    seconds: float

    def to_json(self) -> str:
        return to_json(asdict(self))


@dataclass(frozen=True, slots=True)
class Workshop:
    """What renewing needs of an open archive."""

    root: Path
    catalog: Catalog
    shelf: MatrixShelf
    models: DomainModels
    rolling_up: RollingUp
    keys_of: KeysOf  # (n, key_dim) of passages that a matrix holds
    absorb: Callable[[Run], IngestReport]  # finish what is left to do in a run


class Rebuilding:
    """Rebuilds the derived parts of an open archive."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._catalog = workshop.catalog
        self._shelf = workshop.shelf

    def rebuild(self, domains: Sequence[Domain], *, refit: bool, tell: Callable[[str], None]) -> RebuildReport:
        """Everything of these domains, and their tenants' index of words; `refit` fits models on all there is now."""
        started = time.perf_counter()
        every = self._catalog.all_runs()
        runs = [run for run in every if (run.scope.tenant, run.scope.domain) in domains]
        before = {domain: self._catalog.embedder(*domain) for domain in domains}
        self.strip(runs, domains, refit=refit)
        n_indexed = 0
        for tenant_id in sorted({run.tenant_id for run in runs}):
            tell("index of words")
            with self._catalog.transaction():
                complete_pairs(self._catalog, tenant_id)
            n_indexed += refill_fulltext(self._catalog, tenant_id)
        rebuilt = []
        for run in runs:
            tell(str(run.scope))
            report = self._workshop.absorb(run)
            rebuilt.append(RebuiltRun(report.scope, report.pairs, report.rank, report.saturation))
        models = []
        for domain in domains:
            old, new = before[domain], self._catalog.embedder(*domain)
            models.append(RebuiltModel(":".join(domain), old[1] if old else None, new[1] if new else None))
        return RebuildReport(tuple(rebuilt), tuple(models), n_indexed, time.perf_counter() - started)

    def strip(
        self, runs: Sequence[Run], domains: Sequence[Domain] = (), *, refit: bool = False, vectors: bool = True
    ) -> None:
        """Take runs back to their text, and domains, of which these are all runs, also from their models.

        `FencedError` when somebody writes one of them, and nothing has changed.
        """
        known = {domain: self._catalog.embedder(*domain) for domain in domains}
        tenants = {domain: self._catalog.tenant_id(domain[0]) for domain in domains}
        ids = [(tenant_id, name) for (_, name), tenant_id in tenants.items() if tenant_id is not None]
        stores = {run.scope_id: self._workshop.models.store_of(run) for run in runs}
        with self.held(runs) as memories:
            with self._catalog.transaction():
                let_go(self._catalog, runs, ids)
                if refit:
                    self._catalog.executemany("DELETE FROM fits WHERE tenant_id = ? AND domain = ?", ids)
            for run in runs:
                self._workshop.rolling_up.drop_above(run.scope)
                if vectors:
                    self._workshop.models.drop_vectors(run, stores[run.scope_id])
                self._shelf.discard(run, memories[run.scope_id])
        self.remove_models([model[1] for model in known.values() if model is not None])

    def remove_models(self, fingerprints: Iterable[str]) -> None:
        """Take away these models, and what dead processes left of others, where no domain has them any more."""
        self._workshop.models.discard(fingerprints)

    @contextlib.contextmanager
    def held(self, runs: Sequence[Run]) -> Iterator[dict[int, emm.Memory | None]]:
        """Every run's memory open for writing, by scope id, which keeps other writers away; None where is none."""
        with contextlib.ExitStack() as stack:
            memories = {}
            for run in runs:
                memory = self._shelf.open_present(run)
                if memory is not None:
                    stack.callback(memory.close)
                memories[run.scope_id] = memory
            yield memories
