"""Public collections of questions with known answers, as the documents and questions of `emm bench engine`.

Purpose: read Cranfield, MED and LoCoMo from a folder that the user has. Invariants: nothing of them is written anywhere
but into a temporary or a named archive; a question without a known answer is left out and counted; a turn of a
conversation is one passage, because turns stand so far apart in the text of their session that the engine cuts there.
"""

from __future__ import annotations

import bisect
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emm_tools.exits import InputProblem

if TYPE_CHECKING:
    from emm_engine import Citation, Document, Scope

CATEGORIES = {1: "1 multi-hop", 2: "2 temporal", 3: "3 open-domain", 4: "4 single-hop"}  # 5 has no answer in the text

_TURN = re.compile(r"D\d+:\d+")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and the names of what answers it."""

    text: str
    wanted: frozenset[str]
    category: str = ""


@dataclass(frozen=True, slots=True)
class Turns:
    """Where the turns of one session begin in its text, ascending, and their names."""

    starts: tuple[int, ...]
    names: tuple[str, ...]

    def at(self, start: int) -> str:
        return self.names[bisect.bisect_right(self.starts, start) - 1]


@dataclass(frozen=True, slots=True)
class Corpus:
    """The documents of one run and what is asked of it."""

    scope: Scope
    documents: tuple[Document, ...]
    questions: tuple[Asked, ...]
    turns: Mapping[str, Turns] = field(default_factory=dict)  # by source, where the answers are turns

    def name_of(self, citation: Citation) -> str:
        """Of the document or turn that a passage is of."""
        turns = self.turns.get(citation.source)
        return turns.at(citation.start) if turns is not None else citation.source


def collection(name: str, folder: Path) -> list[Corpus]:
    """The corpora of `cranfield`, `med` or `locomo` below a folder; `InputProblem` where they cannot be read."""
    try:
        return _READERS[name](folder / name)
    except FileNotFoundError as error:
        raise InputProblem(f"{folder} does not hold {name}: {error.filename} is missing.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputProblem(f"{folder / name} cannot be read as {name}: {type(error).__name__}: {error}") from error


def _cranfield(folder: Path) -> list[Corpus]:
    from emm_engine import Document

    documents = []
    for match in re.finditer(r"<doc>(.*?)</doc>", _read(folder / "cran.all.1400.xml"), re.DOTALL):
        number, title, text = (_tagged(tag, match.group(1)) for tag in ("docno", "title", "text"))
        documents.append(Document(number, title or number, text or title or number))
    queries = re.findall(r"<title>(.*?)</title>", _read(folder / "cran.qry.xml"), re.DOTALL)
    numbered = {str(at): query.strip() for at, query in enumerate(queries, 1)}
    return [_judged("cranfield", documents, numbered, _read(folder / "cranqrel.trec.txt"))]


def _tagged(tag: str, text: str) -> str:
    found = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return found.group(1).strip() if found is not None else ""


def _med(folder: Path) -> list[Corpus]:
    from emm_engine import Document

    documents = [Document(number, number, text) for number, text in _parts(folder / "MED.ALL")]
    return [_judged("med", documents, dict(_parts(folder / "MED.QRY")), _read(folder / "MED.REL"))]


def _parts(path: Path) -> Iterator[tuple[str, str]]:
    """(number, text) of the SMART format."""
    for block in re.split(r"^\.I ", _read(path), flags=re.MULTILINE)[1:]:
        number, _, text = block.partition("\n.W\n")
        yield number.strip(), text.strip()


def _judged(name: str, documents: list[Document], queries: Mapping[str, str], judgements: str) -> Corpus:
    from emm_engine import Scope

    wanted: dict[str, set[str]] = defaultdict(set)
    for line in judgements.splitlines():
        query, _, document, grade = line.split()
        if int(grade) > 0:
            wanted[query].add(document)
    asked = tuple(Asked(text, frozenset(wanted[number])) for number, text in queries.items() if wanted.get(number))
    return Corpus(Scope("bench", "general", name, "all"), tuple(documents), asked)


def _locomo(folder: Path) -> list[Corpus]:
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise FileNotFoundError(2, "nothing there", str(folder / "*.json"))
    samples = [sample for path in paths for sample in json.loads(_read(path))]
    return [_conversation(number, sample) for number, sample in enumerate(samples, 1)]


def _conversation(number: int, sample: dict[str, Any]) -> Corpus:
    """A conversation in a tenant of its own: a session is a document, a turn a passage of it."""
    from emm_engine import Document, Scope
    from emm_engine.chunking import TARGET_CHARS

    apart = "\n" * (TARGET_CHARS + 1)  # whatever is this far apart is never in one passage
    documents, turns = [], {}
    talk, session = sample["conversation"], 1
    while f"session_{session}" in talk:
        texts = [_said(turn) for turn in talk[f"session_{session}"]]
        starts = [0]
        for text in texts[:-1]:
            starts.append(starts[-1] + len(text) + len(apart))
        source = f"session-{session}"
        documents.append(Document(source, "", apart.join(texts)))
        turns[source] = Turns(tuple(starts), tuple(turn["dia_id"] for turn in talk[f"session_{session}"]))
        session += 1
    known = {name for each in turns.values() for name in each.names}
    asked = []
    for each in sample["qa"]:
        wanted = known & {name for text in each.get("evidence", []) for name in _TURN.findall(text)}
        if each["category"] in CATEGORIES and wanted:
            asked.append(Asked(each["question"], frozenset(wanted), CATEGORIES[each["category"]]))
    return Corpus(Scope(f"conversation-{number}", "chat", "locomo", "all"), tuple(documents), tuple(asked), turns)


def _said(turn: dict[str, Any]) -> str:
    caption = turn.get("blip_caption")
    return f"{turn['speaker']}: {turn['text'].strip()}" + (f" [image: {caption.strip()}]" if caption else "")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


_READERS = {"cranfield": _cranfield, "med": _med, "locomo": _locomo}
