"""Rules L-1 to L-5. Red when a check is taken out of `decode_lineage`, or a field is written at another place."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emm.codec.header import NUMBER_MAX
from emm.codec.lineage import Lineage, decode_lineage
from emm.errors import FormatError
from emm.layout import LINEAGE, Origin


def refused(patches: dict[str, bytes], rule: str, generation: int = 9, base: Lineage | None = None) -> None:
    data = bytearray((base or Lineage()).encode())
    for name, patch in patches.items():
        at = LINEAGE.offset(name)
        data[at : at + len(patch)] = patch
    with pytest.raises(FormatError) as caught:
        decode_lineage(bytes(data), generation)
    assert (type(caught.value), caught.value.rule) == (FormatError, rule)


@pytest.mark.parametrize("position", range(27))
def test_l1_reserved_bytes_are_zero(position: int) -> None:
    refused({"reserved": bytes(position) + b"\1"}, "L-1")


@pytest.mark.parametrize("origin", [6, 255])
def test_l2_unknown_origin_is_refused(origin: int) -> None:
    refused({"origin": bytes([origin])}, "L-2")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.5, 1.5])
def test_l3_expand_at_is_a_share(value: float) -> None:
    refused({"expand_at": struct.pack("<f", value)}, "L-3")


@pytest.mark.parametrize("floor", [0, 10, 1 << 63])
def test_l4_floor_is_within_the_generations(floor: int) -> None:
    refused({"floor_generation": struct.pack("<Q", floor)}, "L-4")


@pytest.mark.parametrize("origin", [origin for origin in Origin if origin is not Origin.CHECKPOINT])
def test_l4_a_state_from_elsewhere_is_its_own_floor(origin: Origin) -> None:
    """Else a re-solved state would seem to follow from the journal before it."""
    refused({}, "L-4", base=Lineage(origin=origin, floor_generation=8))
    assert decode_lineage(Lineage(origin=origin, floor_generation=9).encode(), 9).origin is origin


@pytest.mark.parametrize("segment", [0, NUMBER_MAX + 1])
def test_l5_next_segment_is_one_that_a_name_can_hold(segment: int) -> None:
    refused({"segment_next": struct.pack("<Q", segment)}, "L-5")


@given(
    st.builds(
        Lineage,
        st.integers(0, (1 << 64) - 1),
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.binary(min_size=32, max_size=32),
        st.binary(min_size=32, max_size=32),
        st.binary(min_size=16, max_size=16),
        st.binary(min_size=16, max_size=16),
        st.just(NUMBER_MAX),
        st.integers(1, NUMBER_MAX),
        st.floats(0, 1, width=32),
        st.sampled_from(Origin),
    )
)
def test_lineage_round_trips(made: Lineage) -> None:
    assert decode_lineage(made.encode(), NUMBER_MAX) == made


@given(st.binary(min_size=160, max_size=160))
def test_any_bytes_give_a_lineage_or_a_format_error(data: bytes) -> None:
    try:
        found = decode_lineage(data, 5)
    except FormatError as error:
        assert error.rule is not None
    else:
        assert found.encode() == data
