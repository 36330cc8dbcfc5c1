"""Cut files at every length: noticed, or right because what is left is all that was proven.

Purpose: tell "the file ends early" from "the writer died here", and say exactly which cuts nobody can see. Invariants:
what must be said of a cut follows from the sizes that the file had when something was acknowledged
(`Specimen.history`) and from how its life ended; no code that reads files takes part in the prediction.

    python -m emm_fuzz.cuts                  # every length of every segment, and of the snapshots of the closed memory
    python -m emm_fuzz.cuts --stride 101     # of the snapshots every 101st
    python -m emm_fuzz.cuts --replay killed:0000000000000002.wal:200
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from emm.layout import SEGMENT_HEADER, SEGMENT_SUFFIX
from emm.verify.verdict import Verdict
from emm_fuzz.cases import State
from emm_fuzz.damage import cut
from emm_fuzz.examine import DAMAGE, Examination, Examiner, told
from emm_fuzz.specimens import SPECIMENS, Specimen

CUT_SPECIMENS = ("closed", "killed", "taken-over")
STRIDE_BESIDE = 97  # of snapshots that are cut in the closed memory already
PIECE = 4000
VIOLATIONS_MAX = 10


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be said of a cut. `state` is the one that may be opened; with `refusal` nobody has to open it."""

    verdicts: tuple[Verdict, ...]
    state: State
    refusal: bool = False

    def fault(self, found: Examination) -> str | None:
        if found.verdict not in self.verdicts:
            return f"verify says {found.verdict}, expected {' or '.join(self.verdicts)}"
        for who, answer in (("a reader", found.reader), ("a writer", found.writer)):
            if answer != self.state and not (self.refusal and isinstance(answer, str)):
                return f"{who}: {told(answer)}, expected {told(self.state)}"
        return None


def expected(specimen: Specimen, name: str, length: int) -> Expected:
    """What the life of the specimen says about a cut of one of its files to `length` bytes."""
    if specimen.is_open and name == specimen.last_segment and length >= SEGMENT_HEADER.size:
        ends = whole_lengths(specimen, name)
        verdict = Verdict.CLEAN_UNSEALED if length in ends else Verdict.TORN
        return Expected((verdict,), ends[max(end for end in ends if end <= length)])
    if length >= specimen.fenced.get(name, len(specimen.files[name])):
        return Expected((Verdict.CLEAN,), specimen.state)
    return Expected(DAMAGE, specimen.state, refusal=True)


def whole_lengths(specimen: Specimen, name: str) -> dict[int, State]:
    """Length → state: the sizes that a segment had at acknowledgements, and its bare header (it appears with that)."""
    found: dict[int, State] = {}
    before = specimen.history[0][1]
    for files, state in specimen.history:
        if name in files:
            found.setdefault(SEGMENT_HEADER.size, before)
            found[len(files[name])] = state
        before = state
    return found


@dataclass(slots=True)
class CutCount:
    """What cuts of one file came to."""

    specimen: str
    name: str
    n: int = 0
    said: Counter[str] = field(default_factory=Counter)
    unseen: list[int] = field(default_factory=list)  # lengths of which verify says clean or clean-unsealed
    violations: list[tuple[str, str]] = field(default_factory=list)

    def add(self, other: CutCount) -> None:
        self.n += other.n
        self.said += other.said
        self.unseen += other.unseen
        self.violations += other.violations


@functools.cache
def _examiner(name: str) -> Examiner:
    return Examiner(SPECIMENS[name]())


def cut_all(specimen_name: str, name: str, lengths: Iterable[int]) -> CutCount:
    """Cut one file to each of these lengths."""
    examiner = _examiner(specimen_name)
    specimen = examiner.specimen
    count = CutCount(specimen_name, name)
    with examiner.ready():
        for length in lengths:
            files = cut(name, length)(specimen.files)
            try:
                found = examiner.examine(files)
                fault = expected(specimen, name, length).fault(found)
                fault = fault or examiner.fault_of_promises(files, found)
                count.said[str(found.verdict)] += 1
                if not found.noticed and found.verdict is not Verdict.TORN:
                    count.unseen.append(length)
            except Exception as error:  # neither a verdict nor a refusal: that is a bug, too
                fault = f"{type(error).__name__}: {error}"
            count.n += 1
            if fault is not None:
                count.violations.append((f"{specimen_name}:{name}:{length}", fault))
                if len(count.violations) >= VIOLATIONS_MAX:
                    break
    return count


def unseen_lengths(specimen: Specimen, name: str) -> set[int]:
    """The lengths at which nobody can see that the file was cut, as its life has it.

    An open end cut where something was acknowledged is what the disk held at that moment; what lies beyond a fence is
    a dead writer's and proves nothing. Everywhere else a seal, a snapshot or a later segment states what was there.
    """
    size = len(specimen.files[name])
    found = set(range(specimen.fenced.get(name, size), size))
    if specimen.is_open and name == specimen.last_segment:
        found |= set(whole_lengths(specimen, name)) - {size}
    return found


def lengths_of(specimen: Specimen, name: str, stride: int) -> list[int]:
    """Every `stride`-th length, all that nobody can see, and the ones beside every size that the file had."""
    size = len(specimen.files[name])
    sizes = {SEGMENT_HEADER.size, *(len(files.get(name, b"")) for files, _ in specimen.history)}
    near = {end + step for end in sizes for step in (-1, 0, 1) if 0 <= end + step < size}
    return sorted({*range(0, size, stride), *near, *unseen_lengths(specimen, name)})


# --- pieces of work -------------------------------------------------------------------------------


def _piece(task: tuple[str, str, Sequence[int]]) -> CutCount:
    return cut_all(*task)


def tasks(stride: int) -> list[tuple[str, str, Sequence[int]]]:
    """Every length of every segment; of the snapshots every `stride`-th, beside an open or fenced end every 97th."""
    found: list[tuple[str, str, Sequence[int]]] = []
    for key in CUT_SPECIMENS:
        specimen = SPECIMENS[key]()
        for name in sorted(specimen.files):
            step = 1 if name.endswith(SEGMENT_SUFFIX) else stride if key == "closed" else max(stride, STRIDE_BESIDE)
            lengths = lengths_of(specimen, name, step)
            found += [(key, name, lengths[start : start + PIECE]) for start in range(0, len(lengths), PIECE)]
    return found


def report(counts: Iterable[CutCount], seconds: float) -> str:
    """One row for each file, then what nobody saw, then violations."""
    total: dict[tuple[str, str], CutCount] = {}
    for each in counts:
        total.setdefault((each.specimen, each.name), CutCount(each.specimen, each.name)).add(each)
    verdicts = (*DAMAGE, Verdict.TORN, Verdict.CLEAN_UNSEALED, Verdict.CLEAN)
    lines = [f"| memory | file | cuts | {' | '.join(verdicts)} |", "|---|---|" + "---:|" * (1 + len(verdicts))]
    for key in sorted(total):
        found = total[key]
        cells = " | ".join(f"{found.said[verdict]:,}" for verdict in verdicts)
        lines.append(f"| {found.specimen} | `{found.name}` | {found.n:,} | {cells} |")
    for found in total.values():
        if found.unseen:
            lines.append(f"not noticed in {found.specimen} {found.name}: {_ranges(sorted(found.unseen))}")
    n, bad = sum(each.n for each in total.values()), [each for found in total.values() for each in found.violations]
    lines.append(f"{n} cuts, {len(bad)} violations, {seconds:.0f} s")
    for replay, fault in bad:
        lines += [f"VIOLATION {fault}", f"  python -m emm_fuzz.cuts --replay {replay}"]
    return "\n".join(lines)


def _ranges(numbers: list[int]) -> str:
    found: list[list[int]] = []
    for each in numbers:
        if found and found[-1][1] == each - 1:
            found[-1][1] = each
        else:
            found.append([each, each])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in found)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emm_fuzz.cuts", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stride", type=int, default=1, help="of the snapshots only every so many lengths")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--replay", help="memory:file:length of one cut")
    given = parser.parse_args(arguments)
    started = time.monotonic()
    if given.replay:
        specimen, name, length = given.replay.split(":")
        counts = [cut_all(specimen, name, [int(length)])]
    else:
        todo = tasks(given.stride)
        counts = []
        with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
            for each in pool.imap_unordered(_piece, todo):
                counts.append(each)
                print(f"{len(counts)} of {len(todo)} pieces", file=sys.stderr)
    print(report(counts, time.monotonic() - started))
    return 1 if any(each.violations for each in counts) else 0


if __name__ == "__main__":
    sys.exit(main())
