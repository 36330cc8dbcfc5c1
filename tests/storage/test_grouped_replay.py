"""Replay in groups and reads through a window: the same bits, the same errors, as one commit and one read at a time.

Red when: a group's pairs are joined in another order or lose a gate, the error of a later commit hides that of an
earlier one, a group is applied past a commit that is refused, a window's failure counts as the end of the log, or
recovery opens the file for every record again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import emm
from emm.codec.journal import JournalRecord
from emm.codec.pairs import Commit, PairBatch, decode_pairs, decode_writes, encode_expand, encode_pairs
from emm.codec.payload import state_digest
from emm.errors import CorruptionError, FormatError, StorageError
from emm.layout import RecordType
from emm.state import Parameters, empty_state
from emm.storage import grouped_replay
from emm.storage.grouped_replay import GroupedReplay
from emm.storage.names import segment_name
from emm.storage.recovery import recover
from emm.storage.replay import Replayer
from emm.storage.segment_file import LoggedCommit, SegmentReader
from emm.testing.frozen import FrozenDirectory
from tests.storage.lab import DIM, KEY_DIM, RANK, Life, bodies, commits, digest, files, forge_segment, read

WAL = segment_name(1)
Groups = Callable[[int], None]


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> Groups:
    """Sets how many bytes of journal make a group."""
    return lambda size: monkeypatch.setattr(grouped_replay, "GROUP_BYTES", size)


def write(seed: int, n: int, *, rank: int = RANK, decay: float = 1.0) -> PairBatch:
    random = np.random.default_rng([seed, 5])
    keys, values = random.standard_normal((n, KEY_DIM), np.float32) / 4, random.standard_normal((n, DIM), np.float32)
    gates = random.uniform(0.1, 4, n).astype(np.float32)
    decays = np.where(random.uniform(size=n) < 0.5, decay, 1).astype(np.float32)
    return PairBatch(rank, keys, values, gates, decays)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """120 commits of every kind: 1 to 7 pairs, several records, decays, unlearns, forgets, a bare expansion."""
    path = tmp_path_factory.mktemp("grouped") / "memory"
    memory = emm.create(str(path), dim=DIM, rank=RANK, key_dim=32, expand_at=0.0)
    random = np.random.default_rng(9)
    for number in range(120):
        n = 1 + number % 7
        keys, values = random.standard_normal((n, 32), np.float32) / 6, random.standard_normal((n, DIM), np.float32)
        memory.write(keys, values, decay_gate=0.99 if number in (50, 51, 90) else 1.0, write_gate=1 + number % 3)
        if number in (10, 30, 31):
            memory.unlearn(keys, values, write_gate=1 + number % 3)
        if number == 40:
            memory.forget(keys)
        if number == 70:
            with pytest.warns(UserWarning, match="bare"):
                memory.expand(32, bare=True)
    contents = files(path)
    memory.close()
    return contents


@pytest.mark.parametrize("size", [1, 400, 3000, 1 << 22])
def test_any_grouping_gives_the_bits_of_one_commit_at_a_time(many: dict[str, bytes], groups: Groups, size: int) -> None:
    recovered = read({name: data for name, data in many.items() if name.endswith("1.emm") or name.endswith(".wal")})
    replayer = Replayer(recovered.snapshot.state.copy(), expand_at=recovered.snapshot.lineage.expand_at)
    for logged in commits(many)[1]:
        replayer.apply(logged)
    groups(size)
    found = read(many)
    assert digest(found) == state_digest(replayer.state, found.lsn).hex()
    assert (found.write_count, found.replayed) == (replayer.write_count, 125)


def test_a5_writes_decoded_together_are_the_writes_decoded_one_by_one() -> None:
    """Runs of equal headers, of one and of several pairs, and a change between them."""
    sizes = [1, 1, 1, 3, 3, 1, 2]
    batches = [write(seed, n, decay=0.9) for seed, n in enumerate(sizes)]
    records = [JournalRecord(RecordType.WRITE, 1, 0, encode_pairs(RecordType.WRITE, each)) for each in batches]
    found = decode_writes(records, KEY_DIM, DIM)
    assert found is not None
    for name in ("keys", "values", "write_gates", "decay_gates"):
        expected = np.concatenate([getattr(decode_pairs(each, KEY_DIM, DIM), name) for each in records])
        assert getattr(found, name).tobytes() == expected.tobytes(), name
    other = JournalRecord(RecordType.WRITE, 1, 0, encode_pairs(RecordType.WRITE, write(9, 1, rank=32)))
    assert decode_writes([*records, other], KEY_DIM, DIM) is None


def test_j14_number_out_of_range_is_seen_in_the_middle_of_a_run() -> None:
    batches = [write(seed, 1) for seed in range(4)]
    batches[2].values[0, 3] = np.inf
    records = [JournalRecord(RecordType.WRITE, 1, 0, encode_pairs(RecordType.WRITE, each)) for each in batches]
    with pytest.raises(FormatError) as caught:
        decode_writes(records, KEY_DIM, DIM)
    assert caught.value.rule == "J-14"


# --- errors come in the order of the log ---------------------------------------------------------


def forged(tmp_path: Path, bad: dict[int, tuple[RecordType, bytes]], n: int = 30) -> dict[str, bytes]:
    """A journal of n commits with right checksums, some of whose records are replaced."""
    life = Life.begin(tmp_path / "memory", n)
    contents = files(life.path)
    life.memory.close()
    reader, logged = commits(contents)
    records = bodies(logged)
    for number, record in bad.items():
        records[number - 1] = [record]
    return {**contents, WAL: forge_segment(reader.header, records)}


def refused_write(key: float = 2.0**39, gate: float = 1.0, rank: int = RANK) -> tuple[RecordType, bytes]:
    """Decodes, and cannot be applied: its key's squares add up to more than the arithmetic allows (A-9)."""
    batch = replace(write(1, 1, rank=rank), keys=np.full((1, KEY_DIM), key, np.float32))
    return RecordType.WRITE, encode_pairs(RecordType.WRITE, batch)


@pytest.mark.parametrize("size", [1, 700, 1 << 22])
def test_r7_the_first_commit_that_cannot_be_replayed_is_named(tmp_path: Path, groups: Groups, size: int) -> None:
    too_long = refused_write(2.0**39 * 1.5)
    contents = forged(tmp_path, {12: too_long, 14: refused_write(rank=32), 20: too_long})
    groups(size)
    with pytest.raises(CorruptionError) as caught:
        read(contents)
    assert caught.value.rule == "R-7" and caught.value.offset == commits(contents)[1][11].offset
    assert caught.value.file is not None and caught.value.file.endswith(WAL)


@pytest.mark.parametrize("size", [1, 700, 1 << 22])
def test_r8_a_rank_that_is_not_the_states_is_refused_inside_a_group(tmp_path: Path, groups: Groups, size: int) -> None:
    contents = forged(tmp_path, {9: (RecordType.WRITE, encode_pairs(RecordType.WRITE, write(1, 1, rank=32)))})
    groups(size)
    with pytest.raises(FormatError) as caught:
        read(contents)
    assert caught.value.rule == "R-8" and caught.value.offset == commits(contents)[1][8].offset


@pytest.mark.parametrize("size", [1, 700, 1 << 22])
def test_a_commit_that_cannot_be_replayed_comes_before_a_broken_chain(
    tmp_path: Path, groups: Groups, size: int
) -> None:
    contents = forged(tmp_path, {12: refused_write(2.0**39 * 1.5)})
    reader, logged = commits(contents)
    bent = bytearray(forge_segment(reader.header, bodies(logged)[:20]))
    chain = bytes(32)
    rest = forge_segment(replace(reader.header, first_lsn=21, chain=chain), bodies(logged)[20:])
    contents[WAL] = bytes(bent) + rest[128:]
    groups(size)
    with pytest.raises(CorruptionError) as caught:
        read(contents)
    assert caught.value.rule == "R-7" and caught.value.offset == logged[11].offset


def test_nothing_behind_a_refused_commit_is_applied(groups: Groups) -> None:
    groups(1000)
    replayer = Replayer(empty_state(Parameters(DIM, KEY_DIM, RANK)))
    payloads = [(RecordType.WRITE, encode_pairs(RecordType.WRITE, write(seed, 1))) for seed in range(40)]
    payloads[3] = refused_write(2.0**39 * 1.5)

    def logged(number: int) -> LoggedCommit:
        kind, payload = payloads[number]
        record = JournalRecord(kind, number + 1, number, payload, 200 * number)
        commit = Commit(0, 1, 1, 0.0, bytes(32))
        return LoggedCommit(number + 1, (record,), commit, 1, 200 * number, 200 * (number + 1))

    with GroupedReplay(replayer) as grouped, pytest.raises(CorruptionError):
        for number in range(40):
            grouped.apply(logged(number))
        grouped.settle()
    grouped.settle()
    assert replayer.write_count == 3


def test_commits_that_hold_nothing_more_are_passed_over() -> None:
    """A re-solve leaves out pairs that were unlearned, and with them whole commits."""
    replayer = Replayer(empty_state(Parameters(DIM, KEY_DIM, RANK)))
    with GroupedReplay(replayer) as grouped:
        for number in range(3):
            grouped.apply(LoggedCommit(number + 1, (), Commit(0, 1, 1, 0.0, bytes(32)), 1, 0, 100))
        grouped.settle()
    assert replayer.write_count == 0


@pytest.mark.parametrize("alone", [1, 700, 1 << 20])
def test_commits_applied_alone_and_joined_give_the_same_bits(
    many: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, alone: int
) -> None:
    expected = digest(read(many))
    monkeypatch.setattr(grouped_replay, "ALONE_BYTES", alone)
    assert digest(read(many)) == expected


# --- the window ----------------------------------------------------------------------------------


class Counting(FrozenDirectory):
    """Counts reads of journal segments; from `bad` on, their bytes cannot be read."""

    reads = 0
    bad = 1 << 60

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        if name.endswith(".wal"):
            self.reads += 1
            if offset + length > self.bad:
                raise StorageError("cannot read: the medium says no", file=name)
        return super().read_at(name, offset, length)


def test_small_commits_are_read_a_window_at_a_time(many: dict[str, bytes]) -> None:
    directory = Counting(many)
    recover(directory)
    assert directory.reads <= 3, "the header, and one window"


def test_a_bad_place_raises_when_it_is_reached_and_not_before(many: dict[str, bytes]) -> None:
    """Every commit before it is still yielded: verify says up to where the log could be read."""
    _, whole = commits(many)
    directory = Counting(many)
    directory.bad = whole[60].offset + 50
    reader = SegmentReader(directory, 1, recover(FrozenDirectory(many)).snapshot.uuid)
    with pytest.raises(StorageError):
        deque(reader.commits())
    assert reader.last_lsn == 60
    assert directory.reads < 6 * 60, "the window that failed is not tried again for every record"
    with pytest.raises(StorageError):
        recover(directory)


def test_expand_records_between_writes_end_a_group(groups: Groups, tmp_path: Path) -> None:
    """The writes behind an expansion have its rank; applied before it they would be refused."""
    life = Life.begin(tmp_path / "memory", 5, key_dim=32)
    contents = files(life.path)
    life.memory.close()
    reader, logged = commits(contents)
    records = bodies(logged)
    random = np.random.default_rng(3)
    ones = np.ones(2, np.float32)
    wide = PairBatch(
        32, random.standard_normal((2, 32), np.float32) / 6, random.standard_normal((2, DIM), np.float32), ones, ones
    )
    records += [[(RecordType.EXPAND, encode_expand(32))], [(RecordType.WRITE, encode_pairs(RecordType.WRITE, wide))]]
    found = read({**contents, WAL: forge_segment(reader.header, records)})
    assert (found.lsn, found.state.parameters.rank, found.write_count) == (7, 32, 12)
