"""Before and after: what is measured of a memory, and whether a candidate may take its place.

Purpose: the facts that decide about a swap, and the word by which the next dream knows that nothing is new. Invariants:
the same probes are asked before and after; a candidate that answers them worse, or more stale labels, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import emm
from emm_engine.catalog.cycles import Cycle, Facts
from emm_engine.catalog.store import Catalog, Run
from emm_engine.dream.kept import KeptPairs
from emm_engine.dream.probes import Recall, measure, probes_of, surprise
from emm_engine.dream.stale import stale_answers


def probed_before(memory: emm.Memory, pairs: KeptPairs, cycle_id: int, probed: Sequence[int]) -> Facts:
    """Recall and surprise of the memory that is; nothing where no pair can be probed."""
    probes = probes_of(pairs, cycle_id, probed, memory.dim)
    if probes is None:
        return {}
    return {"recall_before": asdict(measure(memory, probes)), "surprise_before": surprise(memory, probes)}


def measured(memory: emm.Memory, pairs: KeptPairs, catalog: Catalog, run: Run, cycle: Cycle) -> Facts:
    """The same of a candidate (or of the memory, where nothing was to be done), and its stale answers."""
    found: Facts = {"stale_after": stale_answers(memory, pairs, catalog, run)}
    if "recall_before" in cycle.facts:
        probes = probes_of(pairs, cycle.cycle_id, cycle.facts["probed"], memory.dim)
        if probes is not None:
            found |= {"recall_after": asdict(measure(memory, probes)), "surprise_after": surprise(memory, probes)}
    return found


def why_worse(facts: Facts) -> str:
    """Why the candidate may not replace the memory; empty when it may."""
    before, after = facts.get("recall_before"), facts.get("recall_after")
    if before is not None and after is not None and Recall(**after).worse_than(Recall(**before)):
        return (
            f"the probes got worse: top-1 {before['top1']:.3f} to {after['top1']:.3f}, "
            f"cosine {before['cosine']:.3f} to {after['cosine']:.3f}"
        )
    if facts["stale_after"][0] > facts["stale_before"][0]:
        return f"stale answers rose from {facts['stale_before'][0]} to {facts['stale_after'][0]}"
    return ""


def seen_of(lsn: int, pending: int, stale: int, staged: int, extractor: str, writes: int | None) -> str:
    """What a dream depends on, in a word: equal words, nothing new. Another budget of writes may do more."""
    return f"lsn {lsn}, {pending} pending, {stale} stale, {staged} staged, extractor {extractor}, writes {writes}"
