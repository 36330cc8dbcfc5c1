"""`emm upgrade`, other commands on v3 files, and `emm bench upgrade`. Each test says what would turn it red."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import emm
from emm.testing.keys import text_like_keys, unit_values
from emm_tools.bench_pages import marks
from emm_tools.pictures import gather
from spec.vectors.cell import Mlstm, patched

DIM, N = 20, 8


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    return text_like_keys(N, DIM, 2), unit_values(N, DIM, 2)


@pytest.fixture
def cell(tmp_path: Path, pairs: tuple[np.ndarray, np.ndarray]) -> Path:
    """A v3 file with these pairs."""
    made = Mlstm(DIM)
    for key, value in zip(*pairs, strict=True):
        made.write(key, value)
    path = tmp_path / "cell.v3"
    path.write_bytes(made.bytes())
    return path


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(run, cell: Path, tmp_path: Path) -> None:
    """Red when --dry-run makes a directory, or leaves out the rule that the memory will run."""
    ended = run("emm", "upgrade", cell, tmp_path / "new", "--dry-run")
    assert ended.code == 0 and ended.err == ""
    assert "would make" in ended.out and "rule preconditioned" in ended.out and "nothing was written" in ended.out
    assert os.listdir(tmp_path) == ["cell.v3"]


def test_an_upgrade_is_published_and_the_second_one_says_that_it_is_done(run, cell: Path, tmp_path: Path) -> None:
    """Red when the digest told is not the memory's, or a second upgrade fails, writes or is silent."""
    before = cell.read_bytes()
    first = run("emm", "upgrade", cell, tmp_path / "new")
    with emm.open(tmp_path / "new") as memory:
        assert first.code == 0 and memory.digest in first.out
    listing = sorted(os.listdir(tmp_path / "new"))
    again = run("emm", "upgrade", cell, tmp_path / "new")
    assert again.code == 0 and "nothing to do" in again.out
    assert sorted(os.listdir(tmp_path / "new")) == listing and cell.read_bytes() == before
    found = json.loads(run("emm", "upgrade", cell, tmp_path / "new", "--json").out)
    assert found["done"] and found["rule"] == "preconditioned" and found["rank"] == 32


def test_pairs_come_as_lines_or_as_arrays(run, cell: Path, pairs, npy: Callable[..., Path], tmp_path: Path) -> None:
    """Red when the two ways to give pairs make different memories, or the count is not told."""
    keys, values = pairs
    lines = tmp_path / "pairs.jsonl"
    with lines.open("w", encoding="utf-8") as file:
        for key, value in zip(keys.tolist(), values.tolist(), strict=True):
            file.write(json.dumps({"key": key, "value": value}) + "\n")
    one = run("emm", "upgrade", cell, tmp_path / "one", "--pairs", lines)
    two = run(
        "emm",
        "upgrade",
        cell,
        tmp_path / "two",
        "--keys",
        npy("keys", keys),
        "--values",
        npy("values", values),
        "--json",
    )
    assert one.code == two.code == 0 and "8 original pairs" in one.out
    found = json.loads(two.out)
    assert found["digest"] in one.out and found["pairs"] == N and found["related"] > 0.99


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["{cell}", "{cell}"], 2, "not a directory"),
        (["{tmp}", "{tmp}/new"], 2, "a directory, not a v3 file"),
        (["{tmp}/nothing", "{tmp}/new"], 10, "no such file"),
        (["{text}", "{tmp}/new"], 5, "V3-1"),
        (["{damaged}", "{tmp}/new"], 4, "V3-3"),
        (["{future}", "{tmp}/new"], 5, "V3-4"),
        (["{cell}", "{tmp}/new", "--pairs", "{text}"], 2, "line 1 is not JSON"),
        (["{cell}", "{tmp}/new", "--pairs", "{empty}"], 2, "holds no pairs"),
        (["{cell}", "{tmp}/new", "--keys", "{keys}", "--values", "{strangers}"], 2, "V3-16"),
        (["{cell}", "{tmp}/new", "--keys", "{keys}", "--values", "{strangers}", "--dry-run"], 2, "V3-16"),
    ],
)
def test_a_refusal_is_one_sentence_with_its_code(
    run, cell: Path, pairs, npy: Callable[..., Path], tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    """Red when bad input ends in a traceback, another code, or a directory left behind."""
    data = cell.read_bytes()
    (tmp_path / "text").write_text("not ours", encoding="utf-8")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "damaged").write_bytes(data[:200] + bytes([data[200] ^ 4]) + data[201:])
    (tmp_path / "future").write_bytes(patched(data, 8, b"\x09"))
    places = {name: str(tmp_path / name) for name in ("text", "empty", "damaged", "future")}
    places |= {"cell": str(cell), "tmp": str(tmp_path), "keys": str(npy("keys", pairs[0]))}
    places["strangers"] = str(npy("strangers", unit_values(N, DIM, 77)))
    ended = run("emm", "upgrade", *(argument.format(**places) for argument in arguments))
    assert ended.code == code and says in ended.sentence()
    assert not (tmp_path / "new").exists()


def test_options_that_do_not_go_together_are_usage(run, cell: Path, npy: Callable[..., Path], tmp_path: Path) -> None:
    """Red when half of the pairs, or two kinds of them, are taken in silence."""
    keys = npy("keys", np.ones((1, DIM), np.float32))
    assert run("emm", "upgrade", cell, tmp_path / "new", "--keys", keys).code == 2
    both = ["--pairs", cell, "--keys", keys, "--values", keys]
    assert run("emm", "upgrade", cell, tmp_path / "new", *both).code == 2


def test_other_commands_take_v3_files(run, cell: Path, pairs, npy: Callable[..., Path]) -> None:
    """Red when recall of a v3 file writes, or write does not go on in the memory beside it."""
    keys, values = (npy(name, array) for name, array in zip(("keys", "values"), pairs, strict=True))
    recalled = run("emm", "recall", cell, "--keys", keys)
    assert recalled.code == 0 and "v3 file" in recalled.err and recalled.out.count("\n") == N
    assert not Path(f"{cell}.v4").exists()
    assert run("emm", "write", cell, "--keys", keys, "--values", values).out == '{"lsn": 1, "pairs": 8}\n'
    assert run("emm", "write", cell, "--keys", keys, "--values", values).out == '{"lsn": 2, "pairs": 8}\n'
    assert run("emm-verify", f"{cell}.v4", "--level", "numeric").code == 0
    shown = run("emm-inspect", cell)
    assert shown.code == 0 and "C, 20 × 20" in shown.out and shown.out.count("\n") <= 10 and "None" not in shown.out


@pytest.mark.parametrize("command", ["write", "unlearn", "forget"])
def test_a_memory_is_published_beside_the_file_only_for_something_to_do(
    run, cell: Path, npy: Callable[..., Path], command: str
) -> None:
    """Red when a command that is given nothing, or what cannot fit, leaves a v4 memory beside the v3 file."""
    before = cell.read_bytes()
    values = [] if command == "forget" else ["--values", npy("values", np.ones((1, DIM), np.float32))]
    for given, code in ((b"", 0), (b"\n\n", 0), (b'{"key": [1]}\n', 2), (b"not JSON\n", 2)):
        ended = run("emm", command, cell, stdin=given)
        assert (ended.code, ended.out) == (code, "") and os.listdir(cell.parent).count("cell.v3.v4") == 0
    assert run("emm", command, cell, "--keys", npy("narrow", np.ones((1, 5), np.float32)), *values).code == 2
    assert not Path(f"{cell}.v4").exists() and cell.read_bytes() == before


def test_lines_after_the_first_batch_are_written_too(run, cell: Path) -> None:
    """Red when the look at what there is to do swallows a batch, or counts it twice."""
    line = json.dumps({"key": [1.0] * DIM}).encode() + b"\n"
    ended = run("emm", "forget", cell, "--batch", 2, stdin=5 * line)
    assert [json.loads(each)["pairs"] for each in ended.out.splitlines()] == [2, 2, 1] and Path(f"{cell}.v4").is_dir()


def test_quiet_says_nothing_of_a_whole_v3_file(run, cell: Path) -> None:
    """Red when a nightly check mails that a file is whole."""
    assert run("emm-verify", "-q", cell.parent).out == ""
    assert run("emm-verify", "-q", cell, "--against", cell).out == ""
    cell.write_bytes(cell.read_bytes() + b"x")
    assert "v3-damaged" in run("emm-verify", "-q", cell.parent).out


def test_what_was_checked_of_v3_files_is_counted_by_name(run, cell: Path, tmp_path: Path) -> None:
    """Red when a summary or an overview says that nothing was checked."""
    one = run("emm-verify", cell)
    assert one.out.startswith(f"clean: {cell} (1 v3 file, 1.7 KiB read)")
    (tmp_path / "copy.v3").write_bytes(cell.read_bytes())
    many = run("emm-verify", tmp_path)
    assert "checked   2 v3 files\n" in many.out and "nothing" not in many.out
    assert json.loads(run("emm-verify", tmp_path, "--json").out)["coverage"]["v3_files"] == 2
    assert "checked     1 v3 file, 1.7 KiB read: clean" in run("emm-inspect", cell).out
    page = tmp_path / "page.html"
    assert run("emm-inspect", cell, "--html", page).code == 0 and "1 v3 file checked" in page.read_text("utf-8")


def test_pictures_of_a_v3_file_say_what_it_has_not(run, cell: Path, tmp_path: Path) -> None:
    """matplotlib warned of a legend without artists, and the page spoke of commit None. Red when either is back, or M
    of a v3 file is not drawn."""
    page, picture = tmp_path / "page.html", tmp_path / "sheet.svg"
    ended = run("emm-inspect", cell, "--html", page, "--picture", picture)
    assert (ended.code, ended.err) == (0, "")
    assert "None" not in page.read_text("utf-8") and picture.stat().st_size > 1000
    sources = gather(str(cell), emm.inspect(cell, state=True))
    assert sources.spectrum is not None and sources.heat is not None and sources.heat.n_rows == DIM


@pytest.mark.parametrize("view", ["journal", "generations", "header", "blocks", "spectrum"])
def test_a_view_that_a_v3_file_has_not_is_refused(run, cell: Path, view: str) -> None:
    """Red when `journal` or `generations` of a v3 file shows an empty list, as if the file had one."""
    ended = run("emm-inspect", cell, view)
    assert (ended.code, ended.out) == (5, "") and "no view but the overview" in ended.sentence()


def test_the_bench_prints_what_it_measures(run, tmp_path: Path) -> None:
    """Red when a way is left out, the text differs from --json, or a page without marks is written."""
    asked = ["bench", "upgrade", "--shape", "32,8"]
    rows = [json.loads(line) for line in run("emm", *asked, "--json").out.splitlines()]
    kept = [row for row in rows if row["table"] == "kept"]
    assert len(kept) == 3 and min(row["cosine_min"] for row in kept) >= 0.9999
    assert {row["n_written"] for row in rows if row["table"] == "survival"} == {0, 64, 512}
    page = tmp_path / "page.md"
    page.write_text("\n".join(marks("emm bench upgrade")), encoding="utf-8")
    text = run("emm", *asked, "--write", page).out
    assert text.rstrip("\n") in page.read_text(encoding="utf-8")
    for row in rows:
        if row["table"] == "survival":
            new = "" if row["new"] is None else f" / {row['new']:.2f}"
            assert f"{row['old']:.2f}{new}" in text
    assert run("emm", "bench", "upgrade", "--shape", "32").code == 2
