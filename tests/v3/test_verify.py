"""emm-verify and emm-inspect know v3 files. Each test says what would turn it red."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

import fsspec
import pytest

import emm
from emm.verify import Request, Scrub, Target, v3
from spec.vectors.case import CLEAN, LOSS, REFUSED
from spec.vectors.v3 import V3Case, cases
from tests.v3.conftest import Lab

CODES = {CLEAN: "v3-file", LOSS: "v3-damaged", REFUSED: "unsupported"}


def damage(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x11
    path.write_bytes(data)


LEVELS = ("header", "table", "blocks", "replay", "numeric")


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_v3_17_a_check_gives_the_manifests_verdict_and_writes_nothing(case: V3Case, tmp_path: Path) -> None:
    """Red when a broken v3 file is called clean or foreign, or a check upgrades."""
    path = tmp_path / "old.emm"
    path.write_bytes(case.data)
    for level in LEVELS[1:]:
        report = emm.verify(path, level)
        assert (report.verdict, report.exit_code) == (case.verdict, case.entry()["exit_code"])
        first = report.findings[0]
        if case.rule == "V3-1":  # to a v4 checker such a file is foreign
            assert first.code == "not-emm"
        else:
            assert (first.rule, first.offset) == (case.rule, case.offset)
            assert first.code == CODES[case.verdict]
    assert os.listdir(tmp_path) == ["old.emm"] and path.read_bytes() == case.data
    assert emm.verify(tmp_path, "numeric").exit_code == case.entry()["exit_code"]  # found in a tree, too


def test_level_header_reads_64_bytes(lab: Lab) -> None:
    """Red when the shallow level reads the arrays, or believes a length that the file has not."""
    report = emm.verify(lab.path, "header")
    assert report.verdict == "clean" and report.coverage.bytes_read == 64 and not report.coverage.complete
    with lab.path.open("ab") as file:
        file.write(b"x")
    assert emm.verify(lab.path, "header").verdict == LOSS


def test_a_large_file_is_over_the_limit(lab: Lab) -> None:
    """Red when verify reads more than it was allowed."""
    report = emm.verify(lab.path, "numeric", state_bytes_max=1000)
    assert (report.verdict, report.findings[0].code, report.findings[0].rule) == ("refused", "over-limit", "V3-8")


def test_inspect_shows_the_cell(lab: Lab) -> None:
    """Red when inspect refuses a v3 file, or measures another state than open gives."""
    found = emm.inspect(lab.path, state=True)
    assert found.kind == "v3 file" and found.shape is not None and found.state is not None
    assert (found.shape.dim, found.shape.flags) == (40, ())
    assert [(each.name, each.offset, each.n_rows, each.n_columns) for each in found.regions] == [
        ("C", 64, 40, 40),
        ("n", 64 + 6400, 1, 40),
    ]
    with emm.open(lab.path) as memory:
        assert found.state.digest == memory.digest
    assert emm.verify(lab.path).verdict == CLEAN


# --- in trees ---------------------------------------------------------------------------------------


def test_a_walk_finds_v3_files_and_checks_each_to_the_level_asked(lab: Lab, tmp_path: Path) -> None:
    """Red when a tree of v3 files is called empty, or passed over beside memories."""
    deep = tmp_path / "old" / "cells"
    deep.mkdir(parents=True)
    shutil.move(lab.path, deep / "one.v3")
    emm.create(tmp_path / "old" / "memory", dim=4, rank=16, key_dim=16).close()
    shutil.copy(deep / "one.v3", tmp_path / "old" / "memory" / "two.v3")
    for level, n_bytes in (("header", 64), ("numeric", (deep / "one.v3").stat().st_size)):
        report = emm.verify(tmp_path, level)
        kinds = [(each.kind, Path(each.url).name) for each in report.targets]
        assert kinds == [("v3", "one.v3"), ("memory", "memory"), ("v3", "two.v3")] and report.verdict == CLEAN
        assert report.coverage.v3_files == 2 and report.targets[0].coverage.bytes_read == n_bytes
        assert [each.code for each in report.findings] == ["v3-file", "other-file", "v3-file"]
    damage(deep / "one.v3", 200)
    assert emm.verify(tmp_path).exit_code == 4


def test_a_v3_file_on_an_object_store_is_found(lab: Lab) -> None:
    """Red when only local walks know the ending."""
    root = f"/{uuid.uuid4().hex}"
    fsspec.filesystem("memory").pipe_file(f"{root}/cells/one.v3", lab.path.read_bytes())
    (only,) = emm.verify(f"memory:/{root}").targets
    assert (only.kind, str(only.verdict)) == ("v3", CLEAN)


def test_what_is_called_v3_and_is_not_says_so(tmp_path: Path) -> None:
    """Red when such a file is called a damaged snapshot, a link is followed, or either is passed over."""
    (tmp_path / "letter.v3").write_text("Dear Sir")
    (tmp_path / "empty.v3").touch()
    (tmp_path / "link.v3").symlink_to("letter.v3")
    report = emm.verify(tmp_path)
    found = [(each.code, each.rule, Path(each.file or "").name) for each in report.findings]
    assert found == [
        ("not-regular", None, "link.v3"),
        ("not-emm", "V3-1", "empty.v3"),
        ("not-emm", "V3-1", "letter.v3"),
    ]
    with emm.create(tmp_path / "m", dim=4, rank=16, key_dim=16):
        pass
    snapshot = tmp_path / "snapshot.v3"
    shutil.copy(tmp_path / "m" / "0000000000000001.emm", snapshot)
    assert [each.kind for each in emm.verify(snapshot).targets] == ["snapshot"]


def test_a_large_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    """Red when what is only called .v3 is read whole, or called a v3 file that is too large."""
    with (tmp_path / "film.v3").open("wb") as file:
        file.truncate(3 << 30)
    report = emm.verify(tmp_path)
    assert [each.code for each in report.findings] == ["not-emm"] and report.coverage.bytes_read == 64


def test_bytes_of_a_damaged_file_count_as_read(lab: Lab) -> None:
    """Red when a file that was read whole and is damaged counts as nothing read."""
    damage(lab.path, 200)
    size, told = lab.path.stat().st_size, []
    report = emm.verify(lab.path, progress=lambda _, n: told.append(n))
    assert report.verdict == LOSS and report.coverage.v3_files == 1
    assert report.coverage.bytes_read == report.coverage.bytes_total == sum(told) == size


def test_a_paranoid_check_reads_it_twice_and_by_other_code(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when --paranoid reads single files once, or believes our own CRC-32."""

    def checked() -> Target:
        (only,) = Scrub(Request((str(lab.path),), paranoid=True)).run()
        return only

    assert checked().coverage.bytes_read == 2 * lab.path.stat().st_size and checked().verdict == CLEAN
    with monkeypatch.context() as other:
        other.setattr(v3, "other_crc32", lambda: lambda data: 0)
        assert "other code" in checked().findings[0].message
    decode, calls = v3.decode_v3, []

    def moody(data: bytes, **limits: int) -> object:
        calls.append(data)
        return decode(data if len(calls) != 2 else data[:-1] + b"\x01", **limits)

    monkeypatch.setattr(v3, "decode_v3", moody)
    assert [each.code for each in checked().findings] == ["v3-file", "v3-damaged", "reading-differs"]
