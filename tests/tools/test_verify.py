"""`emm-verify` prints the library's report and exits with its code.

Red when: a finding is not printed, the exit code of several targets is not the worst, JSON stops parsing, or `-q`
prints a clean target.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import emm


def damage(path: Path) -> None:
    """Two bits of the last row of M of the newest generation flipped: more than a checksum alone can put right."""
    found = emm.inspect(path)
    snapshot = path / found.snapshots[-1].name
    data = bytearray(snapshot.read_bytes())
    region = found.regions[0]
    data[region.offset + region.bytes - 3] ^= 1
    data[region.offset + region.bytes - 1] ^= 2
    snapshot.chmod(0o644)
    snapshot.write_bytes(data)


def test_clean(run, written: Path) -> None:
    ended = run("emm-verify", written)
    assert ended.code == 0 and ended.err == ""
    assert ended.out.startswith(f"clean: {written} (") and "2 commits" in ended.out


@pytest.mark.parametrize("level", ["header", "table", "blocks", "replay", "numeric"])
def test_every_level_passes_a_clean_memory(run, written: Path, level: str) -> None:
    assert run("emm-verify", written, "--level", level, "--json").code == 0


def test_damage_names_block_bytes_rows_and_repair(run, written: Path) -> None:
    damage(written)
    ended = run("emm-verify", written)
    assert ended.code == 3
    assert ended.out.startswith("damaged-repairable: ")
    for part in ("block-damaged", "block 0", "bytes ", "M rows 0–11", "repair: replay"):
        assert part in ended.out


def test_json_is_the_report(run, written: Path) -> None:
    damage(written)
    ended = run("emm-verify", written, "--json")
    found = json.loads(ended.out)
    report = emm.verify(written)
    assert found == json.loads(report.to_json())
    assert found["exit_code"] == ended.code == 3


def test_many_targets_the_worst_decides(run, written: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert run("emm-verify", written, missing).code == 10
    damage(written)
    ended = run("emm-verify", missing, written, "--jsonl")
    assert ended.code == 3
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [each["verdict"] for each in lines if each["type"] == "target"] == ["missing", "damaged-repairable"]
    whole = json.loads(run("emm-verify", missing, written, "--json").out)
    assert whole["exit_code"] == 3 and len(whole["targets"]) == 2


def test_a_tree_and_quiet(run, written: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    emm.create(tmp_path / "b" / "deep", dim=4, rank=16, key_dim=16).close()
    assert run("emm-verify", tmp_path, "-q").out == ""
    damage(written)
    ended = run("emm-verify", tmp_path, "-q")
    assert ended.code == 3 and "deep" not in ended.out and str(written) in ended.out
    assert "2 targets" in run("emm-verify", tmp_path).out


def test_an_open_writer_is_unsealed_and_strict_says_7(run, memory: Path, pairs) -> None:
    with emm.open(memory, mode="a") as opened:
        opened.write(*pairs)
        ended = run("emm-verify", memory)
        assert ended.code == 0 and "unsealed" in ended.out
        assert run("emm-verify", memory, "--strict").code == 7
    assert run("emm-verify", memory, "--strict").code == 0


def test_not_emm_is_5(run, tmp_path: Path) -> None:
    (tmp_path / "x.emm").write_bytes(b"hello" * 100)
    assert run("emm-verify", tmp_path / "x.emm").code == 5


def test_a_hostile_file_name_does_not_reach_the_terminal_raw(run, written: Path) -> None:
    (written / "\x1b[2J.emm").write_bytes(b"not ours")
    for ended in (run("emm-verify", written), run("emm-inspect", written)):
        assert "\x1b" not in ended.out + ended.err
