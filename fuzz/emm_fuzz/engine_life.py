"""A folder of small notes that grows and is edited, and what an archive of it must answer.

Purpose: the life that `engine_kill` interrupts. A life is a list of ingests; each one writes the files of a part of
the folder, in some version, and ingests that part. Every note holds a word of its own, by which it can be asked for.
Invariants: files and texts follow from the seed; an ingest can be repeated from its start; a later version of a part
supersedes the earlier one, file by file.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import emm
from emm_engine import Archive, IngestReport, Scope, text_folder
from emm_engine.reports import OnProgress
from emm_fuzz.fork_server import Tell

RUN: Final = Scope("lab", "notes", "bench", "2026-11")
N_PARTS: Final = 5
NOTES_PER_PART: Final = 8
EDITED: Final = (1, 3)  # parts that are written again, in another version, after all are there

TOPICS: Final = {
    "pump": "pressure valve seal leak temperature flow rotor bearing",
    "furnace": "crucible argon heating ramp alloy cooling oxide quench",
    "assay": "titration buffer reagent blank dilution absorbance pipette",
}


@dataclass(frozen=True, slots=True)
class Note:
    """One file of a part."""

    title: str
    word: str  # that no other note holds, nor any other version of this one
    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """What one ingest takes in."""

    number: int
    version: int
    notes: tuple[Note, ...]

    def folder(self, notes: Path) -> Path:
        return notes / f"part-{self.number:02}"

    def write(self, notes: Path) -> None:
        """The files, as they are in this version."""
        folder = self.folder(notes)
        folder.mkdir(parents=True, exist_ok=True)
        for number, note in enumerate(self.notes):
            (folder / f"note-{number:02}.md").write_text(note.text, encoding="utf-8")


def parts_of(seed: int) -> list[Part]:
    """The ingests of life number `seed`, in order."""
    chance = random.Random(seed)
    first = [(number, 1) for number in range(N_PARTS)]
    edits = [(number, 2) for number in EDITED]
    return [Part(number, version, _notes(chance, number, version)) for number, version in [*first, *edits]]


def _notes(chance: random.Random, part: int, version: int) -> tuple[Note, ...]:
    found = []
    for number in range(NOTES_PER_PART):
        topic = sorted(TOPICS)[(part + number) % len(TOPICS)]
        words = TOPICS[topic].split()
        word = f"specimen{part}x{number}v{version}"
        title = f"{topic} note {part}.{number}"
        sentences = [
            f"The {chance.choice(words)} of {word} met the {chance.choice(words)} at {chance.randint(10, 99)} degrees."
            for _ in range(chance.randint(1, 3))
        ]
        day = f"2026-0{1 + part % 9}-{10 + number:02}"
        body = "\n\n".join(sentences)
        text = f"---\ntitle: {title}\ndate: {day}\ntags: [{topic}, version {version}]\n---\n{body}\n"
        found.append(Note(title, word, text))
    return tuple(found)


def ingest_part(archive: Archive, notes: Path, part: Part, progress: OnProgress | None = None) -> IngestReport:
    """Take one part's files in, whatever version they are in."""
    return archive.ingest(text_folder(part.folder(notes)), RUN, progress)


def ingest_on(path: Path, notes: Path, parts: list[Part], first: int, tell: Tell) -> None:
    """Make the archive where there is none, and ingest from part `first` on, telling each step."""
    tell("open")
    try:
        archive = Archive.open(path)
    except emm.MissingError:
        tell("create")
        archive = Archive.create(path)
    for index in range(first, len(parts)):
        tell("write files")
        parts[index].write(notes)
        tell("ingest")
        ingest_part(archive, notes, parts[index], lambda progress: tell(progress.phase))
        tell(f"= {index + 1}")
    tell("close")
    archive.close()
    tell("done")


def current_notes(parts: list[Part], count: int) -> dict[str, Note]:
    """{title: note} after the first `count` ingests."""
    return {note.title: note for part in parts[:count] for note in part.notes}
