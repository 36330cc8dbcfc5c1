"""`--workers` and `emm scale`: what one process does, by several.

Red when: a command gives another result with workers than without; Ctrl-C leaves a process behind, or an archive that
does not go on where it was; workers that cannot be had are a traceback.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import emm

SCOPE = "memories/local/general/notes/default"
LIFE_SECONDS = 60.0


def notes(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        subject = ("catalyst", "detector", "reactor")[number % 3]
        (folder / f"{number:04}.md").write_text(
            f"---\ntags: [{subject}]\ndate: 2023-01-0{number % 9 + 1}\n---\n# Run {number}\n\n"
            f"The {subject} leaked at valve {number} and {300 + number} K.\n"
        )
    return folder


def digest(archive: Path) -> str:
    with emm.open(str(archive / SCOPE)) as memory:
        return memory.digest


def group_members(group: int) -> list[int]:
    """The processes of a group that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


def test_ctrl_c_ends_every_process_and_the_next_ingest_goes_on(run, tmp_path: Path) -> None:
    folder, archive = notes(tmp_path / "notes", 300), tmp_path / "archive"
    command = [Path(sys.executable).parent / "emm", "ingest", archive, folder, "--workers", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as child:
        deadline = time.monotonic() + LIFE_SECONDS
        while not n_documents(archive) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(group_members(child.pid)) >= 2  # it and a worker at least
        os.killpg(child.pid, signal.SIGINT)  # as a terminal does
        _, told = child.communicate(timeout=LIFE_SECONDS)
        assert (child.returncode, told) == (130, b"emm: interrupted.\n") or child.returncode == 130, told
    assert b"Traceback" not in told
    while group_members(child.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert group_members(child.pid) == []
    assert run("emm", "ingest", archive, folder).code == 0
    assert run("emm", "ingest", tmp_path / "alone", folder).code == 0
    assert digest(archive) == digest(tmp_path / "alone")


def n_documents(archive: Path) -> int:
    try:
        with closing(sqlite3.connect(f"{(archive / 'catalog.sqlite').as_uri()}?mode=ro", uri=True)) as catalog:
            return int(catalog.execute("SELECT count(*) FROM documents").fetchone()[0])
    except sqlite3.Error:
        return 0


def test_scale_verify_says_what_emm_verify_says(run, make_memories: list[Path], tmp_path: Path) -> None:
    data = bytearray((make_memories[0] / "0000000000000001.emm").read_bytes())
    data[len(data) // 2] ^= 1
    (make_memories[0] / "0000000000000001.emm").write_bytes(data)
    alone = run("emm-verify", make_memories[0].parent, "--summary")
    found = run("emm", "scale", "verify", make_memories[0].parent, "--workers", "1")
    assert found.code == alone.code != 0
    assert _lasting(found.out) == _lasting(alone.out)
    lines = run("emm", "scale", "verify", make_memories[0].parent, "--workers", "1", "--json").out.splitlines()
    assert json.loads(lines[-1])["targets_checked"] == len(lines) - 1 == 3


def _lasting(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("  run ")]


@pytest.fixture
def make_memories(tmp_path: Path) -> list[Path]:
    """Three memories, and keys.npy and values.npy with all their pairs."""
    chance = np.random.default_rng(1)
    keys = (chance.standard_normal((60, 32)) / 6).astype(np.float32)
    values = chance.standard_normal((60, 8)).astype(np.float32)
    np.save(tmp_path / "keys.npy", keys)
    np.save(tmp_path / "values.npy", values)
    paths = []
    for number in range(3):
        paths.append(tmp_path / "runs" / str(number))
        part = slice(20 * number, 20 * (number + 1))
        with emm.create(paths[-1], dim=8, rank=32, key_dim=32, expand_at=0) as memory:
            memory.write(keys[part], values[part])
    return paths


def test_merged_and_learnt_hold_the_same_pairs(run, make_memories: list[Path], tmp_path: Path) -> None:
    merged = run("emm", "scale", "merge", *make_memories, "--into", tmp_path / "merged", "--workers", "1")
    assert merged.code == 0 and "merged 3 memories" in merged.out
    files = ("--keys", tmp_path / "keys.npy", "--values", tmp_path / "values.npy")
    learnt = run("emm", "scale", "learn", tmp_path / "learnt", *files, "--rank", 32, "--workers", "1")
    assert learnt.code == 0 and "learnt 60 pairs" in learnt.out
    with emm.open(tmp_path / "merged") as first, emm.open(tmp_path / "learnt") as second:
        assert first.write_count == second.write_count == 60
        assert np.abs(first.matrix - second.matrix).max() < 1e-5 * np.abs(first.matrix).max()
    again = run("emm", "scale", "merge", *make_memories, "--into", tmp_path / "merged", "--workers", "1")
    assert again.code == 2 and "already" in again.sentence()


def test_workers_that_cannot_be_are_one_sentence(run, tmp_path: Path) -> None:
    folder = notes(tmp_path / "notes", 1)
    ended = run("emm", "ingest", tmp_path / "archive", folder, "--workers", "many")
    assert ended.code == 2 and "not workers" in ended.sentence()
    assert not (tmp_path / "archive").exists()
