"""Taking pairs out: as if they had never been written, or refused with the reason.

Red when an unlearn uses another rank than the pair was written at, when a memory whose past leaves doubt does not ask
its journal, when one of several pairs is taken out although the whole was refused, or when a pair written twice can be
taken out three times (or only once).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import emm
from emm.layout import Flag
from emm.testing.capacity import text_like_keys, unit_values

DIM, KEY_DIM, RANK = 32, 64, 32
KEYS, VALUES = text_like_keys(120, KEY_DIM, 1), unit_values(120, DIM, 1)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[emm.Memory]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with emm.create(str(tmp_path / "memory"), dim=DIM, rank=RANK, key_dim=KEY_DIM, expand_at=0.0) as made:
            yield made


def far(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def never_saw(tmp_path: Path, keys: np.ndarray, values: np.ndarray, rank: int = RANK, **gates: object) -> np.ndarray:
    with emm.create(str(tmp_path / "other"), dim=DIM, rank=rank, key_dim=KEY_DIM, expand_at=0.0) as other:
        other.write(keys, values, **gates)  # type: ignore[arg-type]
        return np.array(other.matrix)


def refused(memory: emm.Memory, rows: slice | list[int], *words: str) -> None:
    before = (memory.digest, memory.lsn, memory.write_count)
    with pytest.raises(emm.HistoryError) as caught:
        memory.unlearn(KEYS[rows], VALUES[rows])
    for word in words:
        assert word in str(caught.value), caught.value
    assert (memory.digest, memory.lsn, memory.write_count) == before


def test_fifth_unlearned_is_as_if_never_written(memory: emm.Memory, tmp_path: Path) -> None:
    gates = np.where(np.arange(120) % 2, 0.5, 2.0)
    memory.write(KEYS, VALUES, write_gate=gates)
    out = np.arange(120) % 5 == 0
    assert memory.unlearn(KEYS[out], VALUES[out], write_gate=gates[out]) == 2
    assert memory.write_count == 96
    assert far(memory.matrix, never_saw(tmp_path, KEYS[~out], VALUES[~out], write_gate=gates[~out])) < 1e-4


def test_pair_that_holds_a_direction_alone_is_refused_by_the_gate(tmp_path: Path) -> None:
    """With key_dim = rank = 64 a unit key keeps its norm, s = 64 and d = 1/65 < 2^-6."""
    with emm.create(str(tmp_path / "memory"), dim=4, rank=64, key_dim=64) as memory:
        memory.write(np.eye(64)[:1], np.ones((1, 4)))
        with pytest.raises(emm.GateError) as caught:
            memory.unlearn(np.eye(64)[:1], np.ones((1, 4)))
        assert caught.value.rule == "A-14" and memory.lsn == 1


def test_unlearn_and_forget_ask_for_rule_two(tmp_path: Path) -> None:
    for rule in ("outer-product", "gated-delta"):
        with emm.create(str(tmp_path / rule), dim=4, rank=16, key_dim=16, rule=rule) as memory:
            memory.write(np.eye(16)[:2], np.ones((2, 4)))
            with pytest.raises(emm.InputError, match="preconditioned"):
                memory.unlearn(np.eye(16)[:1], np.ones((1, 4)))


# --- across an expansion -------------------------------------------------------------------------


def test_unlearning_across_a_resolve(memory: emm.Memory, tmp_path: Path) -> None:
    memory.write(KEYS[:60], VALUES[:60])
    memory.expand(64)
    memory.write(KEYS[60:], VALUES[60:])
    memory.unlearn(KEYS[10:20], VALUES[10:20])
    kept = np.r_[0:10, 20:120]
    assert far(memory.matrix, never_saw(tmp_path, KEYS[kept], VALUES[kept], rank=64)) < 1e-4


def test_unlearning_across_a_bare_expansion_uses_the_rank_of_the_write(memory: emm.Memory, tmp_path: Path) -> None:
    memory.write(KEYS[:60], VALUES[:60])
    memory.expand(64, bare=True)
    memory.write(KEYS[60:80], VALUES[60:80])
    before = memory.lsn
    assert memory.unlearn(KEYS[50:70], VALUES[50:70]) == before + 1, "two ranks, one commit"
    with emm.create(str(tmp_path / "other"), dim=DIM, rank=RANK, key_dim=KEY_DIM, expand_at=0.0) as other:
        other.write(KEYS[:60], VALUES[:60])
        other.unlearn(KEYS[50:60], VALUES[50:60])
        # the prior of the new coordinates follows from Σ β xᵀx at the expansion, so it is not the same memory: compare
        # what is recalled of the pairs kept
        other.expand(64, bare=True)
        other.write(KEYS[70:80], VALUES[70:80])
        assert far(memory.recall(KEYS[:50]), other.recall(KEYS[:50])) < 0.05
    digest = memory.digest
    memory.close()
    with emm.open(memory.url) as again:
        assert again.digest == digest


def test_after_a_resolve_a_handle_and_its_journal_agree_on_the_rank(tmp_path: Path) -> None:
    """Found by the state machine: the handle that had re-solved unlearned at the present rank, and published it."""
    with emm.create(str(tmp_path / "memory"), dim=DIM, rank=RANK // 2, key_dim=KEY_DIM, expand_at=0.0) as memory:
        memory.expand(RANK)
        memory.write(KEYS[:60], VALUES[:60])
        with pytest.warns(UserWarning, match="bare"):
            memory.expand(2 * RANK, bare=True)
        memory.unlearn(KEYS[50:60], VALUES[50:60])
        with emm.open(memory.url) as reader:
            assert reader.digest == memory.digest
        memory.checkpoint()
        assert emm.verify(memory.url, level="replay").exit_code == 0


def test_refused_row_of_one_rank_leaves_the_rows_of_the_other_in(memory: emm.Memory) -> None:
    """Each rank was once a commit of its own: the first was logged when the second was refused."""
    memory.write(KEYS[:40], VALUES[:40])
    memory.expand(64, bare=True)
    lonely = np.zeros((1, KEY_DIM), np.float32)
    lonely[0, 5] = 300.0
    memory.write(lonely, VALUES[:1])
    before = (memory.digest, memory.lsn, memory.write_count)
    with pytest.raises(emm.GateError):
        memory.unlearn(np.concatenate([KEYS[:2], lonely]), np.concatenate([VALUES[:2], VALUES[:1]]))
    assert (memory.digest, memory.lsn, memory.write_count) == before
    memory.write(KEYS[60:61], VALUES[60:61])
    digest = memory.digest
    memory.close()
    with emm.open(memory.url, "a") as again:
        assert again.digest == digest


def test_resolve_leaves_out_what_was_unlearned(tmp_path: Path) -> None:
    """At the larger rank the first pair would be alone in its direction, and taking it out refused: the re-solve once
    called the journal corrupt, from inside an automatic expansion, after the write was durable."""
    with emm.create(str(tmp_path / "memory"), dim=4, rank=16, key_dim=64, expand_at=0.0) as memory:
        random = np.random.default_rng(0)
        keys, values = random.standard_normal((6, 64)).astype(np.float32) / 8, np.eye(6, 4, dtype=np.float32)
        memory.write(keys[:1], values[:1])
        memory.unlearn(keys[:1], values[:1])
        memory.write(keys[1:], values[1:])
        memory.write(keys[2:3], values[2:3], write_gate=0.5)
        memory.unlearn(keys[2:3], values[2:3], write_gate=0.5)
        memory.expand(64)
        with emm.create(str(tmp_path / "other"), dim=4, rank=64, key_dim=64, expand_at=0.0) as other:
            other.write(keys[1:], values[1:])
            assert np.array_equal(other.matrix, memory.matrix), "left out, not taken out again"
        assert memory.write_count == 5


def test_resolve_keeps_a_pair_written_again_after_it_was_unlearned(memory: emm.Memory, tmp_path: Path) -> None:
    memory.write(KEYS[:30], VALUES[:30])
    memory.unlearn(KEYS[5:6], VALUES[5:6])
    memory.write(KEYS[5:6], VALUES[5:6])
    memory.write(KEYS[5:6], VALUES[5:6])
    memory.expand(64)
    order = [*range(5), *range(6, 30), 5, 5]
    assert np.array_equal(memory.matrix, never_saw(tmp_path, KEYS[order], VALUES[order], rank=64))


def test_resolve_that_a_gate_refuses_is_no_corruption(memory: emm.Memory) -> None:
    """Unlearned with another gate than it was written with, a pair cannot simply be left out."""
    lonely = np.zeros((1, KEY_DIM), np.float32)
    lonely[0, 0] = 0.9
    memory.write(lonely, VALUES[:1], write_gate=2.0)
    memory.unlearn(lonely, VALUES[:1], write_gate=1.99)
    before = memory.digest
    with pytest.raises(emm.HistoryError, match="cannot be solved again at rank 64"):
        memory.expand(64)
    assert memory.digest == before
    memory.write(KEYS[:1], VALUES[:1])


# --- a past that leaves doubt --------------------------------------------------------------------


def test_never_written_pair_is_refused(memory: emm.Memory) -> None:
    memory.write(KEYS[:40], VALUES[:40])
    memory.forget(KEYS[30:31])
    refused(memory, slice(50, 51), "pair 0", "never written")
    with pytest.raises(emm.HistoryError, match="pair 2"):
        memory.unlearn(KEYS[[1, 2, 3]], VALUES[[1, 2, 4]])


def test_plain_memory_asks_its_journal_before_it_unlearns(memory: emm.Memory) -> None:
    """Red when the journal is asked only after decay or forgetting: a wrong value was taken out, harming the rest."""
    memory.write(KEYS[:40], VALUES[:40])
    before = memory.digest
    with pytest.raises(emm.HistoryError, match="never written"):
        memory.unlearn(KEYS[:1], VALUES[1:2])
    assert memory.digest == before
    memory.unlearn(KEYS[:1], VALUES[:1])
    with pytest.raises(emm.HistoryError, match="unlearned by commit 2"):
        memory.unlearn(KEYS[:1], VALUES[:1])


def test_callers_vouch_with_the_rank_or_where_the_journal_was_pruned(memory: emm.Memory) -> None:
    """Red when `rank` reads the journal, or when a pruned journal makes unlearning impossible."""
    memory.write(KEYS[:40], VALUES[:40])
    memory.unlearn(KEYS[:1], VALUES[:1], rank=memory.rank)
    memory.checkpoint()
    memory.prune(keep=1, journal=True)
    memory.unlearn(KEYS[1:2], VALUES[1:2])
    assert memory.write_count == 38


def test_forgotten_pair_is_refused_and_a_rewrite_is_not(memory: emm.Memory) -> None:
    memory.write(KEYS[:40], VALUES[:40])
    memory.forget(KEYS[7:9])
    assert memory.flags & Flag.FORGOTTEN
    refused(memory, [6, 7], "pair 1", "forgotten by commit 2")
    memory.write(KEYS[7:8], VALUES[7:8])
    memory.unlearn(KEYS[[6, 7]], VALUES[[6, 7]])


def test_pair_unlearned_once_is_refused_the_second_time(memory: emm.Memory) -> None:
    memory.write(KEYS[:40], VALUES[:40])
    memory.forget(KEYS[39:40])
    memory.unlearn(KEYS[3:5], VALUES[3:5])
    refused(memory, slice(2, 5), "pair 1", "unlearned by commit 3")


def test_pair_written_before_a_decay_is_refused_and_one_after_it_is_not(memory: emm.Memory) -> None:
    memory.write(KEYS[:20], VALUES[:20])
    memory.write(KEYS[20:40], VALUES[20:40], decay_gate=[1.0] * 10 + [0.99] + [1.0] * 9)
    assert memory.flags & Flag.DECAYED
    for row in (0, 19, 25, 29):
        refused(memory, slice(row, row + 1), "decayed since", "commit 2")
    memory.unlearn(KEYS[30:40], VALUES[30:40])


def test_pair_written_twice_can_be_unlearned_twice_and_not_three_times(memory: emm.Memory, tmp_path: Path) -> None:
    """The search once forgot the second copy with the first."""
    memory.write(KEYS[:40], VALUES[:40])
    memory.write(KEYS[:3], VALUES[:3])
    memory.forget(KEYS[39:40])
    memory.unlearn(KEYS[:1], VALUES[:1])
    memory.unlearn(KEYS[:1], VALUES[:1])
    refused(memory, slice(0, 1), "unlearned by commit 5")
    refused(memory, [1, 1, 1], "pair 2", "more often than it was written")
    memory.unlearn(KEYS[[1, 1]], VALUES[[1, 1]])
    refused(memory, [1], "unlearned by commit 6")


def test_copies_at_two_ranks_are_each_taken_out_at_their_own(memory: emm.Memory) -> None:
    memory.write(KEYS[:40], VALUES[:40])
    memory.expand(64, bare=True)
    memory.write(KEYS[:1], VALUES[:1])
    search = memory._session.history()
    assert sorted(search.pair_index().ranks(KEYS[[0, 0]], VALUES[[0, 0]])) == [32, 64]
    assert search.pair_index().ranks(KEYS[[0, 1]], VALUES[[0, 1]]) == [64, 32]
    memory.unlearn(KEYS[:1], VALUES[:1], rank=32)
    assert memory._session.history().pair_index().ranks(KEYS[:1], VALUES[:1]) == [64]


def test_pairs_from_before_a_resolve_count_as_written_at_its_rank(memory: emm.Memory) -> None:
    memory.write(KEYS[:30], VALUES[:30])
    memory.expand(48)
    assert memory._session.history().pair_index().ranks(KEYS[:1], VALUES[:1]) == [48]
    memory.write(KEYS[30:40], VALUES[30:40])
    assert memory._session.history().pair_index().ranks(KEYS[[0, 35]], VALUES[[0, 35]]) == [48, 48]
    memory.close()
    with emm.open(memory.url, "a") as again:
        assert again._session.history().pair_index().ranks(KEYS[[0, 35]], VALUES[[0, 35]]) == [48, 48]
        again.expand(64)
        assert again._session.history().pair_index().ranks(KEYS[[0, 35]], VALUES[[0, 35]]) == [64, 64]


def test_pruned_journal_cannot_vouch_for_a_pair(memory: emm.Memory) -> None:
    memory.write(KEYS[:30], VALUES[:30])
    memory.forget(KEYS[29:30])
    memory.checkpoint()
    memory.prune(keep=1, journal=True)
    refused(memory, slice(0, 1), "its journal was pruned")
    memory.write(KEYS[40:60], VALUES[40:60])
    memory.unlearn(KEYS[41:42], VALUES[41:42])
    refused(memory, slice(0, 1), "its journal was pruned")
    memory.unlearn(KEYS[:1], VALUES[:1], rank=RANK)


def test_journal_from_before_given_pairs_vouches_for_nothing(memory: emm.Memory) -> None:
    """A pair that was written, and left out of the pairs given to an expansion, was once taken out a second time."""
    memory.write(KEYS[:40], VALUES[:40])
    memory.expand(48, pairs=(KEYS[20:60], VALUES[20:60]))
    memory.forget(KEYS[59:60])
    memory.write(KEYS[60:70], VALUES[60:70])
    for row in (0, 30, 50):
        refused(memory, slice(row, row + 1), "never written")
    memory.unlearn(KEYS[60:62], VALUES[60:62])
    memory.unlearn(KEYS[50:51], VALUES[50:51], rank=48)
