"""Plant every mutant and name what kills it: `python -m emm_fuzz.mutants [--markdown] [NAME …]`.

Exit 1 when one lives, when a killer cries without a mutant, or when a patch no longer fits the source.
"""

from __future__ import annotations

import sys
import time
from functools import cache

from emm_fuzz.mutants.killers import Killer
from emm_fuzz.mutants.planting import Mutant, planted
from emm_fuzz.mutants.reading import READING
from emm_fuzz.mutants.syncing import SYNCING
from emm_fuzz.mutants.writing import WRITING

MUTANTS: tuple[Mutant, ...] = (*SYNCING, *WRITING, *READING)


@cache
def seen_without(killer: Killer) -> str | None:
    """What the killer sees in the library as it is: nothing, or it proves nothing."""
    return killer.run()


def kill(mutant: Mutant) -> str:
    """What was seen of the mutant; `LookupError` when nothing was, or when the killer cannot tell."""
    before = seen_without(mutant.killer)
    if before is not None:
        raise LookupError(f"the killer cries without the mutant: {before}")
    with planted(*mutant.patches):
        seen = mutant.killer.run()
    if seen is None:
        raise LookupError("nothing was seen")
    return seen


def main(arguments: list[str]) -> int:
    markdown = "--markdown" in arguments
    names = [each for each in arguments if not each.startswith("--")]
    chosen = [each for each in MUTANTS if not names or each.name in names]
    alive = 0
    started = time.monotonic()
    if markdown:
        print("| mutant | what is wrong | killed by |\n|---|---|---|")
    for mutant in chosen:
        try:
            seen, verdict = kill(mutant), "killed"
        except LookupError as error:
            seen, verdict = str(error), "ALIVE"
            alive += 1
        if markdown:
            print(f"| `{mutant.name}` | {mutant.story} | {mutant.killer.label if verdict == 'killed' else 'ALIVE'} |")
        else:
            print(f"{verdict:7} {mutant.name:45} {mutant.killer.label}: {seen[:160]}")
    print(f"\n{len(chosen) - alive} of {len(chosen)} killed in {time.monotonic() - started:.1f} s")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
