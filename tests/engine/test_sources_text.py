"""Folders of notes, and the standard library's documentation.

Red when: the date falls back to the file's time although the front matter or the name has one; tags of a list are
lost; a symbolic link leads out of the folder; a binary file stops the walk; a docstring is read by importing.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from pathlib import Path

import pytest

import emm
from emm_engine import Label, documents_below, machine_documents, python_documentation, text_folder


def test_front_matter_gives_title_date_and_labels(tmp_path: Path) -> None:
    text = "---\ntitle: 'Run 7'\ndate: 2021-03-04 10:20\ntags: [yield, heat]\nproject: alpha\n---\n# Other\nBody."
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "note.md").write_text(text)
    (note,) = text_folder(tmp_path)
    assert (note.title, note.date, note.source, note.key) == (
        "Run 7",
        "2021-03-04T10:20:00Z",
        "deep/note.md",
        "deep/note.md",
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
    assert note.labels == (Label("tag", "one"), Label("tag", "two"))


def test_heading_file_name_and_time_stand_in(tmp_path: Path) -> None:
    (tmp_path / "2019-02-03-trial.md").write_text("intro\n\n## The trial ##\ntext")
    plain = tmp_path / "plain.txt"
    plain.write_text("text")
    os.utime(plain, (86_400, 86_400))
    trial, other = text_folder(tmp_path)
    assert (trial.title, trial.date) == ("The trial", "2019-02-03T00:00:00Z")
    assert (other.title, other.date) == ("plain", "1970-01-02T00:00:00Z")


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


def test_a_missing_folder_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(emm.MissingError, match="no such folder"):
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


def test_the_order_of_python_documentation_is_fixed() -> None:
    first, second = python_documentation(), python_documentation()
    assert [next(first).title for _ in range(200)] == [next(second).title for _ in range(200)]


def test_hostile_lines_cost_no_more_than_their_length(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# a" + " #" * 200_000 + "x\n" + "---\n" * 10_000)
    started = time.perf_counter()
    (note,) = text_folder(tmp_path)
    assert note.title.startswith("a #") and time.perf_counter() - started < 2.0
