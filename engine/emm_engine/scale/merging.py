"""Memories merged by many workers, in a tree.

Purpose: a unit is a group of memories; its result is the memory of all their pairs. The tree is a function of the
sources' order alone: groups of `FAN_IN` next to each other, then groups of their results. Invariants: as many workers
as there may be, the result is the same to the bit (each merge adds its sources in their order, on one thread); with at
most `FAN_IN` sources it is what `emm.merge` of all of them gives; with more, each level of the tree rounds to float32
once, which is within the bound that merging states (about 1e-5); sources are read and never written, and one that is
written to meanwhile is refused.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import emm
from emm import ExistsError, InputError, MissingError
from emm_engine.scale.partial import Partial
from emm_engine.scale.unit import identity_of
from emm_engine.scale.workers import Workers

FAN_IN: Final = 8

Listing = tuple[tuple[str, int], ...]  # (name, size in bytes) of a memory's files, which only ever grow


@dataclass(frozen=True, slots=True)
class Source:
    """A memory in a folder that client and workers see, as the client saw it."""

    path: Path
    listing: Listing

    @classmethod
    def at(cls, path: Path) -> Source:
        """`MissingError` where there is no memory."""
        return cls(path.absolute(), _listing(path))

    def check(self) -> None:
        found = _listing(self.path)
        if found != self.listing:
            raise InputError("a memory is not as it was", file=str(self.path), expected=self.listing, found=found)


@dataclass(frozen=True, slots=True)
class MergeUnit:
    """Memories to merge, in this order."""

    sources: tuple[Source | Partial, ...]

    @property
    def identity(self) -> str:
        return identity_of("merge", *(each.data if isinstance(each, Partial) else repr(each) for each in self.sources))

    def run(self) -> Partial:
        with tempfile.TemporaryDirectory(prefix="emm-merge-") as scratch:
            into = Path(scratch) / "merged"
            _merge(self.sources, Path(scratch), into).close()
            return Partial.of(into)


def merge_through(workers: Workers, sources: Sequence[Source | Partial], into: Path) -> emm.Memory:
    """A new memory at `into` of all the pairs of all the sources, open for append.

    `InputError` where they do not merge, `ExistsError` where there is something at `into`.
    """
    if not sources:
        raise InputError("there is nothing to merge", expected="at least one source")
    if os.path.lexists(into):
        raise ExistsError("there is something under that name already", file=str(into))
    level = list(sources)
    while len(level) > FAN_IN:
        level = list(workers.results(_groups(level)))
    (last,) = workers.results([MergeUnit(tuple(level))])
    return emm.open(str(last.put(into)), mode="a")


def merge_groups(workers: Workers, groups: Sequence[Sequence[Path]], scratch: Path) -> list[Path]:
    """Each group of memories merged by a worker, below a folder: what `Archive.rollup` takes as `group_merge`."""
    units = (MergeUnit(tuple(Source.at(path) for path in group)) for group in groups)
    return [partial.put(scratch / f"merged-{secrets.token_hex(8)}") for partial in workers.results(units)]


def _groups(level: Sequence[Source | Partial]) -> Iterator[MergeUnit]:
    for low in range(0, len(level), FAN_IN):
        yield MergeUnit(tuple(level[low : low + FAN_IN]))


def _merge(sources: Sequence[Source | Partial], scratch: Path, into: Path) -> emm.Memory:
    with contextlib.ExitStack() as stack:
        opened = []
        for number, each in enumerate(sources):
            if isinstance(each, Source):
                each.check()
            path = each.path if isinstance(each, Source) else each.put(scratch / str(number))
            opened.append(stack.enter_context(emm.open(str(path))))
            if isinstance(each, Source):
                each.check()
        return emm.merge(opened, str(into), expand_at=0.0)


def _listing(path: Path) -> Listing:
    try:
        return tuple(sorted((each.name, each.stat().st_size) for each in path.iterdir() if each.is_file()))
    except FileNotFoundError:
        raise MissingError("there is no memory here", file=str(path)) from None
