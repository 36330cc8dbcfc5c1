"""Whether everything an archive derived is there and belongs to its catalog.

Purpose: say what a rebuild would mend, and what it could not. Invariants: reads and never writes; the memories' own
bytes are `emm-verify`'s to check, here is only whether each is the one that the catalog describes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import emm
from emm_engine.catalog.checks import DERIVED, Finding, check_tables, check_texts
from emm_engine.catalog.forgotten import Forgettings
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.search import CatalogReader
from emm_engine.catalog.store import Catalog, Run
from emm_engine.catalog.waiting import WaitingList
from emm_engine.embeddings.provider import Embedder
from emm_engine.errors import EmbedderError
from emm_engine.vectors.store import VectorStore

Models = Callable[[Run], tuple[Embedder, VectorStore]]


def check(catalog: Catalog, memory_path: Callable[[Run], Path], models: Models) -> Iterator[Finding]:
    """Findings as they are met: texts first, then tables, then each run."""
    yield from check_texts(catalog)
    yield from check_tables(catalog)
    for forgetting in Forgettings(catalog).unfinished():
        where = f"forgetting {forgetting.forgetting_id}"
        yield Finding("forgetting-unfinished", DERIVED, where, f"interrupted in state {forgetting.state}")
    for run in catalog.all_runs():
        yield from _check_memory(catalog, run, memory_path(run))
        yield from _check_vectors(catalog, run, models)


def _check_memory(catalog: Catalog, run: Run, path: Path) -> Iterator[Finding]:
    where = f"run {run.scope}"
    if run.memory_uuid is None:
        return
    try:
        with emm.open(str(path)) as memory:
            uuid, write_count, lsn = memory.uuid, memory.write_count, memory.lsn
    except emm.EmmError as error:
        missing = isinstance(error, emm.MissingError)
        code, found = ("memory-missing", "there is none") if missing else ("memory-damaged", str(error))
        yield Finding(code, DERIVED, where, found)
        return
    expected = PairLedger(catalog, run).expected_write_count()
    intended = catalog.query("SELECT 1 FROM batches WHERE scope_id = ? AND lsn IS NULL", (run.scope_id,))
    if uuid != run.memory_uuid:
        yield Finding("memory-exchanged", DERIVED, where, f"its memory is {run.memory_uuid}, this is {uuid}")
    elif write_count != expected and not intended:  # an interrupted batch is the next ingest's to settle
        found = f"the catalog says {expected} pairs, the memory holds {write_count} at lsn {lsn}"
        yield Finding("memory-behind", DERIVED, where, found)


def _check_vectors(catalog: Catalog, run: Run, models: Models) -> Iterator[Finding]:
    where = f"run {run.scope}"
    if catalog.embedder(run.scope.tenant, run.scope.domain) is None:
        return
    try:
        _, vectors = models(run)
    except EmbedderError as error:
        yield Finding("model-missing", DERIVED, f"domain {run.scope.tenant}:{run.scope.domain}", str(error))
        return
    hashes = CatalogReader(catalog, run.tenant_id, [run]).text_hashes(run.scope_id)
    pending = {*PairLedger(catalog, run).pending(len(hashes)), *WaitingList(catalog, run).refused()}
    n_missing = len(vectors.missing(str(run.scope), {i: h for i, h in hashes.items() if i not in pending}))
    if n_missing:
        yield Finding("vectors-missing", DERIVED, where, f"{n_missing} of {len(hashes)} passages have no vector")
