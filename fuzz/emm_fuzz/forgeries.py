"""Every swap, every replay of something older and every edit that keeps all CRC-32 right: who notices which.

Purpose: the promise "nothing that fits its checksums is believed in the wrong place", by kind and counted, and the line
beyond which no reader can go: `HELD_BY_A_CRC_ALONE`, and whoever computes every SHA-256 and chain value anew.
Invariants: noticed means that verify says damaged or refused; whatever opens must open as it was acknowledged.

    python -m emm_fuzz.forgeries
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from emm.verify.verdict import Verdict
from emm_fuzz import edits, swaps
from emm_fuzz.cuts import whole_lengths
from emm_fuzz.examine import DAMAGE, Examiner
from emm_fuzz.specimens import Specimen, branch, closed, killed, taken_over, wide
from emm_fuzz.swaps import Forgery

HELD_BY_A_CRC_ALONE: Final = frozenset(
    {
        "record header: synced_through",  # left out of the chain, so that a commit keeps its value when logged again
        "segment header: version_minor",  # a reader must take a higher one
        "segment header: floor_generation",
        "segment header: previous_bytes",
        "segment header: writer_nonce",
    }
)
"""Fields that an edit with the right CRC-32 can change unseen. None of them is part of the state."""


@dataclass(slots=True)
class Judged:
    """What was made of forgeries, by kind."""

    made: Counter[str] = field(default_factory=Counter)
    noticed: Counter[str] = field(default_factory=Counter)
    opened: Counter[str] = field(default_factory=Counter)
    unnoticed: list[tuple[str, str]] = field(default_factory=list)  # (kind, label)
    wrong: list[str] = field(default_factory=list)  # somebody opened what was never acknowledged
    promises: list[str] = field(default_factory=list)  # a repair that verify names does not work


def judge(examiner: Examiner, forgeries: Iterable[Forgery]) -> Judged:
    """Examine each. Exceptions other than refusals come through: they are bugs."""
    judged = Judged()
    with examiner.ready():
        for each in forgeries:
            found = examiner.examine(each.files)
            judged.made[each.kind] += 1
            judged.opened[each.kind] += not isinstance(found.reader, str)
            allowed = {examiner.specimen.state}
            if found.verdict in (*DAMAGE, Verdict.REFUSED):
                judged.noticed[each.kind] += 1
            elif found.verdict is Verdict.TORN and is_beyond_the_proof(examiner.specimen, each):
                judged.noticed[each.kind] += 1
                allowed = {before_last(examiner.specimen)}
            else:
                judged.unnoticed.append((each.kind, each.label))
            where = f"{each.kind}, {each.label}"
            if (fault := examiner.fault_of_opening(found, allowed)) is not None:
                judged.wrong.append(f"{where}: {fault}")
            if (fault := examiner.fault_of_promises(each.files, found)) is not None:
                judged.promises.append(f"{where}: {fault}")
    return judged


def is_beyond_the_proof(specimen: Specimen, forgery: Forgery) -> bool:
    """True when nothing but the last batch of an open end was touched: it may look torn, for nothing proves it."""
    if not specimen.is_open:
        return False
    name = specimen.last_segment
    proven = sorted(whole_lengths(specimen, name))[-2]
    rest = all(forgery.files.get(each) is data for each, data in specimen.files.items() if each != name)
    return rest and forgery.files[name][:proven] == specimen.files[name][:proven]


def before_last(specimen: Specimen) -> tuple[int, str]:
    """The state without the last batch of an open end."""
    ends = whole_lengths(specimen, specimen.last_segment)
    return ends[sorted(ends)[-2]]


def moved(specimen: Specimen) -> Iterator[Forgery]:
    """Everything in the wrong place."""
    for kind in (
        swaps.block_swaps,
        swaps.record_swaps,
        swaps.batch_swaps,
        swaps.batch_edits,
        swaps.older_segments,
        swaps.files_exchanged,
    ):
        yield from kind(specimen)


def edited(specimen: Specimen) -> Iterator[Forgery]:
    """Every edit of one field, every CRC-32 right."""
    for kind in (edits.record_header_edits, edits.payload_edits, edits.segment_header_edits):
        yield from kind(specimen)
    if not specimen.is_open:  # a snapshot is the same thing however the journal beside it ends
        yield from edits.head_edits(specimen)
        yield from edits.block_edits(specimen)


def everything() -> Iterator[tuple[Specimen, Iterator[Forgery]]]:
    """All forgeries of all specimens."""
    for specimen in (closed(), killed()):
        yield specimen, moved(specimen)
        yield specimen, edited(specimen)
    yield taken_over(), moved(taken_over())
    yield wide(), swaps.block_swaps(wide())
    ours, theirs = branch(closed(), 8), branch(closed(), 9)
    yield ours, swaps.from_branch(ours, theirs)
    yield closed(), edits.chained_edits(closed())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m emm_fuzz.forgeries", description=(__doc__ or "").partition("\n")[0]
    )
    parser.parse_args(arguments)
    started = time.monotonic()
    rows = ["| memory | kind | made | noticed | opens as acknowledged |", "|---|---|---:|---:|---:|"]
    bad: list[str] = []
    made = noticed = held = 0
    for specimen, forgeries in everything():
        judged = judge(Examiner(specimen), forgeries)
        for kind in sorted(judged.made):
            counts = (judged.made[kind], judged.noticed[kind], judged.opened[kind])
            rows.append(f"| {specimen.name} | {kind} | " + " | ".join(f"{each:,}" for each in counts) + " |")
        held += sum(kind in HELD_BY_A_CRC_ALONE for kind, _ in judged.unnoticed)
        made, noticed = made + judged.made.total(), noticed + judged.noticed.total()
        bad += [f"not noticed: {kind}, {label}" for kind, label in judged.unnoticed if kind not in HELD_BY_A_CRC_ALONE]
        bad += judged.wrong + judged.promises
    print("\n".join(rows))
    seconds = time.monotonic() - started
    print(f"{made} forgeries, {noticed} noticed, {held} of fields that only a CRC-32 holds; {seconds:.0f} s")
    print("\n".join(f"VIOLATION {each}" for each in bad) or "no violations")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
