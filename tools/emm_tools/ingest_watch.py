"""`emm ingest --watch`: rounds of ingest for as long as a folder grows.

Purpose: look, read what has settled, look again. Invariants: a round is one ingest, durable when it is told; files
count as read only after that; Ctrl-C between rounds ends at once, in a round after the document at hand and what was
read with it (a second one stops there, as a kill would: the next ingest goes on); a run that another writer holds is
tried again at the next look.
"""

from __future__ import annotations

import signal
import time
import warnings
from collections.abc import Iterator
from types import FrameType

import click

import emm
from emm_engine import Document, IngestReport, Intake, Scope
from emm_engine.reports import to_json
from emm_engine.sources.files import Found
from emm_engine.sources.watch import FolderWatch
from emm_tools.engine_commands import open_or_create
from emm_tools.exits import counted, printable, tell_notices


class _Asked(Exception):
    """Ctrl-C while nothing is going on."""


class _Interrupts:
    """What SIGINT and SIGTERM do while folders are watched."""

    def __init__(self) -> None:
        self.asked = False
        self._idle = False
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        if self._idle:
            raise _Asked
        if again:
            raise KeyboardInterrupt

    def sleep(self, seconds: float) -> None:
        """Wait, or return at once when asked to end."""
        try:
            self._idle = True
            if not self.asked:
                time.sleep(seconds)
        except _Asked:
            pass
        finally:
            self._idle = False

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def watch_folders(
    archive: str,
    place: Scope,
    intake: Intake,
    skipped: list[tuple[str, str]],
    interval_s: float,
    settle_s: float,
    as_json: bool,
    embedder: str | None,
) -> None:
    """Rounds until SIGINT or SIGTERM."""
    watch = FolderWatch(intake.files, time.monotonic, settle_s)
    interrupts = _Interrupts()
    click.echo(f"watching {', '.join(printable(str(root)) for root in intake.roots)}; Ctrl-C ends", err=True)
    n_rounds, n_documents, told_fenced = 0, 0, False
    try:
        while not interrupts.asked:
            ready = watch.poll()
            if ready:
                try:
                    report, complete = _round(archive, place, intake, ready, interrupts, embedder)
                except emm.FencedError as error:
                    if not told_fenced:
                        click.echo(f"waiting: {printable(str(error))}", err=True)
                    told_fenced = True
                else:
                    told_fenced = False
                    n_rounds, n_documents = n_rounds + 1, n_documents + (report.documents if report else 0)
                    if complete:
                        watch.done(ready)
                    _tell(report, ready, skipped, as_json)
            interrupts.sleep(interval_s)
    finally:
        interrupts.restore()
    click.echo(f"ended after {counted(n_rounds, 'round')}: {counted(n_documents, 'new document')}", err=True)


def _round(
    archive: str, place: Scope, intake: Intake, ready: list[Found], interrupts: _Interrupts, embedder: str | None
) -> tuple[IngestReport | None, bool]:
    """(what an ingest of these files did, None where there was no text; whether they were all read)."""
    complete = True

    def documents() -> Iterator[Document]:
        nonlocal complete
        for document in intake.documents(ready):
            if interrupts.asked:
                complete = False
                return
            yield document

    source = documents()
    first = next(source, None)
    if first is None:
        return None, complete
    with open_or_create(archive) as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the report's notices repeat them
        report = opened.ingest(_with(first, source), place, embedder=embedder)
    return report, complete


def _with(first: Document, rest: Iterator[Document]) -> Iterator[Document]:
    yield first
    yield from rest


def _tell(report: IngestReport | None, ready: list[Found], skipped: list[tuple[str, str]], as_json: bool) -> None:
    for source, why in skipped:
        click.echo(f"skipped {printable(source)}: {printable(why)}", err=True)
    if report is not None:
        tell_notices(report.notices)
    if as_json:
        fields = report.to_dict() if report is not None else {}
        files = {"files": [found.source for found in ready], "skipped": [list(each) for each in skipped]}
        click.echo(to_json({**fields, **files}, indent=None))
    else:
        done = report if report is not None else None
        said = f"{counted(done.documents, 'new document')}, {counted(done.passages, 'passage')}" if done else "no text"
        click.echo(f"{time.strftime('%H:%M:%S')} {counted(len(ready), 'file')}: {said}")
    skipped.clear()
