"""Rules N-1 to N-3, N-6, R-1 to R-8, R-11, J-11, J-12, L-5 and L-6: which files belong together, and what is refused.

Every directory here has valid checksums throughout; one rule is broken. Red when that check is taken out of
`recovery`, `segment_file`, `replay` or `snapshot_file`, or when a damaged snapshot is passed over where the journal
does not lead to it.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import emm
from emm.codec.integrity import crc32
from emm.codec.journal import encode_record
from emm.codec.lineage import Lineage
from emm.codec.pairs import encode_expand, encode_parameters
from emm.codec.snapshot import decode_snapshot, encode_snapshot
from emm.errors import (
    ChecksumError,
    CorruptionError,
    FormatError,
    LimitError,
    MissingError,
    NotEmmError,
    StorageError,
    UnsupportedError,
)
from emm.layout import Origin, RecordType
from emm.state import empty_state
from emm.storage.names import list_memory, parse_name, segment_name, snapshot_name
from emm.storage.recovery import recover
from emm.storage.segment_file import SegmentReader
from emm.testing.frozen import FrozenDirectory
from tests.storage.lab import Life, batch, bodies, commits, digest, files, forge_segment, read

EMM, WAL = "0000000000000001.emm", "0000000000000001.wal"


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], list[str]]:
    """Five commits in one segment, the writer killed: (files, digest by LSN)."""
    root = tmp_path_factory.mktemp("recovery")
    life = Life.begin(root / "memory", 5)
    contents = files(life.crash(root / "crashed"))
    life.memory.close()
    return contents, life.digests


@pytest.fixture(scope="module")
def generations(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], list[str]]:
    """Snapshots at LSN 0, 2, 4, and commit 5 after them."""
    root = tmp_path_factory.mktemp("generations")
    life = Life.begin(root / "memory", 2)
    life.memory.checkpoint()
    life.write(2)
    life.memory.checkpoint()
    life.write(1)
    contents = files(life.crash(root / "crashed"))
    life.memory.close()
    assert sorted(contents) == [
        EMM,
        WAL,
        *(f"000000000000000{n}.{kind}" for n in (2, 3) for kind in ("emm", "wal")),
    ]
    return contents, life.digests


def refused(contents: dict[str, bytes], rule: str, kind: type[FormatError] = CorruptionError) -> FormatError:
    with pytest.raises(FormatError) as caught:
        read(contents)
    assert (type(caught.value), caught.value.rule) == (kind, rule), caught.value
    assert caught.value.file is not None
    return caught.value


# --- names ---------------------------------------------------------------------------------------


def test_n1_only_sixteen_digits_and_a_suffix_name_a_file_of_a_memory(
    crashed: tuple[dict[str, bytes], list[str]],
) -> None:
    for generation in (1, 9_999_999_999_999_999):
        assert parse_name(snapshot_name(generation)) == (".emm", generation)
        assert parse_name(segment_name(generation)) == (".wal", generation)
    others = ["0" * 16 + ".emm", "1.emm", "00000000000000001.emm", "000000000000000a.wal", "0000000000000002.EMM"]
    others += ["0000000000000002.emm.bak", "x0000000000000002.emm", "0000000000000002.wal~", "٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠١.wal"]
    assert [name for name in others if parse_name(name) is not None] == []
    contents, digests = crashed
    assert digest(read({**contents, **{name: b"never opened" for name in others}})) == digests[5]


def test_n2_number_inside_equals_the_number_in_the_name(generations: tuple[dict[str, bytes], list[str]]) -> None:
    contents, _ = generations
    only = {"0000000000000002.emm": contents[EMM]}
    assert refused(only, "N-2", FormatError).offset == 48
    renamed = {EMM: contents[EMM], WAL: contents["0000000000000002.wal"]}
    assert refused(renamed, "N-2", FormatError).offset == 16


def test_n3_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    life = Life.begin(tmp_path / "memory", 1)
    before = files(life.path)
    for _ in range(6):
        life.write(1)
        life.memory.checkpoint()
    life.memory.close()
    after = files(life.path)
    for name, data in before.items():
        if name in after:
            assert after[name][: len(data)] == data


# --- what belongs together -----------------------------------------------------------------------


def test_nothing_at_all_is_missing_and_not_damaged() -> None:
    for contents in ({}, {"notes.txt": b"x"}, None):
        with pytest.raises(MissingError) as caught:
            list_memory(FrozenDirectory(contents))
        assert caught.value.exit_code == 10


def test_r1_journal_without_a_snapshot_is_corruption(crashed: tuple[dict[str, bytes], list[str]]) -> None:
    refused({WAL: crashed[0][WAL]}, "R-1")


def test_r1_newest_valid_snapshot_and_every_live_commit_after_it(
    generations: tuple[dict[str, bytes], list[str]],
) -> None:
    contents, digests = generations
    found = read(contents)
    assert (found.lsn, digest(found), found.replayed, found.snapshot.generation) == (5, digests[5], 1, 3)
    older = read({name: data for name, data in contents.items() if name not in ("0000000000000003.emm",)})
    assert (older.lsn, digest(older), older.replayed) == (5, digests[5], 3)
    oldest = read({name: data for name, data in contents.items() if not name.endswith("2.emm") and "3.emm" not in name})
    assert (oldest.lsn, digest(oldest), oldest.replayed) == (5, digests[5], 5)


@pytest.mark.parametrize("gone", [1, 2])
def test_r2_missing_segment_is_refused(generations: tuple[dict[str, bytes], list[str]], gone: int) -> None:
    contents, _ = generations
    left = {
        name: data
        for name, data in contents.items()
        if name != segment_name(gone) and name[15:] not in ("2.emm", "3.emm")
    }
    error = refused(left, "R-2")
    assert error.file is not None and error.file.endswith(segment_name(gone))


def test_r2_hostile_segment_number_costs_nothing(crashed: tuple[dict[str, bytes], list[str]]) -> None:
    """The list of all numbers up to 10^16 was once built to compare with: MemoryError instead of an answer."""
    contents, _ = crashed
    refused({**contents, segment_name(9_999_999_999_999_999): contents[WAL]}, "R-2")


def test_j5_segment_of_another_memory_is_refused(tmp_path: Path, crashed: tuple[dict[str, bytes], list[str]]) -> None:
    other = Life.begin(tmp_path / "other", 2)
    foreign = files(other.path)[WAL]
    other.memory.close()
    error = refused({**crashed[0], WAL: foreign}, "J-5", FormatError)
    assert error.offset == 40


# --- a damaged snapshot --------------------------------------------------------------------------


def damage_places(data: bytes) -> list[int]:
    """Header, lineage, table, metadata, padding, payload, mirror: somewhere in each."""
    size = len(data)
    return [0, 9, 40, 100, 130, 250, 290, 300, 330, 4095, 4096, 9000, 60_000, size - 300, size - 140, size - 1]


def test_r3_newest_snapshot_damaged_gives_the_same_state_from_an_older_one(
    generations: tuple[dict[str, bytes], list[str]],
) -> None:
    contents, digests = generations
    data = contents["0000000000000003.emm"]
    for position in damage_places(data):
        damaged = bytearray(data)
        damaged[position] ^= 0x04
        found = read({**contents, "0000000000000003.emm": bytes(damaged)})
        assert (found.lsn, digest(found)) == (5, digests[5]), position
        if position < len(data) - 400:  # a damaged mirror alone does not stop recovery: the head is whole
            assert found.snapshot.generation == 2 and "generation 3 is damaged" in found.notices[0], position
        assert found.generation_last == 3
    two = {**contents}
    for name in ("0000000000000003.emm", "0000000000000002.emm"):
        two[name] = data[:5000] if name[15] == "3" else contents[name][:4100] + b"?" + contents[name][4101:]
    found = read(two)
    assert (found.lsn, digest(found), found.snapshot.generation) == (5, digests[5], 1)


def test_r3_writer_goes_on_past_a_damaged_snapshot(
    generations: tuple[dict[str, bytes], list[str]], tmp_path: Path
) -> None:
    contents, digests = generations
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    damaged = bytearray(contents["0000000000000003.emm"])
    damaged[5000] ^= 1
    (tmp_path / "0000000000000003.emm").write_bytes(damaged)
    with emm.open(str(tmp_path), "a") as memory:
        assert memory.digest == digests[5]
    assert (tmp_path / "0000000000000004.emm").exists()
    assert (tmp_path / "0000000000000003.emm").read_bytes() == damaged
    with emm.open(str(tmp_path)) as memory:
        assert memory.digest == digests[5] and memory.generation == 4


def test_r3_journal_that_does_not_reach_the_damaged_snapshot_is_refused(
    generations: tuple[dict[str, bytes], list[str]],
) -> None:
    contents, _ = generations
    damaged = bytearray(contents["0000000000000003.emm"])
    damaged[5000] ^= 1
    short = {EMM: contents[EMM], WAL: contents[WAL], "0000000000000003.emm": bytes(damaged)}
    error = refused(short, "R-3")
    assert (error.expected, error.found) == ("lsn 4", "lsn 2")


def test_r3_snapshot_with_both_heads_gone_is_refused(generations: tuple[dict[str, bytes], list[str]]) -> None:
    contents, _ = generations
    damaged = bytearray(contents["0000000000000003.emm"])
    damaged[20] ^= 1
    damaged[-108] ^= 1
    refused({**contents, "0000000000000003.emm": bytes(damaged)}, "H-2", ChecksumError)
    refused({**contents, "0000000000000003.emm": b"not a snapshot at all"}, "H-1", NotEmmError)
    refused({**contents, "0000000000000003.emm": b""}, "H-1", NotEmmError)


@pytest.mark.parametrize("origin", [origin for origin in Origin if origin is not Origin.CHECKPOINT])
def test_r3_state_that_the_journal_does_not_lead_to_is_not_passed_over(
    generations: tuple[dict[str, bytes], list[str]], origin: Origin
) -> None:
    contents, _ = generations
    snapshot = decode_snapshot(contents["0000000000000003.emm"])
    made = replace(snapshot, lineage=replace(snapshot.lineage, origin=origin, floor_generation=3))
    data = bytearray(encode_snapshot(made))
    data[5000] ^= 1
    refused({**contents, "0000000000000003.emm": bytes(data)}, "T-2", ChecksumError)


def test_r3_checkpoint_of_a_resolved_state_is_not_rebuilt_from_before_it(tmp_path: Path) -> None:
    """The re-solved snapshot is gone and its checkpoint, at the same LSN, damaged: only the head that is salvaged knows
    that the older snapshot is of another rank. It was once taken for the present state."""
    life = Life.begin(tmp_path / "memory", 3, key_dim=64)
    life.memory.expand(32)
    life.memory.close()
    contents = files(life.path)
    resolved = decode_snapshot(contents["0000000000000002.emm"])
    assert resolved.lineage.origin is Origin.RESOLVE
    made = replace(resolved, generation=3, lineage=replace(resolved.lineage, origin=Origin.CHECKPOINT))
    data = bytearray(encode_snapshot(made))
    data[5000] ^= 1
    refused({EMM: contents[EMM], WAL: contents[WAL], "0000000000000003.emm": bytes(data)}, "R-3")


def test_r3_older_snapshot_of_another_memory_does_not_stand_in(
    tmp_path: Path, generations: tuple[dict[str, bytes], list[str]]
) -> None:
    contents, _ = generations
    other = Life.begin(tmp_path / "other", 6)
    other.memory.close()
    foreign = files(other.path)["0000000000000002.emm"]
    damaged = bytearray(contents["0000000000000003.emm"])
    damaged[5000] ^= 1
    assert read({"0000000000000002.emm": foreign}).lsn == 6
    refused({"0000000000000002.emm": foreign, "0000000000000003.emm": bytes(damaged)}, "R-3")


@pytest.mark.parametrize("change", [{"ridge": 1.0}, {"seed": 7}, {"rank": 16}], ids=str)
def test_n6_older_snapshot_of_other_parameters_does_not_stand_in(tmp_path: Path, change: dict[str, float]) -> None:
    """Only `rank` may differ between snapshots of a memory, and only grow."""
    life = Life.begin(tmp_path / "memory", 1, key_dim=64)
    life.memory.close()
    contents = files(life.path)
    newest = decode_snapshot(contents["0000000000000002.emm"])
    other = empty_state(replace(newest.state.parameters, **({"rank": 32} if "rank" in change else change)))  # type: ignore[arg-type]
    older = encode_snapshot(replace(newest, state=other))
    damaged = bytearray(encode_snapshot(replace(newest, generation=3)))
    damaged[5000] ^= 1
    assert read({"0000000000000002.emm": older}).lsn == 1
    refused({"0000000000000002.emm": older, "0000000000000003.emm": bytes(damaged)}, "R-3")
    again = read({"0000000000000002.emm": contents["0000000000000002.emm"], "0000000000000003.emm": bytes(damaged)})
    assert digest(again) == life.digests[1]


def test_l6_checkpoint_is_what_the_journal_leads_to(tmp_path: Path) -> None:
    """Digest, chain, write count, threshold and flags, whichever snapshot the replay starts from."""
    life = Life.begin(tmp_path / "memory", 3, key_dim=64)
    memory = life.memory
    keys, values = batch(90, 12, 64)
    memory.write(keys / 4, values, decay_gate=0.999, write_gate=0.5)
    memory.checkpoint()
    memory.unlearn(keys[-2:] / 4, values[-2:], write_gate=0.5, rank=16)
    memory.forget(keys[:1] / 4)
    memory.configure(expand_at=1.0)
    with pytest.warns(UserWarning, match="bare"):
        memory.expand(32, bare=True)
    life.write(1)
    memory.close()
    contents = files(life.path)
    names = sorted(name for name in contents if name.endswith(".emm"))
    whole = [read({name: data for name, data in contents.items() if name not in names[i:]}) for i in (1, 2, 3)]
    assert [found.snapshot.generation for found in whole] == [1, 2, 3] and [found.lsn for found in whole] == [9] * 3
    assert len({(digest(f), f.chain, f.write_count, f.expand_at, f.state.flags) for f in whole}) == 1
    assert whole[0].write_count == 3 * 2 + 12 - 2 + 2 and whole[0].expand_at == 1.0
    assert contents[names[2]][128 + 48 :][:32] == contents[names[1]][88:120], "parent_sha256"


def test_r4_journal_is_not_replayed_onto_a_snapshot_below_its_floor(tmp_path: Path) -> None:
    life = Life.begin(tmp_path / "memory", 2, key_dim=64)
    life.memory.expand(32)
    life.write(1)
    contents = files(life.path)
    life.memory.close()
    assert digest(read(contents)) == life.digests[3]
    without = {name: data for name, data in contents.items() if name != "0000000000000002.emm"}
    error = refused(without, "R-4")
    assert error.expected == "generation 2 or newer"


# --- order ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["first_lsn", "rank", "chain"])
def test_r5_segment_continues_the_log(crashed: tuple[dict[str, bytes], list[str]], field: str) -> None:
    contents, _ = crashed
    reader, logged = commits(contents)
    wrong = {"first_lsn": 2, "rank": 32, "chain": b"x" * 32}[field]
    forged = forge_segment(replace(reader.header, **{field: wrong}), bodies(logged))
    refused({**contents, WAL: forged}, "R-5")


def take_back(contents: dict[str, bytes], first_lsn: int, synced: int) -> tuple[dict[str, bytes], bytes]:
    """Segment 1 with five commits that say `synced` was synced, and segment 2 that begins again at `first_lsn`."""
    reader, logged = commits(contents)
    chain = logged[first_lsn - 2].commit.chain
    header = replace(reader.header, segment=2, first_lsn=first_lsn, chain=chain)
    other = bodies(logged)[::-1][:2]
    second = forge_segment(header, other, tail=[(RecordType.SEAL, first_lsn + 1)])
    first = forge_segment(reader.header, bodies(logged), synced=synced)
    # forging keeps payloads, so the chain is that of the new commits:
    made = {**contents, WAL: first}
    chain = commits(made)[1][first_lsn - 2].commit.chain
    second = forge_segment(replace(header, chain=chain), other, tail=[(RecordType.SEAL, first_lsn + 1)])
    return {**made, segment_name(2): second}, second


def test_r5_dead_commits_are_not_replayed(crashed: tuple[dict[str, bytes], list[str]]) -> None:
    """Commits 4 and 5 of segment 1 were never proven; the next writer's segment begins at 4."""
    made, _ = take_back(crashed[0], 4, synced=3)
    found = read(made)
    assert found.lsn == 5 and found.replayed == 5 and found.clean
    only_live = {**made, WAL: made[WAL][: commits(made)[1][2].end]}
    assert digest(read(only_live)) == digest(found), "what is dead must not matter"


@pytest.mark.parametrize("synced", [4, 5])
def test_r5_segment_that_takes_back_durable_commits_is_refused(
    crashed: tuple[dict[str, bytes], list[str]], synced: int
) -> None:
    made, _ = take_back(crashed[0], 4, synced=synced)
    error = refused(made, "R-5")
    assert error.found == 4 and error.expected == f"first lsn above {min(synced, 5)}"


def test_r11_bytes_past_what_the_next_segment_states_prove_nothing(
    crashed: tuple[dict[str, bytes], list[str]],
) -> None:
    """The dead writer of segment 1 went on after it had been fenced, and said that its own commits were durable."""
    contents, _ = crashed
    reader, logged = commits(contents)
    header = replace(reader.header, segment=2, first_lsn=4, chain=logged[2].commit.chain, previous_bytes=logged[2].end)
    second = forge_segment(header, bodies(logged)[:1], tail=[(RecordType.SEAL, 4)])
    found = read({**contents, segment_name(2): second})
    assert found.lsn == 4 and found.replayed == 4
    for data in (contents[WAL][: logged[3].offset + 50], contents[WAL][: logged[2].end] + b"rubbish"):
        assert digest(read({**contents, WAL: data, segment_name(2): second})) == digest(found)
    unstated = forge_segment(replace(header, previous_bytes=0), bodies(logged)[:1], tail=[(RecordType.SEAL, 4)])
    refused({**contents, segment_name(2): unstated}, "R-5")
    short = forge_segment(replace(header, previous_bytes=200), bodies(logged)[:1], tail=[(RecordType.SEAL, 4)])
    refused({**contents, segment_name(2): short}, "R-6")


def test_r11_previous_bytes_end_at_a_record(crashed: tuple[dict[str, bytes], list[str]]) -> None:
    """Red when a record may reach past what the next segment states: the statement then says nothing exact."""
    contents, _ = crashed
    reader, logged = commits(contents)
    for more, rule in ((0, None), (8, "R-11")):
        fresh = SegmentReader(FrozenDirectory(contents), 1, reader.uuid)
        assert [each.lsn for each in fresh.commits(logged[2].end + more)] == [1, 2, 3]
        assert (fresh.damage.rule if fresh.damage else None) == rule


def test_r6_commits_missing_between_segments_are_corruption(generations: tuple[dict[str, bytes], list[str]]) -> None:
    contents, _ = generations
    left = {name: data for name, data in contents.items() if name[15:] not in ("2.emm", "3.emm")}
    last = commits(left, 1)[1][-1]
    cut = {**left, WAL: left[WAL][: last.offset]}
    error = refused(cut, "R-6")
    assert (error.expected, error.found) == ("commits up to 2", "commits up to 1")


def test_j12_edit_that_preserves_every_crc_is_caught(crashed: tuple[dict[str, bytes], list[str]]) -> None:
    contents, _ = crashed
    reader, logged = commits(contents)
    original = bytearray(contents[WAL])
    for index in (0, 2, 4):
        record = logged[index].records[0]
        payload = bytearray(record.payload)
        payload[40:44] = struct.pack("<f", 0.123)
        from emm.codec.journal import encode_record

        edited = encode_record(record.type, record.lsn, record.synced_through, bytes(payload), reader.uuid)
        data = bytes(original[: record.offset]) + edited + bytes(original[record.offset + len(edited) :])
        error = refused({**contents, WAL: data}, "J-12")
        assert error.offset == logged[index].offset


def test_j12_commits_cannot_be_swapped_or_left_out(crashed: tuple[dict[str, bytes], list[str]]) -> None:
    contents, _ = crashed
    reader, logged = commits(contents)
    parts = [contents[WAL][each.offset : each.end] for each in logged]
    head = contents[WAL][:128]
    for order in ([1, 0, 2, 3, 4], [0, 1, 3, 4], [0, 0, 1, 2, 3, 4]):
        refused({**contents, WAL: head + b"".join(parts[i] for i in order)}, "R-6")
    relabelled = forge_segment(reader.header, [bodies(logged)[i] for i in (1, 0, 2, 3, 4)])
    found = read({**contents, WAL: relabelled})  # lawful, but another log: its chain says so
    assert found.lsn == 5 and found.chain != read(contents).chain


@pytest.mark.parametrize(
    "case", ["count", "commit alone", "mark in a batch", "after seal", "mark of another lsn", "lsn jump"]
)
def test_j11_order_of_records_in_a_segment(crashed: tuple[dict[str, bytes], list[str]], case: str) -> None:
    contents, _ = crashed
    reader, logged = commits(contents)
    uuid, write = reader.uuid, logged[0].records[0].payload
    tails = {
        "count": [
            (RecordType.WRITE, 6, 5, write),
            (RecordType.WRITE, 6, 5, write),
            (RecordType.COMMIT, 6, 5, _commit(1)),
        ],
        "commit alone": [(RecordType.COMMIT, 6, 5, _commit(1))],
        "mark in a batch": [(RecordType.WRITE, 6, 5, write), (RecordType.MARK, 5, 5, b"")],
        "after seal": [
            (RecordType.SEAL, 5, 5, b""),
            (RecordType.WRITE, 6, 5, write),
            (RecordType.COMMIT, 6, 5, _commit(1)),
        ],
        "mark of another lsn": [(RecordType.MARK, 4, 4, b"")],
        "lsn jump": [(RecordType.WRITE, 7, 5, write), (RecordType.COMMIT, 7, 5, _commit(1))],
    }
    tail = b"".join(encode_record(*each, uuid) for each in tails[case])
    refused({**contents, WAL: contents[WAL] + tail}, "J-11", FormatError)


def _commit(n_records: int) -> bytes:
    from emm.codec.pairs import Commit

    return Commit(0, n_records, 2, 0.0, bytes(32)).encode()


def test_r6_record_of_an_unknown_type_in_the_tail_is_refused_not_fenced(
    crashed: tuple[dict[str, bytes], list[str]],
) -> None:
    """Red when any damage beyond the last proof counts as torn: a later version's commit was then dropped for good."""
    contents, _ = crashed
    reader, _ = commits(contents)
    record = bytearray(encode_record(RecordType.WRITE, 6, 5, b"from 4.1", reader.uuid))
    record[4:6] = (99).to_bytes(2, "little")
    record[28:32] = crc32(bytes(record[:28])).to_bytes(4, "little")
    record[-4:] = crc32(reader.uuid, bytes(record[:-4])).to_bytes(4, "little")
    refused({**contents, WAL: contents[WAL] + bytes(record)}, "J-8", UnsupportedError)


def test_j11_bytes_after_a_seal_are_no_torn_tail(crashed: tuple[dict[str, bytes], list[str]]) -> None:
    """Red when the seal does not end the reading: a writer seals last, so nothing it left can follow."""
    contents, _ = crashed
    seal = encode_record(RecordType.SEAL, 5, 5, b"", commits(contents)[0].uuid)
    assert read({**contents, WAL: contents[WAL] + seal}).torn is None
    refused({**contents, WAL: contents[WAL] + seal + bytes(8)}, "J-11", FormatError)


def test_j16_commit_counts_the_pairs_of_its_batch(crashed: tuple[dict[str, bytes], list[str]]) -> None:
    """Red when `n_pairs` is taken on trust: the history would then tell of pairs that are not there."""
    contents, _ = crashed
    reader, logged = commits(contents)
    tail = [(RecordType.SEAL, len(logged))]
    refused({**contents, WAL: forge_segment(reader.header, bodies(logged), tail=tail, n_pairs=3)}, "R-6")


def test_s1_forgetting_counts_the_matrix_that_the_state_does_not_hold(tmp_path: Path) -> None:
    """Red when only the payload is bounded: under rules 0 and 1 a forget needs rank × rank numbers more."""
    with emm.create(tmp_path / "m", dim=2, rank=1024, key_dim=1024, rule="gated-delta") as memory:
        memory.forget(np.ones((1, 1024), np.float32) / 32)
    contents = {name: data for name, data in files(tmp_path / "m").items() if not name.endswith("2.emm")}
    with pytest.raises(LimitError) as caught:
        recover(FrozenDirectory(contents), state_bytes_max=1 << 20)
    assert caught.value.rule == "S-1"
    assert recover(FrozenDirectory(contents), state_bytes_max=1 << 23).lsn == 1


# --- records that cannot be replayed -------------------------------------------------------------


def with_record(contents: dict[str, bytes], kind: RecordType, payload: bytes) -> dict[str, bytes]:
    """The same memory with one more lawful-looking commit, sealed."""
    reader, logged = commits(contents)
    forged = forge_segment(reader.header, [*bodies(logged), [(kind, payload)]], tail=[(RecordType.SEAL, 6)])
    return {**contents, WAL: forged}


def test_r7_logged_record_that_cannot_be_replayed_is_corruption(crashed: tuple[dict[str, bytes], list[str]]) -> None:
    """Unlearning what was never written is refused by the gain; a key beyond the norm is refused by the kernel."""
    from emm.codec.pairs import PairBatch, encode_pairs

    contents, _ = crashed
    keys, values = batch(999, 1)
    one, none = np.ones(1, np.float32), np.empty(0, np.float32)
    unlearn = encode_pairs(RecordType.UNLEARN, PairBatch(16, keys * 100, values, one, none))
    long = encode_pairs(RecordType.WRITE, PairBatch(16, np.full((1, 16), 2.0**40, np.float32), values, one, one))
    for kind, payload in ((RecordType.UNLEARN, unlearn), (RecordType.WRITE, long)):
        refused(with_record(contents, kind, payload), "R-7")


@pytest.mark.parametrize(("kind", "rank"), [(RecordType.WRITE, 32), (RecordType.UNLEARN, 32), (RecordType.FORGET, 32)])
def test_r8_rank_of_a_record_is_the_states(
    crashed: tuple[dict[str, bytes], list[str]], kind: RecordType, rank: int
) -> None:
    from emm.codec.pairs import PairBatch, encode_pairs

    contents, _ = crashed
    keys, values = batch(1, 1)
    one, none = np.ones(1, np.float32), np.empty(0, np.float32)
    made = PairBatch(rank, keys, values if kind is not RecordType.FORGET else np.empty((1, 0), np.float32), one, one)
    if kind is RecordType.UNLEARN:
        made = replace(made, decay_gates=none)
    payload = encode_pairs(kind, made)
    assert refused(with_record(contents, kind, payload), "R-8", FormatError).expected == 16


def test_j17_expansion_beyond_key_dim_is_refused(crashed: tuple[dict[str, bytes], list[str]]) -> None:
    for rank in (16, 32, 24, 0, 1 << 24):  # key_dim is 16
        refused(with_record(crashed[0], RecordType.EXPAND, encode_expand(rank)), "J-17", FormatError)


def test_j17_expansion_doubles(tmp_path: Path) -> None:
    """Steps of 16 would let 300 KB of journal ask for two thousand copies of a state of gigabytes."""
    life = Life.begin(tmp_path / "memory", 5, key_dim=64)
    contents = files(life.path)
    life.memory.close()
    refused(with_record(contents, RecordType.EXPAND, encode_expand(48)), "J-17", FormatError)
    assert read(with_record(contents, RecordType.EXPAND, encode_expand(32))).state.parameters.rank == 32


def test_s1_expansion_beyond_the_limit_is_refused_before_it_allocates(tmp_path: Path) -> None:
    life = Life.begin(tmp_path / "memory", 5, key_dim=64)
    contents = with_record(files(life.path), RecordType.EXPAND, encode_expand(32))
    life.memory.close()
    with pytest.raises(LimitError) as caught:
        recover(FrozenDirectory(contents), state_bytes_max=5000)
    assert caught.value.rule == "S-1" and caught.value.offset is not None


def test_parameters_record_changes_the_threshold_only(crashed: tuple[dict[str, bytes], list[str]]) -> None:
    contents, _ = crashed
    found = read(with_record(contents, RecordType.PARAMETERS, encode_parameters(0.5)))
    assert (found.lsn, found.expand_at) == (6, 0.5)
    assert np.array_equal(found.state.matrix, read(contents).state.matrix)


def test_l5_checkpoint_ends_the_segment(generations: tuple[dict[str, bytes], list[str]]) -> None:
    contents, _ = generations
    for generation, segment in ((1, 1), (2, 2), (3, 3)):
        snapshot = decode_snapshot(contents[snapshot_name(generation)])
        assert snapshot.lineage.segment_next == segment
        assert commits(contents, segment)[0].header.first_lsn == snapshot.lsn + 1
    assert decode_snapshot(contents[EMM]).lineage.parent_sha256 == Lineage().parent_sha256
    assert decode_snapshot(contents[snapshot_name(2)]).lineage.parent_sha256 == contents[EMM][88:120]


def test_many_unproven_commits_are_read_in_linear_time(crashed: tuple[dict[str, bytes], list[str]]) -> None:
    """A journal whose records prove nothing: the list of unproven commits was once filtered at each commit."""
    import time

    contents, _ = crashed
    reader, _ = commits(contents)
    records = [[(RecordType.PARAMETERS, encode_parameters(0.5))]] * 6000
    data = forge_segment(reader.header, records, synced=0, n_pairs=0)
    started = time.monotonic()
    found = read({**contents, WAL: data})
    assert found.lsn == 6000 and len(found.unproven) == 6000
    assert time.monotonic() - started < 6


# --- a directory that changes while it is read ---------------------------------------------------


class Moving(FrozenDirectory):
    """Lists an older moment the first `n_old` times; what was removed since can be listed and not be read."""

    def __init__(self, old: dict[str, bytes], new: dict[str, bytes], n_old: int = 1) -> None:
        super().__init__(new)
        self.old, self.n_old = old, n_old

    def list(self) -> list[str]:
        self.n_old -= 1
        return sorted(self.old) if self.n_old >= 0 else super().list()


def test_reader_that_was_overtaken_by_a_checkpoint_starts_again(
    generations: tuple[dict[str, bytes], list[str]],
) -> None:
    """The listing was stale: the newest candidate has a successor, so what it leads to is not the present."""
    contents, digests = generations
    old = {name: data for name, data in contents.items() if name in (EMM, WAL)}
    found = recover(Moving(old, contents))
    assert (found.lsn, digest(found), found.snapshot.generation) == (5, digests[5], 3)


def test_reader_whose_files_were_pruned_starts_again(generations: tuple[dict[str, bytes], list[str]]) -> None:
    contents, digests = generations
    new = {name: data for name, data in contents.items() if name[15] == "3"}
    old = {name: data for name, data in contents.items() if name[15] != "3"}
    found = recover(Moving(old, new))
    assert (found.lsn, digest(found)) == (5, digests[5])


def test_reader_of_a_directory_that_never_rests_gives_up(generations: tuple[dict[str, bytes], list[str]]) -> None:
    contents, _ = generations
    old = {name: data for name, data in contents.items() if name in (EMM, WAL)}
    with pytest.raises(MissingError, match="kept changing"):
        recover(Moving(old, {name: data for name, data in contents.items() if name[15] in "12"}, n_old=99))


def test_read_error_is_never_the_end_of_the_log(crashed: tuple[dict[str, bytes], list[str]]) -> None:
    """Not even one in the last record, which might as well be torn."""
    contents, _ = crashed
    last = commits(contents)[1][-1]

    class Unreadable(FrozenDirectory):
        def read_at(self, name: str, offset: int, length: int) -> bytes:
            if name == WAL and offset + length > last.offset:
                raise StorageError("input/output error", file=name)
            return super().read_at(name, offset, length)

    with pytest.raises(StorageError) as caught:
        recover(Unreadable(contents))
    assert caught.value.exit_code == 6
