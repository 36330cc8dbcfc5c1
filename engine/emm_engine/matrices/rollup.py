"""Roll-ups: one memory of all the pairs below a project or a domain, made by exact merge.

Purpose: `refresh` makes a scope's roll-up hold what its runs hold. A project's is merged from its runs' memories, a
domain's from its projects' roll-ups: to rounding the memory that had learnt all their pairs in one pass. A scope with
one part below it needs none: that part's memory answers for it. Invariants: a roll-up is derived data, made in a
hidden folder beside its place and moved there whole; only then does the catalog say what it holds, so a kill at any
moment leaves a fresh roll-up or one that is known not to be; one process at a time refreshes what lies in a folder;
runs of different rank are first solved again at the largest of their ranks, each from its own kept pairs, and
all of them at a larger one where the merge would be too full.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import emm
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.rollups import Holding, Rollups, Standing
from emm_engine.catalog.store import Catalog
from emm_engine.errors import CatalogError
from emm_engine.files import alone, sync_folder
from emm_engine.hierarchy import Scope
from emm_engine.matrices.growth import Growth, is_full, rank_max
from emm_engine.matrices.shelf import MatrixShelf

SCRATCH: Final = ".rollup-"  # begins no name that a scope can have
FAN_IN: Final = 32  # memories open at once
NAMED_MAX: Final = 200  # sources that a roll-up's metadata names; the catalog names all
OPERATIONS_CHEAP: Final = 4e9  # of a merge at the end of an ingest: about a second

Outcome = Literal["fresh", "made", "one part", "empty", "behind"]


@dataclass(frozen=True, slots=True)
class RollupReport:
    """What became of one scope's roll-up."""

    scope: str
    outcome: Outcome  # fresh: it was already; one part: none needed; empty: no pairs below; behind: see why
    n_runs: int  # below the scope, with pairs in their matrices
    n_pairs: int
    rank: int  # of the roll-up; 0 = there is none
    saturation: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Source:
    """One memory to merge, and what it must hold."""

    place: Scope
    path: Path
    uuid: str | None
    n_pairs: int
    lsn: int

    def open(self) -> emm.Memory:
        memory = emm.open(str(self.path), mode="r")
        if memory.uuid != self.uuid or memory.lsn < self.lsn or memory.write_count != self.n_pairs:
            found = f"{memory.uuid} with {memory.write_count} pairs at lsn {memory.lsn}"
            memory.close()
            expected = f"{self.uuid} with {self.n_pairs} pairs at lsn {self.lsn}"
            raise CatalogError(f"the memory of {self.place} is not as the catalog says", expected=expected, found=found)
        return memory


class _Behind(Exception):
    """Why a roll-up cannot be made now; nothing is wrong."""


class _Full(Exception):
    """The merge would be too full at this rank."""

    def __init__(self, rank: int) -> None:
        super().__init__(f"it would be full at rank {rank}: run emm rollup")
        self.rank = rank


GroupMerge = Callable[[Sequence[Sequence[Path]], Path], Sequence[Path]]
"""Merges each group of memories, in its order, into a memory of its own below a folder; returns where they are."""


class RollingUp:
    """Refreshes roll-ups. `group_merge` does what comes before the last merge, where there are many parts."""

    def __init__(
        self, catalog: Catalog, shelf: MatrixShelf, growth: Growth, group_merge: GroupMerge | None = None
    ) -> None:
        self._catalog = catalog
        self._shelf = shelf
        self._growth = growth
        self._rollups = Rollups(catalog)
        self._group_merge = group_merge

    def refresh(self, scope: Scope) -> list[RollupReport]:
        """Bring the roll-up of a project, or those of a domain and all its projects, up to date; projects first.

        Every run below is raised to the rank of the largest, and all of them to a larger one where a roll-up would be
        too full. What is being written to is reported as behind and left as it is; a damaged or missing memory raises.
        """
        assert not scope.is_run
        places = [scope]
        if scope.project is None:
            runs = [each.run.scope for each in self._standing(scope).holdings]
            places = [*sorted({Scope(run.tenant, run.domain, run.project) for run in runs}), scope]
        rank = 0
        while True:
            why = self._level(scope, rank)
            try:
                return [self._refreshed(each, why) for each in places]
            except _Full as full:
                rank = 2 * full.rank

    def refresh_above(self, run: Scope) -> list[RollupReport]:
        """Bring the roll-ups above a run up to date, as `refresh_cheaply` does."""
        return self.refresh_cheaply(run.ancestors())

    def refresh_cheaply(self, scopes: Iterable[Scope]) -> list[RollupReport]:
        """Bring roll-ups up to date where that takes about a second at most, in this order; never raises a rank."""
        reports = []
        for scope in scopes:
            try:
                reports.append(self._refreshed(scope, cheaply=True))
            except (_Full, emm.EmmError, OSError) as error:  # the writing that went before it is done and well
                reports.append(self._report(scope, "behind", str(error)))
        return reports

    def drop_above(self, run: Scope) -> None:
        """Take away the roll-ups above a run, files and all. `FencedError` while another process refreshes one."""
        for scope in run.ancestors():
            folder = self._shelf.place(scope).parent
            if folder.is_dir():
                try:
                    with alone(folder):
                        _sweep(folder)
                        self._drop(self._standing(scope), scope)
                except BlockingIOError:
                    raise emm.FencedError("another process is at work there", file=str(scope)) from None

    # --- one scope -------------------------------------------------------------------------------

    def _refreshed(self, scope: Scope, why: str = "", *, cheaply: bool = False) -> RollupReport:
        folder = self._shelf.place(scope).parent
        if not folder.is_dir():
            return self._report(scope, "empty")
        try:
            with alone(folder):
                _sweep(folder)
                standing = self._standing(scope)
                try:
                    outcome = self._outcome(standing, scope, cheaply)
                except emm.EmmError as error:
                    if self._standing(scope) == standing:
                        raise
                    raise _Behind("it was written to meanwhile") from error
                return self._report(scope, outcome)
        except BlockingIOError:
            return self._report(scope, "behind", why or "another process is at work there")
        except (_Behind, _Full) as reason:
            if isinstance(reason, _Full) and not why:
                raise
            return self._report(scope, "behind", why or str(reason))

    def _outcome(self, standing: Standing, scope: Scope, cheaply: bool) -> Outcome:
        n_parts = len(standing.parts(scope))
        if n_parts < 2:
            self._drop(standing, scope)
            return "one part" if n_parts else "empty"
        if cheaply and n_parts > FAN_IN:
            raise _Behind(f"it has {n_parts} parts: run emm rollup")
        sources = self._sources(standing, scope)
        ranks, n_operations = set(), 0.0
        for source in sources:
            with source.open() as memory:
                ranks.add(memory.rank)
                n_operations += memory.rank**2 * (3.0 * memory.rank + 2.0 * memory.dim)
        if self._stands(standing, scope, max(ranks)):
            return "fresh"
        if len(ranks) > 1:
            raise _Behind(f"ranks differ below it ({', '.join(map(str, sorted(ranks)))}): run emm rollup")
        if cheaply and n_operations > OPERATIONS_CHEAP:
            raise _Behind("it takes more than a moment: run emm rollup")
        self._publish(scope, sources, [each for each in standing.below(scope) if each.n_pairs])
        return "made"

    def _stands(self, standing: Standing, scope: Scope, rank: int) -> bool:
        """Whether the roll-up is fresh, there, and as large as what it is made of."""
        if not standing.is_fresh(scope):
            return False
        memory = self._shelf.rollup_reader(scope, standing.memory_uuids[str(scope)])
        return memory is not None and memory.rank >= rank

    def _sources(self, standing: Standing, scope: Scope) -> list[_Source]:
        busy = next((each.run.scope for each in standing.below(scope) if each.intended), None)
        if busy is not None:
            raise _Behind(f"a batch of {busy} is under way or was interrupted: run emm ingest again")
        sources = []
        for part in standing.parts(scope):
            place = standing.one_for(part)
            if place is None:
                raise _Behind(f"{part} is behind")
            path, uuid, lsn = self._shelf.place(place), standing.memory_uuids.get(str(place)), 0
            if place.is_run:
                (holding,) = standing.below(place)
                self._shelf.settle(holding.run)
                path, uuid, lsn = self._shelf.path(holding.run), holding.run.memory_uuid, holding.lsn
            sources.append(_Source(place, path, uuid, standing.n_pairs(place), lsn))
        return sources

    def _publish(self, scope: Scope, sources: Sequence[_Source], holdings: Sequence[Holding]) -> None:
        """Merge, move into place, and say what it holds, in this order."""
        path = self._shelf.place(scope)
        scratch = path.with_name(SCRATCH + secrets.token_hex(8))
        os.mkdir(scratch)
        try:
            paths: Sequence[_Source | Path] = sources
            while len(paths) > FAN_IN:
                groups = [paths[low : low + FAN_IN] for low in range(0, len(paths), FAN_IN)]
                paths = self._grouped(groups, scratch)
            merged, uuid = _merged(paths, scratch / "merged", _metadata(scope, holdings))
            with emm.open(str(merged)) as memory:
                rank = memory.rank
                if memory.write_count != sum(source.n_pairs for source in sources):
                    raise CatalogError(f"what was merged for {scope} is not what the catalog says it is")
                if is_full(memory):
                    raise _Full(rank)
            self._shelf.release_rollup(scope)
            if path.exists():
                os.rename(path, scratch / "old")
            os.rename(merged, path)
            sync_folder(path.parent)
            self._rollups.record(scope, uuid, rank, holdings)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _grouped(self, groups: Sequence[Sequence[_Source | Path]], scratch: Path) -> Sequence[Path]:
        if self._group_merge is None:
            return [_merged(group, scratch / secrets.token_hex(8), {})[0] for group in groups]
        paths = [[each.path if isinstance(each, _Source) else each for each in group] for group in groups]
        return self._group_merge(paths, scratch)

    def _drop(self, standing: Standing, scope: Scope) -> None:
        """Nothing to merge: a roll-up of before goes."""
        if str(scope) in standing.memory_uuids:
            self._rollups.erase(scope)
        self._shelf.release_rollup(scope)
        if self._shelf.place(scope).exists():
            shutil.rmtree(self._shelf.place(scope))

    # --- ranks -----------------------------------------------------------------------------------

    def _level(self, scope: Scope, rank: int) -> str:
        """Raise every run below the scope to a rank, at least the largest of theirs; else why one could not be."""
        holdings = [each for each in self._standing(scope).below(scope) if each.n_pairs]
        ranks: dict[Scope, int] = {}
        for holding in holdings:
            with self._shelf.open_reader(holding.run) as memory:
                ranks[holding.run.scope] = memory.rank
        target = max(rank, *ranks.values()) if ranks else rank
        for holding in holdings:
            if ranks[holding.run.scope] < target:
                try:
                    with self._shelf.open_writer(holding.run) as memory:
                        PairLedger(self._catalog, holding.run).reconcile(memory.write_count, memory.lsn)
                        if memory.rank < min(target, rank_max(memory)):
                            self._growth.raise_rank(holding.run, memory, min(target, rank_max(memory)))
                except (emm.FencedError, emm.LimitError) as error:
                    return f"{holding.run.scope} could not be raised to rank {target}: {error}"
        return ""

    # --- what is there ---------------------------------------------------------------------------

    def _standing(self, scope: Scope) -> Standing:
        return self._rollups.standing(Scope(scope.tenant, scope.domain))

    def _report(self, scope: Scope, outcome: Outcome, why: str = "") -> RollupReport:
        standing = self._standing(scope)
        n_runs = sum(1 for each in standing.below(scope) if each.n_pairs)
        rank, saturation = 0, 0.0
        if outcome in ("fresh", "made"):
            memory = self._shelf.rollup_reader(scope, standing.memory_uuids[str(scope)])
            if memory is not None:
                rank, saturation = memory.rank, memory.saturation
        return RollupReport(str(scope), outcome, n_runs, standing.n_pairs(scope), rank, saturation, why)


def _merged(sources: Sequence[_Source | Path], into: Path, metadata: dict[str, Any]) -> tuple[Path, str]:
    """A closed memory of all the sources' pairs at `into`, and its uuid."""
    with contextlib.ExitStack() as stack:
        opened = [
            stack.enter_context(each.open() if isinstance(each, _Source) else emm.open(str(each))) for each in sources
        ]
        merged = stack.enter_context(emm.merge(opened, str(into), expand_at=0.0, metadata=metadata))
        return into, merged.uuid


def _metadata(scope: Scope, holdings: Sequence[Holding]) -> dict[str, Any]:
    """What a roll-up says of itself: its level, and the memories of the runs that it holds, each with its commit."""
    sources = [[each.run.memory_uuid, each.lsn] for each in holdings[:NAMED_MAX]]
    level = "domain" if scope.project is None else "project"
    return {"rollup": {"level": level, "runs": len(holdings), "sources": sources}}


def _sweep(folder: Path) -> None:
    """Remove what a killed refresh left."""
    for leftover in folder.glob(SCRATCH + "*"):
        shutil.rmtree(leftover)
