"""The demo for a lab: documents in, cited answers and associations out, and one honest test.

Purpose: run the engine's main job on real text by the commands a person would use. Invariants: questions for a
person's own folder are made from that folder's titles; the winner of the held-out test is whoever wins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from emm_engine import Archive, documents_below, machine_documents
from emm_engine.matrices.holdout import ENTRIES_MIN
from emm_tools.bench_commands import predictable_kind
from emm_tools.demo_stage import Stage

QUESTIONS = {
    "debian-changelogs": (
        "who fixed builds on hurd and kfreebsd?",
        "why was systemd restarted or broken on upgrade?",
        "security vulnerability: buffer overflow in openssl",
    ),
    "python-documentation": (
        "how do I read a file line by line without loading it whole?",
        "what happens to other threads when a lock is never released?",
        "how are floating point numbers rounded?",
    ),
}
SCOPES = {
    "debian-changelogs": "general/debian/changelogs",
    "python-documentation": "general/python/documentation",
}
N_QUESTIONS = 3
LEGEND = """\
How to read an answer:
  [n] is an exact passage: source, title, date, its characters in the text, and a score that is relative to this answer.
  ~ is what the matrix associates: a label, its strength (the share of similar passages that carried it), its base (its
    share of all passages) and the strongest documents behind it."""
_ENTRIES = re.compile(r": (\d+) entr(?:y|ies) of ")
_RATE = re.compile(r"(\d+ new documents/s, \d+ entries/s)")
_Z = re.compile(r"sign test z = (\S+),")


def corpus_name(docs: Path | None) -> str:
    """Which corpus the demo reads: a folder, or one of the names of `machine_documents`."""
    return str(docs) if docs is not None else machine_documents()[0]


def questions_about(docs: Path) -> list[str]:
    """Three questions from the titles of a folder's documents: first, middle and last in path order."""
    titles = list(dict.fromkeys(document.title for document in documents_below(docs)))
    chosen = [titles[i * (len(titles) - 1) // (N_QUESTIONS - 1)] for i in range(N_QUESTIONS)] if titles else []
    return [f"what do we know about {title}?" for title in dict.fromkeys(chosen)]


def lab_part(stage: Stage, docs: Path | None, asked: Sequence[str]) -> tuple[Path, Path]:
    """Ingest, ask, test; returns (archive, the run's memory)."""
    name = corpus_name(docs)
    scope = SCOPES.get(name, "general/notes/folder")
    stage.title(f"For a lab: {name} into an archive, questions out of it")
    archive = stage.folder / "archive"
    source = ["--machine"] if docs is None else [docs]
    text = stage.run("emm", "ingest", archive, *source, "--scope", scope).text
    entries, rate = (match.group(1) if match else "?" for match in (_ENTRIES.search(text), _RATE.search(text)))
    stage.run("emm", "tree", archive)
    with Archive.open(archive) as opened:
        run = opened.tree()[0]
    stage.claim(run.pending == 0 and run.absorbed == run.passages, f"all {run.passages} passages are in the matrix")
    questions = list(asked) or (questions_about(docs) if docs is not None else list(QUESTIONS[name]))
    stage.say(f"\n{LEGEND}")
    for question in questions:
        stage.run("emm", "ask", archive, question, "--compare", "-k", "2")
    heldout = _heldout(stage, docs)
    stage.conclude(
        f"lab     {entries} entries, {rate}, {run.passages} passages in a matrix of rank {run.rank}; "
        f"{len(questions)} questions answered with citations"
    )
    stage.conclude(f"        {heldout}")
    return archive, archive / "memories" / "local" / scope


def _heldout(stage: Stage, docs: Path | None) -> str:
    """The honest test, where there is enough to test on; one line about it for the summary."""
    documents = machine_documents()[1] if docs is None else documents_below(docs)
    found = predictable_kind(documents)
    if found is None or found[1] < ENTRIES_MIN:
        counted = "no label of two values" if found is None else f"{found[1]} dated entries with a {found[0]}"
        stage.say(f"\nNo held-out test: {counted}, at least {ENTRIES_MIN} entries are needed.")
        return f"no held-out test: {counted}"
    source = "--machine" if docs is None else docs
    text = stage.run("emm", "bench", "heldout", source, "--label", found[0]).text
    scores = {line.split()[0]: line.split()[1] for line in text.splitlines() if line.startswith("  ")}
    winner, z = text.rsplit("winner: ", 1)[1].strip(), _Z.search(text)
    figures = ", ".join(f"{name} {scores[name]}" for name in ("matrix", "neighbours", "prior"))
    return (
        f"held out (with a matrix of its own): P@1 of the newer entries' {found[0]}: {figures}; "
        f"winner: {winner} (matrix against neighbours: z = {z.group(1) if z else '?'})"
    )
