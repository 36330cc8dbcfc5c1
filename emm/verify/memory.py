"""Check one target: a memory directory, or a single snapshot or segment file.

Purpose: put the checks of snapshots, journal, replay and numbers together, then name repairs. Invariants:
a memory whose listing changed under the check is checked again; when a shallow level finds damage that its
own file cannot mend, the whole memory is read to say whether anything can.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from emm.errors import EmmError, FormatError, MissingError, StorageError
from emm.layout import SEGMENT_HEADER, SEGMENT_MAGIC, SEGMENT_SUFFIX, SNAPSHOT_SUFFIX
from emm.storage.names import Listing, parse_name, segment_name, snapshot_name
from emm.storage.segment_file import SegmentReader
from emm.v3.file import is_v3_file
from emm.verify.coverage import Coverage
from emm.verify.evidence import Evidence, with_repairs
from emm.verify.finding import Finding, Severity, finding, from_error
from emm.verify.journal import JournalCheck
from emm.verify.levels import Level, Options
from emm.verify.numeric import check_state
from emm.verify.replay import ReplayCheck
from emm.verify.segments import Segment, SegmentScan
from emm.verify.snapshot import SnapshotCheck
from emm.verify.v3 import check_v3
from emm.verify.verdict import Verdict, verdict_of
from emm.vfs.protocol import Directory

_ATTEMPTS = 6


@dataclass(slots=True)
class Checked:
    """Everything known about one target."""

    url: str
    kind: str  # memory, snapshot, segment or v3
    coverage: Coverage
    findings: list[Finding] = field(default_factory=list)
    uuid: bytes | None = None
    generation: int | None = None  # the newest whole one
    lsn: int | None = None  # the last whole commit


def list_files(directory: Directory) -> tuple[Listing, list[str]]:
    """(the memory's own files, loose .emm and .wal files beside them)."""
    found: dict[str, list[int]] = {SNAPSHOT_SUFFIX: [], SEGMENT_SUFFIX: []}
    loose = []
    for name in directory.list():
        parsed = parse_name(name)
        if parsed is not None:
            found[parsed[0]].append(parsed[1])
        elif name.endswith((SNAPSHOT_SUFFIX, SEGMENT_SUFFIX)):
            loose.append(name)
    return Listing(tuple(sorted(found[SNAPSHOT_SUFFIX])), tuple(sorted(found[SEGMENT_SUFFIX]))), loose


def check_memory(directory: Directory, options: Options) -> Checked:
    """Check the memory in a directory; the caller knows that it holds at least one of its files."""
    for attempt in range(_ATTEMPTS):
        before = _sizes(directory)
        checked = _check_memory(directory, list_files(directory)[0], options)
        doubtful = any(each.severity not in (Severity.NOTICE, Severity.UNSEALED) for each in checked.findings)
        if not doubtful or attempt + 1 == _ATTEMPTS or _sizes(directory) == before:
            break  # else a writer was at work: half a record on its way looks torn, a pruned file missing
    unmended = any(verdict_of(each) is Verdict.LOSS for each in checked.findings)
    if options.level < Level.BLOCKS and unmended:
        return check_memory(directory, replace(options, level=Level.BLOCKS))
    return checked


def _sizes(directory: Directory) -> dict[str, int]:
    """Names and sizes, which change with everything a writer does."""
    sizes = {}
    for name in directory.list():
        with contextlib.suppress(StorageError):
            sizes[name] = directory.size(name)
    return sizes


def _check_memory(directory: Directory, listing: Listing, options: Options) -> Checked:
    coverage = Coverage(options.level, memories=1)
    checked = Checked(directory.url, "memory", coverage)
    snapshots = [SnapshotCheck(directory, snapshot_name(n), options, n) for n in listing.generations]
    for snapshot in snapshots:
        checked.findings += snapshot.run()
        _count(coverage, snapshot)
    checked.uuid = _uuid(snapshots)
    checked.findings += _foreign(snapshots, checked.uuid)
    if options.level < Level.BLOCKS:
        checked.findings += _segment_headers(directory, listing.segments, checked)
        checked.findings += _missing_generations(snapshots, listing, None, directory.url)
        checked.generation = max((s.header.generation for s in snapshots if s.header is not None), default=None)
        checked.lsn = max((s.header.lsn for s in snapshots if s.header is not None), default=None)
        return checked
    scan = SegmentScan(directory, checked.uuid)
    interest = {each.head.header.lsn for each in snapshots if each.head is not None}
    segments = list(scan.read_all(listing.segments, interest))
    _count_segments(coverage, segments, scan.commits, options)
    checked.uuid = scan.uuid
    evidence = Evidence(tuple(snapshots), tuple(segments), scan.chains)
    checked.findings += JournalCheck(evidence, directory.url).run()
    checked.findings += _missing_generations(snapshots, listing, evidence, directory.url)
    checked.findings = with_repairs(_as_damage(checked.findings, snapshots, segments), evidence)
    if options.level >= Level.REPLAY and scan.uuid is not None:
        replay = ReplayCheck(directory, tuple(snapshots), tuple(segments), scan.uuid, options)
        checked.findings += replay.run()
        coverage.commits_replayed, coverage.snapshots_compared = replay.commits, replay.compared
    whole = [each.head.header for each in snapshots if each.whole and each.head is not None]
    checked.generation = max((header.generation for header in whole), default=None)
    ends = [header.lsn for header in whole] + [s.live_last for s in segments]
    checked.lsn = max(ends, default=None)
    return checked


def check_file(directory: Directory, name: str, options: Options) -> Checked:
    """Check one file by itself: what its own bytes say, and what they alone can mend."""
    try:
        if is_v3_file(directory, name):
            return _check_v3_file(directory, name, options)
        is_segment = directory.read_at(name, 0, min(8, directory.size(name))) == SEGMENT_MAGIC
    except MissingError:
        raise
    except StorageError as error:
        checked = Checked(f"{directory.url}/{name}", "file", Coverage(options.level))
        checked.findings.append(from_error("unreadable", error, file=checked.url))
        return checked
    if is_segment or (name.endswith(SEGMENT_SUFFIX) and not name.endswith(SNAPSHOT_SUFFIX)):
        return _check_segment_file(directory, name, options)
    return _check_snapshot_file(directory, name, options)


def _check_snapshot_file(directory: Directory, name: str, options: Options) -> Checked:
    checked = Checked(f"{directory.url}/{name}", "snapshot", Coverage(options.level))
    parsed = parse_name(name)
    check = SnapshotCheck(directory, name, options, parsed[1] if parsed else None)
    checked.findings = with_repairs(list(check.run()), Evidence((check,), ()))
    _count(checked.coverage, check)
    if check.header is not None:
        checked.uuid, checked.generation, checked.lsn = check.header.uuid, check.header.generation, check.header.lsn
    if options.level >= Level.NUMERIC and check.whole:
        try:
            checked.findings += check_state(check.state(), check.file)
        except EmmError as error:
            checked.findings.append(from_error("changed-while-reading", error, file=check.file))
    return checked


def _check_v3_file(directory: Directory, name: str, options: Options) -> Checked:
    checked = Checked(f"{directory.url}/{name}", "v3", Coverage(options.level))
    checked.findings = list(check_v3(directory, name, options, checked.coverage))
    return checked


def _check_segment_file(directory: Directory, name: str, options: Options) -> Checked:
    checked = Checked(f"{directory.url}/{name}", "segment", Coverage(options.level))
    parsed = parse_name(name)
    if parsed is None or parsed[0] != SEGMENT_SUFFIX:
        message = "a journal segment is checked under its own name, sixteen digits and .wal"
        checked.findings.append(finding("wrong-name", message, rule="N-2", file=checked.url))
        checked.coverage.left_out.append(checked.url)
        return checked
    scan = SegmentScan(directory, None)
    segments = list(scan.read_all([parsed[1]], set()))
    _count_segments(checked.coverage, segments, scan.commits, options)
    checked.findings = list(JournalCheck(Evidence((), tuple(segments), scan.chains), directory.url).run())
    checked.uuid, checked.lsn = scan.uuid, segments[0].live_last if segments[0].header is not None else None
    return checked


# --- pieces ---------------------------------------------------------------------------------------


def _count(coverage: Coverage, check: SnapshotCheck) -> None:
    coverage.snapshots += 1
    coverage.bytes_total += check.size
    coverage.bytes_read += check.bytes_read
    coverage.blocks += check.blocks_checked


def _count_segments(coverage: Coverage, segments: list[Segment], commits: int, options: Options) -> None:
    coverage.segments += len(segments)
    coverage.bytes_total += sum(each.size for each in segments)
    coverage.commits += commits
    for each in segments:
        if each.read_error is None and each.header is not None:
            coverage.bytes_read += each.size
            if options.progress is not None:
                options.progress(each.file, each.size)


def _uuid(snapshots: list[SnapshotCheck]) -> bytes | None:
    """The UUID that most snapshots state; the newer one of a tie."""
    known = [each.header.uuid for each in snapshots if each.header is not None]
    counts = Counter(known)
    return max(reversed(known), key=lambda uuid: counts[uuid], default=None)


def _foreign(snapshots: list[SnapshotCheck], uuid: bytes | None) -> Iterator[Finding]:
    for each in snapshots:
        if each.header is not None and each.header.uuid != uuid and uuid is not None:
            yield finding(
                "foreign-file",
                "the snapshot belongs to another memory",
                rule="N-6",
                file=each.file,
                offset=64,
                expected=uuid.hex(),
                found=each.header.uuid.hex(),
            )
            each.head, each.state_valid = None, False  # nothing in it speaks for this memory


def _segment_headers(directory: Directory, numbers: tuple[int, ...], checked: Checked) -> Iterator[Finding]:
    for number in numbers:
        file = f"{directory.url}/{segment_name(number)}"
        checked.coverage.segments += 1
        try:
            reader = SegmentReader(directory, number, checked.uuid or b"")
            checked.coverage.bytes_total += reader.size
            checked.coverage.bytes_read += SEGMENT_HEADER.size
        except StorageError as error:
            yield from_error("unreadable", error, file=file)
        except FormatError as error:
            yield from_error("segment-header-damaged", error, file=file, offset=0, length=SEGMENT_HEADER.size)


def _missing_generations(
    snapshots: list[SnapshotCheck], listing: Listing, evidence: Evidence | None, url: str
) -> Iterator[Finding]:
    """Generations are dense and pruned from the oldest on, so a gap is a loss of the file in it."""
    for before, after in itertools.pairwise(snapshots):
        assert before.number is not None and after.number is not None
        for generation in range(before.number + 1, min(after.number, before.number + 1000)):
            repair = None
            if evidence is not None and before.whole and after.whole:
                repair = evidence.between(before, after, generation)
            message = "a snapshot between two others is gone"
            yield finding(
                "generation-missing", message, rule="R-10", file=f"{url}/{snapshot_name(generation)}", repair=repair
            )
    if not listing.generations:
        yield finding("generation-missing", "there is a journal but no snapshot", rule="R-1", file=url)


def _as_damage(findings: list[Finding], snapshots: list[SnapshotCheck], segments: list[Segment]) -> list[Finding]:
    """Among files that are EMM, one that does not look like it is damaged, not foreign to the format."""
    known = any(each.header is not None for each in snapshots) or any(
        each.header is not None and each.header_error is None for each in segments
    )
    if not known:
        return findings
    return [
        replace(each, code="header-damaged", severity=Severity.DAMAGE) if each.code == "not-emm" else each
        for each in findings
    ]
