"""`emm-conformance COMMAND…`: run any reader of the format over the conformance vectors and compare.

Purpose: let another implementation test itself. Invariants: the reader is a command, told nothing but a path; the
vectors are expanded anew for every run and must have the SHA-256 that the manifest states; exit 0 only when every
case that was run agrees.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

import emm
from emm_tools.exits import InputProblem, OneSentence, examples, printable

CHECKOUT = Path(emm.__file__).resolve().parents[1] / "spec" / "vectors"
PASS, FAIL, UNSUPPORTED = "pass", "fail", "unsupported"
EXIT_UNSUPPORTED = 69  # EX_UNAVAILABLE of sysexits.h
DIFFERS = 1


@dataclass(frozen=True, slots=True)
class Result:
    """How a reader did on one case."""

    name: str
    kind: str
    status: str  # pass, fail or unsupported
    expected: str  # verdict
    found: str
    why: str = ""


def load_manifest(vectors: Path) -> list[dict[str, Any]]:
    """The cases of a vectors folder."""
    try:
        found = json.loads((vectors / "manifest.json").read_text(encoding="utf-8"))["cases"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "name the folder spec/vectors of a checkout with --vectors"
        raise InputProblem(f"no conformance vectors in {vectors} ({error}); {hint}.") from None
    assert isinstance(found, list)
    return found


def expand(vectors: Path, into: Path, cases: Iterable[dict[str, Any]]) -> None:
    """Run the generator, and check that it made the files of these cases to the byte."""
    done = subprocess.run(
        [sys.executable, str(vectors / "generate.py"), "--out", str(into)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise InputProblem(f"the vectors could not be expanded: {printable(done.stderr[-300:])}")
    for case in cases:
        for name, stated in case["files"].items():
            data = (into / case["name"] / name).read_bytes()
            if hashlib.sha256(data).hexdigest() != stated["sha256"]:
                raise InputProblem(f"{case['name']}/{name} is not what the manifest states; is this folder whole?")


def told(output: str) -> dict[str, Any]:
    """The JSON object that a reader printed, alone or as its last line; empty when there is none."""
    lines = output.strip().splitlines()
    for text in (output, lines[-1] if lines else ""):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    return {}


def judge(case: dict[str, Any], code: int, report: dict[str, Any], level: str) -> tuple[str, str, str]:
    """(status, what the reader said, why it fails)."""
    verdict = report.get("verdict")
    found = f"exit {code}" if verdict is None else f"{verdict}, exit {code}"
    if verdict == UNSUPPORTED or code == EXIT_UNSUPPORTED:
        return UNSUPPORTED, found, ""
    unjudged = verdict == "damaged" and case["verdict"].startswith("damaged-")  # a reader that plans no repair
    if verdict is not None and verdict != case["verdict"] and not unjudged:
        return FAIL, found, f"verdict {verdict}, not {case['verdict']}"
    if code not in ((3, 4) if unjudged else (case["exit_code"],)):
        return FAIL, found, f"exit code {code}, not {case['exit_code']}"
    rule = report.get("rule")
    if rule is not None and case["rule"] is not None and rule not in (case["rule"], *case["also"]):
        return FAIL, found, f"rule {rule}, not {' or '.join([case['rule'], *case['also']])}"
    whole = not case["verdict"].startswith("damaged-")
    for field in ("lsn", "digest"):
        stated, said = case[field], report.get(field)
        if said is None and stated is not None and level == "digest" and whole:
            return FAIL, found, f"says no {field}"
        if said is not None and stated is not None and said != stated:
            return FAIL, found, f"{field} {said}, not {stated}"
    return PASS, found, ""


def run_case(command: tuple[str, ...], case: dict[str, Any], place: Path, level: str, seconds: float) -> Result:
    """Run the reader once."""
    name, kind, expected = case["name"], case["kind"], case["verdict"]
    try:
        done = subprocess.run(
            [*command, str(place / case["path"])],
            capture_output=True,
            timeout=seconds,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return Result(name, kind, FAIL, expected, "no answer", f"took longer than {seconds:g} s")
    except OSError as error:
        raise InputProblem(f"cannot run {command[0]}: {error.strerror}.") from None
    report = told(done.stdout.decode("utf-8", "replace"))
    status, found, why = judge(case, done.returncode, report, level)
    return Result(name, kind, status, expected, found, why)


def table(results: list[Result], *, everything: bool) -> list[str]:
    """A line for each case that did not pass (or each case), and counts by kind."""
    lines = []
    for each in results:
        if everything or each.status != PASS:
            why = f"  ({each.why})" if each.why else ""
            found = printable(f"{each.found}{why}")
            lines.append(f"{each.status:11}  {each.name:30}  {each.expected:22}  {found}")
    counts = Counter((each.kind, each.status) for each in results)
    lines.append(f"{'kind':10} {PASS:>6} {FAIL:>6} {UNSUPPORTED:>12}")
    for kind in ("memory", "snapshot", "segment"):
        lines.append(f"{kind:10} {counts[kind, PASS]:6} {counts[kind, FAIL]:6} {counts[kind, UNSUPPORTED]:12}")
    return lines


@click.command(
    "conformance",
    cls=OneSentence,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog=examples(
        "emm-conformance emm-verify --json --level numeric",
        "emm-conformance --level digest python spec/reference_reader.py",
        "emm-conformance --case 'torn-*' --all ./my-reader",
    ),
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
@click.option(
    "--level",
    type=click.Choice(("verdict", "digest")),
    default="verdict",
    show_default=True,
    help="digest: a reader must also say LSN and digest of every state that opens.",
)
@click.option("--case", "patterns", multiple=True, metavar="GLOB", help="Only cases with such names; may be repeated.")
@click.option("--vectors", type=click.Path(path_type=Path), default=CHECKOUT, help="The folder spec/vectors.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, help="Readers at a time.")
@click.option(
    "--timeout", "seconds", type=click.FloatRange(0.1), default=60.0, show_default=True, help="Seconds a case."
)
@click.option("--all", "everything", is_flag=True, help="Also list the cases that pass.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def conformance_command(
    command: tuple[str, ...],
    level: str,
    patterns: tuple[str, ...],
    vectors: Path,
    jobs: int,
    seconds: float,
    everything: bool,
    as_json: bool,
) -> int:
    """Run a reader over the conformance vectors: COMMAND once for each case, with its path as last argument.

    \b
    The reader's exit code is compared with docs/exit-codes.md, and of a JSON
    object on its stdout: verdict, rule, lsn and digest, where they are there
    and not null. The verdict "damaged" stands for damaged-repairable and
    damaged-loss. A reader says {"verdict": "unsupported"}, or exits 69, for
    a kind of case that it does not read. Options come before COMMAND.
    Exit code: 0 when every case agrees, else 1.
    """
    cases = [
        case
        for case in load_manifest(vectors)
        if not patterns or any(fnmatch.fnmatchcase(case["name"], pattern) for pattern in patterns)
    ]
    if not cases:
        raise click.UsageError("no case has such a name.")
    with tempfile.TemporaryDirectory(prefix="emm-vectors-") as folder:
        place = Path(folder) / "vectors"
        expand(vectors, place, cases)
        with ThreadPoolExecutor(jobs) as pool:
            results = list(pool.map(lambda case: run_case(command, case, place, level, seconds), cases))
    if as_json:
        click.echo(
            json.dumps({"command": command, "level": level, "cases": [asdict(each) for each in results]}, indent=2)
        )
    else:
        for line in table(results, everything=everything):
            click.echo(line)
    return 0 if all(each.status == PASS for each in results) else DIFFERS
