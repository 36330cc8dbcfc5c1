"""`emm ingest | ask | tree | bench heldout` on small folders of real text files.

Red when: a command prints something else than the archive holds, asks across what it was told, hides skipped files, or
its JSON stops parsing.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import emm
from emm_engine import Archive, Scope

SUBJECTS = ("catalyst", "detector", "reactor", "sequencer", "telescope", "seismometer")


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Twelve dated, tagged notes on six subjects."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(12):
        subject = SUBJECTS[number % 6]
        (folder / f"2023-0{number % 9 + 1}-11-{subject}-{number}.md").write_text(
            f"---\ntags: [{subject}]\n---\n# Run {number} of the {subject}\n\n"
            f"The {subject} failed in run {number} because of a leak in valve {number}.\n\n"
            f"It was repaired; the {subject} worked again at {300 + number} K.\n"
        )
    return folder


@pytest.fixture
def archive(run, notes: Path, tmp_path: Path) -> Path:
    path = tmp_path / "archive"
    assert run("emm", "ingest", path, notes, "--scope", "chemistry/hall/2023").code == 0
    return path


def test_ingest_reports_and_is_idempotent(run, notes: Path, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    first = run("emm", "ingest", path, notes, "--scope", "chemistry/hall/2023")
    assert first.code == 0 and "local:chemistry/hall/2023: 12 entries" in first.out and "entries/s" in first.out
    again = json.loads(run("emm", "ingest", path, notes, "--scope", "chemistry/hall/2023", "--json").out)
    assert (again["entries_read"], again["documents"], again["duplicates"]) == (12, 0, 12)
    memory = path / "memories/local/chemistry/hall/2023"
    assert run("emm-verify", path).code == 0 and emm.inspect(memory).lsn


def test_ingest_says_what_it_skipped(run, notes: Path, tmp_path: Path) -> None:
    (notes / "binary.txt").write_bytes(b"a\0b")
    ended = run("emm", "ingest", tmp_path / "archive", notes)
    assert ended.code == 0 and "skipped binary.txt: " in ended.err and "1 file skipped" in ended.out


def test_ingest_says_which_kinds_it_did_not_read(run, notes: Path, tmp_path: Path) -> None:
    """ "2 files of other kinds" told nobody that it was the export they had meant."""
    for name in ("export.json", "more.JSON", "a\x1b[31m.x\x1b[31m", "plain"):
        (notes / name).write_text('[{"text": "a record"}]')
    out = run("emm", "ingest", tmp_path / "archive", notes).out
    assert "4 files of other kinds (.json 2, " in out and "no suffix 1" in out and "\x1b" not in out


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_no_number_of_seconds_is_refused(run, archive: Path, notes: Path, number: str) -> None:
    """NaN is within every range: it began to watch and ended with an internal error."""
    watching = ["ingest", archive, notes, "--watch", "--interval", number]
    for option in (watching, ["dream", archive, "--once", "--seconds", number]):
        ended = run("emm", *option)
        assert ended.code == 2 and "Invalid value" in ended.err


def test_ingest_of_nothing_makes_nothing(run, tmp_path: Path) -> None:
    """Red when an archive and a memory are made for a folder without a single text."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"x")
    ended = run("emm", "ingest", tmp_path / "archive", tmp_path / "pictures")
    assert ended.code == 2 and "holds nothing that can be read" in ended.sentence()
    assert not (tmp_path / "archive").exists()


def test_ingest_tells_copies_from_new_documents(run, notes: Path, tmp_path: Path) -> None:
    """Red when the rate of an ingest of copies reads as if they had been new."""
    (notes / "copy.md").write_bytes(next(notes.iterdir()).read_bytes())
    first = run("emm", "ingest", tmp_path / "archive", notes).out
    assert "12 documents (1 entry was a copy of one already there)" in first
    again = run("emm", "ingest", tmp_path / "archive", notes).out
    assert "0 documents (13 entries were copies of ones already there)" in again
    assert "rate        0 new passages/s, " in again


def test_ask_of_an_unknown_run_lists_the_runs(run, archive: Path) -> None:
    """Red when a mistyped scope gets an empty answer and exit 0."""
    for scope in ("chemistry/hall/2024", "chemistry/hal", "physics", "other:chemistry"):
        ended = run("emm", "ask", archive, "leak", "--scope", scope)
        assert ended.code == 10 and "runs: local:chemistry/hall/2023" in ended.sentence()


def test_an_answer_without_passages_says_what_to_ask_instead(run, archive: Path) -> None:
    """Red when nothing found leaves a reader with nothing to do, or names a filter that was not given."""
    assert run("emm", "ask", archive, "zygote", "--without", "vector").out.startswith(
        "nothing found in local:chemistry; try other words, or another --scope (emm tree ARCHIVE lists them)\n"
    )
    filtered = run("emm", "ask", archive, "valve", "--label", "tag:oven", "--since", "2023")
    assert filtered.out.startswith("nothing found; ask without --since or --label to see what there is\n")
    assert "emm ingest" in run("emm", "ask", archive.parent / "no", "valve").sentence()


def test_what_a_memory_says_about_itself_is_noted(run, archive: Path, notes: Path) -> None:
    """Red when ask, tree or ingest keeps to itself what the memory it opened has to say."""
    memory = archive / "memories/local/chemistry/hall/2023"
    newest = sorted(memory.glob("*.emm"))[-1]
    newest.chmod(0o644)
    whole = newest.read_bytes()
    newest.write_bytes(whole[:20] + bytes([whole[20] ^ 0x40]) + whole[21:])
    with emm.open(memory) as opened:
        assert opened.notices
        told = [f"note: local:chemistry/hall/2023: {notice}" for notice in opened.notices]
    for arguments in (["ask", archive, "leak"], ["tree", archive]):
        assert run("emm", *arguments).err.splitlines() == told
    assert "note: " in run("emm", "ingest", archive, notes, "--scope", "chemistry/hall/2023").err


def test_ask_cites_what_the_library_cites(run, archive: Path) -> None:
    question = "why did the telescope fail?"
    with Archive.open(archive) as opened:
        expected = opened.ask(question, Scope("local", "chemistry"), k=3)
    ended = run("emm", "ask", archive, question, "-k", 3, "--compare")
    assert ended.code == 0
    assert ended.out.startswith(expected.context)
    assert "telescope failed in run" in ended.out and "vectors alone would have answered:" in ended.out
    assert "~ tag telescope: strength" in ended.out
    found = json.loads(run("emm", "ask", archive, question, "--json").out)
    assert found["question"] == question and found["citations"][0]["source"].endswith(".md")


def test_ask_needs_a_scope_only_where_there_are_several_domains(run, archive: Path, notes: Path) -> None:
    run("emm", "ingest", archive, notes, "--scope", "seismic/coast/2023")
    ended = run("emm", "ask", archive, "leak")
    assert ended.code == 2 and "--scope" in ended.err
    assert run("emm", "ask", archive, "leak", "--scope", "seismic").code == 0


def test_as_of_leaves_out_what_came_later(run, archive: Path) -> None:
    ended = run("emm", "ask", archive, "valve leak", "--as-of", "2023-03", "-k", "50")
    assert "2023-03-11" in ended.out and "2023-05-11" not in ended.out
    assert run("emm", "ask", archive, "valve leak", "--as-of", "soon").code == 2


def test_filters_and_ablations_of_ask(run, archive: Path) -> None:
    """Red when an option of `ask` does not reach the engine, or a mistyped one is taken for something else."""
    late = run("emm", "ask", archive, "valve leak", "--since", "2023-05", "-k", "50").out
    assert "2023-05-11" in late and "2023-03-11" not in late
    early = run("emm", "ask", archive, "valve leak", "--until", "2023-03", "-k", "50").out
    assert "2023-03-11" in early and "2023-05-11" not in early
    tagged = run("emm", "ask", archive, "valve leak", "--label", "tag:detector", "-k", "50").out
    assert "of the detector" in tagged and "of the reactor" not in tagged
    assert "no associations for a filtered question" in tagged
    named = json.loads(run("emm", "ask", archive, "leak", "--source", "*reactor*", "-k", "50", "--json").out)
    assert named["citations"] and all("reactor" in citation["source"] for citation in named["citations"])
    assert named["filters"]["source"] == "*reactor*" and named["recalls"] == ["lexical", "vector", "matrix"]
    words = json.loads(run("emm", "ask", archive, "leak", "--without", "vector", "--without", "matrix", "--json").out)
    assert words["recalls"] == ["lexical"] and not words["associations"]
    for wrong in (["--label", "detector"], ["--since", "May"], ["--without", "words"], ["--source", ""]):
        assert run("emm", "ask", archive, "leak", *wrong).code == 2
    every = [part for recall in ("lexical", "vector", "matrix") for part in ("--without", recall)]
    assert run("emm", "ask", archive, "leak", *every).code == 2


def test_tree_lists_runs(run, archive: Path) -> None:
    rows = [json.loads(line) for line in run("emm", "tree", archive, "--json").out.splitlines()]
    assert [row["level"] for row in rows] == ["tenant", "domain", "project", "run"]
    assert {(row["documents"], row["pending"]) for row in rows} == {(12, 0)}
    assert rows[-1]["scope"] == "local:chemistry/hall/2023"
    shown = [line.split()[0] for line in run("emm", "tree", archive).out.splitlines()[1:]]
    assert shown == ["local:", "chemistry", "hall", "2023"]


def test_hostile_text_does_not_reach_the_terminal_raw(run, tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.md").write_text("# beam \x1b]0;owned\x07 \x1b[31m\n\nThe beam \x1b[2J was lost.\n" * 3)
    run("emm", "ingest", tmp_path / "a", folder)
    ended = run("emm", "ask", tmp_path / "a", "beam", "--compare")
    assert "beam" in ended.out and "\x1b" not in ended.out and "\x07" not in ended.out


@pytest.mark.parametrize("arguments", [[], ["--machine", "."]])
def test_ingest_wants_folders_or_the_machine(run, tmp_path: Path, arguments: list[str]) -> None:
    assert run("emm", "ingest", tmp_path / "a", *arguments).code == 2


def test_a_scope_that_names_no_run_is_refused(run, notes: Path, tmp_path: Path) -> None:
    ended = run("emm", "ingest", tmp_path / "a", notes, "--scope", "chemistry")
    assert ended.code == 2 and ended.sentence()
    assert not (tmp_path / "a").exists()


def test_heldout_names_the_winner(run, notes: Path) -> None:
    found = json.loads(run("emm", "bench", "heldout", notes, "--json").out)
    names = {score["name"] for score in found["scores"]}
    assert found["winner"] in names | {"tie", "not distinguishable"}
    text = run("emm", "bench", "heldout", notes).out
    assert "predicted the tag of" in text and f"winner: {found['winner']}" in text
    paired = found["paired"]
    assert f"{paired['matrix_alone']} right by the matrix alone, {paired['neighbours_alone']} by neighbours" in text
    assert "held-out matrix is 768 × 512, whatever the shape of an archive's" in text


def test_heldout_on_too_little_is_one_sentence(run, tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / "a.md").write_text("# one\n\nnote\n")
    ended = run("emm", "bench", "heldout", tmp_path / "n")
    assert ended.code == 2 and ended.sentence()
