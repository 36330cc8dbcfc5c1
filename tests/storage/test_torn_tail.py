"""The writer died here, or the medium lies: the two must never be mixed up.

A batch that was being written when the power failed is a torn tail: the memory ends with the commit before it, and says
so. Bytes that were proven durable and no longer parse are corruption: opening is refused. Red when recovery takes a
torn tail for corruption or the other way round, when a partial batch is applied, when the largest proof is not looked
for beyond damage (J-19), or when the notice is dropped.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import emm
from emm.codec.journal import encode_record
from emm.errors import CorruptionError, FormatError
from emm.layout import SEGMENT_HEADER, RecordType
from tests.storage.lab import Life, commits, digest, files, read

WAL = "0000000000000001.wal"


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], list[str]]:
    """Four commits of two pairs, the writer killed: (files, digest by LSN)."""
    root = tmp_path_factory.mktemp("torn")
    life = Life.begin(root / "memory", 4)
    contents = files(life.crash(root / "crashed"))
    life.memory.close()
    return contents, life.digests


def test_cut_at_every_byte_of_the_last_batch_gives_the_commit_before(
    crashed: tuple[dict[str, bytes], list[str]],
) -> None:
    contents, digests = crashed
    last = commits(contents)[1][-1]
    assert last.end == len(contents[WAL])
    for cut in range(last.offset, last.end + 1):
        found = read({**contents, WAL: contents[WAL][:cut]})
        lsn = 4 if cut == last.end else 3
        assert (found.lsn, digest(found)) == (lsn, digests[lsn]), cut
        assert (found.torn is not None) is (last.offset < cut < last.end), cut
        assert found.notices, cut


def test_cut_tail_is_mended_by_the_next_writer(crashed: tuple[dict[str, bytes], list[str]], tmp_path: Path) -> None:
    contents, digests = crashed
    last = commits(contents)[1][-1]
    for cut in range(last.offset, last.end + 1, 23):
        path = tmp_path / f"cut-{cut}"
        path.mkdir()
        for name, data in contents.items():
            (path / name).write_bytes(data[:cut] if name == WAL else data)
        with emm.open(str(path), "a") as memory:
            assert memory.digest == digests[memory.lsn] and memory.lsn >= 3
            assert memory.notices
        assert (path / WAL).read_bytes() == contents[WAL][:cut], "recovery never truncates"
        with emm.open(str(path)) as memory:
            assert memory.digest == digests[memory.lsn] and not memory.notices
        assert emm.verify(str(path)).exit_code == 0
        shutil.rmtree(path)


def test_r6_flip_in_the_proven_region_is_corruption_and_never_a_loss(
    crashed: tuple[dict[str, bytes], list[str]],
) -> None:
    contents, _ = crashed
    last = commits(contents)[1][-1]
    for position in range(SEGMENT_HEADER.size, last.offset):
        for bit in (0, 7) if position % 5 == 0 else (position % 8,):
            damaged = bytearray(contents[WAL])
            damaged[position] ^= 1 << bit
            with pytest.raises(CorruptionError) as caught:
                read({**contents, WAL: damaged})
            assert caught.value.rule == "R-6", (position, bit)
            assert caught.value.expected == "commits up to 3"
            assert caught.value.file is not None and caught.value.file.endswith(WAL)


def test_j2_flip_in_the_segment_header_is_refused(crashed: tuple[dict[str, bytes], list[str]]) -> None:
    """A segment is published with its header, so a damaged one is never a torn write."""
    contents, _ = crashed
    for position in range(SEGMENT_HEADER.size):
        damaged = bytearray(contents[WAL])
        damaged[position] ^= 0x10
        with pytest.raises(FormatError) as caught:
            read({**contents, WAL: damaged})
        assert caught.value.rule in ("J-1", "J-2")
    for length in range(SEGMENT_HEADER.size):
        with pytest.raises(FormatError):
            read({**contents, WAL: contents[WAL][:length]})


def test_r6_flip_in_the_unproven_tail_is_torn_and_said(crashed: tuple[dict[str, bytes], list[str]]) -> None:
    contents, digests = crashed
    last = commits(contents)[1][-1]
    for position in range(last.offset, last.end):
        damaged = bytearray(contents[WAL])
        damaged[position] ^= 1 << position % 8
        found = read({**contents, WAL: damaged})
        assert (found.lsn, digest(found)) == (3, digests[3]), position
        assert found.torn is not None and found.notices[0].startswith("torn tail"), position


@pytest.mark.parametrize(
    "tail", [b"\0" * 4096, b"\xff" * 77, b"EMJR" * 64, b"\0" * 8], ids=["zeros", "ones", "magic", "one step"]
)
def test_rubbish_after_the_last_commit_is_torn(crashed: tuple[dict[str, bytes], list[str]], tail: bytes) -> None:
    contents, digests = crashed
    found = read({**contents, WAL: contents[WAL] + tail})
    assert (found.lsn, digest(found)) == (4, digests[4])
    assert found.torn is not None and not found.clean


def test_j19_proof_beyond_damage_decides(crashed: tuple[dict[str, bytes], list[str]]) -> None:
    """The same flip in commit 4, with a mark after it: now 4 was proven, and losing it would be a lie."""
    contents, digests = crashed
    uuid = contents["0000000000000001.emm"][64:80]
    mark = encode_record(RecordType.MARK, 4, 4, b"", uuid)
    assert digest(read({**contents, WAL: contents[WAL] + mark})) == digests[4]
    last = commits(contents)[1][-1]
    for position in range(last.offset, last.end, 11):
        damaged = bytearray(contents[WAL] + mark)
        damaged[position] ^= 2
        with pytest.raises(CorruptionError) as caught:
            read({**contents, WAL: damaged})
        assert caught.value.expected == "commits up to 4"


def test_j19_proof_of_another_memory_is_none(crashed: tuple[dict[str, bytes], list[str]]) -> None:
    contents, _ = crashed
    foreign = encode_record(RecordType.MARK, 99, 99, b"", b"somebody else's!")
    found = read({**contents, WAL: contents[WAL] + bytes(8) + foreign})
    assert found.lsn == 4 and found.torn is not None


def test_damaged_seal_loses_nothing(tmp_path: Path) -> None:
    life = Life.begin(tmp_path / "memory", 3)
    snapshot = files(life.path)["0000000000000001.emm"]
    life.memory.close()
    sealed = files(life.path)[WAL]
    contents = {"0000000000000001.emm": snapshot, WAL: sealed}
    assert read(contents).clean
    for position in range(len(sealed) - 40, len(sealed)):
        damaged = bytearray(sealed)
        damaged[position] ^= 0x40
        found = read({**contents, WAL: damaged})
        assert (found.lsn, digest(found)) == (3, life.digests[3]) and not found.clean


def test_s6_overlapping_fake_records_end_the_search_for_evidence() -> None:
    """Each eight bytes claims to be a 16 MiB record: without a budget this is quadratic work."""
    import struct
    import tempfile
    import time

    from emm.codec.integrity import crc32
    from emm.errors import LimitError

    with tempfile.TemporaryDirectory() as root:
        life = Life.begin(Path(root) / "memory", 1)
        contents = files(life.path)
        life.memory.close()
    length = 1 << 20
    fake = b""
    for _ in range(4000):
        head = struct.pack("<IHHQQI", 0x524A4D45, 1, 0, 9, 0, length)
        fake += head + crc32(head).to_bytes(4, "little")
    data = contents[WAL] + bytes(8) + fake + bytes(length)
    started = time.monotonic()
    with pytest.raises(LimitError) as caught:
        read({**contents, WAL: data})
    assert caught.value.rule == "S-6"
    assert time.monotonic() - started < 5
