"""A lab's run with versions, for the dream tests: two subjects, labels that only one version carries."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

import emm
from emm_engine import Archive, Document, Label, Scope
from emm_engine.documents import Marked
from emm_engine.dream.budget import Budget
from emm_engine.dream.reports import DreamReport
from emm_engine.ingest import pipeline
from emm_engine.matrices import labels as labelling
from emm_engine.settings import SHARING_DREAM, Settings

RUN = Scope("lab", "code", "bench", "host")
SUBJECTS = {
    "furnace": "crucible argon heating ramp alloy cooling oxide quench",
    "pump": "pressure valve seal leak temperature flow rotor bearing",
}


class NightClock:
    """A clock that only tests move: sleeping takes no time, and each look at it a moment."""

    def __init__(self) -> None:
        self.now = 0.0
        self.naps: list[float] = []

    def monotonic(self) -> float:
        self.now += 0.001
        return self.now

    def utc(self) -> str:
        return "2026-11-30T03:00:00Z"

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


def notes(version: int, first: int = 0, count: int = 40) -> list[Document]:
    """Notes, each with a mark that no other note and no other version of it carries."""
    found = []
    for number in range(first, first + count):
        chance = random.Random(number)
        subject = sorted(SUBJECTS)[number % 2]
        words = SUBJECTS[subject].split()
        text = (
            f"The {chance.choice(words)} of the {chance.choice(words)} was checked in case {number}, "
            f"after {chance.choice(words)} and {chance.choice(words)}. Reading {version}."
        )
        labels = (Label("package", subject), Label("tag", f"mark {number} of version {version}"))
        title = f"{subject} {number}"
        found.append(Document(f"{subject}/log", title, text, f"20{10 + version}-02-03T04:05:06Z", labels, title))
    return found


def make_archive(path: Path, *documents: list[Document], rule: str = "preconditioned", opted_in: bool = True) -> None:
    """An archive with these ingests, whose run follows a rule and has opted in."""
    with Archive.create(path) as archive:
        if rule != "preconditioned":
            make_memory(archive, rule)
        for each in documents:
            archive.ingest(each, RUN)
        if opted_in:
            Settings(archive._catalog).set(Scope("lab", "code"), SHARING_DREAM, True)


def make_memory(archive: Archive, rule: str, **more: object) -> None:
    """The run's memory, before its first ingest makes one of the default kind."""
    options: dict[str, object] = {"dim": 768, "rank": 128, "key_dim": 256, "ridge": 1.0, "rule": rule, **more}
    emm.create(str(archive.memory_path(RUN)), **options).close()  # type: ignore[arg-type]


def waiting(archive: Archive, documents: list[Document]) -> None:
    """Text that is durable and that no ingest has brought into the matrix: what a kill right after it leaves."""
    archive._catalog.add_documents(archive._catalog.ensure_run(RUN), documents)


def dreams(
    archive: Archive,
    tell: Callable[[str], None] = lambda text: None,
    seconds: float | None = None,
    writes: int | None = None,
) -> list[DreamReport]:
    clock = NightClock()
    return list(archive.dreamer(tell).dream(lambda: Budget(clock, seconds, writes)))


def only(reports: list[DreamReport]) -> DreamReport:
    (report,) = reports
    return report


def newer_extractor(patch: pytest.MonkeyPatch) -> None:
    """From now on every fourth case is a label of its own."""
    original = pipeline._said

    def better(passage, phrases):  # type: ignore[no-untyped-def]
        case = passage.text.partition(" in case ")[2].partition(",")[0]
        more = [Marked(Label("case", f"case {case}"))] if case.isdecimal() and int(case) % 4 == 0 else []
        return [*original(passage, phrases), *more]

    patch.setattr(pipeline, "_said", better)
    patch.setattr(labelling, "EXTRACTOR_VERSION", labelling.EXTRACTOR_VERSION + 1)
