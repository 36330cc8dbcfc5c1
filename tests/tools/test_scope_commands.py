"""`emm tree | rollup | close | reopen | domain | settings` as a person types them.

Red when: a command says another thing than the archive does, a wrong word is a traceback or a changed archive, or the
tree loses its bars, its closed marks or what it says of roll-ups.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

WORDS = ("valve", "pump", "seal", "rotor")


@pytest.fixture(scope="module")
def archive(run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one project, one of another."""
    root = tmp_path_factory.mktemp("scopes")
    for scope in ("plant/hall/a", "plant/hall/b", "plant/yard/c"):
        folder = root / scope
        folder.mkdir(parents=True)
        for number, word in enumerate(WORDS):
            (folder / f"{word}.md").write_text(
                f"---\ntags: [{word}]\n---\n# {word} of {scope}\n\nThe {word} {number}.\n"
            )
        assert run("emm", "ingest", root / "archive", folder, "--scope", scope).code == 0
    return root / "archive"


def test_the_tree_shows_bars_marks_and_rollups(run, archive: Path) -> None:
    assert run("emm", "close", archive, "plant/yard").out == "plant/yard is closed\n"
    assert run("emm", "close", archive, "plant/yard").out == "plant/yard was closed already\n"
    lines = {line.split()[0]: line for line in run("emm", "tree", archive).out.splitlines()}
    assert list(lines) == ["saturation", "local:", "plant", "hall", "a", "b", "yard", "c"]
    assert all(lines[name].count("|") == 2 and "768 × 64" in lines[name] for name in ("plant", "hall", "a", "b", "c"))
    assert "|" not in lines["local:"] and "|" not in lines["yard"]
    assert lines["plant"].endswith("roll-up fresh") and lines["yard"].endswith("closed")
    indents = [len(lines[name]) - len(lines[name].lstrip()) for name in ("local:", "plant", "hall", "a")]
    assert indents == sorted(set(indents))
    ended = run("emm", "ingest", archive, archive.parent / "plant", "--scope", "plant/yard/new")
    assert ended.code == 2 and ended.err.startswith("emm: the scope is closed") and "reopen" in ended.err
    assert run("emm", "reopen", archive, "plant/yard").out == "plant/yard is open\n"
    assert run("emm", "reopen", archive, "plant/yard").out == "plant/yard was open already\n"


def test_rollup_says_what_it_did(run, archive: Path) -> None:
    out = run("emm", "rollup", archive).out.splitlines()
    assert out[0].startswith("local:plant/hall: fresh, 8 pairs of 2 runs, rank 64, saturation 0.")
    assert out[1] == "local:plant/yard: one part, 4 pairs of 1 run"
    reports = [json.loads(line) for line in run("emm", "rollup", archive, "plant/hall", "--json").out.splitlines()]
    assert [(each["scope"], each["outcome"], each["n_pairs"]) for each in reports] == [("local:plant/hall", "fresh", 8)]
    assert run("emm", "rollup", archive, "plant/hall/a").code == 2
    assert run("emm", "rollup", archive, "chat").code == 10


def test_domains_are_listed_added_and_removed(run, archive: Path) -> None:
    first = run("emm", "domain", archive).out
    assert "particle_physics   512  1024      512" in first
    added = run("emm", "domain", archive, "add", "proteomics", "--rank", "256", "--dim", "1024").out
    assert "proteomics         256  1024      256  added" in added
    assert run("emm", "domain", archive, "remove", "proteomics").out == first
    for wrong in (
        ["add", "x"],
        ["add", "x", "--rank", "64"],
        ["remove"],
        ["remove", "code", "--rank", "64", "--dim", "64"],
        ["add", "x", "--rank", "63", "--dim", "768"],
        ["add", "x", "--rank", "64", "--dim", "999999999999"],
        ["add", "X", "--rank", "64", "--dim", "768"],
        ["add", "code", "--rank", "64", "--dim", "768"],
        ["add", "plant", "--rank", "64", "--dim", "1024"],
    ):
        ended = run("emm", "domain", archive, *wrong)
        assert ended.code == 2 and ended.out == ""
    assert run("emm", "domain", archive, "remove", "proteomics").code == 10
    assert run("emm", "domain", archive).out == first


def test_settings_are_shown_said_inherited_and_taken_back(run, archive: Path) -> None:
    assert run("emm", "settings", archive, "plant", "sharing.dream", "on").code == 0
    shown = run("emm", "settings", archive, "plant/hall/a").out.splitlines()
    assert [line.split() for line in shown[1:]] == [
        ["retrieval.data.local", "lexical,vector,matrix", "the", "default"],
        ["sharing.dream", "on", "local:plant"],
    ]
    run("emm", "settings", archive, "local:", "retrieval.data.local", "matrix,lexical")
    assert "lexical,matrix  local:" in run("emm", "settings", archive, "plant", "retrieval.data.local").out
    assert "the default" in run("emm", "settings", archive, "plant", "sharing.dream", "--unset").out
    for wrong in (
        ["plant", "sharing.dream", "maybe"],
        ["plant", "sharing.everything", "on"],
        ["plant", "--unset"],
        ["plant", "sharing.dream", "on", "--unset"],
        ["../plant"],
    ):
        assert run("emm", "settings", archive, *wrong).code == 2
