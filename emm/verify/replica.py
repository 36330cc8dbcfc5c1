"""A memory or a file against a replica of it: which commits do both hold, and are the bytes the same?

Purpose: `--against`. A cut at a commit boundary, a rollback and a lost tail are invisible in one copy and plain in two.
Invariants: (uuid, lsn, chain) decides before any byte is compared, so a replica that lags is no damage; both sides are
checked to the same depth; nothing is called whole that was not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from emm.errors import EmmError
from emm.layout import SEGMENT_SUFFIX
from emm.storage.names import parse_name
from emm.verify.checked import Checked
from emm.verify.finding import Finding, Severity, finding, from_error
from emm.verify.levels import Options
from emm.verify.memory import list_files
from emm.verify.places import Place
from emm.verify.segments import SegmentScan
from emm.verify.stability import is_doubtful
from emm.verify.target import Target, check_place
from emm.verify.verdict import Verdict, verdict_of
from emm.vfs.protocol import Directory
from emm.vfs.resolve import open_directory, open_file

_CHUNK_BYTES: Final = 1 << 20
_EVIDENCE_BYTES: Final = 8


def check_with_replica(place: Place, replica: str, options: Options) -> Iterator[tuple[Target, Checked | None]]:
    """The targets at a place, each with what its counterpart says of it; then the counterparts themselves.

    In a directory the memory has the replica's memory beside it, a loose file the replica's file of the same name.
    """
    twins = list(check_place(Place(replica, replica, is_file=place.is_file), options))
    theirs = {_name(checked, place.is_file): checked for _, checked in twins if checked is not None}
    problem = next((each for target, _ in twins if target.kind == "place" for each in target.findings), None)
    ends = {each.lsn for each in theirs.values() if each.lsn is not None}
    for target, own in check_place(place, replace(options, interest=options.interest | ends)):
        if own is None or own.kind == "file":  # it could not be read itself
            yield target, own
            continue
        name = _name(own, place.is_file)
        where = f"{replica.rstrip('/')}/{name}" if name else replica
        twin = theirs.get(name)
        unread = problem if twin is None else twin.findings[0] if twin.kind == "file" else None
        if twin is not None and unread is None:
            yield _compared(target, own, twin, where, place.is_file or bool(name), options), own
        elif unread is not None and unread.severity is not Severity.ABSENT:
            message = f"the replica cannot be read: {unread.message}"
            yield target.with_findings([finding("replica-unknown", message, file=own.url, expected=where)]), own
        else:
            missing = finding("replica-missing", "there is no replica of this", file=own.url, expected=where)
            yield target.with_findings([missing]), own
    for target, _ in twins:
        if target.kind != "place":
            yield replace(target, kind=f"replica {target.kind}"), None


def _name(checked: Checked, is_only: bool) -> str:
    """What tells a target from the others of its place: a loose file's name, nothing for the memory."""
    return "" if is_only or checked.kind == "memory" else checked.url.rpartition("/")[2]


def _compared(target: Target, own: Checked, theirs: Checked, replica: str, is_file: bool, options: Options) -> Target:
    try:
        found = [] if is_file else [_commits(own, theirs, replica)]
        if not any(_stops(each) for each in found):
            found += _bytes(own.url, replica, is_file, options)
    except EmmError as error:
        found = [from_error("changed-while-reading", error, file=error.file or own.url)]
    whole = not is_doubtful(theirs.findings)
    if whole and any(each.code in ("replica-equal", "replica-ahead") for each in found):
        repair = f"the replica {replica} is whole: --repair --against it"
        mended = [replace(e, repair=repair) if verdict_of(e) is Verdict.LOSS else e for e in target.findings]
        target = replace(target, findings=tuple(mended))
    return target.with_findings(found)


def _stops(each: Finding) -> bool:
    """True when comparing bytes would say no more."""
    return each.code in ("replica-foreign", "replica-diverged", "replica-unknown")


def _commits(own: Checked, theirs: Checked, replica: str) -> Finding:
    where = {"file": own.url}
    if own.uuid != theirs.uuid:
        known = [None if each.uuid is None else each.uuid.hex() for each in (own, theirs)]
        message = f"{replica} is a copy of another memory"
        return finding("replica-foreign", message, rule="N-6", expected=known[0], found=known[1], **where)
    if own.lsn is None or theirs.lsn is None:
        return finding("replica-unknown", "the last commit of one of the two is not known", **where)
    shared = min(own.lsn, theirs.lsn)
    mine = own.chains.get(shared)
    other = theirs.chains.get(shared)
    if other is None:
        other = _chain_at(theirs, replica, shared)
    if mine is None or other is None:
        return finding("replica-unknown", f"one of the two no longer holds the chain value of commit {shared}", **where)
    if mine != other:
        message = f"{replica} has other commits, up to {theirs.lsn}"
        numbers = {"expected": f"chain {other.hex()[:16]}", "found": f"chain {mine.hex()[:16]}"}
        return finding("replica-diverged", message, rule="J-12", lsns=(1, shared), **numbers, **where)
    if own.lsn == theirs.lsn:
        return finding("replica-equal", f"{replica} holds the same commits, up to {shared}", **where)
    if own.lsn > theirs.lsn:
        message = f"{replica} ends with commit {theirs.lsn}, this goes on to {own.lsn}"
        return finding("replica-behind", message, lsns=(theirs.lsn + 1, own.lsn), **where)
    return finding(
        "replica-ahead",
        f"{replica} goes on to commit {theirs.lsn}, this ends with {own.lsn}",
        lsns=(own.lsn + 1, theirs.lsn),
        expected=f"commits up to {theirs.lsn}",
        found=f"commits up to {own.lsn}",
        repair=f"the replica {replica} holds them",
        **where,
    )


def _chain_at(theirs: Checked, replica: str, lsn: int) -> bytes | None:
    """The replica's chain value after a commit that was of no interest when it was checked."""
    directory = open_directory(replica)
    try:
        scan = SegmentScan(directory, theirs.uuid)
        for _ in scan.read_all(list_files(directory)[0].segments, {lsn}):
            pass
        return scan.chains.get(lsn)
    finally:
        directory.close()


# --- bytes ----------------------------------------------------------------------------------------


def _bytes(own_url: str, replica: str, is_file: bool, options: Options) -> list[Finding]:
    """The first difference of each file that both have. A segment may be longer in one of them: it still grows."""
    if is_file:
        (own, name), (theirs, other) = open_file(own_url), open_file(replica)
        return list(_difference(own, name, theirs, other, options))
    own, theirs = open_directory(own_url), open_directory(replica)
    try:
        names = [name for name in own.list() if parse_name(name) is not None]
        there = set(theirs.list())
        return [each for name in names if name in there for each in _difference(own, name, theirs, name, options)]
    finally:
        own.close()
        theirs.close()


def _difference(own: Directory, name: str, theirs: Directory, other: str, options: Options) -> Iterator[Finding]:
    sizes = own.size(name), theirs.size(other)
    shared = min(sizes)
    for start in range(0, shared, _CHUNK_BYTES):
        length = min(_CHUNK_BYTES, shared - start)
        mine, twin = own.read_at(name, start, length), theirs.read_at(other, start, length)
        if options.progress is not None:
            options.progress(f"{own.url}/{name}", length)
        if mine != twin:
            first = next(i for i in range(length) if mine[i] != twin[i])
            yield _differs(own, name, theirs, other, start + first, mine[first:], twin[first:])
            return
    if sizes[0] != sizes[1] and not name.endswith(SEGMENT_SUFFIX):
        yield _differs(own, name, theirs, other, shared, b"", b"")


def _differs(
    own: Directory, name: str, theirs: Directory, other: str, offset: int, mine: bytes, twin: bytes
) -> Finding:
    return finding(
        "replica-differs",
        f"from this byte on it is not what {theirs.url}/{other} is",
        file=f"{own.url}/{name}",
        offset=offset,
        expected=twin[:_EVIDENCE_BYTES].hex() or "another length",
        found=mine[:_EVIDENCE_BYTES].hex() or "another length",
    )
