"""All mutants, in one order, each with the test outside the fuzz group that is on record to see it as well."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from emm_fuzz import REPOSITORY
from emm_fuzz.jsonl import read_lines
from emm_fuzz.mutants.checksums import CHECKSUMS
from emm_fuzz.mutants.failing import FAILING
from emm_fuzz.mutants.ordering import ORDERING
from emm_fuzz.mutants.planting import Mutant
from emm_fuzz.mutants.proving import PROVING
from emm_fuzz.mutants.reading import READING
from emm_fuzz.mutants.replaying import REPLAYING
from emm_fuzz.mutants.snapshots import SNAPSHOTS
from emm_fuzz.mutants.syncing import SYNCING

RECORD: Final = REPOSITORY / "docs" / "durability" / "mutants.jsonl"  # written by `emm_fuzz.mutants.outside`


def _seen_by() -> dict[tuple[str, str], str]:
    """(name, hash) of a mutant → the test that sees it."""
    return {(each["mutant"], each["hash"]): each["seen_by"] or "" for each in read_lines(RECORD)}


_SEEN_BY: Final = _seen_by()

MUTANTS: Final[tuple[Mutant, ...]] = tuple(
    replace(each, also_seen_by=_SEEN_BY.get((each.name, each.hash), ""))
    for each in (
        *SYNCING,
        *FAILING,
        *PROVING,
        *ORDERING,
        *REPLAYING,
        *READING,
        *SNAPSHOTS,
        *CHECKSUMS,
    )
)
