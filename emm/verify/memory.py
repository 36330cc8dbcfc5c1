"""Check one memory directory.

Purpose: put the checks of snapshots, journal, replay and numbers together, then name repairs. Invariants: a memory that
changed under the check is checked again, and nothing that a change could explain is called damage; when a shallow level
or a sample finds damage that its own file cannot mend, the whole memory is read to say whether anything can.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from emm.errors import FormatError, MissingError, StorageError
from emm.layout import SEGMENT_HEADER, SEGMENT_SUFFIX, SNAPSHOT_SUFFIX
from emm.storage.names import Listing, parse_name, segment_name, snapshot_name
from emm.storage.segment_file import SegmentReader
from emm.verify.checked import ATTEMPTS, Checked, count, count_segments, seen
from emm.verify.coverage import Coverage
from emm.verify.evidence import Evidence, with_repairs
from emm.verify.finding import Finding, Severity, finding, from_error
from emm.verify.journal import JournalCheck
from emm.verify.levels import CHECKED_SUFFIXES, Level, Options
from emm.verify.replay import ReplayCheck
from emm.verify.rereading import read_again
from emm.verify.segments import Segment, SegmentScan
from emm.verify.snapshot import SnapshotCheck
from emm.verify.stability import (
    HARMLESS,
    Stamps,
    changed,
    is_doubtful,
    odd_entries,
    stamps,
    wait_if_fresh,
    without_vanished,
)
from emm.verify.verdict import Verdict, verdict_of
from emm.vfs.local import holding
from emm.vfs.protocol import Directory


def list_files(directory: Directory) -> tuple[Listing, list[str]]:
    """(the memory's own files, loose .emm, .wal and .v3 files beside them)."""
    return split(directory.list())


def split(names: Iterable[str]) -> tuple[Listing, list[str]]:
    """(those names that are a memory's own, other names of files that a check knows)."""
    found: dict[str, list[int]] = {SNAPSHOT_SUFFIX: [], SEGMENT_SUFFIX: []}
    loose = []
    for name in names:
        parsed = parse_name(name)
        if parsed is not None:
            found[parsed[0]].append(parsed[1])
        elif name.endswith(CHECKED_SUFFIXES):
            loose.append(name)
    return Listing(tuple(sorted(found[SNAPSHOT_SUFFIX])), tuple(sorted(found[SEGMENT_SUFFIX]))), loose


def check_memory(directory: Directory, options: Options, *, is_second: bool = False) -> Checked:
    """Check the memory in a directory; the caller knows that it holds at least one of its files."""
    first = before = _sizes(directory)
    for attempt in range(ATTEMPTS):
        try:
            before = _sizes(directory) if attempt else first
            checked = _check_memory(directory, split(before)[0], options)
            doubtful = is_doubtful(checked.findings)
            if doubtful:
                wait_if_fresh(before)
            if not doubtful or _sizes(directory) == before:
                break  # else a writer was at work: half a record on its way looks torn, a pruned file missing
        except MissingError:  # the directory was there a moment ago
            checked = Checked(directory.url, "memory", Coverage(options.level, memories=1))
            checked.findings.append(changed(directory.url, before, {}))
            return checked
    else:
        harmless = [each for each in checked.findings if each.severity in HARMLESS]
        checked.findings = [*harmless, changed(directory.url, before, _sizes(directory))]
        return checked
    checked.findings = without_vanished(checked.findings, directory.url, first, before)
    unmended = any(verdict_of(each) is Verdict.LOSS for each in checked.findings)
    if unmended and (options.level < Level.BLOCKS or options.sample is not None):
        everything = replace(options, level=max(options.level, Level.BLOCKS), sample=None)
        return check_memory(directory, everything)
    if options.paranoid and not is_second:
        return read_again(checked, directory, options, lambda asked: check_memory(directory, asked, is_second=True))
    return checked


def _sizes(directory: Directory) -> Stamps:
    """Names with sizes and, on a disk, times, which change with everything a writer does."""
    return stamps(directory)


def _check_memory(directory: Directory, listing: Listing, options: Options) -> Checked:
    coverage = Coverage(options.level, memories=1)
    checked = Checked(directory.url, "memory", coverage)

    def add(findings: Iterable[Finding]) -> None:
        checked.findings.extend(seen(findings, options, directory.url))

    add(odd_entries(directory))
    snapshots = [SnapshotCheck(directory, snapshot_name(n), options, n) for n in listing.generations]
    for snapshot in snapshots:
        add(snapshot.run())
        count(coverage, snapshot)
    checked.uuid = _uuid(snapshots)
    add(_foreign(snapshots, checked.uuid))
    heads = [each.head for each in snapshots if each.head is not None]
    if options.level < Level.BLOCKS or not _draws_journal(options, checked, directory):
        if options.level >= Level.BLOCKS:
            coverage.journals_left_out += bool(listing.segments)
            checked.findings = with_repairs(checked.findings, Evidence(tuple(snapshots), ()))
        add(_segment_headers(directory, listing.segments, checked))
        add(_missing_generations(snapshots, listing, None, directory.url))
        checked.generation = max((s.header.generation for s in snapshots if s.header is not None), default=None)
        checked.lsn = max((s.header.lsn for s in snapshots if s.header is not None), default=None)
        return checked
    scan = SegmentScan(directory, checked.uuid)
    interest = {each.header.lsn for each in heads} | options.interest
    segments = list(scan.read_all(listing.segments, interest))
    count_segments(coverage, segments, scan.commits, options)
    checked.uuid = scan.uuid
    evidence = Evidence(tuple(snapshots), tuple(segments), scan.chains)
    add(JournalCheck(evidence, directory.url).run())
    add(_missing_generations(snapshots, listing, evidence, directory.url))
    checked.findings = with_repairs(_as_damage(checked.findings, snapshots, segments), evidence)
    if options.level >= Level.REPLAY and scan.uuid is not None:
        replay = ReplayCheck(directory, tuple(snapshots), tuple(segments), scan.uuid, options)
        add(replay.run())
        coverage.commits_replayed, coverage.snapshots_compared = replay.commits, replay.compared
    known = [each.head for each in snapshots if each.head is not None and (each.whole or each.blocks_left_out)]
    checked.generation = max((each.header.generation for each in known), default=None)
    ends = [each.header.lsn for each in known] + [s.live_last for s in segments]
    checked.lsn = max(ends, default=None)
    checked.chains = {each.header.lsn: each.lineage.chain for each in known} | scan.chains
    return checked


def _draws_journal(options: Options, checked: Checked, directory: Directory) -> bool:
    place = directory.url if checked.uuid is None else checked.uuid.hex()
    return options.sample is None or options.sample.draws("journal", place)


# --- pieces ---------------------------------------------------------------------------------------


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
            with holding(directory, segment_name(number)):
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
