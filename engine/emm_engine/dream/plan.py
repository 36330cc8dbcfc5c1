"""What a distillation would do, decided before anything is done.

Purpose: a pure decision over what was counted. Invariants: superseded versions go first, always; a budget of writes
makes a plan smaller, never different in kind: what does not fit is left for the next cycle; nothing that is kept is
ever left out of a new solution.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

Way = Literal["nothing", "amend", "solve"]

SATURATION_MAX: Final = 0.85
RANK_STEP: Final = 16
AMENDED_SHARE_MAX: Final = 0.5  # beyond it, solving anew costs no more


@dataclass(frozen=True, slots=True)
class Standing:
    """The memory as it was read."""

    digest: str
    lsn: int
    rule: str
    rank: int
    key_dim: int
    saturation: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Which pairs change, at which rank, and how."""

    way: Way
    rank: int
    drops: tuple[int, ...]  # superseded, still in the matrix
    relabels: tuple[int, ...]  # kept, with other labels than the matrix holds
    kept: tuple[int, ...]  # everything that stays
    replay: int  # extra writes, for rule 1
    notes: tuple[str, ...] = ()

    @property
    def n_writes(self) -> int:
        """Pairs that carrying it out writes or takes out."""
        first = len(self.kept) if self.way == "solve" else len(self.drops) + 2 * len(self.relabels)
        return self.replay + (first if self.way != "nothing" else 0)

    def signature(self, standing: Standing) -> str:
        """What a half-made candidate must have been made for, to be gone on with."""
        text = repr((standing.digest, self.way, self.rank, self.drops, self.relabels, self.kept, self.replay))
        return hashlib.sha256(text.encode()).hexdigest()

    def solved_anew(self) -> Plan:
        """The same change by a new solution, where taking pairs out was refused."""
        return replace(self, way="solve")


def plan_of(
    standing: Standing,
    drops: Sequence[int],
    relabels: Sequence[int],
    kept: Sequence[int],
    writes_max: int | None,
    fresh: bool,  # something was learnt since the last dream: only then does a replay find anything new
) -> Plan:
    """Decide. `drops` and `relabels` are in the matrix, `kept` is what stays of it (relabels among them)."""
    notes: list[str] = []
    rank = _rank(standing, notes)
    changed = len(drops) + len(relabels)
    exact = standing.rule == "preconditioned"
    way: Way = "nothing"
    if rank != standing.rank or (changed and not exact):
        way = "solve"
    elif changed:
        way = "amend" if changed <= AMENDED_SHARE_MAX * (len(kept) + len(drops)) else "solve"
    chosen, relabelled = list(drops), list(relabels)
    if writes_max is not None and way == "solve" and len(kept) > writes_max:
        notes.append(f"a new solution takes {len(kept)} writes and the budget is {writes_max}")
        way, rank = ("amend" if changed and exact else "nothing"), standing.rank
    if writes_max is not None and way == "amend":
        chosen = chosen[:writes_max]
        relabelled = relabelled[: max(0, writes_max - len(chosen)) // 2]
        left = changed - len(chosen) - len(relabelled)
        if left:
            notes.append(f"{left} changes wait for the next dream's budget")
        way = "amend" if chosen or relabelled else "nothing"
    if way == "nothing":
        chosen, relabelled = [], []
    extra = 0
    if standing.rule == "gated-delta" and (fresh or way == "solve"):
        room = len(kept) if writes_max is None else writes_max - (len(kept) if way == "solve" else 0)
        extra = max(0, min(len(kept), room))
    return Plan(way, rank, tuple(chosen), tuple(relabelled), tuple(kept), extra, tuple(notes))


def _rank(standing: Standing, notes: list[str]) -> int:
    """The rank to solve at: doubled where the matrix is too full and a larger one would help."""
    rank_max = standing.key_dim // RANK_STEP * RANK_STEP
    if standing.rule != "preconditioned" or standing.saturation < SATURATION_MAX:
        return standing.rank
    if standing.rank >= rank_max:
        notes.append(f"the matrix is full ({standing.saturation:.2f}) at its largest rank")
        return standing.rank
    return min(2 * standing.rank, rank_max)
