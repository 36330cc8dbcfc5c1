"""R-9: what was read after an unclean end may have been page cache only, so it is logged again before it is built on.

Red when the open for append returns before the new segment is durable, when it repeats what was proven or leaves out
what was not, when a second crash during or after it loses or doubles a commit, or when the old segment is touched.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import emm
from emm.codec.journal import decode_segment_header
from emm.errors import FencedError, StorageError
from emm.layout import RecordType
from emm.memory import opening
from emm.storage.recovery import recover
from emm.vfs.local import LocalDirectory
from tests.storage.faulty import FaultyDirectory
from tests.storage.lab import Life, batch, bodies, commits, digest, files, forge_segment

WAL = "0000000000000001.wal"
NEXT = "0000000000000002.wal"


@pytest.fixture
def crashed(tmp_path: Path) -> tuple[Path, list[str]]:
    life = Life.begin(tmp_path / "memory", 3)
    path = life.crash(tmp_path / "crashed")
    life.memory.close()
    return path, life.digests


def test_r9_last_commit_is_logged_again_with_its_chain_and_a_mark(crashed: tuple[Path, list[str]]) -> None:
    path, digests = crashed
    before = files(path)
    memory = emm.open(str(path), "a")
    after = files(path)
    assert after[WAL] == before[WAL]
    header = decode_segment_header(after[NEXT])
    old = commits(before)[1]
    assert (header.first_lsn, header.previous_bytes) == (3, len(before[WAL]))
    assert header.chain == old[1].commit.chain
    reader, again = commits(after, 2)
    assert [each.lsn for each in again] == [3] and again[0].commit == old[2].commit
    assert [r.payload for r in again[0].records] == [r.payload for r in old[2].records]
    assert reader.proven_lsn == 3 and reader.valid_bytes == reader.size, "a mark proves it"
    assert memory.digest == digests[3]
    memory.close()


def test_r9_every_unproven_commit_is_logged_again(tmp_path: Path) -> None:
    """A writer of another make that proves late: five commits, none of them proven."""
    life = Life.begin(tmp_path / "memory", 5)
    contents = files(life.path)
    life.memory.close()
    reader, logged = commits(contents)
    path = tmp_path / "late"
    path.mkdir()
    (path / "0000000000000001.emm").write_bytes(contents["0000000000000001.emm"])
    (path / WAL).write_bytes(forge_segment(reader.header, bodies(logged), synced=2))
    memory = emm.open(str(path), "a")
    header = decode_segment_header((path / NEXT).read_bytes())
    assert header.first_lsn == 3
    assert [each.lsn for each in commits(files(path), 2)[1]] == [3, 4, 5]
    assert memory.digest == life.digests[5]
    memory.write(*batch(6))
    wanted = memory.digest
    copy = shutil.copytree(path, tmp_path / "again")
    memory.close()
    with emm.open(str(copy)) as again:
        assert again.digest == wanted


@pytest.mark.parametrize("end", ["crashed", "sealed"])
def test_r9_a_segment_is_synced_before_its_length_is_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Killed between write and sync, a segment is page cache only; a power cut would make it shorter than said."""
    life = Life.begin(tmp_path / "memory", 3)
    path = life.crash(tmp_path / "crashed") if end == "crashed" else life.path
    life.memory.close()
    if end == "sealed":
        (path / "0000000000000002.emm").unlink()  # as if killed between the seal and the checkpoint
    for fail_at in (1, 0):
        directory = FaultyDirectory(str(path), fail_at, "before")
        monkeypatch.setattr(opening, "open_directory", lambda _, found=directory: found)
        if fail_at:
            with pytest.raises(StorageError, match="cannot sync"):
                emm.open(str(path), "a")
        else:
            with emm.open(str(path), "a") as memory:
                memory.write(*batch(6))
            assert directory.log[:2] == [f"sync {WAL}", f"publish {NEXT}"]


def test_clean_end_logs_nothing_again(tmp_path: Path) -> None:
    life = Life.begin(tmp_path / "memory", 3)
    life.memory.close()
    before = files(life.path)
    with emm.open(str(life.path), "a") as memory:
        assert memory.digest == life.digests[3] and not memory.notices and memory.replayed == 0
    assert files(life.path) == before


def test_r9_unsealed_but_proven_end_is_ended_by_a_sealed_segment(crashed: tuple[Path, list[str]]) -> None:
    """Without it a memory that was killed once would be called unsealed for ever."""
    path, digests = crashed
    memory = emm.open(str(path), "a")
    again = shutil.copytree(path, path.parent / "again")  # killed after re-logging: everything is proven by its mark
    memory.close()
    found = recover(LocalDirectory(again))
    assert not found.unproven and found.torn is None and not found.clean
    with emm.open(str(again), "a") as memory:
        assert memory.digest == digests[3]
    assert commits(files(again), 3)[0].sealed
    assert emm.verify(str(again)).exit_code == 0


def test_r9_tail_torn_by_the_first_crash_stays_out_after_the_second(crashed: tuple[Path, list[str]]) -> None:
    path, digests = crashed
    data = (path / WAL).read_bytes()
    (path / WAL).write_bytes(data[:-9])
    for _ in range(3):  # every opening is killed
        memory = emm.open(str(path), "a")
        assert memory.digest == digests[2]
        next_path = path.parent / (path.name + "x")
        shutil.copytree(path, next_path)
        memory.close()
        path = next_path
    with emm.open(str(path), "a") as memory:
        assert memory.digest == digests[2]
        memory.write(*batch(3))
        assert memory.digest == digests[3]
    assert (path / WAL).read_bytes() == data[:-9]
    assert emm.verify(str(path)).exit_code == 0


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("change", [1, 2])  # publish of the new segment, opening it for append
def test_r9_crash_in_the_middle_of_logging_again(
    crashed: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, how: str, change: int
) -> None:
    path, digests = crashed
    for _ in range(2):
        directory = FaultyDirectory(str(path), change, how)
        monkeypatch.setattr(opening, "open_directory", lambda _, directory=directory: directory)
        with pytest.raises(StorageError):
            emm.open(str(path), "a")
        monkeypatch.undo()
        found = recover(LocalDirectory(path))
        assert (found.lsn, digest(found)) == (3, digests[3])
    with emm.open(str(path), "a") as memory:
        assert memory.digest == digests[3]
    assert emm.verify(str(path)).exit_code == 0


def test_n4_segment_that_somebody_else_published_first_fences(crashed: tuple[Path, list[str]]) -> None:
    """No lock helps on a medium that lost it: the name decides, before anything is acknowledged."""
    path, _ = crashed
    with emm.open(str(path), "a") as memory:
        memory.checkpoint()
        taken = path / "0000000000000003.wal"
        taken.write_bytes(b"another writer's")
        with pytest.raises(FencedError) as caught:
            memory.write(*batch(9))
        assert caught.value.rule == "N-4" and caught.value.exit_code == 11
        assert taken.read_bytes() == b"another writer's"


def test_n4_generation_that_somebody_else_published_first_fences(crashed: tuple[Path, list[str]]) -> None:
    path, _ = crashed
    memory = emm.open(str(path), "a")
    taken = path / "0000000000000002.emm"
    taken.write_bytes(b"another writer's")
    with pytest.raises(FencedError) as caught:
        memory.checkpoint()
    assert caught.value.rule == "N-4"
    memory.close()
    assert taken.read_bytes() == b"another writer's"


def test_n5_second_writer_is_fenced_and_readers_are_not(tmp_path: Path) -> None:
    life = Life.begin(tmp_path / "memory", 1)
    with pytest.raises(FencedError) as caught:
        emm.open(str(life.path), "a")
    assert caught.value.exit_code == 11
    with emm.open(str(life.path)) as reader:
        assert reader.digest == life.digests[1]
    life.memory.close()
    emm.open(str(life.path), "a").close()


def test_records_logged_again_say_what_was_synced_when_they_were_written(crashed: tuple[Path, list[str]]) -> None:
    path, _ = crashed
    memory = emm.open(str(path), "a")
    reader, again = commits(files(path), 2)
    memory.close()
    assert [record.synced_through for each in again for record in each.records] == [2]
    assert all(record.type is RecordType.WRITE for each in again for record in each.records)
    assert reader.proven_lsn == 3


def test_temporary_files_of_dead_writers_are_swept_by_the_next_writer_alone(crashed: tuple[Path, list[str]]) -> None:
    path, digests = crashed
    left = path / ".emm-00112233445566778899aabb.tmp"
    left.write_bytes(b"half a snapshot")
    with emm.open(str(path)) as memory:
        assert memory.digest == digests[3]
    assert left.exists(), "a reader removes nothing"
    emm.open(str(path), "a").close()
    assert not left.exists()
