"""The lineage record: where a snapshot comes from and where its journal goes on.

Purpose: let recovery and verify decide which snapshots and segments belong together.
Invariants: spec L-rules; a `Lineage` that was decoded has passed them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from emm.codec.header import NUMBER_MAX
from emm.errors import FormatError
from emm.layout import EXPAND_AT_DEFAULT, LINEAGE, Origin

ZERO_DIGEST = bytes(32)
ZERO_UUID = bytes(16)


@dataclass(frozen=True, slots=True)
class Lineage:
    """Times in microseconds since 1970 UTC; digests are 32 bytes, UUIDs and nonces 16."""

    write_count: int = 0
    time_us: int = 0
    chain: bytes = ZERO_DIGEST
    parent_sha256: bytes = ZERO_DIGEST
    parent_uuid: bytes = ZERO_UUID
    writer_nonce: bytes = ZERO_UUID
    floor_generation: int = 1
    segment_next: int = 1
    expand_at: float = EXPAND_AT_DEFAULT
    origin: Origin = Origin.CHECKPOINT

    def encode(self) -> bytes:
        return LINEAGE.pack(
            {
                "write_count": self.write_count,
                "time_us": self.time_us,
                "chain": self.chain,
                "parent_sha256": self.parent_sha256,
                "parent_uuid": self.parent_uuid,
                "writer_nonce": self.writer_nonce,
                "floor_generation": self.floor_generation,
                "segment_next": self.segment_next,
                "expand_at": self.expand_at,
                "origin": int(self.origin),
            }
        )


def decode_lineage(data: bytes | memoryview, generation: int) -> Lineage:
    """The record in the first 160 bytes of `data`, belonging to a header of that generation."""
    values = LINEAGE.unpack(data)
    if LINEAGE.reserved_violation(values) is not None:
        raise FormatError("a reserved byte of the lineage is not zero", rule="L-1", expected=0)
    try:
        origin = Origin(values["origin"])
    except ValueError:
        raise FormatError("unknown origin", rule="L-2", expected="0 to 5", found=values["origin"]) from None
    expand_at = values["expand_at"]
    if not (math.isfinite(expand_at) and 0.0 <= expand_at <= 1.0):
        raise FormatError("expand_at is out of range", rule="L-3", expected="0 to 1", found=expand_at)
    floor = values["floor_generation"]
    if not 1 <= floor <= generation or (origin is not Origin.CHECKPOINT and floor != generation):
        raise FormatError(
            "the floor generation contradicts the origin", rule="L-4", expected=f"1 to {generation}", found=floor
        )
    if not 1 <= values["segment_next"] <= NUMBER_MAX:
        raise FormatError("the next segment is out of range", rule="L-5", found=values["segment_next"])
    return Lineage(
        values["write_count"],
        values["time_us"],
        values["chain"],
        values["parent_sha256"],
        values["parent_uuid"],
        values["writer_nonce"],
        floor,
        values["segment_next"],
        expand_at,
        origin,
    )
