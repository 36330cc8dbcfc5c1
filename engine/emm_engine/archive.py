"""An archive: one folder that holds a catalog, the memories, the vectors and the embedding models.

Purpose: the engine's face. Invariants: the catalog is the truth and the mark of an archive; an open archive
takes no lock, an ingest takes its run's memory for as long as it runs; asking writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from emm import ExistsError, InputError
from emm_engine.catalog import place
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.schema import LEFTOVER_PREFIX
from emm_engine.catalog.store import Catalog, Run
from emm_engine.documents import Document
from emm_engine.embeddings.provider import Embedder, EmbedderFolder, Provider
from emm_engine.errors import EmbedderError
from emm_engine.files import make_folder
from emm_engine.hierarchy import Scope, shape_of
from emm_engine.ingest.pipeline import Ingest, OnProgress
from emm_engine.matrices.shelf import MatrixShelf
from emm_engine.reports import IngestReport, RunStatus
from emm_engine.retrieval.answer import Answer
from emm_engine.retrieval.ask import Retrieval
from emm_engine.vectors.exact import ExactVectors
from emm_engine.vectors.store import VectorStore

FIT_SAMPLE = 12_000  # passages the embedder is fitted on
K = 5
TOKEN_BUDGET = 1500
QUESTION_CHARS_MAX = 10_000


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

    @property
    def notices(self) -> tuple[str, ...]:
        """What the memories that `ask` and `tree` have opened say about themselves, each with its run."""
        return tuple(self._shelf.notices)

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
        known, store = self._catalog.embedder(tenant, domain), self._store(run.scope)
        assert known is not None and store is not None
        provider, fingerprint, _ = known
        if provider != self._provider.name:
            raise EmbedderError(
                f"{tenant}:{domain} was embedded by another provider", expected=provider, found=self._provider.name
            )
        if fingerprint not in self._embedders:
            self._embedders[fingerprint] = self._folder.load(self._provider, fingerprint)
        return self._embedders[fingerprint], store

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
