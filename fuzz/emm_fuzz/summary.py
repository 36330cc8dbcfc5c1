"""What campaigns came to, as the table that docs/durability.md quotes.

Purpose: read the lines of a campaign and say what was looked at. Invariants: nothing is printed that is not the sum of
numbers in the file; first and nested crashes, exhaustive and sampled and torn states, every workload and one workload
for each situation stay apart; a state is counted once in "distinct, together", and once in each piece elsewhere.
"""

from __future__ import annotations

from collections import Counter

from emm_fuzz.geometry import DEFAULT
from emm_fuzz.jsonl import Line
from emm_fuzz.results import by_code

_STATES = (
    ("raw", "raw states"),
    ("distinct", "distinct within their piece"),
    ("exhaustive", "… at points where all subsets were tried"),
    ("sampled", "… from a choice of subsets"),
    ("torn", "… with a torn sector"),
    ("left_out", "prefixes, drops and tears left out by bounds"),
    ("cut", "built and not judged (cap of a workload)"),
)


def summary(lines: list[Line]) -> str:
    """A section for each code that the lines are of."""
    return "\n\n".join(_section(code, each) for code, each in by_code(lines).items()) or "no campaign is on record"


def _section(code: str, lines: list[Line]) -> str:
    pieces = [line for line in lines if "piece" in line]
    commits = ", ".join(dict.fromkeys(line["commit"] for line in lines))
    hours = sum(line["seconds"] for line in pieces) / 3600
    seeds = [int(line["piece"].partition("/")[2]) for line in pieces if _kind(line) == "random"]
    return "\n".join(
        [
            f"commit {commits}, code {code}: {len(pieces)} pieces, {hours:.2f} processor hours, "
            + (f"seeds {min(seeds)} to {max(seeds)}" if seeds else "no seeded workloads"),
            "",
            *_workloads(lines, pieces),
            "",
            *_crashes(pieces),
            "",
            *_together(pieces),
        ]
    )


def _kind(line: Line) -> str:
    return str(line["piece"]).partition("/")[0]


def _workloads(lines: list[Line], pieces: list[Line]) -> list[str]:
    """How many workloads there are, and of how many the last operation was looked at."""
    looked: Counter[tuple[str, str, int]] = Counter()
    for line in pieces:
        if _kind(line) != "random":
            kind, geometry, length, _ = line["piece"].split("/")
            looked[kind, geometry, int(length)] += line["cases"]
    rows = []
    for line in lines:
        if "enumerated" in line:
            geometry, length = line["enumerated"], line["length"]
            numbers = [line[name] for name in ("workloads", "situations", "new_situations", "representatives")]
            numbers += [looked[kind, geometry, length] for kind in ("situation", "literal")]
            rows.append(f"| {geometry} | {length} | " + " | ".join(f"{number:,}" for number in numbers) + " |")
    return [
        "| geometry | length | workloads | situations before the last operation | new ones | operations in new ones "
        "| explored of these | explored of the other workloads |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *rows,
    ]


def _crashes(pieces: list[Line]) -> list[str]:
    rows = [
        f"| {label} | {sum(p['first'][name] for p in pieces):,} | {sum(p['nested'][name] for p in pieces):,} |"
        for name, label in _STATES
    ]
    return ["| crash states | first crash | nested crash |", "|---|---:|---:|", *rows]


def _together(pieces: list[Line]) -> list[str]:
    def total(name: str) -> int:
        return sum(piece[name] for piece in pieces)

    verdicts: Counter[str] = Counter()
    new: Counter[str] = Counter()
    for piece in pieces:
        verdicts.update(piece["verdicts"])
        ours = _kind(piece) == "random" or piece["piece"].split("/")[1] == DEFAULT
        new[_kind(piece) if ours else "other geometries"] += piece["new"]
    rows = [
        ("cases", total("cases")),
        ("crash points", total("points")),
        *((f"verify says {verdict} (first crashes)", count) for verdict, count in sorted(verdicts.items())),
        ("recoveries for append that were crashed in and written on", total("recovered_for_append")),
        ("kills with something in the page cache only", total("killed")),
        ("faults met", total("faults")),
        ("healthy states of which verify says damaged, repairable", total("leftovers")),
        *((f"distinct states first met in pieces of kind “{kind}”", count) for kind, count in sorted(new.items())),
        ("**distinct states, together**", sum(new.values())),
        ("**violations**", total("violations")),
    ]
    return ["| count | |", "|---|---:|", *(f"| {label} | {count:,} |" for label, count in rows)]
