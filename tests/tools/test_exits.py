"""How commands end when the world outside goes wrong: real processes, real signals.

Red when: an exception type loses its exit code, a closed pipe prints a traceback, an interrupt is not 130, or a broken
installation is not told in one sentence.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

import emm
from emm_tools.exits import Exit, OneSentence, OneSentenceGroup

ROOT = Path(__file__).parent.parent.parent
PATHS = os.pathsep.join(str(ROOT / name) for name in (".", "engine", "tools", "fuzz"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": PATHS}
TOOL = [sys.executable, "-m", "emm_tools"]


def ends(error: BaseException, run_through: type[click.Command] = OneSentence) -> tuple[int, str]:
    """(exit code, stderr) of a command that raises."""
    from click.testing import CliRunner

    def fail() -> None:
        raise error

    found = CliRunner().invoke(run_through("try", callback=fail), [])
    assert isinstance(found.exception, SystemExit)
    return found.exit_code, found.stderr


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (emm.InputError("a row is wrong", expected=1, found=2), 2, "a row is wrong: expected 1, found 2"),
        (emm.ExistsError("taken"), 2, "taken"),
        (emm.ChecksumError("bad\nbytes", file="x.emm", offset=7), 4, "bad bytes (x.emm, byte 7)"),
        (emm.UnsupportedError("version 9"), 5, "version 9"),
        (emm.StorageError("disk"), 6, "disk"),
        (emm.MissingError("gone"), 10, "gone"),
        (emm.FencedError("held"), 11, "held"),
        (emm.ClosedError("closed"), 1, "closed"),
        (OSError(28, "No space left on device", "out.npy"), 6, "No space left on device: out.npy"),
        (MemoryError(), 6, "not enough memory"),
        (ValueError("two\nlines"), 1, "internal error: ValueError: two lines"),
        (RecursionError("deep"), 1, "internal error: RecursionError: deep"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.UsageError("like this"), 2, "like this"),
    ],
)
def test_every_failure_has_its_code_and_sentence(error: BaseException, code: int, sentence: str) -> None:
    found, text = ends(error)
    assert found == code and sentence in text and "Traceback" not in text
    if not isinstance(error, click.UsageError):
        assert text.count("\n") == 1


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMM_DEBUG", "1")
    with pytest.raises(ValueError, match="where"):
        OneSentence("try", callback=lambda: (_ for _ in ()).throw(ValueError("where"))).main([])


def test_a_group_ends_as_its_commands_do() -> None:
    group = OneSentenceGroup("outer")

    @group.command("inner")
    def inner() -> int:
        return 7

    with pytest.raises(SystemExit) as ended:
        group.main(["inner"])
    assert ended.value.code == 7


def test_a_reader_that_goes_away_is_quiet(tmp_path: Path, written: Path) -> None:
    process = subprocess.Popen(
        [*TOOL, "emm", "recall", str(written)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stdout and process.stdin and process.stderr
    process.stdout.close()
    try:
        process.stdin.write((b'{"key": [' + b", ".join([b"0.5"] * 24) + b"]}\n") * 20_000)
        process.stdin.close()
    except BrokenPipeError:
        pass
    assert process.stderr.read() == b""
    assert process.wait(30) == Exit.PIPE_CLOSED


def test_an_interrupt_is_130_and_what_was_acknowledged_stays(memory: Path) -> None:
    process = subprocess.Popen(
        [*TOOL, "emm", "write", str(memory), "--batch", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stdout and process.stdin and process.stderr
    row = b'{"key": [' + b", ".join([b"0.5"] * 24) + b'], "value": [' + b", ".join([b"1"] * 12) + b"]}\n"
    process.stdin.write(row)
    process.stdin.flush()
    assert process.stdout.readline() == b'{"lsn": 1, "pairs": 1}\n'
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == Exit.INTERRUPTED
    assert process.stderr.read().decode().strip().endswith("interrupted.")
    with emm.open(memory) as opened:
        assert opened.lsn == 1


def test_a_second_writer_is_11(memory: Path) -> None:
    with emm.open(memory, mode="a"):
        done = subprocess.run(
            [*TOOL, "emm", "checkpoint", str(memory)], env=ENVIRONMENT, capture_output=True, text=True
        )
    assert done.returncode == 11 and done.stderr.count("\n") == 1


def test_a_broken_installation_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "emm-9.9.dist-info").mkdir()
    (tmp_path / "emm-9.9.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: emm\nVersion: 9.9\n")
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([PATHS, str(tmp_path)])}
    done = subprocess.run([*TOOL, "emm-verify", "x"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "pip uninstall emm" in done.stderr


def test_a_command_starts_fast(memory: Path) -> None:
    """`emm write` must not import the engine: half a second, where scikit-learn alone takes longer."""
    program = (
        "import sys; from emm_tools import memory_commands, cli; "
        "print([m for m in ('sklearn', 'scipy', 'matplotlib', 'emm_engine') if m in sys.modules])"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]" and time.monotonic() - started < 10
