"""Bugs in what a journal proves: what is durable, how far, where a segment ends and the next begins.

Purpose: the mutants of `synced_through`, marks, seals, and the lengths and numbers that a successor states.
"""

from __future__ import annotations

from typing import Final

from emm_fuzz.damage import flip
from emm_fuzz.mutants.killers import damaged, explored
from emm_fuzz.mutants.patching import Patch
from emm_fuzz.mutants.planting import Mutant

WRITER: Final = "emm.storage.journal_writer:JournalWriter"
PUBLISH: Final = "emm.storage.session:Session._publish"
WAL2: Final = "0000000000000002.wal"
WAL3: Final = "0000000000000003.wal"

LARGE: Final = "len(data) > 2048 and self.segment_next > 3"
LATE: Final = "resolved is not None and generation > 3"
_ENCODE: Final = "encode_record(kind, lsn, self._synced_through, payload, self._uuid)"
_MARK: Final = 'encode_record(RecordType.MARK, lsn, lsn, b"", self._uuid)'
_SEAL: Final = 'encode_record(RecordType.SEAL, lsn, lsn, b"", self._uuid)'

SYNCED: Final = (
    Mutant(
        "synced-through-too-high",
        "The first record of a later segment claims to be durable while it is being written.",
        (
            Patch(
                f"{WRITER}.append",
                _ENCODE,
                "encode_record(kind, lsn, lsn, payload, self._uuid)",
                when="self._appender is None and self.segment_next > 2",
            ),
        ),
        explored("write", "checkpoint", "write", "checkpoint", "write-large"),
    ),
    Mutant(
        "synced-through-too-low",
        "In later segments no record proves the ones before it; damage among them looks like a torn tail.",
        (
            Patch(
                f"{WRITER}.append",
                _ENCODE,
                "encode_record(kind, lsn, 0, payload, self._uuid)",
                when="self.segment_next > 3",
            ),
        ),
        damaged(
            "write",
            "checkpoint",
            "write",
            "checkpoint",
            "write",
            "write",
            "write",
            by=flip(WAL3, 200),
            what="a flip in the first commit of segment 3",
            must_refuse=True,
        ),
    ),
)

MARKS: Final = (
    Mutant(
        "mark-missing",
        "After an idle second nothing proves the last commit of a later segment.",
        (
            Patch(
                f"{WRITER}._mark_if_idle",
                'self._write(encode_record(RecordType.MARK, self.lsn, self.lsn, b"", self._uuid))',
                "pass",
                when="self.segment_next > 2",
            ),
        ),
        damaged(
            "write",
            "checkpoint",
            "write",
            "mark",
            by=flip(WAL2, 200),
            what="a flip in the commit before the mark of segment 2",
            must_refuse=True,
        ),
    ),
    Mutant(
        "mark-too-early",
        "In later segments the mark goes out together with the commit that it proves.",
        (Patch(f"{WRITER}.append", "self._write(data)", f"self._write(data + {_MARK})", when="self.segment_next > 3"),),
        explored("write", "checkpoint", "write", "checkpoint", "write-large"),
    ),
    Mutant(
        "no-mark-after-logging-again",
        "What a take-over made durable is not proven; damage to it looks like a torn tail.",
        (Patch(f"{WRITER}._again", f"yield {_MARK}", "pass", when="self.segment_next > 3"),),
        damaged(
            "write",
            "checkpoint",
            "write",
            "checkpoint",
            "write",
            "kill",
            by=flip("0000000000000004.wal", 200),
            what="a flip in the commit that was logged again",
            must_refuse=True,
        ),
    ),
    Mutant(
        "seal-missing",
        "A later segment ends without its seal when a mark has proven its last commit.",
        (
            Patch(
                f"{WRITER}.seal",
                'self._write(encode_record(RecordType.SEAL, self.lsn, self.lsn, b"", self._uuid))',
                "pass",
                when="self._marked and self.segment_next > 2",
            ),
        ),
        explored("write", "checkpoint", "write", "mark", "close"),
    ),
    Mutant(
        "seal-too-early",
        "In later segments the seal goes out with a large commit that is not durable yet.",
        (
            Patch(
                f"{WRITER}.append",
                "self._write(data)",
                f"self._write(data + {_SEAL})",
                when=LARGE,
            ),
        ),
        explored("write", "checkpoint", "write", "checkpoint", "write-large"),
    ),
    Mutant(
        "sealed-after-the-snapshot",
        "A late re-solved snapshot is published before the seal of the segment that it ends.",
        (
            Patch(PUBLISH, "writer.seal()", "pass", when=LATE),
            Patch(
                PUBLISH,
                "self.snapshot = snapshot",
                "self.snapshot = snapshot\nwriter.seal()",
                when=LATE,
            ),
        ),
        explored("write", "checkpoint", "write", "checkpoint", "write", "resolve"),
    ),
)

TAKE_OVER: Final = (
    Mutant(
        "logged-again-from-the-wrong-place",
        "A take-over that logs more than a page again states as first LSN what follows it.",
        (
            Patch(
                f"{WRITER}._log_again",
                "recovered.proven_lsn + 1",
                "recovered.lsn + 1",
                when="places and places[-1].end - places[0].offset > 4096",
            ),
        ),
        explored("write", "write 30"),
    ),
    Mutant(
        "torn-tail-counted-as-valid",
        "Behind a torn tail longer than a page a successor states the length of the file, not of its commits.",
        (
            Patch(
                "emm.storage.recovery:_recover",
                "readers[-1].valid_bytes if readers else 0",
                "readers[-1].size",
                when="walk.torn is not None and readers[-1].size - readers[-1].valid_bytes > 4096",
            ),
        ),
        explored("write", "write 30"),
    ),
    Mutant(
        "again-without-what-was-torn",
        "A take-over that finds a torn tail in a long segment does not log the commit before it again.",
        (
            Patch(
                f"{WRITER}._log_again",
                "recovered.unproven",
                "()",
                when="recovered.torn is not None and recovered.previous_bytes > 4096",
            ),
        ),
        explored("write 30", "write"),
    ),
)

PROVING: Final = (*SYNCED, *MARKS, *TAKE_OVER)
