"""Rules H-1 to H-13 and S-1: each broken alone, everything else (the CRC too) valid.

Red when a check is taken out of `decode_header` or `parameter_fault`, when its class, rule or offset changes, or when
a check moves before the CRC (then damage would be reported as something else).
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emm.codec.header import (
    NUMBER_MAX,
    Header,
    blank_digest,
    decode_header,
    encode_header,
    geometry,
    parameter_fault,
    payload_regions,
)
from emm.errors import ChecksumError, FormatError, LimitError, NotEmmError, TruncatedError, UnsupportedError
from emm.layout import BLOCK_BYTES, Flag, Projection, Rule
from emm.state import Parameters
from tests.codec.builders import PARAMETERS, UUID, forge_header, header

U16, U32, U64, F32 = (struct.Struct(f"<{code}").pack for code in "HIQf")


def refused(data: bytes, kind: type[FormatError], rule: str, offset: int, **limits: int) -> FormatError:
    with pytest.raises(FormatError) as caught:
        decode_header(data, **limits)
    error = caught.value
    assert (type(error), error.rule, error.offset) == (kind, rule, offset), error
    return error


def test_h1_other_magic_is_not_emm() -> None:
    good = encode_header(header())
    for data in (b"", b"PK\3\4" + good[4:], good[:3] + b"J" + good[4:], b"\x89EMX", bytes(128)):
        refused(data, NotEmmError, "H-1", 0)


def test_h1_short_file_that_starts_like_the_magic_is_truncated() -> None:
    good = encode_header(header())
    for length in range(1, 128):
        error = refused(good[:length], TruncatedError, "H-1", 0)
        assert (error.expected, error.found) == (128, length)


def test_h2_every_byte_of_the_header_is_covered() -> None:
    good = encode_header(header())
    for position in range(8, 128):
        for bit in range(8):
            data = bytearray(good)
            data[position] ^= 1 << bit
            refused(bytes(data), ChecksumError, "H-2", 124)


def test_h2_crc_is_zlibs_over_bytes_0_to_123() -> None:
    import zlib

    good = encode_header(header())
    assert int.from_bytes(good[124:], "little") == zlib.crc32(good[:124])


@pytest.mark.parametrize("version", [0, 3, 5, 65535])
def test_h3_other_major_version_is_unsupported(version: int) -> None:
    error = refused(forge_header(8, U16(version)), UnsupportedError, "H-3", 8)
    assert error.exit_code == 5


def test_h3_higher_minor_version_is_read() -> None:
    assert decode_header(forge_header(10, U16(9))).version_minor == 9


@pytest.mark.parametrize("bit", [4, *range(6, 32)])
def test_h4_unknown_flag_is_unsupported(bit: int) -> None:
    refused(forge_header(12, U32(1 << bit)), UnsupportedError, "H-4", 12)


@pytest.mark.parametrize(("offset", "size"), [(31, 1), (120, 4)])
def test_h5_reserved_bytes_are_zero(offset: int, size: int) -> None:
    for position in range(offset, offset + size):
        refused(forge_header(position, b"\1"), FormatError, "H-5", offset)


@pytest.mark.parametrize("offset", [16, 20, 24])
@pytest.mark.parametrize("value", [0, (1 << 24) + 16, 0xFFFFFFFF])
def test_h6_dimensions_are_bounded(offset: int, value: int) -> None:
    refused(forge_header(offset, U32(value)), FormatError, "H-6", offset)


@pytest.mark.parametrize("rank", [1, 31, 33, 80])
def test_h7_rank_is_a_multiple_of_16_and_at_most_key_dim(rank: int) -> None:
    refused(forge_header(24, U32(rank)), FormatError, "H-7", 24)


@pytest.mark.parametrize(
    ("key_dim", "rank", "allowed"), [(32, 32, True), (20, 32, True), (16, 32, False), (33, 32, False)]
)
def test_h7_without_projection_rank_is_key_dim_rounded_up(key_dim: int, rank: int, allowed: bool) -> None:
    fault = parameter_fault(Parameters(4, key_dim, rank, projection=Projection.NONE))
    assert (fault is None) is allowed
    assert allowed or (fault is not None and fault[0] == "H-7")


@pytest.mark.parametrize(("offset", "at", "value"), [(28, 28, 0), (28, 28, 2), (29, 29, 3), (30, 29, 2)])
def test_h8_unknown_number_type_rule_or_projection_is_unsupported(offset: int, at: int, value: int) -> None:
    refused(forge_header(offset, bytes([value])), UnsupportedError, "H-8", at)


@pytest.mark.parametrize(
    "ridge", [0.0, -1.0, float("nan"), float("inf"), 2.0**-21, 2.0**21, -0.0, 1e-40], ids=lambda value: f"{value:g}"
)
def test_h9_ridge_is_finite_and_in_range(ridge: float) -> None:
    refused(forge_header(40, F32(ridge)), FormatError, "H-9", 40)


def test_h9_ridge_of_a_caller_is_a_float32() -> None:
    assert parameter_fault(Parameters(4, 16, 16, ridge=0.1)) is not None


@pytest.mark.parametrize("generation", [0, NUMBER_MAX + 1, (1 << 64) - 1])
def test_h10_generation_is_one_that_a_name_can_hold(generation: int) -> None:
    refused(forge_header(48, U64(generation)), FormatError, "H-10", 48)


@pytest.mark.parametrize("delta", [-1, 1, 1 << 40])
def test_h11_payload_length_follows_from_the_shape(delta: int) -> None:
    right = header().geometry.payload_bytes
    error = refused(forge_header(80, U64(right + delta)), FormatError, "H-11", 80)
    assert (error.expected, error.found) == (right, right + delta)


def test_h12_blank_digest_ignores_only_digest_and_crc() -> None:
    head = bytes(range(200))
    blanked = blank_digest(head)
    assert len(blanked) == len(head)
    assert [i for i in range(200) if blanked[i] != head[i]] == [*range(88, 120), *range(124, 128)]


@pytest.mark.parametrize("length", [0, 1, 16385, 0xFFFFFFFF])
def test_h13_metadata_length_is_bounded(length: int) -> None:
    refused(forge_header(44, U32(length)), FormatError, "H-13", 44)


def test_s1_state_beyond_the_limit_is_refused_by_arithmetic_alone() -> None:
    """2^24 × 2^24 numbers: a petabyte that must never be allocated, only multiplied."""
    huge = Parameters(1 << 24, 1 << 24, 1 << 24)
    error = refused(encode_header(header(huge)), LimitError, "S-1", 16)
    assert error.found == 4 * (1 << 24) * ((1 << 24) * 2 + 16) + 64
    refused(encode_header(header()), LimitError, "S-1", 16, state_bytes_max=header().geometry.payload_bytes - 1)
    decode_header(encode_header(header()), state_bytes_max=header().geometry.payload_bytes)


def headers() -> st.SearchStrategy[Header]:
    def build(draw: st.DrawFn) -> Header:
        rule, projection = draw(st.sampled_from(Rule)), draw(st.sampled_from(Projection))
        if projection is Projection.HADAMARD:
            rank = 16 * draw(st.integers(1, 64))
            key_dim = draw(st.integers(rank, 4096))
        else:
            key_dim = draw(st.integers(1, 1024))
            rank = -(-key_dim // 16) * 16
        return Header(
            Parameters(
                draw(st.integers(1, 10**4)),
                key_dim,
                rank,
                rule,
                projection,
                draw(st.integers(0, (1 << 64) - 1)),
                draw(st.floats(2.0**-20, 2.0**20, width=32)),
            ),
            Flag(draw(st.integers(0, 15))),
            draw(st.integers(1, NUMBER_MAX)),
            draw(st.integers(0, (1 << 64) - 1)),
            draw(st.binary(min_size=16, max_size=16)),
            draw(st.integers(2, 16384)),
            draw(st.binary(min_size=32, max_size=32)),
        )

    return st.composite(build)()


@given(headers())
def test_header_round_trips(made: Header) -> None:
    data = encode_header(made)
    assert len(data) == 128
    assert decode_header(data) == made
    assert decode_header(data + b"more") == made


@given(headers())
def test_geometry_has_no_holes(made: Header) -> None:
    """P-1, P-3: table, metadata, padding, whole blocks and mirror follow one another."""
    shape = made.geometry
    assert shape.table_offset == 288
    assert shape.metadata_offset == 288 + 36 * shape.n_blocks
    assert shape.payload_offset % 4096 == 0 and 0 <= shape.payload_offset - shape.head_bytes < 4096
    assert 0 <= shape.n_blocks * BLOCK_BYTES - shape.payload_bytes < BLOCK_BYTES
    assert shape.file_bytes == shape.mirror_offset + shape.head_bytes
    end = 0
    for region in shape.regions:
        assert region.offset == end
        end += region.size
    assert end == shape.payload_bytes


@given(st.binary(max_size=200))
def test_any_bytes_give_a_header_or_a_format_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode_header(data)


@given(st.integers(0, 123), st.binary(min_size=1, max_size=8))
def test_any_patch_with_a_valid_crc_gives_a_lawful_header_or_an_error(offset: int, patch: bytes) -> None:
    data = forge_header(offset, patch[: 124 - offset])
    try:
        found = decode_header(data)
    except FormatError as error:
        assert error.rule is not None and error.offset is not None
    else:
        assert parameter_fault(found.parameters) is None
        assert found.geometry.payload_bytes <= 4 << 30


def test_regions_by_rule() -> None:
    names = {rule: [region.name for region in payload_regions(Parameters(4, 64, 32, rule))] for rule in Rule}
    assert names == {
        Rule.OUTER_PRODUCT: ["M"],
        Rule.GATED_DELTA: ["M"],
        Rule.PRECONDITIONED: ["M", "P", "U", "scalars"],
    }
    assert geometry(PARAMETERS, 2).payload_bytes == 4 * 32 * (16 + 32 + 16) + 64
    assert header().uuid == UUID
