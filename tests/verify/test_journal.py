"""What verify says of a journal: damage below a proof, torn tails, leftovers, gaps and contradictions.

Each test says which change to `emm/verify` (or to the proofs of `emm/storage`) would turn it red.
"""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest

import emm
from emm.codec.journal import SegmentHeader, decode_segment_header, encode_record
from emm.codec.snapshot import decode_snapshot, encode_snapshot
from emm.layout import RECORD_HEADER, SEGMENT_HEADER, Origin, RecordType
from emm.storage.segment_file import SegmentReader
from emm.testing import FrozenDirectory
from emm.verify.levels import Level, Options
from emm.verify.memory import check_memory
from emm.verify.single import check_file
from emm.verify.verdict import Verdict, verdict_of, worst

FIRST, SECOND = "0000000000000001.wal", "0000000000000002.wal"
G1, G2, G3 = (f"000000000000000{n}.emm" for n in (1, 2, 3))


def check(files, level=Level.BLOCKS):
    checked = check_memory(FrozenDirectory(files), Options(level))
    return worst(map(verdict_of, checked.findings)), checked.findings


def codes(findings):
    return [each.code for each in findings]


def without(files, *names):
    return {name: data for name, data in files.items() if name not in names}


def flipped(data: bytes, position: int) -> bytes:
    damaged = bytearray(data)
    damaged[position] ^= 0x10
    return bytes(damaged)


def commits(files, name):
    reader = SegmentReader(FrozenDirectory(files), int(name[:16]), uuid_of(files))
    return list(reader.commits())


def uuid_of(files):
    return decode_segment_header(files[FIRST][: SEGMENT_HEADER.size]).uuid


# --- the end of the log ---------------------------------------------------------------------------


def test_a_killed_writers_whole_tail_is_clean_unsealed(killed):
    """Red when a missing seal is damage, or goes unsaid."""
    verdict, findings = check(killed)
    assert verdict is Verdict.CLEAN_UNSEALED
    (only,) = findings
    assert only.code == "unsealed-tail" and only.lsns == (4, 4) and only.offset == len(killed[FIRST])


def test_damage_beyond_the_last_proof_is_torn_or_damaged(killed):
    """Commit 4 was acknowledged but nothing proves it. Red when this is called clean, or called lost."""
    last = commits(killed, FIRST)[-1]
    for position in range(last.offset, last.end):
        files = killed | {FIRST: flipped(killed[FIRST], position)}
        verdict, findings = check(files)
        assert verdict is Verdict.TORN, (position, findings)
        assert codes(findings) == ["torn-tail"] and findings[0].lsns == (4, None) and findings[0].offset == last.offset


def test_damage_below_a_proof_in_the_same_segment_is_loss(killed):
    """Commits 1 to 3 are proven by later records, and no snapshot holds them. Red when the scan stops at damage."""
    for number, logged in enumerate(commits(killed, FIRST)[:3], 1):
        for position in (logged.offset, logged.offset + 40, logged.end - 1):
            verdict, findings = check(killed | {FIRST: flipped(killed[FIRST], position)})
            assert verdict is Verdict.LOSS, (position, findings)
            assert codes(findings) == ["record-damaged"] and findings[0].lsns == (number, 3)


def test_a_cut_inside_a_record_is_torn_and_at_a_boundary_unsealed(killed):
    """Every length. Red when a cut is called clean, or a record that ends the file is not looked at."""
    data = killed[FIRST]
    ends = {logged.end for logged in commits(killed, FIRST)} | {SEGMENT_HEADER.size}
    for length in range(len(data)):
        verdict, findings = check(killed | {FIRST: data[:length]})
        if length in ends:
            assert verdict is Verdict.CLEAN_UNSEALED, (length, findings)
        elif length < SEGMENT_HEADER.size:
            assert verdict is Verdict.LOSS and codes(findings)[0] == "segment-header-damaged", (length, findings)
        else:
            assert verdict is Verdict.TORN, (length, findings)


def test_every_cut_of_a_segment_that_has_a_successor_is_seen(small):
    """Red when what the next header and the snapshots state about the log before them is not compared."""
    data = small[FIRST]
    seal = commits(small, FIRST)[-1].end
    for length in range(len(data)):
        verdict, findings = check(small | {FIRST: data[:length]})
        assert verdict is Verdict.REPAIRABLE, (length, findings)
        assert length != seal or codes(findings) == ["seal-missing"]


def test_every_cut_of_the_last_segment_of_a_closed_memory_is_seen(small):
    """The snapshot ended the segment, so it had a seal (L-5). Red when any cut is called clean."""
    data = small[SECOND]
    seal = commits(small, SECOND)[-1].end
    for length in range(len(data)):
        verdict, findings = check(small | {SECOND: data[:length]})
        assert verdict is Verdict.REPAIRABLE, (length, findings)
        assert length != seal or codes(findings) == ["seal-missing"]


def test_garbage_after_the_end_is_never_clean(small, killed):
    """Red when reading stops at the seal without asking for the end of the file."""
    for garbage in (b"\0", b"\0" * 64, b"EMJR" * 20, bytes(range(256))):
        verdict, findings = check(small | {SECOND: small[SECOND] + garbage})
        assert verdict is Verdict.REPAIRABLE and codes(findings) == ["record-damaged"], findings
        verdict, findings = check(killed | {FIRST: killed[FIRST] + garbage})
        assert verdict is Verdict.TORN, findings


def test_a_torn_tail_that_a_later_writer_fenced_is_a_notice(killed, tmp_path):
    """The next writer starts a segment that says where the valid bytes end. Red when old crashes stay damage."""
    path = tmp_path / "memory"
    path.mkdir()
    for name, data in killed.items():
        (path / name).write_bytes(data + b"torn" * 5 if name == FIRST else data)
    emm.open(path, "a").close()
    files = {each.name: each.read_bytes() for each in path.iterdir()}
    verdict, findings = check(files)
    assert verdict is Verdict.CLEAN and codes(findings) == ["dead-bytes"], findings
    assert (findings[0].offset, findings[0].length) == (len(killed[FIRST]), 20)


def test_a_commit_logged_again_makes_damage_to_its_first_copy_harmless(killed, tmp_path):
    """Red when a dead copy's damage is called loss, or not called damage at all."""
    path = tmp_path / "memory"
    path.mkdir()
    for name, data in killed.items():
        (path / name).write_bytes(data)
    emm.open(path, "a").close()
    files = {each.name: each.read_bytes() for each in path.iterdir()}
    assert check(files)[0] is Verdict.CLEAN
    last = commits(killed, FIRST)[-1]
    for position in range(last.offset, last.end):
        verdict, findings = check(files | {FIRST: flipped(files[FIRST], position)})
        assert verdict is Verdict.REPAIRABLE and findings[0].lsns is None, (position, findings)


def test_a_damaged_header_of_the_segment_that_logged_commits_again_is_no_contradiction(killed, tmp_path):
    """The first copies then seem to lie past a snapshot. Found by random damage; red when that is called loss."""
    path = tmp_path / "memory"
    path.mkdir()
    for name, data in killed.items():
        (path / name).write_bytes(data)
    emm.open(path, "a").close()
    files = {each.name: each.read_bytes() for each in path.iterdir()}
    verdict, findings = check(files | {SECOND: flipped(files[SECOND], 60)})
    assert verdict is Verdict.REPAIRABLE and codes(findings) == ["segment-header-damaged"], findings


# --- repairability --------------------------------------------------------------------------------


def test_damage_that_no_snapshot_contains_is_loss(small):
    """Generation 2 holds commits 1 to 3; commits 4 and 5 are only in segment 2. Red when a repair is made up."""
    files = without(small, G3)
    for logged in commits(small, SECOND):
        verdict, findings = check(files | {SECOND: flipped(small[SECOND], logged.offset + 50)})
        assert verdict is Verdict.LOSS, findings
        assert findings[0].code == "record-damaged" and findings[0].lsns == (logged.lsn, 5)
        assert findings[0].repair is None


def test_a_snapshot_is_rebuilt_from_an_older_one_and_the_journal(small):
    """Red when the commits between two snapshots are not required to be whole."""
    burst = bytearray(small[G3])
    burst[5000:5064] = bytes(each ^ 0xFF for each in burst[5000:5064])
    damaged = small | {G3: bytes(burst)}
    verdict, findings = check(damaged)
    assert verdict is Verdict.REPAIRABLE and "replay commits 4–5 onto generation 2" in findings[0].repair
    verdict, findings = check(without(damaged, G1, G2))
    assert verdict is Verdict.REPAIRABLE and "commits 1–5 of the journal onto an empty memory" in findings[0].repair
    verdict, findings = check(without(damaged, G1, G2, FIRST))
    assert verdict is Verdict.LOSS and findings[0].repair is None
    verdict, findings = check(damaged | {SECOND: flipped(small[SECOND], 200)})
    assert verdict is Verdict.LOSS and {each.code for each in findings} == {"block-damaged", "record-damaged"}
    assert [each.repair for each in findings] == [None, None]


def test_a_damaged_empty_snapshot_follows_from_its_head(small):
    """Red when generation 1 of a new memory needs anything but its own head."""
    burst = bytearray(small[G1])
    burst[4096:4196] = bytes(each ^ 0xFF for each in burst[4096:4196])
    verdict, findings = check_alone(small | {G1: bytes(burst)}, G1)
    assert verdict is Verdict.REPAIRABLE and "empty memory" in findings[0].repair


def check_alone(files, name):
    checked = check_file(FrozenDirectory(files), name, Options())
    return worst(map(verdict_of, checked.findings)), checked.findings


def test_a_snapshot_that_is_no_checkpoint_is_not_rebuilt(tmp_path):
    """A merge cannot be made again from this journal. Red when the origin is not asked."""
    sources = []
    for seed in range(2):
        with emm.create(tmp_path / f"s{seed}", dim=16, rank=16, key_dim=16, expand_at=0) as memory:
            rng = np.random.default_rng(seed)
            memory.write(rng.standard_normal((4, 16)).astype("f4"), rng.standard_normal((4, 16)).astype("f4"))
        sources.append(tmp_path / f"s{seed}")
    emm.merge(sources, tmp_path / "merged").close()
    files = {each.name: each.read_bytes() for each in (tmp_path / "merged").iterdir()}
    assert check(files, Level.NUMERIC)[0] is Verdict.CLEAN
    burst = bytearray(files[G1])
    burst[4200:4300] = bytes(each ^ 0xFF for each in burst[4200:4300])
    verdict, findings = check(files | {G1: bytes(burst)})
    assert verdict is Verdict.LOSS and findings[0].repair is None


def test_pairs_that_the_journal_never_held_are_not_replayed_onto_nothing(tmp_path):
    """A checkpoint after a merge, the merge itself pruned. Red when FOREIGN_PAIRS is not asked."""
    with emm.create(tmp_path / "s", dim=16, rank=16, key_dim=16, expand_at=0) as memory:
        memory.write(np.eye(4, 16, dtype="f4"), np.eye(4, 16, dtype="f4"))
    with emm.merge([tmp_path / "s"], tmp_path / "m") as memory:
        memory.write(np.eye(2, 16, 5, dtype="f4"), np.eye(2, 16, dtype="f4"))
    files = {each.name: each.read_bytes() for each in (tmp_path / "m").iterdir()}
    burst = files[G2][:4200] + bytes(each ^ 0xFF for each in files[G2][4200:4300]) + files[G2][4300:]
    assert check(files | {G2: burst})[0] is Verdict.REPAIRABLE
    verdict, findings = check(without(files, G1) | {G2: burst})
    assert verdict is Verdict.LOSS and findings[0].repair is None


def test_an_empty_snapshot_of_another_origin_is_not_made_up(small):
    """A restored generation 1 came from elsewhere. Red when the origin is not asked."""
    snapshot = decode_snapshot(small[G1])
    data = encode_snapshot(replace(snapshot, lineage=replace(snapshot.lineage, origin=Origin.RESTORE)))
    burst = data[:4100] + bytes(each ^ 0xFF for each in data[4100:4200]) + data[4200:]
    verdict, findings = check_alone({G1: burst}, G1)
    assert verdict is Verdict.LOSS and findings[0].repair is None


def test_a_newer_snapshot_of_another_rank_does_not_hold_the_same_state(tmp_path):
    """Generation 3 re-solves generation 2 at the same commit. Red when its floor is not compared."""
    with emm.create(tmp_path / "m", dim=16, rank=16, key_dim=32, expand_at=0) as memory:
        memory.write(np.eye(4, 32, dtype="f4"), np.eye(4, 16, dtype="f4"))
        memory.checkpoint()
        memory.expand(32)
    files = {each.name: each.read_bytes() for each in (tmp_path / "m").iterdir() if each.name in (G2, G3)}
    assert sorted(files) == [G2, G3] and check(files)[0] is Verdict.CLEAN
    burst = files[G2][:4200] + bytes(each ^ 0xFF for each in files[G2][4200:4300]) + files[G2][4300:]
    verdict, findings = check(files | {G2: burst})
    assert verdict is Verdict.LOSS and findings[0].repair is None
    assert findings[0].message.endswith("only this older state is lost: generation 3 is whole")


# --- files that are gone, or do not belong --------------------------------------------------------


def test_a_missing_segment_is_seen_and_named(small, tmp_path):
    """Red when the dense numbering of segments is not checked, in the middle or before a snapshot."""
    verdict, findings = check(without(small, SECOND))
    assert verdict is Verdict.REPAIRABLE and codes(findings) == ["segment-missing"]
    assert findings[0].file.endswith(SECOND) and findings[0].lsns == (4, 5)
    path = tmp_path / "memory"
    path.mkdir()
    for name, data in small.items():
        (path / name).write_bytes(data)
    with emm.open(path, "a") as memory:
        memory.forget(np.ones((1, 16), np.float32))
    files = {each.name: each.read_bytes() for each in path.iterdir()}
    verdict, findings = check(without(files, SECOND))
    assert verdict is Verdict.REPAIRABLE and codes(findings) == ["segment-missing"] and findings[0].lsns == (4, 5)


def test_a_missing_newest_snapshot_is_harmless_while_the_journal_leads_on(small):
    """Recovery replays; nothing says generation 3 ever existed, and nothing of it is lost."""
    verdict, findings = check(without(small, G3))
    assert verdict is Verdict.CLEAN and findings == []


def test_a_generation_overwritten_by_an_older_one_is_not_rebuilt_as_that_one(small):
    """Red when the repair of a misnamed file is planned from what it claims to be."""
    verdict, findings = check(small | {G3: small[G2]})
    assert verdict is Verdict.LOSS and codes(findings) == ["wrong-name"] and findings[0].repair is None, findings
    verdict, findings = check(small | {G2: small[G1]})
    assert verdict is Verdict.REPAIRABLE and "leave it out" in findings[0].repair, findings


def test_a_missing_middle_snapshot_is_seen(small):
    """Red when gaps between generations pass."""
    verdict, findings = check(without(small, G2))
    assert verdict is Verdict.REPAIRABLE and codes(findings) == ["generation-missing"]
    assert findings[0].file.endswith(G2)


def test_a_journal_without_snapshots_is_loss(small):
    """Red when a directory of segments alone is clean."""
    verdict, findings = check(without(small, G1, G2, G3))
    assert verdict is Verdict.LOSS and "generation-missing" in codes(findings)


def test_a_missing_resolved_snapshot_is_loss(tmp_path):
    """The journal after a re-solve builds on it (R-4). Red when the floor of a segment is not compared."""
    with emm.create(tmp_path / "m", dim=16, rank=16, key_dim=32, expand_at=0) as memory:
        rng = np.random.default_rng(3)
        for step in range(2):
            memory.write(rng.standard_normal((4, 32)).astype("f4"), rng.standard_normal((4, 16)).astype("f4"))
            if step == 0:
                memory.expand(32)
        resolved = memory.generation
    files = {each.name: each.read_bytes() for each in (tmp_path / "m").iterdir()}
    verdict, findings = check(files, Level.NUMERIC)
    assert verdict is Verdict.CLEAN, findings
    newest = {name: data for name, data in files.items() if name.endswith(".wal") or int(name[:16]) < resolved}
    verdict, findings = check(newest, Level.REPLAY)
    assert verdict is Verdict.LOSS and "generation-missing" in codes(findings), findings
    assert "replay-not-possible" in codes(findings) and "replay-refused" not in codes(findings), findings


def test_files_of_another_memory_are_foreign(small, killed):
    """Red when the UUID is not compared, for a snapshot or a segment."""
    verdict, findings = check(small | {SECOND: killed[FIRST][:16] + b"\2" + killed[FIRST][17:]})
    assert verdict is not Verdict.CLEAN and "segment-header-damaged" in codes(findings)
    header = decode_segment_header(killed[FIRST][: SEGMENT_HEADER.size])
    other = SegmentHeader(2, 4, 1, header.uuid, header.writer_nonce, header.chain, 0, 16).encode()
    verdict, findings = check(small | {SECOND: other})
    assert "foreign-file" in codes(findings) and verdict is Verdict.REPAIRABLE, findings
    verdict, findings = check(without(small, G3, SECOND) | {G3: small[G3], SECOND: other, G1: killed[G1]})
    assert [each.file for each in findings if each.code == "foreign-file"] == [f"frozen/{G1}", f"frozen/{SECOND}"]


def test_a_foreign_snapshot_mends_nothing(small):
    """Red when a file of another memory is taken as evidence for this one."""
    files = without(small, G3) | {SECOND: flipped(small[SECOND], 200)}
    foreign = encode_snapshot(replace(decode_snapshot(small[G3]), uuid=bytes(16)))
    assert check(files | {G3: small[G3]})[0] is Verdict.REPAIRABLE
    verdict, findings = check(files | {G3: foreign})
    assert verdict is Verdict.LOSS and codes(findings).count("foreign-file") == 1
    assert all(each.repair is None for each in findings if each.code == "record-damaged"), findings


class Settling(FrozenDirectory):
    """A writer is half way through a record, and has finished when the directory is listed the second time."""

    listings = 0
    later: bytes

    def list(self):
        self.listings += 1
        if self.listings == 2:
            self._files = {**self._files, FIRST: self.later}
        return super().list()


def test_a_record_on_its_way_is_not_called_torn(killed):
    """Red when a memory that changed under the check is not checked again."""
    directory = Settling(killed | {FIRST: killed[FIRST][:-20]})
    directory.later = killed[FIRST]
    assert codes(check_memory(directory, Options()).findings) == ["unsealed-tail"]


# --- edits that keep the checksums ----------------------------------------------------------------


def edited(files, name, lsn):
    """The segment with one value of a commit changed, and the record's CRC made to fit."""
    data, uuid = bytearray(files[name]), uuid_of(files)
    logged = next(each for each in commits(files, name) if each.lsn == lsn)
    record = logged.records[0]
    payload = bytearray(record.payload)
    payload[-1] ^= 1
    data[record.offset : record.offset + record.size] = encode_record(
        record.type, record.lsn, record.synced_through, bytes(payload), uuid
    )
    return bytes(data)


def test_an_edit_that_keeps_the_crc_breaks_the_chain(small, killed):
    """Red when chain values are not recomputed."""
    verdict, findings = check(killed | {FIRST: edited(killed, FIRST, 2)})
    assert verdict is Verdict.LOSS and codes(findings)[0] == "chain-broken" and findings[0].lsns == (2, 2)
    verdict, findings = check(small | {SECOND: edited(small, SECOND, 4)})
    assert verdict is Verdict.REPAIRABLE and codes(findings) == ["chain-broken"]


def test_a_segment_that_takes_back_durable_commits_is_a_contradiction(small):
    """Red when a first LSN at or below a proven one passes."""
    header = decode_segment_header(small[SECOND][: SEGMENT_HEADER.size])
    back = SegmentHeader(2, 2, 1, header.uuid, header.writer_nonce, header.chain, header.previous_bytes, 16)
    verdict, findings = check(small | {SECOND: back.encode()})
    assert "log-contradicted" in codes(findings) and verdict in (Verdict.LOSS, Verdict.REPAIRABLE), findings
    verdict, findings = check(without(small, G2, G3) | {SECOND: back.encode()})
    assert "log-contradicted" in codes(findings) and verdict is Verdict.LOSS, findings


@pytest.mark.parametrize("field", [{"chain": bytes(32)}, {"rank": 32}])
def test_a_segment_header_that_does_not_continue_the_log_is_a_contradiction(small, field):
    """Red when the chain value or the rank that a segment states is not compared with where the log stands."""
    header = replace(decode_segment_header(small[SECOND][: SEGMENT_HEADER.size]), **field)
    verdict, findings = check(small | {SECOND: header.encode() + small[SECOND][SEGMENT_HEADER.size :]})
    assert "log-contradicted" in codes(findings) and verdict is not Verdict.CLEAN, findings


def test_a_snapshot_with_another_chain_value_contradicts_the_journal(small):
    """Red when a snapshot's chain value is not compared with the journal's at its LSN."""
    snapshot = decode_snapshot(small[G3])
    forged = encode_snapshot(replace(snapshot, lineage=replace(snapshot.lineage, chain=bytes(32))))
    findings = check(small | {G3: forged})[1]
    assert [each.file for each in findings if each.code == "chain-broken"] == [f"frozen/{G3}"], findings


def test_a_snapshot_and_the_segment_after_it_must_meet(small):
    """L-5. Red when the first LSN of the segment that a snapshot names is not compared with its own LSN."""
    snapshot = decode_snapshot(small[G3])
    forged = encode_snapshot(replace(snapshot, lineage=replace(snapshot.lineage, segment_next=2)))
    verdict, findings = check(small | {G3: forged})
    assert "log-contradicted" in codes(findings) and verdict is not Verdict.CLEAN, findings


def test_commits_past_the_snapshot_that_ended_their_segment_are_a_contradiction(small):
    """Opening would leave commit 5 out in silence. Red when only commits below the snapshot are asked for."""
    snapshot, fourth = decode_snapshot(small[G3]), commits(small, SECOND)[0]
    lineage = replace(snapshot.lineage, chain=fourth.commit.chain)
    verdict, findings = check(small | {G3: encode_snapshot(replace(snapshot, lsn=4, lineage=lineage))})
    assert verdict is Verdict.LOSS and codes(findings) == ["log-contradicted"] and findings[0].lsns == (5, 5), findings


def test_a_proof_beyond_damage_counts_even_in_a_later_segment(small):
    """The second segment's header proves commits 1 to 3. Red when only the damaged file is asked."""
    files = without(small, G2, G3)
    verdict, findings = check(files | {FIRST: flipped(small[FIRST], SEGMENT_HEADER.size + RECORD_HEADER.size)})
    assert verdict is Verdict.LOSS and findings[0].lsns == (1, 3), findings


def test_a_record_of_an_unknown_type_is_unsupported_not_damage(killed):
    """A newer writer may log one. Red when a valid CRC with a type we do not know is called torn."""
    uuid = uuid_of(killed)
    good = encode_record(RecordType.SEAL, 4, 4, b"", uuid)
    header = bytearray(good[:28])
    header[4] = 99
    header += zlib.crc32(bytes(header)).to_bytes(4, "little")
    record = bytes(header) + bytes(4)
    record += zlib.crc32(record, zlib.crc32(uuid)).to_bytes(4, "little")
    verdict, findings = check(killed | {FIRST: killed[FIRST] + record})
    assert verdict is Verdict.REFUSED and codes(findings)[0] == "unsupported", findings


# --- segments by themselves, and damaged headers --------------------------------------------------


def test_a_segment_alone_is_checked_against_itself(small, killed):
    """Red when a single .wal file needs its memory."""
    assert check_alone(small, FIRST)[0] is Verdict.CLEAN
    assert check_alone(killed, FIRST)[0] is Verdict.CLEAN_UNSEALED
    first = commits(killed, FIRST)[0]
    verdict, findings = check_alone(killed | {FIRST: flipped(killed[FIRST], first.offset)}, FIRST)
    assert verdict is Verdict.LOSS and findings[0].lsns == (1, 3)


def test_a_damaged_segment_header_does_not_hide_its_records(small):
    """Red when the records behind it are not read: the header can be made again from what surrounds it."""
    files = without(small, G3)
    verdict, findings = check(files | {SECOND: flipped(small[SECOND], 60)})
    assert verdict is Verdict.REPAIRABLE and codes(findings)[0] == "segment-header-damaged", findings
    assert "records" in findings[0].repair and findings[0].lsns[0] == 4
    both = bytearray(flipped(small[SECOND], 60))
    both[commits(small, SECOND)[0].offset + 50] ^= 1
    verdict, findings = check(files | {SECOND: bytes(both)})
    assert verdict is Verdict.LOSS, findings


@pytest.mark.parametrize("level", [Level.HEADER, Level.TABLE])
def test_shallow_levels_still_tell_whether_a_segment_header_can_be_mended(small, level):
    """Red when a shallow level calls loss what the rest of the memory mends."""
    verdict, findings = check(small | {SECOND: flipped(small[SECOND], 60)}, level)
    assert verdict is Verdict.REPAIRABLE, findings


def test_r10_a_journal_that_is_gone_between_kept_snapshots_is_damage(tmp_path):
    """Red when a directory without segments is passed over: pruning keeps what lies between two kept snapshots."""
    with emm.create(tmp_path / "m", dim=4, rank=16, key_dim=16, expand_at=0) as memory:
        memory.write(np.eye(2, 16, dtype=np.float32), np.ones((2, 4), np.float32))
    (tmp_path / "m" / "0000000000000001.wal").unlink()
    report = emm.verify(tmp_path / "m")
    assert (report.exit_code, [each.code for each in report.findings]) == (3, ["segment-missing"])
    assert report.findings[0].lsns == (1, 1)
    with emm.open(tmp_path / "m", "a") as memory:
        memory.prune(keep=1, journal=True)
    assert emm.verify(tmp_path / "m").exit_code == 0


def test_a_resolve_right_after_a_checkpoint_is_no_contradiction(tmp_path):
    """Red when the segment after two snapshots of one LSN is held against the older one's rank (the kill harness)."""
    keys = np.random.default_rng(1).standard_normal((12, 32)).astype(np.float32) / 6
    with emm.create(tmp_path / "m", dim=4, rank=16, key_dim=32, expand_at=0) as memory:
        memory.write(keys[:8], np.ones((8, 4), np.float32))
        memory.checkpoint()
        memory.expand(32)
        memory.write(keys[8:], np.ones((4, 4), np.float32))
    assert emm.verify(tmp_path / "m", "numeric").exit_code == 0
