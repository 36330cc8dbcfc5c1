"""Segments, their indexes and their merges: fast where it is safe, exact where it is not.

Red when: an open reads the sealed part of the log, or the vectors; a filter or tombstones thin out what an index finds;
an index is believed that misses too much; an index file that nobody built is loaded; a merge loses what was removed
while it ran, or leaves segments to pile up; a store without Annoy cannot go on where one with it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emm_engine.vectors import log as log_module
from emm_engine.vectors import merge as merge_module
from emm_engine.vectors.choice import open_vectors
from emm_engine.vectors.exact import ExactVectors
from emm_engine.vectors.guard import RecallGuard
from emm_engine.vectors.index import Index, build, load
from emm_engine.vectors.log import log_path, segments_path
from emm_engine.vectors.sealing import Tuning, seal
from emm_engine.vectors.searching import search
from emm_engine.vectors.segment import canonical
from emm_engine.vectors.segmented import SegmentedVectors
from tests.engine.vector_store_contract import DIM, FINGERPRINT, NAME, clustered, expected, found, hashes, put, unit

TUNING = Tuning(tail_max=200, index_min=1600, trees=4)
N = 4000


def opened(folder: Path, tuning: Tuning = TUNING) -> SegmentedVectors:
    return SegmentedVectors(folder, DIM, FINGERPRINT, tuning, background=False)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """One indexed segment of 4,000 vectors, for tests that only read."""
    folder, rows = tmp_path_factory.mktemp("indexed"), clustered(N)
    store = opened(folder)
    put(store, np.arange(N), rows)
    assert store.maintain(NAME) == [f"merged 1 segments of {N} vectors"]
    return folder, rows


def through_index(store: SegmentedVectors, query: np.ndarray, k: int) -> np.ndarray:
    ids, _, indexed = search(store._load(NAME), query, k, None, 1)
    assert indexed
    return ids


def best_of(rows: np.ndarray, ids: np.ndarray, query: np.ndarray, k: int) -> np.ndarray:
    return ids[np.lexsort((ids, -(rows[ids] @ query)))[:k]]


def share_found(store: SegmentedVectors, rows: np.ndarray, alive: np.ndarray) -> float:
    pairs = ((through_index(store, query, 10), best_of(rows, alive, query, 10)) for query in clustered(40, 5))
    return sum(len(np.intersect1d(*pair)) for pair in pairs) / 400


# --- opening ---------------------------------------------------------------------------------------


def test_opening_reads_neither_the_sealed_log_nor_the_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n, dim = 12_000, 256
    store = SegmentedVectors(tmp_path, dim, FINGERPRINT, background=False)
    ids = np.arange(n)
    store.add(NAME, ids, unit(n, dim=dim), hashes(ids))
    store.add(NAME, ids[:5] + n, unit(5, 1, dim), hashes(ids[:5]))
    read: list[int] = []
    real = log_module.read_ends

    def measured(*arguments: object) -> tuple[bytes, bytes, object]:
        answer = real(*arguments)  # type: ignore[arg-type]
        read.append(len(answer[1]))
        return answer

    monkeypatch.setattr(log_module, "read_ends", measured)
    tracemalloc.start()
    again = SegmentedVectors(tmp_path, dim, FINGERPRINT)
    assert again.count(NAME) == n + 5
    assert again.missing(NAME, {7: int(hashes(ids)[7]), n + 99: 0}).tolist() == [n + 99]
    allowed = ids[::200]
    assert len(again.search(NAME, unit(1, 2, dim)[0], 10, allowed)[0]) == 10
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read == [6 * (24 + 4 * dim)]  # the five, and the last sealed one, whose CRC binds the set to the log
    assert peak < n * dim * 4 / 4
    segment = again._load(NAME).parts[0].segment
    segment.mapped(None).sum()
    mapped = mapped_bytes()
    segment.release()
    assert mapped - mapped_bytes() > n * dim * 3


def mapped_bytes() -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssFile"))
    return 1024 * int(line.split()[1])


def test_few_vectors_make_no_second_file(tmp_path: Path) -> None:
    store = SegmentedVectors(tmp_path, DIM, FINGERPRINT)
    put(store, np.arange(4000), unit(4000))
    store.maintain(NAME)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [log_path(tmp_path, NAME)]


def test_the_tail_never_outgrows_its_limit(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for low in range(0, 1000, 90):
        put(store, np.arange(low, low + 90), unit(90, low))
        assert len(store._load(NAME).tail.ids) < TUNING.tail_max


# --- what an index finds -------------------------------------------------------------------------------


def test_an_index_finds_what_exact_search_finds_in_the_same_order(indexed: tuple[Path, np.ndarray]) -> None:
    folder, rows = indexed
    store, ids = opened(folder), np.arange(N)
    assert share_found(store, rows, ids) >= 0.97
    for query in clustered(10, 6):
        answer = through_index(store, query, 10)
        assert answer.tolist() == best_of(rows, np.sort(answer), query, 10).tolist()


def test_tombstones_do_not_thin_out_what_is_found(tmp_path: Path) -> None:
    store, rows, ids = opened(tmp_path, Tuning(200, 1600, 4, dead_share_max=0.9)), clustered(N), np.arange(N)
    put(store, ids, rows)
    store.maintain(NAME)
    dead = np.random.default_rng(3).choice(ids, N // 5, replace=False)
    store.remove(NAME, dead)
    alive = np.setdiff1d(ids, dead)
    assert share_found(store, rows, alive) >= 0.97
    assert share_found(opened(tmp_path), rows, alive) >= 0.97  # from the tombstones on disk


@pytest.mark.parametrize("every", [1, 2, 100])
def test_a_filter_does_not_thin_out_what_is_found(indexed: tuple[Path, np.ndarray], every: int) -> None:
    folder, rows = indexed
    store, allowed = opened(folder), np.arange(0, N, every)
    model = {int(identity): (rows[identity], 0) for identity in allowed}
    for query in clustered(6, 8):
        assert found(store, query, 10, allowed) == expected(model, query, 10)
    if every < 100:
        hits = 0
        for query in clustered(40, 5):
            answer, _, _ = search(store._load(NAME), query, 10, allowed, 1)
            hits += len(np.intersect1d(answer, best_of(rows, allowed, query, 10)))
        assert hits / 400 >= 0.97


def test_a_filter_that_leaves_out_all_that_is_near_is_answered_exactly(indexed: tuple[Path, np.ndarray]) -> None:
    folder, rows = indexed
    store = opened(folder)
    for query in clustered(5, 9):
        allowed = np.sort(np.argsort(rows @ query)[: N // 2])  # the farther half
        answer, _, _ = search(store._load(NAME), query, 10, allowed, 1)
        assert answer.tolist() == best_of(rows, allowed, query, 10).tolist()


def test_a_damaged_vector_that_the_index_proposes_is_read_from_the_log(tmp_path: Path) -> None:
    store, rows, query = opened(tmp_path), clustered(N), clustered(1, 9)[0]
    put(store, np.arange(N), rows)
    store.maintain(NAME)
    nearest = best_of(rows, np.arange(N), query, 1)[0]
    (path,) = segments_path(tmp_path, NAME).rglob("data.ninja")
    data = bytearray(path.read_bytes())
    data[(nearest * DIM + 3) * 4 + 3] ^= 0x80  # a sign
    path.write_bytes(data)
    again = opened(tmp_path)
    ids, _, indexed = again._answered(NAME, lambda view: search(view, query, 10, None, 1))
    assert ids[0] == nearest and not indexed and again.count(NAME) == N


def test_vectors_of_any_length_are_ranked_by_dot_product(tmp_path: Path) -> None:
    rows = clustered(3000) * np.random.default_rng(2).uniform(0.3, 1.0, (3000, 1)).astype(np.float32)
    facts = build(rows, tmp_path / "a.ann", 8)
    assert facts is not None
    data = (tmp_path / "a.ann").read_bytes()
    index = load(tmp_path / "a.ann", len(data), hashlib.sha256(data).hexdigest(), 3000, DIM)
    assert index is not None
    hits = 0
    for query in clustered(40, 3):
        hits += len(np.intersect1d(index.near(query, 20, facts.search_k), np.argsort(-(rows @ query))[:10]))
    assert hits >= 380


def test_an_index_is_built_alike_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert build(clustered(2000), tmp_path / name, 4) is not None
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_index_that_would_have_to_look_at_everything_is_not_kept(tmp_path: Path) -> None:
    assert build(unit(2000, dim=64), tmp_path / "a", 2) is None  # nothing is near anything
    assert not (tmp_path / "a").exists()


# --- the guard -------------------------------------------------------------------------------------


def test_a_bad_index_is_never_believed(indexed: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rows = indexed
    random = np.random.default_rng(1)
    monkeypatch.setattr(Index, "near", lambda self, query, want, search_k: random.integers(0, N, want))
    store, ids = opened(folder), np.arange(N)
    for query in clustered(60, 4):
        assert store.search(NAME, query, 10)[0].tolist() == best_of(rows, ids, query, 10).tolist()
    report = store.recall(NAME)
    assert report.search_k is not None and report.search_k * 3 > N  # which is to look at everything


def test_a_good_index_is_believed_and_reported(indexed: tuple[Path, np.ndarray]) -> None:
    folder, _ = indexed
    store = opened(folder)
    before = store.recall(NAME)
    assert before.n_checked == 0 and before.recall >= 0.98 and before.search_k
    for query in clustered(200, 4):
        store.search(NAME, query, 10)
    after = store.recall(NAME)
    assert 16 <= after.n_checked < 60 and after.recall >= 0.98


def test_too_many_misses_double_what_an_index_looks_at_and_start_a_new_trial() -> None:
    guard, exact = RecallGuard(), np.arange(10)
    for _ in range(16):
        assert guard.due()
        guard.learn(exact, exact)
    assert not guard.due() and guard.recall == 1.0
    while guard.factor == 1:
        guard.learn(exact + 1, exact)
    assert guard.factor == 2 and guard.recall is None and guard.due()


# --- files that nobody built -----------------------------------------------------------------------


def forged(folder: Path, name: str, change: Callable[[bytearray], None]) -> None:
    """Change a file of the one segment and vouch for it in manifest and set, as someone with bad intent would."""
    place = segments_path(folder, NAME)
    said = json.loads((place / "set.json").read_bytes().splitlines()[0])
    (entry,) = said["segments"]
    path = place / entry["name"] / name
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    manifest = json.loads((place / entry["name"] / "manifest.json").read_bytes())
    if name != "manifest.json":
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        (place / entry["name"] / "manifest.json").write_bytes(canonical(manifest))
    whole = (place / entry["name"] / "manifest.json").read_bytes()
    entry["manifest_sha256"] = hashlib.sha256(whole).hexdigest()
    write_set(folder, canonical(said))


def write_set(folder: Path, line: bytes) -> None:
    whole = line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"
    (segments_path(folder, NAME) / "set.json").write_bytes(whole)


NODE = 4 * (3 + DIM + 1)
Change = Callable[[bytearray], None]


def word(node: int, place: int, value: int) -> Change:
    """Put a number into a node of an index."""

    def change(data: bytearray) -> None:
        at = (node if node >= 0 else len(data) // NODE + node) * NODE + 4 * place
        data[at : at + 4] = value.to_bytes(4, "little", signed=True)

    return change


def over(part: slice, text: bytes) -> Change:
    return lambda data: data.__setitem__(part, text)


FORGERIES: dict[str, tuple[str, Change]] = {
    "a child far outside": ("index.ann", word(-1, 1, 2**31 - 1)),
    "a negative child": ("index.ann", word(-1, 2, -5)),
    "a cycle": ("index.ann", word(N + 3, 1, N + 3)),
    "a list longer than its node": ("index.ann", word(N + 3, 0, -1)),
    "an item that is a branch": ("index.ann", word(5, 0, 9)),
    "half a node": ("index.ann", lambda data: data.extend(b"1234")),
    "half of the codes": ("codes.bin", lambda data: data.__delitem__(slice(1000, None))),
    "more rows than there are": (
        "manifest.json",
        lambda data: over(slice(None), data.replace(b":4000", b":9000"))(data),
    ),
    "a shape beyond the file": ("vectors/shape.ninja", over(slice(0, 8), (2**40).to_bytes(8, "little"))),
    "another type": ("vectors/dtype.ninja", over(slice(None), b"float64")),
    "an id twice": ("rows.bin", lambda data: over(slice(20, 28), data[0:8])(data)),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_file_with_right_hashes_is_answered_without(tmp_path: Path, forgery: str) -> None:
    store, rows = opened(tmp_path), clustered(N)
    put(store, np.arange(N), rows)
    store.maintain(NAME)
    forged(tmp_path, *FORGERIES[forgery])
    again = opened(tmp_path)
    for query in clustered(5, 3):
        assert again.search(NAME, query, 10)[0].tolist() == best_of(rows, np.arange(N), query, 10).tolist()
    assert again.recall(NAME).n_checked == 0  # no index had a say


@pytest.mark.parametrize("text", [b"", b"[]", b'{"format":1}', b"[" * 100_000, b"\xff\xfe"])
def test_a_set_that_says_nothing_sensible_is_as_good_as_none(tmp_path: Path, text: bytes) -> None:
    store = opened(tmp_path)
    put(store, np.arange(300), unit(300))
    line = text.rstrip(b"\n")
    (segments_path(tmp_path, NAME) / "set.json").write_bytes(
        line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"
    )
    assert opened(tmp_path).count(NAME) == 300
    assert any(word.startswith("sealed 300") for word in opened(tmp_path).maintain(NAME))
    assert opened(tmp_path)._load(NAME).n_sealed == 300


# --- merging ---------------------------------------------------------------------------------------


def test_segments_are_merged_by_size_and_indexed_when_large(tmp_path: Path) -> None:
    store, rows = opened(tmp_path), clustered(3600)
    for low in range(0, 3600, 200):
        put(store, np.arange(low, low + 200), rows[low : low + 200])
        store.maintain(NAME)
    parts = store._load(NAME).parts
    assert len(parts) < 9
    assert [bool(part.segment.facts) for part in parts] == [len(part.segment) >= 1600 for part in parts]
    assert store.count(NAME) == 3600
    folders = [path for path in segments_path(tmp_path, NAME).iterdir() if path.is_dir()]
    assert len(folders) == len(parts)  # nothing is left of what was merged


def test_the_child_process_merges_while_its_parent_goes_on(tmp_path: Path) -> None:
    store, rows = SegmentedVectors(tmp_path, DIM, FINGERPRINT, TUNING), clustered(4000)
    for low in range(0, 4000, 200):
        put(store, np.arange(low, low + 200), rows[low : low + 200])
    store.wait()
    store._grow(NAME)
    store.wait()
    store.forget_cached()
    assert any(part.segment.facts for part in store._load(NAME).parts)
    assert len(store._load(NAME).parts) < 5
    query = clustered(1, 3)[0]
    assert store.search(NAME, query, 10)[0].tolist() == best_of(rows, np.arange(4000), query, 10).tolist()


def test_what_is_removed_while_a_merge_runs_stays_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, rows = opened(tmp_path), clustered(900)
    for low in range(0, 800, 200):
        put(store, np.arange(low, low + 200), rows[low : low + 200])
    real, writer = merge_module.new_part, opened(tmp_path)

    def interrupted(*arguments: object) -> object:
        part = real(*arguments)  # type: ignore[arg-type]
        if writer.count(NAME) == 800:
            writer.remove(NAME, np.arange(0, 300, 2))
            put(writer, np.arange(800, 900), rows[800:])  # together enough to be sealed
        return part

    monkeypatch.setattr(merge_module, "new_part", interrupted)
    assert "merged 4 segments of 800 vectors" in store.maintain(NAME)
    again = opened(tmp_path)
    assert again.count(NAME) == 750 and again._load(NAME).n_sealed > 1000
    ids = np.setdiff1d(np.arange(900), np.arange(0, 300, 2))
    for query in clustered(5, 3):
        assert again.search(NAME, query, 10)[0].tolist() == best_of(rows, ids, query, 10).tolist()


def test_a_merge_whose_segments_were_compacted_away_is_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    for low in range(0, 800, 200):
        put(store, np.arange(low, low + 200), unit(200, low))
    real = merge_module.new_part

    def interrupted(*arguments: object) -> object:
        part = real(*arguments)  # type: ignore[arg-type]
        if store.count(NAME) == 800:
            store.remove(NAME, np.arange(100))
            store._anew(NAME)
        return part

    monkeypatch.setattr(merge_module, "new_part", interrupted)
    store.maintain(NAME)
    assert opened(tmp_path).count(NAME) == 700
    assert len(list(segments_path(tmp_path, NAME).glob("????????????????"))) == 1


def test_a_reader_goes_on_with_the_segments_it_has_open(tmp_path: Path) -> None:
    store, rows = opened(tmp_path), clustered(800)
    for low in range(0, 800, 200):
        put(store, np.arange(low, low + 200), rows[low : low + 200])
    reader, query = opened(tmp_path), clustered(1, 3)[0]
    assert reader.count(NAME) == 800
    store.maintain(NAME)
    store.remove(NAME, np.arange(10))
    assert reader.search(NAME, query, 10)[0].tolist() == best_of(rows, np.arange(800), query, 10).tolist()
    reader.forget_cached()
    assert reader.search(NAME, query, 10)[0].tolist() == best_of(rows, np.arange(10, 800), query, 10).tolist()


def test_a_writer_goes_on_where_a_segment_is_gone(tmp_path: Path) -> None:
    """The set was then taken for none, and the tail grew without end, read anew at each write."""
    store = opened(tmp_path)
    put(store, np.arange(300), unit(300))
    (segment,) = (path for path in segments_path(tmp_path, NAME).iterdir() if path.is_dir())
    (segment / "manifest.json").unlink()
    again = opened(tmp_path)
    put(again, np.arange(300, 310), unit(10))
    assert again.count(NAME) == 310 and again._load(NAME).n_sealed == 310


def test_a_file_that_is_no_file_ends_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path)
    put(store, np.arange(300), unit(300))
    (rows,) = segments_path(tmp_path, NAME).rglob("rows.bin")
    rows.unlink()
    os.mkfifo(rows)
    assert opened(tmp_path).count(NAME) == 300


def test_a_merge_publishes_nothing_for_a_log_that_was_written_anew(tmp_path: Path) -> None:
    store = opened(tmp_path)
    put(store, np.arange(150), unit(150))
    late = opened(tmp_path)._load(NAME)
    ExactVectors(tmp_path, DIM, FINGERPRINT).compact(NAME)
    assert not seal(store._log(NAME), store._segments(NAME), store._model, late)
    assert store._segments(NAME).mark() is None


def test_maintenance_names_damage_and_mends_it(tmp_path: Path) -> None:
    store, rows = opened(tmp_path), clustered(N)
    put(store, np.arange(N), rows)
    store.maintain(NAME)
    for name in ("index.ann", "rows.bin", "vectors/data.ninja"):
        (path,) = segments_path(tmp_path, NAME).rglob(name)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 8
        path.write_bytes(data)
        done = opened(tmp_path).maintain(NAME)
        assert len(done) >= 2 or name == "rows.bin", done
        assert opened(tmp_path).maintain(NAME) == []
        assert opened(tmp_path)._load(NAME).parts[0].segment.index() is not None


def test_the_log_is_written_anew_when_most_of_it_says_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for turn in range(20):
        put(store, np.arange(100), unit(100, turn))
    records = log_path(tmp_path, NAME).stat().st_size // (24 + 4 * DIM)
    assert records < 700 and opened(tmp_path).count(NAME) == 100
    assert np.allclose(opened(tmp_path).scores(NAME, unit(100, 19)[7], np.array([7])), 1.0, atol=1e-6)


def test_nothing_is_left_of_a_dropped_namespace(tmp_path: Path) -> None:
    store = opened(tmp_path)
    put(store, np.arange(500), unit(500))
    store.drop(NAME)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not segments_path(tmp_path, NAME).exists()


# --- with and without Annoy ------------------------------------------------------------------------


def test_stores_with_and_without_annoy_go_on_where_the_other_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(open_vectors(tmp_path, DIM, FINGERPRINT), SegmentedVectors)
    store = opened(tmp_path)
    put(store, np.arange(500), unit(500))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "emm_engine.vectors.segmented", None)
        plain = open_vectors(tmp_path, DIM, FINGERPRINT)
        assert isinstance(plain, ExactVectors) and plain.count(NAME) == 500
        plain.remove(NAME, np.arange(50))
        put(plain, np.arange(500, 600), unit(100, 1))
    assert opened(tmp_path).count(NAME) == 550
    plain.compact(NAME)
    assert not segments_path(tmp_path, NAME).exists()  # they still held what was removed
    assert opened(tmp_path).count(NAME) == 550
    assert opened(tmp_path).missing(NAME, {3: 0, 60: int(hashes(np.array([60]))[0])}).tolist() == [3]
