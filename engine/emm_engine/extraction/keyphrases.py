"""Keyphrases by TF-IDF: one to three neighbouring words that are telling for a passage.

Purpose: labels for what nobody tagged. A candidate is a stretch of words without a stop word or a mark between them;
its weight is (1 + ln tf) · ln((1 + n) / (1 + df)) · √words, with df counted over a sample of the domain's passages
(Salton & Buckley 1988; the longer of two overlapping phrases wins unless it is rarer by more than its length).
Invariants: only phrases that the sample holds often enough are chosen, for what occurs once is no pattern; counting
holds a bounded number of phrases, whatever the texts; the same texts give the same phrases in the same order; the span
of a keyphrase is its first place, and the text there is its words.
"""

from __future__ import annotations

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from emm_engine.documents import Label, Marked
from emm_engine.stopwords import STOPWORDS
from emm_engine.words import TERM, singular

WORDS_MAX = 3
KEPT_MAX = 30_000  # phrases of a domain
COUNTED_MAX = 300_000  # held while counting; the rarest are dropped beyond
PER_PASSAGE = 3
PHRASE_CHARS_MAX = 80
WORD_CHARS_MAX = 40
LETTERS_MIN = 3  # of a word that a phrase begins or ends with
SUPPORT = {1: 2, 2: 3, 3: 3}  # passages that must hold a phrase of so many words
SMALL = 50  # in fewer passages than this, one is enough for a word and two are for a phrase


@dataclass(frozen=True, slots=True)
class PhraseModel:
    """The phrases that may be chosen, with the passages of the sample that hold each, and the sample's size."""

    n_passages: int
    counts: Mapping[str, int]

    @classmethod
    def of(cls, texts: Iterable[str]) -> PhraseModel:
        """Count a sample."""
        n_texts, counts = 0, Counter[str]()
        floor = 0
        for text in texts:
            n_texts += 1
            counts.update({phrase for phrase, _, _ in candidates(text)})
            while len(counts) > COUNTED_MAX:
                floor += 1
                counts = Counter({phrase: count for phrase, count in counts.items() if count > floor})
        small = n_texts < SMALL
        kept = [(-count, phrase) for phrase, count in counts.items() if count >= SUPPORT[phrase.count(" ") + 1] - small]
        return cls(n_texts, {phrase: -count for count, phrase in sorted(kept)[:KEPT_MAX]})

    def keyphrases(self, text: str, start: int = 0, count: int = PER_PASSAGE) -> list[Marked]:
        """The heaviest phrases of a passage that begins at character `start` of its document, none inside another."""
        places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for phrase, low, high in candidates(text):
            if phrase in self.counts:
                places[phrase].append((low, high))
        weights = {phrase: self._weight(phrase, len(spans)) for phrase, spans in places.items()}
        chosen: list[str] = []
        for phrase in sorted(weights, key=lambda each: (-weights[each], each)):
            words = f" {phrase} "
            if not any(words in f" {other} " or f" {other} " in words for other in chosen):
                chosen.append(phrase)
                if len(chosen) == count:
                    break
        spans = [(phrase, *places[phrase][0]) for phrase in chosen]
        return [Marked(Label("term", phrase), start + low, start + high) for phrase, low, high in spans]

    def _weight(self, phrase: str, frequency: int) -> float:
        rarity = math.log((1 + self.n_passages) / (1 + self.counts[phrase])) + 1.0
        return (1.0 + math.log(frequency)) * rarity * math.sqrt(phrase.count(" ") + 1)


def candidates(text: str) -> list[tuple[str, int, int]]:
    """(phrase in normal form, start, end) of every stretch of one to three words that could be a keyphrase."""
    found: list[tuple[str, int, int]] = []
    before: list[tuple[str, bool, int]] = []  # (word, telling, start) of the words that a phrase can still begin with
    previous = 0
    for match in TERM.finditer(text):
        low, high = match.span()
        if before and not _joined(text[previous:low]):
            before.clear()
        previous = high
        word, telling = _normal(match.group(1) or "")
        if not word:
            before.clear()
            continue
        if telling:
            found.append((word, low, high))
            phrase = word
            for first, begins, start in reversed(before):
                phrase = f"{first} {phrase}"
                if begins and len(phrase) <= PHRASE_CHARS_MAX:
                    found.append((phrase, start, high))
        before.append((word, telling, low))
        if len(before) == WORDS_MAX:
            del before[0]
    return found


@functools.lru_cache(maxsize=65_536)
def _normal(word: str) -> tuple[str, bool]:
    """(lower case and singular, or empty for what breaks a phrase; whether a phrase may begin or end with it)."""
    lowered = word.lower()
    if len(lowered) > WORD_CHARS_MAX or lowered in STOPWORDS:
        return "", False
    return singular(lowered), sum(map(str.isalpha, lowered)) >= LETTERS_MIN


def _joined(gap: str) -> bool:
    """Whether two words with this between them can belong to one phrase: white space without an empty line."""
    return gap == " " or (gap.isspace() and gap.count("\n") <= 1)
