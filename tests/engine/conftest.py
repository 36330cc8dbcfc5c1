"""Texts for the engine's tests: small, deterministic, with patterns that a memory can learn."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from emm_engine import Document, Label
from emm_engine.scale.pool import LocalWorkers
from tests.engine.postgres_server import running_server

TOPICS = {
    "tar": "archive extraction sparse files locale header pax incremental listing",
    "glibc": "locale resolver malloc thread pthread symbol dynamic linker charset",
    "kernel": "driver scheduler interrupt firmware module panic suspend filesystem",
    "pump": "pressure valve seal leak temperature flow rotor bearing",
}
OUTCOMES = ("fails", "is fixed", "was reverted", "works again")


@pytest.fixture(scope="session")
def make_documents() -> Callable[..., list[Document]]:
    """make_documents(count, seed=0): dated, labelled documents of one to three paragraphs about four topics."""

    def make(count: int, seed: int = 0) -> list[Document]:
        chance = random.Random(seed)
        found = []
        for number in range(count):
            topic = chance.choice(sorted(TOPICS))
            words = TOPICS[topic].split()
            paragraphs = [
                f"  * The {chance.choice(words)} of the {chance.choice(words)} {chance.choice(OUTCOMES)} when the "
                f"{chance.choice(words)} meets the {chance.choice(words)}, seen in case {seed}-{number}-{part}.\n"
                f"    {topic} rate: {chance.randint(1, 9)}.5 bar"
                for part in range(chance.randint(1, 3))
            ]
            found.append(
                Document(
                    source=f"{topic}/log",
                    title=f"{topic} {seed}.{number}",
                    text="\n\n".join(paragraphs),
                    date=f"{2000 + number % 20}-0{1 + number % 9}-11T08:00:00Z",
                    labels=(Label("package", topic), Label("maintainer", f"person {number % 5}")),
                )
            )
        return found

    return make


@pytest.fixture(scope="session")
def local_workers() -> Iterator[LocalWorkers]:
    """Two processes that are started once."""
    with LocalWorkers(2) as workers:
        yield workers


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server that runs for this session."""
    with running_server(tmp_path_factory.mktemp("postgres") / "data") as url:
        yield url
