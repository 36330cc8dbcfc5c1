"""A stored run of `emm bench engine` as tables, with its targets.

Purpose: the page is what this prints of docs/benchmarks/engine.json, and a test holds the two together. Invariants: no
figure is computed here; a target is compared at the digits it is given with, and one that is not reached says NOT MET.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from emm_tools.bench_patterns import DELTA, NEIGHBOURS, ORDERS, P_AT, PRECONDITIONED, PREDICTORS
from emm_tools.bench_rankings import EVERY, METRICS, OURS, RANKINGS
from emm_tools.bench_scores import Interval
from emm_tools.inspect_text import table

NAMES = {"cranfield": "Cranfield", "med": "MED", "locomo": "LoCoMo", "notebook": "Notebook"}
NOTEBOOK = "notebook"


@dataclass(frozen=True, slots=True)
class Target:
    """The figure to reach in one place of a report."""

    collection: str
    embedder: str
    way: str
    metric: str
    least: float
    digits: int = 3

    def line(self, found: float, what: str) -> str:
        met = "met" if round(found, self.digits) >= self.least else "NOT MET"
        return f"{what}: {found:.{self.digits}f}, target {self.least:.{self.digits}f}, {met}"


TARGETS = (
    Target("cranfield", "minilm", OURS, "nDCG@10", 0.437),
    Target("med", "minilm", OURS, "nDCG@10", 0.796),
    Target("cranfield", "lsa", OURS, "nDCG@10", 0.423),
    Target("med", "lsa", OURS, "nDCG@10", 0.739),
    Target("locomo", "minilm", OURS, "recall@5", 0.627),
    Target("locomo", "minilm", OURS, "recall@10", 0.725),
    Target(NOTEBOOK, "minilm", DELTA, "P@1", 0.53, 2),
    Target(NOTEBOOK, "minilm", DELTA, "P@3", 0.60, 2),
    Target(NOTEBOOK, "minilm", PRECONDITIONED, "P@1", 0.55, 2),
    Target(NOTEBOOK, "minilm", PRECONDITIONED, "P@3", 0.57, 2),
    Target(NOTEBOOK, "minilm", NEIGHBOURS, "P@1", 0.49, 2),
    Target(NOTEBOOK, "minilm", NEIGHBOURS, "P@3", 0.56, 2),
)


def text_of(report: dict[str, Any]) -> str:
    """All that was measured, then what was to be reached."""
    lines = [
        ", ".join(f"{name} {value}" for name, value in report["machine"].items() if value is not None),
        f"95 %: where that share of the means of {report['resamples']} resamples of the questions lies",
        "*: a distinguishable difference, for 95 % of its resamples lie on one side of 0 (paired bootstrap,",
        "   the same draws for all, not corrected for how many comparisons there are; the JSON has their intervals)",
        *(f"left out: {reason}" for reason in report["left_out"]),
    ]
    for name, found in report["collections"].items():
        for embedder, each in found.items():
            lines += ["", *_rankings(name, embedder, each)]
    for each in report.get(NOTEBOOK, []):
        lines += ["", *_patterns(each)]
    lines += ["", "targets", *(f"  {line}" for line in target_lines(report))]
    return "\n".join(lines)


def target_lines(report: dict[str, Any]) -> Iterator[str]:
    """Each target of what was measured, met or NOT MET; those of the notebook in every reading of it."""
    for target in TARGETS:
        found = report["collections"].get(target.collection, {}).get(target.embedder)
        if found is not None:
            scores = found["groups"][EVERY]["scores"][target.metric][target.way]["score"]
            yield target.line(scores[0], f"{NAMES[target.collection]}, {target.embedder}, {target.metric}")
    for each in report.get(NOTEBOOK, []):
        for target in TARGETS:
            if (target.collection, target.embedder, "held out") == (NOTEBOOK, each["embedder"], each["protocol"]):
                what = f"Notebook {_reading(each)}, {target.way}, {target.metric}"
                yield target.line(each["scores"][target.metric][target.way]["score"][0], what)


def _rankings(name: str, embedder: str, found: dict[str, Any]) -> list[str]:
    every, metrics = found["groups"][EVERY], METRICS[name]
    lines = [
        f"{NAMES[name]}, {embedder}: {every['questions']} questions, {found['documents']} documents, "
        f"{found['passages']} passages"
    ]
    head = ["ranking", *(part for metric in metrics for part in (metric, "95 %", f"{OURS} − it"))]
    rows = []
    ways = [way for way in RANKINGS if way in every["scores"][metrics[0]]]  # earlier runs know fewer
    for way in ways:
        row = [way]
        for metric in metrics:
            row += _cells(every["scores"][metric][way], [OURS])
        rows.append(row)
    lines += table(head, rows)
    groups = {group: each for group, each in found["groups"].items() if group != EVERY}
    if groups:
        lines.append(f"  by category, {' / '.join(metrics)}:")
        head = ["ranking", *(f"{group} ({each['questions']})" for group, each in groups.items())]
        rows = [
            [way, *(" / ".join(f"{each['scores'][metric][way]['score'][0]:.3f}" for metric in metrics)
                    for each in groups.values())]
            for way in ways
        ]  # fmt: skip
        lines += table(head, rows)
    return lines


def _patterns(found: dict[str, Any]) -> list[str]:
    lines = [
        f"Notebook {_reading(found)}, {found['embedder']} keys, {found['protocol']}: {found['predicted']} entries "
        f"after {found['learnt']}, {found['tags']} tags"
    ]
    head = ["predictor", ""]
    for metric in P_AT:
        head += [metric, "95 %", "preconditioned − it", "gated delta − it"]
    rows = []
    for name in PREDICTORS:
        row = [name, found["parameters"][name]]
        for metric in P_AT:
            row += _cells(found["scores"][metric][name], [PRECONDITIONED, DELTA])
        rows.append(row)
    return lines + table(head, rows)


def _reading(found: dict[str, Any]) -> str:
    support = found["support"]
    which = "all tags" if support == 1 else f"tags of {support} entries or more"
    return f"{ORDERS[found['order']]}, {which}"


def _cells(scores: dict[str, Sequence[float]], references: Sequence[str]) -> list[str]:
    mean, low, high = scores["score"]
    cells = [f"{mean:.3f}", f"{low:.3f} to {high:.3f}"]
    for reference in references:
        if reference in scores:
            difference = Interval(*scores[reference])
            cells.append(f"{difference.mean:+.3f}{' *' if difference.distinguishable else ''}")
        else:
            cells.append("")
    return cells
