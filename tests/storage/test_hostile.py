"""Directories that mean harm: whatever lies there, one clear error or a lawful state, and soon.

Red when a number from a file is used before it is bounded, when something else than an `EmmError` comes out, when a
name that is no regular file is opened, or when numbers at the end of their range are written out wrongly.
"""

from __future__ import annotations

import os
import random
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import emm
from emm.codec.header import NUMBER_MAX
from emm.codec.snapshot import decode_snapshot, encode_snapshot
from emm.errors import EmmError
from emm.layout import HEADER, RECORD_HEADER, RECORD_MAGIC, SEGMENT_HEADER
from emm.storage.names import segment_name, snapshot_name
from tests.codec.builders import forge_record, recrc
from tests.storage.lab import Life, batch, bodies, commits, digest, files, forge_segment, read


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Three generations, a re-solve among them, and an open segment."""
    root = tmp_path_factory.mktemp("hostile")
    life = Life.begin(root / "memory", 2, key_dim=64)
    life.memory.checkpoint()
    life.write(2)
    life.memory.expand(32)
    life.write(3)
    found = files(life.crash(root / "crashed"))
    life.memory.close()
    return found


def judged(made: dict[str, bytes]) -> None:
    """Recovery gives a state or an `EmmError`, which names a file or a rule."""
    try:
        found = read(made)
    except EmmError as error:
        assert error.file is not None or error.rule is not None
        assert len(str(error)) < 600
    else:
        digest(found)


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1 << 40))
def test_damaged_truncated_swapped_and_renamed_files(contents: dict[str, bytes], seed: int) -> None:
    choose = random.Random(seed)
    made = dict(contents)
    for _ in range(choose.randint(1, 4)):
        name = choose.choice(sorted(made))
        data = bytearray(made[name])
        act = choose.choice(["flip", "flip", "cut", "grow", "swap", "rename", "remove", "double", "zero"])
        if act == "flip" and data:
            for _ in range(choose.randint(1, 5)):
                data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)
            made[name] = bytes(data)
        elif act == "cut":
            made[name] = bytes(data[: choose.randrange(len(data) + 1)])
        elif act == "grow":
            made[name] = bytes(data) + choose.randbytes(choose.randint(1, 300))
        elif act == "swap":
            other = choose.choice(sorted(made))
            made[name], made[other] = made[other], made[name]
        elif act == "rename":
            number = choose.choice([1, 2, 3, 4, 5, NUMBER_MAX])
            made[(segment_name if name.endswith("wal") else snapshot_name)(number)] = made.pop(name)
        elif act == "remove" and len(made) > 1:
            del made[name]
        elif act == "double":
            made[segment_name(choose.randint(1, 9))] = bytes(data)
        elif act == "zero" and data:
            start = choose.randrange(len(data))
            data[start : start + 64] = bytes(len(data[start : start + 64]))
            made[name] = bytes(data)
    judged(made)


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1 << 40))
def test_forged_headers_with_valid_checksums(contents: dict[str, bytes], seed: int) -> None:
    """The attacker knows every polynomial: segment headers and records are patched and sealed again."""
    choose = random.Random(seed)
    made = dict(contents)
    name = choose.choice([each for each in sorted(made) if each.endswith(".wal")])
    data = made[name]
    patch = choose.choice([b"\xff" * 8, bytes(8), choose.randbytes(8), (1 << 32).to_bytes(8, "little"), b"\1"])
    if choose.random() < 0.4:
        at = choose.randrange(8, 124)
        head = data[:at] + patch + data[at + len(patch) : SEGMENT_HEADER.size]
        made[name] = recrc(head[: SEGMENT_HEADER.size], 124) + data[SEGMENT_HEADER.size :]
    else:
        magic = RECORD_MAGIC.to_bytes(4, "little")
        starts = [at for at in range(SEGMENT_HEADER.size, len(data), 8) if data[at : at + 4] == magic]
        start = choose.choice(starts)
        end = next((other for other in starts if other > start), len(data))
        record = data[start:end]
        at = choose.randrange(4, min(len(record) - 4, RECORD_HEADER.size + 48))
        patch = patch[: max(1, len(record) - 4 - at)]
        uuid = made[snapshot_name(1)][64:80]
        made[name] = data[:start] + forge_record(record, at, patch, uuid)[: len(record)] + data[end:]
    tracemalloc.start()
    try:
        judged(made)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from([snapshot_name(1), snapshot_name(2), segment_name(1)]), st.binary(max_size=400), min_size=1
    )
)
def test_any_bytes_under_our_names(made: dict[str, bytes]) -> None:
    judged(made)


@pytest.mark.parametrize("kind", ["directory", "fifo", "link", "dangling link"])
@pytest.mark.parametrize("name", [snapshot_name(9), segment_name(9)])
def test_names_that_are_no_regular_files(tmp_path: Path, contents: dict[str, bytes], kind: str, name: str) -> None:
    """None of them is followed, waited for or taken for damage that hides: the answer comes, and is an `EmmError`."""
    for each, data in contents.items():
        (tmp_path / each).write_bytes(data)
    target = tmp_path / name
    if kind == "directory":
        target.mkdir()
    elif kind == "fifo":
        os.mkfifo(target)
    else:
        target.symlink_to("/dev/zero" if kind == "link" else "/nowhere/at/all")
    for mode in ("r", "a"):
        try:
            with emm.open(str(tmp_path), mode) as memory:
                assert memory.lsn == 7
        except EmmError:
            pass
    assert os.path.lexists(target)


def test_huge_sparse_snapshot_is_refused_by_its_length(tmp_path: Path, contents: dict[str, bytes]) -> None:
    for each, data in contents.items():
        (tmp_path / each).write_bytes(data)
    with open(tmp_path / snapshot_name(3), "r+b") as file:
        file.truncate(1 << 42)
    tracemalloc.start()
    try:
        with pytest.raises(EmmError):
            emm.open(str(tmp_path))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def last_number(path: Path, contents: dict[str, bytes], **fields: int) -> None:
    """A memory of one snapshot, sealed with the largest numbers the fields can hold."""
    snapshot = decode_snapshot(contents[snapshot_name(3)])
    lineage = replace(
        snapshot.lineage,
        write_count=fields.get("write_count", 0),
        segment_next=fields.get("segment_next", 1),
        floor_generation=fields.get("generation", 3),
    )
    generation = fields.get("generation", 3)
    made = replace(snapshot, generation=generation, lsn=fields.get("lsn", 7), lineage=lineage)
    path.mkdir()
    (path / snapshot_name(generation)).write_bytes(encode_snapshot(made))


def test_write_count_at_its_end_stays_there(tmp_path: Path, contents: dict[str, bytes]) -> None:
    """`struct.error` at the checkpoint, once."""
    last_number(tmp_path / "memory", contents, write_count=(1 << 64) - 1)
    with emm.open(str(tmp_path / "memory"), "a") as memory:
        memory.write(*batch(1, key_dim=64))
    with emm.open(str(tmp_path / "memory")) as memory:
        assert memory.write_count == (1 << 64) - 1


@pytest.mark.parametrize(
    ("fields", "act"),
    [
        ({"lsn": (1 << 64) - 1}, "write"),
        ({"segment_next": NUMBER_MAX}, "second segment"),
        ({"generation": NUMBER_MAX}, "checkpoint"),
    ],
    ids=["lsn", "segment", "generation"],
)
def test_numbers_that_are_used_up_are_a_limit_and_lose_nothing(
    tmp_path: Path, contents: dict[str, bytes], fields: dict[str, int], act: str
) -> None:
    path = tmp_path / "memory"
    last_number(path, contents, **fields)
    memory = emm.open(str(path), "a")
    acknowledged = memory.digest
    with pytest.raises((emm.LimitError, emm.InputError)):
        if act == "second segment":
            memory.write(*batch(1, key_dim=64))
            acknowledged = memory.digest
            memory.checkpoint()
            memory.write(*batch(2, key_dim=64))
            pytest.fail("the segment after the last has a name of seventeen digits")
        memory.write(*batch(1, key_dim=64))
        acknowledged = memory.digest
        memory.checkpoint()
    with pytest.raises(EmmError) if fields.get("generation") else _nothing():
        memory.close()
    assert all(len(name) == 20 for name in files(path))
    with emm.open(str(path)) as again:
        assert again.digest == acknowledged
    emm.open(str(path), "r").close()


class _nothing:  # noqa: N801 - reads as a word where it stands
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_journal_of_many_tiny_commits_is_read_in_linear_time(contents: dict[str, bytes]) -> None:
    import time

    from emm.codec.pairs import encode_parameters
    from emm.layout import RecordType

    first = {snapshot_name(1): contents[snapshot_name(1)], segment_name(1): contents[segment_name(1)]}
    reader, logged = commits(first)
    seconds = []
    for n in (2000, 8000):
        many = [*bodies(logged), *[[(RecordType.PARAMETERS, encode_parameters(0.5))]] * n]
        made = {**first, segment_name(1): forge_segment(reader.header, many)}
        started = time.perf_counter()
        assert read(made).lsn == n + len(logged)
        seconds.append(time.perf_counter() - started)
    assert seconds[1] < 12 * seconds[0], seconds
    assert HEADER.size == 128
