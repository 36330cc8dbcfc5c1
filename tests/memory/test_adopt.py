"""Adopting a state that was solved on a copy: a compare-and-swap of generations.

Red when a newer write is overwritten, when identity, LSN or threshold move, when a memory of another kind or a smaller
rank is taken, when what is written afterwards does not replay onto the adopted generation, or when the journal is
believed to hold the adopted pairs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import emm
from emm.layout import Flag
from emm.testing.capacity import text_like_keys, unit_values

DIM, KEY_DIM = 16, 64
KEYS, VALUES = text_like_keys(60, KEY_DIM, 3), unit_values(60, DIM, 3)


def create(path: Path, **more: object) -> emm.Memory:
    options: dict[str, object] = {"dim": DIM, "rank": 16, "key_dim": KEY_DIM, "expand_at": 0.0, **more}
    return emm.create(str(path), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", ["preconditioned", "gated-delta", "outer-product"])
@pytest.mark.parametrize("rank", [16, 32])
def test_the_adopted_state_is_the_next_generation_and_later_writes_replay_onto_it(
    rule: str, rank: int, tmp_path: Path
) -> None:
    with (
        create(tmp_path / "live", rule=rule, expand_at=0.9375) as live,
        create(tmp_path / "copy", rule=rule, rank=rank) as copy,
    ):
        live.write(KEYS[:20], VALUES[:20])
        copy.write(KEYS[20:50], VALUES[20:50])
        uuid, generation = live.uuid, live.generation
        assert live.adopt(copy, live.lsn) == live.generation == generation + 1
        assert np.array_equal(live.matrix, copy.matrix)
        assert (live.uuid, live.lsn, live.rank, live.write_count, live.expand_at) == (uuid, 1, rank, 30, 0.9375)
        assert live.flags & Flag.FOREIGN_PAIRS and not copy.flags & Flag.FOREIGN_PAIRS
        live.write(KEYS[50:], VALUES[50:])
        copy.write(KEYS[50:], VALUES[50:])
        expected = live.digest
        assert np.array_equal(live.matrix, copy.matrix)
    with emm.open(str(tmp_path / "live")) as again:
        assert (again.digest, again.lsn, again.write_count) == (expected, 2, 40)
    assert str(emm.verify(str(tmp_path / "live"), level="numeric").verdict) == "clean"


def test_a_newer_write_is_never_overwritten(tmp_path: Path) -> None:
    with create(tmp_path / "live") as live, create(tmp_path / "copy") as copy:
        copy.write(KEYS[:5], VALUES[:5])
        live.write(KEYS[:5], VALUES[:5])
        seen = live.lsn
        live.write(KEYS[5:10], VALUES[5:10])
        before = live.digest
        with pytest.raises(emm.FencedError, match="written to since"):
            live.adopt(copy, seen)
        assert (live.digest, live.write_count) == (before, 10)


def test_a_memory_of_another_kind_is_refused(tmp_path: Path) -> None:
    others = {"dim": 32, "key_dim": 128, "rule": "gated-delta", "seed": 9, "ridge": 1.0, "projection": "none"}
    with create(tmp_path / "live", rank=KEY_DIM) as live:
        for name, value in others.items():
            with (
                create(tmp_path / name, **{"rank": KEY_DIM, name: value}) as other,
                pytest.raises(emm.InputError, match="same kind"),
            ):
                live.adopt(other, 0)
        with create(tmp_path / "small") as small, pytest.raises(emm.InputError, match="rank only grows"):
            live.adopt(small, 0)
        assert live.generation == 1


def test_the_journal_is_not_believed_to_hold_the_adopted_pairs(tmp_path: Path) -> None:
    """The journal never held them: it may not be replayed for an expansion."""
    with create(tmp_path / "live") as live, create(tmp_path / "copy") as copy:
        copy.write(KEYS[:10], VALUES[:10])
        live.adopt(copy, 0)
        with pytest.raises(emm.HistoryError, match="not all at hand"):
            live.expand(32)
        live.unlearn(KEYS[:1], VALUES[:1], rank=16)
        copy.unlearn(KEYS[:1], VALUES[:1])
        assert np.array_equal(live.matrix, copy.matrix)
    with create(tmp_path / "reader") as reader:
        reader.close()
        with emm.open(str(tmp_path / "reader")) as opened, pytest.raises(emm.InputError, match="reading only"):
            opened.adopt(opened, 0)
