"""The index beside an open memory says what the journal says, and unlearning in many calls reads the journal once.

Red when: a commit of the session is not added, or added at the wrong rank or kind; the index outlives a re-solve or a
prune of the journal; each unlearn reads the journal again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import emm
from emm.state import Float32Array
from emm.testing.capacity import text_like_keys, unit_values
from emm.vfs.local import LocalDirectory

DIM, KEY_DIM, RANK = 16, 64, 16
KEYS, VALUES = text_like_keys(60, KEY_DIM, 3), unit_values(60, DIM, 3)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[emm.Memory]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with emm.create(str(tmp_path / "memory"), dim=DIM, rank=RANK, key_dim=KEY_DIM, expand_at=0.0) as made:
            yield made


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of the reads of journal segments, as they happen."""
    found: list[int] = []
    read_at = LocalDirectory.read_at

    def counting(self: LocalDirectory, name: str, offset: int, length: int) -> bytes:
        if name.endswith(".wal"):
            found.append(length)
        return read_at(self, name, offset, length)

    monkeypatch.setattr(LocalDirectory, "read_at", counting)
    return found


def answers(memory: emm.Memory, rows: list[int]) -> list[object]:
    """What the session's index says of each pair, and what the journal read anew says: rank or the reason."""

    def one(ranks: Callable[[Float32Array, Float32Array], list[int]], row: int) -> object:
        try:
            return ranks(KEYS[[row]], VALUES[[row]])
        except emm.HistoryError as error:
            return str(error)

    session = memory._session
    kept = [one(session.written_ranks, row) for row in rows]
    assert kept == [one(session.history().pair_index().ranks, row) for row in rows]
    return kept


def test_index_kept_up_is_the_index_made_anew(memory: emm.Memory) -> None:
    """Writes, an unlearn, a forget, a decay, a bare expansion and a re-solve, each after the index was first asked."""
    rows = list(range(60))
    memory.write(KEYS[:20], VALUES[:20])
    assert answers(memory, [0, 30]) == [
        [16],
        "pair 0 cannot be unlearned: it was never written, or its journal was pruned",
    ]
    memory.write(KEYS[20:24], VALUES[20:24])
    memory.write(KEYS[20:22], VALUES[20:22])
    memory.unlearn(KEYS[[5, 20]], VALUES[[5, 20]])
    found = answers(memory, rows)
    assert "unlearned by commit 4" in str(found[5]) and found[20] == [16]
    memory.forget(KEYS[7:9])
    assert "forgotten by commit 5" in str(answers(memory, rows)[7])
    memory.expand(32, bare=True)
    memory.write(KEYS[30:33], VALUES[30:33])
    assert answers(memory, rows)[30:32] == [[32], [32]] and answers(memory, [0]) == [[16]]
    memory.write(KEYS[40:42], VALUES[40:42], decay_gate=[1.0, 0.99])
    memory.write(KEYS[42:43], VALUES[42:43])
    found = answers(memory, rows)
    assert "decayed since (commit 8)" in str(found[40]) and found[41] == [32] and found[42] == [32]


def test_a_resolve_makes_the_index_anew(memory: emm.Memory) -> None:
    memory.write(KEYS[:20], VALUES[:20])
    assert answers(memory, [3]) == [[16]]
    memory.expand(32)
    assert answers(memory, [3]) == [[32]]


def test_unlearning_one_pair_at_a_time_reads_the_journal_once(memory: emm.Memory, bytes_read: list[int]) -> None:
    """Each call once read all of it: for n calls on n pairs, n² pairs."""
    memory.write(KEYS, VALUES)
    for row in range(20):
        memory.unlearn(KEYS[[row]], VALUES[[row]])
        if row == 0:
            first = sum(bytes_read)
    assert 0 < first == sum(bytes_read)
    with pytest.raises(emm.HistoryError):
        memory.unlearn(KEYS[[3]], VALUES[[3]])


def test_a_pair_whose_commit_was_pruned_is_not_remembered(memory: emm.Memory) -> None:
    """The session's index would still know it; the memory opened again would not."""
    memory.write(KEYS[:20], VALUES[:20])
    memory.forget(KEYS[19:20])
    assert answers(memory, [2]) == [[16]]
    for _ in range(3):
        memory.checkpoint()
        memory.write(KEYS[20:21], VALUES[20:21])
    memory.checkpoint()
    assert memory.prune(keep=1, journal=True).names
    assert "journal was pruned" in str(answers(memory, [2])[0])
    with pytest.raises(emm.HistoryError, match="pruned"):
        memory.unlearn(KEYS[[2]], VALUES[[2]])


def test_many_pairs_wanted_at_once_are_told_apart(memory: emm.Memory) -> None:
    """One key with two values, one value with two keys, one pair given twice."""
    keys, values = KEYS[[0, 0, 1, 0]], VALUES[[0, 1, 1, 0]]
    memory.write(keys, values)
    assert memory._session.written_ranks(keys, values) == [16] * 4
    memory.unlearn(keys[1:2], values[1:2])
    with pytest.raises(emm.HistoryError, match="pair 0"):
        memory.unlearn(keys[1:2], values[1:2])
    assert memory._session.written_ranks(KEYS[[0, 1, 0]], VALUES[[0, 1, 0]]) == [16] * 3
    with pytest.raises(emm.HistoryError, match="more often than it was written"):
        memory.unlearn(KEYS[[0, 0, 0]], VALUES[[0, 0, 0]])
    assert np.isfinite(memory.matrix).all()
