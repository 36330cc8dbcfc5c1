"""The archive's main behaviours once more, with the catalog on a real PostgreSQL server.

The tests are those of `test_archive` and `test_recovery`; here `Archive.create` puts every catalog into an empty schema
of the server. Red when: anything that an archive promises holds only where the catalog is a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emm_engine import Archive, Document
from tests.engine import test_archive, test_recovery

Make = Callable[..., list[Document]]


@pytest.fixture(autouse=True)
def on_postgres(monkeypatch: pytest.MonkeyPatch, fresh_url: Callable[[], str]) -> None:
    create = Archive.create.__func__  # type: ignore[attr-defined]

    def creating(cls: type[Archive], path: Path, *rest: Any) -> Archive:
        made: Archive = create(cls, path, *rest, catalog=fresh_url())
        return made

    monkeypatch.setattr(Archive, "create", classmethod(creating))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, make_documents: Make, fresh_url: Callable[[], str]) -> Path:
    path = tmp_path_factory.mktemp("original") / "archive"
    with Archive.create(path, catalog=fresh_url()) as opened:
        opened.ingest(make_documents(200), test_archive.RUN)
    return path


@pytest.fixture
def archive(original: Path) -> Iterator[Archive]:
    """An archive of 200 documents, which no test changes."""
    with Archive.open(original) as opened:
        yield opened


BEHAVIOURS = (
    test_archive.test_quotes_are_the_stored_text_of_their_spans,
    test_archive.test_questions_find_their_topic_in_words_vectors_and_matrix,
    test_archive.test_the_same_documents_again_change_nothing,
    test_archive.test_everything_is_there_after_reopening,
    test_archive.test_a_new_version_supersedes_the_old_and_leaves_no_trace_in_the_matrix,
    test_archive.test_as_of_shows_only_what_was_known,
    test_archive.test_no_other_tenant_moves_an_answer,
    test_archive.test_a_wider_scope_asks_every_run_below_it,
    test_archive.test_an_empty_archive_answers_honestly,
    test_archive.test_one_document_is_enough_and_an_unknown_question_gets_a_note,
    test_archive.test_no_question_is_fulltext_syntax,
    test_archive.test_a_run_counts_its_current_passages,
    test_recovery.test_text_is_durable_and_found_while_the_matrix_lags,
    test_recovery.test_text_without_an_embedder_is_found_by_its_words,
    test_recovery.test_a_second_writer_is_fenced_with_nothing_changed,
    test_recovery.test_an_older_or_exchanged_memory_is_refused,
)
globals().update({behaviour.__name__: behaviour for behaviour in BEHAVIOURS})
