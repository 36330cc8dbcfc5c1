"""A copy of the repository in which a bug lies in the source itself, and the tests run from there.

Purpose: let everything that a test starts (commands, children, other interpreters) run the mutant, and leave the
repository alone. Invariants: the copy holds what the repository holds, without what runs leave behind; a changed file
gets a time of its own, so no stale bytecode is run; a probed copy behaves as the original and notes what it reaches.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from emm_fuzz import REPOSITORY
from emm_fuzz.mutants.patching import Function, Patch, function_in, patched_module, place_of, source_in
from emm_fuzz.mutants.selection import NUMBER, PLAN

LEFT_OUT: Final = (".venv", ".git", "build", "dist", ".*_cache", ".hypothesis", "__pycache__", "demo-archive")
LOG: Final = "EMM_MUTANTS_LOG"
PROBED: Final = "emm/**/*.py"
UNPROBED: Final = ("emm/kernel/", "emm/_")  # hot loops, and what may not import anything

_PROBE: Final = f'''
import os as _os

_seen, _open, _close, _environ = set(), _os.open, _os.close, _os.environ


def reached(what):
    """Leave an empty file: that works at any limit on file sizes, and whatever a test has put in the place of `os`."""
    number = _environ.get("{NUMBER}")
    if number is not None and (number, what) not in _seen:
        _seen.add((number, what))
        _close(_open(_environ["{LOG}"] + "/" + number + "~" + what, _os.O_CREAT | _os.O_WRONLY))
'''

Report = dict[str, dict[str, Any]]  # by node id: numbers, seconds, outcome, why


class Copy:
    """The repository once more, in a scratch folder."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        scratch.chmod(0o711)  # a test gives its rights away, and its probes must still get through
        self.tree = scratch / "tree"
        shutil.copytree(REPOSITORY, self.tree, ignore=shutil.ignore_patterns(*LEFT_OUT))
        self._time = 1_000_000_000

    def file_of(self, module: str) -> Path:
        """The source of a module of `emm`."""
        path = self.tree.joinpath(*module.split("."))
        return path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"

    @contextlib.contextmanager
    def _texts(self, texts: Mapping[Path, str]) -> Iterator[None]:
        """These files hold something else while the block runs."""
        kept = {path: path.read_text() for path in texts}
        try:
            for path, text in texts.items():
                self._write(path, text)
            yield
        finally:
            for path, text in kept.items():
                self._write(path, text)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        self._time += 10
        os.utime(path, (self._time, self._time))

    def planted(self, patches: Sequence[Patch]) -> contextlib.AbstractContextManager[None]:
        """The copy with this bug in it."""
        texts = {}
        for module in dict.fromkeys(each.module for each in patches):
            path = self.file_of(module)
            texts[path] = patched_module(path.read_text(), [each for each in patches if each.module == module])
        return self._texts(texts)

    @contextlib.contextmanager
    def probed(self, patches: Mapping[str, Sequence[Patch]], *, functions: bool) -> Iterator[None]:
        """The copy with a probe at every place where one of these bugs could begin, and with `functions` in each."""
        texts = {}
        files = sorted(self.tree.glob(PROBED)) if functions else []
        modules = {self.module_of(path) for path in files if not self._path_in_tree(path).startswith(UNPROBED)}
        modules |= {each.module for group in patches.values() for each in group}
        for module in sorted(modules):
            path = self.file_of(module)
            here = [(what, each) for what, group in patches.items() for each in group if each.module == module]
            texts[path] = probed_module(path.read_text(), module, here, functions)
        probe = self.tree / "emm" / "_probe.py"
        probe.write_text(_PROBE)
        try:
            with self._texts(texts):
                yield
        finally:
            probe.unlink()

    def _path_in_tree(self, path: Path) -> str:
        return str(path.relative_to(self.tree))

    def module_of(self, path: Path) -> str:
        return self._path_in_tree(path.with_suffix("")).replace(os.sep, ".").removesuffix(".__init__")

    def run(self, tests: list[str] | None, *, seconds: float | None, first: bool) -> tuple[Report, set[str]]:
        """Run tests (None: all outside the fuzz group), with `first` up to the first failure: (report, what was
        reached). A test that hangs counts as failed."""
        report, log = self._scratch / "report.json", self._scratch / "log"
        report.unlink(missing_ok=True)
        shutil.rmtree(log, ignore_errors=True)
        log.mkdir()
        log.chmod(0o777)
        plan = self._scratch / "plan.json"
        plan.write_text(json.dumps({"tests": tests, "report": str(report)}))
        folders = [str(self.tree / each) for each in ("", "engine", "tools", "fuzz")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(folders),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(self._scratch / "hypothesis"),
            PLAN: str(plan),
            LOG: str(log),
        }
        files = ["tests"] if tests is None else list(dict.fromkeys(each.partition("::")[0] for each in tests))
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "--ignore=tests/fuzz", "--hypothesis-seed=0"]
        command += ["-p", "no:cacheprovider", "-p", "emm_fuzz.mutants.selection"]
        command += [f"--basetemp={self._scratch / 'pytest'}", *(["-x"] if first else []), *files]
        with (self._scratch / "output.txt").open("w") as output:
            try:
                subprocess.run(
                    command, cwd=self.tree, env=environment, stdout=output, stderr=output, timeout=seconds, check=False
                )
            except subprocess.TimeoutExpired:
                hanging = report.with_suffix(".now").read_text()
                return {hanging: {"outcome": "failed", "seconds": seconds, "why": "it hangs"}}, set()
        if not report.exists():
            raise RuntimeError((self._scratch / "output.txt").read_text()[-2000:])
        found: Report = json.loads(report.read_text())
        stopped = first and any(each["outcome"] == "failed" for each in found.values())
        left_out = [each for each in tests or () if each not in found]
        if left_out and not stopped:
            text = (self._scratch / "output.txt").read_text()
            broken = re.search(r"ERROR collecting (\S+)", text)
            its = [each for each in left_out if broken and each.startswith(f"{broken[1]}::")]
            if not its:
                raise RuntimeError(f"not all tests ran:\n{text[-2000:]}")
            found[its[0]] = {"outcome": "failed", "seconds": 0.0, "why": "its module cannot be imported"}
        return found, {each.name for each in log.iterdir()}


# --- probes ---------------------------------------------------------------------------------------


def probed_module(text: str, module: str, patches: Sequence[tuple[str, Patch]], functions: bool) -> str:
    """A module's text that says where it is: at `patches`, and with `functions` in every function and method."""
    tree = ast.parse(text)
    for what, patch in patches:
        first, _, source = source_in(text, patch.path)
        start = place_of(source, patch)
        start += len(patch.old) - len(patch.old.lstrip())
        _insert(function_in(tree, patch.path), first + 1 + source.count("\n", 0, start), what, patch)
    if functions:
        for path, function in _functions(tree, ""):
            docstring = ast.get_docstring(function, clean=False) is not None
            function.body.insert(int(docstring), _call(f"{module}:{path}"))
    after = next((i for i, each in enumerate(tree.body) if not _is_head(each)), len(tree.body))
    tree.body.insert(after, ast.parse("from emm._probe import reached as _emm_reached").body[0])
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def _is_head(node: ast.stmt) -> bool:
    """A docstring, or an import that must come first."""
    return isinstance(node, ast.Expr) or (isinstance(node, ast.ImportFrom) and node.module == "__future__")


def _functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")


def _call(what: str) -> ast.stmt:
    return ast.parse(f"_emm_reached({what!r})").body[0]


def _insert(function: Function, line: int, what: str, patch: Patch) -> None:
    """Put a probe before the smallest statement that holds this line, or around it when only its failure counts.

    What `when` cannot be asked there counts as true.
    """
    block, index = _innermost(function.body, line)
    call = f"_emm_reached({what!r})"
    if patch.raising:
        probe = ast.parse(f"try:\n pass\nexcept {patch.raising}:\n {call}\n raise").body[0]
        assert isinstance(probe, ast.Try)
        probe.body = [block[index]]
        block[index] = ast.copy_location(probe, block[index])
        return
    condition = "True" if isinstance(block[index], ast.While) or not patch.when else patch.when
    block.insert(index, ast.parse(f"try:\n if {condition}:\n  {call}\nexcept Exception:\n {call}").body[0])


def _innermost(block: list[ast.stmt], line: int) -> tuple[list[ast.stmt], int]:
    for index, statement in enumerate(block):
        if not _spans(statement, line):
            continue
        for name in ("body", "orelse", "finalbody", "handlers"):
            inner = getattr(statement, name, [])
            blocks = [each.body for each in inner] if name == "handlers" else [inner]
            for each in blocks:
                if any(_spans(child, line) for child in each):
                    return _innermost(each, line)
        return block, index
    raise LookupError(f"no statement at line {line}")


def _spans(node: ast.stmt, line: int) -> bool:
    """Probes that were put in before have no line of their own."""
    return hasattr(node, "end_lineno") and node.lineno <= line <= (node.end_lineno or 0)
