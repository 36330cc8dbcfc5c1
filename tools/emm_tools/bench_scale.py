"""`emm bench scale`: how much sooner two workers are through than one.

Purpose: the same work by this process alone, by one and two processes, and by two workers of Dask. Invariants: all take
turns in each round, so that a busy moment hits them alike; workers are started and have loaded what they need before
the clock runs; what comes out is compared each time, and a difference is an error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

import emm
from emm.testing.machine import this_machine
from emm.verify import Level, Request, Scrub
from emm_engine import documents_below, machine_documents
from emm_engine.scale.embedding import fanned
from emm_engine.scale.learning import Like, learn_through
from emm_engine.scale.reading import Reading
from emm_engine.scale.verifying import Verifying
from emm_engine.scale.workers import Workers, open_workers
from emm_engine.sources.intake import Intake
from emm_tools.exits import examples
from emm_tools.inspect_text import table

CREWS = {"1 process": "1", "2 processes": "2", "dask, 2 workers": "dask:2"}
ALONE = "without workers"
MACHINE_DOCUMENTATION = Path("/usr/share/doc")
N_TEXTS, N_FITTED, N_MEMORIES, N_PAIRS = 3000, 1000, 24, 16_384
LIKE = Like(dim=768, rank=256, key_dim=256, ridge=1.0)

Job = Callable[[Workers | None], str]  # what came out, as one word that compares


@dataclass(frozen=True, slots=True)
class Row:
    """One job done by one crew. Seconds of the wall."""

    job: str
    crew: str
    best_s: float
    median_s: float
    over_one: float  # median of the rounds' ratios: one process's seconds to this crew's


@click.command(epilog=examples("emm bench scale", "emm bench scale notes/ --rounds 5 --json scale.json"))
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Store the figures here.")
def scale(folder: Path | None, rounds: int, json_path: Path | None) -> None:
    """How much sooner two workers are through than one: reading, embedding, checking and learning.

    Reads the text below FOLDER, or what documentation this machine has.
    """
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="emm-bench-")))
        jobs = _jobs(folder or MACHINE_DOCUMENTATION, scratch)
        crews: dict[str, Workers | None] = {ALONE: None}
        crews |= {name: stack.enter_context(open_workers(text)) for name, text in CREWS.items()}
        rows = [row for name, job in jobs.items() for row in _measured(name, job, crews, rounds)]
    machine = this_machine()
    load = f"{os.getloadavg()[0]:.1f}"
    click.echo(f"{machine}; load average {load} at the end; medians of {rounds} rounds in turns")
    head = ("job", "by", "best s", "median s", "× one process")
    cells = [(row.job, row.crew, f"{row.best_s:.2f}", f"{row.median_s:.2f}", f"{row.over_one:.2f}") for row in rows]
    click.echo("\n".join(table(head, cells)))
    if json_path is not None:
        found = {"machine": dataclasses.asdict(machine), "load_average": load, "rounds": rounds}
        json_path.write_text(json.dumps({**found, "rows": [dataclasses.asdict(row) for row in rows]}, indent=1) + "\n")


def _measured(name: str, job: Job, crews: dict[str, Workers | None], rounds: int) -> Iterator[Row]:
    seconds: dict[str, list[float]] = {crew: [] for crew in crews}
    answers: set[str] = {job(workers) for workers in crews.values()}  # and everything is loaded
    for number in range(rounds):
        order = list(crews)
        for crew in order[number % len(order) :] + order[: number % len(order)]:
            started = time.perf_counter()
            answers.add(job(crews[crew]))
            seconds[crew].append(time.perf_counter() - started)
    if len(answers) != 1:
        raise click.ClickException(f"{name} came out differently: {sorted(answers)}")
    ones = seconds["1 process"]
    for crew, taken in seconds.items():
        ratios = [one / own for one, own in zip(ones, taken, strict=True)]
        yield Row(name, crew, min(taken), statistics.median(taken), statistics.median(ratios))


def _jobs(folder: Path, scratch: Path) -> dict[str, Job]:
    documents = machine_documents()[1] if folder == MACHINE_DOCUMENTATION else documents_below(folder)
    texts = [document.text for document in itertools.islice(documents, N_TEXTS)]
    from emm_engine.embeddings.lsa import LsaProvider  # scikit-learn takes a second that `--help` need not wait

    model = LsaProvider().fit(texts[:N_FITTED], 256)
    tree = scratch / "tree"
    chance = np.random.default_rng(0)
    keys = chance.standard_normal((N_PAIRS, LIKE.key_dim), np.float32) / np.float32(16)
    values = chance.standard_normal((N_PAIRS, LIKE.dim), np.float32)
    for number in range(N_MEMORIES):
        with emm.create(tree / f"{number:03}", dim=768, rank=256, key_dim=256, expand_at=0) as memory:
            memory.write(keys[:256], values[:256])

    def read(workers: Workers | None) -> str:
        intake = Intake([folder])
        found = intake.documents() if workers is None else Reading(workers, intake).documents()
        return str(sum(len(document.text) for document in found))

    def embed(workers: Workers | None) -> str:
        rows = (model if workers is None else fanned(model, workers)).embed(texts)
        return hashlib.sha256(rows.tobytes()).hexdigest()

    def verify(workers: Workers | None) -> str:
        if workers is None:
            alone = Scrub(Request((str(tree),), Level.NUMERIC))
            return str((sum(1 for _ in alone.run()), alone.totals.exit_code))
        check = Verifying(workers, [str(tree)], Level.NUMERIC)
        return str((sum(1 for _ in check.targets()), check.totals.exit_code))

    def learn(workers: Workers | None) -> str:
        with tempfile.TemporaryDirectory(dir=scratch) as place:
            path = Path(place) / "memory"
            if workers is not None:
                with learn_through(workers, LIKE, keys, values, path) as memory:
                    return str(memory.write_count)
            with LIKE.create(path) as memory:
                memory.write(keys, values)
                memory.checkpoint()
                return str(memory.write_count)

    return {
        "read": read,
        f"embed {len(texts)} texts": embed,
        f"verify {N_MEMORIES} memories, numeric": verify,
        f"learn {N_PAIRS} pairs": learn,
    }
