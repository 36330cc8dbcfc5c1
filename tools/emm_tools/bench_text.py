"""Text as a laboratory might have it, made of nothing: for measurements at sizes that a machine's own text lacks.

Purpose: documents with the statistics that cost a search its time: word frequencies after Zipf, topics that share
words, labels that a few or very many carry. Invariants: the same seed gives the same documents on every machine;
nothing is read; memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from emm_engine import Document, Label
from emm_engine.stopwords import STOPWORDS

VOCABULARY = 30_000  # without the stop words
STOP_SHARE = 0.45  # of the words of a text: the stop words of English
ZIPF_OFFSET = 4  # Mandelbrot's; so a question's words are found in a fifth of all passages, as in real collections
TOPICS = 200
TOPIC_WORDS = 400
TOPIC_SHARE = 0.3  # of the other words
SENTENCE_WORDS = 14
PARAGRAPH_WORDS = (60, 120)
PARAGRAPHS_MAX = 4
DEVICES, PEOPLE = 500, 40
QUESTION_WORDS = (3, 6)
_ONSETS = (*"bcdfghjklmnprstvwz", "br", "cr", "dr", "fl", "gl", "gr", "kl", "pl", "pr", "sl", "st", "str", "tr")
_VOWELS = ["a", "e", "i", "o", "u", "ai", "ea", "io", "ou"]
_CODAS = ["b", "d", "g", "k", "l", "m", "n", "p", "r", "s", "t", "x", "nd", "nt", "rt", "st"]


class SyntheticText:
    """A vocabulary with topics, and the documents and questions drawn from it."""

    def __init__(self, seed: int = 0) -> None:
        self._chance = np.random.default_rng(seed)
        self._words, self._stop = np.asarray(_vocabulary()), np.asarray(sorted(STOPWORDS))
        self._anywhere, self._within = _cumulative(VOCABULARY), _cumulative(TOPIC_WORDS)
        half = VOCABULARY // 2
        self._topics = np.stack([self._chance.choice(half, TOPIC_WORDS, replace=False) for _ in range(TOPICS)])

    def documents(self, n_passages: int) -> Iterator[Document]:
        """Documents of one to four paragraphs, each long enough to be a passage, until there are `n_passages`."""
        made = number = 0
        while made < n_passages:
            topic = int(self._chance.integers(TOPICS))
            n_paragraphs = min(int(self._chance.integers(1, PARAGRAPHS_MAX + 1)), n_passages - made)
            texts = [self._paragraph(topic) for _ in range(n_paragraphs)]
            made, number = made + n_paragraphs, number + 1
            day = number % (20 * 365)
            yield Document(
                source=f"notebook-{topic % 20}/{number}.md",
                title=f"Entry {number}: " + " ".join(self._draw(topic, 4, 0.0)),
                text="\n\n".join(texts),
                date=f"{2004 + day // 365}-{1 + day % 12:02}-{1 + day % 28:02}T09:00:00Z",
                labels=(
                    Label("project", f"project {topic}"),
                    Label("tag", f"series {topic % 20}"),
                    Label("device", f"device {int(self._chance.integers(DEVICES))}"),
                    Label("person", f"person {int(self._chance.integers(PEOPLE))}"),
                ),
            )

    def questions(self, count: int) -> list[str]:
        """Questions of three to six telling words as texts have them, so mostly common ones."""
        low, high = QUESTION_WORDS
        return [
            "what of " + " ".join(self._draw(int(self._chance.integers(TOPICS)), int(n_words), 0.0)) + "?"
            for n_words in self._chance.integers(low, high + 1, count)
        ]

    def _paragraph(self, topic: int) -> str:
        low, high = PARAGRAPH_WORDS
        words = self._draw(topic, int(self._chance.integers(low, high)))
        sentences = [words[at : at + SENTENCE_WORDS] for at in range(0, len(words), SENTENCE_WORDS)]
        return " ".join(" ".join(sentence).capitalize() + "." for sentence in sentences)

    def _draw(self, topic: int, count: int, stop_share: float = STOP_SHARE) -> Sequence[str]:
        chance = self._chance
        anywhere = np.searchsorted(self._anywhere, chance.random(count))
        here = self._topics[topic][np.searchsorted(self._within, chance.random(count))]
        telling = self._words[np.where(chance.random(count) < TOPIC_SHARE, here, anywhere)]
        stop = self._stop[chance.integers(len(self._stop), size=count)]
        return [str(word) for word in np.where(chance.random(count) < stop_share, stop, telling)]


def _cumulative(count: int) -> npt.NDArray[np.float64]:
    """Cumulative probabilities of the ranks from the commonest on; the last is 1."""
    weights = 1.0 / (np.arange(count) + ZIPF_OFFSET)
    cumulative: npt.NDArray[np.float64] = np.cumsum(weights) / weights.sum()
    cumulative[-1] = 1.0
    return cumulative


def _vocabulary() -> list[str]:
    """Pronounceable words, each another."""
    syllables = [onset + vowel + coda for onset in _ONSETS for vowel in _VOWELS for coda in _CODAS]
    words = []
    for number in np.random.default_rng(1).permutation(len(syllables) * len(_ONSETS))[:VOCABULARY].tolist():
        first, second = divmod(number, len(_ONSETS))
        words.append(syllables[first] + _ONSETS[second] + _VOWELS[first % len(_VOWELS)])
    return words
