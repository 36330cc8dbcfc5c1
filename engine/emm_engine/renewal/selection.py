"""What is to be forgotten: named by a person, found in the catalog, shown before anything goes.

Purpose: turn ids, source patterns and words into passages, and say what would go with them. Invariants: reads and never
writes; everything selected lies at or below the scope, where one is given; a document of which every passage is
selected goes as a whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase

from emm import InputError, MissingError
from emm_engine.catalog.store import Catalog, Run, marks
from emm_engine.hierarchy import Scope
from emm_engine.reports import to_json

WORDS_MAX = 64
ID_MAX = 2**63 - 1  # of any row
DOCUMENTS_OF = "SELECT document_id FROM passages WHERE passage_id IN (…)"
PASSAGES_OF = "SELECT passage_id FROM passages WHERE document_id IN (…)"
NEWER_OF = "SELECT new_document_id FROM supersessions WHERE old_document_id IN (…)"
OLDER_OF = "SELECT old_document_id FROM supersessions WHERE new_document_id IN (…)"
ABSORBED_OF = (
    "SELECT passage_id FROM pairs WHERE written_by IS NOT NULL AND unlearned_by IS NULL AND passage_id IN (…) "
    "ORDER BY passage_id"
)

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Selection:
    """What a person asks to forget. Several conditions select what any of them selects."""

    documents: tuple[int, ...] = ()  # by id, as answers cite them
    pairs: tuple[int, ...] = ()  # passages by id: the text of a pair and what the matrix learnt from it
    sources: tuple[str, ...] = ()  # patterns of `fnmatch`, for a document's source
    queries: tuple[str, ...] = ()  # words: every passage that holds all of them, in source, title or text
    scope: Scope | None = None  # only at or below it
    versions: bool = False  # with every version of the documents selected, older and newer

    def __post_init__(self) -> None:
        if not (self.documents or self.pairs or self.sources or self.queries):
            raise InputError("nothing is selected", expected="documents, pairs, sources or queries")


@dataclass(frozen=True, slots=True)
class PlannedDocument:
    """A document that loses passages."""

    document_id: int
    scope: str
    source: str
    title: str
    date: str
    n_passages: int  # that go
    whole: bool  # nothing of it is left


@dataclass(frozen=True, slots=True)
class Plan:
    """What would go."""

    documents: tuple[PlannedDocument, ...]
    passages: int
    absorbed: int  # of their pairs, in the matrices
    scopes: tuple[str, ...]  # whose memories and vectors change

    def to_json(self) -> str:
        return to_json(asdict(self))


@dataclass(frozen=True, slots=True)
class Chosen:
    """A plan with the ids it is about, by run."""

    plan: Plan
    runs: tuple[Run, ...]
    passages: dict[int, list[int]]  # scope id → passage ids, ascending


def choose(catalog: Catalog, selection: Selection) -> Chosen:
    """The passages selected; `MissingError` for an id that is not there."""
    _all_found("pair", selection.pairs, [each for each in selection.pairs if 0 < each <= ID_MAX])
    _all_found("document", selection.documents, [each for each in selection.documents if 0 < each <= ID_MAX])
    runs = [run for run in catalog.all_runs() if selection.scope is None or selection.scope.contains(run.scope)]
    by_id = {run.scope_id: run for run in runs}
    documents = set(selection.documents) | set(_by_source(catalog, runs, selection.sources))
    passages = set(_by_words(catalog, runs, selection.queries)) | set(selection.pairs)
    if selection.versions:
        documents |= _versions(catalog, documents | set(_ids(catalog, DOCUMENTS_OF, passages)))
    passages |= set(_ids(catalog, PASSAGES_OF, documents))
    owners = {
        int(passage_id): (int(document_id), int(scope_id))
        for passage_id, document_id, scope_id in catalog.query_among(
            "SELECT passage_id, document_id, scope_id FROM passages WHERE passage_id IN (…)", sorted(passages)
        )
        if scope_id in by_id
    }
    _all_found("pair", selection.pairs, owners)
    _all_found("document", selection.documents, {document_id for document_id, _ in owners.values()})
    found: dict[int, list[int]] = {}
    for passage_id in sorted(owners):
        found.setdefault(owners[passage_id][1], []).append(passage_id)
    changed = tuple(run for run in runs if run.scope_id in found)
    plan = Plan(
        tuple(_planned(catalog, by_id, Counter(document_id for document_id, _ in owners.values()))),
        len(owners),
        len(_ids(catalog, ABSORBED_OF, owners)),
        tuple(str(run.scope) for run in changed),
    )
    return Chosen(plan, changed, found)


def _all_found(what: str, wanted: Iterable[int], found: Iterable[int]) -> None:
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise MissingError(f"there is no such {what} here", found=", ".join(map(str, missing[:20])))


def _planned(catalog: Catalog, runs: dict[int, Run], n_gone: Mapping[int, int]) -> Iterator[PlannedDocument]:
    for document_id, scope_id, source, title, date, n_passages in catalog.query_among(
        "SELECT document_id, scope_id, source, title, date, (SELECT count(*) FROM passages "
        "WHERE passages.document_id = documents.document_id) FROM documents WHERE document_id IN (…) "
        "ORDER BY document_id",
        sorted(n_gone),
    ):
        gone, where = n_gone[document_id], str(runs[scope_id].scope)
        yield PlannedDocument(document_id, where, source, title, date, gone, gone == n_passages)


def _by_source(catalog: Catalog, runs: Sequence[Run], patterns: Sequence[str]) -> Iterator[int]:
    for run in runs if patterns else ():
        for document_id, source in catalog.query(
            "SELECT document_id, source FROM documents WHERE scope_id = ?", (run.scope_id,)
        ):
            if any(fnmatchcase(source, pattern) for pattern in patterns):
                yield document_id


def _by_words(catalog: Catalog, runs: Sequence[Run], queries: Sequence[str]) -> Iterator[int]:
    for query in queries:
        words = list(dict.fromkeys(_WORD.findall(query.lower())))
        if not 0 < len(words) <= WORDS_MAX:
            raise InputError("a query is of words", expected=f"1 to {WORDS_MAX}", found=len(words))
        for tenant_id in sorted({run.tenant_id for run in runs}):
            scopes = [run.scope_id for run in runs if run.tenant_id == tenant_id]
            where = f"passages.tenant_id = ? AND passages.scope_id IN ({marks(scopes)})"
            yield from catalog.fulltext.holding(tenant_id, words, where, [tenant_id, *scopes])


def _versions(catalog: Catalog, documents: set[int]) -> set[int]:
    """The documents and all that they replaced or were replaced by."""
    known: set[int] = set()
    while fresh := documents - known:
        known |= fresh
        documents = known | set(_ids(catalog, NEWER_OF, fresh)) | set(_ids(catalog, OLDER_OF, fresh))
    return known


def _ids(catalog: Catalog, sql: str, ids: Iterable[int]) -> list[int]:
    return [int(row[0]) for row in catalog.query_among(sql, sorted(ids))]
