"""What `emm-verify` prints while a run goes on: lines as they come, a bar on a terminal only, options that fit.

Red when a target is held back, a bar reaches a pipe, a summary counts wrongly, or an option is ignored in silence.
"""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

import emm
from emm_tools.verify_options import JOBS_MAX
from emm_tools.verify_progress import bar_line, clock
from emm_tools.verify_text import escaped
from tests.tools.test_verify import damage

PROGRAM = [sys.executable, "-c", "from emm_tools.entry import emm_verify; emm_verify()"]


@pytest.fixture
def archive(written: Path, tmp_path: Path) -> Path:
    for name in ("a", "b"):
        emm.create(tmp_path / name, dim=4, rank=16, key_dim=16).close()
    damage(written)
    return tmp_path


def lines(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("jobs", [1, 2])
def test_json_lines_are_findings_then_targets_then_a_summary(run, archive: Path, jobs: int) -> None:
    ended = run("emm-verify", archive, "--jsonl", "--jobs", jobs)
    found = lines(ended.out)
    assert ended.code == 3 and found[-1]["type"] == "summary" and found[-1]["exit_code"] == 3
    (met,) = (each for each in found if each["type"] == "finding")
    (target,) = (each for each in found if each["type"] == "target" and each["findings"])
    assert found.index(met) < found.index(target)
    assert met["url"] == target["url"] and met["code"] == target["findings"][0]["code"] == "block-damaged"
    assert "repair" not in met and "repair" in target["findings"][0]
    assert [each["type"] for each in found].count("target") == found[-1]["targets_checked"] == 3


def test_a_ledger_that_cannot_be_is_one_sentence_and_6(run, archive: Path) -> None:
    ended = run("emm-verify", archive, "--ledger", "/dev/null/x")
    assert ended.code == 6 and "ledger" in ended.sentence()


def test_a_line_is_out_before_the_next_target_is_read(archive: Path) -> None:
    """The second target takes a minute. Red when lines are printed at the end."""
    code = (
        "import sys, time\n"
        "from emm.verify import scrub\n"
        "keep = scrub.check_all\n"
        "def slow(*given):\n"
        "    for number, done in enumerate(keep(*given)):\n"
        "        time.sleep(0 if number == 0 else 60)\n"
        "        yield done\n"
        "scrub.check_all = slow\n"
        "from emm_tools.entry import emm_verify; emm_verify()"
    )
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code, str(archive)], stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            assert select.select([running.stdout], [], [], 30)[0]
            assert running.stdout.readline().startswith("clean: ")
            assert running.poll() is None
        finally:
            running.kill()


def test_the_summary_counts_what_was_printed(run, archive: Path) -> None:
    ended = run("emm-verify", archive)
    assert "damaged-repairable: 3 targets" in ended.out and "exit code 3" in ended.out
    assert "2 clean, 1 damaged-repairable; 1 finding" in ended.out and "3 memories" in ended.out
    assert "3 targets" not in run("emm-verify", archive, "--no-summary").out + run("emm-verify", archive, "-q").out
    assert "1 target" in run("emm-verify", archive / "a", "--summary").out
    assert "1 target" not in run("emm-verify", archive / "a").out


def test_no_bar_reaches_a_pipe(archive: Path) -> None:
    done = subprocess.run([*PROGRAM, str(archive), "--jobs", "2"], capture_output=True, text=True)
    assert done.stderr == "" and "\r" not in done.stdout


def test_a_terminal_gets_a_bar_with_rate_and_time_left(tmp_path: Path) -> None:
    """Through a pseudo terminal, with reads slow enough to be seen."""
    emm.create(tmp_path / "m", dim=2048, rank=512, key_dim=512).close()
    code = (
        "import time\n"
        "from emm.verify.blocks import BlockReader\n"
        "keep = BlockReader._batch\n"
        "def slow(self, indices):\n"
        "    time.sleep(0.5)\n"
        "    return keep(self, indices)\n"
        "BlockReader._batch = slow\n"
        "from emm_tools.entry import emm_verify; emm_verify()"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "m")], stdout=subprocess.PIPE, stderr=theirs, text=True
    ) as running:
        os.close(theirs)
        shown = b""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other side has closed
                break
            if not part:
                break
            shown += part
        assert running.wait(30) == 0 and running.stdout.read().startswith("clean: ")
    os.close(ours)
    text = shown.decode()
    assert "/s" in text and "%" in text and " left" in text and " of 5." in text
    assert text.rstrip(" ").endswith("\r")  # and is taken away


def test_a_bar_fits_its_terminal_and_says_what_it_knows() -> None:
    full = bar_line(1 << 30, 4 << 30, 2.0, 3, "labs/\x1b[2J/chemistry", 120)
    assert "[#####...............]  25%" in full and "1.0 GiB of 4.0 GiB" in full and "512.0 MiB/s" in full
    assert "0:06 left" in full and "3 seen" in full and "\x1b" not in full and "chemistry" in full
    for width in (20, 40, 80, 120):
        assert len(bar_line(1 << 30, 4 << 30, 2.0, 3, "x" * 300, width)) < width
    unknown = bar_line(1 << 20, None, 2.0, 0, "m", 80)
    assert "%" not in unknown and "left" not in unknown and "512.0 KiB/s" in unknown
    assert [clock(s) for s in (0, 59.4, 61, 3723)] == ["0:00", "0:59", "1:01", "1:02:03"]


def test_control_characters_are_escaped_one_to_one() -> None:
    assert escaped("a\x1b[2J\n\tß\u202e\udcff ") == r"a\x1b[2J\n\tß\u202e\udcff "


@pytest.mark.parametrize(
    "arguments",
    [
        ("--seed", 3),
        ("--sample", "5"),
        ("--sample", "x%"),
        ("--max-age", "30"),
        ("--max-duration", "soon"),
        ("--accept",),
        ("--jobs", 0),
        ("--jobs", JOBS_MAX + 1),
        ("--paranoid", "--level", "table"),
        ("--sample", "5%", "--level", "numeric"),
        ("--sample", "5%", "--against", "x"),
        ("--expect-sha256", "abc"),
        ("--repair", "--dry-run", "--sample", "5%"),
        ("--repair", "--dry-run", "--max-age", "3d"),
        ("--repair", "--dry-run", "--max-age", "0d"),
        ("--repair", "--dry-run", "--jobs", 2),
        ("--repair", "--dry-run", "--strict"),
        ("--repair", "--dry-run", "-q"),
        ("--repair", "--dry-run", "--no-summary"),
        ("--repair", "--dry-run", "--against", ""),
        ("--repair", "--dry-run", "--from-report", ""),
        ("--ledger", ""),
        ("--sample", ""),
        ("--sample", " "),
        ("--from-report", ""),
        ("--against", ""),
        ("--expect-sha256", ""),
        ("--out", ""),
    ],
)
def test_what_has_no_effect_is_a_usage_error(run, written: Path, arguments: tuple[object, ...]) -> None:
    ended = run("emm-verify", written, *arguments)
    if arguments == ("--sample", "5"):
        assert ended.code == 0  # five bytes: a size
    else:
        assert ended.code == 2 and ended.out == "" and "Traceback" not in ended.err


def test_one_option_against_serves_checking_and_repair(run, archive: Path, written: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(written, tmp_path / "r" / "copy")
    assert "replica-equal" in run("emm-verify", written, "--against", tmp_path / "r" / "copy").out
    repaired = run("emm-verify", "--repair", "--dry-run", written, "--against", tmp_path / "r" / "copy")
    assert repaired.code in (3, 4) and "mend" in repaired.out


def test_the_ledger_by_its_options(run, archive: Path, tmp_path_factory, monkeypatch) -> None:
    state = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    assert run("emm-verify", archive).code == 3 and list(state.iterdir()) == []  # a plain check remembers nothing
    assert run("emm-verify", archive, "--max-age", "30d").code == 3
    assert (state / "emm" / "verify-ledger.sqlite").exists()
    again = run("emm-verify", archive, "--max-age", "30d", "--json")
    found = json.loads(again.out)
    assert again.code == 3 and [Path(each["url"]).name for each in found["targets"]] == ["memory"]
    assert found["run"]["places_recent"] == 2 and found["run"]["places_not_reached"] == 0
    inside = run("emm-verify", archive, "--ledger", archive / "ledger")
    assert inside.code == 2 and "outside" in inside.sentence()


def test_the_seed_of_a_sample_is_said_and_draws_the_same_again(run, archive: Path) -> None:
    first = json.loads(run("emm-verify", archive / "a", "--sample", "40%", "--json").out)
    seed = first["run"]["seed"]
    again = json.loads(run("emm-verify", archive / "a", "--sample", "40%", "--seed", seed, "--json").out)
    assert again["coverage"] == first["coverage"]
    assert f"40%, seed {seed}" in run("emm-verify", archive / "a", "--sample", "40%", "--seed", seed).out
