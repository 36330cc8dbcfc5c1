"""Flip every single bit of a closed memory, one at a time, and ask everybody about each.

Purpose: "a damaged byte is noticed" with a number. Verify must call it damage and name the right file and only repairs
that work; a reader and a writer must refuse or give the acknowledged state to the bit; on a disk, a session that opens
must not hide it. Beside single bits: bursts, zeroed and garbled sectors, swapped sectors, seeded. Invariants: a bit has
a number, so a run is a range of numbers and goes on where the last one ended; a line of results names the memory by its
bytes; every failure prints the line that replays it.

    python -m emm_fuzz.flips --jsonl FILE            # all of them, in pieces, resumable
    python -m emm_fuzz.flips --sample 20000          # some of every part of the format
    python -m emm_fuzz.flips --bursts 5000
    python -m emm_fuzz.flips --replay 0000000000000003.emm:4096:0
    python -m emm_fuzz.flips --table FILE
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emm.layout import SNAPSHOT_SUFFIX
from emm_fuzz.anatomy import Anatomy
from emm_fuzz.bursts import burst
from emm_fuzz.damage import flip
from emm_fuzz.examine import Examination, Examiner
from emm_fuzz.jsonl import append_line, read_lines
from emm_fuzz.specimens import Files, Specimen, closed

PIECE_BITS = 1 << 14
VIOLATIONS_MAX = 10  # of a piece: more would say the same again


@dataclass(slots=True)
class Count:
    """What a number of damages came to, by the part of the format that they hit."""

    parts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    violations: list[tuple[str, str]] = field(default_factory=list)  # (what to replay, what is wrong)

    def add(self, part: str, found: Examination, newest: int) -> None:
        refused = sum(isinstance(answer, str) for answer in (found.reader, found.writer))
        opened = "newest" if found.generation == newest else "older"
        self.parts[part].update(("damages", str(found.verdict), (opened, "one refused", "refused")[refused]))


class Flipper:
    """Damages one specimen; situations that were not met before are also lived through on a disk."""

    def __init__(self, specimen: Specimen) -> None:
        self.examiner = Examiner(specimen)
        self.files = specimen.files
        self.anatomy = Anatomy(self.files)
        self._newest = int(max(name for name in self.files if name.endswith(SNAPSHOT_SUFFIX)).partition(".")[0])
        self._met: set[object] = set()

    def flip_all(self, numbers: Iterable[int]) -> Count:
        """These bits."""
        count = Count()
        with self.examiner.ready():
            for number in numbers:
                name, offset, bit = self.anatomy.place(number)
                files = flip(name, offset, bit)(self.files)
                self._judge(count, self.anatomy.part_of(name, offset), files, name, f"--replay {name}:{offset}:{bit}")
        return count

    def burst_all(self, seed: int, numbers: Iterable[int]) -> Count:
        """The bursts with these numbers."""
        count = Count()
        with self.examiner.ready():
            for number in numbers:
                made = burst(self.files, seed, number)
                self._judge(count, made.kind, made.files, made.only, f"--replay-burst {seed}:{number}")
        return count

    def _judge(self, count: Count, part: str, files: Files, only: str | None, replay: str) -> None:
        if len(count.violations) >= VIOLATIONS_MAX:
            return
        try:
            found = self.examiner.examine(files)
            fault = self.examiner.fault_of_damage(files, found, only)
            count.add(part, found, self._newest)
            answers = found.verdict, found.reader, found.writer, found.generation
            situation = part, only, answers, tuple(each.code for each in found.findings)
            if fault is None and situation not in self._met:
                self._met.add(situation)
                fault = self.examiner.fault_of_going_on(files)
        except Exception as error:  # neither a verdict nor a refusal: that is a bug, too
            fault = f"{type(error).__name__}: {error}"
        if fault is not None:
            count.violations.append((replay, fault))


@functools.cache
def flipper() -> Flipper:
    return Flipper(closed())


def sample(anatomy: Anatomy, n: int, seed: int) -> list[int]:
    """`n` bits, the same number of each part of the format as far as it has so many, in ascending order."""
    random, chosen, left = np.random.default_rng([seed, 0xF11]), [], n
    parts = sorted(anatomy.bits_by_part().values(), key=lambda ranges: sum(map(len, ranges)))
    for index, ranges in enumerate(parts):
        share = min(left // (len(parts) - index), sum(map(len, ranges)))
        numbers = np.concatenate([np.arange(each.start, each.stop) for each in ranges])
        chosen += [int(each) for each in random.choice(numbers, share, replace=False)]
        left -= share
    return sorted(chosen)


# --- pieces of work -------------------------------------------------------------------------------


def run_piece(task: tuple[str, int, Sequence[int]]) -> dict[str, Any]:
    """(kind, seed, numbers of bits or bursts) → a line of results."""
    kind, seed, numbers = task
    started = time.monotonic()
    count = flipper().burst_all(seed, numbers) if kind == "bursts" else flipper().flip_all(numbers)
    line: dict[str, Any] = {"memory": closed().digest, "kind": kind, "first": numbers[0], "n": len(numbers)}
    if kind != "flips":
        line["seed"] = seed
    line["seconds"] = round(time.monotonic() - started, 1)
    line["parts"] = {part: dict(sorted(found.items())) for part, found in sorted(count.parts.items())}
    line["violations"] = count.violations
    return line


def pieces(lines: list[dict[str, Any]], n_bits: int) -> Iterator[tuple[str, int, Sequence[int]]]:
    """The ranges of all bits of which no line says that all is well."""
    done = {line["first"] for line in well(lines)}
    for first in range(0, n_bits, PIECE_BITS):
        if first not in done:
            yield "flips", 0, range(first, min(first + PIECE_BITS, n_bits))


def well(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of this memory about ranges of flips without a violation."""
    ours = (line for line in lines if line["kind"] == "flips" and line["memory"] == closed().digest)
    return [line for line in ours if not line["violations"]]


def table(lines: list[dict[str, Any]]) -> str:
    """The counts of these lines as Markdown, one row for each part of the format."""
    total: dict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        for part, counts in line["parts"].items():
            total[part].update(counts)
            total["**all**"].update(counts)
    names = ("damages", "damaged-repairable", "damaged-loss", "newest", "older", "one refused", "refused")
    heads = ("part", "damages", "repairable", "loss", "newest", "older + journal", "one of two refused", "refused")
    rows = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * len(names)]
    rows += [f"| {part} | " + " | ".join(f"{total[part][name]:,}" for name in names) + " |" for part in sorted(total)]
    return "\n".join(rows)


def report(lines: list[dict[str, Any]]) -> str:
    n, seconds = sum(line["n"] for line in lines), sum(line["seconds"] for line in lines)
    violations = [each for line in lines for each in line["violations"]]
    text = [f"memory {closed().digest}: {n} damages, {len(violations)} violations, {seconds:.0f} process seconds"]
    for replay, fault in violations:
        text += [f"VIOLATION {fault}", f"  python -m emm_fuzz.flips {replay}"]
    return "\n".join(text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emm_fuzz.flips", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sample", type=int, help="only so many flips, of every part of the format")
    parser.add_argument("--bursts", type=int, help="instead: so many bursts, lost sectors and swapped sectors")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--jsonl", type=Path, help="append results here, and do not repeat what is here")
    parser.add_argument("--replay", help="file:byte:bit of one flip")
    parser.add_argument("--replay-burst", help="seed:number of one burst")
    parser.add_argument("--table", type=Path, help="only print what this file of results comes to")
    given = parser.parse_args(arguments)
    if given.table is not None:
        ours = [line for line in read_lines(given.table) if line["memory"] == closed().digest]
        for kind in sorted({line["kind"] for line in ours}):
            print(f"{kind}:\n\n{table([line for line in ours if line['kind'] == kind])}\n")
        return 0
    if given.replay or given.replay_burst:
        return _replay(given.replay, given.replay_burst)
    known = read_lines(given.jsonl) if given.jsonl is not None else []
    anatomy = Anatomy(closed().files)
    tasks: list[tuple[str, int, Sequence[int]]]
    if given.bursts is not None:
        tasks = [("bursts", given.seed, part) for part in _batched(range(given.bursts), 1000)]
    elif given.sample is not None:
        tasks = [("sample", given.seed, part) for part in _batched(sample(anatomy, given.sample, given.seed), 1000)]
    else:
        tasks = list(pieces(known, anatomy.n_bits))
    everything = given.bursts is None and given.sample is None
    lines = _run(tasks, given.processes, given.jsonl) + (well(known) if everything else [])
    print(table(lines))
    print(report(lines))
    return 1 if any(line["violations"] for line in lines) else 0


def _batched(numbers: Sequence[int], size: int) -> list[Sequence[int]]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def _run(tasks: list[tuple[str, int, Sequence[int]]], processes: int, path: Path | None) -> list[dict[str, Any]]:
    """All lines, each written as soon as it is there; ends early at the first piece with a violation."""
    lines: list[dict[str, Any]] = []
    started, todo = time.monotonic(), sum(len(numbers) for _, _, numbers in tasks)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for line in pool.imap_unordered(run_piece, tasks):
            lines.append(line)
            if path is not None:
                append_line(path, line)
            done = sum(each["n"] for each in lines)
            left = (time.monotonic() - started) * (todo - done) / done
            print(f"{done} of {todo}, about {left / 60:.1f} minutes left", file=sys.stderr)
            if line["violations"]:
                break
    return lines


def _replay(place: str | None, numbered: str | None) -> int:
    """One damage again, with everything that was found."""
    if place is not None:
        name, offset, bit = place.split(":")
        files: Files = flip(name, int(offset), int(bit))(closed().files)
        only: str | None = name
    else:
        seed, number = map(int, (numbered or "").split(":"))
        made = burst(closed().files, seed, number)
        files, only = made.files, made.only
    examiner = flipper().examiner
    with examiner.ready():
        found = examiner.examine(files)
        fault = examiner.fault_of_damage(files, found, only) or examiner.fault_of_going_on(files)
    print(
        "\n".join([f"{found.verdict}; a reader: {found.reader}; a writer: {found.writer}", *map(str, found.findings)])
    )
    print(f"VIOLATION {fault}" if fault else "noticed")
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
