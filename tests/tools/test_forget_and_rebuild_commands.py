"""`emm check | rebuild | forget` on an archive, as a person types them.

Red when: something goes before its plan was shown, or with --dry-run; an option that does not fit is taken silently; an
exit code is not the documented one; a certificate tells content.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import emm
from emm_tools import forget_command

NOTES = {
    "letters/anna.md": "---\ntags: private\n---\n# Letter\n\nThe zymurgical secret is kept in the cellar.\n",
    "pump.md": "# Pump\n\nThe pump valve leaks at 3.5 bar.\n",
    "rotor.md": "# Rotor\n\nThe rotor seal is of brass.\n",
}


@pytest.fixture
def archive(tmp_path: Path, run) -> Path:
    for name, text in NOTES.items():
        path = tmp_path / "notes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert run("emm", "ingest", tmp_path / "a", tmp_path / "notes", "--scope", "code/p/r").code == 0
    return tmp_path / "a"


def document_of(archive: Path, run, question: str) -> int:
    answer = json.loads(run("emm", "ask", archive, question, "--json").out)
    return int(answer["citations"][0]["document_id"])


def test_a_plan_is_shown_and_nothing_goes_with_dry_run(archive: Path, run) -> None:
    before = {path: path.read_bytes() for path in archive.rglob("*") if path.is_file()}
    ended = run("emm", "forget", archive, "--source", "letters/*", "--dry-run")
    assert ended.code == 0 and "letters/anna.md: Letter" in ended.out
    assert ended.out.startswith("1 passage of 1 document, 1 of them whole; 1 pair in 1 memory")
    plan = json.loads(run("emm", "forget", archive, "--query", "zymurgical", "--dry-run", "--json").out)
    assert plan["passages"] == 1 and plan["documents"][0]["whole"] is True
    assert (
        "all of tenant local: 1 run, 3 documents" in run("emm", "forget", archive, "--tenant", "local", "--dry-run").out
    )
    assert {path: path.read_bytes() for path in archive.rglob("*") if path.is_file()} == before


def test_a_document_is_forgotten_and_its_certificate_tells_no_content(archive: Path, run) -> None:
    identity = document_of(archive, run, "zymurgical secret")
    ended = run("emm", "forget", archive, "--document", identity, "--purge", "--block", "--json")
    assert ended.code == 0 and "letters/anna.md" in ended.err  # the plan, beside the certificate
    certificate = json.loads(ended.out)
    assert (certificate["documents"], certificate["purged"], certificate["blocked"]) == (1, True, True)
    assert certificate["trace"]["found"] == [] and certificate["trace"]["pieces"] == 1
    assert not any(word in ended.out for word in ("zymurgical", "anna", "Letter", "private"))
    assert "zymurgical" not in run("emm", "ask", archive, "zymurgical secret of the rotor").out
    again = json.loads(run("emm", "ingest", archive, archive.parent / "notes", "--scope", "code/p/r", "--json").out)
    assert (again["blocked"], again["documents"]) == (1, 0)
    assert run("emm", "forget", archive, "--resume").out == "finished 0 interrupted forgettings\n"


def test_a_purge_says_when_other_texts_hold_all_of_it(archive: Path, run) -> None:
    """Red when a search for nothing is told as if it had proven something."""
    notes = archive.parent / "notes"
    assert run("emm", "ingest", archive, notes, "--scope", "code/p/other").code == 0
    ended = run("emm", "forget", archive, "--source", "letters/*", "--scope", "code/p/r", "--purge", "--yes")
    assert ended.code == 0 and "nothing to search for: texts that remain" in ended.out and "no trace" not in ended.out


def test_a_trace_that_is_found_is_an_exit_code(archive: Path, run) -> None:
    """A copy that a person made inside the archive is no file of ours, and the purge tells of it."""
    (archive / "copy.md").write_text(NOTES["letters/anna.md"])
    ended = run("emm", "forget", archive, "--source", "letters/*", "--purge")
    assert ended.code == forget_command.TRACED and "found in copy.md" in ended.out


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ((), "choose what"),
        (("--document", 1, "--tenant", "local"), "choose what"),
        (("--tenant", "local", "--block"), "--tenant takes neither"),
        (("--keys", "KEYS"), "--keys is for memories"),
        (("--query", "nowhere"), "nothing of that is here"),
        (("--query", "..."), "a query is of words"),
    ],
)
def test_what_does_not_fit_is_refused(options: tuple[object, ...], word: str, archive: Path, run) -> None:
    np.save(archive.parent / "KEYS", np.zeros((1, 256), np.float32))
    given = [archive.parent / "KEYS.npy" if option == "KEYS" else option for option in options]
    ended = run("emm", "forget", archive, *given)
    assert ended.code == 2 and word in ended.err
    assert run("emm", "check", archive).out == "clean\n"


def test_what_is_not_there_is_said(archive: Path, run) -> None:
    ended = run("emm", "forget", archive, "--document", 99)
    assert ended.code == 10 and "no such document" in ended.sentence()
    assert run("emm", "forget", archive, "--tenant", "nobody").code == 10


def test_a_memory_forgets_keys_and_takes_no_option_of_archives(tmp_path: Path, run) -> None:
    emm.create(str(tmp_path / "m"), dim=4, rank=16, key_dim=16).close()
    ended = run("emm", "forget", tmp_path / "m", "--purge")
    assert ended.code == 2 and "--purge is for archives" in ended.err
    key = json.dumps({"key": [1.0, *[0.0] * 15]}).encode()
    assert run("emm", "forget", tmp_path / "m", stdin=key).code == 0


def test_everything_but_the_catalog_comes_back(archive: Path, run) -> None:
    question = ("emm", "ask", archive, "what of the rotor seal?")
    before = run(*question).out
    for part in ("memories", "vectors", "embedders"):
        shutil.rmtree(archive / part)
    checked = run("emm", "check", archive)
    assert checked.code == 3 and "memory-missing: run local:code/p/r: there is none" in checked.out
    assert run("emm", "rebuild", archive, "--dry-run").out == checked.out
    ended = run("emm", "rebuild", archive)
    assert ended.code == 0 and "code: the same model" in ended.out and "local:code/p/r: 3 pairs" in ended.out
    assert run(*question).out == before
    assert run("emm", "check", archive).code == 0
    report = json.loads(run("emm", "rebuild", archive, "--scope", "code", "--json").out)
    assert [each["pairs"] for each in report["runs"]] == [3]
    assert run("emm", "rebuild", archive, "--scope", "nothing").code == 10


def test_a_changed_text_is_an_exit_code(archive: Path, run) -> None:
    catalog = archive / "catalog.sqlite"
    data = catalog.read_bytes()
    assert data.count(b"rotor seal is of brass") == 1
    catalog.write_bytes(data.replace(b"rotor seal is of brass", b"rotor seal is of grass"))
    for command in ("check", "rebuild"):
        ended = run("emm", command, archive)
        assert ended.code == 4 and "rotor.md" in ended.out + ended.err
    findings = [json.loads(line) for line in run("emm", "check", archive, "--json").out.splitlines()]
    assert [(each["code"], each["kind"]) for each in findings] == [("document-changed", "text")]
