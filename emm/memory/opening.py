"""`create`, `open`, `merge` and `upgrade`: from a URL to an open memory.

Purpose: the doors into `Memory`. Invariants: creating never replaces what exists; opening for
append takes the lock before it reads, and starts only from bytes whose SHA-256 was verified; a memory
that appears is complete.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TypeVar

from emm import kernel
from emm.codec.header import parameter_fault, payload_bytes
from emm.codec.lineage import ZERO_DIGEST, Lineage
from emm.codec.metadata import Metadata, encode_metadata
from emm.codec.snapshot import Snapshot
from emm.errors import ExistsError, FencedError, InputError, LimitError, MissingError
from emm.layout import EXPAND_AT_DEFAULT, RIDGE_DEFAULT, SEED_DEFAULT, STATE_BYTES_MAX, Origin, Projection
from emm.memory.facts import RULE_NAMES
from emm.memory.inputs import expand_at_of, integer, ridge_of
from emm.memory.memory import Memory
from emm.memory.upgrading import UpgradePlan, beside, metadata_of, plan_upgrade, recovered_from, state_of, v3_at
from emm.state import MatrixState, Parameters, empty_state
from emm.storage.journal_writer import now_us
from emm.storage.recovery import recover
from emm.storage.session import Session
from emm.storage.snapshot_file import publish_snapshot
from emm.vfs.resolve import Location, open_directory

Choice = TypeVar("Choice")

NORMALISED = "upgraded from a v3 file, whose normaliser divides the answers until the first write"
PROJECTION_NAMES = {"none": Projection.NONE, "hadamard": Projection.HADAMARD}


def create(
    url: Location,
    *,
    dim: int,
    rank: int,
    key_dim: int,
    rule: str = "preconditioned",
    projection: str = "hadamard",
    seed: int = SEED_DEFAULT,
    ridge: float = RIDGE_DEFAULT,
    expand_at: float = EXPAND_AT_DEFAULT,
    metadata: Metadata | None = None,
) -> Memory:
    """A new, empty memory in a new directory, open for append.

    `dim` numbers in a value, `key_dim` in a key; `rank` is a multiple of 16 and at most `key_dim`. The
    default rule recalls best; "gated-delta" drifts gracefully; "outer-product" is v3's. `ridge` λ is the
    prior's weight (2⁻⁶ recalls exactly; near 1 for noisy many-to-one labels). Equal `seed` and `ridge`
    let memories merge. `expand_at` is the saturation above which the rank doubles by itself (0: never).
    Raises `InputError`, `ExistsError`, `StorageError`.
    """
    parameters = Parameters(
        integer("dim", dim),
        integer("key_dim", key_dim),
        integer("rank", rank),
        _choice("rule", rule, RULE_NAMES),
        _choice("projection", projection, PROJECTION_NAMES),
        integer("seed", seed),
        ridge_of(ridge),
    )
    fault = parameter_fault(parameters)
    if fault is not None:
        raise InputError(f"a memory cannot have this shape: {fault[1]}", rule=fault[0])
    if payload_bytes(parameters) > STATE_BYTES_MAX:
        raise LimitError(
            "a memory of that shape is larger than this process allows",
            rule="S-1",
            expected=f"at most {STATE_BYTES_MAX} bytes",
            found=payload_bytes(parameters),
        )
    threshold = expand_at_of(expand_at)
    return _publish_first(url, empty_state(parameters), Origin.CHECKPOINT, 0, threshold, metadata)


def open(
    url: Location,
    mode: str = "r",
    *,
    verify: str = "blocks",
    state_bytes_max: int = STATE_BYTES_MAX,
) -> Memory:
    """The memory in a directory: "r" maps the newest snapshot and replays the journal in memory, "a" may write.

    A v3 file is read as upgraded in memory; "a" publishes the upgrade as a memory beside it (its name and `.v4`), or
    goes on with the one that is there, and never touches the file.

    `verify="lazy"` skips the block checksums when reading (header and table are always checked); append
    never does. Raises `MissingError`, `FencedError` (another writer holds it), `FormatError`, `StorageError`.
    """
    if mode not in ("r", "a"):
        raise InputError("unknown mode", expected="'r' or 'a'", found=repr(mode))
    if verify not in ("blocks", "lazy"):
        raise InputError("unknown verify", expected="'blocks' or 'lazy'", found=repr(verify))
    try:
        return _open_memory(url, mode, verify, state_bytes_max)
    except MissingError:
        source = v3_at(url, state_bytes_max=state_bytes_max)
        if source is None:
            raise
    if mode == "r":
        return Memory(Session(open_directory(url), recovered_from(source), None, state_bytes_max=state_bytes_max))
    target = beside(url)
    plan = plan_upgrade(url, target, state_bytes_max=state_bytes_max)
    if plan.done:
        return _open_memory(target, mode, verify, state_bytes_max)
    return upgrade(plan)


def _open_memory(url: Location, mode: str, verify: str, state_bytes_max: int) -> Memory:
    directory = open_directory(url)
    lock = None
    try:
        if mode == "r":
            recovered = recover(directory, verify=verify == "blocks", mapped=True, state_bytes_max=state_bytes_max)
        else:
            lock = directory.lock()
            directory.sweep()
            recovered = recover(directory, state_bytes_max=state_bytes_max)
        session = Session(directory, recovered, lock, state_bytes_max=state_bytes_max)
        if session.state.normaliser is not None:
            session.notices.append(NORMALISED)
        return Memory(session)
    except BaseException:
        if lock is not None:
            lock.release()
        directory.close()
        raise


def merge(
    sources: Sequence[Location | Memory],
    into: Location,
    *,
    expand_at: float | None = None,
    metadata: Metadata | None = None,
) -> Memory:
    """A new memory of all the pairs of all the sources, open for append; the sources are not changed.

    Exact (about 1e-5) for rule-2 memories with the same shape, seed and λ that never decayed or expanded
    barely; anything else is refused with `InputError`. The pairs stay in the sources' journals, so the
    merged memory does not expand by itself.
    """
    if not sources:
        raise InputError("there is nothing to merge", expected="at least one source")
    states: list[MatrixState] = []
    writes, threshold = 0, 0.0
    with contextlib.ExitStack() as stack:
        for source in sources:
            memory = source if isinstance(source, Memory) else stack.enter_context(open(source))
            states.append(memory.state())
            writes += memory.write_count
            threshold = max(threshold, memory.expand_at)
        merged = kernel.merge(states)
    return _publish_first(
        into, merged, Origin.MERGE, writes, threshold if expand_at is None else expand_at_of(expand_at), metadata
    )


def upgrade(plan: UpgradePlan) -> Memory:
    """Publish what `plan_upgrade` has planned, as a new memory that is open for append; the v3 file stays.

    Raises `ExistsError` where the upgrade is done or the name taken.
    """
    if plan.done:
        raise ExistsError("this file is upgraded already", file=os.fspath(plan.target))
    n_pairs = 0 if plan.pairs is None else len(plan.pairs.keys)
    metadata = metadata_of(plan.source, plan.pairs_sha256)
    parent = plan.source.sha256
    return _publish_first(plan.target, state_of(plan), Origin.UPGRADE, n_pairs, 0.0, metadata, parent_sha256=parent)


def _publish_first(
    url: Location,
    state: MatrixState,
    origin: Origin,
    write_count: int,
    expand_at: float,
    given: Metadata | None,
    *,
    parent_sha256: bytes = ZERO_DIGEST,
) -> Memory:
    """Make the directory, publish generation 1, and open it for append under one lock."""
    metadata = {} if given is None else given
    encode_metadata(metadata)
    directory = open_directory(url)
    directory.create()
    lock = directory.lock()
    try:
        directory.sweep()
        lineage = Lineage(
            write_count=write_count,
            time_us=now_us(),
            parent_sha256=parent_sha256,
            writer_nonce=os.urandom(16),
            expand_at=expand_at,
            origin=origin,
        )
        try:
            publish_snapshot(directory, Snapshot(state, 1, 0, os.urandom(16), lineage, metadata))
        except FencedError:
            raise ExistsError("another process has just created a memory here", file=directory.url) from None
        return Memory(Session(directory, recover(directory), lock))
    except BaseException:
        lock.release()
        directory.close()
        raise


def _choice(name: str, given: str, choices: dict[str, Choice]) -> Choice:
    if not isinstance(given, str) or given not in choices:
        raise InputError(f"unknown {name}", expected=" or ".join(map(repr, choices)), found=repr(given))
    return choices[given]
