"""Tables: experiments by row, series by window, tables in notes; and what they are worth as pairs.

Red when: an outcome stands in a key, or a condition in a value; bands or windows depend on where a batch ends; an event
is missed, doubled or given to another window; a table is held in memory; outcomes of rows that were never seen are not
predicted better than by always guessing the commonest.
"""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

import emm
from emm_engine import Archive, Document, Intake, Scope, Settings
from emm_engine.extraction.note_tables import table_passages
from emm_engine.matrices.holdout import entries_of_pairs, holdout
from emm_engine.sources import Threshold, Window, columns, survey
from emm_engine.sources.settings import DEFAULT
from emm_tools.bench_pairs import reactor_runs

RUN = Scope("lab", "general", "tables", "r")
Read = Callable[..., list[Document]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """read(name, content, **settings): the documents of one file; a report is a failure."""

    def reading(
        name: str, content: str | bytes, reports: list[str] | None = None, **settings: object
    ) -> list[Document]:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        told: list[str] = []
        found = list(Intake([path], Settings(**settings), lambda *report: told.append(": ".join(report))).documents())  # type: ignore[arg-type]
        if reports is None:
            assert told == []
        else:
            reports += told
        return found

    return reading


def pairs(documents: list[Document]) -> list[tuple[str, list[str]]]:
    """(text of the key, labels) of every passage with a key; every label's span says it."""
    found = []
    for document in documents:
        for passage in document.passages:
            for mark in passage.labels:
                assert document.text[mark.start : mark.end] == mark.label.name
                assert mark.start is not None and mark.end is not None
                assert passage.start <= mark.start and mark.end <= passage.end
            if passage.key is not None:
                found.append((document.text[slice(*passage.key)], [mark.label.name for mark in passage.labels]))
    return found


# --- experiments ---------------------------------------------------------------------------------


def test_a_row_is_a_pair_of_conditions_and_outcome(read: Read) -> None:
    documents = read("runs.csv", reactor_runs(60))
    assert len(documents) == 60 and documents[0].title == "runs row 1"
    for key, labels in pairs(documents):
        assert "yield" not in key and key.startswith("temperature: ") and "; base: " in key and "; time: " in key
        assert len(labels) == 1 and labels[0].startswith("yield: ") and labels[0].endswith(" %")
    assert len({label for _, labels in pairs(documents) for label in labels}) <= 6
    assert "yield = " in documents[0].text.split("\n")[2]  # the row as it was written


def test_columns_can_be_named(read: Read) -> None:
    text = "a,b,c\n1,x,5\n2,y,6\n"
    assert pairs(read("t.csv", text)) == []
    assert pairs(read("t.csv", text, outcomes=frozenset({"b"}), conditions=frozenset({"c"}))) == [
        ("c-5", ["b-x"]),
        ("c-6", ["b-y"]),
    ]


@pytest.mark.parametrize(
    ("name", "content", "key"),
    [
        ("t.tsv", "heat\tyield\n3.5\thigh\n", "heat: 3.5"),
        ("t.csv", "\ufeffHeat (K);yield\n3,5;high\n", "heat: 3.5 K"),
        ("t.csv", "# made by hand\nheat,yield\n\n3.5,high\n", "heat: 3.5"),
        ("t.csv", 'heat,yield\n"3.5","high"\n', "heat: 3.5"),
        ("t.csv", "heat,yield\n3.5,high,more\n".encode("utf-16"), "heat: 3.5"),
    ],
    ids=["tabs", "semicolons and commas", "remarks", "quotes", "utf-16, ragged"],
)
def test_forms_of_csv(name: str, content: str | bytes, key: str, read: Read) -> None:
    assert pairs(read(name, content)) == [(key, ["yield: high"])]


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"a,b\n", b"a\0b", b'"' + b"x" * 200_000, b"x" * 3_000_000, b"," * 600, b"a,a,,\n" + b"\xff" * 40],
    ids=["empty", "blank", "head alone", "binary", "endless cell", "endless line", "too wide", "one cell"],
)
def test_what_is_no_table_is_reported(content: bytes, read: Read) -> None:
    reports: list[str] = []
    documents = read("t.csv", content, reports)
    assert len(reports) == 1 or (documents and content.startswith(b"a,a"))


def test_a_column_that_was_named_and_is_not_there_is_told(read: Read) -> None:
    """Red when a mistyped --condition replaces the rows of a table by rows without any."""
    table, reports = "temperature (K),base,yield\n340,NaOH,75\n350,KOH,80\n", []
    assert not read("a.csv", table, reports, conditions=frozenset({"temperature_k"}))
    assert reports == ["a.csv: no column temperature_k; its columns: temperature, base, yield"]
    reports.clear()
    documents = read("a.csv", table, reports, conditions=frozenset({"base", "solvent"}))
    assert [key for key, _ in pairs(documents)] == ["base: naoh", "base: koh"]
    assert reports == ["a.csv: no column solvent; its columns: temperature, base, yield; read without"]
    reports.clear()
    assert len(read("a.csv", table, reports, outcomes=frozenset({"purity"}))) == 2
    assert "no column purity" in reports[0]


def test_batches_do_not_show(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, series = (
        reactor_runs(100),
        "time,x\n" + "\n".join(f"2021-03-04T10:{at // 60:02}:{at % 60:02},{at % 7}" for at in range(900)),
    )
    whole = read("runs.csv", runs), read("s.csv", series, window=Window.parse("5min"))
    monkeypatch.setattr(columns, "BATCH_ROWS", 7)
    assert (read("runs.csv", runs), read("s.csv", series, window=Window.parse("5min"))) == whole


def test_parquet_is_read_like_csv(read: Read, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(reactor_runs(50))
    table = pyarrow.csv.read_csv(tmp_path / "runs.csv")
    pyarrow.parquet.write_table(table, tmp_path / "r.parquet", row_group_size=20)
    data = (tmp_path / "r.parquet").read_bytes()
    assert pairs(read("r.parquet", data)) == pairs(read("runs.csv", reactor_runs(50)))
    reports: list[str] = []
    assert read("torn.parquet", data[: len(data) // 2], reports) == [] and "not readable as Parquet" in reports[0]
    middle = len(data) // 3
    read("flipped.parquet", data[:middle] + bytes([data[middle] ^ 64]) + data[middle + 1 :], reports)  # ends, somehow


def test_reading_a_table_does_not_hold_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "BATCH_ROWS", 500)
    monkeypatch.setattr(survey, "SAMPLE_MAX", 500)

    def peak(count: int) -> int:
        path = tmp_path / f"{count}.csv"
        path.write_text("time,x,y\n" + "".join(f"{1.6e9 + at},{at % 13},{at % 7}\n" for at in range(count)))
        tracemalloc.start()
        assert sum(1 for _ in Intake([path]).documents()) == count // 1000
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    small = peak(2000)
    assert peak(8000) < 1.5 * small


# --- series --------------------------------------------------------------------------------------


def series(count: int = 3600, spike: range = range(1500, 1530)) -> str:
    """One row a second: a temperature that swings, a pressure that follows it, and a spike."""
    lines = ["time,temperature (K),pressure (bar)"]
    for at in range(count):
        kelvin = 350 + 20 * math.sin(at / 300)
        bar = 3 + 0.02 * (kelvin - 350) + (2.0 if at in spike else 0.0)
        lines.append(f"2021-03-04T{10 + at // 3600}:{at // 60 % 60:02}:{at % 60:02}Z,{kelvin:.2f},{bar:.3f}")
    return "\n".join(lines)


def test_a_window_has_statistics_and_what_followed_what(read: Read) -> None:
    documents = read("f.csv", series(), window=Window.parse("10min"))
    assert [document.title for document in documents] == [f"f 2021-03-04T10:{at}0:00Z" for at in range(6)]
    first, second = documents[:2]
    kelvin = [350 + 20 * math.sin(at / 300) for at in range(600)]
    assert first.date == "2021-03-04T10:09:59Z"
    assert f"temperature (K) mean {np.mean(kelvin):.4g}" in first.text and "min 350, max 370, from 350" in first.text
    assert first.passages[0].key is None  # nothing came before it
    key, labels = pairs([second])[0]
    assert key == first.text.partition("\n")[0].removeprefix("outcome: ")
    assert [label.partition(":")[0] for label in labels] == ["temperature", "pressure"]


def test_an_event_is_a_passage_of_its_own_in_the_window_where_it_begins(read: Read) -> None:
    text = series(spike=range(1790, 1830))  # crosses the end of a window
    documents = read("f.csv", text, window=Window.parse("10min"), thresholds=(Threshold.parse("pressure > 4.5"),))
    events = [
        (at, p, d)
        for at, d in enumerate(documents)
        for p in d.passages
        if any(m.label.kind == "event" for m in p.labels)
    ]
    ((at, passage, document),) = events
    assert at == 2 and document.text[passage.start : passage.end].startswith(
        "event: pressure above 4.5 bar at 2021-03-04T10:29:50Z, peak "
    )
    assert passage.key is not None and passage.key[1] < passage.start
    assert document.text[slice(*passage.key)].startswith("temperature: ")


def test_thresholds_are_found_where_none_are_given(read: Read) -> None:
    chance = np.random.default_rng(2)
    values = chance.normal(20, 1, 4000)
    values[2500] = 60
    documents = read("f.csv", "\n".join(["volt", *(f"{value:.3f}" for value in values)]), window=Window.parse("1000"))
    events = [m.label.name for d in documents for p in d.passages for m in p.labels if m.label.kind == "event"]
    assert len(documents) == 4 and len(events) == 1 and events[0].startswith("volt above ")
    assert "peak 60" in documents[2].text


def test_with_an_outcome_column_conditions_are_of_the_same_window(read: Read) -> None:
    text = "\n".join(["heat,flow,yield", *(f"{at // 500},3,{80 + at // 500}" for at in range(2000))])
    assert pairs(read("f.csv", text, window=Window.parse("500"))) == [
        (f"heat-{at}; flow-3", [f"yield: {80 + at}"]) for at in range(4)
    ]


def test_a_series_that_grows_changes_its_last_window_alone(read: Read, tmp_path: Path) -> None:
    window = Window.parse("10min")
    with Archive.create(tmp_path / "a") as archive:
        first = archive.ingest(read("f.csv", series(2700), window=window), RUN)
        assert (first.documents, first.superseded) == (5, 0)
        again = archive.ingest(read("f.csv", series(3000), window=window), RUN)
        assert (again.documents, again.superseded, again.duplicates) == (1, 1, 4)


def test_late_rows_are_reported_and_bad_times_kept(read: Read) -> None:
    lines = series(1300).split("\n")
    lines[1250] = lines[2]
    lines[1260] = "never,350,3"
    reports: list[str] = []
    documents = read("f.csv", "\n".join(lines), reports, window=Window.parse("10min"))
    assert reports == ["f.csv: 1 rows are out of order and count in the window that was open"]
    assert [int(document.text.split(" rows ")[0].split("\n")[-1]) for document in documents] == [600, 600, 100]


@pytest.mark.parametrize("text", ["", "0", "-5", "10 parsecs", "1e9", "99999999999"])
def test_odd_windows_are_refused(text: str) -> None:
    with pytest.raises(emm.InputError, match="window"):
        Window.parse(text)


@pytest.mark.parametrize("text", ["", "pressure", "pressure>", ">5", "pressure>=5", "pressure>nan"])
def test_odd_thresholds_are_refused(text: str) -> None:
    with pytest.raises(emm.InputError, match="threshold"):
        Threshold.parse(text)


# --- tables in notes -----------------------------------------------------------------------------

NOTE = """# Screening

Three bases were tried.

| Base | heat (K) | **Yield** (%) | remark |
|:-----|---------:|------|---|
| NaOH | 350 | 81 | fine |
| K2CO3 | 350 | 44 % | - |
| none |  | <5 |  |

The best was NaOH.

| name | role |
|---|---|
| Ann | lead |
"""


def test_a_table_of_outcomes_in_a_note_is_cut_by_row() -> None:
    cut = table_passages(NOTE, DEFAULT.is_outcome, DEFAULT.is_condition)
    texts = [NOTE[passage.start : passage.end] for passage in cut]
    assert texts[0] == "# Screening\n\nThree bases were tried."
    assert (
        texts[1].startswith("| Base |") and texts[1].endswith("| fine |") and texts[2] == "| K2CO3 | 350 | 44 % | - |"
    )
    assert texts[4].startswith("The best was NaOH.") and texts[4].endswith("| Ann | lead |")
    keyed = [(NOTE[slice(*p.key)], [(m.label.name, NOTE[m.start : m.end]) for m in p.labels]) for p in cut if p.key]
    assert keyed == [
        ("NaOH | 350", [("yield: 81 %", "81")]),
        ("K2CO3 | 350", [("yield: 44 %", "44 %")]),
        ("none", [("yield: <5", "<5")]),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "no table, but a | bar\n---\nand a rule",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "| yield |\n|---|\n| 1 |",
        "| heat | yield |\n|---|---|\n",
        "|---|---|\n| heat | yield |\n| 1 | 2 |",
        "| heat | yield |\n|---|---|\n| " + "x" * 2000 + " | 2 |",
    ],
)
def test_a_note_without_such_a_table_is_cut_as_prose(text: str) -> None:
    assert table_passages(text, DEFAULT.is_outcome, DEFAULT.is_condition) == ()


def test_hostile_tables_cost_no_more_than_their_length() -> None:
    for text in ("|---" * 200_000, " " * 400_000 + "|", "| a | yield |\n|-|-|\n" + "|" * 400_000, "-|-\n" * 100_000):
        table_passages(text, DEFAULT.is_outcome, DEFAULT.is_condition)


HEATS = [("hot", "NaOH"), ("hot", "none"), ("cold", "NaOH"), ("cold", "none")]

# --- what they are worth -------------------------------------------------------------------------


def test_outcomes_of_unseen_rows_are_predicted_better_than_the_prior(read: Read) -> None:
    entries = entries_of_pairs(read("runs.csv", reactor_runs(600)))
    assert all("yield" not in entry.text for entry in entries)
    report = holdout(entries)
    by_name = {score.name: score for score in report.scores}
    assert by_name["matrix"].p_at_1 > by_name["prior"].p_at_1 + 0.3
    assert report.n_learnt == 420 and report.n_predicted == 180


def test_what_two_conditions_do_together_is_learnt(read: Read, tmp_path: Path) -> None:
    """Each condition alone says nothing here. Red when keys hold single words, in which a matrix is linear."""
    rows = [f"{heat},{base},{'high' if (heat == 'hot') == (base == 'NaOH') else 'low'}" for heat, base in HEATS] * 40
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(read("t.csv", "\n".join(["heat,base,yield", *rows])), RUN)
        for heat, base in HEATS:
            found = archive.ask(f"heat: {heat}; base: {base.lower()}", RUN).associations
            outcomes = [each.name for each in found if each.kind == "outcome"]
            assert outcomes == ["yield: high" if (heat == "hot") == (base == "NaOH") else "yield: low"]


def test_an_archive_answers_conditions_with_their_outcome(read: Read, tmp_path: Path) -> None:
    """The whole way: CSV, catalog, keys of conditions alone, matrix, and a question in words."""
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(read("runs.csv", reactor_runs(400)), RUN)
        cold = archive.ask("temperature: 300..320 K; base: none", RUN).associations
        hot = archive.ask("temperature: 380..400 K; base: naoh", RUN).associations
        assert next(each.name for each in cold if each.kind == "outcome") == "yield: 0..20 %"
        best = next(each.name for each in hot if each.kind == "outcome")
        assert best in ("yield: 80..100 %", "yield: 100..120 %")


def test_pairs_with_keys_of_their_own_are_unlearnt_exactly(read: Read, tmp_path: Path) -> None:
    """Red when unlearning embeds the passage and not its key: the matrix kept a ghost of every corrected row."""
    text = reactor_runs(80)
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(read("runs.csv", text), RUN)
        report = archive.ingest(read("runs.csv", text.replace("%)\n", "%)\n", 1)[:-6] + ",1.00,0.0"), RUN)
        with emm.open(str(archive.memory_path(RUN))) as memory:
            digest = memory.digest
        assert report.unlearned == report.superseded > 0 and report.pending == 0
    with Archive.create(tmp_path / "b") as other:
        other.ingest(read("runs.csv", text), RUN)
        with emm.open(str(other.memory_path(RUN))) as memory:
            assert memory.digest != digest
