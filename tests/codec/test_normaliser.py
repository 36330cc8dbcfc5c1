"""The region that the flag NORMALISER adds to a payload. Each test says what would turn it red."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from emm.codec.header import Header, decode_header, encode_header, geometry, payload_bytes, payload_regions
from emm.codec.payload import decode_payload, encode_payload, state_digest
from emm.codec.snapshot import Snapshot, decode_snapshot, encode_snapshot
from emm.errors import FormatError, InputError
from emm.layout import READ_SCALARS, Flag, Projection, Rule
from emm.state import MatrixState, Normaliser, Parameters
from spec.vectors.normaliser import carrying

UUID = bytes(range(16))


@pytest.mark.parametrize("rule", list(Rule))
def test_a_normaliser_survives_its_bytes(rule: Rule) -> None:
    """Red when the region moves, loses a bit, or the flag is not what says that it is there."""
    state = carrying(rule, query_length=True, floor=0.1)
    found = decode_snapshot(encode_snapshot(Snapshot(state, 3, 5, UUID))).state
    assert found.flags == state.flags and found.normaliser is not None and state.normaliser is not None
    assert found.normaliser.vector.tobytes() == state.normaliser.vector.tobytes()
    assert (found.normaliser.floor, found.normaliser.query_length) == (0.1, True)
    assert state_digest(found, 5) == state_digest(state, 5)


@pytest.mark.parametrize("rule", list(Rule))
def test_p1_the_region_lies_behind_all_others(rule: Rule) -> None:
    """Red when a reader of 4.0 layouts would find M, P̄ or U elsewhere because of it."""
    parameters = carrying(rule).parameters
    with_it = payload_regions(parameters, Flag.NORMALISER)
    assert with_it[:-2] == payload_regions(parameters)
    assert [region.name for region in with_it[-2:]] == ["normaliser", "reading"]
    assert payload_bytes(parameters, Flag.NORMALISER) == payload_bytes(parameters) + 4 * parameters.rank + 16
    assert geometry(parameters, 2, Flag.NORMALISER).payload_bytes == payload_bytes(parameters, Flag.NORMALISER)


def at(state: MatrixState, name: str) -> int:
    return payload_regions(state.parameters, state.flags)[-1].offset + READ_SCALARS.offset(name)


@pytest.mark.parametrize(
    ("name", "patch"),
    [
        ("floor", np.float64(0.0).tobytes()),
        ("floor", np.float64(-1.0).tobytes()),
        ("floor", np.float64(np.inf).tobytes()),
        ("floor", np.float64(np.nan).tobytes()),
        ("query_length", b"\2"),
        ("reserved", b"\0\0\0\1"),
    ],
)
def test_p7_scalars_are_bounded(name: str, patch: bytes) -> None:
    """Red when a floor that makes answers infinite or NaN is read."""
    state = carrying(Rule.PRECONDITIONED)
    data = encode_payload(state)
    data[at(state, name) : at(state, name) + len(patch)] = patch
    with pytest.raises(FormatError) as caught:
        decode_payload(data, state.parameters, state.flags)
    assert caught.value.rule == "P-7"


@pytest.mark.parametrize(("place", "number"), [(0, np.nan), (3, np.inf), (10, 1.0), (15, -0.0)])
def test_p7_n_is_finite_and_ends_with_the_key(place: int, number: float) -> None:
    """Red when a number that no key could have added is read."""
    state = carrying(Rule.GATED_DELTA)
    assert state.normaliser is not None
    state.normaliser.vector[place] = number
    with pytest.raises(FormatError) as caught:
        decode_payload(encode_payload(state), state.parameters, state.flags)
    assert caught.value.rule == "P-7"
    with pytest.raises(InputError) as refused:
        encode_snapshot(Snapshot(state, 1, 0, UUID))
    assert refused.value.rule == "P-7"


def test_p7_flag_and_region_go_together() -> None:
    """Red when a state with one of them only is written, or a projected memory gets one."""
    state = carrying(Rule.GATED_DELTA)
    without = state.copy()
    without.normaliser = None
    unflagged = state.copy()
    unflagged.flags &= ~Flag.NORMALISER
    projected = state.copy()
    projected.parameters = replace(state.parameters, projection=Projection.HADAMARD, key_dim=16)
    short = state.copy()
    short.normaliser = Normaliser(np.zeros(15, np.float32), 1.0, False)
    for wrong in (without, unflagged, projected, short):
        with pytest.raises(InputError) as caught:
            encode_snapshot(Snapshot(wrong, 1, 0, UUID))
        assert caught.value.rule == "P-7"


def test_a_copy_shares_nothing_with_a_mapped_file() -> None:
    """Red when the copy that outlives a mapping still points into it."""
    state = carrying(Rule.GATED_DELTA)
    copied = state.copy()
    assert copied.normaliser is not None and state.normaliser is not None
    assert not np.shares_memory(copied.normaliser.vector, state.normaliser.vector)


def test_p7_a_projected_memory_has_none() -> None:
    """Red when a header with the flag under projection 1 is read: its φ is not the cell's key."""
    plain = Parameters(4, 16, 16)
    data = encode_header(Header(plain, Flag.NORMALISER, 1, 0, UUID, 2, bytes(32)))
    with pytest.raises(FormatError) as caught:
        decode_header(data)
    assert (caught.value.rule, caught.value.offset) == ("P-7", 12)
    unprojected = replace(plain, projection=Projection.NONE)
    assert decode_header(encode_header(Header(unprojected, Flag.NORMALISER, 1, 0, UUID, 2, bytes(32)))).flags
