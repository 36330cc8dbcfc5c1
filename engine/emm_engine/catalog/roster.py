"""The passages of a scope as arrays: which there are, whose they are, and which are hidden.

Purpose: what every question needs of every passage, without asking SQLite for a hundred thousand rows each time.
Invariants: a roster says what the catalog said at its version; passages never change and their ids only grow, so a new
version costs the new passages and the hidden ones, and everything where passages have gone or moved; only passages of
one tenant's runs are in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emm_engine.catalog.database import Row
from emm_engine.catalog.store import Catalog, Run, marks

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]  # indices into a roster


@dataclass(frozen=True, slots=True)
class Roster:
    """n passages in the order of their ids, which is the order in which a document has them."""

    version: tuple[int, int]  # of the catalog
    runs: tuple[int, ...]  # their scope ids
    ids: Ids  # (n,) ascending
    scope_ids: Ids  # (n,) the run of each
    document_ids: Ids  # (n,)
    text_hashes: npt.NDArray[np.uint64]  # (n,) of what was embedded
    lengths: Ids  # (n,) characters
    hidden: Mask  # (n,) of a superseded document

    def __len__(self) -> int:
        return len(self.ids)

    def places(self, ids: Ids) -> tuple[Places, Mask]:
        """Where these ids stand, and which of them are there at all: places[mask] are valid."""
        places = np.minimum(np.searchsorted(self.ids, ids), max(len(self.ids) - 1, 0))
        known = self.ids[places] == ids if len(self.ids) else np.zeros(len(ids), bool)
        return places, known

    def mask(self, ids: Ids) -> Mask:
        """(n,) true for the passages with these ids."""
        found = np.zeros(len(self.ids), bool)
        places, known = self.places(ids)
        found[places[known]] = True
        return found


class Rosters:
    """The rosters of an archive's scopes, each brought up to date when it is asked for."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._held: dict[tuple[int, ...], Roster] = {}

    def of(self, runs: Sequence[Run]) -> Roster:
        """The roster of these runs of one tenant, as the catalog has them now."""
        (tenant_id,) = {run.tenant_id for run in runs}
        key = tuple(run.scope_id for run in runs)
        version = self._catalog.version()
        held = self._held.get(key)
        if held is None or held.version != version:
            held = self._read(tenant_id, key, version, held)
            self._held[key] = held
        return held

    def _read(
        self, tenant_id: int, scope_ids: tuple[int, ...], version: tuple[int, int], held: Roster | None
    ) -> Roster:
        last = int(held.ids[-1]) if held is not None and len(held) else 0
        rows = self._catalog.query(
            "SELECT passage_id, scope_id, document_id, text_hash, passages.end - passages.start FROM passages "
            f"WHERE tenant_id = ? AND scope_id IN ({marks(scope_ids)}) AND passage_id > ? ORDER BY passage_id",
            (tenant_id, *scope_ids, last),
        )
        columns = [_column(rows, at) for at in range(5)]
        if held is not None:
            if self._tally(tenant_id, scope_ids) != (len(held) + len(rows), int(held.ids.sum() + columns[0].sum())):
                return self._read(tenant_id, scope_ids, version, None)  # some have been forgotten, or moved
            known = (held.ids, held.scope_ids, held.document_ids, held.text_hashes.view(np.int64), held.lengths)
            columns = [np.concatenate(pair) for pair in zip(known, columns, strict=True)]
        ids, owners, documents, hashes, lengths = columns
        hidden = np.isin(ids, self._hidden(tenant_id, scope_ids))
        return Roster(version, scope_ids, ids, owners, documents, hashes.view(np.uint64), lengths, hidden)

    def _tally(self, tenant_id: int, scope_ids: tuple[int, ...]) -> tuple[int, int]:
        """(how many passages, the sum of their ids): both are as expected where none but new ones have come."""
        ((count, total),) = self._catalog.query(
            "SELECT count(*), coalesce(sum(passage_id), 0) FROM passages "
            f"WHERE tenant_id = ? AND scope_id IN ({marks(scope_ids)})",
            (tenant_id, *scope_ids),
        )
        return int(count), int(total)

    def _hidden(self, tenant_id: int, scope_ids: tuple[int, ...]) -> Ids:
        rows = self._catalog.query(
            "SELECT passage_id FROM documents JOIN passages USING(document_id) WHERE documents.tenant_id = ? "
            f"AND documents.scope_id IN ({marks(scope_ids)}) AND documents.superseded = 1",
            (tenant_id, *scope_ids),
        )
        return _column(rows, 0)


def _column(rows: Sequence[Row], at: int) -> Ids:
    return np.fromiter((row[at] for row in rows), np.int64, len(rows))
