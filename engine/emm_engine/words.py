"""The words of a text: what counts as one, and which of its forms are the same word.

Purpose: one idea of a word for embedding and for keyphrases. Invariants: pure; no stretch of text is tried twice; a
word's span in the text is exact.
"""

from __future__ import annotations

import functools
import re

from emm_engine.stopwords import STOPWORDS

# Two characters and more; `en_us.utf-8` and `libc6` stay whole. The second branch takes what the first one cannot
# finish, so that no stretch of text is tried twice (`a_-a_-…` was quadratic).
TERM = re.compile(r"\b(?:([^\W_][\w.+-]*[^\W_])\b|[^\W_][\w.+-]*)")


def analyse(text: str) -> list[str]:
    """The terms of a text: lower case, without stop words, plurals made singular."""
    return [singular(word) for word in TERM.findall(text.lower()) if word and word not in STOPWORDS]


@functools.lru_cache(maxsize=65_536)
def singular(word: str) -> str:
    """Harman's S-stemmer (1991): `libraries` → `library`, `failures` → `failure`, `locales` → `locale`."""
    if word.endswith("ies") and len(word) > 4 and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if word.endswith("es") and len(word) > 3 and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    if word.endswith("s") and len(word) > 3 and not word.endswith(("us", "ss", "is")):
        return word[:-1]
    return word
