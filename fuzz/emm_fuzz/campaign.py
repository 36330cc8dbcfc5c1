"""Explore for hours in two processes, and go on where the last campaign ended.

Purpose: the recorded numbers. A campaign works through `emm_fuzz.pieces.plan` and writes a line for each piece.
Invariants: a killed campaign loses the pieces that were running and nothing else; a violation ends it with its replay
lines and exit code 1; what time decides is how far it gets, never what a piece is.

    python -m emm_fuzz.campaign --hours 1 --jsonl docs/durability/results.jsonl
    python -m emm_fuzz.campaign summary --jsonl docs/durability/results.jsonl

After a fresh clone the file says how many distinct states there were (the sum of `new`), but the states are not there,
so new ones could not be told from old ones: `--recount` runs the recorded pieces again first, compares their traces,
and goes on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from emm_fuzz import REPOSITORY
from emm_fuzz.enumeration import Enumeration, lived
from emm_fuzz.equivalence import Situation, Workload
from emm_fuzz.explore import report
from emm_fuzz.jsonl import read_lines
from emm_fuzz.model import OPERATIONS
from emm_fuzz.pieces import Keys, Piece, plan, run_piece
from emm_fuzz.record import Tally
from emm_fuzz.results import Results, code_digest, line_of
from emm_fuzz.summary import summary

WORKLOADS_A_TASK = 500

Done = tuple[Tally, Keys, float]


def timed(piece: Piece) -> Done:
    """What a piece came to, and the seconds of processor time that it took."""
    started = time.process_time()
    return *run_piece(piece), time.process_time() - started


def end_with_parent() -> None:
    """In a worker: a campaign that is killed leaves no process behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait_for_its_end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_for_its_end, daemon=True).start()


class Campaign:
    """Pieces on their way through a pool of processes, and the file that they end up in."""

    def __init__(self, results: Results, pool: Executor, processes: int, deadline: float) -> None:
        self.results = results
        self._pool = pool
        self._processes = processes
        self._deadline = deadline
        self._started = time.monotonic()
        self._counted = 0
        self._ended = deque([self._started], maxlen=8)  # when the last pieces did
        self.bad = False

    def run(self, pieces: Iterator[Piece]) -> None:
        """Until the time is up, there are no more pieces, or something is violated."""
        running: dict[Future[Done], Piece] = {}
        while not self.bad:
            while len(running) < self._processes and time.monotonic() < self._deadline:
                piece = next(pieces, None)
                if piece is None:
                    break
                running[self._pool.submit(timed, piece)] = piece
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                self._keep(running.pop(future), *future.result())

    def _keep(self, piece: Piece, tally: Tally, keys: Keys, seconds: float) -> None:
        if piece.id in self.results.missing:  # recounted
            self.results.restore(piece.id, tally.trace, keys)
            print(f"{piece.id}: counted again, trace {tally.trace}", file=sys.stderr, flush=True)
            return
        line = self.results.add(line_of(piece, tally, keys, seconds), keys)
        self._counted += len(keys)
        self._ended.append(time.monotonic())
        rate = self._counted / (time.monotonic() - self._started)
        place = f"{piece.number + 1} of {piece.of}" if piece.of else f"number {piece.number}"
        counts = f"{line['cases']} cases, {len(keys):,} states, {line['new']:,} new, {line['distinct_so_far']:,} so far"
        text = f"{piece.id} ({place}): {counts}; {rate:,.0f} states/s, {self._eta(piece)}"
        print(text, file=sys.stderr, flush=True)
        if tally.violations:
            self.bad = True
            print(report(tally, seconds), file=sys.stderr, flush=True)

    def _eta(self, piece: Piece) -> str:
        left = max(0.0, self._deadline - time.monotonic())
        if piece.of:
            each = (self._ended[-1] - self._ended[0]) / (len(self._ended) - 1)
            return f"these end in {_time((piece.of - piece.number - 1) * each)}, the campaign in {_time(left)}"
        return f"the campaign ends in {_time(left)}"


def _time(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds // 60 % 60):02}:{int(seconds % 60):02}"


class Enumerations:
    """Enumerations that are lived through by the pool, and remembered beside the states."""

    def __init__(self, results: Results, pool: Executor) -> None:
        self._results = results
        self._pool = pool

    def of(self, geometry: str) -> Enumeration:
        return Enumeration(geometry, partial(self._live, geometry))

    def note(self, enumeration: Enumeration, length: int) -> None:
        counts = asdict(enumeration.counts(length))
        self._results.note({"enumerated": enumeration.geometry, **counts})

    def _live(self, geometry: str, workloads: list[Workload]) -> list[Situation]:
        path = self._results.folder / f"situations-{geometry}-{len(workloads[0])}.npz"
        try:
            with np.load(path) as kept:
                fingerprints, words = kept["fingerprints"], kept["words"]
        except FileNotFoundError:
            found = self._lived(geometry, workloads)
            fingerprints = np.frombuffer(b"".join(each.fingerprint for each in found), np.uint8).reshape(-1, 16)
            words = np.array([[word in each.words for word in OPERATIONS] for each in found])
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, fingerprints=fingerprints, words=words)
            return found
        return [
            Situation(fingerprint.tobytes(), tuple(word for word, may in zip(OPERATIONS, row, strict=True) if may))
            for fingerprint, row in zip(fingerprints, words, strict=True)
        ]

    def _lived(self, geometry: str, workloads: list[Workload]) -> list[Situation]:
        started = time.monotonic()
        tasks = [workloads[start : start + WORKLOADS_A_TASK] for start in range(0, len(workloads), WORKLOADS_A_TASK)]
        found = [each for task in self._pool.map(partial(lived, geometry=geometry), tasks) for each in task]
        text = f"{geometry}: lived through all {len(workloads):,} workloads of length {len(workloads[0])}"
        print(f"{text} in {_time(time.monotonic() - started)}", file=sys.stderr, flush=True)
        return found


def wanted(pieces: Iterator[Piece], ids: set[str]) -> Iterator[Piece]:
    """The pieces with these ids, in the order of the plan."""
    left = set(ids)
    seeds = [int(each.partition("/")[2]) for each in ids if each.startswith("random/")]
    while left:
        piece = next(pieces)
        if piece.kind == "random" and piece.number > max(seeds, default=0):
            raise LookupError(f"no such pieces, at least not with this --length and --literal: {sorted(left)}")
        if piece.id in left:
            left.remove(piece.id)
            yield piece


def run(arguments: argparse.Namespace) -> int:
    results = Results(arguments.jsonl, arguments.cache, code_digest())
    if results.missing and not arguments.recount:
        print(f"the states of {len(results.missing)} recorded pieces are not in {arguments.cache}:", file=sys.stderr)
        print("--recount runs these again, or write to another --jsonl", file=sys.stderr)
        return 2
    seconds = arguments.hours * 3600 if arguments.minutes is None else arguments.minutes * 60
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, context, end_with_parent) as pool:
        enumerations = Enumerations(results, pool)
        campaign = Campaign(results, pool, arguments.processes, time.monotonic() + seconds)

        def pieces() -> Iterator[Piece]:
            return plan(arguments.length, arguments.literal, enumerations.of, enumerations.note)

        if results.missing:
            campaign.run(wanted(pieces(), set(results.missing)))
        if not results.missing:
            done = results.done
            campaign.run(piece for piece in pieces() if piece.id not in done)
    print(summary(results.lines))
    return 1 if campaign.bad else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emm_fuzz.campaign", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", nargs="?", choices=("run", "summary"), default="run")
    parser.add_argument("--jsonl", type=Path, required=True)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--hours", type=float, default=1.0)
    length.add_argument("--minutes", type=float)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--length", type=int, default=5, help="one workload for each operation in each situation")
    parser.add_argument("--literal", type=int, default=3, help="and every workload up to this length")
    parser.add_argument("--cache", type=Path, default=REPOSITORY / ".fuzz", help="where the states are kept")
    parser.add_argument("--recount", action="store_true", help="run recorded pieces again whose states are not there")
    given = parser.parse_args(arguments)
    if given.action == "summary":
        print(summary(read_lines(given.jsonl)))
        return 0
    return run(given)


if __name__ == "__main__":
    sys.exit(main())
