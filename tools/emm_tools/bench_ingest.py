"""`emm bench ingest`: how fast documents come in, and whether memory follows the corpus.

Purpose: passages a second over everything (reading, storing durably, fitting, embedding without a model, learning) and
the peak memory of the process, for N passages and for 4 N. Invariants: each ingest is an `emm ingest` of its own, in
its own process; texts follow from the seed and are as long as notes are; figures are of this run.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from emm.testing.machine import this_machine
from emm_tools.bench_pages import replace_block
from emm_tools.exits import InputProblem, examples
from emm_tools.inspect_text import table

BLOCK = "emm bench ingest"
FACTOR = 4
WORDS = 20_000  # of the vocabulary; drawn with a frequency of one over their rank, as words are (Zipf)
WORDS_PER_PASSAGE = 90
PASSAGES_PER_DOCUMENT = 3
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class IngestRow:
    """One ingest."""

    n_passages: int
    seconds: float
    passages_per_second: float
    reading_s: float
    fitting_s: float
    absorbing_s: float
    peak_rss_mib: float
    archive_mib: float


@click.command(
    epilog=examples(
        "emm bench ingest", "emm bench ingest --passages 2000", "emm bench ingest --write docs/engine/ingest.md"
    )
)
@click.option("--passages", type=click.IntRange(30), default=15_000, show_default=True, help="N; then four times N.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option(
    "--write", "page", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Put the text into this page."
)
def ingest(passages: int, seed: int, as_json: bool, page: Path | None) -> None:
    """Passages a second and peak memory of an ingest of N and of 4 N passages, without an embedding model."""
    rows = [measure(count, seed) for count in (passages, FACTOR * passages)]
    if as_json:
        for row in rows:
            click.echo(json.dumps(asdict(row)))
        return
    head = ("passages", "seconds", "passages/s", "reading", "fitting", "absorbing", "peak RSS", "archive")
    shown = [
        (
            row.n_passages,
            f"{row.seconds:.1f}",
            f"{row.passages_per_second:.0f}",
            f"{row.reading_s:.1f} s",
            f"{row.fitting_s:.1f} s",
            f"{row.absorbing_s:.1f} s",
            f"{row.peak_rss_mib:.0f} MiB",
            f"{row.archive_mib:.0f} MiB",
        )
        for row in rows
    ]
    text = "\n".join([f"{this_machine()}; seed {seed}", *table(head, shown)])
    click.echo(text)
    if page is not None:
        replace_block(page, BLOCK, text)


def measure(n_passages: int, seed: int) -> IngestRow:
    """Ingest that many passages in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="emm-bench-ingest-") as place:
        lines, archive = Path(place, "corpus.jsonl"), Path(place, "archive")
        with lines.open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(record) + "\n" for record in corpus(n_passages, seed))
        command = [sys.executable, "-m", "emm_tools", "emm", "ingest", str(archive), str(lines), "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None and process.stderr is not None
        told = process.stdout.read()
        faults = process.stderr.read().decode(errors="replace")
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise InputProblem(f"emm ingest ended with {process.returncode}: {faults}")
        report = json.loads(told)
        size = sum(path.stat().st_size for path in archive.rglob("*") if path.is_file())
        phases = report["phase_seconds"]
        return IngestRow(
            n_passages=report["passages"],
            seconds=report["seconds"],
            passages_per_second=report["passages_per_second"],
            reading_s=phases["reading"],
            fitting_s=phases["fitting"],
            absorbing_s=phases["absorbing"],
            peak_rss_mib=used.ru_maxrss / 1024,
            archive_mib=size / MIB,
        )


def corpus(n_passages: int, seed: int) -> Iterator[dict[str, object]]:
    """Dated, tagged records of three paragraphs, each a passage."""
    chance = random.Random(seed)
    words = ["".join(chance.choices("aeiou", k=1) + chance.choices("bcdfghklmnprstvw", k=1)) for _ in range(400)]
    vocabulary = sorted({"".join(chance.choices(words, k=chance.randint(2, 4))) for _ in range(2 * WORDS)})[:WORDS]
    chance.shuffle(vocabulary)
    weights = [1.0 / (rank + 10) for rank in range(len(vocabulary))]
    for number in range(-(-n_passages // PASSAGES_PER_DOCUMENT)):
        paragraphs = []
        for _ in range(min(PASSAGES_PER_DOCUMENT, n_passages - number * PASSAGES_PER_DOCUMENT)):
            drawn = chance.choices(vocabulary, weights, k=WORDS_PER_PASSAGE)
            paragraphs.append(" ".join(drawn) + f".\npressure: {chance.randint(1, 9)}.5 bar")
        yield {
            "id": number,
            "title": f"note {number}",
            "text": "\n\n".join(paragraphs),
            "date": f"{2000 + number % 20}-0{1 + number % 9}-11",
            "tags": [f"topic {number % 50}"],
        }
