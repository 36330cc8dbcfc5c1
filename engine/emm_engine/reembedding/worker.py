"""A domain's change of embedder, in the background and killed wherever you like.

Purpose: (1) fit the new model and announce it; (2) make its vectors beside the old ones, run by run, portion by
portion; (3) with every run's memory held, make the last vectors and learn each memory anew from the pairs it keeps;
(4) switch all of it in one transaction; (5) put the memories in place and remove what nobody needs. Invariants:
until (4) every answer comes from the old model's complete set, after it from the new one's; a kill before (4) loses at
most a portion of work, a kill after it leaves only places to change and rubbish to remove, which any next opening for
writing and any next re-embed does; ingests go on during (1) and (2), and what they add is embedded twice.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import emm
from emm_engine.catalog.embedders import EmbedderLedger, Fitted
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.search import CatalogReader
from emm_engine.catalog.store import Catalog, Run
from emm_engine.catalog.waiting import WaitingList
from emm_engine.embeddings.backoff import FOR_INGEST
from emm_engine.embeddings.choice import EmbedderChoice
from emm_engine.errors import EmbedderError
from emm_engine.files import held_alone
from emm_engine.hierarchy import Scope
from emm_engine.matrices.labels import value
from emm_engine.matrices.shelf import MatrixShelf
from emm_engine.models.domain import DomainModels
from emm_engine.models.keys import KeyMaker, key_namespace
from emm_engine.reports import OnProgress, Progress, ReembedReport

PAIRS_PER_COMMIT = 1024


class Reembed:
    """One domain's. `run` goes from wherever an earlier one was stopped."""

    def __init__(
        self,
        root: Path,
        catalog: Catalog,
        shelf: MatrixShelf,
        models: DomainModels,
        scope: Scope,
        progress: OnProgress | None,
    ) -> None:
        self._root = root
        self._catalog = catalog
        self._shelf = shelf
        self._models = models
        self._domain = Scope(scope.tenant, scope.domain)
        self._progress = progress
        runs = self._runs()
        if not runs:
            raise emm.MissingError(f"there is no run below {self._domain}")
        self._tenant_id = runs[0].tenant_id
        self._ledger = EmbedderLedger(catalog, self._tenant_id, scope.domain)

    def run(self, choice: EmbedderChoice) -> ReembedReport:
        """Change the domain's embedder to this one; `FencedError` where somebody else is at it, or at a run."""
        with self._alone():
            started = time.perf_counter()
            self._tidy()
            resumed = self._ledger.change() is not None
            before = self._ledger.fitted()
            change = self._announced(choice)
            if change is None:  # fitted to the very same model
                return self._report(before, before, 0, 0, resumed, started)
            choice, fitted = change
            n_embedded = self._embed(self._runs(), choice, fitted)
            with self._held() as held:
                n_embedded += self._embed([run for run, _ in held], choice, fitted)
                n_pairs = self._switch(held, choice, fitted)
            self._tidy(before)
            return self._report(before, fitted, n_embedded, n_pairs, resumed, started)

    def abandon(self) -> bool:
        """Drop a change under way; the old model stays. False when there is none."""
        with self._alone():
            change = self._ledger.change()
            self._ledger.abandon_change()
            self._forget_refusals()
            self._tidy(change[1] if change is not None else None)
            return change is not None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One change of embedder at a time in an archive."""
        with held_alone(self._root, wait=False) as ours:
            if not ours:
                raise emm.FencedError("another change of embedder is under way", file=str(self._root))
            yield

    def _runs(self) -> list[Run]:
        return self._catalog.runs(self._domain)

    def _forget_refusals(self) -> None:
        """What one model would not take, another may."""
        for run in self._runs():
            WaitingList(self._catalog, run).forget_refusals()

    def _report(
        self, before: Fitted | None, after: Fitted | None, embedded: int, pairs: int, resumed: bool, started: float
    ) -> ReembedReport:
        refused = sum(len(WaitingList(self._catalog, run).refused()) for run in self._runs())
        return ReembedReport(
            domain=str(self._domain),
            before=before.provider if before is not None else "",
            after=after.provider if after is not None else "",
            changed=before != after,
            embedded=embedded,
            refused=refused,
            pairs=pairs,
            resumed=resumed,
            seconds=time.perf_counter() - started,
        )

    # --- (1) and (2): beside the old -------------------------------------------------------------

    def _announced(self, choice: EmbedderChoice) -> tuple[EmbedderChoice, Fitted] | None:
        """The change under way, begun when there is none; None when the new model is the old one."""
        change = self._ledger.change()
        if change is None:
            fitted = self._models.fit(self._runs()[0], choice, FOR_INGEST, anew=True)
            known = self._ledger.fitted()
            if known is not None and known.fingerprint == fitted.fingerprint:
                return None
            self._forget_refusals()
            self._ledger.begin_change(choice, fitted)
            change = self._ledger.change()
            assert change is not None
        elif change[0].identity != choice.identity:
            raise EmbedderError(
                f"a change of {self._domain} to another embedder is under way; finish it, or drop it with --abandon",
                expected=change[0].identity,
                found=choice.identity,
            )
        return choice, change[1]

    def _embed(self, runs: Sequence[Run], choice: EmbedderChoice, fitted: Fitted) -> int:
        """The new model's vectors of all passages of some runs that it has not embedded yet; how many that was."""
        self._models.store(fitted).forget_cached()
        started, n_done = time.perf_counter(), 0

        def embedded(count: int) -> None:
            nonlocal n_done
            n_done += count
            self._tell("embedding", n_done, started)

        for run in runs:
            keys, hashes = self._keys(run, choice, fitted), self._hashes(run)
            keys.fill(hashes, embedded)
            keys.fill_stated(list(hashes))
        return n_done

    def _keys(self, run: Run, choice: EmbedderChoice, fitted: Fitted) -> KeyMaker:
        embedder = self._models.embedder(choice, fitted, FOR_INGEST)
        return KeyMaker(self._catalog, run, embedder, self._models.store(fitted))

    def _hashes(self, run: Run) -> dict[int, int]:
        return CatalogReader(self._catalog, run.tenant_id, [run]).text_hashes(run.scope_id)

    def _tell(self, phase: str, done: int, started: float) -> None:
        if self._progress is not None:
            self._progress(Progress(phase, done, None, time.perf_counter() - started))

    # --- (3) to (5) ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _held(self) -> Iterator[list[tuple[Run, emm.Memory]]]:
        """Every run of the domain with its memory, nobody else writing; also the runs that came while we waited."""
        with contextlib.ExitStack() as stack:
            held: dict[int, tuple[Run, emm.Memory]] = {}
            while new := [run for run in self._runs() if run.scope_id not in held]:
                for run in new:
                    held[run.scope_id] = (run, stack.enter_context(self._shelf.open_writer(run)))
            yield list(held.values())

    def _switch(self, held: Sequence[tuple[Run, emm.Memory]], choice: EmbedderChoice, fitted: Fitted) -> int:
        """Learn the memories anew, name them in the catalog, put them in place; how many pairs they hold."""
        learnt: list[tuple[Run, str, list[int], int]] = []  # run, identity, pairs, LSN
        started, n_pairs = time.perf_counter(), 0
        for run, memory in held:
            PairLedger(self._catalog, run).reconcile(memory.write_count, memory.lsn)
            with self._shelf.stage(run, memory, fitted.dim) as successor:
                written = self._learn(run, successor, self._keys(run, choice, fitted))
                learnt.append((run, successor.uuid, written, successor.lsn))
            n_pairs += len(written)
            self._tell("learning", n_pairs, started)
        with self._catalog.transaction():
            self._ledger.switch(choice, fitted)
            for run, uuid, written, lsn in learnt:
                self._catalog.name_memory(run, uuid)
                PairLedger(self._catalog, run).relearnt(written, lsn)
        for _, memory in held:
            memory.close()  # nothing was written to it
        for run in self._runs():
            self._shelf.release(run)
            self._shelf.settle(run)
            WaitingList(self._catalog, run).succeeded()
        return n_pairs

    def _learn(self, run: Run, memory: emm.Memory, keys: KeyMaker) -> list[int]:
        """Write the pairs that a run's memory keeps, under their new keys; those that have one."""
        ledger, hashes = PairLedger(self._catalog, run), self._hashes(run)
        written: list[int] = []
        kept = ledger.held()
        for low in range(0, len(kept), PAIRS_PER_COMMIT):
            ids, rows = keys.keys(kept[low : low + PAIRS_PER_COMMIT], hashes)
            if ids:
                labels = ledger.kept(ids)
                memory.write(rows, np.stack([value(labels[identity], memory.dim) for identity in ids]))
                written += ids
        return written

    def _tidy(self, gone: Fitted | None = None) -> None:
        """Remove what an earlier model, or a change that was dropped, has left of this domain."""
        self._models.sweep(gone)
        change, fitted = self._ledger.change(), self._ledger.fitted()
        wanted = {one.vectors_folder for one in (fitted, change[1] if change is not None else None) if one is not None}
        vectors = self._root / "vectors"
        roots = {"": vectors} | {path.name: path for path in vectors.glob("_*")}
        for run in self._runs() if gone is not None and gone.vectors_folder not in wanted else ():
            assert gone is not None
            for namespace in (str(run.scope), key_namespace(run)):
                self._models.store(gone).drop(namespace)  # folders go below; on a server nobody would find them again
        for name, root in roots.items():
            if name not in wanted:
                shutil.rmtree(root / self._domain.tenant / self._domain.domain, ignore_errors=True)
                for emptied in (root / self._domain.tenant, root):
                    with contextlib.suppress(OSError):
                        emptied.rmdir()  # only when nothing else is in it
        for run in self._runs():
            self._shelf.settle(run)
            self._shelf.discard_staged(run)
