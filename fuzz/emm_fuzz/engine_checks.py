"""What an archive must be after its writer was killed, and at the end of its life.

Purpose: the questions that `engine_kill` asks, each in a process that was forked for it, so that the fork server never
opens an archive. Invariants: what was acknowledged is compared word for word in the catalog and asked for through the
engine; of an ingest that was begun and not acknowledged either state of a note is right, and no other text ever is.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Final

import numpy as np

import emm
from emm.storage.recovery import recover
from emm.vfs.local import LocalDirectory
from emm_engine import Archive
from emm_fuzz.engine_life import RUN, Note, Part, current_notes, ingest_on, ingest_part
from emm_fuzz.fork_server import Tell
from emm_fuzz.kill_judge import BrokenPromiseError, check_verdict

ASKED: Final = 3  # acknowledged notes that are asked for after each kill; all of them at the end
QUESTIONS: Final = ("leaking seal", "crucible under argon", "dilution of the reagent")


def check_archive(path: Path, parts: list[Part], acknowledged: int, chosen: int, tell: Tell) -> None:
    """Everything that must hold after a kill; tells `!` and what does not."""
    try:
        archive = Archive.open(path)
    except emm.MissingError:
        if acknowledged:
            tell(f"! {acknowledged} ingests were acknowledged, and there is no archive")
        return
    with archive:
        check_catalog(path, parts, acknowledged)
        notes = list(current_notes(parts, acknowledged).values())
        for note in np.random.default_rng(chosen).permutation(len(notes))[:ASKED].tolist():
            check_answer(archive, notes[note], parts[acknowledged : acknowledged + 1])
        for status in archive.tree():
            if status.absorbed + status.pending != status.passages + status.stale:
                raise BrokenPromiseError(f"the ledger does not add up: {status}")
        check_memory(archive)


def check_catalog(path: Path, parts: list[Part], acknowledged: int) -> None:
    """SQLite finds itself whole; every acknowledged note is there word for word, or a newer version begun since."""
    connection = sqlite3.connect(path / "catalog.sqlite")
    try:
        (said,) = connection.execute("PRAGMA integrity_check").fetchone()
        stored = dict(connection.execute("SELECT title, text FROM documents WHERE superseded = 0"))
    finally:
        connection.close()
    if said != "ok":
        raise BrokenPromiseError(f"SQLite says {said}")
    sure, begun = current_notes(parts, acknowledged), current_notes(parts, acknowledged + 1)
    for title, note in sure.items():
        if stored.get(title) not in (note.text, begun[title].text):
            raise BrokenPromiseError(f"acknowledged note {title!r} is stored as {stored.get(title)!r}")
    for title, text in stored.items():
        if title not in begun or text not in (begun[title].text, sure.get(title, begun[title]).text):
            raise BrokenPromiseError(f"nobody ingested {title!r} as {text!r}")


def check_answer(archive: Archive, note: Note, begun: list[Part]) -> None:
    """A note is found by its word and quoted as it was written, unless a newer version has been begun."""
    if any(newer.title == note.title for part in begun for newer in part.notes):
        return
    answer = archive.ask(note.word, RUN)
    quotes = [each.quote for each in answer.citations if each.title == note.title]
    if not quotes or not all(quote in note.text for quote in quotes) or note.word not in "".join(quotes):
        raise BrokenPromiseError(f"{note.word} is answered with {quotes}")


def check_memory(archive: Archive) -> None:
    """Every memory of the archive can be recovered, and verify agrees; one that was never bound may be unfinished."""
    url = str(archive.memory_path(RUN))
    try:
        check_verdict(url, recover(LocalDirectory(url)))
    except emm.MissingError:
        if any(status.lsn for status in archive.tree()):
            raise


def undisturbed(path: Path, notes: Path, parts: list[Part], tell: Tell) -> None:
    """The same life without a kill; tells what it comes to."""
    ingest_on(path, notes, parts, 0, lambda _: None)
    at_the_end(path, notes, parts, tell)


def at_the_end(path: Path, notes: Path, parts: list[Part], tell: Tell) -> None:
    """Ingest everything again, which must change nothing; ask for every note; tell digest, tree and answers."""
    with Archive.open(path) as archive:
        before = _state(archive)
        for part in parts:
            report = ingest_part(archive, notes, part)
            if report.documents or report.pairs or report.unlearned or report.pending:
                raise BrokenPromiseError(f"ingested again, part {part.number} is new: {report}")
        if _state(archive) != before:
            raise BrokenPromiseError("ingesting everything again changed the archive")
        current = current_notes(parts, len(parts))
        for note in current.values():
            check_answer(archive, note, [])
        old = {note.word for part in parts for note in part.notes} - {note.word for note in current.values()}
        for word in sorted(old):
            if any(word in citation.quote for citation in archive.ask(word, RUN).citations):
                raise BrokenPromiseError(f"{word} was superseded and is still quoted")
    if str(emm.verify(str(path)).verdict) != "clean":
        raise BrokenPromiseError(f"verify says {emm.verify(str(path)).verdict}")
    for text in before:
        tell(text)


def _state(archive: Archive) -> list[str]:
    """Digest of the matrix, tree, answers; each as one line."""
    with emm.open(str(archive.memory_path(RUN))) as memory:
        found = [f"digest {memory.digest} lsn {memory.lsn}", *map(str, archive.tree())]
    for question in QUESTIONS:
        fields = json.loads(archive.ask(question, RUN, k=20, token_budget=9999).to_json())
        del fields["timings_ms"]
        found.append(json.dumps(fields, sort_keys=True))
    return found
