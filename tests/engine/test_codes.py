"""Codes rule rows out and never the right one: a quarter of the memory is read, and answers stay exact.

Red when: a score lies beyond its margin; a search reads the vectors although codes rule them out, or trusts codes that
rule out too little, are damaged or are not there; a loop that computes wrong results is used.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emm_engine import loops as loops_module
from emm_engine.loops import INT32_MAX, Loops, is_right, loops, query_max
from emm_engine.matrices import packed as packed_module
from emm_engine.vectors import segment as segment_module
from emm_engine.vectors.codes import Codes, coded
from emm_engine.vectors.exact import ExactVectors
from emm_engine.vectors.log import segments_path
from emm_engine.vectors.sealing import Tuning
from emm_engine.vectors.segment import CODES, Segment
from emm_engine.vectors.segmented import SegmentedVectors
from tests.engine.vector_store_contract import FINGERPRINT, NAME, clustered, hashes, unit

DIM = 64
N = 3000
PLAIN = Tuning(tail_max=200, index_min=1 << 30)  # no index

compiled = pytest.mark.skipif(loops() is None, reason="needs a C compiler: the engine's loops are not built")


def opened(folder: Path) -> SegmentedVectors:
    return SegmentedVectors(folder, DIM, FINGERPRINT, PLAIN, background=False)


def stored(folder: Path, rows: np.ndarray) -> SegmentedVectors:
    store = opened(folder)
    ids = np.arange(len(rows))
    store.add(NAME, ids, rows, hashes(ids))
    return opened(folder)


def answers(store: Any, rows: np.ndarray) -> list[tuple[list[int], list[float]]]:
    """To questions with and without a filter, for few and for many."""
    found = []
    for number, query in enumerate([*clustered(4, 3, DIM), rows[17], np.zeros(DIM, np.float32)]):
        for k in (1, 10, 250):
            allowed = np.arange(0, len(rows), 2) if number % 2 else None
            ids, scores = store.search(NAME, query, k, allowed)
            found.append((ids.tolist(), scores.tolist()))
    return found


def right(folder: Path, rows: np.ndarray) -> list[tuple[list[int], list[float]]]:
    return answers(ExactVectors(folder, DIM, FINGERPRINT), rows)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many vectors were read, and how often all of them."""
    counted = {"vectors": 0, "everything": 0}
    vectors, mapped = Segment.vectors, Segment.mapped

    def counting(self: Segment, places: np.ndarray) -> np.ndarray:
        counted["vectors"] += len(places)
        return vectors(self, places)

    def counting_all(self: Segment, places: np.ndarray | None) -> np.ndarray:
        counted["everything"] += places is None
        return mapped(self, places)

    monkeypatch.setattr(Segment, "vectors", counting)
    monkeypatch.setattr(Segment, "mapped", counting_all)
    return counted


ROWS = {
    "unit lengths": unit(500, 1, DIM),
    "one number": np.eye(DIM, dtype=np.float32),
    "nothing": np.zeros((3, DIM), np.float32),
    "tiny": unit(50, 2, DIM) * np.float32(1e-30),
    "beyond normal numbers": unit(50, 2, DIM) * np.float32(1e-43),
    "large": unit(50, 3, DIM) * np.float32(1e6),
    "of all lengths": unit(300, 4, DIM) * np.logspace(-8, 4, 300, dtype=np.float32)[:, None],
}


@compiled
@pytest.mark.parametrize("kind", ROWS)
def test_every_score_lies_within_its_margin(kind: str) -> None:
    rows, compiled_loops = ROWS[kind], loops()
    assert compiled_loops is not None
    codes = Codes(*coded(rows), compiled_loops)
    for query in [*unit(5, 9, DIM), *np.eye(DIM, dtype=np.float32)[:2], 1e-20 * unit(1, 8, DIM)[0], rows[0]]:
        estimates = codes.estimates(query)
        exact = rows.astype(np.float64) @ query.astype(np.float64)
        margins = estimates.highest(np.arange(len(rows))) - estimates.values
        assert (np.abs(exact - estimates.values) <= margins).all()
        assert (exact.astype(np.float32) <= estimates.highest(np.arange(len(rows)))).all()
        assert (margins <= estimates.margin_max * (1 + 1e-12)).all()
        if kind == "unit lengths":
            assert estimates.margin_max <= 0.03 * np.linalg.norm(query)  # worth having


@compiled
@pytest.mark.parametrize("make", [clustered, unit])
def test_answers_are_exact_from_the_vectors_of_a_few_rows(tmp_path: Path, make: Any, looks: dict[str, int]) -> None:
    rows = make(N, 0, DIM)
    store = stored(tmp_path, rows)
    query = make(1, 5, DIM)[0]
    order = np.lexsort((np.arange(N), -(rows.astype(np.float64) @ query).astype(np.float32)))
    assert store.search(NAME, query, 10)[0].tolist() == order[:10].tolist()
    assert looks["vectors"] < N / 20 and not looks["everything"]
    assert answers(store, rows) == right(tmp_path, rows)


@compiled
def test_dead_rows_are_not_found(tmp_path: Path) -> None:
    rows = clustered(N, 0, DIM)
    store = stored(tmp_path, rows)
    store.remove(NAME, np.arange(0, N, 3))
    for again in (store, opened(tmp_path)):
        assert answers(again, rows) == right(tmp_path, rows)


@compiled
def test_where_codes_rule_out_too_little_everything_is_looked_at(tmp_path: Path, looks: dict[str, int]) -> None:
    rows = unit(1, 1, DIM) + np.float32(1e-4) * unit(N, 2, DIM)  # closer together than codes can tell
    store = stored(tmp_path, rows)
    assert (
        store.search(NAME, rows[5], 10)[0].tolist()
        == ExactVectors(tmp_path, DIM, FINGERPRINT).search(NAME, rows[5], 10)[0].tolist()
    )
    assert looks["everything"] == 1
    assert answers(store, rows) == right(tmp_path, rows)


def test_without_the_compiled_loop_answers_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clustered(N, 0, DIM)
    monkeypatch.setattr(segment_module, "loops", lambda: None)
    assert answers(stored(tmp_path, rows), rows) == right(tmp_path, rows)


@compiled
@pytest.mark.parametrize("at", [0, 1234, -1])
def test_damaged_codes_are_not_believed_and_made_anew(tmp_path: Path, looks: dict[str, int], at: int) -> None:
    rows = clustered(N, 0, DIM)
    stored(tmp_path, rows)
    (path,) = segments_path(tmp_path, NAME).rglob(CODES)
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)
    store = opened(tmp_path)
    assert answers(store, rows) == right(tmp_path, rows) and looks["everything"]
    assert any(CODES in done for done in store.maintain(NAME))
    looks["everything"] = 0
    again = opened(tmp_path)
    again.search(NAME, rows[0], 10)
    assert not looks["everything"] and again.maintain(NAME) == []


@compiled
def test_a_segment_of_an_earlier_version_answers_and_gets_its_codes(tmp_path: Path) -> None:
    from tests.engine.test_segments import write_set

    rows = clustered(N, 0, DIM)
    stored(tmp_path, rows)
    (path,) = segments_path(tmp_path, NAME).rglob(CODES)
    path.unlink()
    manifest = path.with_name("manifest.json")
    said = json.loads(manifest.read_bytes())
    del said["files"][CODES]
    manifest.write_bytes(segment_module.canonical(said))
    line = json.loads((segments_path(tmp_path, NAME) / "set.json").read_bytes().splitlines()[0])
    line["segments"][0]["manifest_sha256"] = segment_module.sha256_of(manifest)
    write_set(tmp_path, segment_module.canonical(line))
    store = opened(tmp_path)
    assert answers(store, rows) == right(tmp_path, rows) and store._load(NAME).n_sealed == N
    assert store.maintain(NAME) == [
        f"{CODES} of segment {path.parent.name} is not there",
        f"merged 1 segments of {N} vectors",
    ]
    assert [each.name for each in segments_path(tmp_path, NAME).rglob(CODES)] == [CODES]
    assert answers(opened(tmp_path), rows) == right(tmp_path, rows)


# --- the loops ---------------------------------------------------------------------------------------


@compiled
@pytest.mark.parametrize(("n", "dim"), [(0, 5), (1, 1), (7, 3), (130, 256), (65, 1023)])
def test_loops_compute_what_numpy_computes(n: int, dim: int) -> None:
    found, random = loops(), np.random.default_rng(n)
    assert found is not None
    codes = random.integers(-128, 128, (n, dim)).astype(np.int8)
    query = random.integers(-query_max(dim), query_max(dim) + 1, dim).astype(np.int16)
    assert found.code_products(codes, query).tolist() == (codes.astype(np.int64) @ query.astype(np.int64)).tolist()
    columns, tables = random.integers(0, 256, (dim, n)).astype(np.uint8), random.standard_normal((dim, 256))
    assert np.array_equal(found.table_sums(columns, tables), packed_module._sums(columns, tables))


@pytest.mark.parametrize("dim", [1, 2, 256, 4096, 1 << 20])
def test_no_sum_overflows(dim: int) -> None:
    assert 0 < query_max(dim) * 128 * dim <= INT32_MAX or query_max(dim) == 2**15 - 1


@compiled
def test_loops_that_are_wrong_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    good = loops()
    assert good is not None

    class Saturating(Loops):
        def __init__(self) -> None: ...

        def code_products(self, codes: np.ndarray, query: np.ndarray) -> np.ndarray:
            assert good is not None
            return np.clip(good.code_products(codes, query), -(2**30), 2**30)

        def table_sums(self, codes: np.ndarray, tables: np.ndarray) -> np.ndarray:
            assert good is not None
            return good.table_sums(codes, tables)

    class Shuffled(Saturating):
        def code_products(self, codes: np.ndarray, query: np.ndarray) -> np.ndarray:
            assert good is not None
            return good.code_products(codes, query)

        def table_sums(self, codes: np.ndarray, tables: np.ndarray) -> np.ndarray:
            assert good is not None
            return good.table_sums(codes[::-1].copy(), tables[::-1].copy())

    assert is_right(good) and not is_right(Saturating()) and not is_right(Shuffled())
    monkeypatch.setattr(loops_module, "is_right", lambda candidate: False)
    loops.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="wrong results"):
            assert loops() is None
    finally:
        loops.cache_clear()
