"""Repairing a memory that was upgraded from a v3 file: what no part of it can give back, that file still can.

Each test says what would turn it red.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

import emm
from emm.repair import plan
from emm.upgrading import plan_upgrade, upgrade
from spec.vectors.cell import Mlstm


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """An upgraded memory, written to once, whose two generations are both damaged beyond one bit."""
    cell = Mlstm(16)
    for number in range(5):
        cell.write(np.eye(16, dtype=np.float32)[number], np.full(16, number + 1, np.float32))
    (tmp_path / "cell.v3").write_bytes(cell.bytes())
    with upgrade(plan_upgrade(tmp_path / "cell.v3", tmp_path / "memory")) as made:
        made.write(np.ones((1, 16), np.float32), np.ones((1, 16), np.float32))
    return tmp_path / "memory"


def spoil(snapshot: Path) -> None:
    data = bytearray(snapshot.read_bytes())
    for place in (4200, 4300):
        data[place] ^= 0x11
    snapshot.chmod(0o644)
    snapshot.write_bytes(data)


def test_a_plan_with_losses_names_the_file_that_is_a_way_out(memory: Path) -> None:
    """Red when a keeper who still has the v3 file is not told that it can be upgraded again."""
    for snapshot in memory.glob("*.emm"):
        spoil(snapshot)
    found = plan(memory)
    (note,) = (each for each in found.notes if "upgraded from" in each)
    assert found.exit_code == 4 and "emm upgrade" in note and "without what was written since" in note
    assert hashlib.sha256((memory.parent / "cell.v3").read_bytes()).hexdigest() in note
    assert f"note: {note}" in found.lines()


def test_a_plan_without_losses_needs_no_way_out(memory: Path) -> None:
    """Red when every plan of such a memory speaks of upgrading again."""
    spoil(sorted(memory.glob("*.emm"))[-1])
    found = plan(memory)
    assert found.exit_code == 3 and not any("upgraded from" in each for each in found.notes)


def test_other_memories_have_none(tmp_path: Path) -> None:
    """Red when a memory that was never a v3 file is said to be one, or metadata of a person's own is believed."""
    with emm.create(tmp_path / "m", dim=16, rank=16, key_dim=16, metadata={"upgrade": "soon"}) as made:
        made.write(np.ones((1, 16), np.float32), np.ones((1, 16), np.float32))
    for snapshot in (tmp_path / "m").glob("*.emm"):
        spoil(snapshot)
    assert not any("upgraded from" in each for each in plan(tmp_path / "m").notes)
