"""`emm bench capacity | growth | kernel | replay` at small size: what is printed was measured. Timings gate nothing.

Red when: a table leaves out a row or a missed target, --json and the text disagree, a page is written without marks or
outside them, the figure is not drawn, or a growing dim makes a write cheaper per pair than a sixteenth of the line.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from emm.state import Parameters
from emm.storage.recovery import recover
from emm.testing import verify_bench
from emm.testing.growth import measure_growth
from emm.testing.replay_rate import make_journal, measure_replay
from emm.vfs.local import LocalDirectory
from emm_tools.bench_corpora import embeddings_below, texts_below
from emm_tools.bench_pages import marks

CAPACITY = ["bench", "capacity", "--rank", 16, "--load", 1, "--load", 4, "--dim", 32, "--writes", 200]
PNG = bytes.fromhex("89504e470d0a1a0a")


@pytest.fixture(autouse=True)
def without_corpora(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMM_DATA", raising=False)


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_capacity_prints_what_it_measures(run) -> None:
    rows = lines(run("emm", *CAPACITY, "--json").out)
    table = [row for row in rows if row["table"] == "capacity"]
    assert [(row["rule"], row["n_pairs"]) for row in table][:5] == [
        ("outer-product", 16),
        ("gated-delta", 16),
        ("preconditioned", 16),
        ("ridge limit", 16),
        ("mLSTM cell (v3)", 16),
    ]
    assert {row["keys"] for row in table} == {"isotropic", "text-like", "clustered"}
    text = run("emm", *CAPACITY).out
    for row in table:
        assert f"{row['top1']:.2f} ({row['top1_paraphrase']:.2f})" in text
    for target in (row for row in rows if row["table"] == "targets"):
        assert any(
            str(target["name"]) in line and ("NOT MET" not in line) == target["met"] for line in text.splitlines()
        )
    assert {row["table"] for row in rows} == {"capacity", "ridge", "rewrites", "exact", "endurance", "targets"}
    assert run("emm", *CAPACITY, "--seed", 5).out != text


def test_capacity_measures_the_keys_it_is_given(run, npy, tmp_path: Path) -> None:
    rows = np.random.default_rng(1).standard_normal((40, 24)).astype(np.float32)
    found = lines(run("emm", *CAPACITY, "--keys", npy("keys", rows), "--json").out)
    given = [row for row in found if row.get("keys") == "given"]
    assert {row["load"] for row in given} == {0.5, 1, 2}, "40 keys: loads 4 and 8 of rank 16 are left out"
    assert any(row["table"] == "targets" and "given keys" in row["where"] for row in found)
    few = run("emm", *CAPACITY, "--keys", npy("narrow", rows[:, :8]))
    assert few.code == 2 and "rank 16 is above the 8 numbers" in few.sentence()
    assert "rows of finite numbers" in run("emm", *CAPACITY, "--keys", npy("whole", rows.astype(int))).sentence()
    (tmp_path / "text.npy").write_text("no array")
    assert "not a .npy file" in run("emm", *CAPACITY, "--keys", tmp_path / "text.npy").sentence()


def test_growth_prints_every_size_and_draws_it(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emm_tools.bench_speed.RANKS", (16, 256))
    monkeypatch.setattr("emm_tools.bench_speed.DIMS", (128, 768))
    picture = tmp_path / "growth.png"
    rows = lines(run("emm", "bench", "growth", "--rounds", 1, "--picture", picture, "--json").out)
    assert {(row["rule"], row["dim"], row["rank"]) for row in rows} == {
        (rule, *shape) for rule in ("gated-delta", "preconditioned") for shape in ((768, 256), (768, 16), (128, 256))
    }
    assert picture.read_bytes().startswith(PNG) and picture.stat().st_size > 10_000
    assert all(row["us"] > 0 and row["machine"]["commit"] for row in rows)
    text = run("emm", "bench", "growth", "--rounds", 1).out
    assert "by rank, dim 768" in text and "by dim, rank 256" in text
    assert run("emm", "bench", "growth", "--picture", tmp_path / "growth.jpg").code == 2


def test_growth_line_goes_through_the_figure_at_768_by_256() -> None:
    rows = {(row.rule, row.dim, row.rank): row for row in measure_growth((16,), (128,), rounds=1)}
    for rule in ("gated-delta", "preconditioned"):
        middle, narrow = rows[rule, 768, 256], rows[rule, 128, 256]
        assert middle.line_us == pytest.approx(middle.us)
        assert narrow.line_us == pytest.approx(middle.us / 6)
        assert middle.ns_per_element == pytest.approx(1000 * middle.us / (768 * 256))


def test_kernel_prints_what_it_stores(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when the printed table is not the stored run, or a number of threads was not measured."""
    monkeypatch.setattr("emm_tools.bench_kernel.PAIRS", 256)  # first: a module that is imported later would keep it
    monkeypatch.setattr("emm.testing.kernel_bench.PAIRS", 256)
    monkeypatch.setattr("emm.testing.kernel_bench.SHAPES", ((48, 32), (32, 64)))
    store = tmp_path / "kernel.json"
    printed = run("emm", "bench", "kernel", "--rounds", 1, "--threads", 1, "--threads", 3, "--json", store).out
    assert [each["threads"] for each in json.loads(store.read_text())["runs"]] == [1, 3]
    assert printed.count("48 × 32") == printed.count("32 × 64") == 6 and "one thread ÷" in printed
    assert run("emm", "bench", "kernel", "--from", store).out == printed
    assert run("emm", "bench", "kernel", "--from", store, "--statistic", "minimum").out != printed
    refused = run("emm", "bench", "kernel", "--from", tmp_path / "nothing.json")
    assert refused.code == 2 and "nothing.json is not a run" in refused.sentence()


def test_the_kernel_page_shows_the_stored_run(run, tmp_path: Path) -> None:
    """Red when a figure on the page is not the one in docs/benchmarks/kernel.json."""
    folder = Path(__file__).parent.parent.parent / "docs" / "benchmarks"
    page = tmp_path / "kernel.md"
    page.write_text((folder / "kernel.md").read_text())
    run("emm", "bench", "kernel", "--from", folder / "kernel.json", "--write", page)
    assert page.read_text() == (folder / "kernel.md").read_text()


def test_replay_prints_a_row_for_each_size(run, tmp_path: Path) -> None:
    arguments = ["bench", "replay", "--pairs", 300, "--dim", 16, "--rank", 16, "--key-dim", 32, "--rounds", 1]
    arguments += ["--commit-pairs", 1, "--commit-pairs", 64, "--folder", tmp_path]
    rows = lines(run("emm", *arguments, "--json").out)
    assert [(row["commit_pairs"], row["n_pairs"]) for row in rows] == [(1, 300), (64, 300)]
    assert rows[0]["journal_mib"] > rows[1]["journal_mib"] > 300 * 48 * 4 / 2**20
    assert all(row["ratio"] > 0 and row["replay_rate"] > 0 and row["rss_mib"] >= 0 for row in rows)
    text = run("emm", *arguments).out
    assert "300 pairs, 16 × 16" in text and "ratio" in text
    assert list(tmp_path.iterdir()) == [], "the journals are removed"


def test_replayed_journal_holds_the_pairs(tmp_path: Path) -> None:
    """What is timed is the work it is said to be: every pair, in commits of that size, none in the snapshot."""
    make_journal(tmp_path / "memory", Parameters(16, 32, 16), 100, 7)
    recovered = recover(LocalDirectory(tmp_path / "memory"))
    assert (recovered.write_count, recovered.lsn, recovered.snapshot.lsn, recovered.clean) == (100, 15, 0, True)


def test_memory_of_replay_does_not_grow_with_the_journal(tmp_path: Path) -> None:
    """A list of the whole journal, or of one segment of 64 MiB, would show: the journal here is 144 MiB."""
    row = measure_replay(768, 768, 16, 24_000, 256, rounds=1, folder=tmp_path)
    assert row.journal_mib > 140 and row.rss_mib < 60


def test_a_page_is_written_between_its_marks_and_nowhere_else(run, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    begin, end = marks("emm bench capacity")
    page.write_text(f"# Prose\n\n{begin}\nold figures\n{end}\n\nMore prose.\n")
    for _ in range(2):
        text = run("emm", *CAPACITY, "--write", page).out
        assert page.read_text() == f"# Prose\n\n{begin}\n\n```text\n{text.rstrip()}\n```\n\n{end}\n\nMore prose.\n"
    other = tmp_path / "other.md"
    other.write_text("# Prose\n")
    refused = run("emm", *CAPACITY, "--write", other)
    assert refused.code == 2 and begin in refused.err and other.read_text() == "# Prose\n"


def test_corpora_become_unit_keys(tmp_path: Path) -> None:
    """The three formats, in small; a text given twice counts once."""
    for name in ("lab-notebook", "cranfield", "med"):
        (tmp_path / name).mkdir()
    entry = json.dumps({"title": "Growth of yeast", "text": "Colonies were counted after two days of incubation."})
    (tmp_path / "lab-notebook" / "entries.jsonl").write_text(f"{entry}\n{entry}\n")
    (tmp_path / "cranfield" / "cran.all.1400.xml").write_text(
        "<doc><docno>1</docno><title>x</title><text>\nlift of a slender wing in supersonic flow\n</text></doc>"
    )
    (tmp_path / "med" / "MED.ALL").write_text(".I 1\n.W\nrenal flow in the rat\n.I 2\n.W\nlens protein of the eye\n")
    assert len(list(texts_below(tmp_path))) == 5
    keys = embeddings_below(tmp_path)
    assert keys.shape[0] == 4 and np.allclose(np.linalg.norm(keys, axis=1), 1, atol=1e-5)


def test_the_bench_of_checking_tells_its_command_and_counts_one_file(tmp_path: Path, capsys) -> None:
    """The page said `make bench-verify` whatever was measured, and "1 files". Red when it does again."""
    base = [*["--memories", "1", "--rounds", "1", "--no-big", "--scratch"], str(tmp_path)]
    store = tmp_path / "verify.json"
    assert verify_bench.main([*base, "--json", str(store)]) == 0
    command = 'make bench-verify ARGS="--memories 1 --rounds 1 --no-big"'
    report, page = json.loads(store.read_text("utf-8")), store.with_suffix(".md").read_text("utf-8")
    assert (
        report["command"] == command
        and f"`{command}` on processor" in page
        and f"`{command}`" in capsys.readouterr().out
    )
    assert str(tmp_path) not in page
    report["sections"][0]["files"] = 1
    assert any(line.startswith("1 file, ") for line in verify_bench.page_of(report))
