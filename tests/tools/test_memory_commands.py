"""Round trips through the commands: what goes in by .npy or JSON lines is what the library holds.

Red when: a command loses or reorders pairs, acknowledges before the commit, drops a gate, rounds a number on its way
through JSON, or prints something that is not the documented JSON.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import emm


def lines(keys: np.ndarray, values: np.ndarray | None = None, **more: float) -> bytes:
    rows = [{"key": [float(number) for number in key]} for key in keys]
    for row, value in zip(rows, values if values is not None else [], strict=False):
        row["value"] = [float(number) for number in value]
        row.update(more)
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def digest(path: Path) -> str:
    with emm.open(path) as memory:
        return memory.digest


def test_create_makes_what_was_asked_for(run, tmp_path: Path) -> None:
    path = tmp_path / "new"
    options = ["--dim", 8, "--rank", 16, "--key-dim", 20, "--rule", "gated-delta", "--ridge", 1, "--expand-at", 0]
    ended = run("emm", "create", path, *options, "--metadata", '{"lab": "north"}')
    assert ended.code == 0 and "M 8 × 16" in ended.out
    with emm.open(path) as memory:
        assert (memory.dim, memory.rank, memory.key_dim, memory.rule) == (8, 16, 20, "gated-delta")
        assert memory.metadata == {"lab": "north"} and memory.expand_at == 0


def test_npy_in_npy_out(run, memory: Path, pairs, npy, tmp_path: Path) -> None:
    keys, values = pairs
    ended = run("emm", "write", memory, "--keys", npy("k", keys), "--values", npy("v", values))
    assert [json.loads(line) for line in ended.out.splitlines()] == [{"lsn": 1, "pairs": 10}]
    out = tmp_path / "out.npy"
    assert run("emm", "recall", memory, "--keys", npy("k", keys), "-o", out).code == 0
    with emm.open(memory) as opened:
        expected = opened.recall(keys)
    assert np.array_equal(np.load(out), expected) and np.load(out).dtype == np.float32


def test_json_lines_in_json_lines_out_to_the_bit(run, memory: Path, pairs) -> None:
    keys, values = pairs
    ended = run("emm", "write", memory, "--batch", 4, stdin=lines(keys, values))
    acknowledged = [json.loads(line) for line in ended.out.splitlines()]
    assert acknowledged == [{"lsn": 1, "pairs": 4}, {"lsn": 2, "pairs": 4}, {"lsn": 3, "pairs": 2}]
    recalled = run("emm", "recall", memory, stdin=b"\n" + lines(keys))
    found = np.array([json.loads(line)["value"] for line in recalled.out.splitlines()], np.float32)
    with emm.open(memory) as opened:
        assert np.array_equal(found, opened.recall(keys))


def test_json_lines_and_npy_give_the_same_memory(run, memory: Path, pairs, npy, tmp_path: Path) -> None:
    keys, values = pairs
    other = tmp_path / "other"
    run("emm", "create", other, "--dim", 12, "--rank", 16, "--key-dim", 24, "--expand-at", 0)
    run("emm", "write", memory, "--keys", npy("k", keys), "--values", npy("v", values), "--write-gate", 0.5)
    run("emm", "write", other, stdin=lines(keys, values, write_gate=0.5))
    assert digest(memory) == digest(other)


def test_gates_on_a_line_win_over_the_option(run, memory: Path, pairs, tmp_path: Path) -> None:
    keys, values = pairs
    run("emm", "write", memory, "--write-gate", 4, stdin=lines(keys, values, write_gate=0.5, decay_gate=0.9))
    path = tmp_path / "direct"
    with emm.create(path, dim=12, rank=16, key_dim=24, expand_at=0) as direct:
        direct.write(keys, values, decay_gate=0.9, write_gate=0.5)
    assert digest(memory) == digest(path)


def test_recall_of_nothing_is_an_empty_array(run, memory: Path, tmp_path: Path) -> None:
    out = tmp_path / "none.npy"
    assert run("emm", "recall", memory, "-o", out, stdin=b"").code == 0
    assert np.load(out).shape == (0, 12)


def test_unlearn_takes_pairs_out(run, written: Path, pairs, tmp_path: Path) -> None:
    keys, values = pairs
    ended = run("emm", "unlearn", written, stdin=lines(keys[:2], values[:2]))
    assert json.loads(ended.out) == {"lsn": 3, "pairs": 2}
    with emm.open(written) as memory, emm.create(tmp_path / "d", dim=12, rank=16, key_dim=24, expand_at=0) as direct:
        direct.write(keys[2:], values[2:])
        assert memory.write_count == 8
        assert np.allclose(memory.matrix, direct.matrix, atol=1e-4)


def test_forget_silences_keys(run, written: Path, pairs, npy) -> None:
    keys, _ = pairs
    assert run("emm", "forget", written, "--keys", npy("k", keys[:3])).code == 0
    with emm.open(written) as memory:
        assert float(np.abs(memory.recall(keys[:3])).max()) < 1e-3


def test_upkeep(run, memory: Path, pairs, tmp_path: Path) -> None:
    keys, values = pairs
    run("emm", "create", tmp_path / "b", "--dim", 12, "--rank", 16, "--key-dim", 48, "--expand-at", 0)
    ended = run("emm", "expand", tmp_path / "b", "--rank", 32)
    assert ended.code == 0 and "rank 32" in ended.out
    for _ in range(4):
        run("emm", "write", memory, stdin=lines(keys[:1], values[:1]))
    assert "generation 5" in run("emm", "checkpoint", memory).out
    pruned = run("emm", "prune", memory, "--keep", 1, "--journal")
    assert pruned.code == 0
    assert [p.name for p in memory.glob("*.emm")] == ["0000000000000005.emm"]
    assert run("emm-verify", memory).code == 0


def test_merge_is_one_pass(run, written: Path, pairs, tmp_path: Path) -> None:
    other, both, direct = tmp_path / "other", tmp_path / "both", tmp_path / "direct"
    keys, values = pairs
    more = np.roll(keys, 1, axis=1)
    for path, writes in ((other, [(more, values)]), (direct, [(keys, values), (more, values)])):
        with emm.create(path, dim=12, rank=16, key_dim=24, expand_at=0) as memory:
            for write in writes:
                memory.write(*write)
    ended = run("emm", "merge", written, other, "--into", both)
    assert ended.code == 0 and "merged 2 memories" in ended.out
    with emm.open(both) as merged, emm.open(direct) as expected:
        assert np.allclose(merged.matrix, expected.matrix, atol=1e-4)


@pytest.mark.parametrize("bare", [True, False])
def test_expand_keeps_or_disturbs_as_it_says(run, tmp_path: Path, bare: bool) -> None:
    path = tmp_path / "grows"
    rng = np.random.default_rng(3)
    keys, values = rng.standard_normal((8, 64), np.float32) / 8, rng.standard_normal((8, 12), np.float32)
    with emm.create(path, dim=12, rank=16, key_dim=64, expand_at=0) as memory:
        memory.write(keys, values)
    ended = run("emm", "expand", path, "--rank", 32, *(["--bare"] if bare else []))
    assert ended.code == 0
    assert ("note: bare expansion" in ended.err) is bare
    with emm.open(path) as memory:
        assert memory.rank == 32


def test_what_a_memory_says_about_itself_is_noted(run, written: Path, pairs, tmp_path: Path) -> None:
    """Red when a command starts from an older generation and nobody hears of it."""
    newest = sorted(written.glob("*.emm"))[-1]
    newest.chmod(0o644)
    whole = newest.read_bytes()
    newest.write_bytes(whole[:20] + bytes([whole[20] ^ 0x40]) + whole[21:])
    with emm.open(written) as memory:
        notices = memory.notices
    assert notices
    ended = run("emm", "recall", written, stdin=lines(pairs[0][:1]))
    assert ended.code == 0 and ended.err.splitlines() == [f"note: {notice}" for notice in notices]
    assert "note: " in run("emm", "checkpoint", written).err


def test_hints_are_in_the_words_of_the_command_line(run, tmp_path: Path, pairs) -> None:
    """Red when `emm expand` asks for `pairs=`, which only Python has."""
    path = tmp_path / "m"
    with emm.create(path, dim=12, rank=16, key_dim=48, expand_at=0) as memory:
        memory.write(np.tile(pairs[0], 2), pairs[1])
        memory.checkpoint()
    assert "removed 2 files" in run("emm", "prune", path, "--keep", 1, "--journal").out
    ended = run("emm", "expand", path, "--rank", 32)
    assert ended.code and "--keys and --values" in ended.sentence() and "pairs=" not in ended.err
