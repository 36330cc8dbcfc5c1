"""The domains of an archive and the shapes their memories start with.

Purpose: the seven defaults of `hierarchy.DOMAINS`, and beside them what the keeper of an archive has added to its
catalog. Invariants: a domain's dim and key_dim never change once it has a run, for memories of different dim cannot
roll up and keys of different length need another embedder; a domain that nobody has described starts as `general`.
"""

from __future__ import annotations

from emm import ExistsError, InputError, MissingError
from emm_engine.catalog.store import Catalog
from emm_engine.hierarchy import DOMAIN_DEFAULT, DOMAINS, Scope, Shape


class Domains:
    """Shapes by domain name, for one archive and all its tenants."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def shape_of(self, name: str) -> Shape:
        """The shape a domain's memories start with."""
        rows = self._catalog.query("SELECT start_rank, dim FROM domains WHERE name = ?", (name,))
        return Shape(*rows[0]) if rows else DOMAINS.get(name, DOMAINS[DOMAIN_DEFAULT])

    def all(self) -> dict[str, Shape]:
        """Every domain that has a shape of its own, in order of name."""
        added = self._catalog.query("SELECT name, start_rank, dim FROM domains")
        return dict(sorted({**DOMAINS, **{name: Shape(rank, dim) for name, rank, dim in added}}.items()))

    def add(self, name: str, shape: Shape) -> None:
        """Describe a domain; doing it again with the same shape changes nothing.

        `ExistsError` where the name has another shape already, `InputError` where it has runs that would not fit.
        """
        Scope(domain=name)  # the rule for names
        with self._catalog.transaction():
            known = self.all().get(name)
            if known == shape:
                return
            if known is not None:
                raise ExistsError(f"the domain {name} has a shape already", expected=str(known), found=str(shape))
            present = self.shape_of(name)
            if self._has_runs(name) and (present.dim, present.key_dim) != (shape.dim, shape.key_dim):
                raise InputError(
                    f"the domain {name} has runs, whose dim and key_dim stay as they are",
                    expected=f"dim {present.dim} and key_dim {present.key_dim}",
                    found=f"dim {shape.dim} and key_dim {shape.key_dim}",
                )
            self._catalog.executemany(
                "INSERT INTO domains(name, start_rank, dim) VALUES (?, ?, ?)", [(name, shape.rank, shape.dim)]
            )

    def remove(self, name: str) -> None:
        """Forget an added domain; `MissingError` where there is none, `InputError` where it has runs."""
        with self._catalog.transaction():
            if not self._catalog.query("SELECT 1 FROM domains WHERE name = ?", (name,)):
                raise MissingError("no such domain was added", found=name)
            if self._has_runs(name):
                raise InputError(f"the domain {name} has runs, whose shape stays as it is")
            self._catalog.executemany("DELETE FROM domains WHERE name = ?", [(name,)])

    def _has_runs(self, name: str) -> bool:
        return bool(self._catalog.query("SELECT 1 FROM scopes WHERE domain = ? LIMIT 1", (name,)))
