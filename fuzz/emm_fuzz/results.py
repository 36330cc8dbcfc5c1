"""The record of campaigns: one line a piece in a JSONL file, the states themselves in a cache beside the repository.

Purpose: numbers that survive a kill, and a count of distinct states that is exact across pieces and processes.
Invariants: a piece's states are on disk before its line is; `new` of a line counts the states that no piece before it
had, so the sum of `new` over the lines of one code is the number of distinct states, with or without the cache; lines
of other code are kept and never mixed in.
"""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import emm
from emm.testing.machine import commit
from emm_fuzz import REPOSITORY
from emm_fuzz.jsonl import Line, append_line, read_lines
from emm_fuzz.pieces import Keys, Piece
from emm_fuzz.record import Tally

_PACKAGES = {"emm": Path(emm.__file__).parent, "emm_fuzz": Path(__file__).parent}


def code_digest(start: str = "emm_fuzz.pieces") -> str:
    """Changes with the source of whatever takes part in a piece: modules that lead to one another, the C kernel."""
    found: dict[str, bytes] = {}
    names = [start]
    while names:
        name = names.pop()
        source = None if name in found else _source(name)
        if source is not None:
            found[name] = source
            names += [name.rpartition(".")[0], *_imports(source)]
    for path in (REPOSITORY / "emm" / "kernel" / "c").glob("*.[ch]"):
        found[path.name] = path.read_bytes()
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(name.encode() + b"\0" + hashlib.sha256(found[name]).digest())
    return digest.hexdigest()[:16]


def _source(name: str) -> bytes | None:
    """A module of ours; None for others, and for names inside a module."""
    package, *rest = name.split(".")
    if package not in _PACKAGES:
        return None
    path = _PACKAGES[package].joinpath(*rest)
    for each in (path.with_suffix(".py"), path / "__init__.py"):
        if each.is_file():
            return each.read_bytes()
    return None


def _imports(source: bytes) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)


def line_of(piece: Piece, tally: Tally, keys: Keys, seconds: float) -> Line:
    """What a piece came to; `Results.add` completes it."""
    counted = tally.to_dict()
    return {
        "piece": piece.id,
        "seconds": round(seconds, 1),
        **counted,
        "faults": sum(tally.faults.values()),
        "together": len(keys),
        "replay": [case.to_json() for case, _ in tally.violations[:3]],
    }


@dataclass(slots=True)
class _Cache:
    """The states of each piece, as sorted hashes, a file each."""

    folder: Path

    def _path(self, piece_id: str) -> Path:
        return self.folder / f"{piece_id.replace('/', '-')}.npy"

    def write(self, piece_id: str, keys: Keys) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(piece_id)
        with path.with_suffix(".tmp").open("wb") as file:
            np.save(file, keys)
        os.replace(path.with_suffix(".tmp"), path)

    def read(self, piece_id: str) -> Keys | None:
        try:
            found: Keys = np.load(self._path(piece_id))
        except FileNotFoundError:
            return None
        return found


class Results:
    """The lines of one code, and every state that they stand for."""

    def __init__(self, path: Path, cache: Path, code: str) -> None:
        self.path = path
        self.code = code
        self._commit = commit("emm", "fuzz")  # at the start: what is committed later takes no part in it
        self.lines = [line for line in read_lines(path) if line["code"] == code]
        self._cache = _Cache(cache / code)
        self._keys: Keys = np.empty(0, np.uint64)
        self.missing: list[str] = []  # pieces that have a line and no states in the cache
        for line in self.lines:
            keys = self._cache.read(line["piece"]) if "piece" in line else None
            if keys is not None:
                self._take(keys)
            elif "piece" in line:
                self.missing.append(line["piece"])

    @property
    def done(self) -> set[str]:
        """Pieces that need not run again: those without a violation."""
        return {line["piece"] for line in self.lines if "piece" in line and not line["violations"]}

    @property
    def distinct(self) -> int:
        return sum(line.get("new", 0) for line in self.lines)

    @property
    def folder(self) -> Path:
        """For what else may be kept as long as the code stays."""
        return self._cache.folder

    def add(self, line: Line, keys: Keys) -> Line:
        """Keep a piece: its states, then its line. Without the states of earlier ones it could not be counted."""
        if self.missing:
            raise LookupError("states of earlier pieces are missing, so new ones cannot be told from old ones")
        self._cache.write(line["piece"], keys)
        new = self._take(keys)
        return self._append({**line, "new": new, "distinct_so_far": self.distinct + new})

    def note(self, line: Line) -> None:
        """Keep a line that is no piece, once."""
        if not any(line.items() <= each.items() for each in self.lines):
            self._append(line)

    def restore(self, piece_id: str, trace: object, keys: Keys) -> None:
        """Put the states of a piece back that ran again; its trace must be the one on record."""
        recorded = next(line["trace"] for line in self.lines if line.get("piece") == piece_id)
        if trace != recorded:
            raise LookupError(f"{piece_id} left the trace {recorded} once and {trace} now, with the same code")
        self._cache.write(piece_id, keys)
        self._take(keys)
        self.missing.remove(piece_id)

    def _append(self, line: Line) -> Line:
        line = {"code": self.code, "commit": self._commit, **line}
        append_line(self.path, line)
        self.lines.append(line)
        return line

    def _take(self, keys: Keys) -> int:
        """Add sorted hashes to the sorted ones; how many were new."""
        at = np.searchsorted(self._keys, keys)
        known = np.zeros(len(keys), bool)
        inside = at < len(self._keys)
        known[inside] = self._keys[at[inside]] == keys[inside]
        self._keys = np.insert(self._keys, at[~known], keys[~known])
        return int((~known).sum())


def by_code(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """Lines of one code together, in the order in which codes appear."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line["code"], []).append(line)
    return found
