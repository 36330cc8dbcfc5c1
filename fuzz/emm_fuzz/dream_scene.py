"""Archives with something to dream about, and what they must be after a dream that was killed.

Purpose: the scenes that `dream_kill` plays: each makes a dream go another way through its phases. Invariants: a scene
follows from its name alone; what must hold after a kill is asked of the archive by a process of its own; a
dream that nobody wrote into comes to the same bits however often it was killed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

import emm
from emm_engine import Archive, Document, Label, Scope
from emm_engine.catalog.material import Material
from emm_engine.documents import Marked
from emm_engine.dream.budget import Budget, SystemClock
from emm_engine.dream.kept import KeptPairs
from emm_engine.extraction.keyphrases import PhraseModel
from emm_engine.ingest import pipeline
from emm_engine.matrices import labels as labelling
from emm_engine.matrices.growth import Growth
from emm_engine.settings import SHARING_DREAM, Settings
from emm_fuzz.fork_server import Tell
from emm_fuzz.kill_judge import BrokenPromiseError

RUN: Final = Scope("lab", "code", "bench", "host")
WORDS: Final = (
    *("crucible", "argon", "heating", "ramp", "alloy", "cooling", "oxide", "quench"),
    *("pressure", "valve", "seal", "leak", "rotor", "bearing"),
)
N_NOTES: Final = 60
DIFFERENCE_MAX: Final = 1e-3  # of M against a memory that was given the kept pairs alone


@dataclass(frozen=True, slots=True)
class Scene:
    """How the run's memory is made, and what has happened to it before the dream."""

    name: str
    memory: dict[str, Any]  # of `emm.create`
    versions: int  # of the first notes, ingested before
    waiting: int  # notes whose next version waits


SCENES: Final = (
    Scene("amend", {"rank": 128, "ridge": 1.0, "rule": "preconditioned"}, 1, 10),
    Scene("grow", {"rank": 16, "ridge": 2.0**-10, "rule": "preconditioned", "expand_at": 0.0}, 1, 5),
    Scene("replay", {"rank": 64, "ridge": 1.0, "rule": "gated-delta"}, 2, 5),
)


def notes(version: int, first: int, count: int) -> list[Document]:
    """Notes, each with a mark that no other carries."""
    found = []
    for number in range(first, first + count):
        chance = random.Random(number)
        words = " ".join(chance.choice(WORDS) for _ in range(12))
        labels = (Label("package", WORDS[number % 4]), Label("tag", f"mark {number} of version {version}"))
        text = f"In case {number} the {words}. Reading {version}."
        date = f"{2000 + version}-02-03T04:05:06Z"
        found.append(Document("bench/log", f"note {number}", text, date, labels, f"note {number}"))
    return found


def make(scene: Scene, path: Path, tell: Tell) -> None:
    """The archive before the dream; the extractor of this process is about to be another."""
    with Archive.create(path) as archive:
        emm.create(str(archive.memory_path(RUN)), **{"dim": 256, "key_dim": 256} | scene.memory).close()
        for version in range(1, scene.versions + 1):
            archive.ingest(notes(version, 0, N_NOTES if version == 1 else N_NOTES // 2), RUN)
        Settings(archive._catalog).set(RUN, SHARING_DREAM, True)
        archive._catalog.add_documents(archive._catalog.ensure_run(RUN), notes(9, 0, scene.waiting))
    tell("made")


def leave_growing_to_dreams() -> None:
    """In this process and its children an ingest raises no rank."""
    setattr(Growth, "grow_if_saturated", lambda *_: [])  # noqa: B010


def change_extractor() -> None:
    """From now on, in this process and its children, every third note has one more label."""
    original = pipeline._said

    def newer(passage: Material, phrases: PhraseModel) -> list[Marked]:
        case = passage.text.partition("case ")[2].partition(" ")[0]
        more = [Marked(Label("case", case))] if case.isdecimal() and int(case) % 3 == 0 else []
        return [*original(passage, phrases), *more]

    vars(pipeline)["_said"] = newer
    labelling.EXTRACTOR_VERSION += 1


def dream(path: Path, stop: Callable[[str], None], tell: Tell) -> None:
    """Dream until nothing is due; `stop` hears each step first, and may not return."""

    def hear(text: str) -> None:
        tell(text)
        stop(text)

    with Archive.open(path) as archive:
        dreamer = archive.dreamer(hear)
        while dreamer.due():
            for report in dreamer.dream(lambda: Budget(SystemClock())):
                tell(f"= {report.cycle_id}")
    tell("done")


def intrude(path: Path, number: int, tell: Tell) -> None:
    """An ingest between two dreams."""
    with Archive.open(path) as archive:
        archive.ingest(notes(20 + number, 40 + number % 10, 2), RUN)
    tell("intruded")


def check(path: Path, tell: Tell) -> None:
    """Whatever was killed: SQLite, the memory and the ledger agree once the memory has been opened for writing."""
    verdict = str(emm.verify(str(path)).verdict)
    if verdict not in (
        "clean",
        "clean-unsealed",
        "torn-or-damaged-tail",
    ):  # the last: killed in the middle of an append
        raise BrokenPromiseError(f"verify says {verdict}")
    with Archive.open(path) as archive:
        (said,) = archive._catalog.query("PRAGMA integrity_check")[0]
        if said != "ok":
            raise BrokenPromiseError(f"SQLite says {said}")
        before = _pairs(archive)
        (status,) = archive.tree()
        if status.absorbed + status.pending != status.passages + status.stale:
            raise BrokenPromiseError(f"the ledger does not add up: {status}")
        if [identity for identity, *_ in before] != list(range(1, len(before) + 1)):
            raise BrokenPromiseError("a pair is lost")
    tell("checked")


def _pairs(archive: Archive) -> list[tuple[Any, ...]]:
    return archive._catalog.query(
        "SELECT passage_id, superseded, unlearned_by IS NOT NULL FROM pairs ORDER BY passage_id"
    )


def at_the_end(path: Path, tell: Tell) -> None:
    """Nothing is due, nothing waits, nothing superseded is answered; tells digest, tree and labels."""
    with Archive.open(path) as archive:
        dreamer = archive.dreamer()
        if dreamer.due():
            raise BrokenPromiseError("a dream is due after the last one")
        if archive.ingest([], RUN).resumed != "clean":
            raise BrokenPromiseError("the ledger was not clean")
        (status,) = archive.tree()
        if status.pending or status.stale or status.absorbed != status.passages:
            raise BrokenPromiseError(f"not everything is where it belongs: {status}")
        newest = dreamer.reports()[0]
        if newest.outcome != "done" or newest.stale_after[0]:
            raise BrokenPromiseError(f"the last dream ended {newest.outcome} with {newest.stale_after} stale")
        if leftovers := [each.name for each in (path / "dreams").iterdir() if each.is_dir()]:
            raise BrokenPromiseError(f"left in dreams: {leftovers}")
        if archive._catalog.query("SELECT 1 FROM relabels") or archive._catalog.query("SELECT 1 FROM cycle_pairs"):
            raise BrokenPromiseError("something is still staged")
        with emm.open(str(archive.memory_path(RUN))) as memory:
            if memory.rule == "preconditioned":
                _check_contents(archive, memory, path.parent / "scratch")
            tell(f"digest {memory.digest} lsn {memory.lsn} pairs {memory.write_count}")
        tell(str(status))
        labels = archive._catalog.query(
            "SELECT passage_id, kind, name, weight FROM pair_labels JOIN labels USING(label_id) "
            "ORDER BY passage_id, kind, name"
        )
        if str(emm.verify(str(path)).verdict) != "clean":
            raise BrokenPromiseError(f"at the end verify says {emm.verify(str(path)).verdict}")
        tell(f"labels {hashlib.sha256(repr(labels).encode()).hexdigest()}")


def _check_contents(archive: Archive, memory: emm.Memory, scratch: Path) -> None:
    """M is that of a memory which was given the kept pairs, and nothing else, at the same rank."""
    run = archive._catalog.runs(RUN)[0]
    pairs = KeptPairs(archive._catalog, run, archive._keys_of)
    ids = pairs.kept()
    with emm.create(
        str(scratch), dim=memory.dim, rank=memory.rank, key_dim=memory.key_dim, ridge=memory.ridge, expand_at=0.0
    ) as alone:
        alone.write(pairs.keys(ids), pairs.written(ids, memory.dim))
        difference = float(np.abs(alone.matrix - memory.matrix).max())
    if memory.write_count != len(ids) or difference > DIFFERENCE_MAX:
        raise BrokenPromiseError(f"{memory.write_count} pairs for {len(ids)}, M differs by {difference:.1e}")
