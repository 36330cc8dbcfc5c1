"""Check one snapshot, segment or v3 file by itself.

Purpose: say what a file's own bytes prove, and what they alone can mend. Invariants: nothing beside the file is read;
one that changed under the check is checked again, and what a change could explain is not called damage.
"""

from __future__ import annotations

from emm.errors import EmmError, MissingError, StorageError, TruncatedError
from emm.layout import SEGMENT_MAGIC, SEGMENT_SUFFIX, SNAPSHOT_MAGIC, SNAPSHOT_SUFFIX, V3_SUFFIX
from emm.storage.names import parse_name
from emm.v3.codec import is_v3
from emm.verify.checked import ATTEMPTS, Checked, count, count_segments, seen
from emm.verify.coverage import Coverage
from emm.verify.evidence import Evidence, with_repairs
from emm.verify.finding import finding, from_error
from emm.verify.journal import JournalCheck
from emm.verify.levels import Level, Options
from emm.verify.numeric import check_state
from emm.verify.rereading import read_again
from emm.verify.segments import SegmentScan
from emm.verify.snapshot import SnapshotCheck
from emm.verify.stability import Stamps, changed, is_doubtful, stamp, wait_if_fresh
from emm.verify.v3 import check_v3
from emm.vfs.protocol import Directory


def check_file(directory: Directory, name: str, options: Options) -> Checked:
    """Check one file by itself: what its own bytes say, and what they alone can mend."""
    checked = _settled(directory, name, options)
    if options.paranoid:
        return read_again(checked, directory, options, lambda asked: _settled(directory, name, asked), name)
    return checked


def _settled(directory: Directory, name: str, options: Options) -> Checked:
    """One reading of a file that did not change under it; else nothing but that it did."""
    for _ in range(ATTEMPTS):
        before = _stamp_of(directory, name)
        checked = _check_file(directory, name, options)
        if is_doubtful(checked.findings):
            wait_if_fresh(before)
        after = _stamp_of(directory, name)
        if not is_doubtful(checked.findings) or after == before:
            return checked
        if not after:
            break
    checked.findings = [changed(checked.url, before, after)]
    return checked


def _stamp_of(directory: Directory, name: str) -> Stamps:
    try:
        return {name: stamp(directory, name)}
    except StorageError:
        return {}


def _check_file(directory: Directory, name: str, options: Options) -> Checked:
    try:
        start = directory.read_at(name, 0, min(len(SEGMENT_MAGIC), directory.size(name)))
        is_segment = start == SEGMENT_MAGIC
        if is_v3(start) or (name.endswith(V3_SUFFIX) and start not in (SNAPSHOT_MAGIC, SEGMENT_MAGIC)):
            return _check_v3_file(directory, name, options)
    except MissingError:
        raise
    except TruncatedError:  # it shrank just now: an empty file is read as one of no bytes
        is_segment = name.endswith(SEGMENT_SUFFIX)
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
    checked.findings = with_repairs(list(seen(check.run(), options, checked.url)), Evidence((check,), ()))
    count(checked.coverage, check)
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
    found = check_v3(directory, name, options, checked.coverage)
    checked.findings = list(seen(found, options, checked.url))
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
    count_segments(checked.coverage, segments, scan.commits, options)
    found = JournalCheck(Evidence((), tuple(segments), scan.chains), directory.url).run()
    checked.findings = list(seen(found, options, checked.url))
    checked.uuid, checked.lsn = scan.uuid, segments[0].live_last if segments[0].header is not None else None
    return checked
