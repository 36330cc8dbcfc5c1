"""The context block: citations and associations as text, under a token budget.

Purpose: what a person reads and a language model is given. Invariants: every line is a numbered citation
(source, date, span, score) with the exact passage, or an association with its strength and the strongest
documents behind it; a passage is shown whole or not at all; the block never exceeds the budget; control
characters of a hostile text are shown as marks, never sent to the terminal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from emm_engine.retrieval.answer import Association, Citation, Evidence

ASSOCIATIONS_SHARE = 0.3  # of the budget, at most; citations may use what associations leave
EVIDENCE_SHOWN = 3
CHANGELOGS = ("changelog.Debian", "changelog.Debian.gz")  # sources of many entries: spans count within one

_TOKEN = re.compile(r"\w{1,6}|[^\w\s]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def n_tokens(text: str) -> int:
    """An estimate that errs high: pieces of up to six word characters, and every mark."""
    return len(_TOKEN.findall(text))


def shown(text: str) -> str:
    """Text that is safe on a terminal: control characters become a mark."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def shown_date(item: Citation | Evidence) -> str:
    """The day, and whether it is only the file's."""
    return f"{item.date[:10] or 'undated'}{' (file date)' if item.file_date else ''}"


def build(
    citations: Sequence[Citation], associations: Sequence[Association], token_budget: int
) -> tuple[str, tuple[Citation, ...], tuple[Association, ...]]:
    """(block, citations in it numbered from 1, associations in it), best first, within the budget."""
    room = token_budget
    reserve = math.floor(token_budget * ASSOCIATIONS_SHARE)
    kept: list[Association] = []
    for association in associations:
        cost = n_tokens(_association(association))
        if cost > reserve:
            break
        reserve -= cost
        room -= cost
        kept.append(association)
    cited: list[Citation] = []
    for citation in citations:
        numbered = replace(citation, number=len(cited) + 1)
        cost = n_tokens(_citation(numbered))
        if cost <= room:
            room -= cost
            cited.append(numbered)
    numbers = {citation.passage_id: citation.number for citation in cited}
    linked = tuple(
        replace(
            association,
            evidence=tuple(replace(item, number=numbers.get(item.passage_id, 0)) for item in association.evidence),
        )
        for association in kept
    )
    lines = [_citation(citation) for citation in cited] + [_association(association) for association in linked]
    return "\n".join(lines), tuple(cited), linked


def _citation(citation: Citation) -> str:
    quote = "\n".join("    " + line for line in shown(citation.quote).split("\n"))
    where = f"{citation.source}: {citation.title}, {shown_date(citation)}".replace("\n", " ")
    whole = " of the entry" if citation.source.endswith(CHANGELOGS) else ""
    place = f"chars {citation.start}–{citation.end}{whole}, score {citation.score:.2f}"
    return f"[{citation.number}] {shown(where)}, {place}\n{quote}"


def _association(association: Association) -> str:
    behind = "; ".join(
        f"{f'[{item.number}] ' if item.number else ''}{item.title} ({shown_date(item)}, {item.score:.2f})"
        for item in association.evidence[:EVIDENCE_SHOWN]
    )
    head = f"~ {association.kind} {association.name}: strength {association.strength:.2f} (base {association.base:.3f})"
    return shown(f"{head}, {association.n_passages} passages; strongest: {behind}").replace("\n", " ")
