"""Folders of notes, and the standard library's documentation.

Red when: the date falls back to the file's time although the front matter or the name has one; tags of a list are
lost; a symbolic link leads out of the folder; a binary file stops the walk; a docstring is read by importing; the
name, the date, the depth or the front matter of one file stops or burdens all the others.
"""

from __future__ import annotations

import inspect
import itertools
import os
import sys
import time
from pathlib import Path

import pytest

import emm
from emm_engine import Archive, Label, Scope, documents_below, machine_documents, python_documentation, text_folder
from emm_engine.documents import FILE_DATE, LABELS_MAX
from emm_engine.sources import ENTRIES_MIN
from emm_engine.sources.text import TITLE_CHARS_SHOWN


def test_front_matter_gives_title_date_and_labels(tmp_path: Path) -> None:
    text = "---\ntitle: 'Run 7'\ndate: 2021-03-04 10:20\ntags: [yield, heat]\nproject: alpha\n---\n# Other\nBody."
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "note.md").write_text(text)
    (note,) = text_folder(tmp_path)
    assert (note.title, note.date, note.source, note.key) == (
        "Run 7",
        "2021-03-04T10:20:00Z",
        "deep/note.md",
        f"{tmp_path}/deep/note.md",
    )
    assert note.labels == (
        Label("tag", "yield"),
        Label("tag", "heat"),
        Label("project", "alpha"),
        Label("folder", "deep"),
    )
    assert note.text == text


def test_list_items_under_tags_are_labels(tmp_path: Path) -> None:
    (tmp_path / "n.md").write_text("---\ntags:\n  - one\n  - two\n---\nBody")
    (note,) = text_folder(tmp_path)
    assert note.labels == (FILE_DATE, Label("tag", "one"), Label("tag", "two"))


@pytest.mark.parametrize("tags", ["one, two", "[one, two]", "'one', two"])
def test_tags_with_commas_are_several(tmp_path: Path, tags: str) -> None:
    """Red when `tags: a, b` is one label of that name, or a comma cuts a title."""
    (tmp_path / "2020-01-01.md").write_text(f"---\ntags: {tags}\ntitle: Salt, twice\n---\nBody")
    (note,) = text_folder(tmp_path)
    assert note.labels == (Label("tag", "one"), Label("tag", "two")) and note.title == "Salt, twice"


@pytest.mark.parametrize(
    "text", ["# Run of 2018-05-06\nText", "---\ntitle: 2018-05-06 run\n---\nText", "---\ntitle: run\n---\n# 2018-05-06"]
)
def test_a_date_in_the_title_or_heading_counts(tmp_path: Path, text: str) -> None:
    """Red when only front matter and file name are read: the note was dated by its copying."""
    (tmp_path / "2019-01-01-copy.md").write_text(text)
    (note,) = text_folder(tmp_path)
    assert note.date == "2018-05-06T00:00:00Z" and FILE_DATE not in note.labels


def test_heading_file_name_and_time_stand_in(tmp_path: Path) -> None:
    (tmp_path / "2019-02-03-trial.md").write_text("intro\n\n## The trial ##\ntext")
    plain = tmp_path / "plain.txt"
    plain.write_text("text")
    os.utime(plain, (86_400, 86_400))
    trial, other = text_folder(tmp_path)
    assert (trial.title, trial.date) == ("The trial", "2019-02-03T00:00:00Z")
    assert (other.title, other.date) == ("plain", "1970-01-02T00:00:00Z")
    assert FILE_DATE in other.labels and FILE_DATE not in trial.labels


def test_binary_files_are_reported_and_links_ignored(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_text("not yours")
    (inside / "link.txt").symlink_to(outside / "secret.txt")
    (inside / "folder").symlink_to(outside)
    (inside / "data.txt").write_bytes(b"\x00\x01")
    (inside / "good.txt").write_bytes(b"caf\xe9")
    problems: list[str] = []
    found = list(text_folder(inside, lambda source, why: problems.append(source)))
    assert [document.text for document in found] == ["caf\u00e9"]
    assert problems == ["data.txt"]


def test_no_name_date_or_front_matter_stops_the_others(tmp_path: Path) -> None:
    """One file with a Latin-1 name, or dated before the year 1000, once ended the whole ingest."""
    Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.txt")).write_text("a")
    (tmp_path / "0500-02-03.txt").write_text("b")
    (tmp_path / "long.txt").write_text("# " + "word " * 1000 + "\n" + "c")
    (tmp_path / "tags.txt").write_text("---\ntags: [" + ",".join(map(str, range(5000))) + "]\n---\nd")
    problems: list[str] = []
    found = {document.source: document for document in text_folder(tmp_path, lambda source, _: problems.append(source))}
    assert problems == []
    assert list(found) == ["0500-02-03.txt", "caf\\xe9.txt", "long.txt", "tags.txt"]
    assert found["0500-02-03.txt"].date == "0500-02-03T00:00:00Z"
    assert found["caf\\xe9.txt"].title == "caf\\xe9"
    assert len(found["long.txt"].title) == TITLE_CHARS_SHOWN
    assert len(found["tags.txt"].labels) == LABELS_MAX


def test_folders_deeper_than_recursion_are_read(tmp_path: Path) -> None:
    """os.walk recurses on Python 3.11: 1,000 folders inside each other were a RecursionError. Red with os.walk."""
    deep = tmp_path / "/".join("a" * 300)
    deep.mkdir(parents=True)
    (deep / "deep.txt").write_text("text")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "near.txt").write_text("text")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 150)  # half as deep as the folder, which pytest must take away again
    try:
        found = list(text_folder(tmp_path))
    finally:
        sys.setrecursionlimit(limit)
    assert [document.title for document in found] == ["deep", "near"]


def test_a_folder_that_cannot_be_listed_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b.txt").write_text("text")
    listed = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    problems: list[tuple[str, str]] = []
    (found,) = text_folder(tmp_path, lambda *problem: problems.append(problem))
    assert found.source == "b.txt"
    assert problems == [(str(tmp_path / "a"), "PermissionError: Permission denied")]


def test_equal_names_in_two_folders_are_two_documents(tmp_path: Path) -> None:
    """The key was the path inside its folder, so the README of one folder superseded that of the other, and again at
    every ingest. Red when the key does not name the folder.
    """
    for name, text in (("one", "alpha reactor"), ("two", "beta laser")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text(text)
    run = Scope("local", "general", "notes", "default")
    with Archive.create(tmp_path / "archive") as archive:

        def ingest() -> tuple[int, int]:
            both = itertools.chain(documents_below(tmp_path / "one"), documents_below(tmp_path / "two"))
            report = archive.ingest(both, run)
            return report.documents, report.superseded

        assert ingest() == (2, 0)
        assert ingest() == (0, 0)
        (tmp_path / "two" / "README.md").write_text("gamma laser")
        assert ingest() == (1, 1)
        quotes = {citation.quote for citation in archive.ask("reactor laser", run).citations}
        assert quotes == {"alpha reactor", "gamma laser"}


def test_a_missing_folder_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(emm.MissingError, match="no such file or folder"):
        documents_below(tmp_path / "nowhere")


def test_few_changelogs_mean_python_documentation(tmp_path: Path) -> None:
    imported = set(sys.modules)
    name, documents = machine_documents(tmp_path)
    found = list(itertools.islice(documents, 1200))
    assert name == "python-documentation"
    assert len(found) == 1200
    assert "antigravity" not in set(sys.modules) - imported
    titles = {document.title for document in found}
    assert {"assert", "argparse.ArgumentParser", "_pydecimal"} <= titles


@pytest.mark.parametrize(("n_entries", "chosen"), [(ENTRIES_MIN - 1, "python-"), (ENTRIES_MIN, "debian-")])
def test_the_choice_falls_at_a_thousand_entries(tmp_path: Path, n_entries: int, chosen: str) -> None:
    """Red when `machine_documents` compares with another number, or loses the entries that it counted."""
    entry = "tar (1.{}) unstable; urgency=low\n\n  * Note {}.\n\n -- A B <a@b>  Fri, 08 Dec 2006 10:00:00 +0000\n\n"
    (tmp_path / "tar").mkdir()
    (tmp_path / "tar" / "changelog.Debian").write_text("".join(entry.format(n, n) for n in range(n_entries)))
    name, documents = machine_documents(tmp_path)
    assert name.startswith(chosen)
    if chosen == "debian-":
        assert len(list(documents)) == n_entries


def test_the_order_of_python_documentation_is_fixed() -> None:
    first, second = python_documentation(), python_documentation()
    assert [next(first).title for _ in range(200)] == [next(second).title for _ in range(200)]


def test_hostile_lines_cost_no_more_than_their_length(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# a" + " #" * 200_000 + "x\n" + "---\n" * 10_000)
    started = time.perf_counter()
    (note,) = text_folder(tmp_path)
    assert note.title.startswith("a #") and time.perf_counter() - started < 2.0
