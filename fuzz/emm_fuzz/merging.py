"""The other memory of a merge, and what a merge is about: two sources that stay, one destination that appears.

Purpose: everything that the operation `merge` needs beside the memory under test. Invariants: the other memory is made
by the library, on a disk of its own, once for each shape and place, and lies durable beside ours; the destination has
a name that nothing else ever has; a merged memory says in its lineage that it is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import emm
from emm.layout import Flag, Origin
from emm.state import Parameters
from emm_fuzz.deterministic import deterministic
from emm_fuzz.model import PLACE_OTHER, Moment, State, advance, first_moment, other_moment
from emm_fuzz.places import Place, visible
from emm_fuzz.simulated_disk import SimulatedDisk
from emm_fuzz.simulated_os import mounted
from emm_fuzz.workload import perform


@dataclass(frozen=True, slots=True)
class Merge:
    """One merge: of the memory at `source` and another one, into `into`."""

    source: str
    other: str
    into: str
    other_state: Moment
    merged: Moment

    @classmethod
    def at(cls, place: int, source: str, before: Moment, merged: Moment) -> Merge:
        """The merge that is operation number `place` of its workload."""
        n_other = len(merged.pairs) - len(before.pairs)
        other = other_moment(before.parameters, place, n_other)
        return cls(source, f"/lab/other-{place}", f"/lab/merged-{place}", other, merged)

    def perform(self, memory: emm.Memory | str) -> emm.Memory:
        return emm.merge([memory, self.other], self.into)

    def places(self, source: Mapping[State | None, Moment], *, acknowledged: bool) -> tuple[Place, Place, Place]:
        """(source, other, destination), with what each may hold before or after the merge is acknowledged."""
        maybe: dict[State | None, Moment] = {self.merged.state: self.merged}
        if not acknowledged:
            maybe[None] = self.merged
        return (
            Place(self.source, source, lambda: emm.open(self.source, "a")),
            Place(self.other, {self.other_state.state: self.other_state}, lambda: emm.open(self.other, "a")),
            Place(self.into, maybe, lambda: self.perform(self.source), (self.source, self.other)),
        )

    def fault_of(self, memory: emm.Memory) -> str | None:
        """Why this is not a merged memory."""
        snapshot = memory._session.snapshot
        if (snapshot.generation, snapshot.lineage.origin) != (1, Origin.MERGE):
            return f"the lineage says generation {snapshot.generation}, {snapshot.lineage.origin.name}"
        if not memory.flags & Flag.FOREIGN_PAIRS:
            return "the pairs of a merge are not in its journal, and no flag says so"
        return None


@lru_cache(maxsize=128)
def other_files(parameters: Parameters, path: str, place: int, n_pairs: int) -> Mapping[str, bytes]:
    """The files of the other memory, closed."""
    found = advance(first_moment(parameters), f"write {n_pairs}", PLACE_OTHER + place)
    assert found is not None and found[1] is not None
    with deterministic() as source, mounted(SimulatedDisk()) as disk:
        source.number = (1 << 40) + (place << 20)  # numbers from the system that no other memory has
        memory = emm.create(
            path,
            dim=parameters.dim,
            rank=parameters.rank,
            key_dim=parameters.key_dim,
            seed=parameters.seed,
            projection=parameters.projection.name.lower(),
            expand_at=0.0,
        )
        perform(memory, found[1])
        memory.close()
        files = visible(disk, path)
        disk.kill()
    assert files is not None
    return files
