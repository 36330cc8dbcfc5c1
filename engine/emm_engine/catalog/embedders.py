"""Which embedder a domain has, which it was told to have, and which it is changing to.

Purpose: reads and writes of three tables, each with one row for a tenant's domain: `embedder_choices` (what a person
named), `embedders` (the fitted model whose vectors answer questions) and `reembeds` (the fitted model whose vectors
are being made beside them). Invariants: the first fit of a domain wins; a change becomes visible in one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass

from emm_engine.catalog.store import Catalog
from emm_engine.embeddings.choice import LSA, EmbedderChoice
from emm_engine.embeddings.provider import part_of_name

_NEWEST = (  # passage of a tenant's domain
    "(SELECT coalesce(max(passage_id), 0) FROM passages JOIN scopes USING(scope_id) "
    "WHERE passages.tenant_id = ? AND domain = ?)"
)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted model of a domain: whose it is, what its vectors are called, and the folder they lie in."""

    provider: str  # `EmbedderChoice.identity`
    fingerprint: str
    dim: int
    n_fitted: int
    vectors_folder: str  # below `vectors`; empty for a domain's first


class EmbedderLedger:
    """The embedders of one tenant's domain."""

    def __init__(self, catalog: Catalog, tenant_id: int, domain: str) -> None:
        self._catalog = catalog
        self._owner = (tenant_id, domain)

    def fitted(self) -> Fitted | None:
        """The model that answers; None before the first fit."""
        rows = self._catalog.query(
            "SELECT provider, fingerprint, dim, n_fitted, vectors_folder FROM embedders "
            "WHERE tenant_id = ? AND domain = ?",
            self._owner,
        )
        return Fitted(*rows[0]) if rows else None

    def choice(self) -> EmbedderChoice:
        """What the domain was told to use; LSA where nobody has said anything."""
        rows = self._catalog.query("SELECT spec FROM embedder_choices WHERE tenant_id = ? AND domain = ?", self._owner)
        return EmbedderChoice.parse(rows[0][0] if rows else LSA)

    def choose(self, choice: EmbedderChoice) -> None:
        """Remember a choice, or the new address of the same model."""
        with self._catalog.transaction():
            self._choose(choice)

    def _choose(self, choice: EmbedderChoice) -> None:
        self._catalog.executemany(
            "INSERT INTO embedder_choices(tenant_id, domain, spec) VALUES (?, ?, ?) "
            "ON CONFLICT(tenant_id, domain) DO UPDATE SET spec = excluded.spec",
            [(*self._owner, str(choice))],
        )

    def record(self, fitted: Fitted) -> None:
        """The domain's first model; where two processes fit at the same time, the first wins."""
        with self._catalog.transaction():
            self._insert(fitted)
            self._catalog.executemany(
                f"INSERT INTO fits(tenant_id, domain, through) VALUES (?, ?, {_NEWEST}) ON CONFLICT DO NOTHING",
                [self._owner * 2],
            )

    def _insert(self, fitted: Fitted) -> None:
        self._catalog.executemany(
            "INSERT INTO embedders(tenant_id, domain, provider, fingerprint, dim, n_fitted, vectors_folder) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [
                (
                    *self._owner,
                    fitted.provider,
                    fitted.fingerprint,
                    fitted.dim,
                    fitted.n_fitted,
                    fitted.vectors_folder,
                )
            ],
        )

    # --- a change --------------------------------------------------------------------------------

    def change(self) -> tuple[EmbedderChoice, Fitted] | None:
        """The change under way, or None."""
        rows = self._catalog.query(
            "SELECT spec, fingerprint, dim, n_fitted FROM reembeds WHERE tenant_id = ? AND domain = ?", self._owner
        )
        if not rows:
            return None
        spec, fingerprint, dim, n_fitted = rows[0]
        choice = EmbedderChoice.parse(spec)
        return choice, Fitted(choice.identity, fingerprint, dim, n_fitted, folder_of(fingerprint))

    def begin_change(self, choice: EmbedderChoice, fitted: Fitted) -> None:
        """Announce the model whose vectors are to be made."""
        with self._catalog.transaction():
            self._catalog.executemany(
                "INSERT INTO reembeds(tenant_id, domain, spec, fingerprint, dim, n_fitted, through) "
                f"VALUES (?, ?, ?, ?, ?, ?, {_NEWEST})",
                [(*self._owner, str(choice), fitted.fingerprint, fitted.dim, fitted.n_fitted, *self._owner)],
            )

    def abandon_change(self) -> None:
        """Forget the announcement."""
        with self._catalog.transaction():
            self._forget_change()

    def _forget_change(self) -> None:
        self._catalog.executemany("DELETE FROM reembeds WHERE tenant_id = ? AND domain = ?", [self._owner])

    def switch(self, choice: EmbedderChoice, fitted: Fitted) -> None:
        """Inside a transaction: from here on the new model's vectors answer."""
        self._catalog.executemany("DELETE FROM fits WHERE tenant_id = ? AND domain = ?", [self._owner])
        self._catalog.executemany(
            "INSERT INTO fits(tenant_id, domain, through) SELECT tenant_id, domain, through FROM reembeds "
            "WHERE tenant_id = ? AND domain = ?",
            [self._owner],
        )
        self._forget_change()
        self._catalog.executemany("DELETE FROM embedders WHERE tenant_id = ? AND domain = ?", [self._owner])
        self._insert(fitted)
        self._choose(choice)


def folder_of(fingerprint: str) -> str:
    """Where the vectors of a later model lie: no tenant's name begins with `_`."""
    return f"_{part_of_name(fingerprint)[:16]}"


def changes_under_way(catalog: Catalog) -> list[tuple[str, str, str]]:
    """(tenant, domain, embedder) of every change that was begun and not finished."""
    rows = catalog.query("SELECT name, domain, spec FROM reembeds JOIN tenants USING(tenant_id) ORDER BY name, domain")
    return [(row[0], row[1], row[2]) for row in rows]


def fingerprints_in_use(catalog: Catalog) -> set[str]:
    """The models that some domain of some tenant is embedded with, or changing to."""
    rows = catalog.query("SELECT fingerprint FROM embedders UNION SELECT fingerprint FROM reembeds")
    return {row[0] for row in rows}
