"""What an archive promises, once more with its catalog on a real PostgreSQL server.

The tests and fixtures are those of the modules named below, which run them on archives with their catalogs in their
folders. Red when: anything that an archive promises holds only where the catalog is a file.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.postgres_server import every_archive_on
from tests.engine.test_archive import (  # noqa: F401
    archive,
    original,
    test_a_new_version_supersedes_the_old_and_leaves_no_trace_in_the_matrix,
    test_a_wider_scope_asks_every_run_below_it,
    test_an_empty_archive_answers_honestly,
    test_as_of_shows_only_what_was_known,
    test_everything_is_there_after_reopening,
    test_no_question_is_fulltext_syntax,
    test_questions_find_their_topic_in_words_vectors_and_matrix,
    test_quotes_are_the_stored_text_of_their_spans,
    test_the_same_documents_again_change_nothing,
)
from tests.engine.test_forgetting import (  # noqa: F401
    test_a_tenant_goes_without_a_trace_and_nobody_else_notices,
    test_every_version_can_go_at_once,
    test_one_passage_goes_and_its_document_keeps_the_others,
    test_what_is_blocked_is_refused_for_good,
)
from tests.engine.test_rebuild import (  # noqa: F401
    archive_path,
    test_everything_comes_back_from_the_catalog,
)
from tests.engine.test_recovery import (  # noqa: F401
    test_a_second_writer_is_fenced_with_nothing_changed,
    test_an_older_or_exchanged_memory_is_refused,
)
from tests.engine.test_rollup import test_two_tenants_with_one_name_for_everything_share_nothing  # noqa: F401


@pytest.fixture(scope="module", autouse=True)
def on_postgres(postgres: str) -> Iterator[None]:
    with every_archive_on(postgres):
        yield
