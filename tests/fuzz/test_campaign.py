"""A campaign goes on where the last one ended, and counts a state once however often it was come upon.

Red when a piece depends on what ran before it, when a state is counted twice or a line is lost, when half a line spoils
the file, and when a violation does not end the campaign.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emm_fuzz.campaign import Campaign, main, timed
from emm_fuzz.mutants.patching import Patch, planted
from emm_fuzz.pieces import Keys, Piece, plan, run_piece
from emm_fuzz.record import Tally
from emm_fuzz.results import Results, append_line, code_digest, line_of, read_lines
from emm_fuzz.summary import summary

FIRST = Piece("situation", "small", 1, 0, (("write",), ("kill",)), 1)
SECOND = Piece("situation", "small", 1, 1, (("kill",), ("decay",)), 1)


class Here(Executor):
    """Does what it is given at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def campaign(results: Results) -> Campaign:
    return Campaign(results, Here(), 1, time.monotonic() + 60)


def test_a_piece_is_the_same_whenever_it_runs() -> None:
    """Same code and piece, same trace digest: also after other pieces, whose states are not its own."""
    tally, keys = run_piece(FIRST)
    other, others = run_piece(SECOND)
    again, keys_again = run_piece(FIRST)
    assert tally.trace == again.trace != other.trace and np.array_equal(keys, keys_again)
    assert tally.to_dict() == again.to_dict() and tally.violations == []
    assert 0 < len(np.intersect1d(keys, others)) < len(keys) == len(np.unique(keys))


def test_the_plan_goes_from_short_to_long_from_situations_to_all_and_on_to_seeds_without_end() -> None:
    noted: list[tuple[str, int]] = []
    pieces = plan(2, 1, note=lambda enumeration, length: noted.append((enumeration.geometry, length)))
    ids = [each.id for each in itertools.islice(pieces, 60)]
    assert ids[:3] == ["situation/small/0/0", "situation/small/1/0", "situation/small/2/0"]
    assert "literal/small/1/0" not in ids  # of length 1 every workload is its own representative
    seeds = [each for each in ids if each.startswith("random/")]
    assert ids[-len(seeds) :] == seeds == [f"random/{number}" for number in range(1, len(seeds) + 1)]
    assert noted[:3] == [("small", 0), ("small", 1), ("small", 2)] and ("blocks", 2) in noted
    assert len(set(ids)) == len(ids)


def test_states_are_counted_once_also_after_a_restart(tmp_path: Path) -> None:
    lines, cache = tmp_path / "r.jsonl", tmp_path / "cache"
    found: list[tuple[Tally, Keys]] = [run_piece(FIRST), run_piece(SECOND)]
    for piece, (tally, keys) in zip((FIRST, SECOND), found, strict=True):
        results = Results(lines, cache, "code")
        results.add(line_of(piece, tally, keys, 1.0), keys)
    together = len(np.union1d(found[0][1], found[1][1]))
    results = Results(lines, cache, "code")
    assert results.distinct == together == results.lines[-1]["distinct_so_far"] < sum(len(keys) for _, keys in found)
    assert results.done == {FIRST.id, SECOND.id}
    assert Results(lines, cache, "other code").done == set()


def test_half_a_line_is_taken_away_before_the_next(tmp_path: Path) -> None:
    """A campaign was killed while it wrote."""
    path = tmp_path / "r.jsonl"
    append_line(path, {"code": "a"})
    with path.open("ab") as file:
        file.write(b'{"code": "b", "pie')
    assert read_lines(path) == [{"code": "a"}]
    append_line(path, {"code": "c"})
    assert read_lines(path) == [{"code": "a"}, {"code": "c"}] == [json.loads(x) for x in path.open()]


def test_without_the_states_of_earlier_pieces_nothing_new_is_counted_until_they_ran_again(tmp_path: Path) -> None:
    """After a fresh clone: the file says how many there were, and the pieces say which."""
    path = tmp_path / "r.jsonl"
    campaign(Results(path, tmp_path / "cache", "code")).run(iter([FIRST]))
    before = path.read_bytes()
    results = Results(path, tmp_path / "elsewhere", "code")
    assert results.missing == [FIRST.id] and results.distinct == results.lines[0]["together"]
    with pytest.raises(LookupError, match="missing"):
        campaign(results).run(iter([SECOND]))
    with pytest.raises(LookupError, match="trace"):
        results.restore(FIRST.id, "another", np.empty(0, np.uint64))
    campaign(results).run(iter([FIRST]))
    assert results.missing == [] and path.read_bytes() == before
    campaign(results).run(iter([SECOND]))
    assert len(read_lines(path)) == 2


def test_a_violation_ends_the_campaign_with_its_replay_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Results(tmp_path / "r.jsonl", tmp_path / "cache", "code")
    ours = campaign(results)
    with planted(Patch("emm.storage.journal_writer:JournalWriter._write", "self._appender.sync()", "pass")):
        ours.run(iter([FIRST, SECOND]))
    assert ours.bad and len(results.lines) == 1 and results.done == set()
    assert results.lines[0]["violations"] > 0
    replay = results.lines[0]["replay"][0]
    assert f"python -m emm_fuzz.explore --replay '{replay}'" in capsys.readouterr().err
    assert "| **violations** | 0 |" not in summary(results.lines)


def running(pid: int) -> bool:
    """True for a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def killed(arguments: list[str], once: Callable[[], bool]) -> list[int]:
    """Start a campaign and kill it as soon as something is true; its children at that moment."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "emm_fuzz.campaign", *arguments], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        while not once():
            assert process.poll() is None
            time.sleep(0.01)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    finally:
        process.kill()
        process.wait()
    return [int(child) for child in children]


def test_a_campaign_that_was_killed_goes_on_where_it_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.jsonl"
    given = ["--jsonl", str(path), "--cache", str(tmp_path / "cache"), "--length", "1", "--literal", "0"]
    workers = killed(given, once=lambda: any("piece" in line for line in read_lines(path)))
    done = [line["piece"] for line in read_lines(path) if "piece" in line]
    assert main([*given, "--hours", "1e-5", "--processes", "1"]) == 0
    pieces = [line for line in read_lines(path) if "piece" in line]
    assert [line["piece"] for line in pieces][:2] == ["situation/small/0/0", "situation/small/1/0"]
    assert len(pieces) == len({line["piece"] for line in pieces}) == len(done) + 1
    assert workers and not any(map(running, workers))
    assert {line["code"] for line in pieces} == {code_digest()}
    assert timed(Piece("situation", "small", 0, 0, ((),), 1))[0].trace == pieces[0]["trace"]  # here as there
    assert f"| **distinct states, together** | {pieces[-1]['distinct_so_far']:,} |" in capsys.readouterr().out
    assert main(["summary", "--jsonl", str(path)]) == 0
    assert "| small | 1 | 16 | 1 | 1 | 16 | 16 | 0 |" in capsys.readouterr().out


def test_the_lines_of_two_million_states_are_less_than_300_kilobytes(tmp_path: Path) -> None:
    """A line is for a thousand workloads, which come to more than 40,000 states."""
    results = Results(tmp_path / "r.jsonl", tmp_path / "cache", "0" * 16)
    campaign(results).run(iter([FIRST]))
    assert (2_000_000 // 40_000) * (tmp_path / "r.jsonl").stat().st_size < 300_000
