"""English words that say nothing about what a text is about.

Purpose: one list for questions (lexical search) and texts (TF-IDF). Invariants: lower-case, ASCII; short
enough to read; no word that is also a common command or program name (`who`, `more` and the like stay).
"""

from __future__ import annotations

_WORDS = """
a about after again all also am an and any are as at be because been before being between both but by can
could did do does doing done during each few for from further get gets got had has have having he her here
him his how i if in into is it its itself just kept keep keeps let me most my no nor not now of off on once
only or other our out over own same she should so some such than that the their them then there these they
this those through to too under until up us use used using very was we were what when where which while why
will with would you your
"""

STOPWORDS = frozenset(_WORDS.split())
