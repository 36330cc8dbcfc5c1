"""One run from one archive into another: rows, memory, vectors.

Purpose: the step that export and import repeat. Order: the memory is copied to a hidden place in the target, checked;
one transaction then makes the run known there, with all its rows and where its memory lies; the memory moves into
place; vectors follow. Invariants: a run is in the target whole or not at all, and a kill after the transaction leaves
what any move leaves; the copy's bytes are the original's, every checksum in them is verified, and its identity
and count of pairs are those the ledger names; a run that is written to meanwhile is refused; vectors are taken only
for texts of the same hash.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

import emm
from emm import ExistsError
from emm_engine.catalog.cycles import Cycles
from emm_engine.catalog.database import Row
from emm_engine.catalog.material import own_keys
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.relocations import Relocations
from emm_engine.catalog.search import CatalogReader
from emm_engine.catalog.store import Catalog, Run
from emm_engine.catalog.transfer import Transfer
from emm_engine.documents import text_hash
from emm_engine.embeddings.provider import EmbedderFolder
from emm_engine.errors import CatalogError, EmbedderError
from emm_engine.files import copy_folder, make_folder
from emm_engine.hierarchy import Scope
from emm_engine.matrices.carrying import Carrying
from emm_engine.matrices.shelf import MatrixShelf
from emm_engine.models.keys import key_namespace
from emm_engine.reports import OnProgress, Steps
from emm_engine.vectors.store import VectorStore

ARRIVING: Final = ".arriving-"  # begins no name that a scope can have
EMBEDDERS: Final = "embedders"
VECTORS: Final = 4096  # added at a time
UNIT_ROUNDING: Final = 1e-3
UNSIGNED: Final = 0xFFFF_FFFF_FFFF_FFFF
DIM_MAX: Final = 1 << 16  # numbers in a vector
_FINGERPRINT: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Side:
    """An open archive, as far as runs are copied out of it or into it."""

    root: Path
    catalog: Catalog
    shelf: MatrixShelf
    carrying: Carrying
    store: Callable[[Run], VectorStore | None]


@dataclass(frozen=True, slots=True)
class CopiedRun:
    """What became of one run."""

    source: str
    target: str
    outcome: str  # copied, or present: it was there already, as it is here
    documents: int  # superseded ones included
    passages: int
    pairs: int  # in its matrix
    lsn: int
    digest: str  # of its memory; empty = it has none
    memory_bytes: int


class Copying:
    """Copies runs of one archive into another."""

    def __init__(self, source: Side, target: Side, progress: OnProgress | None) -> None:
        self._source = source
        self._target = target
        self._steps = Steps(progress)

    def run(self, run: Run, into: Scope) -> CopiedRun:
        """Copy a run under a name; the target's domain is ours. `FencedError` while it is written to."""
        if self.is_present(run, into):
            (there,) = self._target.catalog.runs(into)
            self._copy_vectors(run, there)
            return self._report(run, into, "present")
        before = _ledger(self._source.catalog, run)
        self._copy_embedder(run.scope, into)
        with self._arriving(run, into, before) as memory:
            with self._source.catalog.snapshot(), self._target.catalog.transaction():
                if _ledger(self._source.catalog, run) != before:
                    raise _written_to(run)
                there = self._target.catalog.make_run(into)
                self._steps.begin("rows", None)
                Transfer(self._source.catalog, self._target.catalog, run, there, self._steps.add).copy()
                if memory is not None:
                    assert run.memory_uuid is not None
                    self._target.catalog.name_memory(there, run.memory_uuid)
                    Relocations(self._target.catalog).arrive(there, into.memory_path.parent.parent / memory.name)
            self._target.carrying.end(Relocations(self._target.catalog).in_domain(into))
        self._copy_vectors(run, there)
        return self._report(run, into, "copied")

    def is_present(self, run: Run, into: Scope) -> bool:
        """Whether the run is there already, as it is here; `ExistsError` where something else has its name."""
        found = self._target.catalog.runs(into)
        if not found:
            if self._target.shelf.place(into).exists():
                raise ExistsError("there is a memory under that name that no run has", found=str(into))
            return False
        here, there = _state(self._source.catalog, run), _state(self._target.catalog, found[0])
        if here != there:
            raise ExistsError(
                f"there is another run under the name {into}, or this one at another state",
                expected=f"memory {here[0]} at lsn {here[1]} with {here[2]} documents",
                found=f"memory {there[0]} at lsn {there[1]} with {there[2]} documents",
            )
        return True

    def _report(self, run: Run, into: Scope, outcome: str) -> CopiedRun:
        (there,) = self._target.catalog.runs(into)
        _, lsn, n_documents = _state(self._target.catalog, there)
        ((n_passages,),) = self._target.catalog.query(
            "SELECT count(*) FROM passages WHERE scope_id = ?", (there.scope_id,)
        )
        n_pairs = PairLedger(self._target.catalog, there).progress().absorbed
        digest, n_bytes = "", 0
        if there.memory_uuid is not None:
            path = self._target.shelf.path(there)
            n_bytes = sum(file.stat().st_size for file in path.iterdir())
            with emm.open(str(path)) as memory:
                digest = memory.digest
        return CopiedRun(str(run.scope), str(into), outcome, n_documents, n_passages, n_pairs, lsn, digest, n_bytes)

    # --- the memory ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _arriving(self, run: Run, into: Scope, before: list[Row]) -> Iterator[Path | None]:
        """A checked copy of the run's memory at a hidden place of the target; None where it has none."""
        if run.memory_uuid is None:
            yield None
            return
        domain = self._target.root / into.memory_path.parent.parent
        make_folder(domain)
        place = domain / f"{ARRIVING}{secrets.token_hex(8)}"
        try:
            origin = self._source.shelf.named_path(run)
            self._steps.begin("memory", sum(file.stat().st_size for file in origin.iterdir()))
            try:
                copy_folder(origin, place, self._steps.add)
                self._check_memory(run, place)
            except (FileNotFoundError, emm.EmmError) as error:
                if isinstance(error, emm.EmmError) and _ledger(self._source.catalog, run) == before:
                    raise
                raise _written_to(run) from error  # its files were exchanged under our hands
            yield place
        finally:
            if place.exists() and not self._is_recorded(into, place):
                shutil.rmtree(place)

    def _is_recorded(self, into: Scope, place: Path) -> bool:
        records = Relocations(self._target.catalog).in_domain(into)
        return any(self._target.root / record.memory_from == place for record in records)

    def _check_memory(self, run: Run, place: Path) -> None:
        verdict = emm.verify(str(place)).verdict
        if verdict not in ("clean", "clean-unsealed"):
            raise CatalogError(f"the memory of {run.scope} is not whole", expected="clean", found=verdict)
        known = self._source.catalog.embedder(run.scope.tenant, run.scope.domain)
        ledger = PairLedger(self._source.catalog, run)
        with emm.open(str(place)) as memory:
            found = (memory.uuid, memory.key_dim if known is not None else None)
            expected = (run.memory_uuid, known[2] if known is not None else None)
            if found != expected or memory.write_count not in ledger.possible_write_counts():
                raise CatalogError(
                    f"the memory of {run.scope} is not the one that its catalog describes",
                    expected=f"{expected[0]} with {ledger.expected_write_count()} pairs",
                    found=f"{found[0]} with {memory.write_count} pairs",
                )

    # --- the embedder and its vectors ------------------------------------------------------------

    def require_embedder(self, scope: Scope, into: Scope) -> None:
        """`EmbedderError` where the target's domain has another embedder than the source's."""
        known = self._source.catalog.embedder(scope.tenant, scope.domain)
        there = self._target.catalog.embedder(into.tenant, into.domain)
        if known is not None and not (_FINGERPRINT.fullmatch(known[1]) and 0 < known[2] <= DIM_MAX):
            raise CatalogError("not an embedder", expected=f"up to {DIM_MAX} numbers", found=known[1][:80])
        if known is not None and there is not None and known != there:
            raise EmbedderError(
                f"{into.tenant}:{into.domain} was embedded by another model; under the name of another domain (--as) "
                "both keep theirs",
                expected=there[1],
                found=known[1],
            )

    def _copy_embedder(self, scope: Scope, into: Scope) -> None:
        known = self._source.catalog.embedder(scope.tenant, scope.domain)
        if known is not None and self._target.catalog.embedder(into.tenant, into.domain) is None:
            EmbedderFolder(self._source.root / EMBEDDERS).copy(known[1], EmbedderFolder(self._target.root / EMBEDDERS))

    def _copy_vectors(self, run: Run, there: Run) -> None:
        """What the target lacks; what the source lacks too is embedded when it is wanted."""
        ours, theirs = self._source.store(run), self._target.store(there)
        if ours is None or theirs is None:
            return
        theirs.forget_cached()
        copying = _Vectors(ours, theirs, self._steps)
        old, new = _text_hashes(self._source.catalog, run), _text_hashes(self._target.catalog, there)
        copying.copy(str(run.scope), str(there.scope), old, new)
        old, new = _key_hashes(self._source.catalog, run, old), _key_hashes(self._target.catalog, there, new)
        copying.copy(key_namespace(run), key_namespace(there), old, new)


class _Vectors:
    """Copies namespaces from store to store."""

    def __init__(self, source: VectorStore, target: VectorStore, steps: Steps) -> None:
        self._source = source
        self._target = target
        self._steps = steps

    def copy(self, namespace: str, into: str, old: dict[int, int], new: dict[int, int]) -> None:
        """The vectors of texts by {id: hash}, ids ascending, the nth there being the nth here."""
        if list(old.values()) != list(new.values()):
            return
        former = dict(zip(new, old, strict=True))
        lacking = set(self._source.missing(namespace, old).tolist())
        wanted = [each for each in self._target.missing(into, new).tolist() if former[each] not in lacking]
        self._steps.begin("vectors", len(wanted))
        for low in range(0, len(wanted), VECTORS):
            ids = np.array(wanted[low : low + VECTORS], np.int64)
            found, vectors = self._source.fetch(namespace, np.array([former[each] for each in ids.tolist()], np.int64))
            assert len(found) == len(ids)  # none of them is lacking
            lengths = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
            sound = lengths <= 1.0 + UNIT_ROUNDING  # NaN is not
            hashes = np.array([new[each] for each in ids.tolist()], np.uint64)
            self._target.add(into, ids[sound], vectors[sound], hashes[sound])
            self._steps.add(len(ids))


def _text_hashes(catalog: Catalog, run: Run) -> dict[int, int]:
    return CatalogReader(catalog, run.tenant_id, [run]).text_hashes(run.scope_id)


def _key_hashes(catalog: Catalog, run: Run, passages: dict[int, int]) -> dict[int, int]:
    keys = own_keys(catalog, run.tenant_id, list(passages))
    return {each: text_hash(keys[each]) & UNSIGNED for each in sorted(keys)}


def _written_to(run: Run) -> emm.FencedError:
    return emm.FencedError(f"{run.scope} is being written to", expected="no ingest at work")


def _ledger(catalog: Catalog, run: Run) -> list[Row]:
    """What the memory is held against; `FencedError` while a dream is exchanging what it holds."""
    if Cycles(catalog, run).is_torn():
        raise emm.FencedError(
            f"a dream of {run.scope} is at work or was interrupted", expected="none (emm ingest ends it)"
        )
    return catalog.query(
        "SELECT batch_id, kind, n_pairs, write_count_before, lsn FROM batches WHERE scope_id = ? ORDER BY batch_id",
        (run.scope_id,),
    )


def _state(catalog: Catalog, run: Run) -> tuple[str | None, int, int]:
    """(memory, newest commit, documents): what tells a run from another, and from itself at another time."""
    ((n_documents,),) = catalog.query("SELECT count(*) FROM documents WHERE scope_id = ?", (run.scope_id,))
    return run.memory_uuid, PairLedger(catalog, run).progress().lsn, n_documents


def sweep(side: Side, domain: Scope) -> None:
    """Remove what killed copies left in a domain, which is ours."""
    kept = {side.root / record.memory_from for record in Relocations(side.catalog).in_domain(domain)}
    for place in (side.root / domain.memory_path.parent).glob(f"{ARRIVING}*"):
        if place not in kept:
            shutil.rmtree(place)
