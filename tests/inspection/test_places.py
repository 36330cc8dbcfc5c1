"""Views of other places than a local path: what fsspec reads gives the same answers.

Red when: a view goes past the `Directory` it was given, or compares other bytes than that directory's.
"""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

import emm
from emm import inspection


@pytest.fixture
def remote(lived: Path) -> str:
    url = "memory://inspected/lived"
    filesystem = fsspec.filesystem("memory")
    for each in lived.iterdir():
        filesystem.pipe(f"/inspected/lived/{each.name}", each.read_bytes())
    return url


def test_a_remote_memory_gives_the_same_views(lived: Path, remote: str) -> None:
    assert inspection.blocks(remote).blocks == inspection.blocks(lived).blocks
    assert inspection.rows(remote, 250, 260).rows == inspection.rows(lived, 250, 260).rows
    assert inspection.spectrum(remote).values == inspection.spectrum(lived).values
    assert inspection.header(remote).records == inspection.header(lived).records
    here, there = (emm.inspect(each, state=True, health=True) for each in (lived, remote))
    assert there.state == here.state and there.commits == here.commits
    assert there.health is not None and here.health is not None and there.health.verdict == here.health.verdict
    assert inspection.diff(lived, remote).relation == "the same commit 6"


def test_a_file_url_is_a_path(lived: Path) -> None:
    found = emm.inspect(f"file://{lived}", state=True, health=True)
    assert found.health is not None and found.health.healthy and found.lsn == 6


def test_memories_below_do_not_lend_their_damage(lived: Path, flip) -> None:
    """The health of a directory is that of the memory in it, not of one that lies below."""
    below = lived / "below"
    emm.create(below, dim=4, rank=16, key_dim=16).close()
    flip(below / "0000000000000001.emm", 20)
    found = emm.inspect(lived, health=True)
    assert found.health is not None and found.health.verdict == "clean" and found.health.n_snapshots == 3
