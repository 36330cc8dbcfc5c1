"""Shapes of the memories under test, by name.

Purpose: a case names its geometry, so that its line of JSON stays short and shapes can be enumerated. Invariants: the
first is the default, of which nothing is written down; a name never changes its meaning, since old lines replay;
a larger shape brings smaller bounds, so that it costs as much as a small one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import emm
from emm.layout import RANK_MULTIPLE, Projection
from emm.memory.facts import RULE_NAMES
from emm.memory.opening import PROJECTION_NAMES
from emm.state import Parameters
from emm_fuzz.crash_states import Bounds

DEFAULT: Final = "small"


@dataclass(frozen=True, slots=True)
class Geometry:
    """What `emm.create` is told, and how much may be tried at one crash point (None: as much as anywhere)."""

    dim: int
    rank: int
    key_dim: int
    rule: str = "preconditioned"
    projection: str = "hadamard"
    bounds: Bounds | None = None

    @property
    def parameters(self) -> Parameters:
        rule, projection = RULE_NAMES[self.rule], PROJECTION_NAMES[self.projection]
        return Parameters(self.dim, self.key_dim, self.rank, rule, projection)

    def create(self, path: str) -> emm.Memory:
        return emm.create(
            path,
            dim=self.dim,
            rank=self.rank,
            key_dim=self.key_dim,
            rule=self.rule,
            projection=self.projection,
            expand_at=0.0,
        )


GEOMETRIES: Final = {
    DEFAULT: Geometry(16, 16, 32),
    "wide": Geometry(16, 16, 64),  # three ranks: 16, 32, 64
    "blocks": Geometry(256, 128, 256, bounds=Bounds(16, 3, 1)),  # M and P span four blocks of 64 KiB
    "square": Geometry(16, 32, 32, projection="none"),  # the rank is fixed
    "delta": Geometry(16, 16, 32, rule="gated-delta"),
    "outer": Geometry(16, 32, 32, rule="outer-product", projection="none"),
}


def rank_max(parameters: Parameters) -> int:
    """The largest rank to which a memory may grow."""
    if parameters.projection is Projection.NONE:
        return parameters.rank
    return parameters.key_dim // RANK_MULTIPLE * RANK_MULTIPLE
