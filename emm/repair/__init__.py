"""Repair: a plan that says what is damaged and from where each part comes, then a new memory made by it.

    found = emm.repair.plan("labs/chemistry", against="backup/chemistry")
    print("\\n".join(found.lines()))
    emm.repair.execute(found, "repaired/chemistry")

Checking yields, repairing decides: `plan` only reads; `execute` writes to a new directory and nowhere else.
"""

from emm.repair.execute import Result, execute
from emm.repair.plan import Action, FilePlan, From, Loss, Part, Plan
from emm.repair.planner import plan

__all__ = ["Action", "FilePlan", "From", "Loss", "Part", "Plan", "Result", "execute", "plan"]
