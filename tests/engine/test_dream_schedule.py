"""When a dreamer dreams: a night passes at once, because the clock is the test's.

Red when it dreams while somebody asks or the machine is busy, goes on while somebody needs it, sleeps for real, leaves
a trace of asking in an archive where nobody dreams, or ends its watch over one run that cannot be dreamt about.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from emm_engine import Archive, Scope
from emm_engine.dream.activity import Activity
from emm_engine.dream.schedule import Policy, Scheduler, load_average
from emm_engine.settings import SHARING_DREAM, Settings
from tests.engine.dream_life import RUN, NightClock, make_archive, notes, only, waiting

POLICY = Policy(quiet_seconds=100.0, load_max=0.5, poll_seconds=10.0, seconds=50.0)


class Night:
    """An archive with something to dream about, a clock, and a load that the test sets."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.clock = NightClock()
        self.load = 0.0
        self.told: list[str] = []
        self.at = ""  # what is told when somebody asks
        dreamer = archive.dreamer(self.hear)
        self.activity = Activity(dreamer.folder)
        self.scheduler = Scheduler(dreamer, self.activity, self.clock, POLICY, load=lambda: self.load)
        self.touched = 1

    def hear(self, text: str) -> None:
        self.told.append(text)
        if text == self.at:
            self.somebody_asks()

    def somebody_asks(self) -> None:
        """What `note_use` does, at a time of its own: the file system's clock may be coarse."""
        self.touched += 1
        os.utime(self.archive.path / "dreams" / "used", ns=(self.touched, self.touched))


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    make_archive(tmp_path / "a", notes(1, 0, 10))
    with Archive.open(tmp_path / "a") as archive:
        yield Night(archive)


def test_it_dreams_when_it_has_been_quiet_for_long_enough(night: Night) -> None:
    assert list(night.scheduler.step()) == []
    night.clock.sleep(99)
    assert list(night.scheduler.step()) == []
    night.clock.sleep(1)
    assert only(list(night.scheduler.step())).outcome == "done"
    assert list(night.scheduler.step()) == [], "nothing is new"


def test_somebody_who_asks_is_somebody_awake(night: Night) -> None:
    night.clock.sleep(100)
    night.somebody_asks()
    assert list(night.scheduler.step()) == []
    night.clock.sleep(99)
    assert list(night.scheduler.step()) == []
    night.clock.sleep(2)
    assert only(list(night.scheduler.step())).outcome == "done"


def test_it_does_not_dream_on_a_busy_machine(night: Night) -> None:
    night.clock.sleep(1000)
    night.load = 0.6
    assert list(night.scheduler.step()) == []
    night.load = 0.4
    assert only(list(night.scheduler.step())).outcome == "done"
    assert load_average() >= 0.0


def test_it_gives_way_between_two_steps_and_goes_on_when_it_is_quiet_again(night: Night) -> None:
    waiting(night.archive, notes(2, 0, 5))
    night.clock.sleep(100)
    night.at = "phase probe"
    paused = only(list(night.scheduler.step()))
    assert (paused.outcome, paused.why, paused.phase) == ("running", "the archive is in use", "distill")
    night.clock.sleep(50)
    assert list(night.scheduler.step()) == []
    night.clock.sleep(51)
    done = only(list(night.scheduler.step()))
    assert (done.outcome, done.cycle_id, done.learnt, done.why) == ("done", paused.cycle_id, 5, "")
    assert night.told.count("phase probe") == 1


def test_a_watch_is_many_looks_and_no_waiting(night: Night) -> None:
    looks = iter(range(30))
    reports = list(night.scheduler.follow(lambda: next(looks, None) is not None, night.told.append))
    assert only(reports).outcome == "done"
    assert night.clock.naps == [10.0] * 30


def test_one_run_without_its_memory_does_not_end_the_watch_nor_keep_another_from_its_dream(night: Night) -> None:
    other = Scope("lab", "code", "apart", "host")
    night.archive.ingest(notes(1, 0, 3), other)
    for snapshot in night.archive.memory_path(other).glob("*.emm"):
        snapshot.unlink()
    night.clock.sleep(100)
    looks = iter(range(15))
    told: list[str] = []
    reports = list(night.scheduler.follow(lambda: next(looks, None) is not None, told.append))
    assert [report.scope for report in reports] == [str(RUN)]
    assert told and all("snapshot" in text or "missing" in text for text in told)


def test_asking_touches_nothing_where_nobody_dreams(tmp_path: Path) -> None:
    make_archive(tmp_path / "a", notes(1, 0, 5))
    with Archive.open(tmp_path / "a") as archive:
        archive.ask("crucible", RUN)
        assert not (tmp_path / "a" / "dreams").exists()
        activity = Activity(archive.dreamer().folder)
        os.utime(tmp_path / "a" / "dreams" / "used", ns=(5, 5))
        before = activity.mark()
        archive.ask("crucible", RUN)
        asked = activity.mark()
        assert asked != before
        os.utime(tmp_path / "a" / "dreams" / "used", ns=(5, 5))
        archive.ingest([], RUN)
        assert activity.mark() != before
        Settings(archive._catalog).set(RUN, SHARING_DREAM, False)
        assert archive.dreamer().due() == []
