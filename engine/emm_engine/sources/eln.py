"""`.eln` exports of electronic lab notebooks: RO-Crates in a zip archive, as documents.

Purpose: an experiment (`Dataset`) becomes a document of its name, description, text, parameters and comments; a file
(`File`) of a format that is known becomes its own documents. Keywords are tags, authors are labels, the experiment is
the project of its files. Invariants: the archive is read under the limits of `zips`, nothing is unpacked to disk; no
reference is followed out of the archive or to a network; a member that cannot be read is reported and the rest is read;
the spec is that of the ELN Consortium (RO-Crate 1.1 and later).
"""

from __future__ import annotations

import io
import json
import posixpath
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

from emm_engine.documents import LABELS_MAX, Document, Label
from emm_engine.extraction.note_tables import table_passages
from emm_engine.sources.changelog import Problem
from emm_engine.sources.files import SourceFile
from emm_engine.sources.isolation import parse
from emm_engine.sources.settings import DEFAULT, Settings
from emm_engine.sources.text import TITLE_CHARS_SHOWN
from emm_engine.sources.values import clean, date_of_value, named
from emm_engine.sources.zips import SafeZip, opened_zip

SUFFIXES = frozenset({".eln"})
METADATA = "ro-crate-metadata.json"
METADATA_BYTES_MAX = 64 << 20
ENTITIES_MAX = 50_000
HTML_CPU_SECONDS = 10.0

Node = dict[str, Any]
ReadMember = Callable[[SourceFile], Iterator[Document]]  # the documents of a file of any format, none for others


def read_eln(file: SourceFile, problem: Problem, read: ReadMember, settings: Settings = DEFAULT) -> Iterator[Document]:
    """The documents of one export: its experiments in the order of the crate, each followed by its files."""
    with opened_zip(file.stream, file.size) as archive:
        yield from _Crate(file, archive, problem, settings).documents(read)


class _Crate:
    """The graph of one archive."""

    def __init__(self, file: SourceFile, archive: SafeZip, problem: Problem, settings: Settings) -> None:
        self._file = file
        self._archive = archive
        self._problem = problem
        self._settings = settings
        places = [name for name in archive.members if name.rpartition("/")[2] == METADATA and name.count("/") <= 1]
        if len(places) != 1:
            raise ValueError(f"{len(places)} files {METADATA} where one is needed, so it is no ELN export")
        self._root = places[0].rpartition("/")[0]
        try:
            crate = json.loads(archive.read(places[0], METADATA_BYTES_MAX).decode("utf-8-sig"))
        except RecursionError:
            raise ValueError(f"{METADATA} is nested too deeply") from None
        graph = crate.get("@graph") if isinstance(crate, dict) else None
        if not isinstance(graph, list) or len(graph) > ENTITIES_MAX:
            raise ValueError(f"{METADATA} has no graph of at most {ENTITIES_MAX} entities")
        self._nodes: dict[str, Node] = {}
        for node in graph:
            if isinstance(node, dict) and isinstance(node.get("@id"), str):
                self._nodes.setdefault(_identity(node["@id"]), node)

    def documents(self, read: ReadMember) -> Iterator[Document]:
        owner: dict[str, Node] = {}  # of each file: the experiment that lists it
        for node in self._nodes.values():
            if "Dataset" in _types(node):
                for part in _references(node.get("hasPart")):
                    owner.setdefault(part, node)
        for identity, node in self._nodes.items():
            if "Dataset" in _types(node):
                yield from self._experiment(identity, node)
        for identity, node in self._nodes.items():
            if "File" in _types(node):
                yield from self._member(identity, owner.get(identity, {}), read)

    # --- experiments -----------------------------------------------------------------------------

    def _experiment(self, identity: str, node: Node) -> Iterator[Document]:
        title = _plain(node.get("name")) or identity.rpartition("/")[2] or self._file.stem
        text = "\n\n".join(filter(None, self._parts(node)))
        if not text:
            return
        yield Document(
            self._source(identity),
            title[:TITLE_CHARS_SHOWN],
            text,
            self._date(node),
            tuple(self._labels(node))[:LABELS_MAX],
            f"{self._file.key}/{identity}",
            table_passages(text, self._settings.is_outcome, self._settings.is_condition),
        )

    def _parts(self, node: Node) -> Iterator[str]:
        for field in ("description", "text"):
            yield self._readable(node.get(field))
        yield "\n".join(self._parameters(node))
        for comment in self._followed(node.get("comment")):
            said = self._readable(comment.get("text") or comment.get("description"))
            if said:
                who = ", ".join(self._people(comment))
                yield f"Comment{' of ' + who if who else ''}: {said}"

    def _parameters(self, node: Node) -> Iterator[str]:
        """`name: value unit` of each parameter that was recorded."""
        for value in self._followed(node.get("variableMeasured")):
            name, number = _plain(value.get("name") or value.get("propertyID")), _plain(value.get("value"))
            if name and number:
                yield f"{name}: {number} {_plain(value.get('unitText') or value.get('unitCode'))}".rstrip()

    def _readable(self, value: Any) -> str:
        """Text of a field, which most notebooks store as HTML."""
        text = clean(value) if isinstance(value, str) else ""
        if "<" in text and ">" in text:
            (found,) = parse("html", text.encode(), HTML_CPU_SECONDS)
            text = clean(found["text"])
        return text.strip()

    def _labels(self, node: Node) -> Iterator[Label]:
        listed = node.get("keywords")
        words = listed.split(",") if isinstance(listed, str) else [_plain(each) for each in _list(listed)]
        yield from named("tag", words)
        yield from named("author", self._people(node))

    def _people(self, node: Node) -> list[str]:
        names = []
        for person in self._followed(node.get("author") or node.get("creator")):
            parts = [_plain(person.get(part)) for part in ("givenName", "familyName")]
            names.append(_plain(person.get("name")) or " ".join(filter(None, parts)))
        return [name for name in names if name]

    def _date(self, node: Node) -> str:
        told = (date_of_value(node.get(field)) for field in ("dateModified", "dateCreated", "datePublished"))
        return next(filter(None, told), "")

    def _followed(self, value: Any) -> list[Node]:
        """The nodes that a field names, or holds."""
        found = []
        for each in _list(value):
            if isinstance(each, dict):
                found.append(
                    self._nodes.get(_identity(each["@id"]), each) if isinstance(each.get("@id"), str) else each
                )
            elif isinstance(each, str):
                found.append(self._nodes.get(_identity(each), {"name": each}))
        return found

    # --- files -----------------------------------------------------------------------------------

    def _member(self, identity: str, experiment: Node, read: ReadMember) -> Iterator[Document]:
        name = posixpath.join(self._root, identity)
        if name not in self._archive.members:
            if ":" not in identity.partition("/")[0]:  # a URL is no member
                self._problem(self._source(identity), "listed, and not in the archive")
            return
        date = self._date(experiment) or self._file.modified
        try:
            data = self._archive.read(name)
        except ValueError as error:
            self._problem(self._source(identity), str(error))
            return
        member = SourceFile(self._source(identity), f"{self._file.key}/{identity}", date, len(data), io.BytesIO(data))
        labels = [*named("project", [_plain(experiment.get("name"))]), *self._labels(experiment)]
        for document in read(member):
            yield _with_labels(document, labels)

    def _source(self, identity: str) -> str:
        return f"{self._file.source}/{clean(identity)}".rstrip("/")


def _with_labels(document: Document, labels: list[Label]) -> Document:
    joined = tuple(dict.fromkeys((*document.labels, *labels)))[:LABELS_MAX]
    return Document(
        document.source, document.title, document.text, document.date, joined, document.key, document.passages
    )


def _identity(text: str) -> str:
    """An entity's id as members are named: without `./`, without escapes, without the slash at its end."""
    return posixpath.normpath(unquote(clean(text))).removeprefix("./").rstrip("/")


def _types(node: Node) -> list[Any]:
    return _list(node.get("@type"))


def _references(value: Any) -> list[str]:
    return [
        _identity(each["@id"]) for each in _list(value) if isinstance(each, dict) and isinstance(each.get("@id"), str)
    ]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _plain(value: Any) -> str:
    """A short text of a value: itself, or what its node calls itself."""
    if isinstance(value, dict):
        value = value.get("name") or value.get("value") or ""
    return (
        " ".join(clean(value).split()) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    )
