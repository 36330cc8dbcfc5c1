"""Rules P-1, P-2, P-4, P-6 and the digest of a state.

Red when a region moves, when padding or unused rows are not checked, when a scalar that arithmetic cannot produce is
accepted (or one it can is refused), or when the digest leaves out a part of the state.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emm import kernel
from emm.codec.header import payload_regions
from emm.codec.payload import (
    DIGEST_PREFIX,
    decode_payload,
    decode_scalars,
    encode_payload,
    encode_scalars,
    state_digest,
)
from emm.errors import FormatError
from emm.layout import BLOCK_BYTES, GAIN_SCALARS, Flag, Projection, Rule
from emm.state import MatrixState, Parameters, empty_state
from tests.codec.builders import state


def refused(payload: bytes | bytearray, rule: str, offset: int | None = None) -> None:
    with pytest.raises(FormatError) as caught:
        decode_payload(payload, state().parameters, Flag(0))
    assert (type(caught.value), caught.value.rule) == (FormatError, rule)
    assert offset is None or caught.value.offset == offset


def scalar(name: str, data: bytes) -> bytearray:
    payload = encode_payload(state())
    at = payload_regions(state().parameters)[-1].offset + GAIN_SCALARS.offset(name)
    payload[at : at + len(data)] = data
    return payload


@pytest.mark.parametrize("rule", Rule)
def test_p1_arrays_lie_row_major_without_gaps(rule: Rule) -> None:
    made = state(rule)
    payload = encode_payload(made)
    assert len(payload) % BLOCK_BYTES == 0
    flat = np.frombuffer(bytes(payload), "<f4")
    assert np.array_equal(flat[: 16 * 32].reshape(16, 32), made.matrix)
    if made.gain is not None:
        assert np.array_equal(flat[16 * 32 :][: 32 * 32].reshape(32, 32), made.gain.pbar)
        assert np.array_equal(flat[16 * 32 + 32 * 32 :][: 16 * 32].reshape(16, 32), made.gain.u)
        at = payload_regions(made.parameters)[-1].offset
        assert bytes(payload[at : at + 64]) == encode_scalars(made.gain)


@pytest.mark.parametrize("rule", Rule)
def test_p1_decoding_copies_nothing_and_gives_no_writable_view(rule: Rule) -> None:
    payload = encode_payload(state(rule))
    found = decode_payload(payload, state(rule).parameters, Flag.DECAYED)
    assert found.flags is Flag.DECAYED
    arrays = [found.matrix] if found.gain is None else [found.matrix, found.gain.pbar, found.gain.u]
    for array in arrays:
        assert not array.flags.writeable and array.flags.c_contiguous
        assert np.shares_memory(array, np.frombuffer(payload, np.uint8))


def test_p2_padding_after_the_payload_is_zero() -> None:
    payload = encode_payload(state())
    end = payload_regions(state().parameters)[-1].offset + 64
    for position in (end, end + 1, len(payload) - 1):
        damaged = bytearray(payload)
        damaged[position] = 1
        refused(damaged, "P-2", end)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("count", struct.pack("<I", 16)),
        ("count", struct.pack("<I", 0xFFFFFFFF)),
        ("signs", struct.pack("<I", 0b1000)),
        ("signs", struct.pack("<I", 1 << 31)),
        ("scale", struct.pack("<f", -0.25)),
        ("scale", struct.pack("<f", 1.0000001)),
        ("scale", struct.pack("<f", float("nan"))),
        ("leak", struct.pack("<f", -1.0)),
        ("leak", struct.pack("<f", 64.01)),
        ("leak", struct.pack("<f", float("inf"))),
        ("gram_trace", struct.pack("<d", float("nan"))),
        ("gram_trace", struct.pack("<d", float("inf"))),
        ("gram_trace", struct.pack("<d", -1.0)),
        ("reserved", b"\1"),
    ],
)
def test_p4_scalars_that_arithmetic_cannot_produce(name: str, data: bytes) -> None:
    refused(scalar(name, data), "P-4")


@pytest.mark.parametrize("decay", [1e-5, 1e-3, 0.5, 0.999, 0.9999999, 1e-20])
@pytest.mark.parametrize("ridge", [2.0**-6, float(np.float32(0.3)), 1.0])
def test_p4_every_state_that_decay_leads_to_can_be_read_back(decay: float, ridge: float) -> None:
    """One write with α = 1e-5 makes 1 − α² round to 1, so b = P₀; three make a underflow to 0. Both once made a
    snapshot that its own reader refused."""
    made = empty_state(Parameters(4, 64, 32, ridge=ridge))
    random = np.random.default_rng(0)
    for _ in range(14):
        x = kernel.project(random.standard_normal((1, 64)).astype(np.float32), made.parameters)
        kernel.write(made, x, random.standard_normal((1, 4)).astype(np.float32), decay)
        again = decode_payload(encode_payload(made), made.parameters, made.flags)
        assert state_digest(again, 1) == state_digest(made, 1)


def test_p6_unused_rows_of_u_are_plus_zero() -> None:
    made = state()
    at = payload_regions(made.parameters)[2].offset
    for data in (struct.pack("<f", 1e-40), struct.pack("<f", -0.0)):
        payload = encode_payload(made)
        payload[at + 3 * 128 + 4 : at + 3 * 128 + 8] = data
        refused(payload, "P-6", at)


def test_digest_is_sha256_of_the_canonical_form() -> None:
    made = state(Rule.PRECONDITIONED)
    parameters = made.parameters
    assert made.gain is not None
    by_hand = hashlib.sha256(
        DIGEST_PREFIX
        + struct.pack("<QIIIBB2xQf", 9, 16, 64, 32, 2, 1, parameters.seed, parameters.ridge)
        + made.matrix.tobytes()
        + made.gain.pbar.tobytes()
        + made.gain.u.tobytes()
        + encode_scalars(made.gain)
    )
    assert state_digest(made, 9) == by_hand.digest()


@given(st.integers(0, 10**6))
def test_digest_tells_every_part_of_a_state_apart(seed: int) -> None:
    random = np.random.default_rng(seed)
    base = state()
    assert base.gain is not None
    changed = [base.copy() for _ in range(8)]
    for made in changed:
        assert made.gain is not None
    changed[0].matrix[random.integers(16), random.integers(32)] += 1
    changed[1].gain.pbar[random.integers(32), random.integers(32)] += 1  # type: ignore[union-attr]
    changed[2].gain.u[random.integers(3), random.integers(32)] += 1  # type: ignore[union-attr]
    changed[3].gain.signs ^= 1  # type: ignore[union-attr]
    changed[4].gain.scale = 0.5  # type: ignore[union-attr]
    changed[5].gain.leak = 0.5  # type: ignore[union-attr]
    changed[6].gain.gram_trace += 1  # type: ignore[union-attr]
    changed[7].parameters = replace(base.parameters, seed=1)
    others = [replace(base.parameters, ridge=1.0), replace(base.parameters, projection=Projection.NONE)]
    changed += [MatrixState(each, base.matrix, base.gain, base.flags) for each in others]
    digests = {state_digest(base, 1), state_digest(base, 2), *(state_digest(made, 1) for made in changed)}
    assert len(digests) == 2 + len(changed)


@given(st.binary(min_size=64, max_size=64))
def test_any_bytes_give_scalars_or_a_format_error(data: bytes) -> None:
    try:
        gain = decode_scalars(data, state().parameters)
    except FormatError as error:
        assert error.rule == "P-4"
    else:
        assert 0 <= gain.count < 16 and gain.signs >> gain.count == 0


def test_a22_digest_is_sha256_of_the_parameters_and_the_unpadded_payload() -> None:
    """Red when a field is added to, or dropped from, what the digest covers."""
    made = empty_state(Parameters(dim=3, key_dim=20, rank=16, rule=Rule.GATED_DELTA, seed=5, ridge=0.5))
    made.matrix[...] = np.arange(48, dtype=np.float32).reshape(3, 16)
    fields = struct.pack("<QIIIBBxxQf", 9, 3, 20, 16, 1, 1, 5, 0.5)
    payload = struct.pack("<48f", *range(48))
    assert state_digest(made, 9) == hashlib.sha256(b"EMMDIGEST4\0" + fields + payload).digest()
    made.flags |= Flag.DECAYED
    assert state_digest(made, 9) == hashlib.sha256(b"EMMDIGEST4\0" + fields + payload).digest()
