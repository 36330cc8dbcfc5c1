"""Every offset, size, magic and limit of the EMM v4 format, once.

Purpose: the tables below build the `struct` codecs, and `spec/tables.py` writes the same
tables into `spec/emm-v4.md`; a test fails when the two differ. Invariants, asserted at import:
fields are contiguous, little-endian, and add up to the record's declared size.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record: byte offset, `struct` format (little-endian), name, meaning."""

    offset: int
    format: str
    name: str
    meaning: str

    @property
    def size(self) -> int:
        return struct.calcsize("<" + self.format)


class Record:
    """A fixed-size record: packs a mapping of field names to bytes and back.

    Fields named `reserved*` are written as zeros and reported by `reserved_violation`.
    """

    def __init__(self, name: str, size: int, fields: list[Field]) -> None:
        self.name = name
        self.size = size
        self.fields = tuple(fields)
        self._struct = struct.Struct("<" + "".join(field.format for field in fields))
        position = 0
        for field in fields:
            assert field.offset == position, f"{name}.{field.name}: offset {field.offset}, expected {position}"
            position += field.size
        assert position == size == self._struct.size, f"{name}: fields add up to {position}, declared {size}"
        self._names = tuple(field.name for field in fields)
        self._offsets = {field.name: field.offset for field in fields}
        self._reserved = tuple(field for field in fields if field.name.startswith("reserved"))
        self._blank = {field.name: bytes(field.size) if field.format.endswith("s") else 0 for field in self._reserved}

    def offset(self, name: str) -> int:
        """Byte offset of a field inside the record."""
        return self._offsets[name]

    def pack(self, values: Mapping[str, Any]) -> bytes:
        """Bytes of the record; reserved fields are zero."""
        merged = {**values, **self._blank}
        return self._struct.pack(*(merged[field.name] for field in self.fields))

    def unpack(self, data: bytes | memoryview, offset: int = 0) -> dict[str, Any]:
        """Field values by name. The caller has checked that `size` bytes are there."""
        found = self._struct.unpack_from(data, offset)
        return dict(zip(self._names, found, strict=True))

    def reserved_violation(self, values: Mapping[str, Any]) -> Field | None:
        """The first reserved field that is not zero, or None."""
        for field in self._reserved:
            if values[field.name] != self._blank[field.name]:
                return field
        return None


class Rule(enum.IntEnum):
    """How a pair is written (spec A-rules)."""

    OUTER_PRODUCT = 0
    GATED_DELTA = 1
    PRECONDITIONED = 2


class Projection(enum.IntEnum):
    """How a key of key_dim numbers becomes x of rank numbers."""

    NONE = 0
    HADAMARD = 1


class Flag(enum.IntFlag):
    """Header flags. A reader must understand every bit that is set, or refuse the file."""

    DECAYED = 1
    BARE_EXPANDED = 2
    FORGOTTEN = 4
    FOREIGN_PAIRS = 8
    NORMALISER = 32  # 16 stays undefined: a vector shows that it is refused


FLAG_MEANINGS: Final = {
    Flag.DECAYED: "a decay gate below 1 was used: no exact unlearning of older pairs, no exact merge",
    Flag.BARE_EXPANDED: "the rank was doubled without the pairs: older pairs keep their rank, no merge",
    Flag.FORGOTTEN: "a forget record was applied: the state is no longer the solution over its pairs",
    Flag.FOREIGN_PAIRS: "the state holds pairs that this memory's journal never held (merge, upgrade, given pairs)",
    Flag.NORMALISER: "the payload ends in a normaliser, by which answers are divided until the first write (A-23)",
}


class Origin(enum.IntEnum):
    """How a snapshot came to be. Only CHECKPOINT can be rebuilt from an older one plus the journal."""

    CHECKPOINT = 0
    MERGE = 1
    RESOLVE = 2
    UPGRADE = 3
    REPAIR = 4
    RESTORE = 5


class RecordType(enum.IntEnum):
    """Journal record types."""

    WRITE = 1
    UNLEARN = 2
    FORGET = 3
    EXPAND = 4
    PARAMETERS = 5
    COMMIT = 6
    MARK = 7
    SEAL = 8


# --- magics and versions -----------------------------------------------------------------------

SNAPSHOT_MAGIC: Final = bytes.fromhex("89454d4d0d0a1a0a")  # \x89 E M M \r \n \x1a \n
SEGMENT_MAGIC: Final = bytes.fromhex("89454d4a0d0a1a0a")  # \x89 E M J \r \n \x1a \n
RECORD_MAGIC: Final = 0x524A4D45  # "EMJR" as little-endian bytes
VERSION_MAJOR: Final = 4
VERSION_MINOR: Final = 0
DTYPE_FLOAT32: Final = 1

# --- sizes ---------------------------------------------------------------------------------------

BLOCK_BYTES: Final = 64 * 1024
PAYLOAD_ALIGNMENT_BYTES: Final = 4096
RANK_MULTIPLE: Final = 16
DEFERRED_MAX: Final = 16  # rows of U
RECORD_ALIGNMENT_BYTES: Final = 8
RECORD_TRAILER_BYTES: Final = 4  # the payload CRC that ends a journal record
NAME_DIGITS: Final = 16
SNAPSHOT_SUFFIX: Final = ".emm"
SEGMENT_SUFFIX: Final = ".wal"
V3_SUFFIX: Final = ".v3"  # by which a walk finds the predecessor's files; one that is named may be called anything

# --- limits (spec S-rules) -----------------------------------------------------------------------

DIM_MAX: Final = 1 << 24
METADATA_BYTES_MAX: Final = 16 * 1024
METADATA_DEPTH_MAX: Final = 16
RECORD_BYTES_MAX: Final = 16 << 20
BATCH_BYTES_MAX: Final = 256 << 20
STATE_BYTES_MAX: Final = 4 << 30
VERIFY_STATE_BYTES_MAX: Final = 1 << 30
INPUT_MAX: Final = 2.0**40  # |v| and the norm of x
WRITE_GATE_MIN: Final = 2.0**-10
WRITE_GATE_MAX: Final = 32.0
UNLEARN_DENOMINATOR_MIN: Final = 2.0**-6
RIDGE_DEFAULT: Final = 2.0**-6
EXPAND_AT_DEFAULT: Final = 0.85
SEED_DEFAULT: Final = 0x454D4D_34  # "EMM4"; a constant, so memories merge unless someone chooses otherwise

# --- the snapshot --------------------------------------------------------------------------------

HEADER: Final = Record(
    "Header",
    128,
    [
        Field(0, "8s", "magic", "`89 45 4D 4D 0D 0A 1A 0A`; identifies the file and catches text-mode damage"),
        Field(8, "H", "version_major", "4; a reader refuses any other"),
        Field(10, "H", "version_minor", "0; a higher one adds only what a reader may ignore"),
        Field(12, "I", "flags", "bits a reader must understand, see Flag"),
        Field(16, "I", "dim", "numbers in a value; rows of M"),
        Field(20, "I", "key_dim", "numbers in a key"),
        Field(24, "I", "rank", "numbers in x = φ(key); columns of M; a multiple of 16"),
        Field(28, "B", "dtype", "1 = IEEE-754 binary32"),
        Field(29, "B", "rule", "0 outer product, 1 gated delta, 2 preconditioned gated delta"),
        Field(30, "B", "projection", "0 none, 1 stratified signed Hadamard"),
        Field(31, "B", "reserved_a", "zero"),
        Field(32, "Q", "projection_seed", "seed of the generator behind φ"),
        Field(40, "f", "ridge", "λ, the prior's weight; P₀ = I/λ"),
        Field(44, "I", "metadata_bytes", "length of the metadata, 2 to 16384"),
        Field(48, "Q", "generation", "the number in the file's name"),
        Field(56, "Q", "lsn", "number of the last commit contained; 0 = none"),
        Field(64, "16s", "uuid", "the memory's identity"),
        Field(80, "Q", "payload_bytes", "bytes of the payload before zero padding to whole blocks"),
        Field(88, "32s", "sha256", "SHA-256 of every byte before the payload, with this field and `crc32` zeroed"),
        Field(120, "I", "reserved_b", "zero"),
        Field(124, "I", "crc32", "CRC-32 of bytes 0–123"),
    ],
)

LINEAGE: Final = Record(
    "Lineage",
    160,
    [
        Field(0, "Q", "write_count", "pairs written so far, minus pairs unlearned"),
        Field(8, "q", "time_us", "when the snapshot was made, microseconds since 1970-01-01 UTC"),
        Field(16, "32s", "chain", "chain value after commit `lsn`; zeros before the first"),
        Field(48, "32s", "parent_sha256", "`sha256` of the snapshot this one continues; zeros for none"),
        Field(80, "16s", "parent_uuid", "memory that a fork, merge or restore came from; zeros for none"),
        Field(96, "16s", "writer_nonce", "random number of the writer session that made it"),
        Field(112, "Q", "floor_generation", "oldest snapshot from which the journal leads to this state, see R-rules"),
        Field(120, "Q", "segment_next", "number of the first journal segment that can hold commits past `lsn`"),
        Field(128, "f", "expand_at", "saturation above which rank doubles by re-solving; 0 = never"),
        Field(132, "B", "origin", "0 checkpoint, 1 merge, 2 resolve, 3 upgrade, 4 repair, 5 restore"),
        Field(133, "27s", "reserved", "zero"),
    ],
)

BLOCK_ENTRY: Final = Record(
    "BlockEntry",
    36,
    [
        Field(0, "I", "crc32", "CRC-32 of the block's 65536 bytes"),
        Field(4, "32s", "sha256", "SHA-256 of the block's 65536 bytes"),
    ],
)

GAIN_SCALARS: Final = Record(
    "GainScalars",
    64,
    [
        Field(0, "f", "scale", "a, the factor on P̄"),
        Field(4, "f", "leak", "b, the pending multiple of I"),
        Field(8, "I", "count", "c, rows of U in use, 0 to 15"),
        Field(12, "I", "signs", "bit k set: σₖ = −1; bits c and up are zero"),
        Field(16, "d", "gram_trace", "Σ β xᵀx so far, decayed as P is; read by a bare expansion"),
        Field(24, "40s", "reserved", "zero"),
    ],
)

READ_SCALARS: Final = Record(
    "ReadScalars",
    16,
    [
        Field(0, "d", "floor", "the least denominator, above 0"),
        Field(8, "I", "query_length", "1: `floor` is taken times the length of the query; 0: as it is"),
        Field(12, "4s", "reserved", "zero"),
    ],
)

# --- the journal ---------------------------------------------------------------------------------

SEGMENT_HEADER: Final = Record(
    "SegmentHeader",
    128,
    [
        Field(0, "8s", "magic", "`89 45 4D 4A 0D 0A 1A 0A`"),
        Field(8, "H", "version_major", "4"),
        Field(10, "H", "version_minor", "0"),
        Field(12, "I", "flags", "zero in version 4.0"),
        Field(16, "Q", "segment", "the number in the file's name"),
        Field(24, "Q", "first_lsn", "LSN of the first commit; commits at or past it in earlier segments are dead"),
        Field(32, "Q", "floor_generation", "oldest snapshot this segment may be replayed onto"),
        Field(40, "16s", "uuid", "the memory's identity"),
        Field(56, "16s", "writer_nonce", "random number of the writer session"),
        Field(72, "32s", "chain", "chain value before `first_lsn`"),
        Field(104, "Q", "previous_bytes", "valid length of the segment before, as this writer found it; 0 = none"),
        Field(112, "I", "rank", "rank of the state before `first_lsn`"),
        Field(116, "8s", "reserved", "zero"),
        Field(124, "I", "crc32", "CRC-32 of bytes 0–123"),
    ],
)

RECORD_HEADER: Final = Record(
    "RecordHeader",
    32,
    [
        Field(0, "I", "magic", '`45 4D 4A 52`, "EMJR"'),
        Field(4, "H", "type", "see RecordType"),
        Field(6, "H", "flags", "zero in version 4.0"),
        Field(8, "Q", "lsn", "LSN of the commit this record belongs to; of the last commit for mark and seal"),
        Field(16, "Q", "synced_through", "every commit up to this LSN is known to be durable"),
        Field(24, "I", "length", "bytes of the payload, before padding"),
        Field(28, "I", "crc32", "CRC-32 of bytes 0–27"),
    ],
)

PAIRS_HEADER: Final = Record(
    "PairsHeader",
    16,
    [
        Field(0, "I", "n_pairs", "pairs (or keys) in this record, at least 1"),
        Field(4, "I", "key_dim", "numbers in a key"),
        Field(8, "I", "dim", "numbers in a value; 0 in a forget record"),
        Field(12, "I", "rank", "rank at which the pairs were written"),
    ],
)

EXPAND_PAYLOAD: Final = Record(
    "ExpandPayload",
    8,
    [
        Field(0, "I", "rank", "the new rank"),
        Field(4, "4s", "reserved", "zero"),
    ],
)

PARAMETERS_PAYLOAD: Final = Record(
    "ParametersPayload",
    8,
    [
        Field(0, "f", "expand_at", "the new threshold; 0 = never"),
        Field(4, "4s", "reserved", "zero"),
    ],
)

COMMIT_PAYLOAD: Final = Record(
    "CommitPayload",
    56,
    [
        Field(0, "q", "time_us", "when, microseconds since 1970-01-01 UTC"),
        Field(8, "I", "n_records", "records of the batch before this one"),
        Field(12, "I", "n_pairs", "pairs (or keys) in them"),
        Field(16, "f", "surprise", "mean over the pairs of ‖e‖₂, what the memory got wrong before; 0 where undefined"),
        Field(20, "4s", "reserved", "zero"),
        Field(24, "32s", "chain", "SHA-256(previous chain ‖ batch), see J-rules"),
    ],
)

RECORDS: Final = (
    HEADER,
    LINEAGE,
    BLOCK_ENTRY,
    GAIN_SCALARS,
    READ_SCALARS,
    SEGMENT_HEADER,
    RECORD_HEADER,
    PAIRS_HEADER,
    EXPAND_PAYLOAD,
    PARAMETERS_PAYLOAD,
    COMMIT_PAYLOAD,
)
