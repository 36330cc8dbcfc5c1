"""Whatever a caller may get wrong is refused before anything is written, and the message names the row.

Red when a check is taken out of `inputs`, when an error is not an `InputError`, when a row is miscounted, or when a
refused call leaves a trace in the state or on the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emm

DIM, KEY_DIM, RANK = 8, 32, 16


def pairs(n: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.standard_normal((n, KEY_DIM)).astype(np.float32), random.standard_normal((n, DIM)).astype(np.float32)


@pytest.fixture
def memory(tmp_path: Path):  # type: ignore[no-untyped-def]
    with emm.create(str(tmp_path / "memory"), dim=DIM, rank=RANK, key_dim=KEY_DIM, expand_at=0.0) as made:
        made.write(*pairs(8, seed=9))
        yield made


def trace(memory: emm.Memory) -> tuple[object, ...]:
    files = {path.name: path.stat().st_size for path in Path(memory.url).iterdir()}
    return memory.digest, memory.lsn, memory.write_count, memory.flags, files


def refused(memory: emm.Memory, act: Callable[[], object], *words: str) -> None:
    before = trace(memory)
    with pytest.raises(emm.InputError) as caught:
        act()
    for word in words:
        assert word in str(caught.value), caught.value
    assert caught.value.exit_code == 2
    assert trace(memory) == before


def with_number(array: np.ndarray, row: int, number: float) -> np.ndarray:
    array = array.astype(np.float64)
    array[row, 3] = number
    return array


BAD_NUMBERS = [float("nan"), float("inf"), -float("inf"), 2.0**40 * 1.001, 1e39, 1e300]


@pytest.mark.parametrize("number", BAD_NUMBERS)
@pytest.mark.parametrize("row", [0, 2])
def test_number_that_is_not_finite_or_too_large_is_refused_with_its_row(
    memory: emm.Memory, number: float, row: int
) -> None:
    keys, values = pairs()
    for verb in (memory.write, memory.unlearn):
        refused(memory, lambda verb=verb: verb(with_number(keys, row, number), values), f"keys, row {row}")
        refused(memory, lambda verb=verb: verb(keys, with_number(values, row, number)), f"values, row {row}")
    refused(memory, lambda: memory.forget(with_number(keys, row, number)), f"keys, row {row}")
    refused(memory, lambda: memory.recall(with_number(keys, row, number)), f"queries, row {row}")


def test_key_whose_norm_is_too_large_is_refused_with_its_row(memory: emm.Memory) -> None:
    keys, values = pairs()
    keys[1] = 2.0**39.5
    refused(memory, lambda: memory.write(keys, values), "keys, row 1", "norm")


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((3, KEY_DIM - 1)),
        np.zeros((3, KEY_DIM, 1)),
        np.zeros(KEY_DIM - 1),
        np.zeros(()),
        np.zeros((3, KEY_DIM), complex),
        np.zeros((3, KEY_DIM), bool),
        np.zeros((3, KEY_DIM), object),
        np.zeros((3, KEY_DIM), "U4"),
        np.zeros((3, KEY_DIM), "M8[s]"),
        np.zeros(3, [("a", "f4")]),
        [[1.0, 2.0], [3.0]],
        "keys",
        None,
        [],
    ],
    ids=lambda bad: f"{type(bad).__name__}-{getattr(bad, 'shape', '')}-{getattr(bad, 'dtype', '')}",
)
def test_wrong_shapes_and_types_are_refused(memory: emm.Memory, bad: Any) -> None:
    keys, values = pairs()
    refused(memory, lambda: memory.write(bad, values))
    refused(memory, lambda: memory.unlearn(bad, values))
    refused(memory, lambda: memory.forget(bad))
    refused(memory, lambda: memory.recall(bad))
    refused(memory, lambda: memory.write(keys, np.zeros((3, DIM + 1))), "values", f"(n, {DIM})")
    refused(memory, lambda: memory.write(keys, values[:2]), "differ in number")


@pytest.mark.parametrize("name", ["write_gate", "decay_gate"])
@pytest.mark.parametrize("gate", [0.0, -1.0, 33.0, float("nan"), float("inf"), [1.0, 1.0], [[1.0] * 3], "1", None, 1j])
def test_bad_gates_are_refused(memory: emm.Memory, name: str, gate: Any) -> None:
    keys, values = pairs()
    refused(memory, lambda: memory.write(keys, values, **{name: gate}), name)
    if name == "write_gate":
        refused(memory, lambda: memory.unlearn(keys, values, write_gate=gate), name)


def test_bad_gate_in_an_array_is_named_by_its_row(memory: emm.Memory) -> None:
    keys, values = pairs()
    with pytest.raises(emm.GateError, match="write_gate, row 1"):
        memory.write(keys, values, write_gate=[1.0, 2.0**-11, 50.0])
    with pytest.raises(emm.GateError, match="decay_gate, row 2"):
        memory.write(keys, values, decay_gate=[1.0, 0.5, 1.5])


def test_gate_above_one_is_refused_under_gated_delta(tmp_path: Path) -> None:
    with (
        emm.create(str(tmp_path / "delta"), dim=DIM, rank=RANK, key_dim=KEY_DIM, rule="gated-delta") as memory,
        pytest.raises(emm.GateError, match="write_gate, row 0"),
    ):
        memory.write(*pairs(), write_gate=1.5)


def test_masked_numbers_are_refused(memory: emm.Memory) -> None:
    """NumPy's asarray drops a mask and gives out what it hides. Red without the check for one."""
    keys, values = pairs()
    masked = np.ma.masked_where(values > 1, values)
    refused(memory, lambda: memory.write(keys, masked), "values", "masked")
    refused(memory, lambda: memory.recall(np.ma.masked_where(keys > 1, keys)), "queries", "masked")
    assert memory.write(keys, np.ma.array(values)) == memory.lsn  # nothing is hidden


def test_one_vector_lists_other_dtypes_and_strides_are_taken_as_they_mean(tmp_path: Path) -> None:
    keys, values = pairs(4)

    def digest(name: str, write: Callable[[emm.Memory], object]) -> str:
        with emm.create(str(tmp_path / name), dim=DIM, rank=RANK, key_dim=KEY_DIM) as memory:
            write(memory)
            return memory.digest

    plain = digest("plain", lambda memory: memory.write(keys, values))
    assert digest("list", lambda memory: memory.write(keys.tolist(), values.tolist())) == plain
    assert digest("double", lambda memory: memory.write(keys.astype(float), values.astype(float))) == plain
    assert digest("fortran", lambda memory: memory.write(np.asfortranarray(keys), np.asfortranarray(values))) == plain
    assert digest("big-endian", lambda memory: memory.write(keys.astype(">f4"), values.astype(">f4"))) == plain
    assert digest("reversed", lambda memory: memory.write(keys[::-1][::-1], values[::-1][::-1])) == plain
    one = digest("row", lambda memory: memory.write(keys[:1], values[:1]))
    assert digest("vector", lambda memory: memory.write(keys[0], values[0])) == one


def test_empty_batch_is_no_commit(memory: emm.Memory) -> None:
    before = trace(memory)
    assert memory.write(np.empty((0, KEY_DIM)), np.empty((0, DIM))) == memory.lsn
    assert memory.unlearn(np.empty((0, KEY_DIM)), np.empty((0, DIM))) == memory.lsn
    assert memory.forget(np.empty((0, KEY_DIM))) == memory.lsn
    assert memory.recall(np.empty((0, KEY_DIM))).shape == (0, DIM)
    assert trace(memory) == before


def test_gate_error_in_a_batch_of_several_records_leaves_the_memory_as_it_was(
    memory: emm.Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel takes the whole batch or nothing, however many records it is logged as."""
    from emm.storage import session

    monkeypatch.setattr(session, "pairs_per_record", lambda *_: 2)
    keys, values = pairs(7, seed=9)
    never, other = pairs(1, seed=77)
    mixed = np.concatenate([keys[:4] / 50, never * 30, keys[4:]])
    wrong = np.concatenate([values[:4], other, values[4:]])
    refused(memory, lambda: memory.unlearn(mixed, wrong, rank=memory.rank), "row 4")  # the caller vouches, wrongly
    memory.write(*pairs(7, seed=5))
    monkeypatch.undo()
    expected = memory.digest
    memory.close()
    with emm.open(memory.url) as again:
        assert again.digest == expected


BAD_SHAPES: list[dict[str, Any]] = [
    {"dim": 0},
    {"dim": -1},
    {"dim": 1.5},
    {"dim": True},
    {"dim": "8"},
    {"dim": (1 << 24) + 1},
    {"rank": 17},
    {"rank": 48},
    {"rank": 0},
    {"key_dim": 8},
    {"rule": "lstm"},
    {"rule": []},
    {"projection": "random"},
    {"projection": "none"},
    {"seed": -1},
    {"seed": 1 << 64},
    {"seed": 1.0},
    {"ridge": 0.0},
    {"ridge": -1.0},
    {"ridge": float("nan")},
    {"ridge": 1e30},
    {"ridge": "small"},
    {"ridge": None},
    {"ridge": True},
    {"ridge": 10**400},
    {"expand_at": 1.5},
    {"expand_at": -0.1},
    {"expand_at": float("nan")},
    {"expand_at": "0.5"},
    {"expand_at": True},
    {"metadata": {"a": 1.5}},
    {"metadata": {"a": "http://x"}},
    {"metadata": {"a": "x" * 20000}},
    {"metadata": [1]},
    {"metadata": []},
    {"metadata": {"a": 10**5000}},
]


@pytest.mark.parametrize("wrong", BAD_SHAPES, ids=lambda wrong: next(iter(wrong)))
def test_memory_that_cannot_be_is_not_created(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(emm.InputError) as caught:
        emm.create(str(tmp_path / "memory"), **{"dim": DIM, "rank": RANK, "key_dim": KEY_DIM, **wrong})
    assert next(iter(wrong)) in str(caught.value).replace("shape", next(iter(wrong)))
    assert not (tmp_path / "memory").exists()


def test_s1_memory_larger_than_this_process_allows_is_refused_before_it_is_allocated(tmp_path: Path) -> None:
    """2^24 × 2^20 numbers: `MemoryError` from NumPy once, after the directory had been made."""
    with pytest.raises(emm.LimitError) as caught:
        emm.create(str(tmp_path / "memory"), dim=1 << 24, rank=1 << 20, key_dim=1 << 20)
    assert caught.value.rule == "S-1"
    assert not (tmp_path / "memory").exists()


@pytest.mark.parametrize("rank", [16, 8, 24, 33, 64, 0, -16, 32.0, "32", None, True])
def test_rank_that_is_not_larger_allowed_and_an_integer_is_refused(memory: emm.Memory, rank: Any) -> None:
    refused(memory, lambda: memory.expand(rank), "rank")
    refused(memory, lambda: memory.expand(rank, bare=True), "rank")


@pytest.mark.parametrize("rank", [32, 8, 0, -16, 16.0, "16", True])
def test_rank_of_an_unlearn_is_one_the_memory_has_had(memory: emm.Memory, rank: Any) -> None:
    refused(memory, lambda: memory.unlearn(*pairs(1, seed=9), rank=rank), "rank")


@pytest.mark.parametrize("mode", ["w", "rb", "", None, "R"])
def test_unknown_mode_or_verify_is_refused(memory: emm.Memory, mode: Any) -> None:
    with pytest.raises(emm.InputError):
        emm.open(memory.url, mode)
    with pytest.raises(emm.InputError):
        emm.open(memory.url, verify=mode)


@pytest.mark.parametrize("keep", [0, -1, 1.0, "1", None, True])
def test_prune_keeps_a_whole_number_of_snapshots(memory: emm.Memory, keep: Any) -> None:
    refused(memory, lambda: memory.prune(keep=keep), "keep" if keep != 0 and keep != -1 else "kept")
