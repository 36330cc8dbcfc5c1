"""`execute`: carry out a plan into a new directory, check what was written, and only then give it its name.

Purpose: the one part of a repair that writes. Invariants: the damaged memory and the replica are only read, and no
writer may hold the memory meanwhile; every block is compared with its table entry on its way; what the finished
directory holds is verified again before it appears; where the plan names a loss nothing is written unless it was
allowed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from emm.codec.integrity import check_block
from emm.codec.lineage import Lineage
from emm.codec.snapshot import Snapshot
from emm.errors import CorruptionError, EmmError, FencedError, FormatError, InputError, StorageError
from emm.layout import BLOCK_BYTES, SNAPSHOT_SUFFIX, Origin
from emm.repair.compute import Computer
from emm.repair.mended import MendedSnapshot
from emm.repair.overlay import MendedJournal
from emm.repair.plan import Action, FilePlan, Plan
from emm.repair.planner import Context
from emm.repair.provenance import earlier_records, encode_record, next_name, read_earlier
from emm.repair.rows import Rows, block_of
from emm.repair.segments import Piece
from emm.repair.staging import Staging, refuse_as_full, target_path
from emm.repair.standin import StandIn
from emm.storage.journal_writer import now_us
from emm.storage.names import parse_name
from emm.storage.snapshot_file import publish_snapshot
from emm.verify.finding import Finding
from emm.verify.report import Report, verify
from emm.verify.verdict import Verdict
from emm.vfs import Directory, LocalDirectory
from emm.vfs.resolve import Location

_SOUND = (Verdict.CLEAN, Verdict.CLEAN_UNSEALED, Verdict.TORN)
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Result:
    """What a repair has done."""

    plan: Plan
    path: str
    report: Report  # of the repaired memory, as it was checked before it got its name
    record: str  # name of the record of provenance in it

    @property
    def exit_code(self) -> int:
        """4 when something was lost, else that of the repaired memory: 0, or 6 for a tail that nobody can judge."""
        return 4 if self.plan.losses else self.report.exit_code


def execute(
    plan: Plan,
    out: Location,
    *,
    allow_loss: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> Result:
    """Write the repaired memory to `out`, which must not exist or be an empty directory.

    Raises `CorruptionError` where the plan loses something and `allow_loss` is not given, or where the memory is no
    longer what the plan says; `ExistsError`, `StorageError` (no room, the medium failed), `FencedError` (a writer holds
    the damaged memory). Whatever is raised, nothing is left under `out`.
    """
    context = plan.context
    if not isinstance(context, Context):
        raise InputError("a plan is carried out as `plan` made it")
    if plan.losses and not allow_loss:
        raise CorruptionError(
            "the repair would lose what its plan names, and that was not allowed (--allow-loss)",
            file=plan.url,
            expected="no loss",
            found=f"{len(plan.losses)} of {' and '.join(sorted({loss.kind for loss in plan.losses}, reverse=True))}",
        )
    if not plan.possible:
        raise CorruptionError("nothing is left that opens, so nothing is written", file=plan.url)
    path = target_path(out, plan.url)
    with contextlib.ExitStack() as stack:
        if isinstance(context.own.directory, LocalDirectory):
            stack.callback(_held(context.own.directory))
        with Staging(path, plan.bytes_out) as staging:
            try:
                record = _Writer(plan, context, staging.directory, progress).run()
                report = verify(staging.directory.path, "blocks")
                _require_sound(report, plan)
            except EmmError as error:
                raise refuse_as_full(error, path) from error.__cause__
            staging.adopt()
    return Result(plan, path, _under(report, staging.directory.path, path), record)


def _held(directory: LocalDirectory) -> Callable[[], None]:
    """Keep writers out of the damaged memory while it is read; the function that lets them in again."""
    try:
        return directory.lock().release
    except FencedError:
        raise
    except StorageError:  # a medium without locks cannot be written by this library either
        return lambda: None


def _not_as_planned(error: FormatError | Finding, file: str | None) -> CorruptionError:
    """Bytes that are not what the plan was made from: changed since, or hidden by a report."""
    return CorruptionError(
        f"the memory is not what the plan was made from: {error.message}",
        rule=error.rule,
        file=error.file or file,
        offset=error.offset,
        expected=error.expected,
        found=error.found,
    )


def _require_sound(report: Report, plan: Plan) -> None:
    """The check of what was written: anything but what the plan foresaw means that the plan's facts were wrong."""
    allowed = _SOUND if plan.torn else _SOUND[:2]
    for target in report.targets:
        for each in target.findings:
            if target.verdict not in allowed:
                raise _not_as_planned(each, None)
        if target.lsn != plan.lsn_kept:
            raise CorruptionError(
                "the memory is not what the plan was made from",
                file=plan.url,
                expected=f"lsn {plan.lsn_kept}",
                found=f"lsn {target.lsn}",
            )


def _under(report: Report, staged: str, path: str) -> Report:
    """The report, told of the final place."""
    targets = tuple(
        replace(
            each,
            url=each.url.replace(staged, path),
            findings=tuple(replace(f, file=f.file and f.file.replace(staged, path)) for f in each.findings),
        )
        for each in report.targets
    )
    return Report(path, report.level, report.strict, targets)


class _Writer:
    """Publishes the files of one plan, in an order in which nothing half made opens."""

    def __init__(
        self, plan: Plan, context: Context, directory: Directory, progress: Callable[[str, int], None] | None
    ) -> None:
        self._plan, self._context, self._directory, self._progress = plan, context, directory, progress
        self._written: dict[str, str] = {}
        kept = {each.name: each for each in plan.files if each.action is not Action.LEAVE_OUT}
        segments = {parsed[1]: each for name, each in kept.items() if (parsed := parse_name(name)) and ".wal" in name}
        self._journal = MendedJournal(context.own.directory, self._all_segments(segments))
        self._kept = kept
        self._computer = Computer(plan.url, context.snapshots, self._journal, context.state_bytes_max)

    def _all_segments(self, kept: dict[int, FilePlan]) -> dict[int, tuple[Piece, ...]]:
        """Every readable segment: replay may need older ones than the repaired memory keeps."""
        pieces = {n: tuple(each.pieces) for n, each in self._context.snapshots.segments.items() if each.header}
        return pieces | {n: tuple(each.recipe) for n, each in kept.items() if isinstance(each.recipe, tuple)}

    def run(self) -> str:
        """Publish everything; returns the name of the record of provenance."""
        snapshots = sorted((n for n in self._kept if n.endswith(SNAPSHOT_SUFFIX)), reverse=True)
        for name in self._kept:
            if name not in snapshots:
                self._publish(name, self._segment(name))
        for name in snapshots:
            recipe = self._kept[name].recipe
            if isinstance(recipe, StandIn):
                self._stand_in(name, recipe)
            else:
                assert isinstance(recipe, MendedSnapshot)
                self._publish(name, self._snapshot(recipe))
        earlier = earlier_records(self._context.own.directory)
        for name in earlier:
            data = read_earlier(self._context.own.directory, name)
            if data is not None:
                self._directory.publish(name, [data])
        record = next_name(earlier)
        found = {each.name: self._found(each.name) for each in self._plan.files}
        self._directory.publish(record, [encode_record(self._plan, self._written, found, now_us())])
        return record

    def _publish(self, name: str, chunks: Iterator[bytes]) -> None:
        digest = hashlib.sha256()

        def hashed() -> Iterator[bytes]:
            for chunk in chunks:
                digest.update(chunk)
                if self._progress is not None:
                    self._progress(name, len(chunk))
                yield chunk

        try:
            self._directory.publish(name, hashed())
        except FormatError as error:
            raise _not_as_planned(error, f"{self._plan.url}/{name}") from error
        self._written[name] = digest.hexdigest()

    def _found(self, name: str) -> str | None:
        """SHA-256 of a file as it lies in the damaged memory; None where it cannot be read."""
        directory, digest = self._context.own.directory, hashlib.sha256()
        try:
            size = directory.size(name)
            for offset in range(0, size, _PIECE_BYTES):
                digest.update(directory.read_at(name, offset, min(_PIECE_BYTES, size - offset)))
        except EmmError:
            return None
        return digest.hexdigest()

    def _segment(self, name: str) -> Iterator[bytes]:
        size = self._journal.size(name)
        for offset in range(0, size, _PIECE_BYTES):
            yield self._journal.read_at(name, offset, min(_PIECE_BYTES, size - offset))

    def _snapshot(self, mended: MendedSnapshot) -> Iterator[bytes]:
        """Head, blocks and mirror; each block is what the head's table states."""
        assert mended.found is not None
        shape, table = mended.found.head.geometry, mended.found.head.table
        rebuilt = None
        filled: frozenset[int] = frozenset()
        if mended.replay is not None:
            filled = frozenset(mended.replay.blocks)
            header, lineage = mended.found.head.header, mended.found.head.lineage
            through = header.lsn, lineage.chain
            rebuilt = self._computer.replayed(mended.replay.base, mended.replay.rows, header.parameters.dim, through)[0]
        yield mended.found.data
        for index, entry in enumerate(table):
            if rebuilt is not None and index in filled:
                data = block_of(rebuilt, shape, index)
                check_block(data, entry, index, shape.payload_offset + index * BLOCK_BYTES)
                yield data
            else:
                yield self._context.snapshots.block(mended, index)
        yield mended.found.mirror

    def _stand_in(self, name: str, recipe: StandIn) -> None:
        """A snapshot of origin `repair` (L-7): the state that the journal gives, in the place of one that is lost."""
        base = recipe.base
        assert base.generation is not None
        mended = self._context.snapshots.mended[base.generation]
        assert mended.found is not None
        head = mended.found.head
        rows: Rows = ((0, base.parameters.dim - 1),)
        through = recipe.lsn, recipe.chain
        rebuilt, replayer = self._computer.replayed(base, rows, base.parameters.dim, through)
        parsed = parse_name(name)
        assert parsed is not None
        lineage = Lineage(
            write_count=replayer.write_count,
            time_us=now_us(),
            chain=recipe.chain,
            parent_sha256=head.header.sha256,
            writer_nonce=os.urandom(16),
            floor_generation=parsed[1],
            segment_next=recipe.segment_next,
            expand_at=replayer.expand_at,
            origin=Origin.REPAIR,
        )
        snapshot = Snapshot(rebuilt.state, parsed[1], recipe.lsn, head.header.uuid, lineage, head.metadata)
        publish_snapshot(self._directory, snapshot)
        self._written[name] = hashlib.sha256(self._directory.map(name)).hexdigest()
