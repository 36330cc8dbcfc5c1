"""What is embedded for conditions: each of them, and every two together.

Purpose: a matrix is linear in its keys, so from single words it learns that heat helps and that a base helps, and not
that heat helps with this base alone. A word for each two conditions lets it. Invariants: pure; the words come from the
conditions and nothing else; a text that is no list of conditions stays as it is.
"""

from __future__ import annotations

import itertools
import re

JOINED_MAX = 8  # conditions of which each two are joined: 28 words
PART_CHARS_MAX = 160

_PARTS = re.compile(r"; | \| ")
_CONDITION = re.compile(r"[^:;|]{1,80}(?:: |-)[^;|]{1,80}")  # as a table's rows are told
_UNFIT = re.compile(r"[^\w.]+")


def embedded_conditions(text: str) -> str:
    """`heat: 340..360 K; base: naoh` and, after a new line, `heat-340..360-k+base-naoh`."""
    if len(text) > JOINED_MAX * PART_CHARS_MAX * 3:
        return text
    parts = [part.strip() for part in _PARTS.split(text) if part.strip()]
    cells = " | " in text
    if len(parts) < 2 or not (cells or all(_CONDITION.fullmatch(part) for part in parts)):
        return text
    words = ["-".join(filter(None, _UNFIT.split(part.lower()))) for part in parts[:JOINED_MAX]]
    joined = (f"{one}+{other}" for one, other in itertools.combinations(filter(None, words), 2))
    return f"{text}\n{' '.join(joined)}"
