"""Whatever is wrong with what a person gives, they get one sentence and a documented exit code, never a traceback.

Red when: a check in `pairs_input` is dropped, an exception escapes `OneSentence`, a message loses the line or row, or
a refused batch is written in part.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import emm

KEY = [0.1] * 24
VALUE = [0.5] * 12


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


GOOD = line(key=KEY, value=VALUE)

BAD_LINES = {
    "not JSON": (b"{oops\n", "line 2 is not JSON"),
    "not UTF-8": (b"\xff\xfe\n", "line 2 is not JSON"),
    "a list": (b"[1, 2]\n", "line 2: expected an object with key and value"),
    "no value": (line(key=KEY), 'line 2 has no "value"'),
    "short key": (line(key=KEY[1:], value=VALUE), 'line 2: "key" has 23 numbers, expected 24'),
    "long value": (line(key=KEY, value=[*VALUE, 1.0]), 'line 2: "value" has 13 numbers, expected 12'),
    "text for a number": (line(key=["1", *KEY[1:]], value=VALUE), 'line 2: "key" must be a list of numbers'),
    "true for a number": (line(key=[True, *KEY[1:]], value=VALUE), 'line 2: "key" must be a list of numbers'),
    "null": (line(key=None, value=VALUE), 'line 2: "key" must be a list of numbers'),
    "NaN": (b'{"key": [NaN], "value": [1]}\n', "line 2 is not JSON: NaN is not a finite number"),
    "infinity": (line(key=KEY, value=[1e999, *VALUE[1:]]), "line 2 is not JSON: Infinity is not a finite number"),
    "beyond float32": (line(key=[1e39, *KEY[1:]], value=VALUE), 'line 2: "key" has a number beyond float32'),
    "beyond float64": (b'{"key": [1' + b"0" * 400 + b"], %s\n" % b'"value": [1]}', 'line 2: "key" has 1 numbers'),
    "huge integer": (line(key=[10**400, *KEY[1:]], value=VALUE), 'line 2: "key" has a number beyond float32'),
    "unknown field": (line(key=KEY, value=VALUE, weight=2), 'line 2: unexpected field "weight"'),
    "field twice": (b'{"key": [1], "key": [1], "value": [1]}\n', "a field occurs twice"),
    "deeply nested": (b"[" * 100_000 + b"\n", "line 2 is not JSON"),
    "gate out of range": (line(key=KEY, value=VALUE, write_gate=0), "write_gate"),
    "gate of text": (line(key=KEY, value=VALUE, decay_gate="1"), 'line 2: "decay_gate" must be a list of numbers'),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_bad_line_is_named_and_nothing_of_its_batch_is_written(name: str, run, memory: Path) -> None:
    bad, expected = BAD_LINES[name]
    ended = run("emm", "write", memory, stdin=GOOD + bad + GOOD)
    assert ended.code == 2
    assert expected in ended.sentence()
    assert ended.out == ""
    with emm.open(memory) as opened:
        assert opened.lsn == 0


def test_what_was_durable_before_a_bad_line_is_said(run, memory: Path) -> None:
    ended = run("emm", "write", memory, "--batch", 1, stdin=GOOD + GOOD + b"{}\n")
    assert ended.code == 2
    assert "line 3" in ended.sentence() and "(2 pairs before it are durable, up to LSN 2)" in ended.err
    assert len(ended.out.splitlines()) == 2
    with emm.open(memory) as opened:
        assert opened.lsn == 2


def test_what_the_library_refuses_names_the_lines_and_what_is_durable(run, memory: Path) -> None:
    bad = line(key=KEY, value=VALUE, write_gate=1000)
    ended = run("emm", "write", memory, "--batch", 2, stdin=GOOD + GOOD + GOOD + bad)
    assert ended.code == 2
    assert "in lines 3 to 4 (2 pairs before it are durable, up to LSN 1)" in ended.sentence()


def test_recall_refuses_a_value_on_a_line(run, memory: Path) -> None:
    ended = run("emm", "recall", memory, stdin=GOOD)
    assert ended.code == 2 and 'unexpected field "value"' in ended.sentence()


@pytest.mark.parametrize(
    ("keys", "values", "expected"),
    [
        (np.zeros((3, 24)), np.zeros((2, 12)), "has 3 rows but"),
        (np.zeros(24), np.zeros((1, 12)), "shape (24,), expected (n, width)"),
        (np.zeros((2, 24), np.int64), np.zeros((2, 12)), "has dtype int64"),
        (np.array([["a", "b"]]), np.zeros((1, 12)), "has dtype <U1"),
        (np.array([[0.0] * 24, [np.nan] * 24]), np.zeros((2, 12)), "row 1 has a NaN"),
        (np.array([[1e300] * 24]), np.zeros((1, 12)), "row 0 has a NaN, an infinity or a number beyond float32"),
        (np.zeros((2, 23), np.float32), np.zeros((2, 12)), "keys"),
    ],
)
def test_bad_arrays(keys: np.ndarray, values: np.ndarray, expected: str, run, memory: Path, npy) -> None:
    ended = run("emm", "write", memory, "--keys", npy("k", keys), "--values", npy("v", values))
    assert ended.code == 2 and expected in ended.sentence()


@pytest.mark.parametrize(
    "data", [b"", b"\x93NUMPY", b"not numpy", b"PK\x03\x04", np.lib.format.magic(9, 9), b"\x80\x04K\x01."]
)
def test_a_file_that_is_no_npy(data: bytes, run, memory: Path, tmp_path: Path) -> None:
    path = tmp_path / "k.npy"
    path.write_bytes(data)
    ended = run("emm", "recall", memory, "--keys", path)
    assert ended.code == 2 and "k.npy" in ended.sentence()


def test_a_npy_header_that_promises_terabytes_allocates_nothing(run, memory: Path, tmp_path: Path) -> None:
    path = tmp_path / "k.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 24)})
    ended = run("emm", "recall", memory, "--keys", path)
    assert ended.code == 2 and "not a whole .npy file" in ended.sentence()


@pytest.mark.parametrize(
    "header",
    [
        "(((",
        "{b'a",
        "{[]: 1}",
        "{1: 2, 'descr': 3}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 24)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000000000000, 24)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "-" * 9000 + "1, 24)}",
        "{'descr': ',,,f4', 'fortran_order': False, 'shape': (1, 24)}",
    ],
    ids=lambda header: header[:40],
)
def test_whatever_is_in_a_npy_header_ends_in_a_sentence(header: str, run, memory: Path, tmp_path: Path) -> None:
    """NumPy's parser raises TokenError, TypeError, OverflowError, MemoryError: told as internal errors once.

    Red when `load_array` names the exceptions it expects.
    """
    path = tmp_path / "k.npy"
    path.write_bytes(np.lib.format.magic(1, 0) + len(header).to_bytes(2, "little") + header.encode() + bytes(4096))
    ended = run("emm", "recall", memory, "--keys", path)
    assert ended.code == 2 and "not a whole .npy file" in ended.sentence()


def test_a_pickle_in_a_npy_is_never_loaded(run, memory: Path, npy) -> None:
    ended = run("emm", "recall", memory, "--keys", npy("k", np.array([[{"a": 1}]], dtype=object)))
    assert ended.code == 2 and "not a whole .npy file" in ended.sentence()


@pytest.mark.parametrize(
    ("program", "arguments", "code"),
    [
        ("emm", ["recall", "{missing}"], 10),
        ("emm", ["write", "{missing}"], 10),
        ("emm", ["checkpoint", "{missing}"], 10),
        ("emm", ["merge", "{missing}", "--into", "{new}"], 10),
        ("emm", ["create", "{memory}", "--dim", "4", "--rank", "16", "--key-dim", "16"], 2),
        ("emm", ["create", "{new}", "--dim", "4", "--rank", "17", "--key-dim", "32"], 2),
        ("emm", ["create", "{new}", "--dim", "4", "--rank", "64", "--key-dim", "32"], 2),
        ("emm", ["create", "{new}", "--dim", "4", "--rank", "16", "--key-dim", "16", "--metadata", "{"], 2),
        ("emm", ["create", "{new}", "--dim", "4", "--rank", "16", "--key-dim", "16", "--metadata", "[1]"], 2),
        ("emm", ["create", "{new}", "--dim", "4", "--rank", "16", "--key-dim", "16", "--metadata", "[" * 99999], 2),
        ("emm", ["create", "{new}", "--dim", "99999999", "--rank", "16", "--key-dim", "16"], 2),
        ("emm", ["create", "{new}", "--dim", "4", "--rank", "16", "--key-dim", "16", "--ridge", "nan"], 2),
        ("emm", ["create", "{new}", "--dim", "4", "--rank", "16", "--key-dim", "16", "--seed", str(1 << 70)], 2),
        ("emm", ["expand", "{memory}", "--rank", "16"], 2),
        ("emm", ["merge", "{memory}", "--into", "{memory}"], 2),
        ("emm", ["ask", "{missing}", "why?"], 10),
        ("emm", ["tree", "{missing}"], 10),
        ("emm-inspect", ["{missing}"], 10),
        ("emm-verify", ["--level", "blocks", "{missing}"], 10),
    ],
)
def test_refusals_are_one_sentence(program: str, arguments: list[str], code: int, run, memory: Path) -> None:
    places = {"memory": memory, "missing": memory.parent / "missing", "new": memory.parent / "new"}
    ended = run(
        program,
        *(argument.format(**places) if "{" in argument[:1] and "}" in argument else argument for argument in arguments),
    )
    assert ended.code == code, ended
    if program != "emm-verify":
        assert ended.sentence()
    assert "Traceback" not in ended.out + ended.err
    assert not (memory.parent / "new").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["emm"],
        ["emm", "nonsense"],
        ["emm", "create", "x"],
        ["emm", "create", "x", "--dim", "a", "--rank", "16", "--key-dim", "16"],
        ["emm", "write", "x", "--keys", "nowhere.npy"],
        ["emm", "demo", "--docs", "nowhere"],
        ["emm-verify"],
        ["emm-verify", "--level", "deep", "x"],
        ["emm-inspect", "x", "--picture", "x.gif"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str], run) -> None:
    ended = run(*arguments)
    assert ended.code == 2
    assert "Usage:" in ended.err + ended.out and "Traceback" not in ended.err


@given(data=st.binary(max_size=200))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_on_stdin_end_in_a_sentence(data: bytes, run, memory: Path) -> None:
    ended = run("emm", "recall", memory, stdin=data)
    assert ended.code in (0, 2)
    assert "Traceback" not in ended.err and ended.err.count("\n") == (ended.code == 2)
