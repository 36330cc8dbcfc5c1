"""Payloads of journal records: pairs, gates, parameters and commits, bytes ↔ values.

Purpose: give recovery arrays it can replay without another check. Invariants (J-13 to J-17):
lengths follow from the counts, every number is finite and in its range, so no record that decodes
can fail to replay for its values' sake.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emm.codec.journal import PAYLOAD_BYTES_MAX, JournalRecord
from emm.errors import FormatError
from emm.layout import (
    COMMIT_PAYLOAD,
    DIM_MAX,
    EXPAND_PAYLOAD,
    INPUT_MAX,
    PAIRS_HEADER,
    PARAMETERS_PAYLOAD,
    RANK_MULTIPLE,
    WRITE_GATE_MAX,
    WRITE_GATE_MIN,
    Record,
    RecordType,
)
from emm.state import Float32Array

_FLOAT = np.dtype("<f4")
_GATES = {RecordType.WRITE: 2, RecordType.UNLEARN: 1, RecordType.FORGET: 0}  # arrays of gates in a record


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Pairs of a write (all fields), an unlearn (no decay gates) or a forget (keys only)."""

    rank: int  # the rank at which the pairs were, or are, written
    keys: Float32Array  # (n_pairs, key_dim)
    values: Float32Array  # (n_pairs, dim); dim 0 for forget
    write_gates: Float32Array  # (n_pairs,); empty for forget
    decay_gates: Float32Array  # (n_pairs,); empty for unlearn and forget

    def __len__(self) -> int:
        return len(self.keys)

    def copy(self) -> PairBatch:
        """The same pairs in arrays of their own."""
        arrays = (self.keys, self.values, self.write_gates, self.decay_gates)
        return PairBatch(self.rank, *(array.copy() for array in arrays))

    def rows(self, chosen: slice | list[int]) -> PairBatch:
        """Some of the pairs, with their gates."""
        gates = (each[chosen] if each.size else each for each in (self.write_gates, self.decay_gates))
        return PairBatch(self.rank, self.keys[chosen], self.values[chosen], *gates)


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit record's payload."""

    time_us: int
    n_records: int
    n_pairs: int
    surprise: float
    chain: bytes

    def encode(self) -> bytes:
        return COMMIT_PAYLOAD.pack(
            {
                "time_us": self.time_us,
                "n_records": self.n_records,
                "n_pairs": self.n_pairs,
                "surprise": self.surprise,
                "chain": self.chain,
            }
        )


def pair_bytes(kind: RecordType, key_dim: int, dim: int) -> int:
    """Bytes that one pair takes in a record of this type."""
    gates = _GATES[kind]
    return 4 * (gates + key_dim + (0 if kind is RecordType.FORGET else dim))


def pairs_per_record(kind: RecordType, key_dim: int, dim: int) -> int:
    """How many pairs fit one record (0: not even one does)."""
    return (PAYLOAD_BYTES_MAX - PAIRS_HEADER.size) // pair_bytes(kind, key_dim, dim)


def encode_pairs(kind: RecordType, batch: PairBatch) -> bytes:
    """Payload: PairsHeader ‖ decay gates ‖ write gates ‖ keys ‖ values, as the type has them."""
    header = PAIRS_HEADER.pack(
        {
            "n_pairs": len(batch),
            "key_dim": batch.keys.shape[1],
            "dim": 0 if kind is RecordType.FORGET else batch.values.shape[1],
            "rank": batch.rank,
        }
    )
    arrays = {
        RecordType.WRITE: (batch.decay_gates, batch.write_gates, batch.keys, batch.values),
        RecordType.UNLEARN: (batch.write_gates, batch.keys, batch.values),
        RecordType.FORGET: (batch.keys,),
    }[kind]
    return header + b"".join(np.ascontiguousarray(array, _FLOAT).tobytes() for array in arrays)


def decode_pairs(record: JournalRecord, key_dim: int, dim: int) -> PairBatch:
    """The pairs of a write, unlearn or forget record of a memory with these dimensions."""
    kind, payload = record.type, record.payload
    dim = 0 if kind is RecordType.FORGET else dim
    if len(payload) < PAIRS_HEADER.size:
        raise FormatError("a record of pairs is too short", rule="J-13", offset=record.offset, found=len(payload))
    values = PAIRS_HEADER.unpack(payload)
    n_pairs, rank = values["n_pairs"], values["rank"]
    if (values["key_dim"], values["dim"]) != (key_dim, dim):
        raise FormatError(
            "a record's dimensions are not the memory's",
            rule="J-13",
            offset=record.offset,
            expected=f"key_dim {key_dim}, dim {dim}",
            found=f"key_dim {values['key_dim']}, dim {values['dim']}",
        )
    expected = PAIRS_HEADER.size + n_pairs * pair_bytes(kind, key_dim, dim)
    if n_pairs == 0 or len(payload) != expected:
        raise FormatError(
            "a record's length does not follow from its count",
            rule="J-13",
            offset=record.offset,
            expected=expected,
            found=len(payload),
        )
    if rank == 0 or rank % RANK_MULTIPLE or rank > DIM_MAX:
        raise FormatError("a record's rank is not allowed", rule="J-13", offset=record.offset, found=rank)
    numbers = np.frombuffer(payload, _FLOAT, offset=PAIRS_HEADER.size)
    empty = np.empty(0, np.float32)
    n_gates = _GATES[kind]
    gates = [numbers[i * n_pairs : (i + 1) * n_pairs] for i in range(n_gates)]
    body = numbers[n_gates * n_pairs :]
    keys = body[: n_pairs * key_dim].reshape(n_pairs, key_dim)
    batch = PairBatch(
        rank,
        keys,
        body[n_pairs * key_dim :].reshape(n_pairs, dim),
        gates[-1] if gates else empty,
        gates[0] if kind is RecordType.WRITE else empty,
    )
    _check_numbers(batch, record.offset)
    return batch


def decode_writes(records: Sequence[JournalRecord], key_dim: int, dim: int) -> PairBatch | None:
    """The pairs of several write records, in order, as one batch; None where they were written at several ranks.

    What `decode_pairs` gives for each, one after another: records whose headers are equal are decoded together. Raises
    what `decode_pairs` raises for one of the records, not always the first.
    """
    runs = itertools.groupby(records, key=lambda each: (len(each.payload), each.payload[: PAIRS_HEADER.size]))
    batches = [_decode_alike(list(alike), key_dim, dim) for _, alike in runs]
    if {batch.rank for batch in batches} != {batches[0].rank}:
        return None
    if len(batches) == 1:
        return batches[0]
    names = ("keys", "values", "write_gates", "decay_gates")
    return PairBatch(batches[0].rank, *(np.concatenate([getattr(batch, name) for batch in batches]) for name in names))


def _decode_alike(records: Sequence[JournalRecord], key_dim: int, dim: int) -> PairBatch:
    """The pairs of write records of one length and with one header."""
    first = decode_pairs(records[0], key_dim, dim)  # what their headers say is checked here
    if len(records) == 1:
        return first
    n = len(first)
    ends = np.cumsum([PAIRS_HEADER.size // _FLOAT.itemsize, n, n, n * key_dim, n * dim])
    payloads = [np.frombuffer(record.payload, _FLOAT) for record in records]
    decay, gate, keys, values = (
        np.concatenate([numbers[start:end] for numbers in payloads]) for start, end in itertools.pairwise(ends.tolist())
    )
    batch = PairBatch(first.rank, keys.reshape(-1, key_dim), values.reshape(-1, dim), gate, decay)
    _check_numbers(batch, records[0].offset)
    return batch


def _check_numbers(batch: PairBatch, offset: int) -> None:
    with np.errstate(invalid="ignore"):  # a NaN is the largest and the smallest, and within nothing
        inside = [
            each.max() <= INPUT_MAX and each.min() >= -INPUT_MAX for each in (batch.keys, batch.values) if each.size
        ]
    if not all(inside):
        raise FormatError("a record holds a number that is not finite or beyond 2^40", rule="J-14", offset=offset)
    if batch.write_gates.size and not np.all(
        (batch.write_gates >= WRITE_GATE_MIN) & (batch.write_gates <= WRITE_GATE_MAX)
    ):
        raise FormatError("a write gate is out of range", rule="J-15", offset=offset, expected="2^-10 to 32")
    if batch.decay_gates.size and not np.all((batch.decay_gates > 0) & (batch.decay_gates <= 1)):
        raise FormatError("a decay gate is out of range", rule="J-15", offset=offset, expected="(0, 1]")


def count_pairs(record: JournalRecord) -> int:
    """How many pairs (or keys) a record says it holds; 0 for one that holds none or is too short to say."""
    if record.type not in _GATES or len(record.payload) < PAIRS_HEADER.size:
        return 0
    return int(PAIRS_HEADER.unpack(record.payload)["n_pairs"])


def decode_commit(record: JournalRecord) -> Commit:
    """The commit in a commit record."""
    values = _fixed(record, COMMIT_PAYLOAD, "J-16")
    if values["n_records"] == 0 or not (math.isfinite(values["surprise"]) and values["surprise"] >= 0):
        raise FormatError("a commit's counts or surprise are out of range", rule="J-16", offset=record.offset)
    return Commit(values["time_us"], values["n_records"], values["n_pairs"], values["surprise"], values["chain"])


def encode_expand(rank: int) -> bytes:
    return EXPAND_PAYLOAD.pack({"rank": rank})


def decode_expand(record: JournalRecord) -> int:
    """The new rank of a bare expansion."""
    rank: int = _fixed(record, EXPAND_PAYLOAD, "J-17")["rank"]
    return rank


def encode_parameters(expand_at: float) -> bytes:
    return PARAMETERS_PAYLOAD.pack({"expand_at": expand_at})


def decode_parameters(record: JournalRecord) -> float:
    """The new expansion threshold."""
    expand_at: float = _fixed(record, PARAMETERS_PAYLOAD, "J-17")["expand_at"]
    if not (math.isfinite(expand_at) and 0.0 <= expand_at <= 1.0):
        raise FormatError(
            "expand_at is out of range", rule="J-17", offset=record.offset, expected="0 to 1", found=expand_at
        )
    return expand_at


def _fixed(record: JournalRecord, layout: Record, rule: str) -> dict[str, Any]:
    if len(record.payload) != layout.size:
        raise FormatError(
            f"a {layout.name} has the wrong length",
            rule=rule,
            offset=record.offset,
            expected=layout.size,
            found=len(record.payload),
        )
    values = layout.unpack(record.payload)
    if layout.reserved_violation(values) is not None:
        raise FormatError(
            f"a reserved byte of a {layout.name} is not zero", rule=rule, offset=record.offset, expected=0
        )
    return values
