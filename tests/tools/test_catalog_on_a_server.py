"""The commands with `EMM_CATALOG` naming a PostgreSQL server: the same output, and one sentence where it is not there.

Red when: a command tells something else than on a catalog in the folder; a server that cannot be reached, or a URL that
is none, gives a traceback, more than one sentence, a password or another exit code than the documented one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from emm_engine.catalog import place
from tests.engine.postgres_server import running_server

SCOPE = "chemistry/hall/2023"
COMMANDS = (
    ("ingest", "{archive}", "{notes}", "--scope", SCOPE, "--json"),
    ("ask", "{archive}", "why did the pump fail?", "--scope", SCOPE, "--json"),
    ("forget", "{archive}", "--source", "1.md", "--yes"),
    ("rebuild", "{archive}"),
    ("settings", "{archive}", SCOPE, "sharing.dream", "on"),
    ("dream", "{archive}", "--once"),
    ("embed", "{archive}", "--once"),
    ("vectors", "{archive}"),
    ("move", "{archive}", SCOPE, "chemistry/hall/2024"),
    ("export", "{archive}", "chemistry/hall", "--out", "{archive} out"),
    ("import", "{archive}", "{archive} out", "--as", "guest:chemistry/hall"),
    ("close", "{archive}", "chemistry/hall"),
    ("rollup", "{archive}"),
    ("check", "{archive}", "--json"),
    ("tree", "{archive}", "--json"),
)
TIMES = re.compile(r',\s*"\w*(?:timings_ms|seconds)": \{[^}]*\}')
CHANGES = re.compile(  # rates, times, sizes, identities, paths
    r'\d+\.\d+ (?:s|ms)\b|\d+(?:\.\d+)? \w+/s|"\w*(?:second|_ms|_s|bytes)\w*": [\d.e-]+|[0-9a-f]{8,}|\S*/\S+'
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_server(tmp_path_factory.mktemp("postgres") / "data") as url:
        yield url


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.md").write_text(
            f"# Run {number}\n\nThe pump failed: valve {number} leaked at 30{number} K.\n"
        )
    return folder


def told(run, notes: Path, archive: Path) -> list[str]:
    """What the commands say, without what is another each time."""
    found = []
    for command in COMMANDS:
        parts = (part.replace("{archive}", str(archive)).replace("{notes}", str(notes)) for part in command)
        ended = run("emm", *parts)
        assert ended.code == 0, (command, ended)
        found.append(CHANGES.sub("…", TIMES.sub("", f"{ended.out}{ended.err}")))
    return found


def test_every_command_tells_the_same(
    run, notes: Path, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(place.VARIABLE, raising=False)
    expected = told(run, notes, tmp_path / "file")
    monkeypatch.setenv(place.VARIABLE, server)
    found = told(run, notes, tmp_path / "server")
    for command, ours, theirs in zip(COMMANDS, found, expected, strict=True):
        assert ours.splitlines() == theirs.splitlines(), command
    assert (tmp_path / "server" / place.LINK_NAME).exists()
    monkeypatch.delenv(place.VARIABLE)  # it is remembered
    assert run("emm", "tree", tmp_path / "server").out == run("emm", "tree", tmp_path / "file").out != ""


def test_a_server_that_is_not_there_is_one_sentence(
    run, notes: Path, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(place.VARIABLE, server)
    assert run("emm", "ingest", tmp_path / "a", notes, "--scope", SCOPE).code == 0
    monkeypatch.setenv(place.VARIABLE, "postgresql://me:hunter2@127.0.0.1:1/lab?password=hunter3")
    for arguments in (("tree", "a"), ("ask", "a", "why?"), ("check", "a"), ("ingest", "new", notes)):
        ended = run("emm", arguments[0], tmp_path / str(arguments[1]), *arguments[2:])
        assert ended.code == 6
        assert "cannot be reached" in ended.sentence() and "hunter" not in ended.out + ended.err
    monkeypatch.setenv(place.VARIABLE, "mysql://me:hunter2@host/lab")
    ended = run("emm", "ingest", tmp_path / "other", notes)
    assert ended.code == 2 and "not a catalog's URL" in ended.sentence() and "hunter" not in ended.err
