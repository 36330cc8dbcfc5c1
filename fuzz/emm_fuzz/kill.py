"""Kill writers at random moments, by the thousand, and hold what is left against a model.

Purpose: the promise "acknowledged is never lost" shown on real processes and real files. A run is cut into pieces, each
with its own seed (`kill_rounds.KillRounds`); pieces run in warm processes side by side, and each is a line of a JSONL
file. Invariants: seeds already in the file are not run again; only kills of writers at work count
(`kill_tally.Tally`); a line states the file system that it ran on, because fsync costs nothing in memory and kills
then fall elsewhere than on a disk.

    python -m emm_fuzz.kill --kills 2000 --seed 1
    python -m emm_fuzz.kill --kills 100000 --seed 1 --processes 2 --jsonl docs/durability/kills.jsonl
    python -m emm_fuzz.kill --piece 1000003                         # one piece again: the same lives and targets
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Final

from emm.testing.machine import commit
from emm_fuzz.fork_server import Writers
from emm_fuzz.jsonl import Line, append_line, read_lines
from emm_fuzz.kill_rounds import KillRounds
from emm_fuzz.kill_tally import Tally

PIECE_KILLS: Final = 500
PIECES_PER_SEED: Final = 1_000_000
IN_MEMORY: Final = Path("/dev/shm")


def memory_folder() -> Path:
    """A folder on tmpfs, where there is one: fsync costs nothing there, and a killed process leaves the same."""
    return IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else Path(tempfile.gettempdir())


def file_system(path: Path) -> str:
    """What kind of file system a path is on, as the kernel names it."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for mount in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = mount.partition(" - ")
        if before.split()[2] == wanted:
            return after.split()[0]
    return "unknown"


def piece(seed: int, kills: int, folder: str) -> tuple[Line, Tally]:
    """One seed until so many kills: (its line, what it came to)."""
    root = Path(tempfile.mkdtemp(prefix="emm-kill-", dir=folder))
    started = time.monotonic()
    try:
        with Writers() as writers:
            tally = KillRounds(writers, root, seed).run(kills)
        seconds = round(time.monotonic() - started, 1)
        return {"seed": seed, "seconds": seconds, "file_system": file_system(root), **tally.to_dict()}, tally
    finally:
        shutil.rmtree(root, ignore_errors=True)


def pieces(seed: int, kills: int, done: list[Line]) -> Iterator[tuple[int, int]]:
    """(seed, kills) of the pieces that are missing until the run has its kills."""
    known = {line["seed"]: line["kills"] for line in done}
    left = kills
    for number in range(seed * PIECES_PER_SEED, (seed + 1) * PIECES_PER_SEED):
        if left <= 0:
            return
        wanted = min(left, PIECE_KILLS)
        if number not in known:
            yield number, wanted
        left -= known.get(number, wanted)


def run(kills: int, seed: int, folder: Path, *, processes: int = 2, jsonl: Path | None = None) -> Tally:
    """A run in pieces, side by side; what all its pieces came to, also those that the file had already."""
    done = read_lines(jsonl) if jsonl is not None else []
    mine = [line for line in done if line["seed"] // PIECES_PER_SEED == seed]
    total = Tally()
    for line in mine:
        total.add(Tally.from_dict(line))
    before, started, head = total.kills, time.monotonic(), commit("emm", "fuzz")
    tasks = pieces(seed, kills, mine)
    running: set[Future[tuple[Line, Tally]]] = set()
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        while not total.faults:
            running |= {pool.submit(piece, *task, str(folder)) for task in _take(tasks, processes - len(running))}
            if not running:
                break
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for line, tally in (future.result() for future in finished):
                total.add(tally)
                if jsonl is not None:
                    append_line(jsonl, {**line, "commit": head})
                _tell(total, kills, (total.kills - before) / (time.monotonic() - started))
        for future in running:  # after a fault: what else was found
            total.add(future.result()[1])
    return total


def _take(tasks: Iterator[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    return [task for _, task in zip(range(count), tasks, strict=False)]


def _tell(total: Tally, kills: int, rate: float) -> None:
    left = max(0, kills - total.kills) / rate if rate else 0.0
    text = f"{total.kills} of {kills} kills, {rate:.0f}/s, {left / 60:.1f} min to go, {len(total.faults)} faults"
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emm_fuzz.kill", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--jsonl", type=Path, help="append a line for each piece; pieces in it are not run again")
    parser.add_argument("--folder", type=Path, help="where the memories lie; default tmpfs, where there is one")
    parser.add_argument("--piece", type=int, metavar="SEED", help="run one piece again")
    given = parser.parse_args(arguments)
    folder = given.folder or memory_folder()
    started = time.monotonic()
    if given.piece is not None:
        _, total = piece(given.piece, PIECE_KILLS, str(folder))
    else:
        total = run(given.kills, given.seed, folder, processes=given.processes, jsonl=given.jsonl)
    print(f"seed {given.seed} on {file_system(folder)}: {total.summary()}\n{time.monotonic() - started:.1f} s")
    for fault in total.faults:
        print(f"FAULT {fault}", file=sys.stderr)
    return 1 if total.faults else 0


if __name__ == "__main__":
    sys.exit(main())
