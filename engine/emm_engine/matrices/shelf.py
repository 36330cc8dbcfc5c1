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
from emm_engine.catalog.domains import Domains
from emm_engine.catalog.rollups import Rollups
from emm_engine.catalog.store import Catalog, Run
from emm_engine.embeddings.provider import Float32Array
from emm_engine.errors import CatalogError
from emm_engine.hierarchy import RIDGE, Scope
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
        try:
            memory = self._open_or_create(run)
        except emm.EmmError:
            self._carrying.require_settled(run)
            raise
        try:
            self._carrying.require_settled(run)
            current = self._catalog.runs(run.scope)[0]  # now under the lock: nobody else binds it
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
        rank = max(shape.rank, Rollups(self._catalog).rank_above(run.scope))  # so that it merges with its siblings
        with contextlib.suppress(emm.ExistsError):  # another process has just made it: its lock decides
            return emm.create(path, dim=shape.dim, rank=rank, key_dim=shape.key_dim, rule="preconditioned", ridge=RIDGE)
        return emm.open(path, mode="a")

    def reader(self, run: Run, lsn: int) -> emm.Memory | None:
        """The run's memory for reading, at `lsn` or later; None before its first write."""
        held = self._readers.get(run.scope_id)
        if held is not None and held.lsn >= lsn:
            return held
        self.release(run)
        if run.memory_uuid is None:
            return None
        memory = self.open_reader(run)
        try:
            _check_identity(memory, run)
        except BaseException:
            memory.close()
            raise
        self._readers[run.scope_id] = memory
        self.notices |= dict.fromkeys(f"{run.scope}: {notice}" for notice in memory.notices)
        return memory

    def open_reader(self, run: Run) -> emm.Memory:
        """The run's memory for reading, wherever it lies; the caller closes it."""
        for _ in range(MOVES_MET_MAX):
            with contextlib.suppress(emm.MissingError):  # it was moved between our look and our opening
                return emm.open(str(self.path(run)), mode="r")
        return emm.open(str(self.path(run)), mode="r")

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
