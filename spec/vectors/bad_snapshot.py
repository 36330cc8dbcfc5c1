"""Snapshots that break one rule each, with every checksum that does not belong to the rule made anew."""

from __future__ import annotations

import math
import struct
from dataclasses import replace

from emm.layout import BLOCK_BYTES, HEADER, LINEAGE, Origin

from . import forge
from .case import LOSS, REFUSED, REPAIRABLE, Case, Expected, Recipes
from .life import Life, small

NAME = "0000000000000001.emm"
BOTH = ("head-damaged", "mirror-damaged")


def u(size: int, value: int) -> bytes:
    return value.to_bytes(size, "little")


def f32(value: float) -> bytes:
    return struct.pack("<f", value)


def cases() -> list[Case]:
    made = Recipes()
    life = Life(metadata={"name": "x"})
    data = bytes(life.files[NAME])
    for part in (_headers, _copies, _lineage):
        part(made, life, data)
    for part in (_blocks, _payload, _lengths):
        part(made)
    return made.cases


def _at(record: object, name: str) -> int:
    base = HEADER.size if record is LINEAGE else 0
    return base + record.offset(name)  # type: ignore[attr-defined]


def _headers(made: Recipes, life: Life, data: bytes) -> None:
    """Both copies of the header are forged, so nothing mends them."""
    plain = small(1, key_dim=64)
    other = bytes(Life(plain, metadata={"name": "x"}).files[NAME])
    unprojected = bytes(Life(small(2, projection=0)).files[NAME])
    for name, shows, base, offset, new, rule in (
        ("h5-reserved-a", "reserved_a is 1", data, 31, u(1, 1), "H-5"),
        ("h5-reserved-b", "reserved_b is not zero", data, 120, u(4, 1 << 31), "H-5"),
        ("h6-dim-zero", "dim is 0", data, 16, u(4, 0), "H-6"),
        ("h6-dim-large", "dim is 2²⁴ + 1", data, 16, u(4, (1 << 24) + 1), "H-6"),
        ("h6-dim-largest", "dim is 2³² − 1", data, 16, u(4, 2**32 - 1), "H-6"),
        ("h6-key-dim-zero", "key_dim is 0", data, 20, u(4, 0), "H-6"),
        ("h6-rank-zero", "rank is 0", data, 24, u(4, 0), "H-6"),
        ("h6-rank-large", "rank is 2³¹", data, 24, u(4, 1 << 31), "H-6"),
        ("h7-rank-odd", "rank 24 is no multiple of 16", other, 24, u(4, 24), "H-7"),
        ("h7-rank-above-key-dim", "rank 32 with 16 numbers in a key", data, 24, u(4, 32), "H-7"),
        ("h7-rank-unprojected", "projection 0 with rank 32 and 16 numbers in a key", unprojected, 24, u(4, 32), "H-7"),
        ("h9-ridge-zero", "λ is 0", data, 40, f32(0.0), "H-9"),
        ("h9-ridge-negative", "λ is −1", data, 40, f32(-1.0), "H-9"),
        ("h9-ridge-nan", "λ is NaN", data, 40, f32(math.nan), "H-9"),
        ("h9-ridge-infinite", "λ is infinite", data, 40, f32(math.inf), "H-9"),
        ("h9-ridge-large", "λ is 2²¹", data, 40, f32(2.0**21), "H-9"),
        ("h10-generation-zero", "the generation is 0", data, 48, u(8, 0), "H-10"),
        ("h10-generation-large", "the generation has seventeen digits", data, 48, u(8, 10**16), "H-10"),
        ("h11-payload-short", "payload_bytes is one less than the shape gives", data, 80, u(8, 2367), "H-11"),
        ("h11-payload-overflow", "payload_bytes is 2⁶⁴ − 1", data, 80, u(8, 2**64 - 1), "H-11"),
        ("h11-payload-wrapped", "payload_bytes is right but for its upper 32 bits", data, 84, u(4, 1), "H-11"),
        ("h13-metadata-one", "metadata_bytes is 1", data, 44, u(4, 1), "H-13"),
        ("h13-metadata-large", "metadata_bytes is 16385", data, 44, u(4, 16385), "H-13"),
        ("h13-metadata-largest", "metadata_bytes is 2³² − 1", data, 44, u(4, 2**32 - 1), "H-13"),
    ):
        expected = Expected(LOSS, ("header-damaged",), rule, NAME, 0)
        made.file(name, f"{shows}, in both copies", forge.header_only(base, offset, new), expected, NAME)
    for name, shows, offset, new, rule, at in (
        ("h3-version-5", "version 5", 8, u(2, 5), "H-3", 8),
        ("h3-version-3", "version 3 under the magic of version 4", 8, u(2, 3), "H-3", 8),
        ("h4-flag", "an unknown flag", 12, u(4, 16), "H-4", 12),
        ("h4-flag-highest", "the highest flag", 12, u(4, 1 << 31), "H-4", 12),
        ("h8-dtype", "dtype 2", 28, u(1, 2), "H-8", 28),
        ("h8-rule", "rule 3", 29, u(1, 3), "H-8", 29),
        ("h8-projection", "projection 2", 30, u(1, 2), "H-8", 29),
    ):
        expected = Expected(REFUSED, ("unsupported",), rule, NAME, at)
        made.file(name, f"{shows}: refused, not damaged", forge.head(data, offset, new), expected, NAME)
    other = forge.head(data, 48, u(8, 2))
    made.file(
        "n2-generation",
        "the generation is 2 in a file named 1",
        other,
        Expected(LOSS, ("wrong-name",), "N-2", NAME, 48),
        NAME,
    )


def _copies(made: Recipes, life: Life, data: bytes) -> None:
    """One of the two copies of the head is damaged, or both."""
    size = len(data)
    mirror = size - (len(data) - len(data[: -HEADER.size])) - LINEAGE.size - len(b'{"name":"x"}') - 36

    def one(name: str, shows: str, edited: bytes, code: str, rule: str, offset: int) -> None:
        """The file alone mends it; a snapshot whose first head is damaged does not open."""
        expected = Expected(REPAIRABLE, (code,), rule, NAME, offset)
        whole = life if code == "mirror-damaged" else None
        made.file(name, shows, edited, expected, NAME, whole)

    one("h1-magic", "the magic is damaged; the mirror is whole", forge.flip(data, 1), "header-damaged", "H-1", 1)
    one(
        "h2-flip",
        "a bit of the header is flipped; the mirror is whole",
        forge.flip(data, 20, 2),
        "header-damaged",
        "H-2",
        20,
    )
    one("h2-crc", "the header's CRC itself is damaged", forge.flip(data, 125, 7), "header-damaged", "H-2", 125)
    forged = forge.header_only(data, 88, bytes(32), both=False)
    one("h12-digest", "the head's SHA-256 is zeros and the CRC follows", forged, "head-damaged", "H-12", 88)
    one("h12-lineage", "a bit of the lineage is flipped", forge.flip(data, 136, 1), "head-damaged", "H-12", 136)
    one("h12-table", "a bit of the integrity table is flipped", forge.flip(data, 300, 6), "head-damaged", "H-12", 300)
    one("h12-metadata", "a letter of the metadata differs", forge.flip(data, 334, 1), "head-damaged", "H-12", 334)
    for name, offset in (("table", 0), ("metadata", 36), ("lineage", 48), ("header", 48 + LINEAGE.size)):
        edited = forge.flip(data, mirror + offset + 5)
        one(
            f"t4-mirror-{name}",
            f"the mirror's {name} differs from the head's",
            edited,
            "mirror-damaged",
            "T-4",
            mirror + offset + 5,
        )
    both = forge.flip(forge.flip(data, 140), mirror + 3)
    expected = Expected(REPAIRABLE, BOTH, "H-12", NAME, 88, also=("T-4",))
    made.file(
        "both-copies-apart",
        "head and mirror are damaged in different parts: together they are whole",
        both,
        expected,
        NAME,
    )
    both = forge.flip(forge.flip(data, 140), mirror + 48 + 12)
    expected = Expected(LOSS, BOTH, "H-12", NAME, 88, also=("T-4",))
    made.file("both-copies-same", "the same byte of the lineage is damaged in head and mirror", both, expected, NAME)
    both = forge.flip(forge.flip(data, 60), size - 128 + 60)
    made.file("h2-both", "both headers fail their CRC", both, Expected(LOSS, ("header-damaged",), "H-2", NAME, 0), NAME)


def _lineage(made: Recipes, life: Life, data: bytes) -> None:
    later = Life().checkpoint().checkpoint()
    third = bytes(later.files[later.emm])
    for name, shows, base, field, new, rule in (
        ("l1-reserved", "a reserved byte of the lineage is 1", data, "reserved", u(1, 1), "L-1"),
        ("l2-origin", "origin 6", data, "origin", u(1, 6), "L-2"),
        ("l3-nan", "expand_at is NaN", data, "expand_at", f32(math.nan), "L-3"),
        ("l3-above", "expand_at is 1.5", data, "expand_at", f32(1.5), "L-3"),
        ("l3-negative", "expand_at is below zero", data, "expand_at", f32(-0.5), "L-3"),
        ("l4-zero", "floor_generation is 0", data, "floor_generation", u(8, 0), "L-4"),
        ("l4-above", "floor_generation is above the generation", data, "floor_generation", u(8, 2), "L-4"),
        ("l4-origin", "a merge whose floor is not its own generation", third, "origin", u(1, Origin.MERGE), "L-4"),
        ("l5-zero", "segment_next is 0", data, "segment_next", u(8, 0), "L-5"),
        ("l5-large", "segment_next has seventeen digits", data, "segment_next", u(8, 10**16), "L-5"),
    ):
        target = NAME if base is data else later.emm
        expected = Expected(LOSS, BOTH, rule, target)
        made.file(name, f"{shows}, in both copies", forge.head(base, _at(LINEAGE, field), new), expected, target)


def _blocks(made: Recipes) -> None:
    """dim 96, rank 256: rows of 1 KiB, 64 to a block; blocks 0–1 hold M, 1–5 P̄, 5 also U and the scalars."""
    life = Life(small(2, dim=96, key_dim=256, rank=256)).write(20).checkpoint()
    data, name = bytes(life.files[life.emm]), life.emm
    start = forge.payload_offset(data)
    one = {"file": name, "offset": start + 5000, "rows": (4, 4)}
    flip = forge.flip(data, start + 5000, 3)
    expected = Expected(REPAIRABLE, ("block-damaged",), "T-2", **one)
    made.file("t2-bit", "one bit of row 4 of M: CRC and SHA-256 together put it back", flip, expected, name)
    wide = forge.patch(data, start + 70000, bytes(each ^ 0xFF for each in data[start + 70000 : start + 70009]))
    expected = Expected(LOSS, ("block-damaged",), "T-2", name, start + BLOCK_BYTES, (64, 95))
    made.file("t2-bytes", "nine bytes of block 1: rows 64–95 of M, and P̄, are gone", wide, expected, name)
    entry = forge.TABLE + 36 * 2
    wrong = forge.head(data, entry, u(4, 1))
    expected = Expected(LOSS, ("block-damaged",), "T-2", name, start + 2 * BLOCK_BYTES, (32, 95))
    made.file("t2-entry", "the table's CRC of block 2 is wrong, its SHA-256 is right", wrong, expected, name)
    wrong = forge.head(data, entry + 4, bytes(32))
    expected = Expected(LOSS, ("block-damaged",), "T-3", name, start + 2 * BLOCK_BYTES, (32, 95))
    made.file("t3-entry", "the table's SHA-256 of block 2 is zeros, its CRC is right", wrong, expected, name)
    swapped = (
        data[:start]
        + data[start + BLOCK_BYTES : start + 2 * BLOCK_BYTES]
        + data[start : start + BLOCK_BYTES]
        + data[start + 2 * BLOCK_BYTES :]
    )
    expected = Expected(LOSS, ("block-damaged",), "T-2", name, start, (0, 63))
    made.file("swapped-blocks", "blocks 0 and 1 have changed places", swapped, expected, name)
    table = forge.cut(data).table
    wrong = forge.head(data, forge.TABLE, table[36:72] + table[:36])
    expected = replace(expected, also=("T-1",))
    made.file("t1-order", "entries 0 and 1 of the table have changed places", wrong, expected, name)


def _payload(made: Recipes) -> None:
    """Contents that break a rule under checksums that all fit."""
    life = Life().write(3).checkpoint()
    data, name = bytes(life.files[life.emm]), life.emm
    m, p, deferred, scalars, padding = 0, 256, 1280, 2304, 2368
    base = forge.payload_offset(data)
    for case, shows, offset, new, rule in (
        ("p2-behind", "a byte of the padding behind the payload is 1", padding + 100, b"\x01", "P-2"),
        ("p4-count", "count is 16", scalars + 8, u(4, 16), "P-4"),
        ("p4-count-large", "count is 2³² − 1", scalars + 8, u(4, 2**32 - 1), "P-4"),
        ("p4-signs", "a sign above count is set", scalars + 12, u(4, 8), "P-4"),
        ("p4-scale", "a is above 1", scalars, f32(1.25), "P-4"),
        ("p4-scale-nan", "a is NaN", scalars, f32(math.nan), "P-4"),
        ("p4-leak", "b is above P₀", scalars + 4, f32(65.0), "P-4"),
        ("p4-trace", "gram_trace is below zero", scalars + 16, struct.pack("<d", -1.0), "P-4"),
        ("p4-trace-infinite", "gram_trace is infinite", scalars + 16, struct.pack("<d", math.inf), "P-4"),
        ("p4-reserved", "a reserved byte of the scalars is 1", scalars + 63, b"\x01", "P-4"),
        ("p6-row", "row 3 of U is used although count is 3", deferred + 3 * 64 + 8, f32(1.0), "P-6"),
        ("p6-minus-zero", "an unused number of U is −0", deferred + 15 * 64, f32(-0.0), "P-6"),
    ):
        at = {"P-2": base + padding, "P-6": base + deferred + 3 * 64}.get(rule)
        expected = Expected(LOSS, ("payload-invalid",), rule, name, at)
        made.file(case, shows, forge.payload(data, offset, new), expected, name)
    for case, shows, offset, new, code, rows in (
        ("p5-nan", "M holds a NaN", m + 64 + 8, f32(math.nan), "not-finite", (1, 1)),
        ("p5-infinite", "U holds an infinity", deferred + 4, f32(-math.inf), "not-finite", (0, 0)),
        (
            "p5-asymmetric",
            "P̄ is not symmetric in its last bit",
            p + 64 * 2 + 4 * 5,
            u(1, 1),
            "gain-not-symmetric",
            (2, 2),
        ),
        (
            "p5-diagonal",
            "a diagonal element of P is above P₀(1 + 2⁻¹⁰)",
            p + 68 * 4,
            f32(1e6),
            "gain-out-of-bounds",
            (4, 4),
        ),
        ("p5-negative", "a diagonal element of P is below zero", p + 68 * 7, f32(-1.0), "gain-out-of-bounds", (7, 7)),
    ):
        expected = Expected(LOSS, (code,), "P-5", name, None, rows)
        made.file(case, shows, forge.payload(data, offset, new), expected, name)
    both = forge.payload(forge.payload(data, p + 64 + 8, f32(100.0)), p + 128 + 4, f32(100.0))
    expected = Expected(LOSS, ("gain-out-of-bounds",), "P-5", name, None, (1, 1))
    made.file("p5-off-diagonal", "an element of P is larger than its diagonal allows", both, expected, name)
    spoilt = forge.head(data, base - 8, b"\x01")
    made.file(
        "p2-before",
        "a byte of the padding before the payload is 1",
        spoilt,
        Expected(LOSS, BOTH, "P-2", name, also=("H-12",)),
        name,
    )


def _lengths(made: Recipes) -> None:
    life = Life(small(2, dim=96, key_dim=256, rank=256)).write(20).checkpoint()
    data, name = bytes(life.files[life.emm]), life.emm
    start, size = forge.payload_offset(data), len(data)

    def short(
        case: str, shows: str, length: int, verdict: str, rows: tuple[int, int] | None = None, *codes: str
    ) -> None:
        expected = Expected(verdict, codes or ("truncated",), "P-3", name, length, rows)
        made.file(case, shows, data[:length], expected, name)

    short("p3-mirror-cut", "the last byte is gone: it can be put back", size - 1, REPAIRABLE)
    short("p3-mirror-gone", "the whole mirror is gone", start + 6 * BLOCK_BYTES, REPAIRABLE)
    short("p3-block-cut", "cut inside block 3: what follows is lost", start + 3 * BLOCK_BYTES + 1000, LOSS, (96, 255))
    expected = Expected(REPAIRABLE, ("trailing-bytes",), "P-3", name, size)
    made.file("p3-one-more", "one byte behind the mirror", data + b"\0", expected, name)
    header = Expected(LOSS, ("header-damaged",), "H-1", name, 0)
    made.file("h1-short", "a hundred bytes of a header", data[:100], header, name)
    made.file("h1-four", "the first four bytes of the magic", data[:4], header, name)
