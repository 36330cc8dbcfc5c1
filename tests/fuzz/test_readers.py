"""Readers and verify take no lock, so a writer may change the directory between any two of their calls.

Red when a reader fails or falls behind what was acknowledged when it began, or when verify takes a checkpoint, a prune
or a take-over in progress for damage.
"""

from __future__ import annotations

import pytest

from emm_fuzz.readers import read_beside, views_of

WORKLOADS = [
    ("write", "checkpoint", "write", "checkpoint", "write", "checkpoint", "prune-journal"),
    ("write", "resolve", "write", "kill", "unlearn", "close"),
]


@pytest.mark.parametrize("workload", WORKLOADS, ids=" ".join)
def test_a_reader_beside_a_writer_finds_an_acknowledged_state(workload: tuple[str, ...]) -> None:
    tally = read_beside(workload)
    assert tally.violations == []
    assert tally.reads == tally.checks > 700 and tally.views >= 10


def test_every_change_is_a_view() -> None:
    """A checkpoint shows the seal, then the snapshot; a prune takes one name after another."""
    names = [sorted(view.image or ()) for view in views_of(("write", "checkpoint", "prune"))]
    assert names[0] == ["0000000000000001.emm"]
    assert names[-1] == ["0000000000000001.wal", "0000000000000002.emm"]
    assert len(names) >= 6
