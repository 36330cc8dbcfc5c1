"""`name: value unit` statements of a text.

Purpose: the numbers people write down, as labels. Invariants: a fact's span holds its name, its number and its unit;
the work is linear in the text; order is that of the text.
"""

from __future__ import annotations

import re

from emm_engine.documents import Label, Marked

FACTS_PER_PASSAGE = 4

_FACT = re.compile(
    r"(?:^|[\n;,(])[ \t]*(?:[-*+][ \t]+)?(?P<fact>(?P<name>[A-Za-z][A-Za-z0-9_ /-]{1,38}[A-Za-z0-9])[ \t]*[:=][ \t]*"
    r"(?P<number>[+-]?\d{1,12}(?:\.\d{1,9})?(?:[eE][+-]?\d{1,3})?)"
    r"(?:[ \t]*(?P<unit>[A-Za-z%\u00b0\u00b5\u03bc][\w%/\u00b0\u00b5\u03bc^-]{0,11}))?)"
    r"(?=[\s;,)]|\.(?!\.)|$)"
)


def facts(text: str, start: int = 0) -> list[Marked]:
    """The first facts of a passage, which begins at character `start` of its document."""
    found: dict[Label, Marked] = {}
    for match in _FACT.finditer(text):
        name, number, unit = match["name"], match["number"], match["unit"]
        label = Label("fact", f"{' '.join(name.lower().split())}: {number}{' ' + unit if unit else ''}")
        low, high = match.span("fact")
        found.setdefault(label, Marked(label, start + low, start + high))
        if len(found) == FACTS_PER_PASSAGE:
            break
    return list(found.values())
