"""A mutant: one bug of the kind that a refactoring leaves behind, and what must see it.

Purpose: the value that the lists of bugs are made of. Invariants: a mutant is one bug of at most a few lines; the
tests outside the fuzz group pass with it unless `also_seen_by` names the one that does not; an `equivalent` one changes
nothing that anybody could observe, and says why.
"""

from __future__ import annotations

from dataclasses import dataclass

from emm_fuzz.mutants.killers import Killer
from emm_fuzz.mutants.patching import Patch, hash_of

__all__ = ["Mutant", "Patch"]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug, and what must see it."""

    name: str
    story: str
    patches: tuple[Patch, ...]
    killer: Killer
    also_seen_by: str = ""  # a test outside the fuzz group, as `emm_fuzz.mutants.outside` found it
    equivalent: str = ""  # why nobody can see it

    @property
    def lines(self) -> int:
        return sum(patch.lines for patch in self.patches)

    @property
    def hash(self) -> str:
        return hash_of(self.patches)
