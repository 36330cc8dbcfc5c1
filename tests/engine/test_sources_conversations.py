"""Mailboxes and chat exports: threads, participants, quoting.

Red when: an answer becomes a document of its own or lands in another thread; quoted text counts again; a later answer
is dated before it was given; a mailbox is held in memory; a malformed message takes its thread with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from emm_engine import Archive, Document, Intake, Label, Scope
from emm_engine.sources import chat, conversation, mail
from emm_engine.sources.conversation import without_quotes
from tests.engine import foreign_files as made

Read = Callable[[], tuple[list[Document], made.Reports]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    (tmp_path / "in").mkdir()

    def reading() -> tuple[list[Document], made.Reports]:
        reports: made.Reports = []
        return list(Intake([tmp_path / "in"], problem=lambda *report: reports.append(report)).documents()), reports

    return reading


BOX = (
    made.mail("ann", "seal", 1, "Why does the seal leak?\nFrom here it looks cold.\n>From there too.")
    + made.mail("cay", "lunch", 2, "Soup.")
    + made.mail(
        "bob", "Re: seal", 3, "The rotor was cold.\n\nOn Thu, Ann <ann@lab>\nwrote:\n> Why does it leak?\n-- \nBob", 1
    )
    + made.mail("ann", "AW: Re: seal", 4, "Thanks.", 3)
    + made.mail("ann", "AW: Re: seal", 4, "Thanks.", 3)
)


def test_a_thread_is_one_document_with_its_participants(read: Read, tmp_path: Path) -> None:
    (tmp_path / "in" / "lab.mbox").write_text(BOX)
    ((seal, lunch), reports) = read()
    assert reports == []
    assert (seal.title, seal.date) == ("seal", "2021-03-04T10:04:00Z")  # the last answer's
    assert seal.labels == (Label("participant", "Ann"), Label("participant", "Bob"))
    assert seal.text == (
        "Ann, 2021-03-04 10:01:\nWhy does the seal leak?\nFrom here it looks cold.\nFrom there too.\n\n"
        "Bob, 2021-03-04 10:03:\nThe rotor was cold.\n\nAnn, 2021-03-04 10:04:\nThanks."
    )
    assert (lunch.title, lunch.text) == ("lunch", "Cay, 2021-03-04 10:02:\nSoup.")


def test_a_thread_that_grows_supersedes_what_it_was(read: Read, tmp_path: Path) -> None:
    run = Scope("lab", "chat", "mail", "all")
    with Archive.create(tmp_path / "a") as archive:
        (tmp_path / "in" / "lab.mbox").write_text(BOX)
        assert archive.ingest(read()[0], run).documents == 2
        (tmp_path / "in" / "lab.mbox").write_text(BOX + made.mail("cay", "Re: seal", 5, "Changed the gasket.", 1))
        report = archive.ingest(read()[0], run)
        assert (report.documents, report.superseded, report.duplicates) == (1, 1, 1)
        answer = archive.ask("who changed the gasket", run)
        assert "Changed the gasket." in answer.citations[0].quote
        assert archive.ask("soup", run, as_of="2021-03-03").citations == ()


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("> all\n> quoted", ""),
        ("Yes.\n\nOn 4 March 2021 at 10:00, Ann Lee wrote:\n> a\n> b", "Yes."),
        ("Ja.\nAm 4. März schrieb Ann:\n> a\nund\n> b\nauch", "Ja.\nund\nauch"),
        ("Top.\n-----Original Message-----\nFrom: Ann\nOld.", "Top."),
        ("Done.\n-- \nAnn Lee\nLab 7", "Done."),
        ("On Monday we wrote: nothing\nmore", "On Monday we wrote: nothing\nmore"),
        ("a -- b\n--\nc", "a -- b\n--\nc"),
    ],
)
def test_own_words_are_kept_and_quoted_ones_dropped(text: str, own: str) -> None:
    assert without_quotes(text) == own


def test_parts_encodings_and_pages_of_mail(read: Read, tmp_path: Path) -> None:
    (tmp_path / "in" / "m.eml").write_bytes(
        b"From: =?utf-8?q?J=C3=B6rg?= <j@lab>\r\nSubject: =?iso-8859-1?q?K=E4lte?=\r\nMIME-Version: 1.0\r\n"
        b"Date: Thu, 04 Mar 2021 11:20:00 +0100\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
        b'--x\r\nContent-Type: text/html; charset="no-such"\r\n\r\n<p>Cold <b>rotor</b></p><script>x</script>\r\n'
        b"--x\r\nContent-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nattached secret\r\n--x--\r\n"
    )
    ((document,), reports) = read()
    assert reports == [] and (document.title, document.date) == ("Kälte", "2021-03-04T10:20:00Z")
    assert document.text == "Jörg, 2021-03-04 10:20:\nCold rotor"


def test_malformed_mail_is_reported_and_the_rest_kept(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "MESSAGE_BYTES_MAX", 2000)
    big = made.mail("bob", "Re: seal", 2, "x" * 3000, 1)
    odd = "From x Thu Mar  4 10:00:00 2021\nContent-Type: multipart/mixed; boundary=\nFrom: \udcff\nDate: never\n\n\n"
    (tmp_path / "in" / "lab.mbox").write_bytes(
        (made.mail("ann", "seal", 1, "one") + big + made.mail("ann", "Re: seal", 3, "three", 2)).encode()
        + odd.encode("utf-8", "surrogateescape")
    )
    (documents, reports) = read()
    assert "one" in documents[0].text and "three" in documents[0].text and "xxx" not in documents[0].text
    assert len(reports) == 1 and "more than 2000" in reports[0][1]


def test_a_mailbox_is_read_block_by_block(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "BLOCK_MESSAGES", 3)
    letters = [made.mail("ann", f"topic {number}", number, f"words {number}") for number in range(10, 20)]
    (tmp_path / "in" / "lab.mbox").write_text("".join(letters))
    (documents, _) = read()
    assert [document.title for document in documents] == [f"topic {number}" for number in range(10, 20)]
    assert len({document.key for document in documents}) == 10


def test_references_in_a_circle_end(read: Read, tmp_path: Path) -> None:
    (tmp_path / "in" / "lab.mbox").write_text(made.mail("a", "x", 1, "one", 2) + made.mail("b", "x", 2, "two", 1))
    ((document,), _) = read()
    assert "one" in document.text and "two" in document.text


def test_a_long_conversation_is_cut_at_messages(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "PART_CHARS", 100)
    letters = [
        made.mail("ann", "log", 10, "x" * 60),
        *(made.mail("ann", "log", at, "x" * 60, 10) for at in range(11, 14)),
    ]
    (tmp_path / "in" / "lab.mbox").write_text("".join(letters))
    (documents, _) = read()
    assert [document.title for document in documents] == ["log", "log (part 2)", "log (part 3)", "log (part 4)"]
    assert len({document.key for document in documents}) == 4


# --- chat ----------------------------------------------------------------------------------------


def test_a_chat_thread_spans_days_and_a_day_is_one_document(read: Read, tmp_path: Path) -> None:
    made.chat(tmp_path / "in" / "slack")
    ((thread, day), reports) = read()
    assert thread.text == (
        "Ann Lee, 2021-03-04 10:00:\nWhy does the seal leak? @bob\n\nbob, 2021-03-05 10:00:\nThe rotor was cold."
    )
    assert (thread.title, thread.date) == ("#reactor: Why does the seal leak? @bob", "2021-03-05T10:00:00Z")
    assert thread.labels == (Label("channel", "reactor"), Label("participant", "Ann Lee"), Label("participant", "bob"))
    assert day.text == "bob, 2021-03-04 10:01:\nLunch & coffee at the bar (https://lab.example)"
    assert (day.title, day.source) == ("#reactor 2021-03-04", "slack/reactor")
    assert [source for source, _ in reports] == ["reactor/2021-03-06.json"]


def test_an_export_may_be_the_folder_itself_and_links_are_not_followed(read: Read, tmp_path: Path) -> None:
    made.chat(tmp_path / "in" / "x").rename(tmp_path / "slack")
    (tmp_path / "in").rmdir()
    (tmp_path / "slack").rename(tmp_path / "in")
    (tmp_path / "secret.json").write_text(json.dumps([{"user": "U1", "ts": "1614852000.0", "text": "secret"}]))
    (tmp_path / "in" / "reactor" / "2021-03-07.json").symlink_to(tmp_path / "secret.json")
    (documents, _) = read()
    assert len(documents) == 2 and not any("secret" in document.text for document in documents)


def test_odd_records_raise_nothing_and_blocks_bound_the_memory(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "BLOCK_BYTES", 10)
    made.chat(tmp_path / "in" / "slack")
    odd = [None, 1, {"text": 5}, {"text": "x", "ts": [], "user": {}, "user_profile": [], "thread_ts": 3}]
    (tmp_path / "in" / "slack" / "reactor" / "2021-03-08.json").write_text(json.dumps(odd))
    (tmp_path / "in" / "slack" / "users.json").write_bytes(os.urandom(50))
    (documents, _) = read()
    assert [document.text for document in documents if document.title.endswith("03-08")] == ["somebody:\nx"]
    assert len({document.key for document in documents}) == len(documents) == 4  # the thread is cut between days
