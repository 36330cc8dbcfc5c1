"""Bugs in reading a journal: checks left out, order not checked, evidence not looked for, the wrong log believed.

Purpose: the mutants of recovery and of the segment reader.
"""

from __future__ import annotations

from typing import Final

from emm_fuzz.damage import (
    append,
    blanked,
    cut,
    flip,
    foreign_segment,
    later_lsn,
    logged_anew,
    other_time,
    together,
    uncommitted,
    without,
)
from emm_fuzz.mutants.damages import other_branch
from emm_fuzz.mutants.killers import damaged, explored
from emm_fuzz.mutants.patching import Patch
from emm_fuzz.mutants.planting import Mutant

READER: Final = "emm.storage.segment_file:SegmentReader"
RECOVERY: Final = "emm.storage.recovery"
LONG_TAIL: Final = "reader.size - reader.valid_bytes > 4096"
CHAIN: Final = "expected != logged.commit.chain"
NUMBER: Final = "self.header.segment != self.segment"
WAL1: Final = "0000000000000001.wal"
WAL2: Final = "0000000000000002.wal"

CHECKS: Final = (
    Mutant(
        "payload-crc-not-checked",
        "A record counts as whole when its header is.",
        (Patch("emm.codec.journal:decode_record", "found != stated", "False", when="found != stated"),),
        explored("write-large"),
    ),
    Mutant(
        "chain-not-checked",
        "An edit that keeps every CRC right is believed.",
        (Patch(f"{RECOVERY}:check_chain", CHAIN, "False", when=CHAIN),),
        damaged(
            "write",
            "write",
            by=logged_anew(other_time, chained=False),
            what="another time in a commit, every CRC made right,",
            must_refuse=True,
        ),
    ),
    Mutant(
        "gap-in-lsns-accepted",
        "A commit is gone and nobody misses its number.",
        (Patch(f"{READER}._check_order", "record.lsn != expected", "False", when="record.lsn > expected"),),
        damaged(
            "write",
            "write",
            "write",
            by=logged_anew(later_lsn(1), chained=True),
            what="a commit left out, every CRC and chain value made right,",
            must_refuse=True,
        ),
    ),
    Mutant(
        "zeros-end-the-log",
        "A blanked sector in the middle of the journal reads as its end.",
        (
            Patch(
                f"{READER}.commits",
                "record = self._record_at(offset)",
                "return",
                when="self._read(offset, min(4, self.size - offset)) == bytes(4)",
            ),
        ),
        damaged("write", "write", "write", by=blanked(1), what="a blanked commit", must_refuse=True),
    ),
    Mutant(
        "zero-record-accepted",
        "A page of zeros at the end, or more, is space that was allocated in advance.",
        (
            Patch(
                f"{READER}.commits",
                "self._end = min(self.size, previous_bytes) if previous_bytes else self.size",
                "self._end = -(-len(bytes(self._read(0, self.size)).rstrip(bytes(1))) // 8) * 8",
                when="self.size > 4096 and not any(self._read(self.size - 4096, 4096))",
            ),
        ),
        explored("write 30"),
    ),
    Mutant(
        "segment-of-another-memory-accepted",
        "The segment's own UUID is believed.",
        (
            Patch(
                f"{READER}.__post_init__",
                "self.header.uuid != self.uuid",
                "False",
                when="self.header.uuid != self.uuid",
            ),
        ),
        damaged("write", "write", by=foreign_segment, what="a segment of another memory", must_refuse=True),
    ),
    Mutant(
        "older-branch-accepted",
        "Where a segment says that it continues another history, that history is believed.",
        (
            Patch(
                f"{RECOVERY}:_Walk._check_start",
                "(header.first_lsn, header.rank, header.chain) != (self.lsn + 1, rank, self.chain)",
                "(header.first_lsn, header.rank) != (self.lsn + 1, rank)",
                when="header.chain != self.chain",
            ),
            Patch(
                f"{RECOVERY}:_Walk._check_start",
                "self.floor_generation = max(self.floor_generation, header.floor_generation)",
                "self.floor_generation = max(self.floor_generation, header.floor_generation)\n"
                "self.chain = header.chain",
                when="header.chain != self.chain",
            ),
        ),
        damaged(
            "write",
            "checkpoint",
            "write",
            by=other_branch(2, "decay", "checkpoint", "write"),
            what="a segment of another branch of the memory",
            must_refuse=True,
        ),
    ),
    Mutant(
        "segment-number-not-checked",
        "A segment under another one's name is believed.",
        (
            Patch(f"{READER}.__post_init__", NUMBER, "False", when=NUMBER),
            Patch(f"{RECOVERY}:_recover", "number != expected", "False", when="number != expected"),
        ),
        damaged(
            "write",
            "kill",
            "write",
            by=together(without(WAL1), lambda f: {**f, WAL1: f.get(WAL2, b"")}),
            what="segment 2 in the place of segment 1",
            must_refuse=True,
        ),
    ),
    Mutant(
        "dead-commits-replayed",
        "Commits of a later segment that were logged again are applied twice.",
        (
            Patch(
                f"{RECOVERY}:_Walk.segment",
                "lsn_end is None or commit.lsn < lsn_end",
                "True",
                when="lsn_end is not None and commit.lsn >= lsn_end and reader.segment > 1",
            ),
        ),
        explored("write", "checkpoint", "write", "kill"),
    ),
    Mutant(
        "batch-without-commit-passes",
        "A batch that was torn before its commit is not reported.",
        (
            Patch(
                f"{READER}.commits",
                "if batch:\n        self.damage",
                "if batch and self.sealed:\n    self.damage",
            ),
        ),
        damaged("write", by=uncommitted, what="a batch without its commit"),
    ),
    Mutant(
        "bytes-after-the-seal-pass",
        "Nothing follows a seal; a page of something is taken for space that was allocated in advance.",
        (
            Patch(
                f"{READER}.commits",
                'if self.sealed:\n                raise FormatError("bytes follow the seal", '
                'rule="J-11", offset=offset)',
                "return",
                when="self.sealed and self.size - offset >= 4096",
            ),
        ),
        damaged("write", "close", by=append(WAL1, bytes(4096)), what="a page of zeros behind the seal"),
    ),
)

EVIDENCE: Final = (
    Mutant(
        "tail-scan-stops-at-the-first-bad-record",
        "Proofs beyond damage are not looked for, so damage reads as a torn tail.",
        (Patch(f"{READER}.evidence_beyond", "best = 0", "return 0", when="self.segment > 1"),),
        damaged(
            "write",
            "checkpoint",
            "write",
            "write",
            by=flip(WAL2, 200),
            what="a flip in the first commit of segment 2",
            must_refuse=True,
        ),
    ),
    Mutant(
        "tail-scan-steps-by-a-record",
        "The scan trusts the length of a damaged record and steps over the evidence behind it.",
        (Patch(f"{READER}._try_record", "return 1,", "return 1 << 20,"),),
        damaged("write", "write", "write", by=flip(WAL1, 200), what="a flip in the first commit", must_refuse=True),
    ),
    Mutant(
        "tail-scan-steps-by-16",
        "Proofs that lie at an odd multiple of 8 bytes are not found.",
        (Patch(f"{READER}.evidence_beyond", "if inside % RECORD_ALIGNMENT_BYTES == 0:", "if inside % 16 == 0:"),),
        damaged("write 2", "write", by=flip(WAL1, 200), what="a flip in the first commit", must_refuse=True),
    ),
    Mutant(
        "only-commits-are-evidence",
        "A batch whose commit was torn off proves nothing, though its first record is whole.",
        (
            Patch(
                f"{READER}._try_record",
                "record.synced_through",
                "0",
                when="record.type < RecordType.COMMIT",
            ),
        ),
        damaged(
            "write",
            "write",
            by=together(flip(WAL1, 200), cut(WAL1, -50)),
            what="a flip in the first commit and a tear in the second",
            must_refuse=True,
        ),
    ),
    Mutant(
        "damage-below-the-proof-is-a-torn-tail",
        "Proofs are gathered and not compared, in a segment that follows another.",
        (Patch(f"{RECOVERY}:_Walk._judge_tail", "evidence > self.lsn", "False", when="reader.segment > 1"),),
        damaged(
            "write",
            "checkpoint",
            "write",
            "write",
            by=flip(WAL2, 200),
            what="a flip in the first commit of segment 2",
            must_refuse=True,
        ),
    ),
    Mutant(
        "torn-tail-refused",
        "What a crash leaves is taken for damage when it is longer than a page.",
        (Patch(f"{RECOVERY}:_Walk._judge_tail", "not could_be_torn(damage)", "True", when=LONG_TAIL),),
        explored("write 30"),
    ),
    Mutant(
        "damage-before-the-next-segment-passes",
        "A segment stops short of where the next begins.",
        (
            Patch(f"{RECOVERY}:_Walk._check_follower", "self.lsn < first - 1", "False", when="self.lsn < first - 1"),
            Patch(
                f"{RECOVERY}:_Walk._check_start",
                "(header.first_lsn, header.rank, header.chain) != (self.lsn + 1, rank, self.chain)",
                "False",
                when="header.first_lsn != self.lsn + 1 or header.chain != self.chain",
            ),
            Patch(f"{RECOVERY}:check_chain", CHAIN, "False", when=CHAIN),
        ),
        damaged(
            "write",
            "write",
            "kill",
            "write",
            by=flip(WAL1, 200),
            what="a flip in a segment that has a successor",
            must_refuse=True,
        ),
    ),
)

READING: Final = (*CHECKS, *EVIDENCE)
