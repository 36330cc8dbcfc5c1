"""Plant every mutant and name what kills it: `python -m emm_fuzz.mutants [NAME …]`.

Exit 1 when one lives, when an equivalent one is seen, when a killer cries without a mutant, or when a patch no longer
fits the source. `--markdown` prints the table of docs/durability.md and plants nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from functools import cache

from emm_fuzz.mutants.every import MUTANTS
from emm_fuzz.mutants.killers import Killer
from emm_fuzz.mutants.patching import planted
from emm_fuzz.mutants.planting import Mutant


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


def table(mutants: Iterable[Mutant]) -> Iterator[str]:
    """The mutants as rows for docs/durability.md."""
    yield "| mutant | what is wrong | killed by | also seen by |"
    yield "|---|---|---|---|"
    for each in mutants:
        killer = f"nobody can: {each.equivalent}" if each.equivalent else each.killer.label
        also = f"`{each.also_seen_by.rpartition('/')[2]}`" if each.also_seen_by else ""
        yield f"| `{each.name}` | {each.story} | {killer} | {also} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emm_fuzz.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these mutants (default: all)")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/durability.md; plant nothing")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - {each.name for each in MUTANTS})
    if unknown:
        parser.error(f"there is no mutant {', '.join(unknown)}")
    chosen = [each for each in MUTANTS if not options.names or each.name in options.names]
    if options.markdown:
        print("\n".join(table(chosen)))
        return 0
    wrong = 0
    started = time.monotonic()
    for mutant in chosen:
        try:
            seen, verdict = kill(mutant), "killed"
        except LookupError as error:
            seen, verdict = str(error), "equivalent" if mutant.equivalent else "ALIVE"
        wrong += (verdict == "killed") is bool(mutant.equivalent)
        print(f"{verdict:10} {mutant.name:45} {mutant.killer.label}: {seen[:160]}", flush=True)
    equivalent = sum(bool(each.equivalent) for each in chosen)
    alone = sum(not each.equivalent and not each.also_seen_by for each in chosen)
    print(
        f"\n{len(chosen)} mutants, {equivalent} of them equivalent, {alone} that no test outside the fuzz group sees; "
        f"{wrong} not as they should be; {time.monotonic() - started:.1f} s"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
