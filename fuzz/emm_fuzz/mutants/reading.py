"""Bugs in reading: checks left out, order not checked, evidence not looked for, the wrong file believed.

Purpose: the mutants of recovery, segment reading, snapshots, codecs and verify.
"""

from __future__ import annotations

from typing import Final

from emm_fuzz.damage import (
    append,
    blanked,
    cut,
    flip,
    foreign_record,
    foreign_segment,
    forged_block,
    later_lsn,
    logged_anew,
    other_time,
    together,
    uncommitted,
    without,
)
from emm_fuzz.mutants.killers import believed, beside, damaged, explored
from emm_fuzz.mutants.planting import Mutant, Patch

READER: Final = "emm.storage.segment_file:SegmentReader"
RECOVERY: Final = "emm.storage.recovery"
JOURNAL: Final = "emm.codec.journal"
WAL1: Final = "0000000000000001.wal"
WAL2: Final = "0000000000000002.wal"
EMM1: Final = "0000000000000001.emm"
EMM2: Final = "0000000000000002.emm"

JOURNALS: Final = (
    Mutant(
        "crc-without-uuid",
        "A record of another memory, left in reused blocks, passes for evidence.",
        (
            Patch(
                f"{JOURNAL}:encode_record", "crc32(uuid, header, payload, padding)", "crc32(header, payload, padding)"
            ),
            Patch(f"{JOURNAL}:decode_record", "crc32(uuid, data[: size", "crc32(data[: size"),
        ),
        believed("write", with_=foreign_record(99)),
    ),
    Mutant(
        "payload-crc-not-checked",
        "A record counts as whole when its header is.",
        (Patch(f"{JOURNAL}:decode_record", "if found != stated:", "if False:"),),
        explored("write-large"),
    ),
    Mutant(
        "chain-not-checked",
        "An edit that keeps every CRC right is believed.",
        (Patch(f"{RECOVERY}:check_chain", "if expected != logged.commit.chain:", "if False:"),),
        damaged("write", "write", by=logged_anew(other_time, chained=False), must_refuse=True),
    ),
    Mutant(
        "gap-in-lsns-accepted",
        "A commit is gone and nobody misses its number.",
        (Patch(f"{READER}._check_order", "record.lsn != expected or", "record.lsn < expected or"),),
        damaged("write", "write", "write", by=logged_anew(later_lsn(1), chained=True), must_refuse=True),
    ),
    Mutant(
        "zeros-end-the-log",
        "A blanked sector in the middle of the journal reads as its end.",
        (
            Patch(
                f"{READER}.commits",
                "while offset <",
                "while self._read(offset, min(4, self.size - offset)) != bytes(4) and offset <",
            ),
        ),
        damaged("write", "write", "write", by=blanked(1), must_refuse=True),
    ),
    Mutant(
        "tail-scan-stops-at-the-first-bad-record",
        "Proofs beyond damage are not looked for, so damage reads as a torn tail.",
        (Patch(f"{READER}.evidence_beyond", "best = 0", "return 0"),),
        damaged("write", "write", "write", by=flip(WAL1, 200), must_refuse=True),
    ),
    Mutant(
        "tail-scan-steps-by-a-record",
        "The scan trusts the length of a damaged record and steps over the evidence behind it.",
        (Patch(f"{READER}._try_record", "return 1,", "return 1 << 20,"),),
        damaged("write", "write", "write", by=flip(WAL1, 200), must_refuse=True),
    ),
    Mutant(
        "batch-without-commit-passes",
        "A batch that was torn before its commit is not reported.",
        (Patch(f"{READER}.commits", "    if batch:\n        self.damage", "    if False:\n        self.damage"),),
        damaged("write", by=uncommitted),
    ),
    Mutant(
        "bytes-after-the-seal-pass",
        "Nothing follows a seal, but nobody looks.",
        (
            Patch(
                f"{READER}.commits",
                "if self.sealed:",
                "if self.sealed and self._read(offset, 4) != b'':\n    return\nif self.sealed:",
            ),
        ),
        damaged("write", "close", by=append(WAL1, bytes(64))),
    ),
    Mutant(
        "segment-of-another-memory-accepted",
        "The segment's own UUID is believed.",
        (Patch(f"{READER}.__post_init__", "if self.header.uuid != self.uuid:", "if False:"),),
        damaged("write", "write", by=foreign_segment, must_refuse=True),
    ),
    Mutant(
        "segment-number-not-checked",
        "A segment under another one's name is believed.",
        (
            Patch(f"{READER}.__post_init__", "if self.header.segment != self.segment:", "if False:"),
            Patch(f"{RECOVERY}:_recover", "if number != expected:", "if False:"),
        ),
        damaged(
            "write",
            "kill",
            "write",
            by=together(without(WAL1), lambda f: {**f, WAL1: f.get(WAL2, b"")}),
            must_refuse=True,
        ),
    ),
    Mutant(
        "dead-commits-replayed",
        "Commits that were logged again are applied twice.",
        (Patch(f"{RECOVERY}:_Walk.segment", "if lsn_end is None or commit.lsn < lsn_end:", "if True:"),),
        explored("write", "kill"),
    ),
    Mutant(
        "torn-tail-refused",
        "What a crash leaves is taken for damage.",
        (Patch(f"{RECOVERY}:_Walk._judge_tail", "if not could_be_torn(damage):", "if True:"),),
        explored("write-large"),
    ),
    Mutant(
        "damage-below-the-proof-is-a-torn-tail",
        "Proofs are gathered and not compared.",
        (Patch(f"{RECOVERY}:_Walk._judge_tail", "if evidence > self.lsn:", "if False:"),),
        damaged("write", "write", "write", by=flip(WAL1, 200), must_refuse=True),
    ),
    Mutant(
        "damage-before-the-next-segment-passes",
        "A segment stops short of where the next begins.",
        (
            Patch(f"{RECOVERY}:_Walk._check_follower", "if self.lsn < first - 1:", "if False:"),
            Patch(
                f"{RECOVERY}:_Walk._check_start",
                "if (header.first_lsn, header.rank, header.chain) != (self.lsn + 1, rank, self.chain):",
                "if False:",
            ),
            Patch(f"{RECOVERY}:check_chain", "if expected != logged.commit.chain:", "if False:"),
        ),
        damaged("write", "write", "kill", "write", by=flip(WAL1, 200), must_refuse=True),
    ),
)

SNAPSHOTS: Final = (
    Mutant(
        "last-block-not-checked",
        "Off by one: the last block of a snapshot is not hashed.",
        (Patch("emm.storage.snapshot_file:load_snapshot", "enumerate(head.table):", "enumerate(head.table[:-1]):"),),
        damaged("write", by=flip(EMM1, 4100), must_refuse=True),
    ),
    Mutant(
        "no-sha-of-blocks",
        "Whoever changes a number and its CRC-32 is believed.",
        (Patch("emm.codec.integrity:check_block", "if found_sha != entry.sha256:", "if False:"),),
        damaged("write", by=forged_block(1), must_refuse=True),
    ),
    Mutant(
        "no-sha-of-the-head",
        "A flip in the metadata or the lineage is believed.",
        (Patch("emm.codec.snapshot:decode_head", "if found != header.sha256:", "if False:"),),
        damaged("write", by=flip(EMM1, 128), must_refuse=True),
    ),
    Mutant(
        "trailing-bytes-ignored",
        "A file that goes on after its end opens.",
        (
            Patch(
                "emm.codec.snapshot:read_head",
                "if file_bytes != shape.file_bytes:",
                "if file_bytes < shape.file_bytes:",
            ),
        ),
        damaged("write", by=append(EMM1, b"more"), must_refuse=True),
    ),
    Mutant(
        "truncation-not-checked",
        "A file that ends early is read as far as it goes.",
        (Patch("emm.codec.snapshot:read_head", "if file_bytes != shape.file_bytes:", "if False:"),),
        damaged("write", by=cut(EMM1, -60), must_refuse=True),
    ),
    Mutant(
        "mirror-not-compared",
        "Verify calls a snapshot clean whose second copy is damaged.",
        (
            Patch("emm.verify.snapshot:SnapshotCheck._judge_mirror", "if head.head is not None:", "if False:"),
            Patch(
                "emm.verify.snapshot:SnapshotCheck._judge_mirror",
                "elif mirror.head is None and mirror.error is not None:",
                "elif False:",
            ),
        ),
        damaged("write", "close", by=flip(EMM2, -70)),
    ),
    Mutant(
        "starts-from-the-oldest",
        "The journal is replayed onto the first snapshot, whatever was re-solved since.",
        (Patch(f"{RECOVERY}:_newest_snapshot", "reversed(listing.generations)", "list(listing.generations)"),),
        explored("write", "resolve"),
    ),
    Mutant(
        "resolved-snapshot-passed-over",
        "A damaged re-solved snapshot is replaced by what was before it.",
        (
            Patch(f"{RECOVERY}:_newest_snapshot", "head.lineage.origin is not Origin.CHECKPOINT or", ""),
            Patch(f"{RECOVERY}:_newest_snapshot", "if not _leads_to(loaded.snapshot, head):", "if False:"),
        ),
        damaged("write", "resolve", by=flip(EMM2, 4100), must_refuse=True),
    ),
    Mutant(
        "damaged-newest-passed-over-without-its-lsn",
        "An older snapshot and too short a journal stand in for a damaged newer one.",
        (Patch(f"{RECOVERY}:_recover", "if walk.lsn < lsn_floor:", "if False:"),),
        damaged("write", "close", by=together(flip(EMM2, 4100), without(WAL1)), must_refuse=True),
    ),
    Mutant(
        "prune-does-not-read-back",
        "The only good snapshot is removed because a damaged newer one has a name.",
        (Patch("emm.storage.checkpoint:prune", "load_snapshot(directory, kept[-1])", "pass"),),
        damaged("write", "close", by=flip(EMM2, 4100), then="prune"),
    ),
    Mutant(
        "listing-trusted-against-a-missing-file",
        "A reader does not start again when a prune takes a file that it has listed.",
        (
            Patch(
                f"{RECOVERY}:recover", "if attempt + 1 == _ATTEMPTS or list_memory(directory) == listing:", "if True:"
            ),
        ),
        beside("write", "checkpoint", "write", "checkpoint", "prune"),
    ),
    Mutant(
        "verify-does-not-look-again",
        "Verify reports as damage what a writer was just doing.",
        (
            Patch(
                "emm.verify.memory:check_memory",
                "_sizes(directory) == before:",
                "True:",
            ),
        ),
        beside("write", "checkpoint", "write", "checkpoint", "prune"),
    ),
)

READING: Final = (*JOURNALS, *SNAPSHOTS)
