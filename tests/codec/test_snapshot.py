"""Whole snapshots: rules H-12, P-2, P-3, T-4 and S-2, round trips, and bytes that mean harm.

Red when the head's digest leaves out a byte, when the file's length is not checked before it is used, when the mirror
may differ, or when any mutation raises something else than an `EmmError` or allocates what a length asks for.
"""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emm
from emm.codec.header import blank_digest
from emm.codec.lineage import Lineage
from emm.codec.snapshot import (
    Snapshot,
    decode_snapshot,
    encode_snapshot,
    expected_mirror,
    head_from_mirror,
    read_head,
    record_fault,
    snapshot_chunks,
)
from emm.errors import ChecksumError, EmmError, FormatError, TruncatedError
from emm.layout import BLOCK_BYTES, Flag, Origin, Rule
from emm.storage.snapshot_file import publish_snapshot
from emm.vfs.local import LocalDirectory
from tests.codec.builders import forge_snapshot, header_shape, snapshot, state


def refused(data: bytes, kind: type[FormatError], rule: str, offset: int | None = None) -> None:
    with pytest.raises(FormatError) as caught:
        decode_snapshot(data)
    assert (type(caught.value), caught.value.rule) == (kind, rule), caught.value
    assert offset is None or caught.value.offset == offset


@pytest.mark.parametrize("rule", Rule)
def test_snapshot_round_trips(rule: Rule) -> None:
    lineage = Lineage(5, 17, b"c" * 32, b"p" * 32, b"u" * 16, b"n" * 16, 7, 9, 0.5, Origin.RESOLVE)
    made = Snapshot(state(rule), 7, 3, bytes(16), lineage, {"lab": "chemistry", "n": [1, None, True]})
    made.state.flags = Flag.FORGOTTEN | Flag.FOREIGN_PAIRS
    data = encode_snapshot(made)
    found = decode_snapshot(data)
    assert (found.generation, found.lsn, found.uuid, found.lineage, found.metadata) == (
        7,
        3,
        bytes(16),
        lineage,
        made.metadata,
    )
    assert found.state.flags == made.state.flags and found.digest == made.digest
    assert encode_snapshot(found) == data == b"".join(snapshot_chunks(made))


@settings(max_examples=25)
@given(st.sampled_from(Rule), st.integers(1, 600), st.integers(0, 1000))
def test_snapshots_of_any_size_round_trip(rule: Rule, dim: int, seed: int) -> None:
    made = Snapshot(state(rule, seed, dim), 1, 0, bytes(16))
    found = emm.decode_snapshot(emm.encode_snapshot(made))
    assert found.digest == made.digest and np.array_equal(found.state.matrix, made.state.matrix)


def test_h12_digest_covers_every_byte_before_the_payload() -> None:
    data = encode_snapshot(snapshot())
    shape = header_shape(data)
    head = data[: shape.payload_offset]
    assert hashlib.sha256(blank_digest(head)).digest() == data[88:120]
    for position in range(128, shape.payload_offset, 7):
        damaged = bytearray(data)
        damaged[position] ^= 0x20
        refused(bytes(damaged), ChecksumError, "H-12", 88)


def test_h12_digest_itself_is_covered_by_the_crc_and_the_mirror() -> None:
    data = bytearray(encode_snapshot(snapshot()))
    data[90] ^= 1
    refused(bytes(data), ChecksumError, "H-2", 124)


def test_p2_padding_before_the_payload_is_zero_even_under_a_valid_digest() -> None:
    shape = header_shape(encode_snapshot(snapshot()))
    refused(forge_snapshot(shape.head_bytes, b"\1"), FormatError, "P-2", shape.head_bytes)
    refused(forge_snapshot(shape.payload_offset - 1, b"\1"), FormatError, "P-2", shape.head_bytes)


def test_p3_length_is_exactly_what_the_header_gives() -> None:
    data = encode_snapshot(snapshot())
    for length in (128, 4096, len(data) - 1):
        refused(data[:length], TruncatedError, "P-3", length)
    refused(data + b"\0", FormatError, "P-3", len(data))


def test_s2_huge_promise_in_a_small_file_allocates_nothing() -> None:
    """3 GiB by the header, 200 bytes on disk: known from the length, before a read of the head."""
    from emm.codec.header import encode_header
    from emm.state import Parameters
    from tests.codec.builders import header

    asked: list[int] = []

    def read(offset: int, length: int) -> bytes:
        asked.append(length)
        return data[offset : offset + length]

    data = encode_header(header(Parameters(1 << 20, 1024, 768))) + bytes(72)
    with pytest.raises(TruncatedError):
        read_head(read, len(data))
    assert max(asked) <= 128


def test_t4_mirror_repeats_the_head() -> None:
    data = encode_snapshot(snapshot())
    shape = header_shape(data)
    assert data[-128:] == data[:128]
    assert data[shape.mirror_offset :] == expected_mirror(data[: shape.payload_offset], shape)
    assert head_from_mirror(data[shape.mirror_offset :], shape) == data[: shape.payload_offset]
    for position in range(shape.mirror_offset, len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x80
        refused(bytes(damaged), ChecksumError, "T-4", shape.mirror_offset)


def test_t2_damaged_block_is_named_with_its_place_in_the_file() -> None:
    data = encode_snapshot(Snapshot(state(dim=2000), 1, 0, bytes(16)))
    shape = header_shape(data)
    assert shape.n_blocks > 2
    for index in range(shape.n_blocks):
        damaged = bytearray(data)
        damaged[shape.payload_offset + index * BLOCK_BYTES + 77] ^= 4
        refused(bytes(damaged), ChecksumError, "T-2", shape.payload_offset + index * BLOCK_BYTES)


DATA = encode_snapshot(snapshot())


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(DATA) - 1), st.integers(0, 255)), min_size=1, max_size=6), st.data())
def test_mutations_raise_only_emm_errors(edits: list[tuple[int, int]], more: st.DataObject) -> None:
    data = bytearray(DATA)
    for position, value in edits:
        data[position] = value
    cut = more.draw(st.sampled_from([None, "head", "tail", "both"]))
    if cut in ("head", "both"):
        data = data[more.draw(st.integers(0, len(data))) :]
    if cut in ("tail", "both"):
        data = data[: more.draw(st.integers(0, len(data)))]
    try:
        found = decode_snapshot(bytes(data))
    except EmmError as error:
        assert error.rule is not None
    else:
        assert bytes(data) == DATA == encode_snapshot(found)


@settings(max_examples=150)
@given(st.integers(8, 500), st.binary(min_size=1, max_size=9))
def test_forged_heads_raise_only_emm_errors(offset: int, patch: bytes) -> None:
    """The attacker computes every checksum too; what is left are the rules."""
    data = forge_snapshot(offset, patch)
    try:
        found = decode_snapshot(data)
    except EmmError as error:
        assert error.rule is not None
    else:
        assert decode_snapshot(encode_snapshot(found)).digest == found.digest


def test_hostile_bytes_allocate_little() -> None:
    cases = [forge_snapshot(offset, b"\xff" * 4) for offset in range(8, 128, 4)]
    tracemalloc.start()
    try:
        for data in cases:
            with pytest.raises(EmmError):
                decode_snapshot(data)
                raise EmmError("nothing read from these bytes was wrong")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def broken(**fields: object) -> Snapshot:
    made = snapshot()
    for name, value in fields.items():
        target = made.state.gain if name in ("pbar", "u", "scale", "signs", "count") else made.state
        setattr(target, name, value)
    return made


UNREADABLE = {
    "generation 0": snapshot(generation=0),
    "lsn": snapshot(lsn=1 << 64),
    "uuid": snapshot(uuid=b"short"),
    "matrix shape": broken(matrix=np.zeros((16, 16), np.float32)),
    "matrix type": broken(matrix=np.zeros((16, 32))),
    "P": broken(pbar=np.zeros((16, 16), np.float32)),
    "no P": broken(gain=None),
}


@pytest.mark.parametrize("made", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_shape_that_has_no_encoding_is_not_encoded(made: Snapshot) -> None:
    """A wrong shape once gave bytes of the wrong length, without a word."""
    with pytest.raises(emm.InputError) as caught:
        encode_snapshot(made)
    assert caught.value.rule is not None


UNLAWFUL = {
    "scale": broken(scale=2.0),
    "signs": broken(signs=1 << 40),
    "count": broken(count=16),
    "floor": snapshot(lineage=Lineage(floor_generation=9)),
    "next segment": snapshot(lineage=Lineage(segment_next=10**16)),
    "write count": snapshot(lineage=Lineage(write_count=1 << 64)),
}


@pytest.mark.parametrize("made", UNLAWFUL.values(), ids=UNLAWFUL.keys())
def test_snapshot_that_no_reader_would_accept_is_not_published(made: Snapshot, tmp_path: Path) -> None:
    """A memory at the last segment number once published a generation that it could not read back."""
    assert record_fault(made) is not None and record_fault(snapshot()) is None
    with pytest.raises(emm.InputError):
        publish_snapshot(LocalDirectory(tmp_path), made)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_like_object_can_be_decoded(kind: type) -> None:
    assert decode_snapshot(kind(DATA)).digest == snapshot().digest
