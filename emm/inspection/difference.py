"""What changed between two states: in the log, in the parameters, in the numbers.

Purpose: compare two generations, or two memories. Invariants: reads only; what cannot be had of one side (its state,
its journal) is said, and the rest is still compared; two rows are equal when their bits are; one chunk of each matrix
is widened at a time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from emm import kernel
from emm.codec.payload import state_digest
from emm.codec.snapshot import Head
from emm.errors import EmmError
from emm.inspection.history import read_journal
from emm.inspection.matrix import Matrix, newest_matrix
from emm.inspection.place import Place, opened
from emm.inspection.spectrum import Float64Array, row_chunks, spectrum_of
from emm.inspection.values import CommitInfo
from emm.storage.names import list_memory

LARGEST_ROWS = 8
SPECTRUM_SIDE_MAX = 1024  # each side costs an eigenvalue problem


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two. Measures are None where `problem` says why the state could not be had, or M is too large."""

    url: str
    uuid: str
    generation: int
    lsn: int
    chain: str
    source: str
    dim: int
    rank: int
    write_count: int
    digest: str | None
    saturation: float | None
    effective_rank: float | None
    n_bad_rows: int
    problem: str | None


@dataclass(frozen=True, slots=True)
class RowChange:
    """How far one row of M moved: ‖Δ‖₂, and beside it the row's norm before."""

    row: int
    change: float
    before: float


@dataclass(frozen=True, slots=True)
class Numbers:
    """M after minus M before, over the `n_rows` rows that both sides have whole."""

    n_rows: int
    n_columns: int
    n_rows_changed: int
    n_numbers_changed: int
    norm_before: float
    norm_after: float
    norm_change: float
    max_change: float
    largest: tuple[RowChange, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Two states compared. `commits` lead from the older to the newer, as far as a journal at hand holds them."""

    before: Side
    after: Side
    relation: str
    parameters: tuple[tuple[str, str, str], ...]  # name, before, after
    commits: tuple[CommitInfo, ...]
    commits_problem: str | None
    numbers: Numbers | None
    numbers_problem: str | None
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class _Loaded:
    place: Place
    head: Head
    matrix: Matrix


@dataclass(frozen=True, slots=True)
class _Path:
    """Commits after the older state up to the newer, and the chain values that their journal has at both ends."""

    commits: tuple[CommitInfo, ...] = ()
    n_missing: int = 0
    chain_older: str | None = None
    chain_newer: str | None = None


def diff(url: str | os.PathLike[str], other: str | os.PathLike[str]) -> Difference:
    """From the state at `url` to the state at `other`; each a memory directory (its last commit) or a snapshot file."""
    with opened(url) as first, opened(other) as second:
        before, after = _load(first), _load(second)
        path = _between(before, after)
        missing = f"{path.n_missing} of the commits between are in no journal at hand" if path.n_missing else None
        numbers, numbers_problem = _numbers(before.matrix, after.matrix)
        return Difference(
            _side(before),
            _side(after),
            _relation(before, after, path),
            _parameters(before.head, after.head),
            path.commits,
            missing,
            numbers,
            numbers_problem,
            max(before.matrix.exit_code, after.matrix.exit_code),
        )


def _load(place: Place) -> _Loaded:
    matrix = newest_matrix(place)
    return _Loaded(place, place.head(matrix.generation).known, matrix)


def _side(loaded: _Loaded) -> Side:
    matrix, state = loaded.matrix, loaded.matrix.state
    spectrum = spectrum_of(matrix.rows, side_max=SPECTRUM_SIDE_MAX)
    return Side(
        loaded.place.url,
        loaded.head.header.uuid.hex(),
        matrix.generation,
        matrix.lsn,
        matrix.chain.hex(),
        matrix.source,
        matrix.rows.shape[0],
        matrix.rows.shape[1],
        matrix.write_count,
        None if state is None else state_digest(state, matrix.lsn).hex(),
        None if state is None or state.gain is None else kernel.saturation(state),
        spectrum.effective_rank if state is not None else None,
        matrix.n_bad,
        matrix.problem,
    )


def _between(before: _Loaded, after: _Loaded) -> _Path:
    """The longest way from the older state to the newer one in the journals beside the two."""
    first, last = sorted((before.matrix.lsn, after.matrix.lsn))
    uuid = before.head.header.uuid
    if uuid != after.head.header.uuid:
        return _Path()
    best = _Path(n_missing=last - first)
    for side in (after, before):
        try:
            segments = list_memory(side.place.directory).segments
            _, all_commits = read_journal(side.place.directory, segments, uuid)
        except EmmError:
            continue
        chains = {each.lsn: each.chain for each in all_commits if each.lsn in (first, last)} | {0: bytes(32).hex()}
        commits = tuple(each for each in all_commits if first < each.lsn <= last)
        if len(commits) > len(best.commits):
            best = _Path(commits, last - first - len(commits), chains.get(first), chains.get(last))
    return best


def _relation(before: _Loaded, after: _Loaded, path: _Path) -> str:
    a, b = before.matrix, after.matrix
    if before.head.header.uuid != after.head.header.uuid:
        return "two different memories"
    if a.lsn == b.lsn:
        return f"the same commit {a.lsn}" if a.chain == b.chain else f"two histories, each with its own commit {a.lsn}"
    older, newer, said = (a, b, "later") if a.lsn < b.lsn else (b, a, "earlier")
    led = ((path.chain_older, older), (path.chain_newer, newer))
    if any(chain is not None and chain != each.chain.hex() for chain, each in led):
        return "two histories of one memory: the journal at hand leads from one of them to somewhere else"
    if path.n_missing:
        return f"the second is {said} by its numbers; no journal at hand leads from one to the other"
    return f"the second is {said}: commits {older.lsn + 1}–{newer.lsn} lie between"


def _parameters(before: Head, after: Head) -> tuple[tuple[str, str, str], ...]:
    a, b = before.header, after.header
    pairs = [
        (name, getattr(a.parameters, name), getattr(b.parameters, name))
        for name in ("dim", "key_dim", "rank", "rule", "projection", "seed", "ridge")
    ]
    pairs += [("flags", a.flags, b.flags), ("origin", before.lineage.origin, after.lineage.origin)]
    pairs += [("expand_at", before.lineage.expand_at, after.lineage.expand_at)]
    pairs += [("metadata", before.metadata, after.metadata)]
    return tuple((name, _word(x), _word(y)) for name, x, y in pairs if x != y)


def _word(value: object) -> str:
    name = getattr(value, "name", None)
    return name.lower().replace("_", "-") if isinstance(name, str) else str(value)


def _numbers(before: Matrix, after: Matrix) -> tuple[Numbers | None, str | None]:
    if before.rows.shape != after.rows.shape:
        shapes = " and ".join("{} × {}".format(*each.rows.shape) for each in (before, after))
        return None, f"M has other shapes, {shapes}: its numbers cannot be set side by side"
    n_rows, n_columns = before.rows.shape
    whole = np.ones(n_rows, bool)
    for first, last in (*before.bad_rows, *after.bad_rows):
        whole[first : last + 1] = False
    moved, norms, norms_after = (np.zeros(n_rows) for _ in range(3))
    changed, numbers, largest = np.zeros(n_rows, bool), 0, 0.0
    for start, chunk in row_chunks(before.rows):
        other = after.rows[start : start + len(chunk)]
        here = slice(start, start + len(chunk))
        different = (chunk.view(np.uint32) != other.view(np.uint32)) & whole[here, None]
        changed[here], numbers = different.any(axis=1), numbers + int(different.sum())
        with np.errstate(invalid="ignore", over="ignore"):
            old, new = chunk.astype(np.float64), other.astype(np.float64)
            norms[here], norms_after[here] = np.linalg.norm(old, axis=1), np.linalg.norm(new, axis=1)
            moved[here] = np.linalg.norm(new - old, axis=1)
            largest = max(largest, float(np.abs(new - old)[whole[here]].max(initial=0.0)))
    top = np.argsort(-np.where(whole, moved, 0.0), kind="stable")[:LARGEST_ROWS]
    rows = tuple(RowChange(int(row), float(moved[row]), float(norms[row])) for row in top if changed[row])
    left_out = int((~whole).sum())
    return (
        Numbers(
            n_rows - left_out,
            n_columns,
            int(changed.sum()),
            numbers,
            _norm(norms[whole]),
            _norm(norms_after[whole]),
            _norm(moved[whole]),
            largest,
            rows,
        ),
        f"{left_out} rows are left out: they lie in damaged blocks" if left_out else None,
    )


def _norm(parts: Float64Array) -> float:
    return float(np.linalg.norm(parts))
