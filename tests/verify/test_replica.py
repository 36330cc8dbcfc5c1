"""A memory against a replica: equal, behind, ahead, diverged, foreign, missing; and bytes.

Each test says which change to `emm/verify/replica.py` would turn it red.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import emm
from emm.errors import StorageError
from emm.vfs.local import LocalDirectory
from spec.vectors.cell import Mlstm
from tests.verify.test_ledger import codes, grow
from tests.verify.test_report import put
from tests.verify.test_scrub import flipped, run

NEWEST = "0000000000000003.emm"


@pytest.fixture
def twins(tmp_path: Path, small) -> tuple[Path, Path]:
    return put(tmp_path / "own", small), put(tmp_path / "replica", small)


def compared(own: Path, replica: Path, **asked):
    targets, totals = run(own, against=str(replica), **asked)
    return [each for each in codes(targets) if each.startswith("replica-")], totals.exit_code, targets


@pytest.mark.parametrize("jobs", [1, 2])
def test_equal_ahead_behind_and_diverged(twins, jobs):
    """Red when byte order, file names or times decide instead of (uuid, lsn, chain)."""
    own, replica = twins
    assert compared(own, replica, jobs=jobs)[:2] == (["replica-equal"], 0)
    grow(own)
    assert compared(own, replica, jobs=jobs)[:2] == (["replica-behind"], 0)
    found, code, targets = compared(replica, own, jobs=jobs)
    assert (found, code) == (["replica-ahead"], 3)
    (ahead,) = (each for each in targets[0].findings if each.code == "replica-ahead")
    assert ahead.lsns == (6, 6) and str(own) in ahead.repair
    grow(replica, 77)
    assert compared(own, replica, jobs=jobs)[:2] == (["replica-diverged"], 4)
    grow(replica, 78)
    assert compared(own, replica)[:2] == (["replica-diverged"], 4)
    assert compared(replica, own)[:2] == (["replica-diverged"], 4)


def test_another_memory_or_none(twins, tmp_path):
    """Red when a replica is believed because of its name, or a missing one is passed over."""
    own, _ = twins
    emm.create(tmp_path / "other", dim=16, rank=16, key_dim=16).close()
    assert compared(own, tmp_path / "other")[:2] == (["replica-foreign"], 6)
    assert compared(own, tmp_path / "nothing")[:2] == (["replica-missing"], 10)


def test_trees_are_compared_place_by_place(tmp_path, small, killed):
    """Red when a memory below the root is compared with another one of the replica."""
    for root in ("own", "replica"):
        put(tmp_path / root / "x" / "deep", small)
        put(tmp_path / root / "y", killed)
    put(tmp_path / "own" / "z", small)
    found, code, targets = compared(tmp_path / "own", tmp_path / "replica")
    assert found == ["replica-equal", "replica-equal", "replica-missing"] and code == 10
    kinds = [each.kind for each in targets]
    assert kinds == ["memory", "replica memory", "memory", "replica memory", "memory"]


def test_a_damaged_replica_is_found_and_does_not_blame_the_memory(twins, small):
    """Red when the replica is not checked as deeply as the memory, or its damage is the memory's."""
    own, replica = twins
    (replica / NEWEST).write_bytes(flipped(small[NEWEST], 5000, 5005))
    found, code, targets = compared(own, replica)
    assert found == ["replica-equal", "replica-differs"] and code == 3
    assert str(targets[1].verdict) == "damaged-repairable" and targets[1].kind == "replica memory"
    differs = targets[0].findings[-1]
    assert differs.offset == 5000 and differs.file == f"{own}/{NEWEST}"


def test_a_loss_that_the_replica_can_mend_is_repairable(twins, small):
    """Red when damage counts as loss while a whole replica stands beside it. The repair is tried."""
    from emm.repair import execute, plan

    own, replica = twins
    for name in small:
        if name.endswith(".emm"):
            (own / name).write_bytes(flipped(small[name], 5000, 5005))
        else:
            (own / name).write_bytes(flipped(small[name], 200, 205))
    assert emm.verify(own).exit_code == 4
    _, code, targets = compared(own, replica)
    assert code == 3 and all(each.repair for each in targets[0].findings if each.severity == "damage")
    execute(plan(own, against=replica), own.parent / "mended")
    assert emm.verify(own.parent / "mended").exit_code == 0


def test_two_files_are_compared_by_their_bytes(twins, small):
    """Red when a single file has no replica."""
    own, replica = twins
    assert compared(own / NEWEST, replica / NEWEST)[:2] == ([], 0)
    (replica / NEWEST).write_bytes(small["0000000000000002.emm"])
    found, code, _ = compared(own / NEWEST, replica / NEWEST)
    assert found == ["replica-differs"] and code != 0


def test_a_replica_that_was_pruned_is_no_damage(twins):
    """Red when files that only one of the two has count against either."""
    own, replica = twins
    grow(own)
    shutil.copytree(own, replica, dirs_exist_ok=True)
    with emm.open(replica, "a") as memory:
        memory.prune(keep=1, journal=True)
    found, code, _ = compared(own, replica)
    assert found[0] in ("replica-equal", "replica-behind") and code == 0


# --- loose files ------------------------------------------------------------------------------------


def cell(path: Path, number: float) -> None:
    made = Mlstm(8)
    made.write(np.ones(8, np.float32), np.full(8, number, np.float32))
    path.write_bytes(made.bytes())


def test_loose_files_of_a_tree_are_compared_with_those_of_their_names(tmp_path, small):
    """Red when only memories are compared: a v3 file or a copy that differs, or has no replica, is passed over."""
    for root in ("own", "replica"):
        put(tmp_path / root / "m", small | {"copy.emm": small[NEWEST]})
        put(tmp_path / root / "cells", {})
        for name in ("a.v3", "b.v3"):
            cell(tmp_path / root / "cells" / name, 1)
    assert compared(tmp_path / "own", tmp_path / "replica")[:2] == (["replica-equal"], 0)
    cell(tmp_path / "replica" / "cells" / "b.v3", 2)
    (tmp_path / "replica" / "m" / "copy.emm").write_bytes(small["0000000000000002.emm"])
    cell(tmp_path / "own" / "cells" / "c.v3", 1)
    found, code, targets = compared(tmp_path / "own", tmp_path / "replica")
    assert found == ["replica-differs", "replica-missing", "replica-equal", "replica-differs"] and code == 6
    told = {Path(each.url).name: each for each in targets if not each.kind.startswith("replica")}
    assert "cells/b.v3" in told["b.v3"].findings[-1].message and told["a.v3"].findings[1:] == ()
    assert told["c.v3"].findings[-1].expected == f"{tmp_path}/replica/cells/c.v3"
    assert [each.kind for each in targets].count("replica v3") == 2


def test_a_memory_is_never_compared_with_a_loose_file(twins, small):
    """Red when a copy of a snapshot stands for a replica whose memory is gone."""
    own, replica = twins
    for name in small:
        (replica / name).unlink()
    (replica / "copy.emm").write_bytes(small[NEWEST])
    assert compared(own, replica)[:2] == (["replica-missing"], 10)


def test_a_replica_that_cannot_be_read_is_not_called_missing(twins, monkeypatch):
    """Red when a refused or failing medium counts as no replica at all."""
    own, replica = twins

    def refused(self):
        if self.path == str(replica):
            raise StorageError("cannot list the directory: Permission denied", file=self.url)
        return listed(self)

    listed = LocalDirectory.list
    monkeypatch.setattr(LocalDirectory, "list", refused)
    found, code, targets = compared(own, replica)
    assert (found, code) == (["replica-unknown"], 6) and "Permission denied" in targets[0].findings[-1].message
