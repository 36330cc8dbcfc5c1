"""From a v3 file to a v4 memory: read as one, or published as one beside it (`spec/emm-v3.md`, V3-13 to V3-17).

Purpose: `open` and `emm upgrade` in one place. Invariants: the v3 file is opened for reading only; everything that can
be refused is refused before a directory is made; the memory appears with the link of its first snapshot and is whole,
so a crash leaves it absent; the same upgrade again changes nothing and says so.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any

from emm.codec.header import payload_bytes
from emm.codec.lineage import Lineage
from emm.codec.metadata import Metadata
from emm.codec.snapshot import Snapshot
from emm.errors import EmmError, ExistsError, InputError, LimitError, MissingError, NotEmmError
from emm.layout import STATE_BYTES_MAX, Origin
from emm.memory.inputs import ArrayLike, pair_rows
from emm.state import MatrixState, Parameters
from emm.storage.names import list_memory, snapshot_name
from emm.storage.recovery import Recovered
from emm.storage.snapshot_file import load_head
from emm.v3.codec import Cell
from emm.v3.file import V3File, is_v3_file, read_v3_file
from emm.v3.layout import V3Flag
from emm.v3.upgrade import Pairs, parameters_of, related, solved, upgraded
from emm.vfs.protocol import Directory
from emm.vfs.resolve import Location, is_directory, open_directory, open_file

BESIDE = ".v4"  # what an upgrade for appending adds to the file's name


@dataclass(frozen=True, slots=True)
class UpgradePlan:
    """What an upgrade would do, or has found done. Nothing is written to find out."""

    source: V3File
    target: Location
    pairs: Pairs | None
    pairs_sha256: str | None
    related: float | None  # cosine of C̃ and Σ v kᵀ over the pairs given
    done: bool  # the target is this upgrade already

    @property
    def parameters(self) -> Parameters:
        return parameters_of(self.source.cell)

    @property
    def flags(self) -> tuple[str, ...]:
        """The file's flags by name."""
        return tuple(str(flag.name).lower().replace("_", "-") for flag in V3Flag if flag in self.source.cell.flags)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        cell, parameters = self.source.cell, self.parameters
        return {
            "source": self.source.url,
            "sha256": self.source.sha256.hex(),
            "target": os.fspath(self.target),
            "dim": cell.dim,
            "log_scale": cell.log_scale,
            "flags": list(self.flags),
            "rank": parameters.rank,
            "rule": parameters.rule.name.lower(),
            "pairs": None if self.pairs is None else len(self.pairs.keys),
            "related": self.related,
            "done": self.done,
        }


def beside(source: Location) -> str:
    """Where opening a v3 file for append puts the memory: the file's own name and `.v4`."""
    return os.fspath(source) + BESIDE


def v3_at(url: Location, *, state_bytes_max: int = STATE_BYTES_MAX) -> V3File | None:
    """The v3 file at a path or URL, read and checked; None where something else lies there, or nothing."""
    try:
        if is_directory(url):
            return None
        directory, name = open_file(url)
        try:
            if not is_v3_file(directory, name):
                return None
            found = read_v3_file(directory, name, state_bytes_max=state_bytes_max)
        finally:
            directory.close()
    except MissingError:
        return None
    _check_size(found.cell, state_bytes_max)
    return found


def plan_upgrade(
    source: Location,
    target: Location,
    *,
    pairs: tuple[ArrayLike, ArrayLike] | None = None,  # (n, dim) keys and values: all that the cell was written with
    state_bytes_max: int = STATE_BYTES_MAX,
) -> UpgradePlan:
    """Check everything that an upgrade needs. Raises `MissingError`, `FormatError`, `InputError`, `ExistsError`."""
    if is_directory(source):
        raise InputError("this is a directory, not a v3 file", file=os.fspath(source))
    found = v3_at(source, state_bytes_max=state_bytes_max)
    if found is None:
        raise NotEmmError("not a v3 file", rule="V3-1", file=os.fspath(source))
    given, digest, cosine = None, None, None
    if pairs is not None:
        keys, values = pair_rows(parameters_of(found.cell), *pairs)
        if not len(keys):
            raise InputError("no pairs are given", expected="all pairs of the v3 file")
        given = Pairs(keys, values)
        digest = hashlib.sha256(keys.tobytes() + values.tobytes()).hexdigest()
        cosine = related(found.cell, given)
    return UpgradePlan(found, target, given, digest, cosine, _is_done(target, found, digest))


def state_of(plan: UpgradePlan) -> MatrixState:
    """The state that the upgrade publishes."""
    return upgraded(plan.source.cell) if plan.pairs is None else solved(plan.source.cell, plan.pairs)


def metadata_of(source: V3File, pairs_sha256: str | None) -> Metadata:
    """The metadata of an upgraded memory (V3-14)."""
    return {"upgrade": {"format": "emm-v3", "sha256": source.sha256.hex(), "pairs": pairs_sha256}}


def recovered_from(source: V3File) -> Recovered:
    """What a session shows of a v3 file: its upgrade, of which nothing is written anywhere."""
    state = upgraded(source.cell)
    lineage = Lineage(parent_sha256=source.sha256, expand_at=0.0, origin=Origin.UPGRADE)
    snapshot = Snapshot(state, 1, 0, bytes(16), lineage, metadata_of(source, None))
    notice = "this is a v3 file: it is read as upgraded in memory, and nothing is written"
    return Recovered(
        snapshot=snapshot,
        snapshot_sha256=bytes(32),
        state=state,
        lsn=0,
        chain=bytes(32),
        write_count=0,
        expand_at=0.0,
        replayed=0,
        proven_lsn=0,
        unproven=(),
        torn=None,
        sealed=True,
        generation_last=1,
        segment_next=1,
        previous_bytes=0,
        journal_bytes=0,
        floor_generation=1,
        notices=(notice,),
    )


def _check_size(cell: Cell, state_bytes_max: int) -> None:
    """S-1, for the state that the upgrade needs: P̄ makes it twice the file."""
    size = payload_bytes(parameters_of(cell))
    if size > state_bytes_max:
        raise LimitError(
            "the upgraded memory would be larger than this process allows",
            rule="S-1",
            expected=f"at most {state_bytes_max} bytes",
            found=size,
        )


def _is_done(target: Location, source: V3File, pairs_sha256: str | None) -> bool:
    """True when the target is this upgrade; `ExistsError` when it is anything else that a memory could be."""
    directory = open_directory(target)
    try:
        newest = snapshot_name(list_memory(directory).generations[-1])
        stated = load_head(directory, newest).metadata.get("upgrade")
    except (MissingError, IndexError):
        _refuse_taken(directory)
        return False
    finally:
        directory.close()
    if stated == metadata_of(source, pairs_sha256)["upgrade"]:
        return True
    same = isinstance(stated, dict) and stated.get("sha256") == source.sha256.hex()
    what = "was upgraded from this file, but not with these pairs" if same else "was not upgraded from this file"
    raise ExistsError(f"there is a memory that {what}; nothing is changed", file=directory.url)


def _refuse_taken(directory: Directory) -> None:
    try:
        names = directory.list()
    except MissingError:
        try:
            taken = not is_directory(directory.url)
        except EmmError:
            return
        if taken:
            raise ExistsError("the name is taken by something that is not a directory", file=directory.url) from None
        return
    if names:
        raise ExistsError("the directory exists and is not empty", file=directory.url)
