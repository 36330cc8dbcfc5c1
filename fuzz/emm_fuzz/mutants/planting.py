"""A mutant: a few words of the library's own source replaced while a block runs.

Purpose: plant a bug in shipped code without a copy of it. Invariants: the words to replace occur exactly once, so a
mutant that no longer fits the source fails loudly; the function's code object is exchanged in place, so every module
that imported it runs the mutant; it is put back whatever happens.
"""

from __future__ import annotations
import __future__

import contextlib
import importlib
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from emm_fuzz.mutants.killers import Killer


@dataclass(frozen=True, slots=True)
class Patch:
    """In function `target` ("module:Class.method"), `old` becomes `new`. Lines of `new` keep the indent of `old`."""

    target: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug, and what must see it."""

    name: str
    story: str
    patches: tuple[Patch, ...]
    killer: Killer

    @property
    def lines(self) -> int:
        return sum(1 + patch.new.count("\n") for patch in self.patches)


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
    """The code of a function with the replacements made, one after another."""
    function = function_of(target)
    source = textwrap.dedent(inspect.getsource(function))
    source = source[source.index("def ") :]  # without decorators
    for patch in patches:
        count = source.count(patch.old)
        if count != 1:
            raise LookupError(f"{target} holds {count} times: {patch.old!r}")
        line = source[: source.index(patch.old)].rpartition("\n")[2] + patch.old
        indent = line[: len(line) - len(line.lstrip())]
        source = source.replace(patch.old, patch.new.replace("\n", "\n" + indent))
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
