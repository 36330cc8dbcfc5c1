"""The memories of an archive: made on first write, checked against the catalog at every opening.

Purpose: the one place where the engine touches `emm`'s memories. Invariants: a run's memory is made before any
of its text is stored, so its lock guards the whole ingest and a second writer gets `FencedError` with nothing
changed; a memory whose identity or count of pairs is not what the catalog recorded is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import emm
from emm_engine.catalog.cycles import settle_swap
from emm_engine.catalog.domains import Domains
from emm_engine.catalog.rollups import Rollups
from emm_engine.catalog.store import Catalog, Run
from emm_engine.embeddings.provider import Float32Array
from emm_engine.errors import CatalogError
from emm_engine.files import remove_tree_durably
from emm_engine.hierarchy import RIDGE, Scope
from emm_engine.matrices import exchange
from emm_engine.matrices.carrying import Carrying

MOVES_MET_MAX = 2


class MatrixShelf:
    """Opens the memories of an archive's runs."""

    def __init__(self, root: Path, catalog: Catalog, carrying: Carrying) -> None:
        self._root = root
        self._catalog = catalog
        self._carrying = carrying
        self._domains = Domains(catalog)
        self._readers: dict[int, emm.Memory] = {}
        self._rollups: dict[Scope, emm.Memory] = {}
        self.notices: dict[str, None] = {}  # of the memories opened for reading, each once

    def path(self, run: Run) -> Path:
        return self._carrying.path(run)

    def open_writer(self, run: Run) -> emm.Memory:
        """The run's memory for writing, made when new; `FencedError` when another writer holds it, or it is moved."""
        self.release(run)
        self._carrying.settle(run.scope)
        self._carrying.require_settled(run)
        run = self._catalog.runs(run.scope)[0]
        self.finish_discarding(run)
        self.settle(run)
        try:
            memory = self._open_or_create(run)
        except emm.EmmError:
            self._carrying.require_settled(run)
            raise
        try:
            self._carrying.require_settled(run)
            current = self._catalog.runs(run.scope)[0]  # now under the lock: nobody else binds it
            if current.memory_uuid not in (run.memory_uuid, memory.uuid):  # exchanged since we looked
                memory.close()
                return self.open_writer(current)
            if current.memory_uuid is None and memory.write_count:
                raise CatalogError(
                    f"the memory of {run.scope} is not this archive's",
                    expected="an empty memory",
                    found=f"{memory.uuid} with {memory.write_count} pairs",
                )
            if current.memory_uuid is None:  # new, or made by an ingest that died before it was recorded
                self._catalog.bind_memory(run, memory.uuid)
            else:
                _check_identity(memory, current)
                settle_swap(self._catalog, current, memory)  # a dream may have been killed in the middle of one
        except BaseException:
            memory.close()
            raise
        return memory

    def _open_or_create(self, run: Run) -> emm.Memory:
        path, shape = str(self.path(run)), self._domains.shape_of(run.scope.domain)
        with contextlib.suppress(emm.MissingError):
            return emm.open(path, mode="a")
        if run.memory_uuid is not None:
            raise CatalogError(f"the memory of {run.scope} is missing", file=path, expected=run.memory_uuid)
        known = self._catalog.embedder(run.scope.tenant, run.scope.domain)
        key_dim = known[2] if known is not None else shape.key_dim
        rank = max(shape.rank, Rollups(self._catalog).rank_above(run.scope))  # so that it merges with its siblings
        with contextlib.suppress(emm.ExistsError):  # another process has just made it: its lock decides
            return emm.create(
                path, dim=shape.dim, rank=min(rank, key_dim), key_dim=key_dim, rule="preconditioned", ridge=RIDGE
            )
        return emm.open(path, mode="a")

    # --- another memory in the place of one ------------------------------------------------------

    def stage(self, run: Run, like: emm.Memory, key_dim: int) -> emm.Memory:
        """An empty memory for keys of another width beside a run's own, open for append; `settle` puts it in place."""
        return emm.create(
            str(exchange.make_stage(self.path(run))),
            dim=like.dim,
            rank=min(like.rank, key_dim),
            key_dim=key_dim,
            rule=like.rule,
            ridge=like.ridge,
            metadata=like.metadata,
        )

    def settle(self, run: Run) -> None:
        """Put a staged memory in place where the catalog names it; for whoever opens memories by their place."""
        if run.memory_uuid is not None:
            exchange.finish(self.path(run), run.memory_uuid)

    def discard_staged(self, run: Run) -> None:
        """Remove what was staged for a run and never adopted; not what another process is making just now."""
        path = exchange.staged(self.path(run))
        if path.is_dir():
            try:
                with contextlib.suppress(emm.FormatError, emm.CorruptionError, emm.MissingError):
                    emm.open(str(path), mode="a").close()
            except emm.FencedError:
                return
            if exchange.identity_of(path) != self._catalog.runs(run.scope)[0].memory_uuid:
                exchange.discard(self.path(run))

    def remade(self, run: Run, memory: emm.Memory, key_dim: int) -> emm.Memory:
        """A run's memory, made anew for keys of another width; for one that holds nothing yet. Closes the old one."""
        if memory.write_count:
            raise CatalogError(
                f"the memory of {run.scope} has keys of another width than its embedder's vectors",
                expected=key_dim,
                found=memory.key_dim,
            )
        with self.stage(run, memory, key_dim) as successor:
            self._catalog.bind_memory(run, successor.uuid)
        memory.close()
        return self.open_writer(self._catalog.runs(run.scope)[0])

    def reader(self, run: Run, lsn: int) -> emm.Memory | None:
        """The run's memory for reading, at `lsn` or later; None before its first write."""
        held = self._readers.get(run.scope_id)
        if held is not None and held.lsn >= lsn and held.uuid == run.memory_uuid:
            return held
        self.release(run)
        if run.memory_uuid is None:
            return None
        memory = self.open_reader(run)
        self._readers[run.scope_id] = memory
        self.notices |= dict.fromkeys(f"{run.scope}: {notice}" for notice in memory.notices)
        return memory

    def open_reader(self, run: Run) -> emm.Memory:
        """The memory that the catalog names, for reading, wherever it lies; the caller closes it."""
        for _ in range(MOVES_MET_MAX):
            with contextlib.suppress(emm.MissingError):  # it was moved between our look and our opening
                return self._open_named(run)
        return self._open_named(run)

    def _open_named(self, run: Run) -> emm.Memory:
        memory = emm.open(str(self.named_path(run)), mode="r")
        try:
            _check_identity(memory, run)
        except BaseException:
            memory.close()
            raise
        return memory

    def named_path(self, run: Run) -> Path:
        """Where the memory lies that the catalog names: at `path`, or beside it where an exchange was cut short."""
        path = self.path(run)
        beside = exchange.staged(path)
        return beside if beside.is_dir() and exchange.identity_of(beside) == run.memory_uuid else path

    def place(self, scope: Scope) -> Path:
        """Where the memory of a scope belongs."""
        return self._root / scope.memory_path

    def rollup_reader(self, scope: Scope, uuid: str) -> emm.Memory | None:
        """A scope's roll-up for reading; None, with a notice, where that very memory cannot be had."""
        held = self._rollups.get(scope)
        if held is not None and held.uuid == uuid:
            return held
        self.release_rollup(scope)
        try:
            memory = emm.open(str(self.place(scope)), mode="r")
        except emm.EmmError as error:
            self.notices[f"the roll-up of {scope} is not used: {error}"] = None
            return None
        if memory.uuid != uuid:
            memory.close()
            self.notices[f"the roll-up of {scope} is not used: it is not the one that the catalog describes"] = None
            return None
        self._rollups[scope] = memory
        return memory

    def open_present(self, run: Run) -> emm.Memory | None:
        """The run's memory for writing, whatever it holds, or None where there is none that can be opened.

        For who is about to replace it. `FencedError` when another writer holds it.
        """
        self.release(run)
        self.settle(run)
        try:
            return emm.open(str(self.path(run)), mode="a")
        except emm.FencedError:
            raise
        except emm.EmmError:  # missing, or damaged beyond opening
            return None

    def discard(self, run: Run, memory: emm.Memory | None) -> None:
        """Take away the memory of a run that the catalog has marked as discarded; `memory` holds its lock."""
        self.release(run)
        exchange.discard(self.path(run))
        remove_tree_durably(self.path(run))
        if memory is not None:
            with contextlib.suppress(emm.EmmError):  # there is nothing left to checkpoint
                memory.close()
        with self._catalog.transaction():
            self._catalog.executemany("DELETE FROM discarded WHERE scope_id = ?", [(run.scope_id,)])

    def finish_discarding(self, run: Run) -> None:
        """Go on where a process died that had discarded the run's memory in the catalog, and not yet on disk."""
        if self._catalog.query("SELECT 1 FROM discarded WHERE scope_id = ?", (run.scope_id,)):
            self.discard(run, self.open_present(run))

    def release(self, run: Run) -> None:
        held = self._readers.pop(run.scope_id, None)
        if held is not None:
            held.close()

    def release_rollup(self, scope: Scope) -> None:
        held = self._rollups.pop(scope, None)
        if held is not None:
            held.close()

    def close(self) -> None:
        for memory in (*self._readers.values(), *self._rollups.values()):
            memory.close()
        self._readers.clear()
        self._rollups.clear()


def _check_identity(memory: emm.Memory, run: Run) -> None:
    if memory.uuid != run.memory_uuid:
        raise CatalogError(f"the memory of {run.scope} was exchanged", expected=run.memory_uuid, found=memory.uuid)


def recall(memories: Sequence[emm.Memory], key: Float32Array) -> Float32Array:
    """(dim,) what several memories recall for one key (key_dim,), each weighted by the strength of its recall."""
    recalled = [memory.recall(key[None, :])[0].astype(np.float64) for memory in memories]
    norms = np.array([np.linalg.norm(vector) for vector in recalled])
    if not recalled or norms.sum() == 0.0:
        return np.zeros(memories[0].dim if memories else 0, np.float32)
    blended = np.tensordot(norms / norms.sum(), np.stack(recalled), 1)
    return np.ascontiguousarray(blended, np.float32)
