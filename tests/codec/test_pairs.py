"""Rules J-13 to J-17: payloads of journal records.

Red when a length, dimension, rank, number or gate is not checked by `decode_pairs`, `decode_commit`, `decode_expand` or
`decode_parameters`, or when arrays are laid out in another order.
"""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emm.codec.journal import PAYLOAD_BYTES_MAX, JournalRecord
from emm.codec.pairs import (
    Commit,
    PairBatch,
    decode_commit,
    decode_expand,
    decode_pairs,
    decode_parameters,
    encode_expand,
    encode_pairs,
    encode_parameters,
    pair_bytes,
    pairs_per_record,
)
from emm.errors import FormatError
from emm.layout import RecordType
from tests.codec.builders import pairs

PAIR_KINDS = (RecordType.WRITE, RecordType.UNLEARN, RecordType.FORGET)
NOTHING = np.empty(0, np.float32)


def record(kind: RecordType, payload: bytes) -> JournalRecord:
    return JournalRecord(kind, 5, 4, payload, 640)


def shaped(kind: RecordType, batch: PairBatch) -> PairBatch:
    """The batch with the fields that records of this kind carry."""
    if kind is RecordType.WRITE:
        return batch
    if kind is RecordType.UNLEARN:
        return replace(batch, decay_gates=NOTHING)
    return PairBatch(batch.rank, batch.keys, np.empty((len(batch), 0), np.float32), NOTHING, NOTHING)


def refused(kind: RecordType, payload: bytes, rule: str) -> None:
    with pytest.raises(FormatError) as caught:
        decode_pairs(record(kind, payload), 64, 16)
    assert (type(caught.value), caught.value.rule, caught.value.offset) == (FormatError, rule, 640)


def same(a: PairBatch, b: PairBatch) -> bool:
    fields = ("keys", "values", "write_gates", "decay_gates")
    return a.rank == b.rank and all(np.array_equal(getattr(a, name), getattr(b, name)) for name in fields)


@pytest.mark.parametrize("kind", PAIR_KINDS)
def test_j13_length_is_exactly_what_the_counts_give(kind: RecordType) -> None:
    payload = encode_pairs(kind, shaped(kind, pairs()))
    assert len(payload) == 16 + 3 * pair_bytes(kind, 64, 16)
    for length in [0, 15, 16, len(payload) - 4, len(payload) - 1]:
        refused(kind, payload[:length], "J-13")
    refused(kind, payload + bytes(4), "J-13")


@pytest.mark.parametrize("kind", PAIR_KINDS)
@pytest.mark.parametrize("n", [0, 2, 4, 0xFFFFFFFF])
def test_j13_hostile_count_is_refused_without_allocating(kind: RecordType, n: int) -> None:
    refused(kind, struct.pack("<I", n) + encode_pairs(kind, shaped(kind, pairs()))[4:], "J-13")


@pytest.mark.parametrize("kind", PAIR_KINDS)
@pytest.mark.parametrize(("at", "value"), [(4, 63), (4, 0), (8, 17), (8, 1 << 24)])
def test_j13_dimensions_are_the_memorys(kind: RecordType, at: int, value: int) -> None:
    payload = encode_pairs(kind, shaped(kind, pairs()))
    refused(kind, payload[:at] + struct.pack("<I", value) + payload[at + 4 :], "J-13")


@pytest.mark.parametrize("rank", [0, 8, 33, (1 << 24) + 16])
def test_j13_rank_is_a_multiple_of_16(rank: int) -> None:
    refused(RecordType.WRITE, encode_pairs(RecordType.WRITE, pairs(rank=rank)), "J-13")


def test_j13_arrays_follow_in_order() -> None:
    batch = pairs()
    payload = encode_pairs(RecordType.WRITE, batch)
    by_hand = struct.pack("<IIII", 3, 64, 16, 32) + b"".join(
        array.tobytes() for array in (batch.decay_gates, batch.write_gates, batch.keys, batch.values)
    )
    assert payload == by_hand
    assert encode_pairs(RecordType.FORGET, shaped(RecordType.FORGET, batch))[8:12] == bytes(4)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 2.0**40 * 1.0000002, -(2.0**41)])
@pytest.mark.parametrize("field", ["keys", "values"])
def test_j14_numbers_are_finite_and_bounded(number: float, field: str) -> None:
    batch = pairs()
    getattr(batch, field)[2, 5] = number
    refused(RecordType.WRITE, encode_pairs(RecordType.WRITE, batch), "J-14")
    getattr(batch, field)[2, 5] = -(2.0**40)
    assert same(decode_pairs(record(RecordType.WRITE, encode_pairs(RecordType.WRITE, batch)), 64, 16), batch)


@pytest.mark.parametrize(
    ("field", "gate"),
    [
        ("write_gates", 0.0),
        ("write_gates", -1.0),
        ("write_gates", 2.0**-11),
        ("write_gates", 33.0),
        ("write_gates", float("nan")),
        ("decay_gates", 0.0),
        ("decay_gates", 1.0000001),
        ("decay_gates", -0.5),
        ("decay_gates", float("nan")),
    ],
)
def test_j15_gates_are_in_range(field: str, gate: float) -> None:
    batch = pairs()
    getattr(batch, field)[1] = gate
    refused(RecordType.WRITE, encode_pairs(RecordType.WRITE, batch), "J-15")


def test_j15_ends_of_the_ranges_are_allowed() -> None:
    batch = replace(
        pairs(),
        write_gates=np.array([2.0**-10, 32.0, 1.0], np.float32),
        decay_gates=np.array([1.0, 1e-38, 0.5], np.float32),
    )
    assert same(decode_pairs(record(RecordType.WRITE, encode_pairs(RecordType.WRITE, batch)), 64, 16), batch)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        Commit(0, 1, 1, 0.0, bytes(32)).encode()[:-1],
        Commit(0, 1, 1, 0.0, bytes(32)).encode() + b"\0",
        Commit(0, 0, 1, 0.0, bytes(32)).encode(),
        Commit(0, 1, 1, float("nan"), bytes(32)).encode(),
        Commit(0, 1, 1, float("inf"), bytes(32)).encode(),
        Commit(0, 1, 1, -1.0, bytes(32)).encode(),
        Commit(0, 1, 1, 0.0, bytes(32)).encode()[:20] + b"\1\0\0\0" + bytes(32),
    ],
)
def test_j16_commit_is_lawful(payload: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        decode_commit(record(RecordType.COMMIT, payload))
    assert (caught.value.rule, caught.value.offset) == ("J-16", 640)


@given(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(1, (1 << 32) - 1),
    st.integers(0, (1 << 32) - 1),
    st.floats(0, width=32, allow_infinity=False, allow_nan=False),
    st.binary(min_size=32, max_size=32),
)
def test_commit_round_trips(time_us: int, n_records: int, n_pairs: int, surprise: float, chain: bytes) -> None:
    made = Commit(time_us, n_records, n_pairs, surprise, chain)
    assert decode_commit(record(RecordType.COMMIT, made.encode())) == made


def test_j17_expand_and_parameters_are_lawful() -> None:
    for decode, payload in ((decode_expand, encode_expand(64)), (decode_parameters, encode_parameters(0.5))):
        for bad in (payload[:-1], payload + b"\0", payload[:4] + b"\0\0\0\1", b""):
            with pytest.raises(FormatError) as caught:
                decode(record(RecordType.EXPAND, bad))
            assert (caught.value.rule, caught.value.offset) == ("J-17", 640)
    for value in (-0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(FormatError) as caught:
            decode_parameters(record(RecordType.PARAMETERS, encode_parameters(value)))
        assert caught.value.rule == "J-17"
    assert decode_expand(record(RecordType.EXPAND, encode_expand(64))) == 64
    assert decode_parameters(record(RecordType.PARAMETERS, encode_parameters(0.25))) == 0.25


@given(st.sampled_from(PAIR_KINDS), st.integers(1, 9), st.integers(0, 1000))
def test_pairs_round_trip(kind: RecordType, n: int, seed: int) -> None:
    batch = shaped(kind, pairs(n, seed=seed))
    assert same(decode_pairs(record(kind, encode_pairs(kind, batch)), 64, 16), batch)


@given(st.sampled_from(PAIR_KINDS), st.integers(0, 200), st.binary(min_size=1, max_size=12))
def test_any_patch_gives_pairs_within_the_limits_or_a_format_error(kind: RecordType, at: int, patch: bytes) -> None:
    payload = bytearray(encode_pairs(kind, shaped(kind, pairs())))
    payload[at : at + len(patch)] = patch
    try:
        found = decode_pairs(record(kind, bytes(payload)), 64, 16)
    except FormatError as error:
        assert error.rule in ("J-13", "J-14", "J-15")
    else:
        assert np.isfinite(found.keys).all() and np.isfinite(found.values).all()


@pytest.mark.parametrize("kind", PAIR_KINDS)
def test_s3_pairs_per_record_fill_a_record_and_no_more(kind: RecordType) -> None:
    each = pair_bytes(kind, 384, 768)
    n = pairs_per_record(kind, 384, 768)
    assert 16 + n * each <= PAYLOAD_BYTES_MAX < 16 + (n + 1) * each
    assert pairs_per_record(kind, 1 << 24, 1 << 24) == 0


@pytest.mark.parametrize("chosen", [slice(1, 3), [0, 2], [], slice(0, 0)])
def test_rows_keep_their_gates(chosen: slice | list[int]) -> None:
    for kind in PAIR_KINDS:
        batch = shaped(kind, pairs())
        part = batch.rows(chosen)
        assert np.array_equal(part.keys, batch.keys[chosen]) and np.array_equal(part.values, batch.values[chosen])
        assert part.write_gates.size == (len(part) if batch.write_gates.size else 0)
        assert part.decay_gates.size == (len(part) if batch.decay_gates.size else 0)
