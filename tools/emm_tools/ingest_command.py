"""`emm ingest`: files of any format into a run of an archive, once or for as long as a folder grows.

Purpose: a thin command over `emm_engine.Intake` and `Archive.ingest`. Invariants: every skipped file is told, none is
fatal; progress is on stderr and only on a terminal; what a file says is never sent to the terminal raw.
"""

from __future__ import annotations

import functools
import itertools
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from emm_engine import Document, IngestReport, Intake, Progress, Scope, Settings, debian_changelogs
from emm_engine import machine_documents as read_machine
from emm_engine.reports import to_json
from emm_engine.scale.embedding import fanned
from emm_engine.scale.reading import Reading
from emm_engine.scale.workers import Workers
from emm_engine.sources import Threshold, Window, fields_of
from emm_engine.sources.registry import FORMATS
from emm_tools.engine_commands import open_or_create
from emm_tools.exits import InputProblem, OneSentence, counted, examples, printable, tell_notices
from emm_tools.finite_range import FiniteRange
from emm_tools.ingest_watch import watch_folders
from emm_tools.workers_option import workers_option

KINDS_NAMED = 5
Skipped = list[tuple[str, str]]


class ProgressLine:
    """One line on stderr that is overwritten; silent where stderr is no terminal."""

    def __init__(self, intake: Intake | None = None) -> None:
        self.shown = sys.stderr.isatty()
        self._intake = intake
        if self.shown and intake is not None:
            intake.measure()

    def __call__(self, progress: Progress) -> None:
        if self.shown:
            of = f" of {progress.total}" if progress.total is not None else ""
            text = f"{progress.phase} {progress.done}{of}, {progress.rate:.0f}/s{self._left(progress)}"
            click.echo(f"\r{text:60}", err=True, nl=False)

    def _left(self, progress: Progress) -> str:
        """The time left: of what is being read by bytes, of anything else by passages."""
        left = progress.seconds_left
        intake = self._intake
        if left is None and intake is not None and intake.bytes_total and intake.bytes_done:
            left = progress.seconds * max(intake.bytes_total - intake.bytes_done, 0) / intake.bytes_done
        return f", {int(left) // 60}:{int(left) % 60:02} left" if left is not None else ""

    def end(self) -> None:
        if self.shown:
            click.echo(f"\r{'':60}\r", err=True, nl=False)


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm ingest labs/archive notes/ --scope chemistry/catalysis/2024",
        "emm ingest labs/archive export.eln papers/ mail.mbox slack-export/",
        "emm ingest labs/archive dump.jsonl --field text=body --field date=when",
        "emm ingest labs/archive furnace.parquet --window 10min --threshold 'pressure>3.5'",
        "emm ingest labs/archive runs.csv --condition temperature --condition base --outcome yield",
        "emm ingest labs/archive notes/ --embedder ollama:nomic-embed-text@http://gpu-box:11434",
        "emm ingest labs/archive notes/ --watch",
        "emm ingest labs/archive notes/ --workers 4",
        "emm ingest labs/archive --machine --json",
    ),
)
@click.argument("archive")
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--machine", is_flag=True, help="Read what this machine already holds: changelogs, or Python's own docs.")
@click.option("--scope", default="general/notes/default", show_default=True, help="[tenant:]domain/project/run.")
@click.option("--format", "kind", type=click.Choice(sorted(FORMATS)), help="Of every file [default: each as it is].")
@click.option("--field", "fields", multiple=True, metavar="NAME=FIELD", help="Of JSON lines: text=body and the like.")
@click.option("--window", help="Of series: rows (1000) or a time (30s, 10min, 1h, 1d); makes any table a series.")
@click.option("--threshold", "thresholds", multiple=True, help="Of series: an event, as in 'pressure>3.5'.")
@click.option("--outcome", "outcomes", multiple=True, help="Column of tables that is one [default: by name].")
@click.option("--condition", "conditions", multiple=True, help="Column that is one [default: all but outcomes].")
@click.option("--embedder", help="lsa, minilm, ollama:MODEL[@URL] or openai:MODEL[@URL]; remembered for the domain.")
@click.option("--limit", type=click.IntRange(1), help="Stop after this many documents.")
@click.option("--watch", is_flag=True, help="Go on: read what is new or changed until Ctrl-C.")
@click.option("--interval", type=FiniteRange(0.05), default=2.0, show_default=True, help="Seconds between looks.")
@click.option("--settle", type=FiniteRange(0), default=2.0, show_default=True, help="Seconds a file rests.")
@workers_option
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object; with --watch one line a round.")
def ingest(
    archive: str,
    paths: tuple[Path, ...],
    machine: bool,
    scope: str,
    kind: str | None,
    fields: tuple[str, ...],
    window: str | None,
    thresholds: tuple[str, ...],
    outcomes: tuple[str, ...],
    conditions: tuple[str, ...],
    embedder: str | None,
    limit: int | None,
    watch: bool,
    interval: float,
    settle: float,
    workers: Workers | None,
    as_json: bool,
) -> None:
    """Store files, or all files below folders, in a run of ARCHIVE.

    Reads notes (text, Markdown), HTML, PDF, .eln, JSON lines, mailboxes, Slack-style exports, CSV and Parquet, mixed as
    they come; bad files are told and skipped, symbolic links are not followed. Makes the archive where there is none.
    Text is durable first; running it again adds only what is new. The formats are in docs/engine/ingest.md.
    """
    if bool(paths) == machine:
        raise click.UsageError("give files or folders, or --machine.")
    if watch and (machine or limit is not None or workers is not None):
        raise click.UsageError("--watch goes with files or folders, and without --limit or --workers.")
    place = Scope.parse(scope).require_run()
    settings = Settings(
        format=kind,
        fields=fields_of(fields),
        window=Window.parse(window) if window is not None else None,
        thresholds=tuple(map(Threshold.parse, thresholds)),
        outcomes=frozenset(name.lower() for name in outcomes),
        conditions=frozenset(name.lower() for name in conditions),
    )
    skipped: Skipped = []
    intake = Intake(paths, settings, lambda source, why: skipped.append((source, why)))
    if watch:
        watch_folders(archive, place, intake, skipped, interval, settle, as_json, embedder)
        return
    name = ", ".join(map(str, paths))
    reading = Reading(workers, intake) if workers is not None else None
    documents: Iterable[Document] = _documents(intake, reading, skipped)
    if machine:
        name, documents = read_machine(problem=lambda source, why: skipped.append((source, why)))
    source = iter(documents) if limit is None else itertools.islice(documents, limit)
    first = next(source, None)
    if first is None:
        say_skipped(skipped)
        raise InputProblem(f"{printable(name)} holds nothing that can be read, or no text in it.")
    progress = ProgressLine(intake)
    with open_or_create(archive) as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the report's notices repeat them
        through = functools.partial(fanned, workers=workers) if workers is not None else None
        report = opened.ingest(itertools.chain([first], source), place, progress, embedder, through)
        progress.end()
        memory = opened.memory_path(place)
    say_skipped(skipped)
    if reading is not None and reading.n_left:
        tell_notices([f"the workers did not see {counted(reading.n_left, 'file')}, which this process read itself"])
    tell_notices(report.notices)
    if as_json:
        files = {"files": intake.n_files, "other_files": intake.n_other, "bytes_read": intake.bytes_done}
        click.echo(to_json({**report.to_dict(), **files, "skipped": [list(each) for each in skipped]}))
    else:
        click.echo(_told(report, name, memory, intake, len(skipped)))


def _documents(intake: Intake, reading: Reading | None, skipped: Skipped) -> Iterator[Document]:
    for root in intake.roots:
        if root.is_dir():
            yield from debian_changelogs(root, lambda source, why: skipped.append((source, why)))
    yield from intake.documents() if reading is None else reading.documents()


def say_skipped(skipped: Iterable[tuple[str, str]]) -> None:
    """Each report about a file, on stderr."""
    for source, why in skipped:
        click.echo(f"skipped {printable(source)}: {printable(why)}", err=True)


def _kinds(intake: Intake) -> str:
    """The commonest suffixes of files that were not read."""
    commonest = intake.others.most_common(KINDS_NAMED)
    return printable(", ".join(f"{suffix or 'no suffix'} {count}" for suffix, count in commonest if count))


def _told(report: IngestReport, name: str, memory: Path, intake: Intake, n_skipped: int) -> str:
    phases = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in report.phase_seconds.items())
    other = f", {counted(intake.n_other, 'file')} of other kinds ({_kinds(intake)})" if intake.n_other else ""
    lines = [
        f"{report.scope}: {counted(report.entries_read, 'entry', 'entries')} of {printable(name)} in "
        f"{report.seconds:.1f} s ({phases})",
        f"  rate        {shown_rate(report.passages_per_second)} new passages/s, "
        f"{shown_rate(report.entries_per_second)} entries/s read, copies included",
        f"  new         {counted(report.documents, 'document')} ({_copies(report.duplicates)}), "
        f"{counted(report.passages, 'passage')}; {report.superseded} superseded, {counted(n_skipped, 'file')} skipped"
        f"{other}",
        f"  matrix      {counted(report.pairs, 'pair')} absorbed, {report.unlearned} unlearned, "
        f"{report.pending} pending; rank {report.rank}, saturation {report.saturation:.2f}, LSN {report.lsn}",
        f"  memory      {printable(str(memory))}",
    ]
    if report.blocked:
        refused = counted(report.blocked, "entry", "entries")
        lines.insert(-1, f"  refused     {refused} forgotten for good (emm forget --block)")
    return "\n".join(lines)


def shown_rate(each_second: float) -> str:
    """A whole number, and below ten one place: one note in seven seconds is not none."""
    return f"{each_second:.1f}" if 0 < each_second < 10 else f"{each_second:.0f}"


def _copies(count: int) -> str:
    if count == 1:
        return "1 entry was a copy of one already there"
    return f"{count or 'no'} entries were copies of ones already there"
