"""Checkpoints, marks, seals and pruning: none of them may change a bit, lose a proof or remove what is needed.

Red when a checkpoint folds or rounds the state, when the journal since the last snapshot is not bounded (also across
crashes), when the idle mark or the seal is missing, when files are removed in another order than R-10, or when the
newest snapshot is not read back before older ones go.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import emm
from emm.codec.journal import decode_record
from emm.codec.snapshot import decode_snapshot
from emm.errors import ChecksumError, HistoryError, InputError, StorageError
from emm.layout import SEGMENT_HEADER, RecordType
from emm.memory import opening
from emm.storage import checkpoint as checkpoints
from emm.storage import journal_writer
from emm.storage.checkpoint import checkpoint_due, prune
from emm.storage.recovery import recover
from emm.vfs.local import LocalDirectory
from tests.storage.faulty import FaultyDirectory
from tests.storage.lab import DIM, KEY_DIM, RANK, Life, batch, commits, create, files

WAL = "0000000000000001.wal"


@pytest.mark.parametrize("rule", ["outer-product", "gated-delta", "preconditioned"])
@pytest.mark.parametrize("seed", range(4))
def test_checkpoint_at_any_moment_changes_no_bit(tmp_path: Path, rule: str, seed: int) -> None:
    """One life without checkpoints, one with checkpoints, prunes and reopenings at random moments."""
    choose = random.Random(seed)

    def begin(name: str) -> emm.Memory:
        return emm.create(str(tmp_path / name), dim=DIM, rank=RANK, key_dim=KEY_DIM, rule=rule, expand_at=0.0)

    plain, busy = begin("plain"), begin("busy")
    for lsn in range(1, 40):
        keys, values = batch(lsn, n=1 + lsn % 5)
        decay = 0.999 if lsn % 7 == 0 else 1.0
        for memory in (plain, busy):
            memory.write(keys, values, decay_gate=decay)
        if choose.random() < 0.4:
            busy.checkpoint()
        if choose.random() < 0.1:
            busy.prune(keep=1, journal=choose.random() < 0.5)
        if choose.random() < 0.2:
            busy.close()
            busy = emm.open(str(tmp_path / "busy"), "a")
        assert busy.digest == plain.digest and busy.lsn == lsn == plain.lsn
        assert busy.write_count == plain.write_count and busy.flags == plain.flags
    plain.close()
    busy.close()


def test_checkpoint_without_news_publishes_nothing(tmp_path: Path) -> None:
    with create(tmp_path / "memory") as memory:
        assert memory.checkpoint() == 1
        memory.write(*batch(1))
        assert memory.checkpoint() == memory.checkpoint() == 2 == memory.generation


def test_checkpoint_is_due_at_64_mib_or_four_snapshots() -> None:
    assert not checkpoint_due((64 << 20) - 1, 10)
    assert checkpoint_due(64 << 20, 10)
    assert not checkpoint_due(64 << 20, 32 << 20)
    assert checkpoint_due(128 << 20, 32 << 20)


def test_journal_since_the_last_snapshot_is_bounded_also_across_crashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count began at zero at each opening: a writer that kept being killed made the replay grow without end."""
    monkeypatch.setattr(checkpoints, "JOURNAL_BYTES_MIN", 12_000)
    monkeypatch.setattr(checkpoints, "SNAPSHOT_FACTOR", 0)
    path = tmp_path / "memory-0"
    create(path).close()
    generations = []
    for crash in range(30):
        memory = emm.open(str(path), "a")
        memory.write(*batch(crash))
        generations.append(memory.generation)
        assert memory.replayed < 40
        path = Path(shutil.copytree(path, tmp_path / f"memory-{crash + 1}"))
        memory.close()
    assert generations[-1] > 1
    assert len(files(path)) > 3


def test_segment_that_has_grown_is_sealed_and_the_next_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_writer, "SEGMENT_BYTES_MAX", 2000)
    life = Life.begin(tmp_path / "memory", 12)
    contents = files(life.crash(tmp_path / "crashed"))
    segments = [name for name in contents if name.endswith(".wal")]
    assert len(segments) >= 3
    assert all(commits(contents, number)[0].sealed for number in range(1, len(segments)))
    life.memory.close()
    with emm.open(str(tmp_path / "crashed")) as memory:
        assert memory.digest == life.digests[12]


# --- marks and seals -----------------------------------------------------------------------------


def kinds(path: Path, segment: int = 1) -> list[str]:
    """Record types of a segment, in order."""
    contents = files(path)
    reader, _ = commits(contents, segment)
    found, offset = [], SEGMENT_HEADER.size
    data = contents[f"{segment:016d}.wal"]
    while offset < len(data):
        record = decode_record(data[offset:], offset, reader.uuid)
        found.append(record.type.name)
        offset += record.size
    return found


def test_idle_second_brings_a_mark_and_only_one(tmp_path: Path) -> None:
    life = Life.begin(tmp_path / "memory", 2)
    assert kinds(life.path) == ["WRITE", "COMMIT"] * 2
    deadline = time.monotonic() + 5
    started = time.monotonic()
    while "MARK" not in kinds(life.path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert time.monotonic() - started > 0.8, "not before a second has passed"
    assert kinds(life.path) == [*["WRITE", "COMMIT"] * 2, "MARK"]
    found = recover(LocalDirectory(life.path))
    assert found.proven_lsn == 2 and not found.unproven
    time.sleep(0.2)
    assert kinds(life.path).count("MARK") == 1
    life.write(1)
    assert kinds(life.path)[-2:] == ["WRITE", "COMMIT"]
    life.memory.close()


def test_close_seals_and_a_memory_without_writes_gets_no_segment(tmp_path: Path) -> None:
    life = Life.begin(tmp_path / "memory", 2)
    life.memory.close()
    assert kinds(life.path) == [*["WRITE", "COMMIT"] * 2, "SEAL"]
    create(tmp_path / "empty").close()
    assert sorted(files(tmp_path / "empty")) == ["0000000000000001.emm"]


def test_marks_race_with_writes_and_harm_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_writer, "IDLE_SECONDS", 0.0)
    life = Life.begin(tmp_path / "memory")
    for lsn in range(300):
        life.write(1)
        if lsn % 3 == 0:
            time.sleep(0.0005)
    contents = files(life.crash(tmp_path / "crashed"))
    life.memory.close()
    assert kinds(life.path).count("MARK") > 10
    assert len(commits(contents)[1]) == 300
    with emm.open(str(tmp_path / "crashed")) as memory:
        assert memory.digest == life.digests[300]


def test_failed_mark_is_told_at_the_next_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_writer, "IDLE_SECONDS", 0.05)
    url = str(tmp_path / "memory")
    create(Path(url)).close()
    directory = FaultyDirectory(url, 0, "before")
    monkeypatch.setattr(opening, "open_directory", lambda _: directory)
    memory = emm.open(url, "a")
    memory.write(*batch(1))
    wanted = memory.digest
    directory.fail_at = directory.changes + 2  # the sync of the mark
    deadline = time.monotonic() + 5
    while directory.changes < directory.fail_at and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    with pytest.raises(emm.ClosedError, match="the medium says no"):
        memory.write(*batch(2))
    memory.close()
    monkeypatch.undo()
    with emm.open(url, "a") as again:
        assert again.digest == wanted


# --- pruning -------------------------------------------------------------------------------------


def test_r10_files_go_in_ascending_order_snapshots_before_the_segments_they_need(tmp_path: Path) -> None:
    life = Life.begin(tmp_path / "memory")
    for _ in range(5):
        life.write(1)
        life.memory.checkpoint()
    life.memory.close()
    directory = FaultyDirectory(str(life.path), 0, "before")
    with contextlib.closing(directory):
        removed = prune(directory, keep=2, journal=True)
    assert removed.names == (
        *(f"000000000000000{n}.emm" for n in (4,)),
        *(f"000000000000000{n}.wal" for n in range(1, 5)),
    )
    assert directory.log == [f"remove {name}" for name in removed.names]
    with emm.open(str(life.path)) as memory:
        assert memory.digest == life.digests[5]


def test_prune_keeps_three_and_the_whole_journal_by_default(tmp_path: Path) -> None:
    life = Life.begin(tmp_path / "memory")
    for _ in range(6):
        life.write(1)
        life.memory.checkpoint()
    names = sorted(files(life.path))
    assert [name for name in names if name.endswith(".emm")] == [f"000000000000000{n}.emm" for n in (5, 6, 7)]
    assert [name for name in names if name.endswith(".wal")] == [f"000000000000000{n}.wal" for n in range(1, 7)]
    life.memory.close()


@pytest.mark.parametrize("keep", [0, -1])
def test_prune_keeps_at_least_one(tmp_path: Path, keep: int) -> None:
    with create(tmp_path / "memory") as memory, pytest.raises(InputError):
        memory.prune(keep=keep)


def test_prune_removes_nothing_when_the_newest_snapshot_is_damaged(tmp_path: Path) -> None:
    life = Life.begin(tmp_path / "memory")
    for _ in range(2):
        life.write(1)
        life.memory.checkpoint()
    path = life.path / "0000000000000003.emm"
    data = bytearray(path.read_bytes())
    data[6000] ^= 1
    path.write_bytes(data)
    before = files(life.path)
    with pytest.raises(ChecksumError):
        life.memory.prune(keep=1, journal=True)
    assert files(life.path) == before
    life.memory.close()


def test_journal_pruned_memory_still_opens_writes_and_refuses_to_resolve(tmp_path: Path) -> None:
    """All segments pruned once looked like "no gap": a re-solve then called the memory corrupt."""
    life = Life.begin(tmp_path / "memory", 3, key_dim=64)
    life.memory.checkpoint()
    pruned = life.memory.prune(keep=1, journal=True)
    assert pruned.names == ("0000000000000001.emm", WAL) and pruned.freed_bytes > 0
    with pytest.raises(HistoryError, match="pruned"):
        life.memory.expand(32)
    life.write(1)
    with pytest.raises(HistoryError, match="pruned"):
        life.memory.expand(32)
    life.memory.close()
    with emm.open(str(life.path), "a") as memory:
        assert memory.digest == life.digests[4]
        with pytest.raises(HistoryError, match="pruned"):
            memory.expand(32)
    assert emm.verify(str(life.path)).exit_code == 0


# --- readers beside a writer ---------------------------------------------------------------------


def test_readers_beside_a_writer_see_only_whole_states(tmp_path: Path) -> None:
    """The writer checkpoints and prunes all the time; readers list, choose and map while files come and go."""
    life = Life.begin(tmp_path / "memory")
    seen: list[tuple[int, str]] = []
    faults: list[BaseException] = []
    done = threading.Event()

    def watch() -> None:
        last = 0
        while not done.is_set():
            try:
                with emm.open(str(life.path)) as memory:
                    seen.append((memory.lsn, memory.digest))
                    assert memory.lsn >= last, "time runs backwards"
                    last = memory.lsn
            except BaseException as error:
                faults.append(error)

    readers = [threading.Thread(target=watch) for _ in range(2)]
    for reader in readers:
        reader.start()
    for lsn in range(120):
        life.write(1)
        if lsn % 4 == 0:
            life.memory.checkpoint()
            life.memory.prune(keep=1, journal=lsn % 8 == 0)
    done.set()
    for reader in readers:
        reader.join()
    life.memory.close()
    assert faults == [] and len(seen) > 10
    assert all(life.digests[lsn] == digest for lsn, digest in seen)


# --- what is held --------------------------------------------------------------------------------


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("mode", ["r", "a"])
def test_closing_releases_every_descriptor_and_mapping(tmp_path: Path, mode: str) -> None:
    """A mapping holds a descriptor of its own; a closed memory that somebody keeps once held it open."""
    life = Life.begin(tmp_path / "memory", 2)
    life.memory.close()
    before = descriptors()
    kept = []
    for _ in range(5):
        memory = emm.open(str(life.path), mode)
        memory.recall(batch(1)[0])
        if mode == "a":
            memory.write(*batch(5))
        memory.close()
        kept.append(memory)
    assert descriptors() == before
    assert str(life.path) not in Path("/proc/self/maps").read_text()
    assert [memory.rank for memory in kept] == [RANK] * 5, "what it was can still be read"


@pytest.mark.parametrize("damage", ["snapshot", "journal", "missing"])
def test_failed_opening_releases_every_descriptor(tmp_path: Path, damage: str) -> None:
    life = Life.begin(tmp_path / "memory", 3)
    path = life.crash(tmp_path / "crashed")
    life.memory.close()
    if damage == "missing":
        shutil.rmtree(path)
    else:
        name = "0000000000000001.emm" if damage == "snapshot" else WAL
        data = bytearray((path / name).read_bytes())
        data[300] ^= 1
        (path / name).write_bytes(data)
    before = descriptors()
    for mode in ("r", "a") * 3:
        with pytest.raises((emm.FormatError, StorageError)):
            emm.open(str(path), mode)
    assert descriptors() == before


def test_memory_dropped_without_close_gives_its_lock_back(tmp_path: Path) -> None:
    """The thread that writes idle marks once kept the writer alive for ever."""
    import gc

    life = Life.begin(tmp_path / "memory", 2)
    digest, path = life.digests[2], life.path
    threads = threading.active_count()
    del life
    gc.collect()
    with emm.open(str(path), "a") as memory:
        assert memory.digest == digest
    deadline = time.monotonic() + 2
    while threading.active_count() >= threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() < threads


def test_opening_holds_little_more_than_the_state(tmp_path: Path) -> None:
    """The bytes a snapshot was read from were once kept beside the state for the session's life."""
    import tracemalloc

    path = str(tmp_path / "memory")
    with emm.create(path, dim=4096, rank=256, key_dim=256) as memory:
        memory.write(np.eye(256, dtype=np.float32)[:3], np.ones((3, 4096), np.float32))
    state_bytes = 4 * 256 * (4096 + 256 + 16)
    tracemalloc.start()
    try:
        memory = emm.open(path, "a")
        held, peak = tracemalloc.get_traced_memory()
        memory.close()
        assert held < 1.25 * state_bytes
        assert peak < 2.5 * state_bytes
        tracemalloc.reset_peak()
        with emm.open(path) as memory:  # mapped: nothing is copied
            assert tracemalloc.get_traced_memory()[1] < 0.25 * state_bytes
    finally:
        tracemalloc.stop()


def test_generation_is_of_the_snapshot_that_was_published(tmp_path: Path) -> None:
    with create(tmp_path / "memory") as memory:
        memory.write(*batch(1))
        generation = memory.checkpoint()
    found = decode_snapshot((tmp_path / "memory" / f"{generation:016d}.emm").read_bytes())
    assert (found.generation, found.lsn, found.lineage.write_count) == (2, 1, 2)
    assert RecordType.SEAL.name in kinds(tmp_path / "memory")
    assert prune(LocalDirectory(tmp_path / "memory"), keep=5).names == ()
