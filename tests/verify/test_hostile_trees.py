"""Trees that nobody would make on purpose, or somebody would: links, FIFOs, sockets, names, races, 100,000 entries.

Each test says which change to `emm/verify` would turn it red.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from emm.verify import Request, Scrub, single
from emm.vfs.local import LocalDirectory
from tests.verify.test_report import answer, put
from tests.verify.test_scrub import run

NEWEST = "0000000000000003.emm"


def codes(targets):
    return [each.code for target in targets for each in target.findings]


def test_what_takes_a_files_place_is_said_and_neither_opened_nor_followed(tmp_path, small):
    """Red when a link, FIFO or socket under the name of the newest snapshot is passed over: the rest looks whole."""
    outside = put(tmp_path / "outside", small)
    memory = put(tmp_path / "archive" / "m", {name: data for name, data in small.items() if name != NEWEST})

    def a_socket(path):
        place = os.getcwd()
        os.chdir(path.parent)  # a socket's path is at most 107 bytes
        try:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(path.name)
        finally:
            os.chdir(place)

    for make, word in (
        (lambda path: path.symlink_to(outside / NEWEST), "symbolic link"),
        (lambda path: path.symlink_to("/dev/zero"), "symbolic link"),
        (os.mkfifo, "FIFO"),
        (a_socket, "socket"),
    ):
        make(memory / NEWEST)
        targets, totals = run(tmp_path / "archive")
        (odd,) = (each for target in targets for each in target.findings if each.code == "not-regular")
        assert word in odd.message and odd.file.endswith(NEWEST) and totals.exit_code in (3, 4, 6)
        (memory / NEWEST).unlink()


def test_links_out_of_the_archive_are_not_followed(tmp_path, small):
    """Red when a walk leaves what was named."""
    put(tmp_path / "outside", small)
    put(tmp_path / "archive" / "m", small)
    (tmp_path / "archive" / "out").symlink_to(tmp_path / "outside")
    (tmp_path / "archive" / "up").symlink_to("..")
    targets, totals = run(tmp_path / "archive")
    assert [each.url for each in targets] == [str(tmp_path / "archive" / "m")] and totals.exit_code == 0


def test_a_leftover_of_a_writer_is_a_notice(tmp_path, small):
    """Red when hidden temporaries are never mentioned, or are damage."""
    put(tmp_path, small | {".emm-0123456789abcdef01234567.tmp": b"half"})
    targets, totals = run(tmp_path)
    assert codes(targets) == ["other-file"] and totals.exit_code == 0


# --- files that change while they are read ----------------------------------------------------------


class Moving(LocalDirectory):
    """Calls `move` at each read of a snapshot's payload."""

    def __init__(self, path, move):
        super().__init__(path)
        self.move = move

    def read_ranges(self, name, ranges):
        if any(offset >= 4096 for offset, _ in ranges) and name == NEWEST:
            self.move(Path(self.path) / name)
        return super().read_ranges(name, ranges)


def check_moving(monkeypatch, path, move):
    from emm.verify import target

    monkeypatch.setattr(target, "open_directory", lambda url: Moving(url, move))
    return run(path)


def test_a_file_that_shrinks_or_vanishes_is_not_called_damaged(tmp_path, small, monkeypatch):
    """Red when a short read is taken for a cut."""
    for number, move in enumerate((lambda path: os.truncate(path, 5000), lambda path: path.unlink(missing_ok=True))):
        memory = put(tmp_path / str(number), small)

        def again(path, move=move, memory=memory):
            if path.exists() and path.stat().st_size < len(small[NEWEST]):
                path.write_bytes(small[NEWEST])  # it comes and goes
            move(path)

        targets, totals = check_moving(monkeypatch, memory, again)
        assert str(targets[0].verdict) in ("indeterminate", "clean"), targets[0].findings
        assert number or codes(targets) == ["changed-while-reading"]
        assert totals.exit_code in (0, 6)


def test_a_file_that_keeps_changing_is_not_called_damaged(tmp_path, small, monkeypatch):
    """Red when the last of several attempts is believed. Each reading finds other wrong bytes."""
    put(tmp_path, small)
    count = iter(range(1000))

    def scribble(path):
        data = bytearray(small[NEWEST])
        data[5000 + next(count)] ^= 0xFF
        data[6000] ^= 0xFF
        path.write_bytes(data)

    targets, totals = check_moving(monkeypatch, tmp_path, scribble)
    assert codes(targets) == ["changed-while-reading"] and totals.exit_code == 6


def test_a_memory_that_vanishes_whole_was_there(tmp_path, small, monkeypatch):
    """Red when what vanished under the check is called missing, or raises."""
    put(tmp_path / "m", small)
    targets, totals = check_moving(monkeypatch, tmp_path / "m", lambda path: shutil.rmtree(path.parent, True))
    assert codes(targets) == ["changed-while-reading"] and totals.exit_code == 6


def test_a_copy_that_is_on_its_way_is_never_called_damaged(tmp_path, wide, monkeypatch):
    """The file grows between two looks at it. Red when a growing file counts as a cut one."""
    name = "0000000000000002.emm"
    path = tmp_path / name
    path.write_bytes(wide[name][:4096])
    pieces = [wide[name][start : start + 8192] for start in range(4096, len(wide[name]), 8192)]

    def grow(stamps):
        assert stamps[name][0] == path.stat().st_size
        if pieces:
            with path.open("ab") as file:
                file.write(pieces.pop(0))

    monkeypatch.setattr(single, "wait_if_fresh", grow)
    seen = []
    while pieces:
        seen.append(answer(path))
    assert set(seen[:-1]) == {("indeterminate", 6)} and seen[-1] in (("indeterminate", 6), ("clean", 0))
    assert answer(path) == ("clean", 0)


# --- names ----------------------------------------------------------------------------------------

NAMES = (b"\x1b[2J\x07", b"new\nline", b"tab\there", b"\xff\xfe", "\u202eexe".encode(), b"back\\slash", b"\x7f")


def command(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    program = "from emm_tools.entry import emm_verify; emm_verify()"
    return subprocess.run(
        [sys.executable, "-c", program, *map(os.fspath, map(os.fsdecode, map(os.fsencode, map(str, arguments))))],
        capture_output=True,
        env={**os.environ, "LC_ALL": "C.UTF-8", "COLUMNS": "200"},
    )


def test_names_with_control_characters_reach_no_output_raw(tmp_path, small):
    """Red when a name moves the cursor, forges a line of the report, or breaks JSON."""
    for name in NAMES:
        folder = os.path.join(os.fsencode(tmp_path), name)
        os.mkdir(folder)
        for file, data in small.items():
            with open(os.path.join(folder, file.encode()), "wb") as out:
                out.write(data)
        with open(os.path.join(folder, name + b".emm"), "wb") as out:
            out.write(b"not emm")
    n_targets = 2 * len(NAMES) - 1  # a backslash would be a separator elsewhere: such a file is named and not opened
    text = command(tmp_path)
    assert text.returncode == 5 and text.stderr == b""
    lines = text.stdout.decode("utf-8").split("\n")
    assert (
        sum(line.startswith(("clean: ", "refused: ", "indeterminate: ")) for line in lines) == n_targets + 1
    )  # and the summary
    assert all(mark.isprintable() for line in lines for mark in line)
    assert "a backslash in its name" in text.stdout.decode()
    assert r"\x1b[2J\x07" in text.stdout.decode() and r"new\nline" in text.stdout.decode()
    whole = json.loads(command(tmp_path, "--json").stdout)
    assert len(whole["targets"]) == n_targets and whole["exit_code"] == 5
    assert [json.loads(line)["type"] for line in command(tmp_path, "--jsonl").stdout.splitlines()].count(
        "target"
    ) == n_targets
    assert b"\x1b" not in command(tmp_path, "--jsonl").stdout + command(tmp_path, "--json").stdout


# --- many -----------------------------------------------------------------------------------------

MEASURE = """
import resource, sys
from emm.verify import Request, Scrub, single
scrub = Scrub(Request((sys.argv[1],), jobs=int(sys.argv[2])))
targets = sum(1 for _ in scrub.run())
status = open("/proc/self/status").read()  # ru_maxrss of a new process begins with that of its parent
own = int(status.partition("VmHWM:")[2].split()[0])
peak = max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
print(targets, scrub.totals.exit_code, peak)
"""


def measured(path: Path, jobs: int = 1) -> tuple[int, int, float]:
    """(targets, exit code, largest RSS of any of its processes in MiB)"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    arguments = [sys.executable, "-c", MEASURE, str(path), str(jobs)]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=True)
    targets, code, peak = map(int, done.stdout.split())
    return targets, code, peak / 1024


@pytest.fixture(scope="module")
def crowd(tmp_path_factory, small) -> Path:
    """100,000 entries: 1,500 memories among 90,000 other files and links, and a directory of 4,000 loose files."""
    root = tmp_path_factory.mktemp("crowd")
    (root / "one").write_bytes(b"x")
    for number in range(90_000):
        os.symlink("nowhere", root / f"note-{number}")
    for number in range(1_500):
        folder = root / f"m{number:04}"
        folder.mkdir()
        for name, data in small.items():
            if number == 0:
                (folder / name).write_bytes(data)
            else:
                os.link(root / "m0000" / name, folder / name)
    (root / "loose").mkdir()
    for number in range(1_000):
        os.link(root / "m0000" / NEWEST, root / "loose" / f"{number}.emm")
    return root


def test_a_hundred_thousand_entries_are_walked_in_flat_memory(crowd, tmp_path, small):
    """Red when targets, places or findings are collected: memory then grows with their number."""
    put(tmp_path / "few", small)
    assert sum(1 for _ in crowd.rglob("*")) >= 100_000
    few = measured(tmp_path / "few")
    many = measured(crowd, jobs=2)
    assert many[:2] == (2_500, 0)
    assert many[2] < 150 and many[2] - few[2] < 60, (few, many)


def test_the_first_of_a_hundred_thousand_comes_before_the_last_is_looked_for(crowd):
    """Red when discovery is finished before checking begins."""
    targets = Scrub(Request((str(crowd / "m0000"), str(crowd)))).run()
    assert next(targets).url.endswith("m0000")
    targets.close()
