"""What every vector store must do, as a suite to inherit: `class TestMine(VectorStoreContract)` with `opened`.

Red when a store orders ties by anything but the id, scores by anything but its stored float32 numbers, lets a filter
cut after the best were taken, brings back what was removed, lets one namespace see another, or loses one by a rename.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from emm_engine.vectors.store import VectorStore

DIM = 16
NAME = "t:d/p/r"
FINGERPRINT = "ab" * 32

Open = Callable[..., VectorStore]
Model = dict[int, tuple[np.ndarray, int]]  # id: (vector, text hash)


def unit(count: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def clustered(count: int, seed: int = 0, dim: int = DIM, n_clusters: int = 40) -> np.ndarray:
    """Unit vectors around the same centres for every seed: what an index finds its way in."""
    centres = np.random.default_rng(77).standard_normal((n_clusters, dim))
    random = np.random.default_rng(seed)
    rows = centres[random.integers(n_clusters, size=count)] + 0.4 * random.standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def hashes(ids: np.ndarray) -> np.ndarray:
    return ids.astype(np.uint64) + np.uint64(1 << 63)  # beyond what fits a signed number


def put(store: VectorStore, ids: np.ndarray, rows: np.ndarray, namespace: str = NAME) -> None:
    store.add(namespace, ids, rows, hashes(ids))


def expected(model: Model, query: np.ndarray, k: int, allowed: set[int] | None = None) -> list[tuple[int, float]]:
    """Brute force: (id, score), best first, ties to the lower id."""
    scored = [
        (-np.float32(np.dot(row.astype(np.float64), query.astype(np.float64))), identity)
        for identity, (row, _) in model.items()
        if allowed is None or identity in allowed
    ]
    return [(identity, float(-score)) for score, identity in sorted(scored)[:k]]


def found(
    store: VectorStore, query: np.ndarray, k: int, allowed: np.ndarray | None = None, namespace: str = NAME
) -> list[tuple[int, float]]:
    ids, scores = store.search(namespace, query, k, allowed)
    assert ids.dtype == np.int64 and scores.dtype == np.float32
    return [(int(identity), float(score)) for identity, score in zip(ids, scores, strict=True)]


def assert_same(store: VectorStore, model: Model, seed: int, namespace: str = NAME) -> None:
    """Counts, hashes and exact search agree with the model."""
    assert store.count(namespace) == len(model)
    ids = np.array(sorted(model), np.int64)
    for query in unit(3, seed):
        assert found(store, query, 7, namespace=namespace) == expected(model, query, 7)
        allowed = ids[seed % 3 :: 4]
        wanted = expected(model, query, 5, set(allowed.tolist()))
        assert found(store, query, 5, allowed, namespace) == wanted
    told = {identity: digest for identity, (_, digest) in model.items()}
    assert store.missing(namespace, told).tolist() == []
    assert store.missing(namespace, {identity: digest ^ 1 for identity, digest in told.items()}).tolist() == sorted(
        told
    )


class VectorStoreContract:
    """`open_store` opens a handle on the same store each time it is called."""

    @pytest.fixture
    def open_store(self) -> Iterator[Open]:
        raise NotImplementedError
        yield

    def test_search_equals_brute_force_with_ties_to_the_lower_id(self, open_store: Open) -> None:
        rows = np.repeat(unit(10), 3, axis=0)  # every vector three times
        ids = np.random.default_rng(1).permutation(100)[:30].astype(np.int64)
        store = open_store()
        put(store, ids, rows)
        model = {int(identity): (row, 0) for identity, row in zip(ids, rows, strict=True)}
        for query in unit(8, 2):
            for k in (0, 1, 2, 7, 30, 99):
                assert found(store, query, k) == expected(model, query, k)

    def test_a_query_without_direction_ranks_by_id(self, open_store: Open) -> None:
        store = open_store()
        put(store, np.arange(40)[::-1].copy(), unit(40))
        assert found(store, np.zeros(DIM, np.float32), 3) == [(0, 0.0), (1, 0.0), (2, 0.0)]

    def test_a_filter_restricts_before_the_best_are_taken(self, open_store: Open) -> None:
        """One id in a hundred allowed: a store that filters its best hundred would find one."""
        store, ids, rows = open_store(), np.arange(500), unit(500)
        put(store, ids, rows)
        model = {int(identity): (row, 0) for identity, row in zip(ids, rows, strict=True)}
        for query in unit(4, 3):
            allowed = np.sort(np.random.default_rng(4).choice(ids, 5, replace=False))
            assert found(store, query, 5, allowed) == expected(model, query, 5, set(allowed.tolist()))
            far = np.array(sorted(identity for identity, _ in expected(model, query, 500)[-20:]))
            assert found(store, query, 3, far) == expected(model, query, 3, set(far.tolist()))
            assert found(store, query, 3, np.array([7, 1000])) == expected(model, query, 3, {7})
            assert found(store, query, 3, np.zeros(0, np.int64)) == []

    def test_what_was_added_replaced_and_removed_is_there_after_reopening(self, open_store: Open) -> None:
        store, ids, rows = open_store(), np.arange(3, 23), unit(20)
        put(store, ids, rows)
        store.add(NAME, ids[:2], rows[5:7], np.array([1, 2], np.uint64))
        store.remove(NAME, np.array([ids[9], 555]))
        again = open_store()
        assert again.count(NAME) == 19
        assert np.allclose(again.scores(NAME, rows[5], ids[[0, 5, 9]]), [1.0, 1.0, 0.0], atol=1e-6)
        told = {int(ids[0]): 1, int(ids[1]): 77, int(ids[9]): 9, int(ids[3]): int(hashes(ids)[3])}
        assert again.missing(NAME, told).tolist() == [ids[1], ids[9]]
        put(again, ids[9:10], rows[9:10])
        assert open_store().scores(NAME, rows[9], ids[9:10])[0] == pytest.approx(1.0, abs=1e-6)

    def test_scores_are_those_of_search_and_zero_for_strangers(self, open_store: Open) -> None:
        store, ids = open_store(), np.array([5, 900, 17, 2])
        put(store, ids, unit(4))
        query = unit(1, 8)[0]
        by_id = dict(found(store, query, 4))
        asked = np.array([900, 3, 2, 10**12, 5, 17])
        assert store.scores(NAME, query, asked).tolist() == [by_id.get(int(identity), 0.0) for identity in asked]
        assert store.scores(NAME, query, np.zeros(0, np.int64)).tolist() == []

    def test_fetched_vectors_are_the_stored_ones_in_the_order_asked_for(self, open_store: Open) -> None:
        store, rows = open_store(), unit(4)
        put(store, np.arange(4), rows)
        store.hold(NAME, np.array([9]), unit(1, 5), hashes(np.array([9])))
        ids, fetched = store.fetch(NAME, np.array([3, 77, 0, 9]))
        assert ids.tolist() == [3, 0, 9]
        assert np.array_equal(fetched, np.stack([rows[3], rows[0], unit(1, 5)[0]]))

    def test_namespaces_do_not_see_each_other(self, open_store: Open) -> None:
        store, rows = open_store(), unit(30)
        for number, namespace in enumerate((NAME, "t:d/p/other", "u:d/p/r")):
            put(store, np.arange(10) + 10 * number, rows[10 * number : 10 * number + 10], namespace)
        store.remove("t:d/p/other", np.arange(10, 15))
        store.compact("t:d/p/other")
        for number, namespace in enumerate((NAME, "t:d/p/other", "u:d/p/r")):
            assert store.count(namespace) == (5 if number == 1 else 10)
            assert {identity // 10 for identity, _ in found(store, rows[0], 50, namespace=namespace)} == {number}
        assert store.count("t:d/p/none") == 0 and found(store, rows[0], 5, namespace="u:d/p/none") == []

    def test_a_renamed_namespace_is_whole_under_its_new_name_alone(self, open_store: Open) -> None:
        ids, rows, other = np.arange(40), unit(40), "t:d/q/s"
        put(open_store(), ids, rows)
        put(open_store(), ids[:9] + 500, unit(9, seed=5), other)  # left by a namesake of before
        store = open_store()
        assert store.count(NAME) == 40 and store.count(other) == 9
        for _ in range(2):  # the second time there is nothing to do
            store.rename(NAME, other)
            for each in (store, open_store()):
                assert each.count(NAME) == 0
                assert_same(each, dict(zip(ids.tolist(), zip(rows, hashes(ids), strict=True), strict=True)), 1, other)
                assert not len(each.missing(other, dict(zip(ids.tolist(), hashes(ids).tolist(), strict=True))))
        put(store, ids[:3], rows[3:6])  # the name is free
        assert open_store().count(NAME) == 3 and open_store().count(other) == 40

    def test_a_dropped_namespace_is_gone_and_can_begin_anew(self, open_store: Open) -> None:
        store, rows = open_store(), unit(30)
        put(store, np.arange(20), rows[:20])
        put(store, np.arange(20), rows[:20], "t:d/p/other")
        for _ in range(2):
            store.drop(NAME)
            assert store.count(NAME) == open_store().count(NAME) == 0
        put(store, np.arange(4), rows[20:24])
        assert store.count(NAME) == open_store().count(NAME) == 4 and store.count("t:d/p/other") == 20

    def test_vectors_of_another_embedder_are_not_seen(self, open_store: Open) -> None:
        put(open_store(), np.arange(5), unit(5))
        assert open_store("cd" * 32).count(NAME) == 0

    def test_held_vectors_answer_and_are_not_written(self, open_store: Open) -> None:
        writer, rows = open_store(), unit(6)
        put(writer, np.arange(3), rows[:3])
        reader = open_store()
        reader.hold(NAME, np.array([1, 99]), rows[4:], hashes(np.array([1, 99])))
        assert reader.count(NAME) == 4 and found(reader, rows[5], 1)[0][0] == 99
        assert found(reader, rows[4], 1)[0][0] == 1
        assert reader.missing(NAME, {99: int(hashes(np.array([99]))[0])}).size == 0
        assert open_store().count(NAME) == 3
        reader.forget_cached()
        assert reader.count(NAME) == 3
        reader.hold(NAME, np.array([99]), rows[:1], hashes(np.array([99])))
        put(reader, np.array([7]), rows[3:4])
        assert reader.count(NAME) == open_store().count(NAME) == 4

    def test_what_another_process_wrote_is_seen_afresh(self, open_store: Open) -> None:
        first, second, rows = open_store(), open_store(), unit(6)
        put(first, np.arange(3), rows[:3])
        assert second.count(NAME) == 3
        put(first, np.arange(3, 6), rows[3:])
        second.forget_cached()
        assert second.count(NAME) == 6
        put(second, np.array([8]), rows[:1])
        put(first, np.array([9]), rows[:1])  # a writer looks before it writes
        assert open_store().count(NAME) == first.count(NAME) == 8

    def test_a_long_life_equals_a_dictionary(self, open_store: Open) -> None:
        """Additions, replacements, removals, reopening and compaction in three namespaces, drawn at random."""
        random = np.random.default_rng(11)
        store, pool = open_store(), unit(400, 12)
        models: dict[str, Model] = {f"t:d/p/r{number}": {} for number in range(3)}
        for step in range(60):
            namespace = str(random.choice(sorted(models)))
            model = models[namespace]
            word = random.choice(["add", "add", "replace", "remove", "reopen", "compact"])
            ids = np.unique(random.integers(0, 300, int(random.integers(1, 40))))
            if word == "replace" or word == "remove":
                held = np.array(sorted(model), np.int64)
                ids = np.unique(random.choice(held, min(len(held), 20))) if len(held) else ids
            if word == "reopen":
                store = open_store()
            elif word == "compact":
                store.compact(namespace)
            elif word == "remove":
                store.remove(namespace, ids)
                for identity in ids.tolist():
                    model.pop(identity, None)
            else:
                rows = pool[random.integers(0, 400, len(ids))]
                digests = random.integers(0, 1 << 63, len(ids)).astype(np.uint64) * np.uint64(2)
                store.add(namespace, ids, rows, digests)
                model.update(
                    {int(each): (row, int(digest)) for each, row, digest in zip(ids, rows, digests, strict=True)}
                )
            assert_same(store, model, step, namespace)
        for namespace, model in models.items():
            assert_same(open_store(), model, 1, namespace)
