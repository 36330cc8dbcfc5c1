"""Watching folders: nothing is missed, nothing is read twice, nothing is read while it is being written.

Red when: a file is handed out before it has rested, or twice in one state; a change during the reading is lost; a file
that went away stops the others; a link is followed; a chat export is read file by file.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emm_engine import Intake
from emm_engine.sources.watch import FolderWatch
from tests.engine import foreign_files as made


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def watching(folder: Path, clock: Clock) -> FolderWatch:
    return FolderWatch(Intake([folder]).files, clock, settle_s=2.0)


def names(watch: FolderWatch, clock: Clock, seconds: float = 1.0, done: bool = True) -> list[str]:
    """What is handed out after so many seconds."""
    clock.now += seconds
    ready = watch.poll()
    if done:
        watch.done(ready)
    return [found.source for found in ready]


def test_a_file_is_read_once_it_has_rested_and_once(tmp_path: Path, clock: Clock) -> None:
    watch = watching(tmp_path, clock)
    (tmp_path / "a.md").write_text("one")
    assert names(watch, clock) == [] and watch.waiting == 1
    (tmp_path / "a.md").write_text("one and")  # still being written
    assert names(watch, clock, 3) == []
    assert names(watch, clock) == []
    assert names(watch, clock) == ["a.md"] and watch.waiting == 0
    assert [names(watch, clock) for _ in range(5)] == [[]] * 5


def test_a_change_is_read_again_also_one_during_the_reading(tmp_path: Path, clock: Clock) -> None:
    watch = watching(tmp_path, clock)
    (tmp_path / "a.md").write_text("one")
    names(watch, clock)
    clock.now += 3
    ready = watch.poll()
    (tmp_path / "a.md").write_text("two")  # of equal length
    watch.done(ready)
    assert names(watch, clock) == []
    assert names(watch, clock, 3) == ["a.md"]
    assert names(watch, clock, 3) == []


def test_what_was_not_done_is_handed_out_again(tmp_path: Path, clock: Clock) -> None:
    """Red when a round that was fenced off or interrupted counts as read."""
    watch = watching(tmp_path, clock)
    (tmp_path / "a.md").write_text("one")
    names(watch, clock)
    assert names(watch, clock, 3, done=False) == ["a.md"]
    assert names(watch, clock) == ["a.md"]
    assert names(watch, clock) == []


def test_renames_removals_and_links(tmp_path: Path, clock: Clock) -> None:
    watch = watching(tmp_path, clock)
    (tmp_path / "a.md").write_text("one")
    (tmp_path / "b.md").write_text("two")
    (tmp_path / "l.md").symlink_to("/etc/passwd")
    names(watch, clock)
    assert names(watch, clock, 3) == ["a.md", "b.md"]
    (tmp_path / "a.md").rename(tmp_path / "c.md")
    (tmp_path / "b.md").unlink()
    names(watch, clock)
    assert names(watch, clock, 3) == ["c.md"]
    os.replace(tmp_path / "c.md", tmp_path / "a.md")  # back under a name that was read once
    names(watch, clock)
    assert names(watch, clock, 3) == ["a.md"]


def test_a_chat_export_is_one_thing(tmp_path: Path, clock: Clock) -> None:
    made.chat(tmp_path / "slack")
    watch = watching(tmp_path, clock)
    names(watch, clock)
    assert names(watch, clock, 3) == ["slack"]
    (tmp_path / "slack" / "reactor" / "2021-03-09.json").write_text("[]")
    names(watch, clock)
    assert names(watch, clock, 3) == ["slack"]
