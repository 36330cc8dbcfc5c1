"""Foreign formats: pages, PDF, `.eln`, JSON lines; whole ones, damaged ones and hostile ones.

Red when: scripts reach the text; a page or PDF made to keep a parser busy holds up the others; an encrypted or damaged
file is silent or fatal; a zip bomb is unpacked, a name that leads out of an archive is accepted; a bad line ends its
file; fields of JSON lines are fixed; dates, titles, tags or authors of a format are lost.
"""

from __future__ import annotations

import json
import os
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from emm_engine import Document, Intake, Label, Settings
from emm_engine.documents import FILE_DATE
from emm_engine.sources import fields_of, html, isolation, pdf, zips
from tests.engine import foreign_files as made

Read = Callable[..., tuple[list[Document], made.Reports]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """read(settings=…): (documents, reports) of everything in the folder `in`."""
    (tmp_path / "in").mkdir()

    def reading(settings: Settings | None = None) -> tuple[list[Document], made.Reports]:
        reports: made.Reports = []
        intake = Intake([tmp_path / "in"], settings or Settings(), lambda *report: reports.append(report))
        return list(intake.documents()), reports

    return reading


# --- pages ---------------------------------------------------------------------------------------

PAGE = """<!DOCTYPE html><html><head><title>Run&nbsp;7 &amp; 8</title><meta name="keywords" content="heat, yield">
<meta name="author" content="Ann Lee"><meta property="article:published_time" content="2021-03-04T10:20:00Z">
<style>p { color: red }</style></head><body><h1>Heating</h1><script>var hidden = "<p>no</p>";</script>
<p>The <b>crucible</b> glowed<br>at 300&nbsp;K.</p><ul><li>one</li><li>two</li></ul>
<table><tr><th>base</th><th>yield (%)</th></tr><tr><td>NaOH</td><td>81</td></tr>
<tr><td>none|K</td><td>4</td></tr></table>
<pre>a  b
c</pre></body></html>"""


def test_a_page_is_what_its_reader_sees(read: Read, tmp_path: Path) -> None:
    (tmp_path / "in" / "p.html").write_text(PAGE)
    ((page,), reports) = read()
    assert reports == []
    assert (page.title, page.date) == ("Run 7 & 8", "2021-03-04T10:20:00Z")
    assert page.labels == (Label("tag", "heat"), Label("tag", "yield"), Label("author", "Ann Lee"))
    assert page.text == (
        "# Heating\n\nThe crucible glowed\nat 300 K.\n\n- one\n- two\n\n| base | yield (%) |\n| --- | --- |\n"
        "| NaOH | 81 |\n| none\\|K | 4 |\n\na  b\nc"
    )
    keyed = [
        (page.text[slice(*each.key)], [mark.label.name for mark in each.labels]) for each in page.passages if each.key
    ]
    assert keyed == [("NaOH", ["yield: 81 %"]), ("none\\|K", ["yield: 4 %"])]


def test_the_encoding_is_what_the_page_says(read: Read, tmp_path: Path) -> None:
    (tmp_path / "in" / "p.htm").write_bytes('<html><meta charset="iso-8859-2"><p>Łódź</p>'.encode("iso-8859-2"))
    ((page,), _) = read()
    assert page.text == "Łódź" and page.title == "p" and FILE_DATE in page.labels


def test_a_hostile_page_costs_a_few_seconds_and_the_next_is_read(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`<a <a <a …` of 120 KB kept the standard library's parser busy for seven minutes. Red without a limit."""
    monkeypatch.setattr(html, "CPU_SECONDS", 0.2)
    (tmp_path / "in" / "a.html").write_text("<!-- x" + "<!--" * 300_000 + "<a " * 60_000)
    (tmp_path / "in" / "b.html").write_text("<html><p>fine</p>")
    started = time.perf_counter()
    ((page,), reports) = read()
    assert page.text == "fine" and time.perf_counter() - started < 30
    assert [source for source, _ in reports] == ["a.html"] and "takes more than" in reports[0][1]


def test_a_parser_that_dies_is_replaced() -> None:
    """Red when one killed child makes every later page unreadable."""
    (answer,) = isolation.parse("html", b"<p>one", 5.0)
    process = isolation._process
    assert answer["text"] == "one" and process is not None
    process._child.kill()
    process._child.wait()
    (answer,) = isolation.parse("html", b"<p>two", 5.0)
    assert answer["text"] == "two" and isolation._process is not process


# --- PDF -----------------------------------------------------------------------------------------


def test_a_pdf_gives_its_pages_title_and_date(read: Read, tmp_path: Path) -> None:
    (tmp_path / "in" / "r.pdf").write_bytes(made.pdf(["The rotor was cold.", "The seal leaked."], "Report 7"))
    (tmp_path / "in" / "unnamed").write_bytes(made.pdf(["By its first bytes."]))
    ((report, other), problems) = read()
    assert problems == []
    assert report.text == f"The rotor was cold.{pdf.PAGE_BREAK}The seal leaked."
    assert (report.title, report.date, other.text) == ("Report 7", "2021-03-04T10:20:00Z", "By its first bytes.")


def test_encrypted_damaged_and_empty_pdfs_are_reported(read: Read, tmp_path: Path) -> None:
    whole = made.pdf(["text"])
    for name, data in {
        "locked.pdf": made.pdf(["secret"], password="k"),
        "torn.pdf": whole[: len(whole) // 3],
        "noise.pdf": b"%PDF-1.7\n" + os.urandom(4000),
        "pictures.pdf": made.pdf([""]),
        "whole.pdf": whole,
    }.items():
        (tmp_path / "in" / name).write_bytes(data)
    (documents, reports) = read()
    assert [document.source for document in documents] == ["whole.pdf"]
    assert {source for source, _ in reports} == {"locked.pdf", "torn.pdf", "noise.pdf", "pictures.pdf"}
    why = dict(reports)
    assert why["locked.pdf"].startswith("encrypted") and why["noise.pdf"].startswith("not readable as PDF (")
    assert "no text layer" in why["pictures.pdf"]


def test_a_pdf_that_is_too_large_is_not_parsed(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "FILE_BYTES_MAX", 100)
    (tmp_path / "in" / "r.pdf").write_bytes(made.pdf(["x"]))
    (_, reports) = read()
    assert reports == [("r.pdf", "more than 100 bytes")]


def test_of_a_pdf_that_stops_half_way_the_first_pages_are_kept(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(kind: str, data: bytes, cpu_seconds: float) -> object:
        yield from list(parse(kind, data, cpu_seconds))[:2]
        raise ValueError("it takes more than 60 s to read")

    parse = pdf.parse
    monkeypatch.setattr(pdf, "parse", half)
    (tmp_path / "in" / "r.pdf").write_bytes(made.pdf(["one", "two"]))
    ((document,), reports) = read()
    assert document.text == "one" and reports == [("r.pdf", "read up to page 1 of 2: it takes more than 60 s to read")]


# --- ELN -----------------------------------------------------------------------------------------


def test_an_eln_export_gives_experiments_and_their_files(read: Read, tmp_path: Path) -> None:
    made.eln(tmp_path / "in" / "x.eln")
    ((experiment, notes), reports) = read()
    assert (experiment.source, experiment.title, experiment.date) == ("x.eln/run-7", "Run 7", "2021-03-04T09:20:00Z")
    assert experiment.labels == (Label("tag", "catalysis"), Label("tag", "heat"), Label("author", "Ann Lee"))
    assert "alert" not in experiment.text and "# Procedure\n\nHeat the crucible." in experiment.text
    assert experiment.text.endswith("Pressure: 3.5 bar\n\nComment of Ann Lee: Leaks at the seal.")
    assert [experiment.text[slice(*each.key)] for each in experiment.passages if each.key] == ["350", "300"]
    assert (notes.title, notes.text) == ("Notes", "# Notes\nThe rotor was cold.")
    assert Label("project", "Run 7") in notes.labels and Label("tag", "heat") in notes.labels
    assert reports == [("x.eln/run-7/gone.csv", "listed, and not in the archive")]


def _zip(path: Path, build: Callable[[zipfile.ZipFile], None]) -> None:
    made.eln(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        build(archive)


def _link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("export/link")
    info.external_attr = 0o120777 << 16
    archive.writestr(info, "/etc/passwd")


HOSTILE = {
    "climbs": (lambda z: z.writestr("export/../../x.md", "x"), "leads out"),
    "absolute": (lambda z: z.writestr("/etc/x.md", "x"), "leads out"),
    "backslash": (lambda z: z.writestr("export\\..\\x.md", "x"), "leads out"),
    "drive": (lambda z: z.writestr("C:/x.md", "x"), "leads out"),
    "link": (_link, "is a link"),
    "bomb": (lambda z: z.writestr("export/zeros.txt", b"0" * (8 << 20)), "unpacks to"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_as_a_whole(name: str, read: Read, tmp_path: Path) -> None:
    build, word = HOSTILE[name]
    _zip(tmp_path / "in" / "x.eln", build)
    (documents, reports) = read()
    assert documents == [] and [source for source, _ in reports] == ["x.eln"]
    assert word in reports[0][1]


def test_a_directory_is_bounded_before_it_is_parsed(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zips, "DIRECTORY_BYTES_MAX", 100)
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("parsed"))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, 150, 54, 0)
    (tmp_path / "in" / "x.eln").write_bytes(b"PK\x03\x04" + b"\0" * 200 + end)
    (_, reports) = read()
    assert "its directory has 150 bytes" in reports[0][1]


def test_sizes_that_lie_overlap_or_add_up_to_too_much_are_refused(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made.eln(tmp_path / "in" / "x.eln")
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<L", 0)  # its local header: that of the first member
    path.write_bytes(data)
    assert "overlaps another" in read()[1][0][1]
    made.eln(path)
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\x01\x02")
    data[second + 24 : second + 28] = struct.pack("<L", 5)  # its size: shorter than what it holds
    path.write_bytes(data)
    ((_,), reports) = read()
    assert reports[0][0] == "x.eln/run-7/notes.md" and "Bad CRC-32" in reports[0][1]
    made.eln(path)
    monkeypatch.setattr(zips, "TOTAL_BYTES_MAX", 1000)
    assert "would unpack to" in read()[1][0][1]


@pytest.mark.parametrize(
    "graph",
    [[], [1, None, {"@id": 7}], [{"@id": "./x/", "@type": "Dataset", "text": 5, "author": [[]], "keywords": {"a": 1}}]],
    ids=["empty", "not nodes", "odd values"],
)
def test_an_odd_crate_raises_nothing(graph: list[object], read: Read, tmp_path: Path) -> None:
    made.eln(tmp_path / "in" / "x.eln", graph)
    assert read() == ([], [])


def test_a_crate_that_refers_to_itself_ends(read: Read, tmp_path: Path) -> None:
    node = {"@id": "./a/", "@type": "Dataset", "text": "self", "hasPart": [{"@id": "./a/"}], "author": {"@id": "./a/"}}
    made.eln(tmp_path / "in" / "x.eln", [node])
    ((document,), _) = read()
    assert document.text == "self"


# --- JSON lines ----------------------------------------------------------------------------------


def test_json_lines_have_fields_and_bad_lines_are_reported(read: Read, tmp_path: Path) -> None:
    lines = [
        json.dumps({"id": 1, "title": "One", "text": "rotor", "date": "2021-03-04", "tags": ["a", "b", 3, None]}),
        "{",
        "[]",
        json.dumps({"text": ""}),
        '{"text": "' + "\\ud800" + '\\u0000 seal", "date": 1614853200, "tags": "x, y"}',
        "[" * 100_000,
    ]
    (tmp_path / "in" / "d.jsonl").write_text("\n".join(lines))
    ((one, two), reports) = read()
    assert (one.title, one.text, one.date, one.key) == (
        "One",
        "rotor",
        "2021-03-04T00:00:00Z",
        f"{tmp_path}/in/d.jsonl#1",
    )
    assert one.labels == (Label("tag", "a"), Label("tag", "b"), Label("tag", "3"))
    assert (two.title, two.text, two.date) == ("d", "\ufffd\ufffd seal", "2021-03-04T10:20:00Z")
    assert two.labels == (Label("tag", "x"), Label("tag", "y")) and two.key is None
    assert [source for source, _ in reports] == [f"d.jsonl line {number}" for number in (2, 3, 4, 6)]


def test_a_number_that_no_date_can_be_costs_its_date_alone(read: Read, tmp_path: Path) -> None:
    """An integer of 400 digits cannot be made a float: the rest of the file was lost with it."""
    dates = ["1" + "0" * 400, "-1" + "0" * 400, "1e999", "NaN", "true", "[1]", "1614853200"]
    lines = [f'{{"text": "rotor {number}", "date": {date}}}' for number, date in enumerate(dates)]
    (tmp_path / "in" / "d.jsonl").write_text("\n".join(lines))
    (documents, reports) = read()
    assert [document.date for document in documents] == ["", "", "", "", "", "", "2021-03-04T10:20:00Z"]
    assert reports == []


def test_field_names_are_configurable(read: Read, tmp_path: Path) -> None:
    record = {"body": "wrong", "was": "rotor", "when": "Thu, 04 Mar 2021 10:20:00 +0000", "kind": ["a"]}
    (tmp_path / "in" / "d.ndjson").write_text(json.dumps(record))
    ((document,), _) = read(Settings(fields=fields_of(["text=was", "date=when", "tags=kind"])))
    assert (document.text, document.date, document.labels) == ("rotor", "2021-03-04T10:20:00Z", (Label("tag", "a"),))


def test_many_bad_lines_are_counted(read: Read, tmp_path: Path) -> None:
    (tmp_path / "in" / "d.jsonl").write_text("x\n" * 1000)
    assert len(read()[1]) == 6 and read()[1][-1] == ("d.jsonl", "and 995 more lines")


# --- mixed folders -------------------------------------------------------------------------------


def test_a_folder_mixes_all_formats_and_nothing_is_fatal(read: Read, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    made.eln(folder / "x.eln")
    (folder / "p.html").write_text(PAGE)
    (folder / "r.pdf").write_bytes(made.pdf(["pages"]))
    (folder / "d.jsonl").write_text('{"text": "lines"}')
    (folder / "m.mbox").write_text(made.mail("ann", "seal", 1, "mail"))
    (folder / "t.csv").write_text("base,yield\nNaOH,81\n")
    made.chat(folder / "slack")
    (folder / "n.md").write_text("note")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n")
    (folder / "loop").symlink_to(folder)
    (folder / "link.md").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe.md")
    for suffix in ("txt", "html", "pdf", "eln", "jsonl", "mbox", "csv", "parquet", "eml"):
        (folder / f"noise.{suffix}").write_bytes(b"\x00\xff" + os.urandom(3000))
    (documents, reports) = read()
    assert sorted({document.source for document in documents}) == sorted(
        [
            "x.eln/run-7",
            "x.eln/run-7/notes.md",
            "p.html",
            "r.pdf",
            "d.jsonl",
            "m.mbox",
            "t.csv",
            "slack/reactor",
            "n.md",
        ]
    )
    noise = sorted(name for name in os.listdir(folder) if name.startswith("noise"))
    assert len(noise) == 9 and sorted(source for source, _ in reports if source.startswith("noise")) == noise


def test_a_format_can_be_forced(read: Read, tmp_path: Path) -> None:
    (tmp_path / "in" / "dump.log").write_text('{"text": "lines"}')
    assert read() == ([], [])
    ((document,), _) = read(Settings(format="jsonl"))
    assert document.text == "lines"
