"""Debian changelogs, friendly and hostile.

Red when: the header or signature line leaks into the text (the held-out test would be given the answer); a date
keeps its local offset; bytes that are not UTF-8, not gzip, or too many stop the iteration; a header of one line
swallows the next entry when its signature is missing.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emm_engine import Label, debian_changelogs
from emm_engine.documents import LABELS_MAX
from emm_engine.sources.changelog import FILE_BYTES_MAX, decode_text, parse_changelog

ENTRY = """\
tar (1.34+dfsg-1.2) unstable; urgency=HIGH

  * Fix extraction in the C locale (Closes: #1026204, #77)
    and another line.

 -- Janos Lenart <ocsi@debian.org>  Thu, 06 Apr 2023 16:25:47 +0200

"""


def write(folder: Path, package: str, data: bytes) -> Path:
    path = folder / package / "changelog.Debian.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


def test_an_entry_is_its_lines_with_labels_and_a_date_in_utc() -> None:
    (entry,) = parse_changelog(ENTRY, "tar/changelog.Debian.gz")
    assert entry.title == "tar 1.34+dfsg-1.2"
    assert entry.text == "  * Fix extraction in the C locale (Closes: #1026204, #77)\n    and another line."
    assert entry.date == "2023-04-06T14:25:47Z"
    assert set(entry.labels) == {
        Label("package", "tar"),
        Label("urgency", "high"),
        Label("distribution", "unstable"),
        Label("maintainer", "Janos Lenart"),
        Label("bug", "1026204"),
        Label("bug", "77"),
    }


def test_a_missing_signature_ends_at_the_next_header_and_leaves_the_date_empty() -> None:
    text = ENTRY.replace(" -- Janos Lenart <ocsi@debian.org>  Thu, 06 Apr 2023 16:25:47 +0200\n", "") + ENTRY
    first, second = parse_changelog(text, "x")
    assert (first.date, second.date) == ("", "2023-04-06T14:25:47Z")
    assert first.text == second.text


@pytest.mark.parametrize(
    "date", ["yesterday", "Thu, 99 Apr 2023 16:25:47 +0200", "Thu, 06 Apr 1900 00:00:00 +0000", ""]
)
def test_an_unreadable_date_is_empty(date: str) -> None:
    (entry,) = parse_changelog(ENTRY.replace("Thu, 06 Apr 2023 16:25:47 +0200", date), "x")
    assert entry.date == ""


def test_bad_files_are_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    write(tmp_path, "a-not-gzip", b"plain bytes")
    write(tmp_path, "b-cut", gzip.compress(os.urandom(5000))[:900])
    write(tmp_path, "c-bomb", gzip.compress(b"\n" * (FILE_BYTES_MAX + 1)))
    broken = bytearray(gzip.compress(ENTRY.encode() * 50))
    broken[40] ^= 0x10
    write(tmp_path, "d-flipped", bytes(broken))
    write(tmp_path, "e-good", gzip.compress(ENTRY.encode()))
    problems: list[tuple[str, str]] = []
    found = list(debian_changelogs(tmp_path, lambda source, why: problems.append((source, why))))
    assert [document.source for document in found] == ["e-good/changelog.Debian.gz"]
    assert [source.split("/")[0] for source, _ in problems] == ["a-not-gzip", "b-cut", "c-bomb", "d-flipped"]
    assert str(FILE_BYTES_MAX) in problems[2][1]


def test_links_are_followed_inside_the_folder_alone(tmp_path: Path) -> None:
    """A folder from elsewhere could name any changelog of the machine, and a named pipe stopped the reader for ever.

    Red when a path is opened without a look at what it resolves to.
    """
    inside, outside = tmp_path / "in", tmp_path / "out"
    write(inside, "tar", gzip.compress(ENTRY.encode()))
    write(outside, "secret", gzip.compress(ENTRY.encode()))
    (inside / "alias").symlink_to("tar")
    (inside / "leak").symlink_to(outside / "secret")
    (inside / "pipe").mkdir()
    os.mkfifo(inside / "pipe" / "changelog.Debian")
    sources = [document.source for document in debian_changelogs(inside)]
    assert sources == ["alias/changelog.Debian.gz", "tar/changelog.Debian.gz"]


def test_an_entry_that_closes_thousands_of_bugs_is_read(tmp_path: Path) -> None:
    closes = ", ".join(f"#{number}" for number in range(1, 5001))
    (entry,) = parse_changelog(ENTRY.replace("#1026204", closes), "x")
    assert len(entry.labels) == LABELS_MAX and Label("maintainer", "Janos Lenart") in entry.labels


def test_latin_1_is_read_and_nul_becomes_a_mark(tmp_path: Path) -> None:
    data = ENTRY.replace("Janos", "J\u00e1nos").replace("another", "an\0other").encode("latin-1")
    write(tmp_path, "tar", gzip.compress(data))
    (entry,) = debian_changelogs(tmp_path)
    assert Label("maintainer", "J\u00e1nos Lenart") in entry.labels
    assert "an\ufffdother" in entry.text


@given(st.binary(max_size=300), st.integers(0, len(ENTRY)))
def test_any_bytes_anywhere_give_documents_and_no_error(noise: bytes, at: int) -> None:
    data = ENTRY.encode()
    for document in parse_changelog(decode_text(data[:at] + noise + data[at:]), "x"):
        assert document.text.strip()
        assert " -- Janos Lenart <ocsi@debian.org>  Thu" not in document.text or noise
