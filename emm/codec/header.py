"""The 128-byte header: bytes ↔ values, and the geometry that follows from them.

Purpose: decide from 128 bytes whether a file is EMM v4, what it holds and how long it must be,
before anything is allocated. Invariants: every derived size is computed with Python integers (no
overflow); a `Header` that exists has passed rules H-1 to H-13.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from emm.codec.integrity import crc32
from emm.errors import ChecksumError, FormatError, LimitError, NotEmmError, TruncatedError, UnsupportedError
from emm.layout import (
    BLOCK_BYTES,
    BLOCK_ENTRY,
    DEFERRED_MAX,
    DIM_MAX,
    DTYPE_FLOAT32,
    GAIN_SCALARS,
    HEADER,
    LINEAGE,
    METADATA_BYTES_MAX,
    NAME_DIGITS,
    PAYLOAD_ALIGNMENT_BYTES,
    RANK_MULTIPLE,
    READ_SCALARS,
    SNAPSHOT_MAGIC,
    STATE_BYTES_MAX,
    VERSION_MAJOR,
    VERSION_MINOR,
    Flag,
    Projection,
    Rule,
)
from emm.state import NO_FLAGS, Parameters

NUMBER_MAX = 10**NAME_DIGITS - 1  # the largest generation or segment that a name can hold
RIDGE_MIN = 2.0**-20
RIDGE_MAX = 2.0**20
_CRC_OFFSET = HEADER.offset("crc32")
_KNOWN_FLAGS = int(Flag.DECAYED | Flag.BARE_EXPANDED | Flag.FORGOTTEN | Flag.FOREIGN_PAIRS | Flag.NORMALISER)
_SHA_OFFSET = HEADER.offset("sha256")


@dataclass(frozen=True, slots=True)
class Region:
    """One array of the payload: where it lies (bytes from the start of the payload) and its shape."""

    name: str
    offset: int
    n_rows: int
    row_bytes: int

    @property
    def size(self) -> int:
        return self.n_rows * self.row_bytes


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes and offsets of a snapshot file, all derived from its header (spec P-1, P-3)."""

    regions: tuple[Region, ...]
    payload_bytes: int
    n_blocks: int
    table_offset: int
    metadata_offset: int
    head_bytes: int  # header, lineage, table and metadata, before padding
    payload_offset: int
    mirror_offset: int
    file_bytes: int

    @property
    def table_bytes(self) -> int:
        return self.metadata_offset - self.table_offset


@dataclass(frozen=True, slots=True)
class Header:
    """A decoded header. `sha256` is the digest that it states for the head (H-12)."""

    parameters: Parameters
    flags: Flag
    generation: int
    lsn: int
    uuid: bytes
    metadata_bytes: int
    sha256: bytes
    version_minor: int = VERSION_MINOR

    @property
    def geometry(self) -> Geometry:
        return geometry(self.parameters, self.metadata_bytes, self.flags)


@lru_cache(256)
def payload_regions(parameters: Parameters, flags: Flag = NO_FLAGS) -> tuple[Region, ...]:
    """The arrays of the payload in order: M, for rule 2 P̄, U and the scalars, then what flags add (P-1)."""
    row_bytes = parameters.rank * 4
    shapes = [("M", parameters.dim, row_bytes)]
    if parameters.rule is Rule.PRECONDITIONED:
        shapes += [("P", parameters.rank, row_bytes), ("U", DEFERRED_MAX, row_bytes), ("scalars", 1, GAIN_SCALARS.size)]
    if flags & Flag.NORMALISER:
        shapes += [("normaliser", 1, row_bytes), ("reading", 1, READ_SCALARS.size)]
    regions = []
    offset = 0
    for name, n_rows, size in shapes:
        regions.append(Region(name, offset, n_rows, size))
        offset += n_rows * size
    return tuple(regions)


def payload_bytes(parameters: Parameters, flags: Flag = NO_FLAGS) -> int:
    """Bytes of the payload before padding: the measure of a state's size (S-1)."""
    last = payload_regions(parameters, flags)[-1]
    return last.offset + last.size


@lru_cache(256)
def geometry(parameters: Parameters, metadata_bytes: int, flags: Flag = NO_FLAGS) -> Geometry:
    """Where everything lies in a snapshot of these parameters and flags."""
    size = payload_bytes(parameters, flags)
    n_blocks = -(-size // BLOCK_BYTES)
    table_offset = HEADER.size + LINEAGE.size
    metadata_offset = table_offset + n_blocks * BLOCK_ENTRY.size
    head_bytes = metadata_offset + metadata_bytes
    payload_offset = -(-head_bytes // PAYLOAD_ALIGNMENT_BYTES) * PAYLOAD_ALIGNMENT_BYTES
    mirror_offset = payload_offset + n_blocks * BLOCK_BYTES
    return Geometry(
        payload_regions(parameters, flags),
        size,
        n_blocks,
        table_offset,
        metadata_offset,
        head_bytes,
        payload_offset,
        mirror_offset,
        mirror_offset + head_bytes,
    )


def encode_header(header: Header) -> bytes:
    """128 bytes with a valid CRC. The caller guarantees the parameters (see `parameter_fault`)."""
    parameters = header.parameters
    data = HEADER.pack(
        {
            "magic": SNAPSHOT_MAGIC,
            "version_major": VERSION_MAJOR,
            "version_minor": header.version_minor,
            "flags": int(header.flags),
            "dim": parameters.dim,
            "key_dim": parameters.key_dim,
            "rank": parameters.rank,
            "dtype": DTYPE_FLOAT32,
            "rule": int(parameters.rule),
            "projection": int(parameters.projection),
            "projection_seed": parameters.seed,
            "ridge": parameters.ridge,
            "metadata_bytes": header.metadata_bytes,
            "generation": header.generation,
            "lsn": header.lsn,
            "uuid": header.uuid,
            "payload_bytes": header.geometry.payload_bytes,
            "sha256": header.sha256,
            "crc32": 0,
        }
    )
    return data[:_CRC_OFFSET] + crc32(data[:_CRC_OFFSET]).to_bytes(4, "little")


def blank_digest(head: bytes) -> bytes:
    """The head with the header's SHA-256 and CRC zeroed: what H-12's digest covers."""
    return head[:_SHA_OFFSET] + bytes(32) + head[_SHA_OFFSET + 32 : _CRC_OFFSET] + bytes(4) + head[_CRC_OFFSET + 4 :]


def decode_header(data: bytes | memoryview, *, state_bytes_max: int = STATE_BYTES_MAX) -> Header:
    """Values of the header in the first 128 bytes of `data`.

    Raises `NotEmmError`, `ChecksumError`, `UnsupportedError`, `FormatError` or `LimitError`, each with its
    H- or S-rule. `state_bytes_max` bounds the payload (S-1).
    """
    if len(data) < HEADER.size:
        if bytes(data[:8]) != SNAPSHOT_MAGIC[: len(data)] or not data:
            raise NotEmmError(
                "not an EMM snapshot", rule="H-1", offset=0, expected=SNAPSHOT_MAGIC.hex(), found=bytes(data[:8]).hex()
            )
        raise TruncatedError("the header is cut short", rule="H-1", offset=0, expected=HEADER.size, found=len(data))
    values = HEADER.unpack(data)
    if values["magic"] != SNAPSHOT_MAGIC:
        raise NotEmmError(
            "not an EMM snapshot", rule="H-1", offset=0, expected=SNAPSHOT_MAGIC.hex(), found=values["magic"].hex()
        )
    found_crc = crc32(data[:_CRC_OFFSET])
    if values["crc32"] != found_crc:
        raise ChecksumError(
            "the header fails its CRC-32",
            rule="H-2",
            offset=_CRC_OFFSET,
            expected=f"{values['crc32']:08x}",
            found=f"{found_crc:08x}",
        )
    if values["version_major"] != VERSION_MAJOR:
        raise UnsupportedError(
            "unknown format version", rule="H-3", offset=8, expected=VERSION_MAJOR, found=values["version_major"]
        )
    if values["flags"] & ~_KNOWN_FLAGS:
        raise UnsupportedError(
            "the header sets a flag this reader does not know",
            rule="H-4",
            offset=12,
            expected=f"within {_KNOWN_FLAGS:#x}",
            found=f"{values['flags']:#x}",
        )
    violation = HEADER.reserved_violation(values)
    if violation is not None:
        raise FormatError(
            "a reserved byte is not zero", rule="H-5", offset=violation.offset, expected=0, found=values[violation.name]
        )
    parameters = _decode_parameters(values)
    if not 1 <= values["generation"] <= NUMBER_MAX:
        raise FormatError(
            "the generation is out of range",
            rule="H-10",
            offset=48,
            expected=f"1 to {NUMBER_MAX}",
            found=values["generation"],
        )
    if not 2 <= values["metadata_bytes"] <= METADATA_BYTES_MAX:
        raise FormatError(
            "the metadata length is out of range",
            rule="H-13",
            offset=44,
            expected=f"2 to {METADATA_BYTES_MAX}",
            found=values["metadata_bytes"],
        )
    header = Header(
        parameters,
        Flag(values["flags"]),
        values["generation"],
        values["lsn"],
        values["uuid"],
        values["metadata_bytes"],
        values["sha256"],
        values["version_minor"],
    )
    if Flag.NORMALISER in header.flags and header.parameters.projection is not Projection.NONE:
        raise FormatError(
            "a normaliser belongs to memories without projection", rule="P-7", offset=12, found=values["flags"]
        )
    size = payload_bytes(header.parameters, header.flags)
    if values["payload_bytes"] != size:
        raise FormatError(
            "the payload length does not follow from the shape",
            rule="H-11",
            offset=80,
            expected=size,
            found=values["payload_bytes"],
        )
    if size > state_bytes_max:
        raise LimitError(
            "the state is larger than this process allows",
            rule="S-1",
            offset=16,
            expected=f"at most {state_bytes_max} bytes",
            found=size,
        )
    return header


def parameter_fault(parameters: Parameters) -> tuple[str, str, int] | None:
    """The first (rule, reason, header offset) why these parameters are not allowed, or None."""
    for name, offset in (("dim", 16), ("key_dim", 20), ("rank", 24)):
        if not 1 <= getattr(parameters, name) <= DIM_MAX:
            return "H-6", f"{name} must be 1 to {DIM_MAX}, not {getattr(parameters, name)}", offset
    rank, key_dim = parameters.rank, parameters.key_dim
    if rank % RANK_MULTIPLE:
        return "H-7", f"rank must be a multiple of {RANK_MULTIPLE}, not {rank}", 24
    if parameters.projection is Projection.HADAMARD and rank > key_dim:
        return "H-7", f"rank must be at most key_dim ({key_dim}), not {rank}", 24
    if parameters.projection is Projection.NONE and not key_dim <= rank < key_dim + RANK_MULTIPLE:
        return "H-7", f"without projection rank must be key_dim ({key_dim}) rounded up to 16, not {rank}", 24
    if not 0 <= parameters.seed < 1 << 64:
        return "H-8", f"seed must be 0 to 2^64 - 1, not {parameters.seed}", 32
    ridge = parameters.ridge
    if not (math.isfinite(ridge) and RIDGE_MIN <= ridge <= RIDGE_MAX and float(np.float32(ridge)) == ridge):
        return "H-9", f"ridge must be a float32 from 2^-20 to 2^20, not {ridge}", 40
    return None


def _decode_parameters(values: dict[str, int]) -> Parameters:
    if values["dtype"] != DTYPE_FLOAT32:
        raise UnsupportedError(
            "unknown number type", rule="H-8", offset=28, expected=DTYPE_FLOAT32, found=values["dtype"]
        )
    try:
        rule, projection = Rule(values["rule"]), Projection(values["projection"])
    except ValueError:
        raise UnsupportedError(
            "unknown rule or projection",
            rule="H-8",
            offset=29,
            expected="rule 0–2, projection 0–1",
            found=f"rule {values['rule']}, projection {values['projection']}",
        ) from None
    parameters = Parameters(
        values["dim"], values["key_dim"], values["rank"], rule, projection, values["projection_seed"], values["ridge"]
    )
    fault = parameter_fault(parameters)
    if fault is not None:
        raise FormatError(f"the header's shape is not allowed: {fault[1]}", rule=fault[0], offset=fault[2])
    return parameters
