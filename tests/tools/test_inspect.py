"""`emm-inspect` tells what the library knows, for whole and damaged memories, without touching them.

Red when: a figure of the text or the JSON is not the library's, the history loses commits, damage of one file hides
the rest, a picture does not follow the memory, or inspecting changes a byte.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import emm
import emm.inspection as inspection
from emm_tools import inspect_views as views
from emm_tools.inspect_text import describe
from emm_tools.pictures.style import DAMAGED

ROOT = Path(__file__).parent.parent.parent
LOOKS: list[tuple[Callable[[Path], Any], Callable[[Any], Iterable[str]]]] = [
    (lambda path: emm.inspect(path, blocks=True, state=True, health=True), lambda found: [describe(found)]),
    (lambda path: emm.inspect(path, history=True), views.journal_lines),
    (emm.inspect, views.generations_lines),
    (inspection.header, views.header_lines),
    (inspection.blocks, views.blocks_lines),
    (inspection.spectrum, views.spectrum_lines),
    (lambda path: inspection.rows(path, 0, 11), views.rows_lines),
    (lambda path: inspection.diff(path, path), views.diff_lines),
]
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


def test_ten_lines_tell_the_memory(run, written: Path) -> None:
    before = content(written)
    ended = run("emm-inspect", written)
    assert ended.code == 0 and ended.err == ""
    with emm.open(written) as memory:
        for fact in (memory.uuid, memory.digest, f"{memory.saturation:.3f}", "12 × 16 float32", "keys of 24 numbers"):
            assert fact in ended.out
    assert "journal of 1 segment with 2 commits" in ended.out
    assert ended.out.splitlines()[0] == f"memory {written}: healthy"
    assert len(ended.out.splitlines()) <= 10
    assert content(written) == before


def test_ten_lines_say_when_a_memory_is_hurt_and_how_it_can_be_mended(run, written: Path) -> None:
    flip(newest(written), emm.inspect(written).regions[0].offset + 100)
    ended = run("emm-inspect", written)
    lines = ended.out.splitlines()
    assert lines[0].endswith(": DAMAGED, repairable") and len(lines) <= 10
    assert "block-damaged: block 0 fails its CRC-32" in ended.out and "repair:" in ended.out


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
    assert ended.code == 0 and "DAMAGED, repairable" in ended.out  # the older generation and the journal give the state
    assert "started from an older one" in ended.out and "segment with 2 commits" in ended.out
    generations = run("emm-inspect", written, "generations")
    assert "head from the mirror" in generations.out and "fails its CRC-32" in generations.out
    assert "2 commits with 10 pairs" in run("emm-inspect", written, "journal").out


def test_a_state_that_cannot_be_had_is_said_and_sets_the_exit_code(run, written: Path) -> None:
    for snapshot in written.glob("*.emm"):
        flip(snapshot, 20)
    ended = run("emm-inspect", written)
    assert ended.code == 4 and "stopped: " in ended.err and "state       cannot be opened" in ended.out
    assert "2 commits with 10 pairs" in run("emm-inspect", written, "journal").out


def test_a_damaged_block_is_listed(run, written: Path) -> None:
    found = emm.inspect(written)
    flip(newest(written), found.regions[0].offset + 100)
    ended = run("emm-inspect", written, "blocks")
    assert ended.code == 0 and "1 block damaged" in ended.out
    assert "fails its CRC-32" in ended.out and "M rows 0–11" in ended.out


def test_rows_are_those_of_the_matrix(run, written: Path) -> None:
    found = json.loads(run("emm-inspect", written, "rows", "3:5", "--json").out)
    with emm.open(written) as memory:
        assert [row["values"] for row in found["rows"]] == memory.matrix[3:6].tolist()
        assert found["rows"][0]["norm"] == pytest.approx(float(np.linalg.norm(memory.matrix[3])))
    assert "rows 3–3 of M, 12 × 16" in run("emm-inspect", written, "rows", "3").out


def test_rows_in_a_damaged_block_are_not_shown(run, written: Path) -> None:
    flip(newest(written), emm.inspect(written).regions[0].offset + 100)
    ended = run("emm-inspect", written, "rows", "3:5", "--json")
    assert ended.code == 4 and "stopped: block 0 fails its CRC-32" in ended.err
    assert all(row["values"] == [] and "CRC-32" in row["problem"] for row in json.loads(ended.out)["rows"])


def test_a_difference_tells_commits_and_numbers(run, written: Path, pairs) -> None:
    older = newest(written)
    with emm.open(written, mode="a") as memory:
        before = memory.matrix.astype(float)
        memory.write(-pairs[0], pairs[1])
        change = float(np.linalg.norm(memory.matrix - before))
    text = run("emm-inspect", older, "diff", written).out
    assert "the second is later: commits 3–3 lie between" in text and "12 of 12 rows" in text
    found = json.loads(run("emm-inspect", older, "diff", written, "--json").out)
    assert found["numbers"]["norm_change"] == pytest.approx(change)
    assert [(c["lsn"], c["n_pairs"]) for c in found["commits"]] == [(3, 10)]
    assert "the second is earlier" in run("emm-inspect", written, "diff", older).out


@pytest.mark.parametrize("view", ["header", "blocks", "journal", "generations", "spectrum"])
def test_every_view_has_text_and_json(run, written: Path, view: str) -> None:
    text, as_json = run("emm-inspect", written, view), run("emm-inspect", written, view, "--json")
    assert text.code == as_json.code == 0 and text.err == as_json.err == ""
    assert len(text.out.splitlines()) > 3 and json.loads(as_json.out)["url"] == str(written)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["rows"],
        ["rows", "a:b"],
        ["rows", "-1:2"],
        ["rows", "5:3"],
        ["rows", "0:99"],
        ["rows", "0:9999999999999"],
        ["diff"],
        ["header", "again"],
        ["blocks", "--generation", "9"],
        ["journal", "--generation", "1"],
        ["diff", "{path}", "--picture", "x.png"],
        ["--picture", "x.gif"],
        ["--html", "x.png"],
        ["blocks", "--html", "x.html"],
    ],
)
def test_what_does_not_go_together_is_refused_in_one_sentence(run, written: Path, arguments: list[str]) -> None:
    ended = run("emm-inspect", written, *(each.format(path=written) for each in arguments))
    assert ended.code == 2 and ended.out == "" and ended.err and "Traceback" not in ended.err


def test_a_long_list_says_what_it_leaves_out(run, memory: Path, pairs) -> None:
    with emm.open(memory, mode="a") as opened:
        for _ in range(3):
            for row in range(10):
                opened.write(pairs[0][row : row + 1], pairs[1][row : row + 1])
    cut, whole = run("emm-inspect", memory, "journal"), run("emm-inspect", memory, "journal", "--all")
    assert "10 earlier commits: --all shows them" in cut.out and "earlier" not in whole.out
    assert len(whole.out.splitlines()) == len(cut.out.splitlines()) + 9


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


@pytest.mark.parametrize("view", [["blocks"], ["journal"], ["generations"], ["spectrum"], ["rows", "2:7"]])
def test_each_view_has_its_own_picture(run, written: Path, tmp_path: Path, view: list[str]) -> None:
    """The same file twice gives the same bytes; the sheet is another picture than any of its parts."""
    one, two = tmp_path / "one.svg", tmp_path / "two.svg"
    assert run("emm-inspect", written, *view, "--picture", one).code == 0
    assert run("emm-inspect", written, *view, "--picture", two).code == 0
    assert one.read_text().lstrip().startswith("<?xml") and one.read_bytes() == two.read_bytes()


def test_a_picture_shows_damage(run, written: Path, tmp_path: Path) -> None:
    whole, damaged = tmp_path / "whole.svg", tmp_path / "damaged.svg"
    run("emm-inspect", written, "blocks", "--picture", whole)
    flip(newest(written), emm.inspect(written).regions[0].offset + 100)
    run("emm-inspect", written, "blocks", "--picture", damaged)
    assert damaged.read_text().count(DAMAGED) > whole.read_text().count(DAMAGED) == 0


def test_names_and_metadata_are_never_read_as_mathematics(run, tmp_path: Path) -> None:
    """matplotlib took `$x^$` in a folder's name for a formula, and the command ended with an internal error."""
    path = tmp_path / "a $x^$ \\frac{ <b>"
    emm.create(path, dim=4, rank=16, key_dim=16, metadata={"note": "$x^$ <script>"}).close()
    assert run("emm-inspect", path, "--picture", tmp_path / "x.png").code == 0
    assert (tmp_path / "x.png").read_bytes().startswith(PNG)


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
            for look, tell in LOOKS:
                try:
                    found = look(target)
                except emm.EmmError:
                    continue
                json.dumps(inspection.plain(found), allow_nan=False)
                "\n".join(tell(found))
    finally:
        path.write_bytes(whole[name])
