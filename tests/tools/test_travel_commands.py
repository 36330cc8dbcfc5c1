"""`emm move | export | import` as a person types them, and `emm bench ancestors` on a notebook of its own.

Red when: a command says another thing than the archive does, a refusal is a traceback or changes an archive, JSON does
not parse, or the measurement favours somebody who heard nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

WORDS = ("valve", "pump", "seal", "rotor")


@pytest.fixture(scope="module")
def archive(run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("travel")
    folder = root / "notes"
    folder.mkdir()
    for number, word in enumerate(WORDS):
        (folder / f"{word}.md").write_text(f"---\ntags: [{word}]\n---\n# {word}\n\nThe {word} {number} leaks.\n")
    assert run("emm", "ingest", root / "archive", folder, "--scope", "plant/hall/a").code == 0
    return root / "archive"


def test_a_scope_is_moved_exported_and_imported(run, archive: Path, tmp_path: Path) -> None:
    assert run("emm", "move", archive, "plant/hall/a", "plant/hall/b").out == (
        "local:plant/hall/a is now local:plant/hall/b (1 run)\n"
    )
    report = json.loads(run("emm", "move", archive, "plant/hall", "plant/yard", "--json").out)
    assert (report["target"], report["runs"]) == ("local:plant/yard", 1)
    refused = {
        ("plant/hall", "plant/new"): 10,
        ("plant/yard", "plant/yard"): 2,
        ("plant/yard", "chat/yard"): 2,
        ("plant/yard", "rival:plant/yard"): 2,
        ("plant/yard/b", "plant/../b"): 2,
    }
    for words, code in refused.items():
        ended = run("emm", "move", archive, *words)
        assert ended.code == code and ended.err.count("\n") == 1, ended.err

    out = tmp_path / "yard"
    lines = run("emm", "export", archive, "plant/yard", "--out", out).out.splitlines()
    assert lines[0].startswith(f"local:plant/yard is now also in {out}, in ")
    assert lines[1].startswith("  local:plant/yard/b copied: 4 documents, 4 passages, 4 pairs; memory of ")
    assert run("emm", "export", archive, "plant/yard", "--out", out).code == 2
    assert run("emm", "export", archive, "nobody:", "--out", tmp_path / "none").code == 10
    assert "The pump 1 leaks." in run("emm", "ask", out, "which pump leaks?").out

    into = tmp_path / "other"
    report = json.loads(run("emm", "import", into, out, "--as", "guests:plant/garden", "--json").out)
    assert [each["outcome"] for each in report["runs"]] == ["copied"]
    assert report["runs"][0]["target"] == "guests:plant/garden/b" and len(report["runs"][0]["digest"]) == 64
    assert "present: 4 documents" in run("emm", "import", into, out, "--as", "guests:plant/garden").out
    for words, code in (((out, "--as", "plant"), 2), ((archive,), 2), ((tmp_path / "nothing",), 10)):
        ended = run("emm", "import", into, *words)
        assert ended.code == code and ended.err.count("\n") == 1, ended.err


def test_ancestors_are_worth_something_where_runs_know_little(run, tmp_path: Path) -> None:
    notebook = tmp_path / "lab-notebook"
    notebook.mkdir()
    entries = [
        {
            "date": f"2011-{1 + number // 8:02}-{1 + number % 8:02}",
            "text": f"the {WORDS[number % 4]} was looked at in round {number % 7}, the {WORDS[number % 4]} held",
            "tags": [WORDS[number % 4]] if number != 5 else [],
        }
        for number in range(96)
    ]
    (notebook / "entries.jsonl").write_text("".join(json.dumps(each) + "\n" for each in entries))
    reports = [
        json.loads(line) for line in run("emm", "bench", "ancestors", "--data", tmp_path, "--json").out.splitlines()
    ]
    assert [(each["protocol"], each["period"]) for each in reports] == [
        (protocol, period) for protocol in ("later", "prequential") for period in ("month", "quarter")
    ]
    for report in reports:
        heard = {each["who"]: each["p_at_1"] for each in report["heard"]}
        assert heard["domain"] == heard["run + project + domain"] == 1.0  # four words, four tags
        assert heard["the commonest labels"] < 0.6
        assert report["paired"]["neighbours_alone"] == 0
    heard = {each["who"]: each["p_at_1"] for each in reports[2]["heard"]}
    assert heard["run"] < 1.0 and reports[2]["paired"]["matrix_alone"] > 0  # a month begins with knowing nothing
    assert run("emm", "bench", "ancestors", "--data", notebook).code == 2
