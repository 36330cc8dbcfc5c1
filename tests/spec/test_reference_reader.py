"""A reader written from the page alone, with nothing but the standard library, agrees with the library.

Turns red when: the library's bytes or arithmetic drift from the page (or the page from them); the reader comes to
import anything of ours; damage that the library notices looks clean to the other reader.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import emm
from emm_tools.conformance_command import PASS, judge
from spec.vectors.catalog import MANIFEST, all_cases

READER = Path(__file__).resolve().parents[2] / "spec" / "reference_reader.py"


def read(path: Path, *options: str) -> dict:
    """What the reader says of a memory directory; its exit code is among it."""
    done = subprocess.run(
        [sys.executable, "-I", str(READER), str(path), *options], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    return {**json.loads(done.stdout), "exit": done.returncode}


def pairs(seed: int, n: int, key_dim: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    keys = rng.standard_normal((n, key_dim), np.float32)
    return keys / np.linalg.norm(keys, axis=1, keepdims=True) / 1.2, rng.standard_normal((n, dim), np.float32)


def lived_in(path: Path) -> emm.Memory:
    """A closed memory with every kind of record and several snapshots."""
    keys, values = pairs(7, 30, 48, 6)
    with emm.create(path, dim=6, rank=16, key_dim=48, expand_at=0, metadata={"name": "été"}) as memory:
        memory.write(keys[:10], values[:10])
        memory.unlearn(keys[2:4], values[2:4])
        memory.forget(keys[5:7])
        memory.checkpoint()
        memory.write(keys[10:12], values[10:12], 0.99, [0.5, 2.0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            memory.expand(32, bare=True)
        memory.write(keys[12:20], values[12:20])
        memory.configure(expand_at=0.5)
    return emm.open(path)


def assert_same(found: dict, memory: emm.Memory, verdict: str) -> None:
    assert (found["verdict"], found["lsn"], found["digest"]) == (verdict, memory.lsn, memory.digest)
    assert (found["rank"], found["flags"]) == (memory.rank, int(memory.flags))


def test_the_reader_imports_nothing_but_the_standard_library():
    tree = ast.parse(READER.read_text(encoding="utf-8"))
    names = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= set(sys.stdlib_module_names)


def test_its_arithmetic_is_exact():
    done = subprocess.run(
        [sys.executable, "-I", str(READER), "--self-test"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_replays_every_kind_of_record_to_the_same_bits(tmp_path):
    with lived_in(tmp_path / "memory") as memory:
        assert_same(read(tmp_path / "memory", "--replay-from-oldest"), memory, "clean")


@pytest.mark.parametrize("rule", ["outer-product", "gated-delta", "preconditioned"])
def test_it_agrees_on_each_rule(tmp_path, rule):
    keys, values = pairs(3, 20, 20, 5)
    with emm.create(tmp_path / "memory", dim=5, rank=16, key_dim=20, rule=rule, expand_at=0) as memory:
        memory.write(keys[:17], values[:17])
        memory.write(keys[17:], values[17:], 0.9, 0.5)
    with emm.open(tmp_path / "memory") as memory:
        assert_same(read(tmp_path / "memory", "--replay-from-oldest"), memory, "clean")


def test_it_agrees_on_merged_and_resolved_memories(tmp_path):
    keys, values = pairs(5, 30, 48, 6)
    with emm.create(tmp_path / "part", dim=6, rank=16, key_dim=48, expand_at=0) as memory:
        memory.write(keys[:20], values[:20])
        memory.expand(48)
        memory.write(keys[20:], values[20:])
    with emm.merge([tmp_path / "part"], tmp_path / "whole") as memory:
        memory.write(keys[:1], values[:1])
    for name in ("part", "whole"):
        with emm.open(tmp_path / name) as memory:
            assert_same(read(tmp_path / name, "--replay-from-oldest"), memory, "clean")


def test_it_agrees_on_a_killed_writer_a_torn_tail_and_what_was_logged_again(tmp_path):
    path = tmp_path / "memory"
    child = os.fork()
    if child == 0:
        memory = emm.create(path, dim=5, rank=16, key_dim=16, expand_at=0)
        keys, values = pairs(9, 8, 16, 5)
        for row in range(0, 8, 2):
            memory.write(keys[row : row + 2], values[row : row + 2])
        os._exit(9)
    os.waitpid(child, 0)
    with emm.open(path) as memory:
        assert_same(read(path), memory, "clean-unsealed")
    torn = tmp_path / "torn"
    shutil.copytree(path, torn)
    segment = torn / "0000000000000001.wal"
    os.truncate(segment, segment.stat().st_size - 30)
    with emm.open(torn) as memory:
        assert memory.lsn == 3
        assert_same(read(torn), memory, "torn-or-damaged-tail")
    emm.open(path, "a").close()
    (path / "0000000000000002.emm").unlink()
    with emm.open(path) as memory:
        assert_same(read(path), memory, "clean")


def test_no_flipped_bit_of_a_closed_memory_looks_clean_to_either(tmp_path):
    path = tmp_path / "memory"
    lived_in(path).close()
    rng = random.Random(11)
    newest = sorted(path.glob("*.emm"))[-1]
    for file in [newest, *sorted(path.glob("*.wal"))[-1:]]:
        data = file.read_bytes()
        for _ in range(12):
            place = rng.randrange(len(data))
            flipped = bytearray(data)
            flipped[place] ^= 1 << rng.randrange(8)
            file.write_bytes(flipped)
            assert emm.verify(path).exit_code != 0, f"{file.name} byte {place}"
            assert read(path)["exit"] != 0, f"{file.name} byte {place}"
        file.write_bytes(data)


# --- the conformance vectors, in this process ------------------------------------------------------

ENTRIES = json.loads(MANIFEST.read_text(encoding="utf-8"))["cases"]


@pytest.fixture(scope="module")
def files() -> dict[str, dict[str, bytes]]:
    """The vectors' files, by case."""
    return {case.name: dict(case.files) for case in all_cases()}


@pytest.fixture(scope="module")
def reader() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_reader", READER)
    assert spec and spec.loader
    module = sys.modules["reference_reader"] = importlib.util.module_from_spec(spec)  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry["name"] for entry in ENTRIES])
def test_it_says_what_the_manifest_says(
    entry: dict[str, Any], files: dict[str, dict[str, bytes]], reader: ModuleType, tmp_path: Path
) -> None:
    """Red when page, reader and vectors are not of one mind: judged as `emm-conformance --level digest` does.

    Beyond that, a memory opens exactly where the manifest states a state, and a torn tail begins where it says.
    """
    place = tmp_path / entry["name"]
    place.mkdir()
    for name, data in files[entry["name"]].items():
        (place / name).write_bytes(data)
    found = reader.examine(str(tmp_path / entry["path"]))
    assert judge(entry, reader.EXIT[found["verdict"]], found, "digest")[::2] == (PASS, ""), found
    if entry["kind"] == "memory":
        assert (found["lsn"], found["digest"]) == (entry["lsn"], entry["digest"])
    if entry["verdict"] == "torn-or-damaged-tail":
        assert (found["file"], found["offset"]) == (entry["file"], entry["offset"])
