"""Explore for hours in two processes, and go on where the last campaign ended.

Purpose: the recorded numbers. Each piece of work is one seed for a fixed time; its line goes into a JSONL file, and the
hashes of the states it judged into a file beside it, so that a state is counted as distinct once however many seeds
came upon it. Invariants: seeds already in the file are not run again; a violation ends the campaign with its replay
lines; what a seed explores depends on its time, so the lines are counts, not proofs of sameness (`--replay` is).

    python -m emm_fuzz.campaign --hours 1 --jsonl docs/durability/results.jsonl
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emm_fuzz.explore import Explorer, explore_randomly, report

Keys = npt.NDArray[np.uint64]

PIECE_SECONDS = 60.0


def piece(task: tuple[int, float]) -> tuple[dict[str, Any], Keys, str]:
    """One seed for a while: (its line, the hashes of the states judged, its report)."""
    seed, seconds = task
    explorer = Explorer()
    started = time.monotonic()
    for _ in explore_randomly(explorer, seed):
        if time.monotonic() - started > seconds:
            break
    took = time.monotonic() - started
    line = {"seed": seed, "seconds": round(took, 1), **explorer.tally.to_dict()}
    return line, explorer.keys(), report(explorer.tally, took)


def seeds_after(lines: list[dict[str, Any]]) -> Iterator[int]:
    """Seeds that no line of the file has, ascending."""
    known = {line["seed"] for line in lines}
    number = 1
    while True:
        if number not in known:
            yield number
        number += 1


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def summary(lines: list[dict[str, Any]], distinct: int) -> str:
    """What all campaigns of a file come to."""

    def total(name: str) -> int:
        return sum(line[name] for line in lines)

    hours = sum(line["seconds"] for line in lines) / 3600
    raw = total("raw") + total("nested_raw")
    return (
        f"{len(lines)} seeds, {hours:.2f} process hours, {total('cases')} cases, {total('points')} crash points, "
        f"{raw} raw states, {distinct} distinct, {total('recovered_for_append')} recoveries for append, "
        f"{total('killed')} kills before the power cut, {total('violations')} violations"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emm_fuzz.campaign", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--piece-seconds", type=float, default=PIECE_SECONDS)
    parser.add_argument("--jsonl", type=Path, required=True)
    given = parser.parse_args(arguments)
    lines = read_lines(given.jsonl)
    kept = given.jsonl.with_suffix(".keys.npy")
    keys: Keys = np.load(kept) if kept.exists() else np.empty(0, np.uint64)
    deadline = time.monotonic() + given.hours * 3600
    tasks = ((seed, given.piece_seconds) for seed in seeds_after(list(lines)))
    bad = False
    with multiprocessing.get_context("spawn").Pool(given.processes, maxtasksperchild=1) as pool:
        while not bad and time.monotonic() < deadline:
            batch = [next(tasks) for _ in range(given.processes)]
            for line, found, text in pool.imap(piece, batch):
                keys = np.union1d(keys, found)
                lines.append({**line, "distinct_so_far": len(keys)})
                given.jsonl.parent.mkdir(parents=True, exist_ok=True)
                with given.jsonl.open("a") as file:
                    file.write(json.dumps(lines[-1], sort_keys=True) + "\n")
                np.save(kept, keys)
                bad |= bool(line["violations"])
                if line["violations"]:
                    print(f"seed {line['seed']}: {text}", file=sys.stderr)
    print(summary(lines, len(keys)))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
