"""What somebody would try: polyglots, bombs, forged sizes, endless work. None may cost a reader time or memory."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from emm.codec.journal import encode_record
from emm.codec.pairs import PairBatch, encode_expand, encode_pairs
from emm.layout import RECORD_HEADER, RECORD_MAGIC, RecordType

from . import forge
from .case import LOSS, REFUSED, REPAIRABLE, TORN, Case, Expected, Recipes
from .good import MARK_UUID, mark_of_numbers
from .life import UUID, Life, small

EMM, WAL = "0000000000000001.emm", "0000000000000001.wal"
PDF = b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"


def cases() -> list[Case]:
    made = Recipes()
    for part in (_foreign_formats, _sizes, _bombs, _evidence):
        part(made)
    return made.cases


def zipped(name: bytes, data: bytes) -> bytes:
    """A zip archive of one stored file, without a clock."""
    crc = zlib.crc32(data)
    fixed = struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 33, crc, len(data), len(data), len(name), 0)
    local = b"PK\3\4" + fixed + name + data
    central = b"PK\1\2" + struct.pack("<H", 20) + fixed + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    return local + central + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)


def _foreign_formats(made: Recipes) -> None:
    life = Life(metadata={"name": "x"})
    data = bytes(life.files[EMM])
    archive = zipped(b"evil.sh", b"#!/bin/sh\n")

    def alien(name: str, shows: str, content: bytes) -> None:
        made.file(name, shows, content, Expected(REFUSED, ("not-emm",), "H-1", EMM, 0), EMM)

    alien("empty-file", "a file of no bytes", b"")
    alien("one-zero", "a file of one zero byte", b"\0")
    alien("zeros", "a file of zeros, long enough for a head", bytes(1 << 17))
    alien("text", "a text file", b"The quick brown fox.\n" * 50)
    alien("v3-magic", "a magic like that of version 3", b"EMM3" + bytes(600))
    alien("png", "the magic of PNG, which this one resembles", b"\x89PNG\r\n\x1a\n" + data[8:-128] + bytes(128))
    for name, prefix in (("zip", archive), ("pdf", PDF)):
        expected = Expected(LOSS, ("header-damaged",), "H-1", EMM, 0)
        shows = f"a {name.upper()} with a snapshot behind it: damaged, not refused, for it ends in a header (S-7)"
        made.file(f"{name}-before", shows, prefix + data, expected, EMM)
    expected = Expected(REPAIRABLE, ("header-damaged",), "H-1", EMM, 0)
    made.file(
        "pdf-over", "a PDF over the first bytes of a snapshot: the mirror mends it", PDF[:8] + data[8:], expected, EMM
    )
    for name, tail in (("zip", archive), ("pdf", PDF)):
        expected = Expected(REPAIRABLE, ("trailing-bytes",), "P-3", EMM, len(data))
        made.file(f"{name}-behind", f"a {name.upper()} behind the mirror", data + tail, expected, EMM)
    expected = Expected(REPAIRABLE, ("trailing-bytes",), "P-3", EMM, len(data))
    made.file("twice", "a snapshot twice in one file", data + data, expected, EMM)
    padding = forge.head(data, 1024, archive)
    expected = Expected(LOSS, ("head-damaged", "mirror-damaged"), "P-2", EMM, None, also=("H-12",))
    made.file(
        "zip-in-padding", "a zip archive in the padding of the head, under a valid SHA-256", padding, expected, EMM
    )
    padding = forge.payload(data, 40_000, archive)
    made.file(
        "zip-in-payload",
        "the same in the padding of the payload",
        padding,
        Expected(REPAIRABLE, ("payload-invalid",), "P-2", EMM, None),
        EMM,
    )
    text = data.replace(b"\r\n", b"\n")
    made.file(
        "text-mode", "a transfer in text mode took every CR", text, Expected(REFUSED, ("not-emm",), "H-1", EMM, 0), EMM
    )
    segment = bytes(Life().write().seal().files[WAL])
    alone = Expected(REFUSED, ("not-emm",), "J-1", WAL, 0)
    made.file("segment-of-zeros", "a segment of zeros", bytes(4096), alone, WAL)
    made.file("zip-before-segment", "a zip archive with a segment behind it", archive + segment, alone, WAL)


def _sizes(made: Recipes) -> None:
    """128 bytes that ask for everything; with valid CRCs, and the rest of a small file behind them."""
    data = bytes(Life(small(1, key_dim=64)).files[EMM])

    def asking(dim: int, rank: int, rule: int, projection: int = 1) -> bytes:
        payload = 4 * rank * (dim + (rank + 16 if rule == 2 else 0)) + (64 if rule == 2 else 0)
        fields = {16: dim, 20: max(64, rank), 24: rank}
        edited = data[:128]
        for at, value in fields.items():
            edited = forge.patch(edited, at, value.to_bytes(4, "little"))
        edited = forge.patch(edited, 29, bytes([rule, projection]))
        edited = forge.with_crc(forge.patch(edited, 80, payload.to_bytes(8, "little")))
        return edited + data[128:-128] + edited

    for name, shows, content in (
        ("petabyte-rule-2", "dim and rank 2²⁴ under rule 2: two petabytes", asking(1 << 24, 1 << 24, 2)),
        ("petabyte-rule-0", "dim and rank 2²⁴ under rule 0: a petabyte", asking(1 << 24, 1 << 24, 0)),
        ("petabyte-flat", "the same under projection 0", asking(1 << 24, 1 << 24, 1, 0)),
        ("five-gigabytes", "a payload of 5 GiB, just over every default limit", asking(5 << 20, 256, 1)),
        ("over-32-bits", "a payload of 2³² + 2¹⁶ bytes, small in 32 bits", asking((1 << 22) + 64, 256, 1)),
    ):
        made.file(name, shows, content, Expected(REFUSED, ("over-limit",), "S-1", EMM, 16), EMM)
    life = Life(small(2, dim=64, key_dim=64, rank=64)).write(2).checkpoint()
    content = forge.header_only(bytes(life.files[life.emm]), 16, (1 << 16).to_bytes(4, "little"))
    grown = (4 * 64 * ((1 << 16) + 64 + 16) + 64).to_bytes(8, "little")
    content = forge.header_only(content, 80, grown)
    expected = Expected(LOSS, ("head-damaged",), "H-12", life.emm, None, also=("P-3",))
    made.file(
        "dim-forged",
        "dim is forged to 65536 in a file of a hundred kilobytes; only the header's CRC follows",
        content,
        expected,
        life.emm,
    )


def _bombs(made: Recipes) -> None:
    life = Life(small(2, key_dim=1 << 24)).begin()
    ranks = [16 << step for step in range(1, 21)]
    for rank in ranks:
        life.log([(RecordType.EXPAND, encode_expand(rank))])
    expected = Expected(REFUSED, ("over-limit",), "S-1", WAL, None)
    made.refused(
        "expand-bomb",
        "twenty commits of eighty bytes that double the rank to 2²⁴: a petabyte",
        life.seal().bytes(),
        expected,
    )
    life = Life(small(1, key_dim=1 << 15, dim=1)).begin()
    life.commit(*[life.expanding(rank) for rank in ranks if rank <= 1 << 15])
    key = PairBatch(1 << 15, np.ones((1, 1 << 15), np.float32), np.empty((1, 0), np.float32), np.ones(0), np.ones(0))
    life.log([(RecordType.FORGET, encode_pairs(RecordType.FORGET, key))])
    shows = "a state of 128 KiB, and a forget whose S (A-16) would take 4 GiB"
    made.refused("forget-bomb", shows, life.seal().bytes(), expected)


def _evidence(made: Recipes) -> None:
    """Behind damage, a reader searches every 8 bytes for records; a forger fills the file with them."""
    whole = Life().write()
    end = len(whole.files[WAL])
    many = b"".join(_header(1 << 17) for _ in range(4096))
    files = whole.replaced(WAL, bytes(whole.files[WAL]) + b"\0" * 8 + many + bytes(1 << 17))
    expected = Expected(REFUSED, ("over-limit",), "S-6", WAL, None)
    made.refused(
        "overlapping-records",
        "4096 record headers with valid CRCs, each claiming 128 KiB: quadratic work",
        files,
        expected,
    )
    magics = b"EMJR\0\0\0\0" * (1 << 14)
    expected = Expected(TORN, ("torn-tail",), "J-6", WAL, end)
    made.opens(
        "magics-only",
        "16384 record magics and nothing else",
        whole.replaced(WAL, bytes(whole.files[WAL]) + bytes(8) + magics),
        whole,
        expected,
    )
    far = encode_record(RecordType.MARK, 10**6, 10**6, b"", UUID)
    expected = Expected(LOSS, ("record-damaged",), "J-6", WAL, end, also=("R-6",))
    made.refused(
        "evidence-beyond",
        "behind bytes that do not parse, a mark that says a million commits were durable",
        whole.replaced(WAL, bytes(whole.files[WAL]) + bytes(24) + far),
        expected,
    )
    expected = Expected(TORN, ("torn-tail",), "J-6", WAL, end)
    odd = whole.replaced(WAL, bytes(whole.files[WAL]) + bytes(28) + far)
    made.opens("evidence-unaligned", "the same mark four bytes off: no record begins there (J-6)", odd, whole, expected)
    other = encode_record(RecordType.MARK, 10**6, 10**6, b"", bytes(16))
    foreign = whole.replaced(WAL, bytes(whole.files[WAL]) + bytes(24) + other)
    made.opens("evidence-foreign", "the same mark of another memory proves nothing", foreign, whole, expected)
    nested = Life(small(2, dim=12), uuid=MARK_UUID)
    nested.write().mark()
    end = len(nested.files[WAL])
    before = nested.copy()
    pairs = nested.pairs(1)
    pairs.values[0, :10] = memoryview(mark_of_numbers()).cast("f")
    nested.commit(nested.writing(pairs))
    torn = bytes(nested.files[WAL])
    expected = Expected(LOSS, ("record-damaged",), "J-10", WAL, end, also=("R-6",))
    made.refused(
        "evidence-inside-a-value",
        "a damaged write whose value holds the bytes of a mark: evidence, as J-19 reads it",
        before.replaced(WAL, forge.flip(torn, end + 40)),
        expected,
    )


def _header(length: int) -> bytes:
    """A record header with a valid CRC."""
    fields = struct.pack("<IHHQQI", RECORD_MAGIC, RecordType.WRITE, 0, 9, 0, length)
    assert len(fields) + 4 == RECORD_HEADER.size
    return fields + zlib.crc32(fields).to_bytes(4, "little")
