"""Memories of other shapes and rules, and merges: the same promise, looked at in the same way.

Red when a snapshot of several blocks is torn, when a rule without P or a memory without projection is recovered to
another state, when a merge harms its sources or is found in part, or when an old line no longer means what it meant.
"""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from emm.codec.header import payload_bytes
from emm.layout import BLOCK_BYTES, Flag, Rule
from emm_fuzz.cases import OPERATIONS, Case, advance, applicable, first_moment, random_workload, workloads
from emm_fuzz.crash_states import LIGHT, Spec
from emm_fuzz.explore import Explorer, report
from emm_fuzz.geometry import DEFAULT, GEOMETRIES, rank_max

LIVES = {
    "blocks": ("write", "checkpoint", "write-large", "kill"),
    "wide": ("write", "resolve 1", "write 3 0.5", "bare", "forget", "unlearn"),
    "square": ("write", "merge", "unlearn", "close"),
    "delta": ("write 3 0.5", "decay", "forget", "resolve", "kill"),
    "outer": ("write", "decay", "forget", "checkpoint", "kill", "refused"),
}


def held(explorer: Explorer) -> None:
    assert explorer.tally.violations == [], report(explorer.tally, 0.0)


@pytest.mark.parametrize("geometry", LIVES)
def test_every_crash_is_survived_in_every_geometry(geometry: str) -> None:
    explorer = Explorer(LIGHT)
    explorer.run(Case(LIVES[geometry], geometry=geometry))
    held(explorer)
    assert explorer.tally.distinct > 30 and explorer.tally.nested.aftermaths > 5
    assert explorer.tally.nested.leftovers == 0


def test_geometries_are_what_they_are_for() -> None:
    blocks = GEOMETRIES["blocks"].parameters
    assert payload_bytes(blocks) > 3 * BLOCK_BYTES
    assert {each.parameters.rule for each in GEOMETRIES.values()} == set(Rule)
    square = GEOMETRIES["square"].parameters
    assert square.rank == square.key_dim == rank_max(square)
    assert next(iter(GEOMETRIES)) == DEFAULT


@pytest.mark.parametrize(
    "workload",
    [("merge",), ("write-large", "merge", "write", "unlearn"), ("forget", "merge"), ("resolve", "merge", "merge")],
    ids=" ".join,
)
def test_a_merge_is_there_as_a_whole_or_not_at_all_and_harms_nothing(workload: tuple[str, ...]) -> None:
    workload = workload if applicable(workload) else ("write", *workload)
    explorer = Explorer(LIGHT)
    explorer.run(Case(workload))
    held(explorer)
    assert explorer.tally.nested.aftermaths > 10 and explorer.tally.nested.leftovers == 0


def test_a_merged_memory_takes_out_what_its_sources_wrote_and_never_solves_anew() -> None:
    """Its journal cannot be asked about older pairs, and does not hold them."""
    moment = first_moment(GEOMETRIES[DEFAULT].parameters)
    for place, word in enumerate(("write 2", "merge 3")):
        found = advance(moment, word, place)
        assert found is not None
        moment = found[0]
    assert (moment.lsn, len(moment.pairs), moment.n_foreign) == (0, 5, 5)
    assert moment.matrix.flags == Flag.FOREIGN_PAIRS
    assert advance(moment, "resolve", 2) is None
    found = advance(moment, "unlearn 4", 2)
    assert found is not None and found[1] is not None
    assert found[1].rank == 16 and found[0].n_foreign == len(found[0].pairs) == 4


@pytest.mark.parametrize(
    "workload", [("decay", "merge"), ("bare", "merge"), ("write", "merge", "resolve"), ("write", "decay", "unlearn 1")]
)
def test_what_the_library_refuses_after_a_merge_or_a_decay_is_no_workload(workload: tuple[str, ...]) -> None:
    assert not applicable(workload)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_workloads_of_every_geometry_can_be_drawn_and_enumerated(geometry: str) -> None:
    drawn = random_workload(np.random.default_rng(3), 6, geometry)
    assert len(drawn) == 6 and applicable(drawn, geometry)
    firsts = {words[0] for words in workloads(1, geometry=geometry)}
    never = {"unlearn", "forget"} | ({"bare", "resolve"} if geometry in ("square", "outer") else set())
    never |= {"merge"} if geometry in ("delta", "outer") else set()
    assert firsts == set(OPERATIONS) - never
    assert all(applicable(each, geometry) for each in islice(workloads(2, geometry=geometry), 5))


def test_a_line_without_a_geometry_means_the_first_one() -> None:
    old = Case.from_json('{"workload":["write"],"seed":0,"point":3,"spec":[512,1,"short",null]}')
    assert old == Case(("write",), point=3, spec=Spec(512, 1)) and old.geometry == DEFAULT
    assert "geometry" not in old.to_json()
    other = Case(("write 3 0.5", "merge"), geometry="blocks")
    assert Case.from_json(other.to_json()) == other and '"geometry":"blocks"' in other.to_json()


def test_a_pair_written_after_a_resolve_is_taken_out_at_the_rank_it_was_written_at() -> None:
    """Found by the state machine's words, in the first geometry with three ranks.

    A handle that has solved its memory anew goes on with a state that still counts every pair as written at the present
    rank. After a bare expansion it takes a pair out at the new rank, while the journal says the old one: the handle's
    state is not what recovery gives, and its next checkpoint is one that verify calls lost. Or, as with a plain write
    gate, it refuses what a handle that was opened afterwards does.
    """
    for word in ("write 1 0.0009765625", "write 3"):
        explorer = Explorer(LIGHT)
        explorer.run(Case(("resolve 1", word, "bare", "unlearn"), geometry="wide"))
        held(explorer)
