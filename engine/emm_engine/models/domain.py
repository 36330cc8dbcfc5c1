"""The embedder of a domain and the vectors made with it.

Purpose: the one place that says which model a domain has, fits it the first time, and opens it again. Invariants: an
answer and an ingest see the same model; a model other than the recorded one is refused by name, with the command
that changes it; a store of vectors is opened once a process, whoever asks.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from emm_engine.catalog.domains import Domains
from emm_engine.catalog.embedders import EmbedderLedger, Fitted, fingerprints_in_use, folder_of
from emm_engine.catalog.material import sample_texts
from emm_engine.catalog.store import Catalog, Run
from emm_engine.embeddings.backoff import Clock, Patience
from emm_engine.embeddings.choice import LSA, EmbedderChoice
from emm_engine.embeddings.provider import Embedder, EmbedderFolder
from emm_engine.embeddings.providers import provider_of
from emm_engine.errors import CatalogError, EmbedderError
from emm_engine.hierarchy import Scope
from emm_engine.models.keys import key_namespace
from emm_engine.vectors.choice import SERVER, open_vectors
from emm_engine.vectors.store import VectorStore

FIT_SAMPLE = 12_000  # passages an embedder is fitted on
MODEL_AGE_S = 3600.0  # a stored model that nobody has recorded by then never will be


class DomainModels:
    """Embedders and vectors of an archive, by domain."""

    def __init__(self, root: Path, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock
        self._folder = EmbedderFolder(root / "embedders")
        self._vectors = root / "vectors"
        self._embedders: dict[tuple[str, str, Patience], Embedder] = {}
        self._stores: dict[tuple[str, str], VectorStore] = {}
        self._files: dict[tuple[Path, str], VectorStore] = {}

    def of(self, run: Run, patience: Patience) -> tuple[Embedder, VectorStore]:
        """The embedder of a run's domain (fitted on what is stored, the first time) and its vectors."""
        ledger = self._ledger(run)
        choice, fitted = ledger.choice(), ledger.fitted()
        if fitted is None:
            ledger.record(self.fit(run, choice, patience))
            fitted = ledger.fitted()
            assert fitted is not None
        _require_same(run.scope, fitted, choice)
        return self.embedder(choice, fitted, patience), self.store(fitted)

    def fit(self, run: Run, choice: EmbedderChoice, patience: Patience, *, anew: bool = False) -> Fitted:
        """Fit a model on what a run's domain was fitted on before, or (`anew`) on what it holds now, and store it."""
        domain = run.scope.domain
        n_passages, texts = sample_texts(self._catalog, run.tenant_id, domain, FIT_SAMPLE, anew=anew)
        embedder = provider_of(choice, patience, self._clock).fit(
            texts, Domains(self._catalog).shape_of(domain).key_dim
        )
        fingerprint = self._folder.save(embedder)
        return Fitted(choice.identity, fingerprint, embedder.dim, n_passages, "")

    def embedder(self, choice: EmbedderChoice, fitted: Fitted, patience: Patience) -> Embedder:
        """A fitted model, checked against its fingerprint; loaded once a process."""
        key = (fitted.fingerprint, str(choice), patience)
        if key not in self._embedders:
            provider = provider_of(choice, patience, self._clock)
            self._embedders[key] = self._folder.load(provider, fitted.fingerprint)
        return self._embedders[key]

    def discard(self, fingerprints: Iterable[str]) -> None:
        """Remove these models, and what dead processes left of others, where no domain has them any more."""
        for fingerprint in set(fingerprints) - fingerprints_in_use(self._catalog):
            self._folder.discard(fingerprint)
        self.sweep(None)

    def sweep(self, gone: Fitted | None) -> None:
        """Remove this model and every other that no domain is embedded with or changing to.

        One that was stored a moment ago may be about to be recorded by another process: it stays until it is old.
        """
        wanted = fingerprints_in_use(self._catalog)
        if gone is not None and gone.fingerprint not in wanted:
            self._folder.discard(gone.fingerprint)
        self._folder.sweep(wanted, self._clock.now() - MODEL_AGE_S)

    def store(self, fitted: Fitted) -> VectorStore:
        """The vectors made with a model."""
        key = (fitted.vectors_folder, fitted.fingerprint)
        if key not in self._stores:
            server = os.environ.get(SERVER)
            self._stores[key] = open_vectors(self.vectors_root(fitted), fitted.dim, fitted.fingerprint, server)
        return self._stores[key]

    def close(self) -> None:
        """Let go of every store of vectors."""
        for store in (*self._stores.values(), *self._files.values()):
            store.close()

    def vectors_root(self, fitted: Fitted) -> Path:
        """The folder of a model's vectors; `CatalogError` where the catalog names any other."""
        if fitted.vectors_folder not in ("", folder_of(fitted.fingerprint)):
            raise CatalogError("not a folder of vectors", found=repr(fitted.vectors_folder)[:80])
        return self._vectors / fitted.vectors_folder

    def store_of(self, run: Run) -> VectorStore | None:
        """The vectors of a run's domain; None before it has an embedder."""
        fitted = self._ledger(run).fitted()
        return self.store(fitted) if fitted is not None else None

    def files_of(self, run: Run) -> VectorStore | None:
        """A run's vectors as an exported archive holds them: in its own files, whatever server is named."""
        fitted = self._ledger(run).fitted()
        return self._files_in(self._vectors, fitted) if fitted is not None else None

    def holders_of(self, run: Run) -> tuple[VectorStore, ...]:
        """Whoever may hold vectors of a run: its store, and where a server is named also the files from before."""
        fitted = self._ledger(run).fitted()
        if fitted is None:
            return ()
        files = (self._files_in(self.vectors_root(fitted), fitted),) if os.environ.get(SERVER) else ()
        return (self.store(fitted), *files)

    def _files_in(self, root: Path, fitted: Fitted) -> VectorStore:
        key = (root, fitted.fingerprint)
        if key not in self._files:
            self._files[key] = open_vectors(root, fitted.dim, fitted.fingerprint, background=False)
        return self._files[key]

    def drop_vectors(self, run: Run, known: VectorStore | None) -> None:
        """Remove a run's vectors, and those of its key spans, of whatever model they are; `known`: where they were.

        A server keeps what another model than that made: only its own fingerprint finds it.
        """
        for namespace in (str(run.scope), key_namespace(run)) if known is not None else ():
            assert known is not None
            known.drop(namespace)
        for folder in (self._vectors, *sorted(self._vectors.glob("_*"))):
            with contextlib.closing(open_vectors(folder, 1, "00")) as store:
                for namespace in (str(run.scope), key_namespace(run)):
                    store.drop(namespace)
        for store in self._stores.values():
            store.forget_cached()

    def changes(self, run: Run, patience: Patience) -> bool:
        """Whether a model fitted on what a run's domain holds now is another one than it has, if it has one."""
        ledger, domain = self._ledger(run), run.scope.domain
        fitted = ledger.fitted()
        if fitted is None:
            return True
        if fitted.provider != EmbedderChoice.parse(LSA).identity:  # made elsewhere: no text of ours is in it
            return False
        _, texts = sample_texts(self._catalog, run.tenant_id, domain, FIT_SAMPLE)
        provider, key_dim = (
            provider_of(ledger.choice(), patience, self._clock),
            Domains(self._catalog).shape_of(domain).key_dim,
        )
        return not texts or provider.fit(texts, key_dim).fingerprint != fitted.fingerprint

    def fingerprint(self, scope: Scope) -> str | None:
        """What a domain's vectors are made with now."""
        known = self._catalog.embedder(scope.tenant, scope.domain)
        return known[1] if known is not None else None

    def require(self, scope: Scope, choice: EmbedderChoice) -> None:
        """`EmbedderError` where a domain is embedded by another model than this."""
        tenant_id = self._catalog.tenant_id(scope.tenant)
        fitted = EmbedderLedger(self._catalog, tenant_id, scope.domain).fitted() if tenant_id is not None else None
        if fitted is not None:
            _require_same(scope, fitted, choice)

    def choose(self, run: Run, choice: EmbedderChoice) -> None:
        """Remember what a person named for a run's domain; a model that has moved keeps its vectors."""
        ledger = self._ledger(run)
        if ledger.choice() != choice:
            ledger.choose(choice)

    def _ledger(self, run: Run) -> EmbedderLedger:
        return EmbedderLedger(self._catalog, run.tenant_id, run.scope.domain)


def _require_same(scope: Scope, fitted: Fitted, choice: EmbedderChoice) -> None:
    if fitted.provider != choice.identity:
        domain = Scope(scope.tenant, scope.domain)
        raise EmbedderError(
            f"{domain} is embedded by another model; to change it: emm reembed ARCHIVE --scope {domain} "
            f"--embedder {choice}",
            expected=fitted.provider,
            found=choice.identity,
        )
