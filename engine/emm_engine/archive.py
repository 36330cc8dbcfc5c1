"""An archive: one folder that holds a catalog, the memories, the vectors and the embedding models.

Purpose: the engine's face. Invariants: the catalog is the truth and the mark of an archive; an open archive
takes no lock, an ingest takes its run's memory for as long as it runs; asking writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType

from emm import ExistsError, InputError, MissingError
from emm_engine.catalog import place
from emm_engine.catalog.checks import TEXT, Finding, check_texts
from emm_engine.catalog.forgotten import Forgettings
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.schema import LEFTOVER_PREFIX
from emm_engine.catalog.store import Catalog, Run
from emm_engine.documents import Document
from emm_engine.embeddings.provider import Embedder, EmbedderFolder, Provider
from emm_engine.errors import CatalogError, EmbedderError
from emm_engine.files import make_folder
from emm_engine.hierarchy import Scope, shape_of
from emm_engine.ingest.pipeline import Ingest, OnProgress
from emm_engine.matrices.shelf import MatrixShelf
from emm_engine.renewal.certificate import Certificate
from emm_engine.renewal.checking import check
from emm_engine.renewal.forgetting import Forgetter
from emm_engine.renewal.rebuilding import Rebuilding, RebuildReport, Workshop
from emm_engine.renewal.selection import Plan, Selection, choose
from emm_engine.reports import IngestReport, RunStatus
from emm_engine.retrieval.answer import Answer
from emm_engine.retrieval.ask import Retrieval
from emm_engine.vectors.exact import ExactVectors
from emm_engine.vectors.store import VectorStore

FIT_SAMPLE = 12_000  # passages the embedder is fitted on
K = 5
TOKEN_BUDGET = 1500
QUESTION_CHARS_MAX = 10_000
DAMAGE_NAMED = 20


class Archive:
    """An open archive. Made by `create` or `open`; a context manager."""

    def __init__(self, path: Path, catalog: Catalog, provider: Provider) -> None:
        self.path = path
        self._catalog = catalog
        self._provider = provider
        self._shelf = MatrixShelf(path, catalog)
        self._folder = EmbedderFolder(path / "embedders")
        self._embedders: dict[str, Embedder] = {}  # by fingerprint
        self._stores: dict[str, VectorStore] = {}
        self._retrieval = Retrieval(catalog, self._shelf, self._models)

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], provider: Provider | None = None, catalog: str | None = None
    ) -> Archive:
        """A new archive in a new or empty folder; `ExistsError` where something is already.

        `catalog` (or the variable `EMM_CATALOG`) is the URL of a PostgreSQL database that is to hold the catalog; the
        archive remembers it without its password. Without one the catalog is a file of the archive.
        """
        root, provider = Path(path), provider or _default_provider()
        if root.exists() and (not root.is_dir() or any(not _is_leftover(each) for each in root.iterdir())):
            raise ExistsError("there is something under that name already", file=str(path))
        make_folder(root)
        place.create(root, catalog)
        return cls.open(root, provider, catalog)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], provider: Provider | None = None, catalog: str | None = None
    ) -> Archive:
        """An existing archive; `MissingError` where there is none.

        `catalog` (or `EMM_CATALOG`) is another URL of the server that the archive remembers, say one with a password.
        """
        root = Path(path)
        return cls(root, place.open_catalog(root, catalog), provider or _default_provider())

    def close(self) -> None:
        self._shelf.close()
        self._catalog.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the three things people do --------------------------------------------------------------

    def ingest(self, documents: Iterable[Document], scope: Scope, progress: OnProgress | None = None) -> IngestReport:
        """Store and absorb documents in a run, after finishing what an interrupted ingest left there.

        Durable when it returns; idempotent by title and text. `FencedError` when another process is writing the
        run, `CatalogError` when its memory is not the one the catalog describes.
        """
        run = self._catalog.ensure_run(scope)
        with self._shelf.open_writer(run) as memory:
            return Ingest(self._catalog, run, memory, self._models, progress).run(documents)

    def ask(
        self,
        question: str,
        scope: Scope,
        k: int = K,
        token_budget: int = TOKEN_BUDGET,
        as_of: str | None = None,
    ) -> Answer:
        """Cited passages and associations for a question, over everything at or below a scope.

        `as_of` (`YYYY[-MM[-DD[THH:MM:SSZ]]]`, UTC) answers from what was dated up to then.
        """
        if not question.strip() or len(question) > QUESTION_CHARS_MAX:
            raise InputError(
                "an empty question" if not question.strip() else "the question is too long",
                expected=f"1 to {QUESTION_CHARS_MAX} characters",
                found=len(question),
            )
        if k < 1 or token_budget < 1:
            raise InputError("k and token_budget are at least 1", found=(k, token_budget))
        with self._catalog.snapshot():  # whatever others write meanwhile
            return self._retrieval.ask(question, scope, k, token_budget, as_of)

    def tree(self, tenant: str | None = None) -> list[RunStatus]:
        """Every run (of one tenant, when given) with its counts, lag and saturation, in order of name."""
        runs = self._catalog.all_runs()
        return [self._status(run) for run in runs if tenant is None or run.scope.tenant == tenant]

    def scopes(self) -> list[Scope]:
        """Every run, in order of name."""
        return [run.scope for run in self._catalog.all_runs()]

    # --- what keeps it whole ---------------------------------------------------------------------

    def check(self) -> Iterator[Finding]:
        """What of the catalog is not what was stored, and what of the rest is missing or another catalog's."""
        yield from check(self._catalog, self._shelf.path, self._models)

    def rebuild(
        self, scope: Scope | None = None, *, refit: bool = False, tell: Callable[[str], None] = lambda _: None
    ) -> RebuildReport:
        """Make the models, vectors, memories and index of words anew (of a domain: None means of all).

        `refit` fits each model on all there is now, not on what it was fitted on. `CatalogError` where a text is not
        what was stored; `FencedError` while another process writes one of the runs; nothing has changed then.
        """
        damaged = [finding for finding in check_texts(self._catalog) if finding.kind == TEXT]
        if damaged:
            raise CatalogError(
                "the catalog is damaged: forget what is named, then ingest it again",
                found="; ".join(f"{each.where}: {each.message}" for each in damaged[:DAMAGE_NAMED]),
            )
        wanted = [run for run in self._catalog.all_runs() if scope is None or scope.contains(run.scope)]
        domains = sorted({(run.scope.tenant, run.scope.domain) for run in wanted})
        for domain in domains:
            self._require_provider(*domain)
        self._forgetter().finish()
        return self._rebuilding().rebuild(domains, refit=refit, tell=tell)

    def plan_forgetting(self, selection: Selection) -> Plan:
        """What `forget` would take away."""
        return choose(self._catalog, selection).plan

    def forget(self, selection: Selection, *, purge: bool = False, block: bool = False) -> Certificate:
        """Forget passages in every place: text, words, vectors, labels, and exactly in the matrices.

        `purge` makes memories and models anew from what remains and compacts the rest, so that no file holds anything
        of it, and searches them. `block` refuses the same content from now on. A forgetting that was interrupted is
        finished first. `FencedError` while another process writes one of the runs; nothing has changed then.
        """
        chosen = choose(self._catalog, selection)
        if not chosen.runs:
            raise MissingError("nothing of that is here")
        return self._forgetter().forget(chosen, purge=purge, block=block)

    def forget_tenant(self, name: str, *, purge: bool = False) -> Certificate:
        """Forget all of a tenant, its name included."""
        return self._forgetter().forget_tenant(name, purge=purge)

    def finish_forgetting(self) -> int:
        """Finish forgettings that were interrupted; how many there were."""
        return self._forgetter().finish()

    @property
    def notices(self) -> tuple[str, ...]:
        """What the memories that `ask` and `tree` have opened say about themselves, each with its run."""
        interrupted = ("a forgetting was interrupted: emm forget ARCHIVE --resume",) * bool(
            Forgettings(self._catalog).unfinished()
        )
        return (*self._shelf.notices, *interrupted)

    def memory_path(self, scope: Scope) -> Path:
        """Where a run's memory directory lies, for `emm.open`, `emm-verify` and `emm-inspect`."""
        return self.path / scope.require_run().memory_path

    # --- inside ----------------------------------------------------------------------------------

    def _status(self, run: Run) -> RunStatus:
        documents, passages = self._catalog.query(
            "SELECT (SELECT count(*) FROM documents WHERE scope_id = ? AND superseded = 0), "
            "(SELECT count(*) FROM passages JOIN documents USING(document_id) "
            "WHERE passages.scope_id = ? AND superseded = 0)",
            (run.scope_id, run.scope_id),
        )[0]
        progress = PairLedger(self._catalog, run).progress()
        memory = self._shelf.reader(run, progress.lsn)
        shape = shape_of(run.scope.domain)
        store = self._store(run.scope)
        return RunStatus(
            scope=str(run.scope),
            documents=documents,
            passages=passages,
            absorbed=progress.absorbed,
            pending=progress.pending,
            stale=progress.stale,
            lsn=progress.lsn,
            rank=memory.rank if memory is not None else shape.rank,
            dim=memory.dim if memory is not None else shape.dim,
            saturation=float(memory.saturation) if memory is not None else 0.0,
            vectors=store.count(str(run.scope)) if store is not None else 0,
        )

    def _models(self, run: Run) -> tuple[Embedder, VectorStore]:
        """The embedder of a run's domain (fitted on what is stored, the first time) and its vectors."""
        tenant, domain = run.scope.tenant, run.scope.domain
        if self._catalog.embedder(tenant, domain) is None:
            texts = self._catalog.sample_texts(run.tenant_id, domain, FIT_SAMPLE)
            fitted = self._provider.fit(texts, shape_of(domain).key_dim)
            fingerprint = self._folder.save(fitted)
            self._catalog.set_embedder(
                run.tenant_id, domain, (self._provider.name, fingerprint, fitted.dim), len(texts)
            )
        self._require_provider(tenant, domain)
        known, store = self._catalog.embedder(tenant, domain), self._store(run.scope)
        assert known is not None and store is not None
        fingerprint = known[1]
        if fingerprint not in self._embedders:
            self._embedders[fingerprint] = self._folder.load(self._provider, fingerprint)
        return self._embedders[fingerprint], store

    def _require_provider(self, tenant: str, domain: str) -> None:
        known = self._catalog.embedder(tenant, domain)
        if known is not None and known[0] != self._provider.name:
            raise EmbedderError(
                f"{tenant}:{domain} was embedded by another provider", expected=known[0], found=self._provider.name
            )

    def _model_changes(self, run: Run) -> bool:
        """Whether a model fitted on what the domain holds now is another one than it has, if it has one."""
        known = self._catalog.embedder(run.scope.tenant, run.scope.domain)
        if known is None:
            return True
        texts = self._catalog.sample_texts(run.tenant_id, run.scope.domain, FIT_SAMPLE)
        return not texts or self._provider.fit(texts, shape_of(run.scope.domain).key_dim).fingerprint != known[1]

    def _absorb(self, run: Run) -> IngestReport:
        """Finish what is left to do in a run."""
        return self.ingest((), run.scope)

    def _drop_vectors(self, run: Run) -> None:
        """Remove a run's vectors, whatever model they are of."""
        ExactVectors(self.path / "vectors", 1, "00").drop(str(run.scope))

    def _rebuilding(self) -> Rebuilding:
        return Rebuilding(self._workshop())

    def _forgetter(self) -> Forgetter:
        return Forgetter(self._workshop(), self._rebuilding())

    def _workshop(self) -> Workshop:
        return Workshop(
            self.path,
            self._catalog,
            self._shelf,
            self._folder,
            models=self._models,
            store=lambda run: self._store(run.scope),
            drop_vectors=self._drop_vectors,
            model_changes=self._model_changes,
            absorb=self._absorb,
        )

    def _store(self, scope: Scope) -> VectorStore | None:
        """The vectors of a scope's domain; None before it has an embedder."""
        known = self._catalog.embedder(scope.tenant, scope.domain)
        if known is None:
            return None
        _, fingerprint, dim = known
        if fingerprint not in self._stores:
            self._stores[fingerprint] = ExactVectors(self.path / "vectors", dim, fingerprint)
        return self._stores[fingerprint]


def _default_provider() -> Provider:
    """TF-IDF and SVD; imported here, because scikit-learn takes a second that `--help` need not wait."""
    from emm_engine.embeddings.lsa import LsaProvider

    return LsaProvider()


def _is_leftover(path: Path) -> bool:
    """True for what a killed `create` may leave behind, which the next one may ignore."""
    return path.name.startswith(LEFTOVER_PREFIX)
