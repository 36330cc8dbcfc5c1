"""`emm-verify PATH…`: check files, memories and whole trees; say what is damaged and whether it can be mended.

Purpose: run `emm.verify.Scrub`, print targets as they are through, exit with the run's code. Invariants: checking
never writes into what it checks (for `--repair` see `repair_command`); stdout is the report and nothing else (text,
JSON or JSON lines); progress is on stderr, only on a terminal; no list of targets is kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import click

from emm.verify import Finding, Scrub, Severity, Target, bytes_below
from emm_tools.exits import OneSentence, examples
from emm_tools.repair_command import repair_options, run_repair
from emm_tools.verify_options import request_of, scrub_options
from emm_tools.verify_progress import ProgressBar
from emm_tools.verify_text import summary_lines, target_lines
from emm_tools.version import version

LEVELS = ("header", "table", "blocks", "replay", "numeric")


def _print_text(scrub: Scrub, targets: Iterator[Target], bar: ProgressBar, quiet: bool, summary: bool | None) -> None:
    begun, start = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"), time.monotonic()
    for target in targets:
        if not quiet or any(each.severity is not Severity.NOTICE for each in target.findings):
            bar.clear()
            for line in target_lines(target):
                click.echo(line)
    bar.clear()
    totals = scrub.totals
    notable = totals.targets != 1 or scrub.sample is not None or bool(totals.recent or totals.not_reached)
    if summary or (summary is None and not quiet and notable):
        for line in summary_lines(totals, scrub.sample, begun, time.monotonic() - start):
            click.echo(line)


def _print_json(scrub: Scrub, targets: Iterator[Target], bar: ProgressBar) -> None:
    """One object: what `Report.to_json()` has, the targets written as they are through."""
    request = scrub.request
    first = {"level": request.level.label, "strict": request.strict, "url": ", ".join(request.urls)}
    click.echo("{" + ",".join(f"\n  {json.dumps(key)}: {json.dumps(value)}" for key, value in first.items()), nl=False)
    click.echo(',\n  "targets": [', nl=False)
    between = "\n"
    for target in targets:
        bar.clear()
        text = json.dumps(target.to_dict(), indent=2, sort_keys=True).replace("\n", "\n    ")
        click.echo(f"{between}    {text}", nl=False)
        between = ",\n"
    bar.clear()
    totals = scrub.totals
    last: dict[str, Any] = {
        "coverage": totals.coverage.to_dict(),
        "exit_code": totals.exit_code,
        "verdict": str(totals.verdict),
    }
    if scrub.sample is not None or request.ledger is not None or request.against is not None:
        last["run"] = _run(scrub)
    text = json.dumps(last, indent=2, sort_keys=True)
    click.echo(f"\n  ],{text[1:]}")


def _run(scrub: Scrub) -> dict[str, Any]:
    """What is particular about this run."""
    totals, sample, request = scrub.totals, scrub.sample, scrub.request
    return {
        "sample": None if sample is None else sample.text,
        "seed": None if sample is None else sample.seed,
        "against": request.against,
        "places_found": totals.places,
        "places_recent": totals.recent,
        "places_not_reached": totals.not_reached,
    }


def _line(kind: str, values: dict[str, Any]) -> None:
    click.echo(json.dumps({"type": kind, **values}, sort_keys=True))


def _print_jsonl(scrub: Scrub, targets: Iterator[Target], bar: ProgressBar) -> None:
    """Findings were printed as they were met; here the last word on each target, and the summary."""
    for target in targets:
        bar.clear()
        _line("target", target.to_dict())
    bar.clear()
    _line("summary", {**scrub.totals.to_dict(), **_run(scrub)})


@click.command(
    "verify",
    cls=OneSentence,
    epilog=examples(
        "emm-verify labs/chemistry",
        "emm-verify labs/ --level numeric",
        "emm-verify labs/chemistry/0000000000000008.emm --json",
        "emm-verify -q labs/ || echo damaged",
        "emm-verify --jobs 4 --max-age 30d --max-duration 15m labs/",
        "emm-verify --sample 1/30 labs/",
        "emm-verify labs/ --against /backup/labs",
        "emm-verify --repair --out repaired/chemistry labs/chemistry",
    ),
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--level",
    type=click.Choice(LEVELS),
    default="blocks",
    show_default=True,
    help="How deep: each level includes those before it; blocks includes the journal.",
)
@click.option("--strict", is_flag=True, help="Exit 7 for an unsealed tail or incomplete coverage.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
@click.option("--jsonl", "as_jsonl", is_flag=True, help="JSON lines: findings as they are met, targets, a summary.")
@click.option("-q", "--quiet", is_flag=True, help="Only targets with findings that are more than a notice.")
@click.option(
    "--summary/--no-summary",
    default=None,
    help="Totals at the end; without either, where there is more than one target.",
)
@scrub_options
@repair_options
@click.version_option(version(), prog_name="emm-verify")
def verify_command(
    paths: tuple[str, ...],
    level: str,
    strict: bool,
    as_json: bool,
    as_jsonl: bool,
    quiet: bool,
    summary: bool | None,
    **given: Any,
) -> int:
    """Check memory directories, single .emm, .wal or v3 files, trees of them, and what patterns and URLs lead to.

    In a tree, v3 files are those whose names end in .v3.

    \b
    Exit code: 0 clean, 3 damaged but fully repairable, 4 damaged with loss,
    5 not EMM or unsupported, 6 could not tell, 7 incomplete (--strict),
    10 missing; of many targets the worst.
    """
    if as_json and as_jsonl:
        raise click.UsageError("choose one of --json and --jsonl.")
    request = request_of(paths, level, strict, given)
    bar = ProgressBar(None if request.ledger or request.sample or level in LEVELS[:2] else lambda: bytes_below(paths))
    repaired = run_repair(paths, given, level=level, as_json=as_json, as_jsonl=as_jsonl, progress=bar)
    if repaired is not None:
        bar.end()
        return repaired

    def on_finding(url: str, met: Finding) -> None:
        bar.seen += 1
        if as_jsonl:
            bar.clear()
            _line("finding", {"url": url, **met.to_dict()})

    told = on_finding if as_jsonl or bar.shown else None
    scrub = Scrub(request, progress=bar if bar.shown else None, on_finding=told)
    try:
        with closing(scrub.run()) as targets:
            if as_json:
                _print_json(scrub, targets, bar)
            elif as_jsonl:
                _print_jsonl(scrub, targets, bar)
            else:
                _print_text(scrub, targets, bar, quiet, summary)
    finally:
        bar.end()
    return scrub.totals.exit_code
