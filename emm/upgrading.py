"""Upgrading v3 files: plan first, then publish. The public face of `emm upgrade`.

    from emm.upgrading import plan_upgrade, upgrade

    plan = plan_upgrade("old/cell.v3", "labs/cell")     # checks everything, writes nothing
    if not plan.done:
        upgrade(plan).close()

Purpose: the names that a tool may use; `emm.open` needs none of them. Invariant: nothing is defined here.
"""

from __future__ import annotations

from emm.memory.opening import upgrade
from emm.memory.upgrading import UpgradePlan, plan_upgrade

__all__ = ["UpgradePlan", "plan_upgrade", "upgrade"]
