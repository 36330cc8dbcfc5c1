"""The v3 page, its vectors and the reader say the same. Each test says what would turn it red."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emm
from emm.errors import FormatError, LimitError, NotEmmError, TruncatedError
from emm.v3 import layout
from emm.v3.cell import recall
from emm.v3.codec import decode_v3, decode_v3_header
from emm.v3.file import read_v3_file
from emm.vfs.local import LocalDirectory
from spec.vectors.case import CLEAN
from spec.vectors.cell import Mlstm, patched, with_crc
from spec.vectors.v3 import V3_MANIFEST, cases, written

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "spec" / "emm-v3.md").read_text(encoding="utf-8")
COMMITTED = json.loads(V3_MANIFEST.read_text(encoding="utf-8"))["cases"]
CASES = {case.name: case for case in cases()}
GOOD = [entry for entry in COMMITTED if entry["verdict"] == CLEAN]
BAD = [entry for entry in COMMITTED if entry["verdict"] != CLEAN]
RULES = set(re.findall(r"^- \*\*(V3-\d+)\*\*", PAGE, re.MULTILINE))

# Rules that no file breaks: what a writer did, what a reader answers, how one is upgraded, what a process allows.
NOT_IN_BYTES = {"V3-8", "V3-11", "V3-12", "V3-13", "V3-14", "V3-15", "V3-16", "V3-17"}


def name(entry: dict[str, Any]) -> str:
    return str(entry["name"])


# --- the page ------------------------------------------------------------------------------------


def test_the_layout_is_on_the_page() -> None:
    """Red when a field or flag changes without the page."""
    assert f"`V3Header`, {layout.V3_HEADER.size} bytes:" in PAGE
    for field in layout.V3_HEADER.fields:
        assert f"`{field.name}` | {field.meaning} |" in PAGE
    for flag in layout.V3Flag:
        assert f"| {flag.value} | `{flag.name}` | {layout.V3_FLAG_MEANINGS[flag]} |" in PAGE


def test_rules_are_dense_and_every_one_that_is_cited_exists() -> None:
    """Red when a rule is dropped from the page, or an error cites one that is not there."""
    assert sorted(int(rule[3:]) for rule in RULES) == list(range(1, len(RULES) + 1))
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "emm").rglob("*.py")]
    cited = {rule for source in sources for rule in re.findall(r'"(V3-\d+)"', source)}
    assert cited and cited <= RULES


def test_every_rule_has_a_test() -> None:
    """Red when a rule is added without a test that carries its name, or a test's rule is gone."""
    sources = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/v3/test_*.py"))
    tested = {f"V3-{number}" for number in re.findall(r"def test_v3_(\d+)_", sources)}
    broken = {entry["rule"] for entry in BAD}
    assert tested <= RULES and RULES - tested - broken == set()
    assert RULES - broken == NOT_IN_BYTES, "a rule that bytes can break has no vector"


# --- the vectors ---------------------------------------------------------------------------------


def test_recipes_give_what_is_committed() -> None:
    """Red when the writer or a recipe gives other bytes than the manifest states."""
    assert [case.entry() for case in CASES.values()] == COMMITTED


@pytest.mark.parametrize("entry", GOOD, ids=name)
def test_v3_12_the_reader_answers_as_the_recurrence_does(entry: dict[str, Any]) -> None:
    """Red when the factor 1/√d, the stabilisation or the length of a key is taken otherwise than it was written."""
    data = CASES[entry["name"]].data
    assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"])
    found = recall(decode_v3(data), entry["queries"])
    wanted = np.array(entry["answers"])
    assert np.abs(found - wanted).max() <= 1e-5 * max(np.abs(wanted).max(), 1e-30)


@pytest.mark.parametrize("entry", BAD, ids=name)
def test_broken_files_are_refused_with_rule_and_offset(entry: dict[str, Any]) -> None:
    """Red when a broken file is read, or the error names another rule or byte."""
    with pytest.raises(FormatError) as caught:
        decode_v3(CASES[entry["name"]].data)
    assert (caught.value.rule, caught.value.offset) == (entry["rule"], entry["offset"])
    assert caught.value.exit_code == entry["exit_code"]


def test_both_places_of_the_factor_differ_by_the_root_of_d_and_answer_alike() -> None:
    """Red when one of the two public conventions is read as the other: the answers would differ by up to √d."""
    for pair in ("one-pair", "some-pairs", "thousands", "forgetting"):
        on_key, on_query = decode_v3(CASES[pair].data), decode_v3(CASES[f"{pair}-query"].data)
        root = np.sqrt(on_key.dim)
        np.testing.assert_allclose(on_query.matrix, on_key.matrix * root, rtol=3e-7, atol=1e-12)
        np.testing.assert_allclose(on_query.normaliser, on_key.normaliser * root, rtol=3e-7, atol=1e-12)
        queries = np.random.default_rng(1).standard_normal((50, on_key.dim))
        first, second = recall(on_key, queries), recall(on_query, queries)
        assert np.abs(first - second).max() <= 1e-5 * np.abs(first).max()


# --- hostile bytes -------------------------------------------------------------------------------


def test_every_flipped_bit_is_noticed() -> None:
    """Red when a byte of the file is outside the checksum."""
    data = written(5, 4).bytes()
    for place in range(len(data)):
        for bit in range(8):
            bad = data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
            with pytest.raises(FormatError):
                decode_v3(bad)


def test_v3_2_every_cut_is_called_truncated() -> None:
    """Red when a file that lost its end is called anything else, or raises something that is no EmmError."""
    data = written(5, 4).bytes()
    for length in range(8, len(data)):
        with pytest.raises(TruncatedError) as caught:
            decode_v3(data[:length])
        assert caught.value.rule == "V3-2"
    for length in range(8):
        with pytest.raises(NotEmmError):
            decode_v3(data[:length])


def test_v3_8_a_forged_size_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    """Red when dim is believed before it is compared with the file's length, or a large file is read first."""
    bomb = patched(Mlstm(16).bytes(), 16, struct.pack("<I", 65535))
    with pytest.raises(TruncatedError):
        decode_v3(bomb)
    with pytest.raises(TruncatedError):
        decode_v3_header(bomb[:64], len(bomb))
    data = Mlstm(16).bytes()
    for read in (decode_v3, lambda whole, **limit: decode_v3_header(whole[:64], len(whole), **limit)):
        assert read(data, state_bytes_max=len(data)).dim == 16
        with pytest.raises(LimitError) as over:
            read(data, state_bytes_max=len(data) - 1)
        assert (over.value.rule, over.value.offset) == ("V3-8", 16)
    sparse = tmp_path / "sparse.v3"
    with sparse.open("wb") as file:
        file.write(bomb[:64])
        file.truncate(layout.v3_file_bytes(65535))
    with pytest.raises(LimitError) as caught:
        read_v3_file(LocalDirectory(tmp_path), sparse.name)
    assert caught.value.rule == "V3-8"
    with pytest.raises(LimitError):
        emm.open(sparse)


def test_random_bytes_behind_the_magic_give_one_clear_error() -> None:
    """Red when some header makes the reader raise anything but a FormatError."""
    draw = np.random.default_rng(5)
    for _ in range(2000):
        body = draw.bytes(int(draw.integers(0, 400)))
        data = layout.V3_MAGIC + body
        for each in (data, with_crc(data) if len(data) >= 64 else data):
            with pytest.raises(FormatError):
                decode_v3(each)


@pytest.mark.skipif(shutil.which("file") is None, reason="needs file(1)")
def test_file_1_tells_a_v3_file(tmp_path: Path) -> None:
    """Red when the description of file(1) has another magic or another place for dim than the layout."""
    for case, where in (("one-pair", "the stored key"), ("one-pair-query", "the query")):
        path = tmp_path / case
        path.write_bytes(CASES[case].data)
        command = ["file", "-b", "-m", str(ROOT / "spec" / "emm.magic"), str(path)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        assert told == f"EMM v3 matrix cell, version 3, dim 16, 1/sqrt(d) on {where}"
