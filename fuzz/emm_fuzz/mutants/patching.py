"""A patch: a few words of one function of the library replaced, in memory or in a copy of its source.

Purpose: plant a bug in shipped code without a copy of it. Invariants: the words to replace occur exactly once, so a
patch that no longer fits the source fails loudly; in memory the function's code object is exchanged in place, so
every module that imported it runs the bug, and it is put back whatever happens; only the standard library is needed.
"""

from __future__ import annotations
import __future__

import ast
import contextlib
import hashlib
import importlib
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any


@dataclass(frozen=True, slots=True)
class Patch:
    """In function `target` ("module:Class.method"), `old` becomes `new`; with `when`, only where that is true.

    With `raising`, `old` stays, and `new` is done when it raises that. Lines of `new` keep the indent of `old`. With
    `when`, `old` is one expression, or whole statements; with `raising` it is one statement.
    """

    target: str
    old: str
    new: str
    when: str = ""
    raising: str = ""

    @property
    def lines(self) -> int:
        return 1 + self.new.count("\n") + 2 * bool(self.when or self.raising)

    @property
    def module(self) -> str:
        return self.target.partition(":")[0]

    @property
    def path(self) -> str:
        return self.target.partition(":")[2]


def hash_of(patches: Iterable[Patch]) -> str:
    """Changes when a word of these patches does."""
    text = repr([(each.target, each.old, each.new, each.when, each.raising) for each in patches])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def place_of(source: str, patch: Patch) -> int:
    """Where the words to replace begin in the function's source."""
    count = source.count(patch.old)
    if count != 1:
        raise LookupError(f"{patch.target} holds {count} times: {patch.old!r}")
    return source.index(patch.old)


def patched(source: str, patches: Iterable[Patch]) -> str:
    """The dedented source of a function with the replacements made, one after another."""
    for patch in patches:
        start = place_of(source, patch)
        line = source[:start].rpartition("\n")[2]
        code = (line + patch.old).lstrip()
        indent = (line + patch.old)[: len(line + patch.old) - len(code)]
        after = source[start + len(patch.old) :].partition("\n")[0]
        part = bool(line.strip() or after.strip())
        new = _replacement(patch, patch.old.replace("\n" + indent, "\n"), part)
        source = source[:start] + new.replace("\n", "\n" + indent) + source[start + len(patch.old) :]
    return source


def _replacement(patch: Patch, old: str, part: bool) -> str:
    """What stands in the place of `old`, which is `part` of a line or whole statements."""
    if not patch.when and not patch.raising:
        return patch.new
    if part:
        return f"({patch.new} if {patch.when} else {old})"
    old, new = textwrap.indent(old, "    "), textwrap.indent(patch.new, "    ")
    if patch.raising:
        return f"try:\n{old}\nexcept {patch.raising}:\n{new}"
    return f"if {patch.when}:\n{new}\nelse:\n{old}"


# --- in memory ------------------------------------------------------------------------------------


def function_of(target: str) -> FunctionType:
    """The plain function behind "module:name" or "module:Class.name"."""
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = inspect.getattr_static(found, name)
    found = getattr(found, "fget", found)
    found = inspect.unwrap(getattr(found, "__func__", found))
    assert isinstance(found, FunctionType), target
    return found


def mutated(target: str, patches: Sequence[Patch]) -> CodeType:
    """The code of a function with the replacements made."""
    function = function_of(target)
    source = textwrap.dedent(inspect.getsource(function))
    source = patched(source[source.index("def ") :], patches)  # without decorators
    names: dict[str, Any] = dict(function.__globals__)
    flags = __future__.annotations.compiler_flag
    try:
        exec(compile(source, f"<mutant of {target}>", "exec", flags=flags, dont_inherit=True), names)
    except SyntaxError as error:
        raise LookupError(f"{target}: {error}") from error
    code = names[function.__name__].__code__
    assert isinstance(code, CodeType) and code.co_freevars == function.__code__.co_freevars, target
    return code


@contextlib.contextmanager
def planted(*patches: Patch) -> Iterator[None]:
    """The library with this bug in it."""
    targets = dict.fromkeys(patch.target for patch in patches)
    codes = {target: mutated(target, [each for each in patches if each.target == target]) for target in targets}
    kept = {target: function_of(target).__code__ for target in targets}
    try:
        for target, code in codes.items():
            function_of(target).__code__ = code
        yield
    finally:
        for target, code in kept.items():
            function_of(target).__code__ = code


# --- in a file's text -----------------------------------------------------------------------------

Function = ast.FunctionDef | ast.AsyncFunctionDef


def function_in(tree: ast.AST, path: str) -> Function:
    """The definition of "name" or "Class.name" in a module's syntax tree."""
    found = tree
    for name in path.split("."):
        inside = [each for each in ast.iter_child_nodes(found) if getattr(each, "name", None) == name]
        if len(inside) != 1:
            raise LookupError(f"{path}: {len(inside)} times {name}")
        found = inside[0]
    assert isinstance(found, Function), path
    return found


def source_in(text: str, path: str) -> tuple[int, int, str]:
    """(first line, line after the last, dedented source without decorators) of a function in a module's text."""
    node = function_in(ast.parse(text), path)
    assert node.end_lineno is not None
    lines = text.splitlines(keepends=True)[node.lineno - 1 : node.end_lineno]
    return node.lineno - 1, node.end_lineno, textwrap.dedent("".join(lines))


def patched_module(text: str, patches: Sequence[Patch]) -> str:
    """A module's text with the replacements made in its functions."""
    for path in dict.fromkeys(each.path for each in patches):
        first, end, source = source_in(text, path)
        lines = text.splitlines(keepends=True)
        indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
        function = textwrap.indent(patched(source, [each for each in patches if each.path == path]), indent)
        text = "".join([*lines[:first], function, *lines[end:]])
    return text
