"""Rules M-1 to M-5. Red when a check is taken out of `_fault`, `_string_fault`, `_check_depth` or `decode_metadata`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emm.codec.metadata import decode_metadata, encode_metadata
from emm.errors import FormatError, InputError


def refused_bytes(data: bytes, rule: str) -> None:
    with pytest.raises(FormatError) as caught:
        decode_metadata(data)
    assert caught.value.rule == rule, caught.value


def refused_value(value: Any, rule: str) -> None:
    with pytest.raises(InputError) as caught:
        encode_metadata(value)
    assert caught.value.rule == rule, caught.value


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"12",
        b"null",
        b"{}\n",
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"\\u0061":1}',
        b'{"a":"x\\/y"}',
        b'{"a":-0}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b'{"a":1',
        b'{"a":"\x01"}',
        b"\xef\xbb\xbf{}",
        b'{"a":00}',
    ],
)
def test_m1_only_the_canonical_spelling_is_read(data: bytes) -> None:
    refused_bytes(data, "M-1")


@pytest.mark.parametrize("value", [[], None, {1: 2}, {"a": {2: 3}}, {"\ud800": 1}, {"a": "x\udfff"}])
def test_m1_what_is_not_an_object_of_strings_is_not_written(value: Any) -> None:
    refused_value(value, "M-1")


def test_m2_length_is_bounded() -> None:
    refused_bytes(b"", "M-2")
    refused_bytes(b"{", "M-2")
    longest = {"a": "x" * (16384 - len(b'{"a":""}'))}
    assert decode_metadata(encode_metadata(longest)) == longest
    refused_value({"a": longest["a"] + "x"}, "M-2")
    refused_bytes(b'{"a":"' + b"x" * 16384 + b'"}', "M-2")


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_m3_depth_is_bounded_before_a_recursive_parser_sees_it(opening: str, closing: str) -> None:
    def nested(levels: int) -> bytes:
        return ('{"a":' + opening * (levels - 1) + "1" + closing * (levels - 1) + "}").encode()

    assert isinstance(decode_metadata(nested(16)), dict)
    refused_bytes(nested(17), "M-3")
    refused_bytes(('{"a":' + opening * 2000).encode(), "M-3")
    refused_value(json.loads(nested(17)), "M-3")


def test_m3_brackets_in_strings_do_not_count() -> None:
    value = {"a": "[" * 100 + '\\"{'}
    assert decode_metadata(encode_metadata(value)) == value


@pytest.mark.parametrize("number", [b"1.0", b"1e3", b"1E400", b"9" * 5000])
def test_m4_a_file_with_other_numbers_than_integers_is_refused(number: bytes) -> None:
    refused_bytes(b'{"a":' + number + b"}", "M-4")


@pytest.mark.parametrize("name", [b"NaN", b"Infinity", b"-Infinity"])
def test_m1_names_that_are_not_json_are_refused(name: bytes) -> None:
    refused_bytes(b'{"a":' + name + b"}", "M-1")


def test_m4_integers_are_bounded() -> None:
    edge = {"a": 1 << 53, "b": -(1 << 53)}
    assert decode_metadata(encode_metadata(edge)) == edge
    refused_value({"a": (1 << 53) + 1}, "M-4")
    refused_value({"a": 1.5}, "M-4")
    refused_value({"a": b"bytes"}, "M-4")
    refused_value({"a": (1, 2)}, "M-4")
    refused_bytes(b'{"a":9007199254740993}', "M-4")


@pytest.mark.parametrize(
    "text", ["http://x", "s3://b/k", "/etc/passwd", "~/x", "../x", "..", "\\\\host\\share", "a://b"]
)
def test_m5_nothing_that_looks_like_a_path_or_url(text: str) -> None:
    refused_value({"a": text}, "M-5")
    refused_value({text: 1}, "M-5")
    refused_value({"a": [{"b": text}]}, "M-5")
    refused_bytes(json.dumps({"a": text}, separators=(",", ":")).encode(), "M-5")


def values() -> st.SearchStrategy[Any]:
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(
        lambda text: "://" not in text and not text.startswith(("/", "~", "..", "\\"))
    )
    leaves = st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | texts

    def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)

    return st.dictionaries(texts, st.recursive(leaves, nested, max_leaves=10), max_size=4)


@given(values())
def test_metadata_round_trips_in_one_spelling(value: dict[str, Any]) -> None:
    data = encode_metadata(value)
    assert decode_metadata(data) == value
    assert encode_metadata(decode_metadata(data)) == data


@given(st.binary(max_size=60) | st.text('{}[]",:01-.eE\\ua ', max_size=60).map(str.encode))
def test_any_bytes_give_metadata_or_a_format_error(data: bytes) -> None:
    try:
        found = decode_metadata(data)
    except FormatError as error:
        assert error.rule is not None and error.rule.startswith("M-")
    else:
        assert encode_metadata(found) == data
