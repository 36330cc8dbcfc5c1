"""Segments and records that break one rule each, with every other CRC and chain value made anew."""

from __future__ import annotations

import struct

from emm.layout import RECORD_HEADER, SEGMENT_HEADER, RecordType

from . import forge
from .case import LOSS, REFUSED, REPAIRABLE, TORN, Case, Expected, Recipes
from .life import OTHER_UUID, UUID, Life, Record, write_record

WAL = "0000000000000001.wal"


def u(size: int, value: int) -> bytes:
    return value.to_bytes(size, "little")


def cases() -> list[Case]:
    made = Recipes()
    for part in (_segment_headers, _records, _order, _chain):
        part(made)
    return made.cases


def two() -> Life:
    """Two commits of two pairs and a seal."""
    return Life().write().write().seal()


def _segment_headers(made: Recipes) -> None:
    life = two()
    data = bytes(life.files[WAL])
    at = SEGMENT_HEADER.offset

    def bad(name: str, shows: str, edited: bytes, rule: str, code: str = "segment-header-damaged") -> None:
        verdict = REFUSED if code == "unsupported" else LOSS
        also = {"J-1": ("J-2",), "J-5": ("N-2", "R-5")}.get(rule, ())
        made.refused(name, shows, life.replaced(WAL, edited), Expected(verdict, (code,), rule, WAL, also=also))

    bad("j1-magic", "the segment's magic is damaged", forge.flip(data, 3), "J-1")
    bad(
        "j1-snapshot-magic",
        "the segment carries the magic of a snapshot",
        forge.segment(data, 0, b"\x89EMM\r\n\x1a\n"),
        "J-1",
    )
    bad("j2-flip", "a bit of the segment header is flipped", forge.flip(data, 60, 4), "J-2")
    bad("j2-short", "the segment is 127 bytes long", data[:127], "J-1")
    bad("j2-empty", "the segment is empty", b"", "J-1")
    bad("j3-version", "segment version 5", forge.segment(data, 8, u(2, 5)), "J-3", "unsupported")
    bad("j3-flags", "an unknown segment flag", forge.segment(data, 12, u(4, 1)), "J-3", "unsupported")
    bad(
        "j4-reserved", "a reserved byte of the segment header is 1", forge.segment(data, at("reserved"), u(1, 1)), "J-4"
    )
    bad("j5-first-lsn", "first_lsn is 0", forge.segment(data, at("first_lsn"), u(8, 0)), "J-5")
    bad("j5-floor", "floor_generation is 0", forge.segment(data, at("floor_generation"), u(8, 0)), "J-5")
    bad(
        "j5-segment",
        "the segment's number has seventeen digits",
        forge.segment(data, at("segment"), u(8, 10**16)),
        "J-5",
    )
    bad("j5-rank-zero", "the segment's rank is 0", forge.segment(data, at("rank"), u(4, 0)), "J-5")
    bad("j5-rank-odd", "the segment's rank is 17", forge.segment(data, at("rank"), u(4, 17)), "J-5")
    bad(
        "j5-foreign",
        "a segment of another memory",
        bytes(Life(uuid=OTHER_UUID).write().seal().files[WAL]),
        "J-5",
        "foreign-file",
    )
    bad(
        "n2-segment",
        "the segment's number is 2 in a file named 1",
        forge.segment(data, at("segment"), u(8, 2)),
        "N-2",
        "wrong-name",
    )


def _records(made: Recipes) -> None:
    """The first of two commits is damaged; the second and the seal prove that it was durable."""
    life = two()
    data = bytes(life.files[WAL])
    first, commit, second = forge.offsets(data)[:3]

    def bad(name: str, shows: str, edited: bytes, rule: str, verdict: str = LOSS, code: str = "record-damaged") -> None:
        expected = Expected(verdict, (code,), rule, WAL, also=("R-6",))
        made.refused(name, shows, life.replaced(WAL, edited), expected)

    bad("j6-gap", "eight zeros between two records", data[:second] + bytes(8) + data[second:], "J-6")
    bad("j6-magic", "a record's magic is damaged", forge.flip(data, first, 1), "J-6")
    bad("j6-hole", "the first commit is gone from the middle", data[:first] + data[second:], "J-11")
    bad("j7-header-bit", "a bit of a record header is flipped", forge.flip(data, first + 8, 2), "J-7")
    bad("j8-type-zero", "record type 0", forge.record(data, 0, 4, u(2, 0), UUID), "J-8", REFUSED, "unsupported")
    bad("j8-type-nine", "record type 9", forge.record(data, 0, 4, u(2, 9), UUID), "J-8", REFUSED, "unsupported")
    bad("j8-flags", "an unknown record flag", forge.record(data, 0, 6, u(2, 1), UUID), "J-8", REFUSED, "unsupported")
    bad("j9-lsn-zero", "a write of LSN 0", forge.record(data, 0, 8, u(8, 0), UUID), "J-9")
    bad(
        "j9-synced",
        "a record that says more was synced than was written",
        forge.record(data, 0, 16, u(8, 2), UUID),
        "J-9",
    )
    bad("j10-payload-bit", "a bit of a durable key is flipped", forge.flip(data, first + 70, 6), "J-10")
    bad("j10-trailer", "a record's trailing CRC is wrong", forge.flip(data, commit - 2, 0), "J-10")
    wrong = forge.record(data, 1, RECORD_HEADER.size + 57, b"\x01", UUID)
    bad("j10-padding", "a byte of a record's padding is 1", wrong, "J-10")
    foreign = forge.record(data, 0, 0, b"EMJR", OTHER_UUID)
    bad("j10-foreign", "a record whose CRC was made with another memory's UUID", foreign, "J-10")
    bad("s3-length", "a record of 4 GiB", forge.record(data, 0, 24, u(4, 2**32 - 1), UUID), "S-3")
    bad(
        "s3-length-just",
        "a record one byte longer than 16 MiB allow",
        forge.record(data, 0, 24, u(4, 16_777_181), UUID),
        "S-3",
    )
    bad(
        "j6-length-past-end",
        "a record that is longer than its segment",
        forge.record(data, 0, 24, u(4, 100_000), UUID),
        "J-6",
    )


def _order(made: Recipes) -> None:
    """Whole records, in an order that no writer makes. They were not torn, so they are damage wherever they stand."""

    def bad(name: str, shows: str, life: Life, rule: str = "J-11", *codes: str) -> None:
        expected = Expected(LOSS, codes or ("record-damaged",), rule, WAL, None)
        made.refused(name, shows, life.bytes(), expected)

    base = Life().write()
    write = write_record(base.pairs(1))
    commit = bytes(base.files[WAL])[forge.offsets(bytes(base.files[WAL]))[1] :]
    bad(
        "j11-no-records",
        "a commit without records",
        base.copy().append(base.record(RecordType.COMMIT, 2, 1, commit[32:88])),
    )
    skip = base.copy()
    skip.lsn = 2
    bad("j11-lsn-skipped", "LSN 3 follows LSN 1", skip.log([write]))
    back = base.copy()
    back.lsn = 0
    bad("j11-lsn-again", "LSN 1 twice", back.log([write]))
    mixed = base.copy().append(base.record(*_of(write, 2))).append(base.record(*_of(write, 3)))
    bad("j11-two-lsns", "records of two LSNs in a batch", mixed)
    inside = base.copy().append(base.record(*_of(write, 2))).mark()
    bad("j11-mark-inside", "a mark inside a batch", inside)
    bad(
        "j11-mark-payload", "a mark with a payload", base.copy().append(base.record(RecordType.MARK, 1, 1, b"12345678"))
    )
    bad(
        "j11-mark-unsynced",
        "a mark that proves less than its LSN",
        base.copy().append(base.record(RecordType.MARK, 1, 0)),
    )
    bad("j11-mark-ahead", "a mark of an LSN that is not there", base.copy().append(base.record(RecordType.MARK, 5, 5)))
    bad("j11-count", "n_records is 2 for one record", base.copy().log([write], n_records=2))
    sealed = base.copy().seal()
    sealed.is_open = True
    after = Expected(REPAIRABLE, ("record-damaged",), "J-11", WAL, None)
    made.refused("j11-after-seal", "a commit behind the seal", sealed.copy().log([write]).bytes(), after)
    made.refused("j11-bytes-after-seal", "bytes behind the seal", sealed.append(b"\0" * 8).bytes(), after)


def _of(record: Record, lsn: int) -> tuple[RecordType, int, int, bytes]:
    return record[0], lsn, 1, record[1]


def _chain(made: Recipes) -> None:
    """Edits that keep every CRC."""
    life = two()
    data = bytes(life.files[WAL])

    def bad(name: str, shows: str, edited: bytes, *codes: str) -> None:
        made.refused(
            name, shows, life.replaced(WAL, edited), Expected(LOSS, codes or ("chain-broken",), "J-12", WAL, None)
        )

    key = forge.record(data, 0, RECORD_HEADER.size + 40, struct.pack("<f", 0.5), UUID)
    bad("j12-key", "a number of a key is changed and both CRCs follow", key)
    bad(
        "j12-value-last",
        "the same in the last commit",
        forge.record(data, 2, 32 + 16 + 16 + 128 + 4, struct.pack("<f", 0.5), UUID),
    )
    bad("j12-time", "the time of a commit is changed", forge.record(data, 1, RECORD_HEADER.size, u(8, 0), UUID))
    bad("j12-chain", "a chain value is changed", forge.record(data, 1, forge.CHAIN, bytes(32), UUID))
    first = Life().write().files[WAL]
    end = len(first)
    other = Life()
    other.commit(other.writing(other.pairs(2, seed=50)))
    bad("j12-replaced", "the first commit is another one, whole in itself", bytes(other.files[WAL]) + data[end:])
    expected = Expected(TORN, ("torn-tail",), "J-6", WAL, end)
    made.opens(
        "cut-is-not-seen",
        "a cut inside the last commit of a marked journal looks torn, as R-6 says",
        {**life.bytes(), WAL: data[: end + 50]},
        Life().write(),
        expected,
    )
