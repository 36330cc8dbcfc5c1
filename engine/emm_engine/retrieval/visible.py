"""Which passages of a roster an answer may be taken from.

Purpose: filters as masks, so that each recall can leave the others out before it ranks. Invariants: without a filter
what is hidden is what is superseded; `as_of` shows the versions of its moment instead; every filter takes away, none
adds; a mask is kept as long as the catalog does not change.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from emm_engine.catalog.roster import Mask, Roster
from emm_engine.catalog.search import CatalogReader
from emm_engine.documents import AFTER_ALL, end_of
from emm_engine.retrieval.question import Filters

KEPT_MAX = 16


class Visible:
    """The masks of the filters asked last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[tuple[int, ...], Filters], tuple[Roster, Mask]] = OrderedDict()

    def of(self, roster: Roster, filters: Filters, reader: CatalogReader) -> Mask:
        """(n,) true where a passage passes all filters."""
        key = (roster.runs, filters)
        kept = self._kept.get(key)
        if kept is None or kept[0] is not roster:
            kept = (roster, _mask(roster, filters, reader))
            self._kept[key] = kept
            while len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return kept[1]


def _mask(roster: Roster, filters: Filters, reader: CatalogReader) -> Mask:
    found = []
    if filters.as_of is None:
        mask = ~roster.hidden
    else:
        mask = np.ones(len(roster), bool)
        found.append(reader.known_at(end_of(filters.as_of)))
    if filters.since is not None or filters.until is not None:
        until = end_of(filters.until) if filters.until is not None else AFTER_ALL
        found.append(reader.dated(filters.since or "", until))
    if filters.source is not None:
        found.append(reader.from_sources(filters.source, filters.takes))
    found += [reader.labelled(label) for label in filters.labels]
    for ids in found:
        mask = mask & roster.mask(np.array(ids, np.int64))
    return mask
