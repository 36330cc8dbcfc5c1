"""`emm demo` on small folders: other input, other output; every claim computed; exit 0.

Red when: any of the demo's parts stops running, prints a canned figure, leaves out a command it ran, or overwrites a
folder that it did not make.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from emm.kernel import dispatch
from emm_tools.demo import choose_kernel
from emm_tools.demo_stage import ClaimError, Stage

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in (".", "engine", "tools", "fuzz")),
}


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "emm_tools", "emm", "demo", *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )


def notes(folder: Path, subject: str, n_notes: int) -> None:
    folder.mkdir()
    for number in range(n_notes):
        (folder / f"2024-01-{number + 1:02}-note.md").write_text(
            f"---\ntags: [{subject if number % 2 else 'weather'}]\n---\n# {subject} note {number}\n\n"
            f"The {subject} drifted by {number * 7} ppm and was calibrated again.\n"
        )


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """(folder, output on 4 notes, output on 14 notes about something else), in one folder, one after the other."""
    folder = tmp_path_factory.mktemp("demo")
    notes(folder / "few", "interferometer", 4)
    notes(folder / "many", "chromatograph", 14)
    outputs = []
    for docs in ("few", "many"):
        done = demo(folder, "--docs", docs)
        assert done.returncode == 0, done.stdout + done.stderr
        outputs.append(done.stdout)
    return folder, outputs[0], outputs[1]


def figures(output: str, pattern: str) -> list[str]:
    found = re.findall(pattern, output)
    assert found, pattern
    return found


@pytest.mark.parametrize(
    "pattern",
    [
        r"-> all (\d+) passages are in the matrix",
        r"digest = ([0-9a-f]{16})…",
        r"recall: cosine = (\S+)",
        r"unlearn: relative difference = (\S+)",
        r"supersede: cosine to old = (\S+)",
        r"merge: relative difference = (\S+)",
        r'"digest": "([0-9a-f]{16})…"',
        r"; digest ([0-9a-f]{16})…",
    ],
)
def test_other_input_other_figures(two_runs: tuple[Path, str, str], pattern: str) -> None:
    _, few, many = two_runs
    assert figures(few, pattern) != figures(many, pattern)


def test_questions_and_citations_come_from_the_folder(two_runs: tuple[Path, str, str]) -> None:
    _, few, many = two_runs
    assert "interferometer note 0" in few and "chromatograph" not in few
    assert "chromatograph note 13" in many and "interferometer" not in many
    assert few.count("vectors alone would have answered:") == 3


def test_the_held_out_test_runs_where_there_is_enough(two_runs: tuple[Path, str, str]) -> None:
    _, few, many = two_runs
    assert "No held-out test: 4 dated entries with a tag" in few
    verdict = r"held out .*winner: (matrix|neighbours|prior|tie|not distinguishable) \(.*z = [+-]\d"
    assert re.search(verdict, " ".join(many.split("Summary")[1].split()))


def test_nothing_acknowledged_was_lost_and_damage_was_found(two_runs: tuple[Path, str, str]) -> None:
    for output in two_runs[1:]:
        recovered, acknowledged = map(int, re.search(r"(\d+) recovered ≥ (\d+) acknowledged", output).groups())
        assert recovered >= acknowledged >= 30
        assert "exit code 3" in output and "block-damaged" in output and "M row" in output
        assert re.search(r"-> in the copy emm-verify names byte \d+: damaged, fully repairable", output)
        assert "the undamaged memory is clean (exit code 0)" in output
        assert output.split("Summary")[1].count("\n") >= 7


def test_the_picture_is_there(two_runs: tuple[Path, str, str]) -> None:
    folder, _, many = two_runs
    assert "picture demo-archive/memory.png" in many
    assert (folder / "demo-archive" / "memory.png").read_bytes().startswith(b"\x89PNG")


def test_printed_commands_can_be_pasted(two_runs: tuple[Path, str, str]) -> None:
    folder, _, many = two_runs
    commands = [line[2:] for line in many.splitlines() if line.startswith("$ ")]
    assert len(commands) >= 14
    for command in commands:
        if "emm ask" in command or "emm-inspect" in command or "emm tree" in command:
            done = subprocess.run(command, shell=True, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
            assert done.returncode == 0 and done.stdout.split("\n")[0] in many, shlex.split(command)


def test_what_the_demo_says_is_short_and_explained(two_runs: tuple[Path, str, str]) -> None:
    """Red when a digest is printed whole, emm-inspect's text longer than ten lines, the legend never or for every
    question, a sentence of the demo runs past 140 columns, or nobody is told that the folder is replaced or what is
    not checked.
    """
    for output in two_runs[1:]:
        assert not re.search(r"\b[0-9a-f]{64}\b", output)
        inspected = re.search(r"\$ [^\n]*emm-inspect [^\n]*\n(.*?)\n\n\$ ", output, re.DOTALL)
        assert inspected and 6 < len(inspected.group(1).split("\n")) <= 11  # ten, and where the picture is
        assert inspected.group(1).split("\n")[0].endswith(": healthy")
        assert output.count("How to read an answer:") == 1
        assert output.startswith("Everything is written below demo-archive, which each run of this demo replaces.")
        assert "catalog, vectors and embedders are not among them" in output
        said = [line for line in output.splitlines() if line.startswith("->")]
        assert max(map(len, [*said, *output.split("Summary")[1].splitlines()])) <= 140


def test_the_note_about_the_kernel_comes_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when the demo does not choose a kernel itself, or its commands say again that the compiled one is missing."""
    monkeypatch.setattr(dispatch, "available_levels", lambda: ["reference"])
    monkeypatch.setattr(dispatch, "_chosen", None)
    monkeypatch.delenv("EMM_KERNEL", raising=False)
    with pytest.warns(RuntimeWarning, match="compiled EMM kernel") as told:
        choose_kernel()
    stage = Stage(tmp_path)
    child = f"import warnings; warnings.warn({str(told[0].message)!r}, RuntimeWarning)"
    stage.run("python", "-c", child)
    stage.environment = {}
    assert "compiled" not in capfd.readouterr().err
    stage.run("python", "-c", child)
    assert "compiled" in capfd.readouterr().err


def test_a_folder_that_no_demo_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo-archive").mkdir()
    (tmp_path / "demo-archive" / "thesis.txt").write_text("precious")
    notes(tmp_path / "docs", "x", 1)
    done = demo(tmp_path, "--docs", "docs")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert (tmp_path / "demo-archive" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("docs", ["empty", "demo-archive/docs"])
def test_docs_that_would_not_do_are_refused_before_anything_is_removed(tmp_path: Path, docs: str) -> None:
    (tmp_path / "demo-archive").mkdir()
    (tmp_path / "demo-archive" / ".emm-demo").touch()
    (tmp_path / docs).mkdir()
    if docs != "empty":
        (tmp_path / docs / "a.txt").write_text("some text")
    done = demo(tmp_path, "--docs", docs)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert (tmp_path / "demo-archive" / ".emm-demo").exists()


def test_a_claim_that_does_not_hold_ends_the_demo(tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match="this does not hold: two is three"):
        Stage(tmp_path).claim(2 == 3, "two is three")


def test_an_unexpected_exit_code_ends_the_demo(tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match="exit code 10, not 0"):
        Stage(tmp_path).run("emm-verify", tmp_path / "missing")
