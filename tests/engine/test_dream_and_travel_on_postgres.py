"""Dreams, and exporting and importing, once more with the catalog on a real PostgreSQL server.

As `test_archive_on_postgres`, of modules whose fixtures have the names of its own. Red when: a dream or a copy of a
scope is right only where the catalog is a file.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.postgres_server import every_archive_on
from tests.engine.test_dream import (  # noqa: F401
    archive,
    settled,
    test_a_newer_extractor_reaches_text_that_was_ingested_long_ago,
    test_two_texts_of_one_title_that_disagree_are_reported_and_both_kept,
    test_what_waits_is_learnt_and_no_superseded_version_is_answered,
)
from tests.engine.test_travelling import (  # noqa: F401
    exported,
    original,
    test_an_exported_domain_answers_as_before,
    test_an_interrupted_batch_travels_with_its_fate_open,
    test_every_table_of_the_catalog_travels_or_says_that_it_does_not,
    test_what_was_forgotten_does_not_come_back,
)


@pytest.fixture(scope="module", autouse=True)
def on_postgres(postgres: str) -> Iterator[None]:
    with every_archive_on(postgres):
        yield
