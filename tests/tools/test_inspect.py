"""`emm-inspect` tells what the library knows, for whole and damaged memories, without touching them.

Red when: a figure of the text or the JSON is not the library's, the history loses commits, damage of one file hides
the rest, a picture does not follow the memory, or inspecting changes a byte.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import emm
from emm_tools.inspect_text import describe

ROOT = Path(__file__).parent.parent.parent
PNG = b"\x89PNG\r\n\x1a\n"


def content(path: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in sorted(path.iterdir())}


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.chmod(0o644)
    path.write_bytes(data)


def newest(path: Path) -> Path:
    return sorted(path.glob("*.emm"))[-1]


def test_text_tells_the_memory(run, written: Path) -> None:
    before = content(written)
    ended = run("emm-inspect", written)
    assert ended.code == 0 and ended.err == ""
    with emm.open(written) as memory:
        for fact in (memory.uuid, memory.digest, f"{memory.saturation:.3f}", "12 × 16 float32", "keys of 24 numbers"):
            assert fact in ended.out
    assert "history: 2 commits with 10 pairs" in ended.out
    assert content(written) == before


def test_json_holds_the_same_figures(run, written: Path) -> None:
    found = json.loads(run("emm-inspect", written, "--json").out)
    with emm.open(written) as memory:
        assert found["state"]["digest"] == memory.digest
        assert found["state"]["saturation"] == pytest.approx(memory.saturation)
        assert found["state"]["spectrum"] == pytest.approx(
            np.linalg.svd(memory.matrix.astype(float), compute_uv=False), abs=1e-6
        )
        assert (found["lsn"], found["generation"], found["uuid"]) == (2, memory.generation, memory.uuid)
    commits = found["commits"]
    assert [(c["lsn"], c["action"], c["n_pairs"]) for c in commits] == [(1, "write", 6), (2, "write", 4)]
    assert commits[0]["saturation"] < commits[1]["saturation"] == pytest.approx(found["state"]["saturation"])
    assert found["segments"][0]["sealed"] and found["segments"][0]["n_commits"] == 2
    assert {region["name"] for region in found["regions"]} == {"M", "P", "U", "scalars"}


def test_history_names_what_was_done(run, written: Path, pairs) -> None:
    with emm.open(written, mode="a") as memory:
        memory.unlearn(pairs[0][:1], pairs[1][:1])
        memory.forget(pairs[0][1:3])
    commits = json.loads(run("emm-inspect", written, "--json").out)["commits"]
    assert [(c["action"], c["n_pairs"]) for c in commits[2:]] == [("unlearn", 1), ("forget", 2)]


def test_commits_that_were_logged_again_are_told_once(run, memory: Path) -> None:
    """A writer dies without closing; the next logs its unproven commits again and fences the first copy off."""
    program = (
        "import os, sys, numpy as np, emm\n"
        "m = emm.open(sys.argv[1], 'a')\n"
        "for i in range(3): m.write(np.full((1, 24), i + 1, np.float32), np.ones((1, 12), np.float32))\n"
        "os._exit(0)"
    )
    path = os.pathsep.join(str(ROOT / name) for name in (".", "engine", "tools"))
    subprocess.run([sys.executable, "-c", program, memory], env={**os.environ, "PYTHONPATH": path}, check=True)
    emm.open(memory, mode="a").close()
    found = json.loads(run("emm-inspect", memory, "--json").out)
    assert [commit["lsn"] for commit in found["commits"]] == [1, 2, 3]
    dead = [segment["n_dead"] for segment in found["segments"]]
    assert len(dead) == 2 and dead[0] >= 1 and dead[1] == 0


def test_saturation_follows_an_expansion(run, tmp_path: Path) -> None:
    """Each part of the history is replayed on the generation it belongs to."""
    path = tmp_path / "grows"
    rng = np.random.default_rng(1)
    with emm.create(path, dim=4, rank=16, key_dim=64, expand_at=0) as memory:
        memory.write(rng.standard_normal((12, 64), np.float32), np.ones((12, 4), np.float32))
        full = memory.saturation
        memory.expand(32)
        memory.write(rng.standard_normal((1, 64), np.float32), np.ones((1, 4), np.float32))
        after = memory.saturation
    commits = json.loads(run("emm-inspect", path, "--json").out)["commits"]
    assert commits[0]["saturation"] == pytest.approx(full)
    assert commits[-1]["saturation"] == pytest.approx(after) and after < full


def test_a_single_snapshot_and_a_single_segment(run, written: Path) -> None:
    snapshot = json.loads(run("emm-inspect", newest(written), "--json").out)
    with emm.open(written) as memory:
        assert snapshot["kind"] == "snapshot" and snapshot["state"]["digest"] == memory.digest
    segment = json.loads(run("emm-inspect", written / "0000000000000001.wal", "--json").out)
    assert segment["kind"] == "segment" and len(segment["commits"]) == 2 and segment["state"] is None


def test_a_damaged_generation_does_not_hide_the_rest(run, written: Path) -> None:
    flip(newest(written), 20)  # dim, in the header
    ended = run("emm-inspect", written)
    assert "fails its CRC-32" in ended.out and "history: 2 commits" in ended.out
    assert ended.code == 0 and "damaged" in ended.out  # the older generation and the journal still give the state


def test_a_state_that_cannot_be_had_is_said_and_sets_the_exit_code(run, written: Path) -> None:
    for snapshot in written.glob("*.emm"):
        flip(snapshot, 20)
    ended = run("emm-inspect", written)
    assert ended.code == 4 and "the state cannot be opened" in ended.err
    assert "history: 2 commits" in ended.out


def test_a_damaged_block_is_listed(run, written: Path) -> None:
    found = emm.inspect(written)
    flip(newest(written), found.regions[0].offset + 100)
    ended = run("emm-inspect", written, "--blocks")
    assert "fails its CRC-32" in ended.out and "M rows 0–11" in ended.out


def test_a_folder_of_memories_names_them(run, written: Path) -> None:
    ended = run("emm-inspect", written.parent)
    assert ended.code == 10 and str(written) in ended.sentence()


@pytest.mark.parametrize("name", ["notes.txt", "0000000000000009.emm"])
def test_something_else_is_refused(run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something else entirely" * 20)
    ended = run("emm-inspect", tmp_path / name)
    assert ended.code == 5 and ended.sentence()


def test_pictures_are_pictures_and_follow_the_memory(run, written: Path, pairs, tmp_path: Path) -> None:
    first, again, second = (tmp_path / f"{name}.png" for name in ("first", "again", "second"))
    assert run("emm-inspect", written, "--picture", first).code == 0
    assert run("emm-inspect", written, "--picture", again).code == 0
    with emm.open(written, mode="a") as memory:
        memory.write(pairs[0], -pairs[1])
    assert run("emm-inspect", written, "--picture", second).code == 0
    assert first.read_bytes().startswith(PNG) and second.read_bytes().startswith(PNG)
    assert first.read_bytes() == again.read_bytes() != second.read_bytes()


def test_a_picture_shows_damage(run, written: Path, tmp_path: Path) -> None:
    whole, damaged = tmp_path / "whole.svg", tmp_path / "damaged.svg"
    run("emm-inspect", written, "--picture", whole)
    flip(newest(written), emm.inspect(written).regions[0].offset + 100)
    run("emm-inspect", written, "--picture", damaged)
    red = "#d62839"
    assert whole.read_text().lstrip().startswith("<?xml")
    assert damaged.read_text().count(red) > whole.read_text().count(red)


def test_a_picture_of_an_empty_memory(run, memory: Path, tmp_path: Path) -> None:
    ended = run("emm-inspect", memory, "--picture", tmp_path / "empty.png")
    assert ended.code == 0 and (tmp_path / "empty.png").read_bytes().startswith(PNG)


@given(data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_gives_an_inspection_or_an_emm_error(data: st.DataObject, written: Path) -> None:
    """Flip bits of one file, or cut it short: nothing but an `Inspection` or an `EmmError` comes out."""
    whole = content(written)
    name = data.draw(st.sampled_from(sorted(whole)))
    damaged = bytearray(whole[name])
    for offset in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=3)):
        damaged[offset] ^= data.draw(st.integers(1, 255))
    del damaged[data.draw(st.integers(0, len(damaged)) | st.just(len(damaged))) :]
    path = written / name
    path.chmod(0o644)
    try:
        path.write_bytes(damaged)
        for target in (written, path):
            try:
                found = emm.inspect(target, blocks=True, state=True)
            except emm.EmmError:
                continue
            json.dumps(found.to_json())
            describe(found, blocks=True)
    finally:
        path.write_bytes(whole[name])
