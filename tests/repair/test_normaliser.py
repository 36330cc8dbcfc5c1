"""A memory upgraded from v3 is repaired like any other: its normaliser is part of the state.

Red when a rebuilt block holds other bits of the normaliser than the original, or a replay from a base that has one
keeps it past the first write.
"""

from __future__ import annotations

from pathlib import Path

import emm
from emm.layout import BLOCK_BYTES, Flag
from emm.upgrading import plan_upgrade, upgrade
from spec.vectors.v3 import written
from tests.repair.lab import pairs, read_files, repair, shape_of, smeared

DIM = 180  # rank 192: M and P̄ of 2.1 and 2.3 blocks


def test_every_block_of_every_generation_comes_back(tmp_path: Path) -> None:
    (tmp_path / "cell.v3").write_bytes(written(DIM, 40).bytes())
    with upgrade(plan_upgrade(tmp_path / "cell.v3", tmp_path / "m")) as memory:
        memory.forget(pairs(1, 2, DIM, DIM)[0])
        memory.configure(expand_at=0.5)
        memory.checkpoint()
        assert Flag.NORMALISER in memory.flags
        memory.write(*pairs(2, 20, DIM, DIM))
    files = read_files(tmp_path / "m")
    names = sorted(name for name in files if name.endswith(".emm"))
    assert len(names) == 3
    (tmp_path / "a").mkdir()
    for name, kept in zip(names[1:], (True, False), strict=True):
        shape = shape_of(files[name])
        assert ("normaliser" in [region.name for region in shape.regions]) is kept and shape.n_blocks >= 4
        for block in range(shape.n_blocks):
            hurt = smeared(files[name], shape.payload_offset + block * BLOCK_BYTES, 300)
            outcome = repair(tmp_path / "a", {**files, name: hurt})
            assert outcome.files is not None and outcome.files[name] == files[name]


def test_a_lost_first_generation_is_a_loss_that_is_told(tmp_path: Path) -> None:
    """An upgrade's state is in no journal: its damaged block cannot be had, and no repair is made up for it."""
    (tmp_path / "cell.v3").write_bytes(written(DIM, 40).bytes())
    upgrade(plan_upgrade(tmp_path / "cell.v3", tmp_path / "m")).close()
    files = read_files(tmp_path / "m")
    (name,) = files
    hurt = smeared(files[name], shape_of(files[name]).payload_offset, 300)
    (tmp_path / "a").mkdir()
    assert repair(tmp_path / "a", {name: hurt}).result is None
    assert emm.verify(tmp_path / "a" / "damaged").exit_code == 4
