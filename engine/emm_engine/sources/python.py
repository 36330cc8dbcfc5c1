"""The documentation of Python's standard library as documents: the corpus that is always there.

Purpose: the demo's input on a machine with few changelogs. Docstrings are read from source with `ast`,
so nothing is imported or executed except `pydoc_data.topics`, a dictionary of texts. Invariants: order is by
path, then by position; a file that does not parse is reported and skipped; the date is the file's own.
"""

from __future__ import annotations

import ast
import os
import sysconfig
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from emm_engine.documents import FILE_DATE, Document, Label, utc_text
from emm_engine.sources.changelog import Problem

DOCSTRING_CHARS_MIN = 60
_SKIPPED = frozenset({"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "turtledemo"})
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def python_documentation(problem: Problem | None = None) -> Iterator[Document]:
    """Topics of `pydoc_data`, then the docstrings of the standard library, labelled by module."""
    yield from _topics()
    root = Path(sysconfig.get_paths()["stdlib"])
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED and name.isidentifier())
        for name in sorted(names):
            if name.endswith(".py"):
                yield from _module(Path(folder, name), root, problem)


def _topics() -> Iterator[Document]:
    try:
        from pydoc_data import topics
    except ImportError:
        return
    location = getattr(topics, "__file__", None)
    date = _modified(Path(location)) if location else ""
    labels = (Label("module", "language"), FILE_DATE)
    for name, text in sorted(topics.topics.items()):
        if text.strip():
            yield Document("pydoc_data/topics.py", name, text.strip("\n"), date, labels)


def _module(path: Path, root: Path, problem: Problem | None) -> Iterator[Document]:
    source = path.relative_to(root).as_posix()
    module = source.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes(), source)
        date = _modified(path)
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        if problem is not None:
            problem(source, f"{type(error).__name__}: {error}")
        return
    labels = (Label("module", module), Label("package", module.partition(".")[0]), FILE_DATE)
    for title, text in _docstrings(tree, module):
        yield Document(source, title, text, date, labels)


def _docstrings(tree: ast.Module, module: str) -> Iterator[tuple[str, str]]:
    pending: list[tuple[str, _Documented]] = [(module, tree)]
    while pending:
        title, node = pending.pop(0)
        text = ast.get_docstring(node)
        if text is not None and len(text) >= DOCSTRING_CHARS_MIN and "\0" not in text:
            yield title, text
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                pending.append((f"{title}.{child.name}", child))


def _modified(path: Path) -> str:
    return utc_text(datetime.fromtimestamp(path.stat().st_mtime, UTC))
