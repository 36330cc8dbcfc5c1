"""Files that commands write for a person: whole, or not at all.

Each test says which change to `emm_tools/whole_file.py`, or to a command that uses it, would turn it red.
"""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from emm_tools.whole_file import whole_file


def half(path: Path) -> None:
    with whole_file(path) as file:
        file.write(b"half")
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("before", [None, b"what was there"])
def test_a_failure_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path, before: bytes | None) -> None:
    """Red when bytes go to the name itself, or a temporary file stays; the error names what was asked for."""
    path = tmp_path / "page.html"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(OSError) as failed:
        half(path)
    assert failed.value.filename == str(path) and failed.value.errno == 28
    assert os.listdir(tmp_path) == ([] if before is None else ["page.html"])
    assert before is None or path.read_bytes() == before


def test_interrupting_leaves_nothing(tmp_path: Path) -> None:
    """Red when only errors are cleaned up after."""
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "page.html"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_mode_and_link_of_the_file_stay(tmp_path: Path) -> None:
    """Red when a rename takes the place of a link, opens what was private, or writes what may not be written."""
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    with whole_file(link) as file:
        file.write(b"new")
    assert link.is_symlink() and real.read_bytes() == b"new" and stat.S_IMODE(real.stat().st_mode) == 0o640


def test_a_fifo_is_written_and_stays_one(tmp_path: Path) -> None:
    """Red when `-o` into a pipe replaces it."""
    fifo, got = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    with whole_file(fifo) as file:
        file.write(b"bytes")
    reader.join(10)
    assert got == [b"bytes"] and stat.S_ISFIFO(fifo.stat().st_mode)


@pytest.mark.parametrize("option", ["--html", "--picture"])
def test_a_page_or_picture_that_fails_is_one_sentence_and_leaves_the_old_one(
    run, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """The disk is full when the file is synced. Red when emm-inspect writes to the name itself."""
    path = tmp_path / ("kept.html" if option == "--html" else "kept.png")
    path.write_bytes(b"the old one")

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    before = sorted(os.listdir(tmp_path))
    ended = run("emm-inspect", written, option, path)
    assert ended.code == 6 and str(path) in ended.sentence() and "No space left" in ended.err
    assert path.read_bytes() == b"the old one" and sorted(os.listdir(tmp_path)) == before


def test_answers_are_written_whole(run, written: Path, npy, pairs, tmp_path: Path, monkeypatch) -> None:
    """Red when `emm recall -o` leaves half an array."""
    keys, out = npy("keys", pairs[0]), tmp_path / "answers.npy"

    def failing(file: BinaryIO, array: np.ndarray) -> None:
        file.write(b"\x93NUMPY")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", failing)
    assert run("emm", "recall", written, "--keys", keys, "-o", out).code == 6 and not out.exists()
