"""Rules J-1 to J-10, J-12 and S-3: framing of segments and records.

Red when a check is taken out of `decode_segment_header`, `record_size` or `decode_record`, when the trailing
CRC leaves out the UUID, header, payload or padding, when a length is used before it is checked, or when the chain
covers something else.
"""

from __future__ import annotations

import hashlib
import struct

import crcmod.predefined
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emm.codec.header import NUMBER_MAX
from emm.codec.journal import (
    PAYLOAD_BYTES_MAX,
    SegmentHeader,
    decode_record,
    decode_segment_header,
    encode_record,
    next_chain,
    record_bytes,
    record_size,
)
from emm.codec.pairs import Commit
from emm.errors import ChecksumError, EmmError, FormatError, NotEmmError, TruncatedError, UnsupportedError
from emm.layout import DIM_MAX, RANK_MULTIPLE, RECORD_BYTES_MAX, RecordType
from tests.codec.builders import UUID, forge_record, forge_segment, record, segment_header

U16, U32, U64 = (struct.Struct(f"<{code}").pack for code in "HIQ")
ORACLE = crcmod.predefined.mkPredefinedCrcFun("crc-32")


def segment_refused(data: bytes, kind: type[FormatError], rule: str, offset: int) -> None:
    with pytest.raises(FormatError) as caught:
        decode_segment_header(data)
    assert (type(caught.value), caught.value.rule, caught.value.offset) == (kind, rule, offset)


def record_refused(data: bytes, kind: type[FormatError], rule: str, offset: int, uuid: bytes = UUID) -> None:
    with pytest.raises(FormatError) as caught:
        decode_record(data, 1000, uuid)
    assert (type(caught.value), caught.value.rule, caught.value.offset) == (kind, rule, offset), caught.value


def test_j1_segment_starts_with_its_magic() -> None:
    good = segment_header().encode()
    segment_refused(b"\x89EMM" + good[4:], NotEmmError, "J-1", 0)
    for length in range(128):
        segment_refused(good[:length], TruncatedError, "J-1", 0)


def test_j2_every_bit_of_the_segment_header_is_covered() -> None:
    good = segment_header().encode()
    for bit in range(8 * 8, 128 * 8):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        segment_refused(bytes(data), ChecksumError, "J-2", 124)


@pytest.mark.parametrize(("offset", "patch"), [(8, U16(3)), (8, U16(5)), (12, U32(1)), (12, U32(1 << 31))])
def test_j3_other_version_or_flag_is_unsupported(offset: int, patch: bytes) -> None:
    segment_refused(forge_segment(offset, patch), UnsupportedError, "J-3", 8)


def test_j3_higher_minor_version_is_read() -> None:
    assert decode_segment_header(forge_segment(10, U16(7))) == segment_header()


def test_j4_reserved_bytes_are_zero() -> None:
    for position in range(116, 124):
        segment_refused(forge_segment(position, b"\x10"), FormatError, "J-4", 116)


@pytest.mark.parametrize(("offset", "value"), [(16, 0), (16, NUMBER_MAX + 1), (24, 0), (32, 0), (32, NUMBER_MAX + 1)])
def test_j5_numbers_in_range(offset: int, value: int) -> None:
    segment_refused(forge_segment(offset, U64(value)), FormatError, "J-5", 16)


@pytest.mark.parametrize("rank", [0, 8, 17, DIM_MAX + 16])
def test_j5_rank_is_one_that_a_state_can_have(rank: int) -> None:
    segment_refused(forge_segment(112, U32(rank)), FormatError, "J-5", 16)


def test_j6_record_starts_with_its_magic() -> None:
    data = record()
    record_refused(b"EMJX" + data[4:], FormatError, "J-6", 1000)
    for length in range(len(data)):
        record_refused(data[:length], TruncatedError, "J-6", 1000)


@pytest.mark.parametrize("length", range(20))
def test_j6_padding_is_the_least_that_aligns(length: int) -> None:
    size = record_bytes(length)
    assert size % 8 == 0 and 0 <= size - (36 + length) < 8
    assert len(record(payload=bytes(length))) == size


def test_j7_every_bit_of_the_record_header_is_covered() -> None:
    good = record()
    for bit in range(4 * 8, 32 * 8):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        record_refused(bytes(data), ChecksumError, "J-7", 1028)


@pytest.mark.parametrize(
    ("offset", "patch", "at"), [(4, U16(0), 4), (4, U16(9), 4), (4, U16(65535), 4), (6, U16(1), 6), (6, U16(32768), 6)]
)
def test_j8_unknown_type_or_flag_is_unsupported(offset: int, patch: bytes, at: int) -> None:
    record_refused(forge_record(record(), offset, patch), UnsupportedError, "J-8", 1000 + at)


@pytest.mark.parametrize(("lsn", "synced"), [(0, 0), (5, 6), (5, (1 << 64) - 1)])
def test_j9_lsns_agree(lsn: int, synced: int) -> None:
    record_refused(forge_record(record(), 8, U64(lsn) + U64(synced)), FormatError, "J-9", 1008)


@pytest.mark.parametrize("kind", [RecordType.MARK, RecordType.SEAL])
def test_j9_only_marks_and_seals_may_stand_before_the_first_commit(kind: RecordType) -> None:
    assert decode_record(record(kind, b"", 0, 0), 128, UUID).lsn == 0


def test_j10_trailing_crc_is_over_uuid_header_payload_and_padding() -> None:
    data = record()
    assert len(data) == 32 + 9 + 3 + 4
    assert int.from_bytes(data[-4:], "little") == ORACLE(UUID + data[:-4])


def test_j10_every_bit_of_payload_padding_and_crc_is_covered() -> None:
    good = record()
    for bit in range(32 * 8, len(good) * 8):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        record_refused(bytes(data), ChecksumError, "J-10", 1000)


def test_j10_record_of_another_memory_never_passes() -> None:
    record_refused(record(), ChecksumError, "J-10", 1000, uuid=bytes(16))


def test_j10_padding_is_zero_even_under_a_valid_crc() -> None:
    for position in range(41, 44):
        record_refused(forge_record(record(), position, b"\1"), FormatError, "J-10", 1041)


def test_j12_chain_is_sha256_over_previous_and_batch() -> None:
    previous = bytes(range(32))
    commit = Commit(17, 2, 3, 0.5, b"c" * 32).encode()
    batch = [(RecordType.WRITE, 5, b"one"), (RecordType.FORGET, 5, b"")]
    by_hand = hashlib.sha256(previous)
    for kind, payload in ((1, b"one"), (3, b""), (6, commit[:24])):
        by_hand.update(struct.pack("<HQI", kind, 5, len(payload)) + payload)
    assert next_chain(previous, batch, commit) == by_hand.digest()


@given(st.data())
def test_j12_chain_tells_every_change_of_the_batch_apart(data: st.DataObject) -> None:
    """Where one payload ends and the next begins counts too: lengths are in the hash."""
    payloads = data.draw(st.lists(st.binary(max_size=6), min_size=1, max_size=3))
    others = data.draw(st.lists(st.binary(max_size=6), min_size=1, max_size=3))
    commit = Commit(1, 1, 1, 0.0, bytes(32)).encode()

    def chain(parts: list[bytes]) -> bytes:
        return next_chain(bytes(32), [(RecordType.WRITE, 5, part) for part in parts], commit)

    assert (chain(payloads) == chain(others)) is (payloads == others)


@pytest.mark.parametrize("length", [PAYLOAD_BYTES_MAX + 1, 1 << 31, 0xFFFFFFFF])
def test_s3_length_is_refused_before_it_is_used(length: int) -> None:
    record_refused(forge_record(record(), 24, U32(length)), FormatError, "S-3", 1024)


def test_s3_largest_record_is_within_16_mib() -> None:
    assert record_bytes(PAYLOAD_BYTES_MAX) == RECORD_BYTES_MAX
    with pytest.raises(AssertionError):
        encode_record(RecordType.WRITE, 1, 0, bytes(PAYLOAD_BYTES_MAX + 1), UUID)


@given(
    st.builds(
        SegmentHeader,
        st.integers(1, NUMBER_MAX),
        st.integers(1, (1 << 64) - 1),
        st.integers(1, NUMBER_MAX),
        st.binary(min_size=16, max_size=16),
        st.binary(min_size=16, max_size=16),
        st.binary(min_size=32, max_size=32),
        st.integers(0, (1 << 64) - 1),
        st.integers(1, DIM_MAX // RANK_MULTIPLE).map(lambda n: n * RANK_MULTIPLE),
    )
)
def test_segment_header_round_trips(made: SegmentHeader) -> None:
    assert decode_segment_header(made.encode()) == made


@given(st.sampled_from(RecordType), st.integers(1, (1 << 64) - 1), st.data(), st.binary(max_size=100))
def test_record_round_trips(kind: RecordType, lsn: int, data: st.DataObject, payload: bytes) -> None:
    synced = data.draw(st.integers(0, lsn))
    encoded = encode_record(kind, lsn, synced, payload, UUID)
    found = decode_record(encoded + b"trailing", 4096, UUID)
    assert (found.type, found.lsn, found.synced_through, found.payload) == (kind, lsn, synced, payload)
    assert (found.offset, found.size) == (4096, len(encoded))


@given(st.binary(max_size=200), st.integers(0, 40))
def test_any_bytes_give_a_record_or_an_emm_error(noise: bytes, cut: int) -> None:
    for data in (noise, record()[:cut] + noise, forge_record(record(), 4, noise[:24].ljust(1, b"x"))):
        try:
            decode_record(data, 0, UUID)
        except EmmError as error:
            assert error.rule is not None and error.offset is not None
    with pytest.raises(EmmError):
        decode_segment_header(noise)
    with pytest.raises(EmmError):
        record_size(noise, 0)
