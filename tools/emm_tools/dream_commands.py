"""`emm dream` and `emm dreams`: consolidate what a lab's memories hold, and read what that did.

Purpose: thin commands over `Archive.dreamer`. Invariants: nothing is dreamt about that did not opt in; each report is
printed when its cycle ends; `emm dreams` writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import click

from emm_engine import Archive
from emm_engine.dream.activity import Activity
from emm_engine.dream.budget import Budget, SystemClock
from emm_engine.dream.dreamer import Dreamer
from emm_engine.dream.probes import Recall
from emm_engine.dream.reports import DreamReport
from emm_engine.dream.schedule import Policy, Scheduler
from emm_engine.hierarchy import Place, parse_place
from emm_tools.exits import OneSentence, counted, examples, printable
from emm_tools.finite_range import FiniteRange
from emm_tools.inspect_text import table

OPT_IN = "no run has opted in: emm settings ARCHIVE SCOPE sharing.dream on"
_POLICY = Policy()


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm dream labs/archive --once",
        "emm dream labs/archive --once --scope chemistry --seconds 60 --json",
        "emm dream labs/archive --follow --quiet 600",
    ),
)
@click.argument("archive")
@click.option("--once", is_flag=True, help="One cycle now for each run that is due.")
@click.option("--follow", is_flag=True, help="Watch, and dream whenever nobody needs the machine, until interrupted.")
@click.option("--scope", help="Only at or below [tenant:]domain[/project[/run]].")
@click.option("--seconds", type=FiniteRange(0, min_open=True), help="Time a cycle may take before it pauses.")
@click.option("--writes", type=click.IntRange(0), help="Pairs that a cycle may write [default: no bound].")
@click.option(
    "--quiet",
    type=FiniteRange(0),
    default=_POLICY.quiet_seconds,
    show_default=True,
    help="With --follow: seconds since anybody asked or ingested.",
)
@click.option(
    "--load",
    type=FiniteRange(0),
    default=_POLICY.load_max,
    show_default=True,
    help="With --follow: load average for each processor, at most.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a cycle.")
def dream(
    archive: str,
    once: bool,
    follow: bool,
    scope: str | None,
    seconds: float | None,
    writes: int | None,
    quiet: float,
    load: float,
    as_json: bool,
) -> None:
    """Consolidate the runs of ARCHIVE that opted in and have something new.

    A cycle settles what waits, reads kept text again where the extractor has changed, takes superseded versions out,
    makes room, and measures recall before and after. It works on a copy, gives way to whoever writes, and puts nothing
    in place that answers worse. What was stopped, in whatever way, the next dream finishes or takes back.
    """
    if once == follow:
        raise click.UsageError("give --once or --follow.")
    place = None if scope is None else parse_place(scope)
    with Archive.open(archive) as opened:
        dreamer = opened.dreamer()
        if not dreamer.opted_in(place):
            click.echo(f"note: {OPT_IN}", err=True)
        if once:
            clock = SystemClock()
            reports: Iterable[DreamReport] = dreamer.dream(lambda: Budget(clock, seconds, writes), place)
        else:
            policy = Policy(quiet, load, seconds=_POLICY.seconds if seconds is None else seconds, writes=writes)
            reports = _following(dreamer, policy, place)
        n_cycles = 0
        for report in reports:
            n_cycles += 1
            _show(report, as_json)
        if not n_cycles and not as_json:
            click.echo("nothing is due")


def _following(dreamer: Dreamer, policy: Policy, place: Place | None) -> Iterator[DreamReport]:
    scheduler = Scheduler(dreamer, Activity(dreamer.folder), SystemClock(), policy, place)
    return scheduler.follow(lambda: True, lambda text: click.echo(f"note: {printable(text)}", err=True))


@click.command(
    cls=OneSentence,
    epilog=examples("emm dreams labs/archive", "emm dreams labs/archive --scope chemistry/kinetics --json"),
)
@click.argument("archive")
@click.option("--scope", help="Only at or below [tenant:]domain[/project[/run]].")
@click.option("--count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Newest cycles to show.")
@click.option("--details", is_flag=True, help="Everything that each cycle found, not one line.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a cycle.")
def dreams(archive: str, scope: str | None, count: int, details: bool, as_json: bool) -> None:
    """Report the dream cycles of ARCHIVE, newest first: what was learnt and superseded, recall and stale answers."""
    with Archive.open(archive) as opened:
        reports = opened.dreamer().reports(None if scope is None else parse_place(scope), count)
    if as_json or details:
        for report in reports:
            _show(report, as_json)
        return
    columns = "cycle run started outcome learnt superseded relabelled recall stale writes time"
    rows = [
        (
            report.cycle_id,
            report.scope,
            report.started,
            report.outcome,
            report.learnt,
            report.superseded,
            report.relabelled,
            f"{_top1(report.recall_before)} → {_top1(report.recall_after)}",
            f"{report.stale_before[0]} → {report.stale_after[0]}",
            report.writes,
            f"{report.seconds:.1f} s",
        )
        for report in reports
    ]
    click.echo("\n".join(table(columns.split(), rows)) if rows else "nobody has dreamt in this archive yet")


def _top1(recall: Recall | None) -> str:
    return "-" if recall is None else f"{recall.top1:.2f}"


def _show(report: DreamReport, as_json: bool) -> None:
    click.echo(json.dumps(report.to_dict()) if as_json else "\n".join(_told(report)))


def _told(report: DreamReport) -> Iterator[str]:
    why = f" ({report.why})" if report.why else ""
    yield f"{report.scope}: cycle {report.cycle_id} {printable(report.outcome + why)} in {report.seconds:.1f} s"
    yield (
        f"  pairs       {report.learnt} learnt, {report.superseded} superseded versions taken out, "
        f"{report.relabelled} given new labels, {report.replayed} replayed; {counted(report.writes, 'write')} on a copy"
    )
    if report.recall_before is not None and report.recall_after is not None:
        before, after = report.recall_before, report.recall_after
        yield (
            f"  recall      of {counted(before.n, 'probe')}: top-1 {before.top1:.3f} → {after.top1:.3f}, cosine "
            f"{before.cosine:.3f} → {after.cosine:.3f}; held-out queries {before.held_out_top1:.3f} → "
            f"{after.held_out_top1:.3f}, {before.held_out_cosine:.3f} → {after.held_out_cosine:.3f}"
        )
    yield (
        f"  stale       {report.stale_before[0]} of {counted(report.stale_before[1], 'question')} → "
        f"{report.stale_after[0]} of {report.stale_after[1]}"
    )
    yield f"  matrix      rank {report.rank[0]} → {report.rank[1]}, saturation {_shares(report.saturation)}"
    if report.contradictions:
        shown = ", ".join(f"{old} and {new}" for old, new in report.contradicting)
        yield f"  contradict  {counted(report.contradictions, 'fact')} in two texts of one title (passages {shown})"
    for note in report.notes:
        yield f"  note        {printable(note)}"


def _shares(saturation: tuple[float, float]) -> str:
    return f"{saturation[0]:.2f} → {saturation[1]:.2f}"
