"""What an open memory promises: modes, views, threads, forks, limits, the end.

Red when a closed, read-only or forked handle does something, when a view can be written, when calls from threads mix,
when a batch is split at another place than a record's limit, or when a refused batch leaves a trace.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import emm
from emm.layout import BATCH_BYTES_MAX, RECORD_BYTES_MAX
from emm.storage.segment_file import SegmentReader
from emm.vfs.local import LocalDirectory

DIM, KEY_DIM, RANK = 8, 32, 16


def pairs(n: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return (random.standard_normal((n, KEY_DIM)) / 6).astype(np.float32), random.standard_normal((n, DIM)).astype(
        np.float32
    )


def create(path: Path, **more: object) -> emm.Memory:
    return emm.create(str(path), **{"dim": DIM, "rank": RANK, "key_dim": KEY_DIM, "expand_at": 0.0, **more})  # type: ignore[arg-type]


def changes(memory: emm.Memory) -> list[Callable[[], object]]:
    return [
        lambda: memory.write(*pairs()),
        lambda: memory.unlearn(*pairs()),
        lambda: memory.forget(pairs()[0]),
        lambda: memory.configure(expand_at=0.5),
        lambda: memory.expand(32),
        lambda: memory.expand(32, bare=True),
        memory.checkpoint,
        memory.prune,
    ]


def views(memory: emm.Memory) -> list[Callable[[], object]]:
    return [
        lambda: memory.recall(pairs()[0]),
        lambda: memory.matrix,
        lambda: memory.inverse_gram,
        lambda: memory.saturation,
        lambda: memory.digest,
        memory.state,
    ]


def test_everything_a_memory_says_about_itself(tmp_path: Path) -> None:
    with create(tmp_path / "memory", ridge=0.5, metadata={"lab": "chemistry"}) as memory:
        assert (memory.dim, memory.key_dim, memory.rank, memory.rule) == (DIM, KEY_DIM, RANK, "preconditioned")
        assert (memory.lsn, memory.generation, memory.write_count, memory.replayed) == (0, 1, 0, 0)
        assert memory.ridge == 0.5 and memory.expand_at == 0.0 and memory.metadata == {"lab": "chemistry"}
        assert memory.saturation == 0.0 and memory.flags == 0 and memory.notices == ()
        assert len(memory.uuid) == 32 and len(memory.digest) == 64
        assert memory.write(*pairs(5)) == 1 and memory.write(*pairs(2, 1)) == 2
        assert memory.write_count == 7 and 0 < memory.saturation < 1
        assert "lsn 2" in repr(memory) and "mode a" in repr(memory)
        said = (memory.uuid, memory.digest, memory.metadata, memory.write_count, memory.ridge)
    with emm.open(str(tmp_path / "memory")) as memory:
        assert (memory.uuid, memory.digest, memory.metadata, memory.write_count, memory.ridge) == said
        assert memory.generation == 2 and "mode r" in repr(memory)
    assert "mode closed" in repr(memory)


def test_metadata_given_out_is_a_copy(tmp_path: Path) -> None:
    """A shallow copy let a caller change a nested object, and the next checkpoint published it.

    Red when `metadata` copies the outermost object alone.
    """
    with create(tmp_path / "memory", metadata={"a": 1, "b": {"c": [1]}}) as memory:
        memory.metadata["a"] = 2
        memory.metadata["b"]["c"].append(2)
        assert memory.metadata == {"a": 1, "b": {"c": [1]}}


@pytest.mark.parametrize("projection", ["hadamard", "none"])
@pytest.mark.parametrize("rule", ["outer-product", "gated-delta", "preconditioned"])
def test_a_memory_can_be_given_its_own_matrix(tmp_path: Path, rule: str, projection: str) -> None:
    """`memory.matrix` is a view of M: written as values it changed under the kernel's hands while the journal had
    it as it was before, so the handle, its next snapshot and the journal no longer agreed.

    Red when `Session.commit_pairs` applies the caller's own arrays instead of copies.
    """
    path, size = tmp_path / "memory", 16
    with emm.create(path, dim=size, rank=size, key_dim=size, rule=rule, projection=projection, expand_at=0) as memory:
        random = np.random.default_rng(5)
        keys = random.standard_normal((size, size), np.float32) / 4
        memory.write(keys, random.standard_normal((size, size), np.float32))
        memory.write(keys, memory.matrix)
        memory.write(memory.matrix, keys)
        memory.forget(memory.matrix[:2])
        with emm.open(path) as replayed:
            assert replayed.digest == memory.digest
    assert emm.verify(path, "numeric").verdict == "clean"


def test_creating_never_replaces_what_exists(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    create(path).close()
    before = {each.name: each.read_bytes() for each in path.iterdir()}
    with pytest.raises(emm.ExistsError):
        create(path)
    assert {each.name: each.read_bytes() for each in path.iterdir()} == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(emm.ExistsError):
        create(tmp_path / "file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("x")
    with pytest.raises(emm.ExistsError):
        create(tmp_path / "full")
    (tmp_path / "empty").mkdir()
    create(tmp_path / "empty").close()


def test_missing_memory_is_missing(tmp_path: Path) -> None:
    for mode in ("r", "a"):
        with pytest.raises(emm.MissingError) as caught:
            emm.open(str(tmp_path / "nowhere"), mode)
        assert caught.value.exit_code == 10
    assert not (tmp_path / "nowhere").exists()


def test_reader_changes_nothing(tmp_path: Path) -> None:
    create(tmp_path / "memory").close()
    with emm.open(str(tmp_path / "memory")) as memory:
        for change in changes(memory):
            with pytest.raises(emm.InputError):
                change()
        for view in views(memory):
            view()


def test_closed_memory_refuses_and_closing_twice_is_harmless(tmp_path: Path) -> None:
    memory = create(tmp_path / "memory")
    memory.write(*pairs())
    with memory:
        pass
    memory.close()
    for act in [*changes(memory), *views(memory)]:
        with pytest.raises(emm.ClosedError):
            act()
    assert memory.lsn == 1 and memory.rank == RANK


def test_context_manager_closes_on_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), create(tmp_path / "memory") as memory:
        memory.write(*pairs())
        raise ZeroDivisionError
    with emm.open(str(tmp_path / "memory"), "a") as again:
        assert again.lsn == 1 and again.replayed == 0


@pytest.mark.parametrize("mode", ["r", "a"])
def test_views_are_read_only(tmp_path: Path, mode: str) -> None:
    with create(tmp_path / "memory") as memory:
        memory.write(*pairs())
    with emm.open(str(tmp_path / "memory"), mode) as memory:
        for view in (memory.matrix, memory.inverse_gram):
            assert view is not None
            with pytest.raises(ValueError, match="read-only"):
                view[0, 0] = 1
        copy = memory.state()
        copy.matrix[...] = 7
        assert memory.digest != "" and not np.any(memory.matrix == 7)


def test_recall_is_the_matrix_times_the_projected_key(tmp_path: Path) -> None:
    from emm import kernel

    with create(tmp_path / "memory") as memory:
        keys, values = pairs(4)
        memory.write(keys, values)
        x = kernel.project(keys, memory.state().parameters)
        np.testing.assert_allclose(memory.recall(keys), x @ memory.matrix.T, rtol=1e-4, atol=1e-5)
        assert memory.recall(keys[0]).shape == (1, DIM)


def test_forked_child_cannot_use_the_memory_and_harms_nothing(tmp_path: Path) -> None:
    memory = create(tmp_path / "memory")
    memory.write(*pairs())
    digest = memory.digest
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        told = "nothing"
        try:
            refusals = 0
            for act in [*changes(memory), *views(memory)]:
                try:
                    act()
                except emm.ClosedError:
                    refusals += 1
            memory.close()
            told = str(refusals)
        finally:
            os.write(write_end, told.encode())
            os._exit(0)
    os.close(write_end)
    os.waitpid(pid, 0)
    with os.fdopen(read_end) as pipe:
        assert pipe.read() == str(len(changes(memory)) + len(views(memory)))
    with pytest.raises(emm.FencedError):
        emm.open(memory.url, "a")
    assert memory.digest == digest and memory.write(*pairs(1, 5)) == 2
    memory.close()


def test_child_forked_while_a_thread_is_inside_does_not_wait_for_it(tmp_path: Path) -> None:
    """The mutex is copied as held, and nobody in the child will ever release it."""
    memory = create(tmp_path / "memory")
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with memory._open_session():
            inside.set()
            leave.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(20)
    pid = os.fork()
    if pid == 0:
        import signal

        signal.alarm(10)
        status = 1
        try:
            memory.write(*pairs())
        except emm.ClosedError:
            memory.close()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    leave.set()
    thread.join()
    memory.close()
    assert status == 0


def test_two_memories_open_at_once_are_two(tmp_path: Path) -> None:
    with create(tmp_path / "a") as a, create(tmp_path / "b") as b:
        assert a.uuid != b.uuid
        for seed in range(3):
            a.write(*pairs(seed=seed))
            b.write(*pairs(seed=seed))
            assert a.digest == b.digest
        a.write(*pairs(seed=9))
        assert a.digest != b.digest and b.lsn == 3


def test_threads_write_one_after_another(tmp_path: Path) -> None:
    """Each call is atomic: the order is free, but LSNs are dense and a replay of the log gives the same bits."""
    memory = create(tmp_path / "memory")
    lsns: list[int] = []

    def work(seed: int) -> None:
        for step in range(15):
            lsns.append(memory.write(*pairs(2, seed=seed * 100 + step)))
            memory.recall(pairs(1)[0])
            if step % 5 == seed:
                memory.checkpoint()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lsns) == list(range(1, 61)) and memory.write_count == 120
    digest = memory.digest
    resolved = memory._session.history().resolve(RANK).state
    assert np.array_equal(resolved.matrix, memory.matrix), "the log says what was done, in its order"
    memory.close()
    with emm.open(memory.url) as again:
        assert again.digest == digest


def test_write_of_more_than_a_record_is_split_and_stays_one_commit(tmp_path: Path) -> None:
    dim = key_dim = 1024
    n = 5000  # 5000 · 8200 bytes = 39 MiB
    random = np.random.default_rng(0)
    keys = random.standard_normal((n, key_dim), np.float32)
    values = random.standard_normal((n, dim), np.float32)
    memory = emm.create(
        str(tmp_path / "memory"), dim=dim, rank=16, key_dim=key_dim, rule="outer-product", expand_at=0.0
    )
    assert memory.write(keys, values) == 1
    segment = sorted(Path(memory.url).glob("*.wal"))[0]
    reader = SegmentReader(LocalDirectory(memory.url), int(segment.stem), bytes.fromhex(memory.uuid))
    (commit,) = reader.commits()
    assert len(commit.records) == 3 and commit.commit.n_pairs == n
    assert all(record.size <= RECORD_BYTES_MAX for record in commit.records)
    from emm.storage.recovery import recover

    found = recover(LocalDirectory(memory.url))
    assert np.array_equal(found.state.matrix, memory.matrix)
    memory.close()


def test_batch_logged_as_several_records_replays_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was applied as one batch and is replayed record by record; P̄ is folded at other places of the batch."""
    from emm.storage import session
    from emm.storage.recovery import recover

    monkeypatch.setattr(session, "pairs_per_record", lambda *_: 5)
    memory = create(tmp_path / "memory", ridge=1.0)
    keys, values = pairs(37)
    gates = np.where(np.arange(37) % 3, 1.0, 0.5)
    memory.write(keys, values, decay_gate=np.where(np.arange(37) % 4, 1.0, 0.999), write_gate=gates)
    memory.unlearn(keys[-9:], values[-9:], write_gate=gates[-9:], rank=RANK)
    found = recover(LocalDirectory(memory.url))
    assert np.array_equal(found.state.matrix, memory.matrix) and found.write_count == memory.write_count == 28
    reader = SegmentReader(LocalDirectory(memory.url), 1, bytes.fromhex(memory.uuid))
    assert [(len(each.records), each.commit.n_pairs) for each in reader.commits()] == [(8, 37), (2, 9)]
    memory.close()


def test_commit_states_time_and_mean_surprise(tmp_path: Path) -> None:
    import time

    memory = create(tmp_path / "memory")
    keys, values = pairs(4)
    before = time.time_ns() // 1000
    memory.write(keys[:1], values[:1])
    memory.configure(expand_at=0.0)
    memory.forget(keys[:1])
    after = time.time_ns() // 1000
    reader = SegmentReader(LocalDirectory(memory.url), 1, bytes.fromhex(memory.uuid))
    found = [each.commit for each in reader.commits()]
    memory.close()
    assert all(before <= each.time_us <= after for each in found)
    assert found[0].surprise == pytest.approx(float(np.linalg.norm(values[0])), rel=1e-6)
    assert [each.surprise for each in found[1:]] == [0.0, 0.0] and [each.n_pairs for each in found] == [1, 0, 1]


def test_s4_batch_beyond_256_mib_is_refused_before_it_is_built(tmp_path: Path) -> None:
    """The records were once all encoded before their size was looked at."""
    import tracemalloc

    dim = key_dim = 1 << 16
    n = BATCH_BYTES_MAX // (4 * (dim + key_dim)) + 1
    memory = emm.create(str(tmp_path / "memory"), dim=dim, rank=16, key_dim=key_dim, rule="outer-product")
    keys = np.zeros((n, key_dim), np.float32)
    values = np.zeros((n, dim), np.float32)
    before = (memory.digest, sorted(path.name for path in Path(memory.url).iterdir()))
    tracemalloc.start()
    with pytest.raises(emm.LimitError) as caught:
        memory.write(keys, values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.rule == "S-4" and peak < 1.5 * keys.nbytes
    assert (memory.digest, sorted(path.name for path in Path(memory.url).iterdir())) == before
    memory.close()


def test_s3_pair_or_forget_larger_than_a_record_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from emm.storage import session

    with create(tmp_path / "memory") as memory:
        monkeypatch.setattr(session, "pairs_per_record", lambda *_: 0)
        with pytest.raises(emm.LimitError) as caught:
            memory.write(*pairs())
        assert caught.value.rule == "S-3"
        monkeypatch.setattr(session, "pairs_per_record", lambda *_: 2)
        with pytest.raises(emm.LimitError) as caught:
            memory.forget(pairs(3)[0])
        assert caught.value.rule == "S-3"
        assert memory.lsn == 0


def test_lazy_opening_checks_head_and_table_only(tmp_path: Path) -> None:
    with create(tmp_path / "memory") as memory:
        memory.write(*pairs())
    path = tmp_path / "memory" / f"{memory.generation:016d}.emm"
    data = bytearray(path.read_bytes())
    data[4096 + 5] ^= 1  # in M
    path.write_bytes(data)
    (tmp_path / "memory" / "0000000000000001.emm").unlink()
    for mode in ("r", "a"):
        with pytest.raises(emm.ChecksumError):
            emm.open(memory.url, mode)
    with pytest.raises(emm.ChecksumError):
        emm.open(memory.url, "a", verify="lazy")
    with emm.open(memory.url, verify="lazy") as lazy:
        assert lazy.recall(pairs()[0]).shape == (3, DIM)
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(emm.FormatError):
        emm.open(memory.url, verify="lazy")


def test_state_bytes_max_bounds_what_is_opened(tmp_path: Path) -> None:
    create(tmp_path / "memory").close()
    for mode in ("r", "a"):
        with pytest.raises(emm.LimitError) as caught:
            emm.open(str(tmp_path / "memory"), mode, state_bytes_max=1000)
        assert caught.value.rule == "S-1" and caught.value.exit_code == 5


def test_encode_and_decode_work_without_any_file(tmp_path: Path) -> None:
    with create(tmp_path / "memory") as memory:
        memory.write(*pairs())
        made = emm.Snapshot(memory.state(), 3, memory.lsn, bytes.fromhex(memory.uuid), metadata={"from": "elsewhere"})
        found = emm.decode_snapshot(emm.encode_snapshot(made))
        assert found.digest.hex() == memory.digest and found.metadata == {"from": "elsewhere"}
        assert np.array_equal(found.state.matrix, memory.matrix)


def test_configure_is_logged_and_survives(tmp_path: Path) -> None:
    with create(tmp_path / "memory") as memory:
        assert memory.configure(expand_at=np.float32(0.25)) == 1
        assert memory.expand_at == 0.25
    with emm.open(str(tmp_path / "memory"), "a") as memory:
        assert memory.expand_at == 0.25 and memory.lsn == 1
        memory.configure(expand_at=0)
    with emm.open(str(tmp_path / "memory")) as memory:
        assert memory.expand_at == 0.0


def test_state_becomes_bytes_without_a_file_and_comes_back(tmp_path: Path) -> None:
    """Red when the expression in `Memory.state`'s docstring stops working."""
    with emm.create(tmp_path / "m", dim=4, rank=16, key_dim=16) as memory:
        memory.write(np.eye(2, 16, dtype=np.float32), np.ones((2, 4), np.float32))
        data = emm.encode_snapshot(emm.Snapshot(memory.state(), 1, memory.lsn, bytes.fromhex(memory.uuid)))
        again = emm.decode_snapshot(data)
        assert again.digest.hex() == memory.digest
        assert np.array_equal(again.state.matrix, memory.matrix)
