"""Rows recomputed by themselves equal the rows of a whole replay, to the bit, under every rule and operation.

Red when the gains depend on M, when a row meets another, when an expansion or a forget is applied to the wrong rows, or
when more than the damaged rows is replayed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import emm
from emm.layout import BLOCK_BYTES
from emm.repair import rows as rows_module
from emm.repair.rows import RowReplayer, blocks_needed, merged, row_index, rows_of_blocks
from emm.storage.replay import Replayer
from emm.storage.segment_file import SegmentReader
from emm.vfs import LocalDirectory
from tests.repair.lab import History, pairs, read_files, repair, shape_of, smeared

DIM, KEY_DIM = 600, 64


def lived(path: Path, rule: str) -> None:
    """Writes with every gate, a bare expansion, forgets, and unlearning where the rule can."""
    with emm.create(path, dim=DIM, rank=16, key_dim=KEY_DIM, rule=rule, expand_at=0) as memory:
        keys, values = pairs(1, 9, DIM, KEY_DIM)
        memory.write(keys, values, write_gate=0.5)
        if rule == "preconditioned":
            memory.unlearn(keys[3:5], values[3:5], write_gate=0.5)
        memory.write(*pairs(2, 20, DIM, KEY_DIM), decay_gate=0.97)
        memory.expand(32, bare=True)
        memory.forget(pairs(3, 3, DIM, KEY_DIM)[0])
        memory.write(*pairs(4, 18, DIM, KEY_DIM))


@pytest.mark.filterwarnings("ignore:bare expansion")
@pytest.mark.parametrize("rule", ["preconditioned", "gated-delta", "outer-product"])
def test_some_rows_are_replayed_as_all_are(rule: str, tmp_path: Path) -> None:
    lived(tmp_path / "m", rule)
    directory = LocalDirectory(tmp_path / "m")
    first = emm.decode_snapshot((tmp_path / "m" / "0000000000000001.emm").read_bytes())
    chosen = np.array([0, 7, 8, 255, 599])
    state = first.state.copy()
    part = type(state)(
        rows_module.replace(state.parameters, dim=len(chosen)), state.matrix[chosen].copy(), state.gain, state.flags
    ).copy()
    whole, some = Replayer(state), RowReplayer(Replayer(part), chosen, DIM)
    for segment in (1,):
        for logged in SegmentReader(directory, segment, first.uuid).commits():
            whole.apply(logged)
            some.apply(logged)
    assert some.state.matrix.tobytes() == whole.state.matrix[chosen].tobytes()
    assert (some.state.gain is None) == (whole.state.gain is None) and some.state.flags == whole.state.flags
    if some.state.gain is not None and whole.state.gain is not None:
        assert some.state.gain.pbar.tobytes() == whole.state.gain.pbar.tobytes()
        assert some.state.gain.u.tobytes() == whole.state.gain.u.tobytes()
    assert some.write_count == whole.write_count


@pytest.mark.filterwarnings("ignore:bare expansion")
@pytest.mark.parametrize("rule", ["preconditioned", "gated-delta", "outer-product"])
def test_each_block_comes_back_under_each_rule(rule: str, tmp_path: Path) -> None:
    """Also across a bare expansion: the base has half the columns."""
    lived(tmp_path / "m", rule)
    files = read_files(tmp_path / "m")
    name = max(each for each in files if each.endswith(".emm"))
    shape = shape_of(files[name])
    assert shape.n_blocks == 2
    (tmp_path / "a").mkdir()
    for block in range(shape.n_blocks):
        hurt = smeared(files[name], shape.payload_offset + block * BLOCK_BYTES, 4000)
        outcome = repair(tmp_path / "a", {**files, name: hurt})
        assert outcome.files is not None and outcome.files[name] == files[name]


def test_only_the_damaged_rows_are_replayed(history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    apply = RowReplayer.apply_record

    def watched(self: RowReplayer, record):  # type: ignore[no-untyped-def]
        seen.append(len(self.state.matrix))
        return apply(self, record)

    monkeypatch.setattr(RowReplayer, "apply_record", watched)
    name = history.snapshots[-1]
    start = shape_of(history.files[name]).payload_offset
    outcome = repair(tmp_path, history.damaged({name: smeared(history.files[name], start + BLOCK_BYTES, 900)}))
    assert outcome.same_files(history)
    assert set(seen) == {342} and len(seen) <= 4  # rows 341–682, from the generation before


def test_ranges_of_rows() -> None:
    assert merged([(5, 6), (0, 2), (3, 3), (6, 9)]) == ((0, 3), (5, 9))
    assert row_index(((0, 1), (4, 4))).tolist() == [0, 1, 4]


def test_a_damaged_p_needs_no_row_of_m(history: History) -> None:
    """A state has at least one row, so one is taken; the base must hold P, U and the scalars whole."""
    shape = shape_of(history.files[history.snapshots[0]])
    assert rows_of_blocks(shape, [1]) == ((341, 682),)
    assert blocks_needed(shape, ((0, 0),)) == [0, 2] and blocks_needed(shape, ((341, 341),)) == [0, 1, 2]
