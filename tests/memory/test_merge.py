"""Merging: the memory of all the pairs of all the sources, or refused.

Red when the merged state differs from one pass over all pairs by more than rounding, when a source that is not a ridge
solution is accepted, when a source is changed, or when the merge is journalled instead of published.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

import emm
from emm.codec.snapshot import decode_snapshot
from emm.layout import Flag, Origin
from emm.testing.capacity import text_like_keys, unit_values

DIM, KEY_DIM, RANK = 16, 64, 32
KEYS, VALUES = text_like_keys(120, KEY_DIM, 5), unit_values(120, DIM, 5)


def create(path: Path, **more: object) -> emm.Memory:
    shape: dict[str, object] = {"dim": DIM, "rank": RANK, "key_dim": KEY_DIM, "expand_at": 0.0, **more}
    return emm.create(str(path), **shape)  # type: ignore[arg-type]


def part(path: Path, rows: slice, **more: object) -> str:
    with create(path, **more) as memory:
        memory.write(KEYS[rows, : memory.key_dim], VALUES[rows, : memory.dim])
    return str(path)


def test_four_parts_merged_are_one_pass(tmp_path: Path) -> None:
    sources = [part(tmp_path / f"part-{i}", slice(30 * i, 30 * i + 30)) for i in range(4)]
    before = {path: sorted((each.name, each.read_bytes()) for each in Path(path).iterdir()) for path in sources}
    with emm.merge(sources, str(tmp_path / "merged")) as merged, create(tmp_path / "whole") as whole:
        whole.write(KEYS, VALUES)
        assert np.linalg.norm(merged.matrix - whole.matrix) < 1e-4 * np.linalg.norm(whole.matrix)
        assert np.linalg.norm(merged.inverse_gram - whole.inverse_gram) < 1e-3 * np.linalg.norm(whole.inverse_gram)
        assert (merged.write_count, merged.lsn, merged.generation) == (120, 0, 1)
        assert merged.flags == Flag.FOREIGN_PAIRS
        merged.write(KEYS[:2], VALUES[:2])
        merged.unlearn(KEYS[40:50], VALUES[40:50])
        with pytest.raises(emm.HistoryError):
            merged.expand(64)
    assert {path: sorted((each.name, each.read_bytes()) for each in Path(path).iterdir()) for path in sources} == before
    lineage = decode_snapshot((tmp_path / "merged" / "0000000000000001.emm").read_bytes()).lineage
    assert lineage.origin is Origin.MERGE


def test_open_memories_and_urls_may_be_mixed(tmp_path: Path) -> None:
    a, b = part(tmp_path / "a", slice(0, 20)), part(tmp_path / "b", slice(20, 50))
    with emm.open(a, "a") as first:
        first.write(KEYS[60:70], VALUES[60:70])
        with emm.merge([first, b], str(tmp_path / "merged"), metadata={"from": "two"}, expand_at=0.5) as merged:
            assert merged.write_count == 60 and merged.metadata == {"from": "two"} and merged.expand_at == 0.5
            assert merged.uuid not in (first.uuid,)
        assert first.write(KEYS[:1], VALUES[:1]) == 3


def test_merge_of_one_is_a_copy_up_to_rounding(tmp_path: Path) -> None:
    a = part(tmp_path / "a", slice(0, 50))
    with emm.merge([a], str(tmp_path / "merged")) as merged, emm.open(a) as source:
        assert np.linalg.norm(merged.matrix - source.matrix) < 1e-4 * np.linalg.norm(source.matrix)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("rank", {"rank": 48}),
        ("dim", {"dim": 8}),
        ("seed", {"seed": 7}),
        ("ridge", {"ridge": 1.0}),
        ("keeps no P", {"rule": "gated-delta"}),
    ],
)
def test_sources_that_differ_are_refused(tmp_path: Path, name: str, more: dict[str, object]) -> None:
    a, b = part(tmp_path / "a", slice(0, 20)), part(tmp_path / "b", slice(0, 20), **more)
    with pytest.raises(emm.InputError, match=f"source 1.*{name}"):
        emm.merge([a, b], str(tmp_path / "merged"))
    assert not (tmp_path / "merged").exists()


def test_source_that_is_no_ridge_solution_is_refused(tmp_path: Path) -> None:
    a = part(tmp_path / "a", slice(0, 20))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with create(tmp_path / "decayed") as memory:
            memory.write(KEYS[:20], VALUES[:20], decay_gate=0.999)
        with create(tmp_path / "bare", rank=16) as memory:
            memory.write(KEYS[:20], VALUES[:20])
            memory.expand(32, bare=True)
    for name, word in (("decayed", "decay"), ("bare", "rank was raised")):
        with pytest.raises(emm.InputError, match=f"source 1.*{word}"):
            emm.merge([a, str(tmp_path / name)], str(tmp_path / "merged"))
    assert not (tmp_path / "merged").exists()


def test_nothing_missing_or_taken(tmp_path: Path) -> None:
    a = part(tmp_path / "a", slice(0, 20))
    with pytest.raises(emm.InputError, match="nothing to merge"):
        emm.merge([], str(tmp_path / "merged"))
    with pytest.raises(emm.MissingError):
        emm.merge([a, str(tmp_path / "nowhere")], str(tmp_path / "merged"))
    with pytest.raises(emm.ExistsError):
        emm.merge([a], a)
    with emm.open(a, "a") as again:
        assert again.lsn == 1
