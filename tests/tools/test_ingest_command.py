"""`emm ingest` on folders of every format, interrupted, watched.

Red when: the report lacks the rate in passages, the skipped files or the other kinds; an option is not used or its
mistake is a traceback; a watched folder misses, doubles or half reads a file; Ctrl-C leaves a mess or a traceback.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emm_engine import Archive, Scope
from emm_tools.bench_ingest import measure
from emm_tools.ingest_command import ProgressLine, shown_rate

RUN = Scope("local", "general", "notes", "default")


def documents(path: Path) -> int:
    with Archive.open(path) as archive:
        return sum(status.documents for status in archive.tree())


def test_the_report_has_rates_and_files(run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.md").write_text("The rotor was cold.")
    (tmp_path / "in" / "b.jsonl").write_text('{"text": "The seal leaked."}\nnonsense\n')
    (tmp_path / "in" / "c.png").write_bytes(b"\x89PNG")
    ended = run("emm", "ingest", tmp_path / "archive", tmp_path / "in", "--json")
    report = json.loads(ended.out)
    assert ended.code == 0 and (report["documents"], report["files"], report["other_files"]) == (2, 2, 1)
    assert [shown_rate(each) for each in (0.0, 0.14, 9.5, 394.4)] == ["0", "0.1", "9.5", "394"]
    assert report["passages_per_second"] > 0 and report["bytes_read"] == 19 + 38 + 4
    ((source, why),) = report["skipped"]
    assert source == "b.jsonl line 2" and "JSONDecodeError" in why and "skipped b.jsonl line 2" in ended.err
    plain = run("emm", "ingest", tmp_path / "archive", tmp_path / "in" / "a.md")
    assert "new passages/s" in plain.out and "1 entry was a copy" not in plain.err


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--window", "soon"], "window"),
        (["--threshold", "x"], "threshold"),
        (["--field", "text"], "field"),
        (["--format", "word"], "word"),
        (["--watch", "--limit", "3"], "--watch"),
        (["--machine"], "--machine"),
    ],
)
def test_a_mistaken_option_is_one_sentence(options: list[str], word: str, run, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("text")
    ended = run("emm", "ingest", tmp_path / "archive", tmp_path / "a.md", *options)
    assert ended.code == 2 and word in ended.err and "Traceback" not in ended.err
    assert not (tmp_path / "archive").exists()


def test_options_reach_the_formats(run, tmp_path: Path) -> None:
    rows = "".join(f"2021-03-04T10:00:{at:02},{at},{at % 3}\n" for at in range(60))
    (tmp_path / "s.csv").write_text(f"time,heat,flow\n{rows}")
    (tmp_path / "d.log").write_text('{"body": "wrong", "was": "rotor"}')
    window = ("--window", "30s", "--threshold", "heat>50")
    first = json.loads(run("emm", "ingest", tmp_path / "a", tmp_path / "s.csv", *window, "--json").out)
    assert (first["documents"], first["passages"]) == (2, 3)  # two windows and an event
    forced = ("--format", "jsonl", "--field", "text=was")
    assert json.loads(run("emm", "ingest", tmp_path / "a", tmp_path / "d.log", *forced, "--json").out)["documents"] == 1
    outcome = ("--outcome", "flow", "--condition", "heat")
    assert (
        json.loads(run("emm", "ingest", tmp_path / "a", tmp_path / "s.csv", *outcome, "--json").out)["documents"] == 60
    )


def test_progress_tells_the_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from emm_engine import Progress

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    line = ProgressLine()
    line(Progress("absorbing", 500, 2000, 10.0))
    assert "absorbing 500 of 2000, 50/s, 0:30 left" in capsys.readouterr().err


def test_heldout_of_a_table(run, tmp_path: Path) -> None:
    rows = "".join(f"{at % 5},{('low', 'mid', 'high')[at % 5 // 2]}\n" for at in range(60))
    (tmp_path / "t.csv").write_text(f"heat,yield\n{rows}")
    told = run("emm", "bench", "heldout", "--table", tmp_path / "t.csv")
    assert told.code == 0 and "of 18 others among 3" in told.out
    report = json.loads(run("emm", "bench", "heldout", "--table", tmp_path / "t.csv", "--json").out)
    scores = {score["name"]: score["p_at_1"] for score in report["scores"]}
    assert scores["matrix"] > scores["prior"]
    (tmp_path / "n.csv").write_text("heat,flow\n1,2\n")
    none = run("emm", "bench", "heldout", "--table", tmp_path / "n.csv")
    assert none.code == 2 and "holds no outcomes" in none.err


def test_the_benches_measure_what_they_print(run) -> None:
    """Timings gate nothing; that the figures are of this run does."""
    row = measure(40, seed=0)
    assert row.n_passages == 40 and row.peak_rss_mib > 20 and row.cpu_s > 0 and row.passages_per_second > 0
    told = run("emm", "bench", "pairs", "--rows", 60).out.splitlines()
    assert [line.split()[:3] for line in told[2:]] == [["42", "18", name] for name in ("matrix", "neighbours", "prior")]


# --- watching ------------------------------------------------------------------------------------


@contextmanager
def watched(archive: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """`emm ingest --watch` as a process of its own."""
    command = [sys.executable, "-m", "emm_tools", "emm", "ingest", str(archive), str(folder), "--watch", "--json"]
    process = subprocess.Popen(
        [*command, "--interval", "0.05", "--settle", "0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def next_round(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdout is not None
    found: dict[str, object] = json.loads(process.stdout.readline())
    return found


def test_a_watched_folder_is_followed_and_ctrl_c_ends_cleanly(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.md").write_text("The rotor was cold.")
    with watched(tmp_path / "archive", tmp_path / "in") as process:
        assert next_round(process)["documents"] == 1
        (tmp_path / "in" / "b.md").write_text("The seal leaked.")
        (tmp_path / "in" / "bad.jsonl").write_text("nonsense")
        with open(tmp_path / "in" / "slow.md", "w") as slow:  # written over several looks
            for part in ("The valve ", "was open ", "all night."):
                slow.write(part)
                slow.flush()
                time.sleep(0.08)
        (tmp_path / "in" / "a.md").write_text("The rotor was warm.")
        superseded = 0
        while not superseded:
            superseded = int(next_round(process).get("superseded", 0))  # type: ignore[call-overload]
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0 and "ended after" in said and "Traceback" not in said
    with Archive.open(tmp_path / "archive") as archive:
        (status,) = archive.tree()
        assert (status.documents, status.pending) == (3, 0)
        quotes = {citation.quote for citation in archive.ask("rotor valve seal", RUN).citations}
        assert quotes == {"The rotor was warm.", "The seal leaked.", "The valve was open all night."}


def test_killed_in_mid_ingest_the_next_one_loses_and_doubles_nothing(tmp_path: Path, run) -> None:
    """SIGKILL a real process after its first transaction; then do it again. (test_recovery kills at every step.)"""
    (tmp_path / "in").mkdir()
    lines = [{"id": at, "title": f"note {at}", "text": f"The rotor {at} met the seal {at % 7}."} for at in range(1500)]
    (tmp_path / "in" / "d.jsonl").write_text("\n".join(map(json.dumps, lines)))
    command = [sys.executable, "-m", "emm_tools", "emm", "ingest", str(tmp_path / "a"), str(tmp_path / "in")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if (tmp_path / "a" / "catalog.sqlite").exists() and documents(tmp_path / "a") >= 1000:
            process.kill()
        time.sleep(0.02)
    assert process.returncode == -signal.SIGKILL
    report = json.loads(run("emm", "ingest", tmp_path / "a", tmp_path / "in", "--json").out)
    assert report["pending"] == 0 and report["documents"] + report["duplicates"] == 1500
    with Archive.open(tmp_path / "a") as archive:
        (status,) = archive.tree()
        assert (status.documents, status.passages, status.absorbed) == (1500, 1500, 1500)
    assert run("emm-verify", tmp_path / "a").code == 0
