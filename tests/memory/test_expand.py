"""Growing: re-solved from the pairs kept, or bare and said so.

Red when an automatic expansion is a bare one (old pairs lost), when it fails a write that is durable already, when it
is tried again at every write, when pairs given are mixed with the old ones, or when a limit is not asked first.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

import emm
from emm.layout import Flag
from emm.testing.capacity import text_like_keys, top1, unit_values

DIM, KEY_DIM = 16, 64
KEYS, VALUES = text_like_keys(80, KEY_DIM, 3), unit_values(80, DIM, 3)


def create(path: Path, rank: int = 16, expand_at: float = 0.0, **more: object) -> emm.Memory:
    return emm.create(str(path), dim=DIM, rank=rank, key_dim=KEY_DIM, expand_at=expand_at, **more)  # type: ignore[arg-type]


def test_automatic_expansion_keeps_old_pairs_where_a_bare_one_loses_them(tmp_path: Path) -> None:
    """The measurement behind automatic expansion: 128 old pairs, rank 64 → 512, 512 new pairs, text-like keys."""
    old, new = 128, 512
    keys, values = text_like_keys(old + new, 512, 0), unit_values(old + new, 128, 0)

    def share_of_old(memory: emm.Memory) -> float:
        nearest = np.argmax(memory.recall(keys[:old]) @ values.T, axis=1)
        return float(np.mean(nearest == np.arange(old)))

    with emm.create(str(tmp_path / "auto"), dim=128, rank=64, key_dim=512) as memory:
        for start in range(0, old + new, 32):
            memory.write(keys[start : start + 32], values[start : start + 32])
        assert memory.rank == 512 and memory.saturation < 0.9
        assert share_of_old(memory) >= 0.95 and top1(memory.recall(keys), values) >= 0.95
        assert memory.flags == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with emm.create(str(tmp_path / "bare"), dim=128, rank=64, key_dim=512, expand_at=0.0) as memory:
            memory.write(keys[:old], values[:old])
            for rank in (128, 256, 512):
                memory.expand(rank, bare=True)
            assert share_of_old(memory) >= 0.95, "unchanged at that instant"
            memory.write(keys[old:], values[old:])
            assert share_of_old(memory) < 0.1


def test_expansion_is_as_if_the_memory_had_always_had_that_rank(tmp_path: Path) -> None:
    with create(tmp_path / "small") as small, create(tmp_path / "large", 48) as large:
        for start in range(0, 40, 7):
            small.write(KEYS[start : start + 7], VALUES[start : start + 7], write_gate=0.5)
            large.write(KEYS[start : start + 7], VALUES[start : start + 7], write_gate=0.5)
        seen: list[tuple[int, int]] = []
        assert small.expand(48, progress=lambda done, whole: seen.append((done, whole))) == small.generation == 2
        assert small.digest == large.digest and small.write_count == large.write_count
        assert seen == [(lsn, 6) for lsn in range(1, 7)]
        small.write(KEYS[50:60], VALUES[50:60])
        large.write(KEYS[50:60], VALUES[50:60])
        assert small.digest == large.digest
        digest = large.digest
    with emm.open(str(tmp_path / "small")) as again:
        assert again.digest == digest


def test_resolve_replays_decay_forgetting_and_a_bare_expansion(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with create(tmp_path / "small") as small, create(tmp_path / "large", 64) as large:
            for memory in (small, large):
                memory.write(KEYS[:20], VALUES[:20], decay_gate=0.999)
                memory.forget(KEYS[3:5])
                if memory is small:
                    memory.expand(32, bare=True)
                    assert memory.flags & Flag.BARE_EXPANDED
                memory.write(KEYS[20:30], VALUES[20:30])
            small.expand(64)
            assert np.array_equal(small.matrix, large.matrix)
            assert small.flags == large.flags == Flag.DECAYED | Flag.FORGOTTEN, "solved anew, it is not bare any more"


def test_expansion_from_given_pairs_holds_those_and_no_others(tmp_path: Path) -> None:
    with create(tmp_path / "memory") as memory, create(tmp_path / "other", 32) as other:
        memory.write(KEYS[:20], VALUES[:20])
        memory.expand(32, pairs=(KEYS[10:40], VALUES[10:40]))
        other.write(KEYS[10:40], VALUES[10:40])
        assert np.array_equal(memory.matrix, other.matrix)
        assert memory.flags == Flag.FOREIGN_PAIRS and memory.write_count == 30
        with pytest.raises(emm.HistoryError, match="never held all of them"):
            memory.expand(64)
        before = memory.digest
        with pytest.raises(emm.InputError):
            memory.expand(64, pairs=(KEYS[:3], VALUES[:2]))
        assert memory.digest == before
        digest = memory.digest
    with emm.open(str(tmp_path / "memory")) as again:
        assert again.digest == digest


def test_bare_expansion_warns_doubles_and_leaves_recall_as_it_was(tmp_path: Path) -> None:
    with create(tmp_path / "memory") as memory:
        memory.write(KEYS[:20], VALUES[:20])
        before = memory.recall(KEYS[:20])
        with pytest.raises(emm.InputError, match="only doubles"):
            memory.expand(48, bare=True)
        with pytest.raises(emm.InputError, match="takes no pairs"):
            memory.expand(32, (KEYS, VALUES), bare=True)
        with pytest.warns(UserWarning, match="bare expansion"):
            memory.expand(32, bare=True)
        assert np.array_equal(memory.recall(KEYS[:20]), before)
        assert memory.flags == Flag.BARE_EXPANDED and "bare expansion" in memory.notices[0]
        digest = memory.digest
    with emm.open(str(tmp_path / "memory")) as again:
        assert again.digest == digest and again.flags == Flag.BARE_EXPANDED


def test_s1_expansion_beyond_the_limit_is_refused_before_it_is_solved(tmp_path: Path) -> None:
    create(tmp_path / "memory").close()
    with emm.open(str(tmp_path / "memory"), "a", state_bytes_max=8000) as memory:
        memory.write(KEYS[:20], VALUES[:20])
        before = memory.digest
        for bare in (False, True):
            with pytest.raises(emm.LimitError) as caught:
                memory.expand(32, bare=bare)
            assert caught.value.rule == "S-1"
        assert memory.digest == before


# --- automatic expansion that cannot be ----------------------------------------------------------


def saturate(memory: emm.Memory, n_writes: int = 3) -> list[int]:
    return [memory.write(KEYS, VALUES) for _ in range(n_writes)]


def test_memory_that_cannot_expand_says_so_once_and_goes_on(tmp_path: Path) -> None:
    with create(tmp_path / "memory") as memory:
        memory.write(KEYS[:5], VALUES[:5])
        memory.checkpoint()
        memory.prune(keep=1, journal=True)
        memory.configure(expand_at=0.5)
        with pytest.warns(UserWarning, match="rank stays 16") as caught:
            assert saturate(memory) == [3, 4, 5]
        assert len([w for w in caught if "rank stays" in str(w.message)]) == 1
        assert memory.rank == 16 and memory.saturation > 0.5
        assert len(memory.notices) == 1 and "pruned" in memory.notices[0]


def test_damaged_journal_does_not_fail_the_write_that_found_it(tmp_path: Path) -> None:
    """The write is durable when the expansion begins. An error from the old journal once reached its caller, who
    would have written the pairs a second time."""
    memory = create(tmp_path / "memory")
    memory.write(KEYS[:5], VALUES[:5])
    memory.checkpoint()
    segment = tmp_path / "memory" / "0000000000000001.wal"
    data = bytearray(segment.read_bytes())
    data[300] ^= 1
    segment.write_bytes(data)
    memory.configure(expand_at=0.5)
    with pytest.warns(UserWarning, match="rank stays 16"):
        assert saturate(memory, 1) == [3]
    assert memory.lsn == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert saturate(memory, 2) == [4, 5], "and it is not tried again at every write"
    digest = memory.digest
    memory.close()
    with emm.open(str(tmp_path / "memory")) as again:
        assert again.digest == digest


def test_automatic_expansion_stops_at_key_dim(tmp_path: Path) -> None:
    with create(tmp_path / "memory", expand_at=0.3) as memory:
        saturate(memory)
        assert memory.rank == 64 and memory.saturation > 0.3 and memory.notices == ()


@pytest.mark.parametrize("rule", ["outer-product", "gated-delta"])
def test_rules_without_p_do_not_expand_by_themselves(tmp_path: Path, rule: str) -> None:
    with create(tmp_path / "memory", expand_at=0.1, rule=rule) as memory:
        saturate(memory, 1)
        assert memory.rank == 16
        memory.expand(32)
        assert memory.rank == 32 and memory.inverse_gram is None


def test_write_from_inside_a_resolve_is_not_lost_in_silence(tmp_path: Path) -> None:
    """A snapshot of the re-solved state, without the pair that `progress` wrote, once claimed to hold its commit."""
    with create(tmp_path / "memory") as memory:
        memory.write(KEYS[:10], VALUES[:10])
        with pytest.raises(emm.InputError, match="written to while"):
            memory.expand(32, progress=lambda done, whole: memory.write(KEYS[20:21], VALUES[20:21]))
        assert memory.rank == 16 and memory.lsn == 2
        memory.expand(32)
        assert memory.write_count == 11
