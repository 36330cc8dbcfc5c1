"""`emm-verify PATH…`: check files, memories and whole trees; say what is damaged and whether it can be mended.

Purpose: show `emm.verify`'s report and exit with its code. Invariants: checking never writes (for `--repair` see
`repair_command`); stdout is the report and nothing else (text, JSON or JSON lines); progress is on stderr, only on a
terminal.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import click

import emm
from emm_tools.exits import OneSentence, counted, examples, printable
from emm_tools.inspect_text import size
from emm_tools.repair_command import repair_options, run_repair
from emm_tools.version import version

LEVELS = ("header", "table", "blocks", "replay", "numeric")


class ProgressLine:
    """Bytes checked so far, on one line of stderr; silent where stderr is no terminal."""

    def __init__(self) -> None:
        self.shown = sys.stderr.isatty()
        self.n_bytes = 0

    def __call__(self, file: str, n_bytes: int) -> None:
        self.n_bytes += n_bytes
        if self.shown:
            click.echo(f"\r{size(self.n_bytes):>10}  {printable(file)[-60:]:60}", err=True, nl=False)

    def end(self) -> None:
        if self.shown:
            click.echo(f"\r{'':72}\r", err=True, nl=False)


def joined(reports: list[emm.Report]) -> emm.Report:
    """One report of several: all targets, the worst verdict and exit code."""
    if len(reports) == 1:
        return reports[0]
    targets = tuple(target for report in reports for target in report.targets)
    return emm.Report(", ".join(report.url for report in reports), reports[0].level, reports[0].strict, targets)


def _text(report: emm.Report, *, quiet: bool) -> list[str]:
    lines = []
    for target in report.targets:
        if quiet and not target.findings:
            continue
        covered = target.coverage
        counts = [
            (covered.snapshots, "snapshot"),
            (covered.blocks, "block"),
            (covered.segments, "segment"),
            (covered.commits, "commit"),
        ]
        looked_at = ", ".join(counted(count, what) for count, what in counts if count)
        if covered.commits_replayed:
            looked_at += f", {covered.commits_replayed} replayed"
        lines.append(
            f"{target.verdict}: {printable(target.url)} ({looked_at or target.kind}, {size(covered.bytes_read)} read)"
        )
        lines += [f"  {printable(str(finding))}" for finding in target.findings]
    if len(report.targets) > 1 and not quiet:
        lines.append(f"{report.verdict}: {len(report.targets)} targets, {size(report.coverage.bytes_read)} read")
    return lines


@click.command(
    "verify",
    cls=OneSentence,
    epilog=examples(
        "emm-verify labs/chemistry",
        "emm-verify labs/ --level numeric",
        "emm-verify labs/chemistry/0000000000000008.emm --json",
        "emm-verify -q labs/ || echo damaged",
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
@click.option("--jsonl", "as_jsonl", is_flag=True, help="One JSON object for each target.")
@click.option("-q", "--quiet", is_flag=True, help="Only targets with findings.")
@repair_options
@click.version_option(version(), prog_name="emm-verify")
def verify_command(
    paths: tuple[str, ...], level: str, strict: bool, as_json: bool, as_jsonl: bool, quiet: bool, **repair: Any
) -> int:
    """Check memory directories, single .emm or .wal files, and trees of memories.

    \b
    Exit code: 0 clean, 3 damaged but fully repairable, 4 damaged with loss,
    5 not EMM or unsupported, 6 could not tell, 7 incomplete (--strict),
    10 missing; of many targets the worst.
    """
    if as_json and as_jsonl:
        raise click.UsageError("choose one of --json and --jsonl.")
    progress = ProgressLine()
    repaired = run_repair(paths, repair, level=level, as_json=as_json, as_jsonl=as_jsonl, progress=progress)
    if repaired is not None:
        progress.end()
        return repaired
    report = joined([emm.verify(path, level, strict=strict, progress=progress) for path in paths])
    progress.end()
    if as_json:
        click.echo(report.to_json())
    elif as_jsonl:
        for target in report.targets:
            click.echo(json.dumps(target.to_dict(), sort_keys=True))
    else:
        for line in _text(report, quiet=quiet):
            click.echo(line)
    return report.exit_code
