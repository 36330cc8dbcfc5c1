"""`emm embed | reembed` and `emm ingest --embedder`, beside a real service.

Red when: a service that is down ends an ingest with an error or hides that anything waits; `embed` exits with 0 while
something waits; `--follow` ends because a service failed; `reembed` prints something else than it did, or a key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from emm_engine import Archive, Scope, text_folder
from emm_engine.embeddings import backoff
from emm_tools.embed_commands import follow_queue
from tests.engine.embedding_service import HandClock, Service, fails, serving

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("EMM_EMBEDDER_KEY_127_0_0_1", KEY)
    monkeypatch.setattr(backoff.SystemClock, "sleep", lambda self, seconds: None)
    with serving(Service()) as running:
        yield running


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(12):
        subject = ("catalyst", "detector", "reactor")[number % 3]
        text = (
            f"---\ntags: [{subject}]\n---\n# Run {number} of the {subject}\n\nThe {subject} leaked in run {number}.\n"
        )
        (folder / f"2023-0{number % 9 + 1}-11-{number}.md").write_text(text)
    return folder


def test_from_a_service_that_is_down_to_answers(run, service: Service, notes: Path, tmp_path: Path) -> None:
    service.always = fails(401, {"error": f"bad key {KEY}"})
    path, name = tmp_path / "a", f"ollama:m@{service.url}"
    ended = run("emm", "ingest", path, notes, "--embedder", name)
    assert ended.code == 0 and "12 pending" in ended.out and "note: http" in ended.err and "bad key ***" in ended.err
    asked = run("emm", "ask", path, "which reactor leaked?")
    assert asked.code == 0 and "The reactor leaked" in asked.out and "note: 12 passages wait" in asked.out
    tree = run("emm", "tree", path)
    assert tree.code == 0 and f"waits for {name}: " in tree.err and "tries: 1, " in tree.err
    ended = run("emm", "embed", path, "--once")
    assert ended.code == 6 and "12 pending" in ended.out and "waits" in ended.err
    service.always = None
    ended = run("emm", "embed", path, "--once")
    assert ended.code == 0 and "12 pairs absorbed, 0 pending" in ended.out
    assert run("emm", "embed", path, "--once").err == "nothing waits for an embedder\n"
    assert "no association stands out (12 pairs)" in run("emm", "ask", path, "which reactor leaked?").out
    assert KEY not in ended.out + ended.err + asked.out + asked.err + tree.out + tree.err


def test_reembed_tells_what_it_did(run, service: Service, notes: Path, tmp_path: Path) -> None:
    path, name = tmp_path / "a", f"openai:m@{service.url}"
    run("emm", "ingest", path, notes, "--scope", "chemistry/hall/2023")
    refused = run("emm", "ingest", path, notes, "--scope", "chemistry/hall/2023", "--embedder", name)
    assert refused.code == 4 and f"emm reembed ARCHIVE --scope local:chemistry --embedder {name}" in refused.sentence()
    ended = run("emm", "reembed", path, "--embedder", name)
    assert ended.code == 0 and ended.out.startswith(
        "local:chemistry: lsa → openai:m, 12 passages embedded, 0 refused, 12 pairs learnt anew"
    )
    found = json.loads(run("emm", "reembed", path, "--embedder", name, "--scope", "chemistry", "--json").out)
    assert (found["changed"], found["embedded"]) == (False, 0)
    assert "is the one there is" in run("emm", "reembed", path, "--embedder", name).out
    service.always = fails(503)
    assert run("emm", "reembed", path, "--embedder", "ollama:m@" + service.url).code == 6
    assert run("emm", "reembed", path, "--abandon").out == "no change of embedder is under way\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["embed", "A"], ["embed", "A", "--once", "--follow"], ["reembed", "A"],
        ["reembed", "A", "--abandon", "--embedder", "lsa"], ["reembed", "A", "--embedder", "word2vec"],
        ["ingest", "A", ".", "--embedder", "ollama:m@http://user:geheim@host"],
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_a_usage_error(run, notes: Path, tmp_path: Path, arguments: list[str]) -> None:
    run("emm", "ingest", tmp_path / "a", notes)
    changed = [{"A": str(tmp_path / "a"), ".": str(notes)}.get(word, word) for word in arguments]
    ended = run("emm", *changed)
    assert ended.code == 2 and "geheim" not in ended.err


class Enough(Exception):
    pass


class FewSleeps(HandClock):
    """The right model is back after eight looks; after ten it is enough."""

    def __init__(self, service: Service) -> None:
        super().__init__(1_800_000_000.0)  # long after what failed
        self._service = service

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if len(self.slept) == 8:
            self._service.seed = "model one"
        if len(self.slept) == 10:
            raise Enough


def test_following_goes_on_through_failures_and_ever_more_slowly(service: Service, notes: Path, tmp_path: Path) -> None:
    """Red when the first failure ends it, or a service that is wrong is asked every five seconds for days."""
    run, clock, reports = Scope("local", "general", "p", "r"), FewSleeps(service), []
    with Archive.create(tmp_path / "a", HandClock()) as archive:
        archive.ingest(text_folder(notes), run, embedder=f"ollama:m@{service.url}")
        (notes / "new.md").write_text("# New\n\nThe reactor is new.\n")
        service.always = fails(503)
        assert archive.ingest(text_folder(notes), run).pending == 1
    service.always, service.seed = None, "model two"  # loud, and no reason to stop looking
    with Archive.open(tmp_path / "a", clock) as archive, pytest.raises(Enough):
        follow_queue(archive, clock, reports.append)
    assert [report.pending for report in reports] == [0]
    assert clock.slept[6] > 60 > 15 > clock.slept[0] and clock.slept[9] == 5.0
