"""Which runs are being moved, and where their files may still lie.

Purpose: names change in the catalog, in one transaction; files follow, one after the other. Between the two a record
says where a run's files were. Invariants: a record is made before anything changes (`named` False: dropping it
undoes the move) and is removed after the last file has followed (`named` True: the files have to follow); a run
that has a record is written by nobody; settings of the places that move go with them, and roll-ups of a project that
changes its name are forgotten, for they are derived.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from emm import ExistsError
from emm_engine.catalog.database import Row
from emm_engine.catalog.said import move_said
from emm_engine.catalog.store import Catalog, Run
from emm_engine.errors import CatalogError
from emm_engine.hierarchy import Scope


@dataclass(frozen=True, slots=True)
class Relocation:
    """A run on its way."""

    run: Run  # as it is called now
    memory_from: PurePosixPath  # where its memory lay, relative to the archive
    vectors_from: str  # the namespace its vectors were in; empty = they stay where they are
    named: bool  # the run has its new name


class Relocations:
    """The records of an archive."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def of(self, run: Run) -> Relocation | None:
        """The record of a run."""
        return next((each for each in self.in_domain(run.scope) if each.run.scope_id == run.scope_id), None)

    def touching(self, scope: Scope) -> list[Relocation]:
        """The record of a run of that name, and of one whose files may still lie under it."""
        return [
            each
            for each in self.in_domain(scope)
            if scope == each.run.scope or scope.memory_path == each.memory_from or str(scope) == each.vectors_from
        ]

    def in_domain(self, scope: Scope) -> list[Relocation]:
        """Every record of the scope's tenant and domain."""
        rows = self._catalog.query(
            "SELECT relocations.scope_id, relocations.tenant_id, name, domain, project, run, memory_uuid, memory_from, "
            "vectors_from, named FROM relocations JOIN scopes USING(scope_id) JOIN tenants ON tenants.tenant_id = "
            "relocations.tenant_id WHERE name = ? AND domain = ? ORDER BY relocations.scope_id",
            (scope.tenant, scope.domain),
        )
        return [_relocation(row) for row in rows]

    def is_called(self, run: Run) -> bool:
        """Whether the run still has the name that it had when it was read."""
        rows = self._catalog.query(
            "SELECT domain, project, run FROM scopes WHERE scope_id = ? AND tenant_id = ?",
            (run.scope_id, run.tenant_id),
        )
        return rows == [(run.scope.domain, run.scope.project, run.scope.run)]

    # --- the protocol ----------------------------------------------------------------------------

    def intend(self, runs: Iterable[Run]) -> None:
        """Nobody begins to write these runs any more."""
        with self._catalog.transaction():
            self._insert([(run, str(run.scope.memory_path), str(run.scope), False) for run in runs])

    def arrive(self, run: Run, memory_from: PurePosixPath) -> None:
        """A run's memory lies elsewhere and has to follow; inside the transaction that makes the run known."""
        self._insert([(run, str(memory_from), "", True)])

    def _insert(self, records: Iterable[tuple[Run, str, str, bool]]) -> None:
        self._catalog.executemany(
            "INSERT INTO relocations(scope_id, tenant_id, memory_from, vectors_from, named) VALUES (?, ?, ?, ?, ?)",
            [(run.scope_id, run.tenant_id, memory, vectors, int(named)) for run, memory, vectors, named in records],
        )

    def rename(self, runs: Sequence[Run], source: Scope, target: Scope) -> None:
        """Give intended runs their new names, with all that was said at or below `source`, in one transaction.

        `ExistsError`, and nothing changed, where the target has a run.
        """
        with self._catalog.transaction():
            if taken := self._catalog.runs(target):
                raise ExistsError("there is a run under that name already", found=str(taken[0].scope))
            self._catalog.executemany(
                "UPDATE scopes SET project = ?, run = ? WHERE scope_id = ?",
                [(target.project, target.run or run.scope.run, run.scope_id) for run in runs],
            )
            move_said(self._catalog, runs[0].tenant_id, source, target)
            for table in ("rollups", "rollup_sources"):
                self._catalog.executemany(
                    f"DELETE FROM {table} WHERE tenant_id = ? AND scope = ?", [(runs[0].tenant_id, str(source))]
                )
            self._catalog.executemany(
                "UPDATE relocations SET named = 1 WHERE scope_id = ?", [(run.scope_id,) for run in runs]
            )

    def end(self, records: Iterable[Relocation]) -> None:
        """The files have followed, or nothing was changed."""
        with self._catalog.transaction():
            self._catalog.executemany(
                "DELETE FROM relocations WHERE scope_id = ?", [(each.run.scope_id,) for each in records]
            )


def _relocation(row: Row) -> Relocation:
    scope_id, tenant_id, tenant, domain, project, run, uuid, memory_from, vectors_from, named = row
    path = PurePosixPath(memory_from)
    if path.parts[:2] != ("memories", tenant) or ".." in path.parts:
        raise CatalogError("a run comes from outside its tenant", expected=f"memories/{tenant}/…", found=memory_from)
    if vectors_from and Scope.parse(vectors_from).require_run().tenant != tenant:
        raise CatalogError("vectors come from outside their tenant", expected=f"{tenant}:…", found=vectors_from)
    return Relocation(
        Run(scope_id, tenant_id, Scope(tenant, domain, project, run), uuid), path, vectors_from, bool(named)
    )
