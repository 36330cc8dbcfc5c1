"""An archive: one folder that holds a catalog, the memories, the vectors and the embedding models.

Purpose: the engine's face. Invariants: the catalog is the truth and the mark of an archive; an open archive
takes no lock, an ingest takes its run's memory for as long as it runs; asking writes nothing.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from emm import EmmError, ExistsError, FencedError, InputError, MissingError
from emm_engine.catalog import place as catalog_place
from emm_engine.catalog.checks import TEXT, Finding, check_texts
from emm_engine.catalog.closures import Closures
from emm_engine.catalog.domains import Domains
from emm_engine.catalog.embedders import EmbedderLedger, changes_under_way
from emm_engine.catalog.exported import exported_scope, say_exported
from emm_engine.catalog.forgotten import Forgettings
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.schema import LEFTOVER_PREFIX
from emm_engine.catalog.search import CatalogReader
from emm_engine.catalog.store import Catalog, Run
from emm_engine.catalog.waiting import WaitingList, is_due
from emm_engine.documents import Document, Label
from emm_engine.dream.activity import note_use
from emm_engine.dream.cycle import Tell
from emm_engine.dream.dreamer import Dreamer
from emm_engine.embeddings.backoff import FOR_INGEST, FOR_QUESTIONS, Clock, SystemClock
from emm_engine.embeddings.choice import EmbedderChoice
from emm_engine.embeddings.provider import Embedder, Float32Array
from emm_engine.errors import CatalogError, EmbedderUnavailable, ScopeError
from emm_engine.files import make_folder
from emm_engine.hierarchy import Place, Scope
from emm_engine.ingest.pipeline import Ingest
from emm_engine.matrices.carrying import Carrying
from emm_engine.matrices.consult import Consulting
from emm_engine.matrices.growth import Growth
from emm_engine.matrices.rollup import GroupMerge, RollingUp, RollupReport
from emm_engine.matrices.shelf import MatrixShelf
from emm_engine.models.domain import DomainModels
from emm_engine.models.keys import KeyMaker, key_namespace, keys_beside
from emm_engine.reembedding.worker import Reembed
from emm_engine.renewal.certificate import Certificate
from emm_engine.renewal.checking import check
from emm_engine.renewal.forgetting import Forgetter
from emm_engine.renewal.rebuilding import Rebuilding, RebuildReport, Workshop
from emm_engine.renewal.selection import Plan, Selection, choose
from emm_engine.reports import IngestReport, LevelStatus, OnProgress, ReembedReport, RunStatus
from emm_engine.retrieval.answer import Answer
from emm_engine.retrieval.ask import Retrieval
from emm_engine.retrieval.question import Filters, Question
from emm_engine.settings import Settings
from emm_engine.upkeep import closing, publishing
from emm_engine.upkeep.copying import Side
from emm_engine.upkeep.moving import MoveReport, Moving
from emm_engine.upkeep.travelling import Travelling, TravelReport
from emm_engine.upkeep.tree import Tree, hint_of
from emm_engine.vectors.store import RecallReport, VectorStore

SWITCHES_MAX = 2  # changes of embedder that a question may run into and be asked again
K = 5
TOKEN_BUDGET = 1500
DAMAGE_NAMED = 20


class Archive:
    """An open archive. Made by `create` or `open`; a context manager."""

    def __init__(self, path: Path, catalog: Catalog, clock: Clock) -> None:
        self.path = path
        self._catalog = catalog
        self._clock = clock
        self.settings = Settings(catalog)
        self.domains = Domains(catalog)
        self._closures = Closures(catalog)
        self._carrying = Carrying(path, catalog, self._rename_vectors)
        self._shelf = MatrixShelf(path, catalog, self._carrying)
        self._models = DomainModels(path, catalog, clock)
        self._growth = Growth(catalog, self._keys_of)
        self._rolling_up = RollingUp(catalog, self._shelf, self._growth)
        self._moving = Moving(catalog, self._shelf, self._carrying, self._rolling_up)
        self._consulting = Consulting(catalog, self._shelf)
        asking = functools.partial(self._models.of, patience=FOR_QUESTIONS)
        self._retrieval = Retrieval(catalog, self._consulting, asking, catalog.again)

    @classmethod
    def create(cls, path: str | os.PathLike[str], clock: Clock | None = None, catalog: str | None = None) -> Archive:
        """A new archive in a new or empty folder; `ExistsError` where something is already.

        `catalog` is the URL of the PostgreSQL database that is to hold the catalog (empty: a file in the folder; None:
        what the variable `EMM_CATALOG` says). The archive remembers it without its password.
        """
        root = Path(path)
        if root.exists() and (not root.is_dir() or any(not _is_leftover(each) for each in root.iterdir())):
            raise ExistsError("there is something under that name already", file=str(path))
        make_folder(root)
        catalog_place.create(root, catalog)
        return cls.open(root, clock, catalog)

    @classmethod
    def open(cls, path: str | os.PathLike[str], clock: Clock | None = None, catalog: str | None = None) -> Archive:
        """An existing archive; `MissingError` where there is none.

        `catalog` (else `EMM_CATALOG`) is another URL of the server that the archive remembers, say one with a password.
        """
        root = Path(path)
        return cls(root, catalog_place.open_catalog(root, catalog), clock or SystemClock())

    def close(self) -> None:
        self._retrieval.close()
        self._models.close()
        self._shelf.close()
        self._catalog.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the three things people do --------------------------------------------------------------

    def ingest(
        self,
        documents: Iterable[Document],
        scope: Scope,
        progress: OnProgress | None = None,
        embedder: str | None = None,
        through: Callable[[Embedder], Embedder] | None = None,
    ) -> IngestReport:
        """Store and absorb documents in a run, after finishing what an interrupted ingest left there.

        Durable when it returns; idempotent by title and text. `embedder` (`lsa`, `minilm`, `ollama:MODEL@URL`,
        `openai:MODEL@URL`) is remembered for the run's domain; `EmbedderError` where the domain has another. An
        embedder that does not answer is a notice, and its work waits for `embed`. `through` may put something in the
        place of the domain's embedder that gives the same vectors, such as many workers. `FencedError` when another
        process is writing the run, `CatalogError` when its memory is not the one the catalog describes, `ScopeError`
        when the run is closed. Refreshes the roll-ups above the run where that takes about a second at most.
        """
        self._closures.require_open(scope.require_run())
        self._carrying.settle(scope)
        choice = EmbedderChoice.parse(embedder) if embedder is not None else None
        if choice is not None:
            self._models.require(scope, choice)
        run = self._catalog.ensure_run(scope)
        if choice is not None:
            self._models.choose(run, choice)
        note_use(self.path)
        with self._ingesting(run, progress, through) as ingest:
            self._closures.require_open(scope)  # again, for now nobody closes it behind our back
            report = self._ingest(ingest, run, documents)
        return self._rolled_up(run, report)

    def embed(self, due_only: bool = False, progress: OnProgress | None = None) -> list[IngestReport]:
        """Work off what waits for an embedder, one report a run that had anything waiting; idempotent.

        `due_only` leaves alone what failed a short while ago, and what was refused; else all of it is tried again. A
        change of embedder that was stopped goes on; a run that somebody else is writing is left to them.
        """
        reports = []
        for run in self._catalog.all_runs():
            waiting = WaitingList(self._catalog, run)
            if not due_only:
                waiting.forget_refusals()
            if self._lags(run) and (not due_only or is_due(waiting.wait(), self._clock.now())):
                with contextlib.suppress(FencedError):
                    with self._ingesting(run, progress) as ingest:
                        report = self._ingest(ingest, run, ())
                    reports.append(self._rolled_up(run, report))
        for tenant, domain, embedder in changes_under_way(self._catalog):
            with contextlib.suppress(FencedError):
                self.reembed(Scope(tenant, domain), embedder, progress)
        return reports

    def reembed(self, scope: Scope, embedder: str, progress: OnProgress | None = None) -> ReembedReport:
        """Embed a scope's whole domain anew; the old vectors answer until all of it is done. Goes on where it was."""
        choice = EmbedderChoice.parse(embedder)
        report = Reembed(self.path, self._catalog, self._shelf, self._models, scope, progress).run(choice)
        for run in self._catalog.runs(Scope(scope.tenant, scope.domain)):
            self._rolling_up.refresh_above(run.scope)
        return report

    def abandon_reembed(self, scope: Scope) -> bool:
        """Drop a change of embedder that is under way; the old one stays. False when there is none."""
        return Reembed(self.path, self._catalog, self._shelf, self._models, scope, None).abandon()

    def ask(
        self,
        question: str,
        scope: Scope,
        k: int = K,
        token_budget: int = TOKEN_BUDGET,
        as_of: str | None = None,
        *,
        since: str | None = None,
        until: str | None = None,
        labels: Iterable[Label] = (),
        source: str | None = None,
        without: Iterable[str] = (),
    ) -> Answer:
        """Cited passages and associations for a question, over everything at or below a scope.

        Lexical, vector and matrix recall are asked at the same time; `without` names those to leave out, as the setting
        `retrieval.data.local` does for good. Moments are `YYYY[-MM[-DD[THH:MM:SSZ]]]`, UTC: `as_of` answers from what
        was known then, `since` and `until` from documents dated between them. `labels` must all be carried, `source`
        is a shell pattern. `InputError` for anything that cannot be asked.
        """
        filters = Filters(as_of, since, until, tuple(labels), source)
        asked = Question(question, scope, k, token_budget, filters, frozenset(without))
        note_use(self.path)
        for _ in range(SWITCHES_MAX):
            fingerprint = self._models.fingerprint(scope)
            try:
                answer = self._retrieval.ask(asked)
            except EmmError:
                if fingerprint == self._models.fingerprint(scope):
                    raise
            else:
                if fingerprint == self._models.fingerprint(scope):
                    return answer
        return self._retrieval.ask(asked)

    def dreamer(self, tell: Tell = lambda text: None) -> Dreamer:
        """Who dreams in this archive; `tell` hears of each step."""
        return Dreamer(self.path, self._catalog, self._shelf, self._settling, self._keys_of, self._merge_up, tell)

    def tree(self, tenant: str | None = None) -> list[RunStatus]:
        """Every run (of one tenant, when given) with its counts, lag and saturation, in order of name."""
        runs = self._catalog.all_runs()
        return [self._status(run) for run in runs if tenant is None or run.scope.tenant == tenant]

    def maintain_vectors(self) -> list[tuple[Scope, list[str]]]:
        """Check, mend and merge what the vectors of every run are searched with; what was done, in words."""
        stores = ((run.scope, self._models.store_of(run)) for run in self._catalog.all_runs())
        return [(scope, store.maintain(str(scope))) for scope, store in stores if store is not None]

    def levels(self, tenant: str | None = None) -> list[LevelStatus | RunStatus]:
        """The tree with its tenants, domains and projects, each before what is below it."""
        return list(Tree(self._catalog, self._shelf, self._consulting).lines(self.tree(tenant)))

    # --- what a keeper does to scopes ------------------------------------------------------------

    def rollup(self, scope: Scope | None = None, group_merge: GroupMerge | None = None) -> list[RollupReport]:
        """Bring the roll-ups of a project or domain (None: of every domain) up to date, projects first.

        `group_merge` may have the groups of a large one merged elsewhere, such as by many workers.
        `MissingError` where there is no run below; `ScopeError` for a run, which has no roll-up.
        """
        if scope is not None and scope.is_run:
            raise ScopeError("a run has no roll-up", expected="a project or a domain", found=str(scope))
        domains = sorted({Scope(run.tenant, run.domain) for run in self.scopes()})
        if scope is not None:
            closing.runs_of(self._catalog, scope)
            domains = [scope]
        rolling_up = RollingUp(self._catalog, self._shelf, self._growth, group_merge)
        return [report for each in domains for report in rolling_up.refresh(each)]

    def close_scope(self, place: Place) -> bool:
        """No more documents at or below a scope; what an interrupted ingest left there is finished first.

        False when it was closed already; `FencedError`, and nothing closed, while an ingest is at work there.
        """
        return closing.close(self._catalog, place, self._finish)

    def reopen_scope(self, place: Place) -> bool:
        """Take documents again; False when the scope was open. `ScopeError` while a scope above it is closed."""
        return closing.reopen(self._catalog, place)

    def move(self, source: Scope, target: Scope) -> MoveReport:
        """Give a run or project another name in its domain; a killed move is ended by whoever writes there next.

        `FencedError`, and nothing changed, while one of its runs is written to; `ExistsError` where the target is
        taken; `ScopeError` into another domain or tenant, or where a scope above is closed.
        """
        return self._moving.move(source, target)

    def export(self, place: Place, path: str | os.PathLike[str], progress: OnProgress | None = None) -> TravelReport:
        """A scope as an archive of its own, which appears whole under its name or not at all.

        `ExistsError` where there is something already, `InputError` for a place inside this archive, where no
        forgetting would reach it, `FencedError` while one of its runs is written to.
        """
        started, out = time.perf_counter(), Path(path)
        if out.resolve().is_relative_to(self.path.resolve()):
            raise InputError("an export goes outside of its archive", file=str(out))
        whole = catalog_place.IN_THE_FOLDER
        with publishing.unfinished(out) as scratch, Archive.create(scratch, self._clock, whole) as other:
            copied, rollups = Travelling(self._side(), other._side(exported=True), other._rolling_up, progress).bring(
                place, place
            )
            say_exported(other._catalog, place)
            other.close()
            publishing.publish(scratch, out)
        seconds = time.perf_counter() - started
        return TravelReport(str(place), str(place), str(path), copied, rollups, seconds)

    def import_from(
        self, path: str | os.PathLike[str], into: Place | None = None, progress: OnProgress | None = None
    ) -> TravelReport:
        """The scope of an exported archive, under its own name or another of the same level; idempotent.

        `ExistsError` where a name is taken by another run, `EmbedderError` where the domain has another embedder,
        `CatalogError` where the archive at `path` is not what an export is.
        """
        started = time.perf_counter()
        catalog_place.require_whole(Path(path))
        with Archive.open(path, self._clock) as other:
            place = exported_scope(other._catalog, str(path))
            travelling = Travelling(other._side(exported=True), self._side(), self._rolling_up, progress)
            copied, rollups = travelling.bring(place, into or place)
        seconds = time.perf_counter() - started
        return TravelReport(str(place), str(into or place), str(path), copied, rollups, seconds)

    def scopes(self) -> list[Scope]:
        """Every run, in order of name."""
        return [run.scope for run in self._catalog.all_runs()]

    # --- what keeps it whole ---------------------------------------------------------------------

    def check(self) -> Iterator[Finding]:
        """What of the catalog is not what was stored, and what of the rest is missing or another catalog's."""
        opened = functools.partial(self._models.of, patience=FOR_QUESTIONS)
        yield from check(self._catalog, self._shelf.path, opened)

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
        self._forgetter().finish()
        for domain in domains:
            self.abandon_reembed(Scope(*domain))
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
        self._abandon_changes(chosen.runs)
        return self._forgetter().forget(chosen, purge=purge, block=block)

    def forget_tenant(self, name: str, *, purge: bool = False) -> Certificate:
        """Forget all of a tenant, its name included."""
        self._abandon_changes([run for run in self._catalog.all_runs() if run.scope.tenant == name])
        return self._forgetter().forget_tenant(name, purge=purge)

    def finish_forgetting(self) -> int:
        """Finish forgettings that were interrupted; how many there were."""
        return self._forgetter().finish()

    @property
    def parallel(self) -> bool:
        """Whether `ask` asks its three recalls at the same time; switched off, it tells how much that saves."""
        return self._retrieval.legs.parallel

    @parallel.setter
    def parallel(self, value: bool) -> None:
        self._retrieval.legs.parallel = value

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

    def _settling(self, run: Run) -> Ingest:
        return self._ingesting(run, None)

    def _ingesting(
        self, run: Run, progress: OnProgress | None, through: Callable[[Embedder], Embedder] | None = None
    ) -> Ingest:
        def models(of: Run) -> tuple[Embedder, VectorStore]:
            embedder, vectors = self._models.of(of, FOR_INGEST)
            return embedder if through is None else through(embedder), vectors

        return Ingest(self._catalog, run, self._shelf, models, self._clock, progress)

    def _ingest(self, ingest: Ingest, run: Run, documents: Iterable[Document]) -> IngestReport:
        """Ingest, and a larger rank where the matrix has become too full."""
        report = ingest.run(documents)
        memory = ingest.memory
        try:
            grown = self._growth.grow_if_saturated(run, memory)
        except EmbedderUnavailable as error:
            grown = [f"{run.scope} keeps its rank of {memory.rank}: {error}"]
        if not grown:
            return report
        saturation = float(memory.saturation)
        return replace(report, rank=memory.rank, saturation=saturation, notices=(*report.notices, *grown))

    def _side(self, *, exported: bool = False) -> Side:
        store = self._models.files_of if exported else self._models.store_of
        return Side(self.path, self._catalog, self._shelf, self._carrying, store)

    def _rolled_up(self, run: Run, report: IngestReport) -> IngestReport:
        return replace(report, notices=(*report.notices, *self._merge_up(run.scope)))

    def _merge_up(self, run: Scope) -> list[str]:
        """Refresh the roll-ups above a run; says which could not be."""
        behind = [each for each in self._rolling_up.refresh_above(run) if each.outcome == "behind"]
        return [f"the roll-up of {each.scope} is behind: {each.why}" for each in behind]

    def _finish(self, run: Run) -> None:
        """End what an interrupted ingest left, once nobody else writes the run."""
        with self._ingesting(run, None) as ingest:
            ledger = PairLedger(self._catalog, run)
            ledger.reconcile(ingest.memory.write_count, ingest.memory.lsn)
            progress = ledger.progress()
            if progress.pending or progress.stale:
                self._ingest(ingest, run, ())

    def _keys_of(self, run: Run, passage_ids: Sequence[int]) -> Float32Array:
        """(n, key_dim): the keys that these passages were written with."""
        embedder, vectors = self._models.of(run, FOR_INGEST)
        hashes = CatalogReader(self._catalog, run.tenant_id, [run]).text_hashes(run.scope_id)
        found, keys = KeyMaker(self._catalog, run, embedder, vectors).keys(passage_ids, hashes)
        if len(found) != len(passage_ids):
            raise EmbedderUnavailable(f"{len(passage_ids) - len(found)} pairs have no vector any more")
        return keys

    def _status(self, run: Run) -> RunStatus:
        documents, passages = self._catalog.query(
            "SELECT (SELECT count(*) FROM documents WHERE scope_id = ? AND superseded = 0), "
            "(SELECT count(*) FROM passages JOIN documents USING(document_id) "
            "WHERE passages.scope_id = ? AND superseded = 0)",
            (run.scope_id, run.scope_id),
        )[0]
        progress = PairLedger(self._catalog, run).progress()
        memory = self._shelf.reader(run, progress.lsn)
        shape = self.domains.shape_of(run.scope.domain)
        saturation = float(memory.saturation) if memory is not None else 0.0
        store, waiting = self._models.store_of(run), WaitingList(self._catalog, run)
        wait = waiting.wait()
        recall = store.recall(str(run.scope)) if store is not None else RecallReport(1.0, 0, None)
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
            saturation=saturation,
            vectors=store.count(str(run.scope)) if store is not None else 0,
            vector_recall=recall.recall,
            vector_search_k=recall.search_k,
            closed=self._closures.closed_by(run.scope) is not None,
            hint=hint_of(memory.rank, saturation, memory.key_dim) if memory is not None else "",
            embedder=str(EmbedderLedger(self._catalog, run.tenant_id, run.scope.domain).choice()),
            refused=len(waiting.refused()),
            waiting=f"{wait.last_error} (tries: {wait.attempts}, next {wait.next_try})" if wait is not None else "",
        )

    def _rename_vectors(self, run: Run, namespace: str) -> None:
        store = self._models.store_of(run)
        if store is not None:
            store.rename(keys_beside(namespace), key_namespace(run))
            store.rename(namespace, str(run.scope))

    def _lags(self, run: Run) -> bool:
        """Whether a run has text that is not in the matrix, or a vector missing."""
        if PairLedger(self._catalog, run).pending(1):
            return True
        store = self._models.store_of(run)
        if store is None:
            return False
        hashes = CatalogReader(self._catalog, run.tenant_id, [run]).text_hashes(run.scope_id)
        missing = set(store.missing(str(run.scope), hashes).tolist())
        return bool(missing - set(WaitingList(self._catalog, run).refused()))

    def _abandon_changes(self, runs: Sequence[Run]) -> None:
        """A change of embedder under way has vectors of its own, of what is to be forgotten too: it begins anew."""
        for domain in sorted({Scope(run.scope.tenant, run.scope.domain) for run in runs}):
            self.abandon_reembed(domain)

    def _absorb(self, run: Run) -> IngestReport:
        """Finish what is left to do in a run, closed or not, and above it."""
        with self._ingesting(run, None) as ingest:
            report = self._ingest(ingest, run, ())
        return self._rolled_up(run, report)

    def _rebuilding(self) -> Rebuilding:
        return Rebuilding(self._workshop())

    def _forgetter(self) -> Forgetter:
        return Forgetter(self._workshop(), self._rebuilding())

    def _workshop(self) -> Workshop:
        return Workshop(
            self.path, self._catalog, self._shelf, self._models, self._rolling_up, self._keys_of, self._absorb
        )


def _is_leftover(path: Path) -> bool:
    """True for what a killed `create` may leave behind, which the next one may ignore."""
    return path.name.startswith((LEFTOVER_PREFIX, f".{LEFTOVER_PREFIX}"))  # the second: of a file not written whole
