"""What the runs of a domain hold, and what each roll-up was made of.

Purpose: freshness, decided from the catalog alone. A roll-up is one memory of all the pairs of the runs below a
project or domain; beside it the catalog keeps which memory of which run it contains, up to which commit. Invariants:
a roll-up is fresh when those are exactly the runs that hold pairs now, each at its newest settled commit, with no
batch intended; so a pair that was taken out of a run, a run that moved away and a batch of unknown fate each make
every roll-up above it stale, and a stale one is never asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from emm_engine.catalog.store import Catalog, Run
from emm_engine.hierarchy import Scope


@dataclass(frozen=True, slots=True)
class Holding:
    """A run's matrix as the ledger has it."""

    run: Run
    lsn: int  # newest settled commit, 0 = none
    n_pairs: int  # written minus unlearned, over the settled batches
    intended: bool  # a batch is under way, or was interrupted


@dataclass(slots=True)
class Standing:
    """Every run of one tenant's domain, and every roll-up's record."""

    scope: Scope  # of the domain
    holdings: Sequence[Holding]
    memory_uuids: dict[str, str]  # of each roll-up, by scope
    contents: dict[str, set[tuple[int, str | None, int]]]  # scope: {(scope id, memory uuid, lsn)}
    unusable: set[Scope] = field(default_factory=set)  # roll-ups whose memory is not there or is not the one recorded

    def below(self, scope: Scope) -> list[Holding]:
        return [each for each in self.holdings if scope.contains(each.run.scope)]

    def n_pairs(self, scope: Scope) -> int:
        return sum(each.n_pairs for each in self.below(scope))

    def parts(self, scope: Scope) -> list[Scope]:
        """What a roll-up of the scope is merged from: a project's runs, a domain's projects, where they hold pairs."""
        held = [each.run.scope for each in self.below(scope) if each.n_pairs]
        if scope.project is not None:
            return held
        return sorted({Scope(run.tenant, run.domain, run.project) for run in held})

    def is_fresh(self, scope: Scope) -> bool:
        """Whether the scope's roll-up holds what its runs hold."""
        below = self.below(scope)
        now = {(each.run.scope_id, each.run.memory_uuid, each.lsn) for each in below if each.n_pairs}
        return (
            scope not in self.unusable
            and not any(each.intended for each in below)
            and str(scope) in self.memory_uuids
            and self.contents.get(str(scope), set()) == now
        )

    def one_for(self, scope: Scope) -> Scope | None:
        """The one place whose memory holds all pairs of the scope: itself, or where it has one part, that part's."""
        if scope.is_run:
            return scope
        parts = self.parts(scope)
        if len(parts) == 1:
            return self.one_for(parts[0])
        return scope if parts and self.is_fresh(scope) else None


class Rollups:
    """The records of an archive's roll-ups."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def standing(self, domain: Scope) -> Standing:
        """Where a tenant's domain stands now."""
        tenant_id = self._catalog.tenant_id(domain.tenant)
        settled = {
            scope_id: (lsn, n_pairs, n_batches > n_settled)
            for scope_id, lsn, n_pairs, n_batches, n_settled in self._catalog.query(
                "SELECT scope_id, coalesce(max(lsn), 0), coalesce(sum(CASE WHEN lsn IS NULL THEN 0 "
                "WHEN kind = 'write' THEN n_pairs ELSE -n_pairs END), 0), count(*), count(lsn) "
                "FROM batches WHERE tenant_id = ? GROUP BY scope_id",
                (tenant_id,),
            )
        }
        holdings = [Holding(run, *settled.get(run.scope_id, (0, 0, False))) for run in self._catalog.runs(domain)]
        uuids = self._catalog.query("SELECT scope, memory_uuid FROM rollups WHERE tenant_id = ?", (tenant_id,))
        contents: dict[str, set[tuple[int, str | None, int]]] = {}
        for scope, *source in self._catalog.query(
            "SELECT scope, scope_id, memory_uuid, lsn FROM rollup_sources WHERE tenant_id = ?", (tenant_id,)
        ):
            contents.setdefault(scope, set()).add((source[0], source[1], source[2]))
        return Standing(domain, holdings, {scope: uuid for scope, uuid in uuids}, contents)

    def record(self, scope: Scope, memory_uuid: str, rank: int, sources: Sequence[Holding]) -> None:
        """Say what a roll-up's memory is and holds, instead of what was said before."""
        tenant_id = self._catalog.tenant_id(scope.tenant)
        with self._catalog.transaction():
            self._erase(tenant_id, scope)
            self._catalog.executemany(
                "INSERT INTO rollups VALUES (?, ?, ?, ?)", [(tenant_id, str(scope), memory_uuid, rank)]
            )
            self._catalog.executemany(
                "INSERT INTO rollup_sources VALUES (?, ?, ?, ?, ?)",
                [(tenant_id, str(scope), each.run.scope_id, each.run.memory_uuid, each.lsn) for each in sources],
            )

    def rank_above(self, run: Scope) -> int:
        """The largest rank of the roll-ups above a run; 0 where there is none."""
        ranks = [
            rank
            for scope, rank in self._catalog.query(
                "SELECT scope, memory_rank FROM rollups WHERE tenant_id = ?", (self._catalog.tenant_id(run.tenant),)
            )
            if scope in set(map(str, run.ancestors()))
        ]
        return max(ranks, default=0)

    def erase(self, scope: Scope) -> None:
        """The scope has no roll-up any more."""
        with self._catalog.transaction():
            self._erase(self._catalog.tenant_id(scope.tenant), scope)

    def _erase(self, tenant_id: int | None, scope: Scope) -> None:
        for table in ("rollups", "rollup_sources"):
            self._catalog.executemany(
                f"DELETE FROM {table} WHERE tenant_id = ? AND scope = ?", [(tenant_id, str(scope))]
            )
