"""What an inspection gives out: frozen values, one for each kind of thing in a memory.

Purpose: the vocabulary that the views of this package share, and their way into JSON. Invariants: nothing here reads;
`problem` is None where all is well, else one sentence; `plain` gives what strict JSON can hold, so a number that is not
finite becomes None.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from emm.verify.finding import Span


def plain(value: Any) -> Any:
    """Dataclasses, tuples and numbers as `json.dumps(…, allow_nan=False)` takes them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


@dataclass(frozen=True, slots=True)
class ShapeInfo:
    """Parameters of the newest readable snapshot."""

    dim: int
    key_dim: int
    rank: int
    rule: str
    projection: str
    seed: int
    ridge: float
    flags: tuple[str, ...]
    expand_at: float


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """One array of the payload: byte offset in the file, rows, numbers in a row (0 for scalars)."""

    name: str
    offset: int
    bytes: int
    n_rows: int
    n_columns: int


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """One 64 KiB block of the payload. `problem` is None when it matches its checksums or was not compared."""

    index: int
    offset: int  # in the file
    holds: tuple[Span, ...]
    crc32: str
    sha256: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """One generation. Fields after `bytes` are None when neither copy of its head can be read; `problem` says why.

    `head_from` is "head", or "mirror" when only the copy at the end of the file is whole.
    """

    name: str
    bytes: int
    generation: int | None = None
    lsn: int | None = None
    origin: str | None = None
    time_us: int | None = None
    write_count: int | None = None
    rank: int | None = None
    sha256: str | None = None
    problem: str | None = None
    head_from: str | None = None


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """One commit of the journal. `surprise` is the mean ‖e‖₂ over its pairs before they were written."""

    lsn: int
    time_us: int
    action: str  # write, unlearn, forget, expand or parameters; several joined by +
    n_pairs: int
    surprise: float
    segment: int
    offset: int  # of the batch in its segment
    saturation: float | None = None  # after this commit, where it was replayed
    utilisation: float | None = None  # effective rank of M / rank after it, at some of those
    chain: str = ""


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """One journal file. `n_dead` of its commits were fenced off by a later segment."""

    name: str
    bytes: int
    uuid: str | None = None
    first_lsn: int | None = None
    n_commits: int = 0
    n_dead: int = 0
    sealed: bool = False
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class StateInfo:
    """Measures of the arithmetic state. `spectrum` are the singular values of M, largest first.

    Where M is too large for a glance, or holds what is no number, `spectrum_problem` says so, `spectrum` is empty and
    `effective_rank` None. `utilisation` is effective rank / rank.
    """

    digest: str
    rank: int
    saturation: float | None
    effective_rank: float | None
    utilisation: float | None
    spectrum: tuple[float, ...]
    write_count: int
    replayed: int
    notices: tuple[str, ...]
    spectrum_problem: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What `emm.verify` says at level `blocks`: every byte read, the journal included."""

    verdict: str
    exit_code: int
    findings: tuple[str, ...]
    n_snapshots: int
    n_blocks: int
    n_segments: int
    n_commits: int
    n_v3_files: int
    bytes_read: int

    @property
    def healthy(self) -> bool:
        return self.verdict in ("clean", "clean-unsealed")


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything `inspect` found; `shape` to `blocks` describe the newest readable snapshot.

    `state_problem` says why a state that was asked for could not be had; `exit_code` is then that error's.
    `history_problem` says why saturations of older commits are missing.
    """

    url: str
    kind: str  # "memory", "snapshot", "segment" or "v3 file"
    uuid: str | None
    shape: ShapeInfo | None
    generation: int | None
    lsn: int | None  # last commit of snapshots and journal
    chain: str | None
    parent_uuid: str | None
    parent_sha256: str | None
    metadata: dict[str, Any]
    regions: tuple[RegionInfo, ...]
    blocks: tuple[BlockInfo, ...]
    snapshots: tuple[SnapshotInfo, ...]
    segments: tuple[SegmentInfo, ...]
    commits: tuple[CommitInfo, ...]  # live ones, ascending LSN
    state: StateInfo | None = None
    state_problem: str | None = None
    history_problem: str | None = None
    health: Health | None = None
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        found: dict[str, Any] = plain(self)
        return found
