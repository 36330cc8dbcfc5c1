"""How commands end when the world outside goes wrong: real processes, real signals.

Red when: an exception type loses its exit code, a closed pipe prints a traceback, an interrupt is not 130, or a broken
installation is not told in one sentence.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

import emm
import emm.errors
import emm_engine
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


def test_help_for_a_reader_that_went_away_is_quiet() -> None:
    """click turns this broken pipe into exit code 1. Red when `make_context` is click's own."""
    process = subprocess.Popen(
        [*TOOL, "emm", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(30) == Exit.PIPE_CLOSED


@pytest.mark.parametrize(
    ("closed", "arguments", "code"),
    [
        ("<&-", ["emm", "write", "{memory}"], 0),
        (">&-", ["emm", "write", "{memory}", "--keys", "{keys}", "--values", "{values}"], 0),
        (">&-", ["emm-inspect", "{memory}", "--json"], 0),
        ("2>&-", ["emm-verify", "{memory}", "{memory}x"], 10),
        ("<&- >&- 2>&-", ["emm", "write", "{memory}", "--keys", "{keys}", "--values", "{values}"], 0),
        ("<&- >&- 2>&-", ["emm", "recall", "{memory}x"], 10),
    ],
)
def test_closed_streams_change_no_exit_code(
    closed: str, arguments: list[str], code: int, memory: Path, npy, pairs
) -> None:
    """Python has None for a stream that was closed before it started: an AttributeError, told as an internal error.

    Red without `_open_standard_streams`.
    """
    names = {"memory": memory, "keys": npy("keys", pairs[0]), "values": npy("values", pairs[1])}
    filled = [argument.format(**names) for argument in arguments]
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *TOOL]
    done = subprocess.run([*shell, *filled], env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert b"internal" not in done.stderr
    assert emm.verify(memory).exit_code == 0


HOSTILE = "\x1b]0;owned\x07\udcff"  # sets the title of a terminal; the last byte is not UTF-8


@pytest.mark.parametrize(
    "arguments",
    [
        ["emm-verify", "."],
        ["emm-inspect", HOSTILE],
        ["emm", "checkpoint", HOSTILE],
        ["emm", "merge", HOSTILE, "--into", HOSTILE + "2"],
        ["emm", "create", HOSTILE + "2", "--dim", "4", "--rank", "16", "--key-dim", "16"],
        ["emm", "recall", HOSTILE + "2"],
        ["emm", "ingest", "archive", HOSTILE],
    ],
    ids=lambda arguments: " ".join(arguments[:2]) if arguments[0] == "emm" else arguments[0],
)
def test_no_name_reaches_a_terminal_raw(arguments: list[str], tmp_path: Path, written: Path) -> None:
    """click takes escapes out where stdout is no terminal, which hid this. Red when a path is printed as it is."""
    shutil.copytree(written, tmp_path / "tree" / HOSTILE)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*TOOL, *arguments], cwd=tmp_path / "tree", env=ENVIRONMENT, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait(30) in (Exit.CLEAN, Exit.USAGE, 10), shown
    assert b"owned" in shown and b"\x1b" not in shown and b"\x07" not in shown, shown


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


@pytest.mark.parametrize("program", ["emm", "emm-verify", "emm-inspect"])
def test_help_does_not_wait_for_the_engines_libraries(program: str) -> None:
    """Red when a module that a command's help comes from imports scikit-learn, scipy or matplotlib at its head."""
    run = f"from emm_tools.__main__ import PROGRAMS; import sys; sys.argv = [{program!r}, '--help']\n"
    told = "print([m for m in ('sklearn', 'scipy', 'matplotlib') if m in sys.modules], file=sys.stderr)"
    source = f"{run}try: PROGRAMS[{program!r}]()\nexcept SystemExit: {told}"
    done = subprocess.run([sys.executable, "-c", source], env=ENVIRONMENT, capture_output=True, text=True)
    assert "Examples:" in done.stdout and done.stderr.strip() == "[]"


def test_a_missing_extra_is_told_when_it_is_needed() -> None:
    """Red when an import inside a command ends as an internal error."""
    found, text = ends(ModuleNotFoundError("No module named 'sklearn'"))
    assert found == 1 and "pip install emm-format[demo]" in text and text.count("\n") == 1


def test_the_page_of_exit_codes_names_errors_as_a_program_finds_them() -> None:
    """Red when the page names an error that `emm` has not, or gives it another code, or leaves one out."""
    named: dict[str, int] = {}
    for row in re.findall(
        r"^\| (\d+) \|.*\|(.*)\|$", (ROOT / "docs" / "exit-codes.md").read_text("utf-8"), re.MULTILINE
    ):
        named |= {name: int(row[0]) for name in re.findall(r"`([A-Za-z._]+Error)`", row[1])}
    del named["OSError"]
    for name, code in named.items():
        module, _, plain = name.rpartition(".")
        assert module in ("", "emm.errors", "emm_engine") and (module or plain in emm.__all__), name
        holder = emm_engine if module == "emm_engine" else emm.errors
        assert getattr(holder, plain).exit_code == code, name
    public = {each for each in emm.__all__ if each.endswith("Error")} - {"EmmError"}
    assert public <= named.keys()
