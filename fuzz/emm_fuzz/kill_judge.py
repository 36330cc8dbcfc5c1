"""What a kill left, held against the plan that its writer followed.

Purpose: the one invariant on real files: what is found was acknowledged last, or started since. Invariants: started
is what a writer told before it began (the line is in the pipe before the call), so a stage that nobody began is as much
a fault as one that is missing; what a reader has found must stay, because the page cache survives a kill; the lock of
the dead is free at the first attempt; verify says torn exactly where recovery found a torn tail, and never damage.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final

import emm
from emm.codec.payload import state_digest
from emm.errors import EmmError, FencedError, MissingError
from emm.storage.names import list_memory
from emm.storage.recovery import Recovered, recover
from emm.verify.verdict import Verdict
from emm.vfs.local import LocalDirectory
from emm.vfs.names import is_temporary
from emm_fuzz.workload import Plan

MUTATIONS: Final = frozenset({"write", "unlearn", "forget", "configure", "bare", "resolve"})
AT_REST: Final = frozenset({"fenced", "rest", "done"})
NO_MEMORY: Final = -1  # the stage before stage 0


class BrokenPromiseError(Exception):
    """What a kill left is not what was promised."""


@dataclass(slots=True)
class Account:
    """What writers of one memory told."""

    acknowledged: int = NO_MEMORY
    started: int = NO_MEMORY
    faults: list[str] = field(default_factory=list)

    def hear(self, text: str) -> None:
        if text.startswith("= "):
            self.found(max(self.acknowledged, int(text[2:])))
        elif text == "create" or text in MUTATIONS:
            self.started = self.acknowledged + 1
        elif text.startswith("!"):
            self.faults.append(text)

    def found(self, stage: int) -> None:
        """That stage was acknowledged or read; nothing beyond it was begun."""
        self.acknowledged = self.started = stage


@dataclass(frozen=True, slots=True)
class Found:
    """What a reader finds after a kill."""

    stage: int
    recovered: Recovered | None  # None: no memory yet

    @property
    def torn(self) -> bool:
        return self.recovered is not None and self.recovered.torn is not None

    @property
    def unproven(self) -> int:
        return 0 if self.recovered is None else len(self.recovered.unproven)


def find(url: str, plan: Plan, account: Account) -> Found:
    """What recovery makes of the directory; `BrokenPromiseError` unless the account allows it."""
    try:
        recovered = recover(LocalDirectory(url))
    except MissingError as error:
        if account.acknowledged > NO_MEMORY:
            raise BrokenPromiseError(f"there is no memory; acknowledged stage {account.acknowledged}") from error
        return Found(NO_MEMORY, None)
    except EmmError as error:
        raise BrokenPromiseError(f"recovery refuses what a kill left: {type(error).__name__}: {error}") from error
    stage = _allowed_stage(plan, account, recovered.lsn, state_digest(recovered.state, recovered.lsn).hex())
    return Found(stage, recovered)


def _allowed_stage(plan: Plan, account: Account, lsn: int, digest: str) -> int:
    stage = plan.stage_of(digest)
    if stage is None:
        raise BrokenPromiseError(f"lsn {lsn} has a digest that no moment of this life has")
    if not account.acknowledged <= stage <= account.started:
        raise BrokenPromiseError(
            f"found stage {stage} (lsn {lsn}), acknowledged {account.acknowledged}, started {account.started}"
        )
    return stage


def check_verdict(url: str, recovered: Recovered) -> Verdict:
    """Verify agrees with what recovery saw."""
    report = emm.verify(url)
    expected = Verdict.TORN if recovered.torn else Verdict.CLEAN if recovered.sealed else Verdict.CLEAN_UNSEALED
    verdict = Verdict(str(report.verdict))
    if verdict is not expected:
        raise BrokenPromiseError(
            f"verify says {verdict}, expected {expected}: {'; '.join(map(str, report.findings[:1]))}"
        )
    return verdict


def take_over(url: str, plan: Plan, found: Found) -> bool:
    """Open for append at the first attempt (create, where there was nothing), close, verify; True when logged again."""
    try:
        if found.recovered is None:
            plan.create(url)
            logged_again, state = False, (0, plan.stages[0].digest)
        else:
            before = _n_segments(url)
            with emm.open(url, "a") as memory:
                logged_again, state = _n_segments(url) > before, (memory.lsn, memory.digest)
    except FencedError as error:
        raise BrokenPromiseError(f"the lock of a killed writer is not free: {error}") from error
    except EmmError as error:
        raise BrokenPromiseError(f"nobody can take over: {type(error).__name__}: {error}") from error
    stage = max(found.stage, 0)
    if plan.stage_of(state[1]) != stage:
        raise BrokenPromiseError(f"a reader found stage {stage}, the next writer has stage {plan.stage_of(state[1])}")
    if found.recovered is not None and logged_again == found.recovered.clean:
        raise BrokenPromiseError(f"clean is {found.recovered.clean}, logged again {logged_again}")
    report = emm.verify(url)
    if str(report.verdict) != Verdict.CLEAN:
        raise BrokenPromiseError(
            f"taken over and closed, yet verify says {report.verdict}: {'; '.join(map(str, report.findings[:1]))}"
        )
    left = [name for name in os.listdir(url) if is_temporary(name)]
    if left:
        raise BrokenPromiseError(f"temporary files of the dead are left: {left}")
    return logged_again


def _n_segments(url: str) -> int:
    return len(list_memory(LocalDirectory(url)).segments)
