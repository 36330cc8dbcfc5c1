"""`make bench-verify`: how fast a check is, beside what reads and hashes the same bytes otherwise, in one run.

Purpose: seconds, processor seconds and the largest process for a tree of memories and for one of 1 GiB, page cache
warm: `hashlib.sha256` on one thread, sha256sum, and b3sum, restic and borg where they are installed, emm-verify with
one and two jobs and at level table, and what no check of a tree can be faster than: each file opened and its first
bytes read. Invariants: all take turns, so that a busy moment hits them alike; a peer that is
not installed is named as missing, never estimated; every check must end with 0. On a machine whose cores are shared,
wall time measures the neighbours: processor seconds are given beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

import emm
from emm.codec.digests import hashed_by
from emm.codec.integrity import CRC_BY
from emm.testing.machine import this_machine
from emm.verify import Level, Request, Scrub

ROUNDS: Final = 5
MEMORIES: Final = 2000
BIG_SHAPE: Final = (262144, 1024)  # 1 GiB of float32
TREE_SHAPE: Final = (1024, 256)  # dim × rank: with P̄ and U, 1.3 MB a snapshot
HEAD_BYTES: Final = 4096  # of the small snapshots: all before the payload
SPARE_BYTES: Final = 2 << 30
_EMPTY: Final = "The memory of 1 GiB is empty: restic and borg keep equal zeros once, so their rows there say little."
_OPENED: Final = f"each file opened, {HEAD_BYTES} bytes read"
_BY_FILE: Final = (
    "Level table costs time by the file, level blocks by the byte, so the first gains most where files are large."
)
_CLI: Final = "import sys; from emm_tools.entry import emm_verify; emm_verify()"
_PEAK: Final = (
    "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode;"
    "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)


@dataclass(slots=True)
class Row:
    """One way to read a tree: seconds on the wall and of all processors, one of each for a round."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def make_tree(root: Path, memories: int) -> None:
    """Memories of two snapshots and a journal, each with contents of its own."""
    dim, rank = TREE_SHAPE
    for number in range(memories):
        random = np.random.default_rng(number)
        with emm.create(root / f"m{number:04}", dim=dim, rank=rank, key_dim=rank, expand_at=0) as memory:
            keys = random.standard_normal((16, rank), np.float32) / np.float32(np.sqrt(rank))
            memory.write(keys, random.standard_normal((16, dim), np.float32))


def make_big(path: Path) -> None:
    """One snapshot of 1 GiB."""
    dim, rank = BIG_SHAPE
    emm.create(path, dim=dim, rank=rank, key_dim=rank, rule="gated-delta", expand_at=0).close()


def files_below(root: Path) -> list[str]:
    return sorted(os.path.join(place, name) for place, _, names in os.walk(root) for name in names)


def by_hashlib(files: list[str]) -> None:
    for each in files:
        with open(each, "rb") as file:
            hashlib.file_digest(file, "sha256")


def by_opening(files: list[str]) -> None:
    for each in files:
        with open(each, "rb", buffering=0) as file:
            file.read(HEAD_BYTES)


def by_command(*command: str, environment: dict[str, str] | None = None) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env={**os.environ, **(environment or {})})


def by_check(root: Path, jobs: int, level: Level) -> None:
    scrub = Scrub(Request((str(root),), jobs=jobs, level=level))
    for _ in scrub.run():
        pass
    if scrub.totals.exit_code:
        raise RuntimeError(f"the check of {root.name} ended with {scrub.totals.exit_code}")


def peers(root: Path, files: list[str], scratch: Path) -> tuple[dict[str, Callable[[], None]], list[str]]:
    """(what is installed here, what is not)."""
    found: dict[str, Callable[[], None]] = {}
    missing = []
    names = scratch / f"{root.name}.names"
    names.write_bytes(b"\0".join(map(os.fsencode, files)))
    for tool in ("sha256sum", "b3sum"):
        program = shutil.which(tool)
        if program is None:
            missing.append(tool)
        else:
            found[tool] = lambda program=program: by_command("xargs", "-0", "-a", str(names), program)  # type: ignore[misc]
    secret = {"RESTIC_PASSWORD": "bench", "BORG_PASSPHRASE": "", "BORG_BASE_DIR": str(scratch)}
    for tool, prepare, check in (
        ("restic", (("init",), ("backup", str(root))), ("check", "--read-data")),
        ("borg", (("init", "-e", "none"), ("create", "::one", str(root))), ("check", "--verify-data")),
    ):
        program, repository = shutil.which(tool), scratch / f"{root.name}.{tool}"
        if program is None:
            missing.append(f"{tool} {' '.join(check)}")
            continue
        place = {**secret, "RESTIC_REPOSITORY": str(repository), "BORG_REPO": str(repository)}
        for each in prepare:
            by_command(program, *each, environment=place)
        found[f"{tool} {' '.join(check)}"] = lambda p=program, c=check, e=place: by_command(p, *c, environment=e)  # type: ignore[misc]
    return found, missing


def processor_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def measured(tasks: dict[str, Callable[[], None]], rounds: int) -> dict[str, Row]:
    """The tasks in turn, after one round that warms the page cache."""
    rows = {name: Row() for name in tasks}
    for number in range(rounds + 1):
        for name, task in tasks.items():
            start, spent = time.perf_counter(), processor_seconds()
            task()
            if number:
                rows[name].wall.append(time.perf_counter() - start)
                rows[name].processor.append(processor_seconds() - spent)
    return rows


def peak_mib(root: Path, jobs: int) -> float:
    """The largest process of `emm-verify --jobs`, in MiB."""
    command = [sys.executable, "-c", _PEAK, sys.executable, "-c", _CLI, "-q", "--jobs", str(jobs), str(root)]
    code, kib = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if int(code):
        raise RuntimeError(f"emm-verify ended with {code}")
    return int(kib) / 1024


def section(root: Path, title: str, scratch: Path, rounds: int) -> dict[str, Any]:
    """Everything measured on one tree."""
    files = files_below(root)
    others, missing = peers(root, files, scratch)
    tasks: dict[str, Callable[[], None]] = {
        "hashlib.sha256, one thread": lambda: by_hashlib(files),
        **others,
        "emm-verify, 1 job": lambda: by_check(root, 1, Level.BLOCKS),
        "emm-verify, 2 jobs": lambda: by_check(root, 2, Level.BLOCKS),
        "emm-verify --level table, 1 job": lambda: by_check(root, 1, Level.TABLE),
        "emm-verify --level table, 2 jobs": lambda: by_check(root, 2, Level.TABLE),
    }
    tasks[_OPENED] = lambda: by_opening(files)
    rows = measured(tasks, rounds)
    return {
        "title": title,
        "files": len(files),
        "bytes": sum(map(os.path.getsize, files)),
        "missing": missing,
        "rows": {name: asdict(row) for name, row in rows.items()},
        "peak_mib": {str(jobs): peak_mib(root, jobs) for jobs in (1, 2)},
    }


def lines_of(found: dict[str, Any]) -> list[str]:
    """A Markdown section: the best round of each, and how it compares."""
    rows = {name: (min(row["wall"]), sorted(row["wall"])[len(row["wall"]) // 2], min(row["processor"]))
            for name, row in found["rows"].items()}  # fmt: skip
    base = rows["hashlib.sha256, one thread"]
    files = f"{found['files']} file{'' if found['files'] == 1 else 's'}"
    lines = [f"## {found['title']}", "", f"{files}, {found['bytes'] / 1e9:.2f} GB.", ""]
    lines += ["| | best s | median s | GB/s | × hashlib | processor s | × hashlib |", "|---|---|---|---|---|---|---|"]
    for name, (best, middle, spent) in rows.items():
        rate, ratio = found["bytes"] / best / 1e9, base[0] / best
        work = f"{spent:.2f} | {base[2] / spent:.2f}" if spent >= 0.05 else f"{spent:.2f} | -"  # a clock of 10 ms
        lines.append(f"| {name} | {best:.3f} | {middle:.3f} | {rate:.2f} | {ratio:.2f} | {work} |")
    full, table = rows["emm-verify, 1 job"][0], rows["emm-verify --level table, 1 job"][0]
    opened = rows[_OPENED][0]
    peak = ", ".join(f"{mib:.0f} MiB with {jobs} {'job' if jobs == '1' else 'jobs'}"
                     for jobs, mib in found["peak_mib"].items())  # fmt: skip
    times = (
        f"Level table is {full / table:.0f} × as fast as blocks; opening the files takes {opened / table:.0%} of it."
    )
    lines += ["", f"{times} Largest process: {peak}."]
    if found["missing"]:
        lines.append(f"Not installed here: {', '.join(found['missing'])}.")
    return lines


def page_of(report: dict[str, Any]) -> list[str]:
    """The page of a run, line by line."""
    about = ", ".join(f"{name} {value}" for name, value in report["machine"].items())
    page = ["# Speed of checking", "", f"`{report['command']}` on {about};"]
    page += [f"{report['rounds']} rounds, load average {report['load']:.1f} at the end. Page cache warm."]
    page += [
        "Where other work shares the cores, processor seconds compare better than the wall's.",
        _EMPTY,
        _BY_FILE,
        "",
    ]
    return page + [line for found in report["sections"] for line in (*lines_of(found), "")]


def command_line(options: argparse.Namespace) -> str:
    """What a person types for this run, with the options that change what is measured."""
    chosen = (("memories", options.memories, MEMORIES), ("rounds", options.rounds, ROUNDS))
    given = [f"--{name} {value}" for name, value, usual in chosen if value != usual]
    given += ["--no-big"] if options.no_big else []
    if options.json is None:
        return " ".join(["python -m emm.testing.verify_bench", *given])
    return f'make bench-verify ARGS="{" ".join(given)}"' if given else "make bench-verify"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emm.testing.verify_bench", description=__doc__)
    parser.add_argument("--json", type=Path, help="store the run here, and a page with its tables beside it")
    parser.add_argument("--memories", type=int, default=MEMORIES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--scratch", type=Path, help="a directory for about 8 GB (default: the temporary directory)")
    parser.add_argument("--no-big", action="store_true", help="leave the memory of 1 GiB out")
    options = parser.parse_args(arguments)
    about = {
        **asdict(this_machine()),
        "crc32": CRC_BY,
        "sha256": hashed_by(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    command = command_line(options)
    report: dict[str, Any] = {"command": command, "machine": about, "rounds": options.rounds, "sections": []}
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="emm-bench-verify-") as place:
        scratch = Path(place)
        tree, big = scratch / "tree", scratch / "big"
        make_tree(tree, options.memories)
        size = sum(map(os.path.getsize, files_below(tree)))
        if shutil.disk_usage(scratch).free < SPARE_BYTES:
            raise RuntimeError("there is not enough room to measure")
        report["sections"].append(section(tree, f"A tree of {options.memories} memories", scratch, options.rounds))
        if not options.no_big:
            make_big(big)
            report["sections"].append(section(big, "One memory of 1 GiB", scratch, options.rounds))
        report["load"] = os.getloadavg()[0]
    page = page_of(report)
    print("\n".join(page), f"\n({size / 1e9:.2f} GB in the tree)", flush=True)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        options.json.with_suffix(".md").write_text("\n".join(page).rstrip() + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
