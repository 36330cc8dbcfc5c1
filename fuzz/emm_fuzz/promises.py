"""Take verify at its word: make each repair that it names, and see whether it gives back what was there.

Purpose: "damaged-repairable" is a promise. Invariants: a repair inside one file must give the undamaged file back, byte
for byte; one that goes by other files must give a state that was acknowledged at that LSN; a wording that is not known
here is a broken promise, so a new kind of repair cannot pass unseen.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from emm.codec.journal import SegmentHeader, decode_record
from emm.codec.payload import state_digest
from emm.errors import EmmError
from emm.layout import SEGMENT_HEADER, SNAPSHOT_SUFFIX, RecordType
from emm.state import empty_state
from emm.storage.names import list_memory, parse_name, segment_name, snapshot_name
from emm.storage.recovery import recover
from emm.storage.replay import Replayer
from emm.storage.segment_file import LoggedCommit, SegmentReader
from emm.storage.snapshot_file import load_snapshot, salvage_head
from emm.verify.evidence import NOTHING_TOUCHED
from emm.verify.finding import Finding, Severity
from emm.verify.segments import RebuiltReader
from emm_fuzz.mending import is_inside_the_file, mended
from emm_fuzz.specimens import Files, Specimen
from emm_fuzz.unchanged import DamagedDirectory

_CONTAINS = re.compile(r"generation (\d+) \(\S+\) contains (?:every commit up to (\d+)|everything that was in it)")
_SAME = re.compile(r"generation (\d+) \(\S+\) holds the same state")
_ONTO = re.compile(r"replay commits (\d+)–(\d+) onto generation (\d+) \(\S+\)")
_ONTO_NOTHING = re.compile(r"replay commits 1–(\d+) of the journal onto an empty memory")
_LEFT_OUT = re.compile(r"leave it out: (\d+)\.emm and the journal give every state up to commit (\d+)")
_EMPTY = "an empty memory: its state follows from its head"
_HEADER = "the header follows from the segment before it and its own records"


class Promises:
    """Makes repairs in damaged copies of one specimen."""

    def __init__(self, specimen: Specimen) -> None:
        self._whole = specimen.files
        self._states = specimen.states()
        self._last = specimen.state
        self._tried: dict[tuple[str, str], str | None] = {}  # repairs that use unchanged files alone

    def broken(self, files: Files, findings: Collection[Finding]) -> str | None:
        """What does not hold of the repairs that the findings name, or None."""
        by_file: dict[str, list[str | None]] = defaultdict(list)
        for each in findings:
            if each.severity is Severity.DAMAGE:
                by_file[(each.file or "").rpartition("/")[2]].append(each.repair)
        helped = dict(files)  # with what each file can do for itself; a repair may rest on that
        for file, repairs in by_file.items():
            inside = [each for each in repairs if each is not None and is_inside_the_file(each)]
            if inside:
                helped[file] = mended(files[file], inside)
            if len(inside) == len(repairs) and helped[file] != self._whole[file]:
                return f"repairs of {file} ({'; '.join(inside)}) do not give it back"
        for file, repairs in by_file.items():
            blamed = _blamed(findings, file)
            for repair in repairs:
                if repair is None or is_inside_the_file(repair):
                    continue
                reason = self._try_once(helped, file, repair, blamed)
                if reason is not None:
                    return f"repair of {file} ({repair}): {reason}"
        return None

    def _try_once(self, files: Files, file: str, repair: str, blamed: Collection[int]) -> str | None:
        """The answer is kept when the repair reads nothing that was damaged."""
        only_one = all(files.get(name) is data for name, data in self._whole.items() if name != file)
        elsewhere = file.endswith(SNAPSHOT_SUFFIX) or _CONTAINS.fullmatch(repair) is not None
        if not (only_one and elsewhere):
            return self._try(files, file, repair, blamed)
        if (file, repair) not in self._tried:
            self._tried[file, repair] = self._try(files, file, repair, blamed)
        return self._tried[file, repair]

    def _try(self, files: Files, file: str, repair: str, blamed: Collection[int]) -> str | None:
        parsed = parse_name(file)
        assert parsed is not None
        directory, number = DamagedDirectory(files), parsed[1]
        try:
            if repair == NOTHING_TOUCHED:
                return self._nothing_is_touched(directory, number, blamed)
            if repair == _HEADER:
                return self._header_follows(directory, file, number)
            if match := _CONTAINS.fullmatch(repair):
                return self._contains(directory, number, int(match[1]), int(match[2] or 0))
            if match := _SAME.fullmatch(repair):
                return self._is_rebuilt(directory, number, int(match[1]), 0)
            if match := _ONTO.fullmatch(repair):
                return self._is_rebuilt(directory, number, int(match[3]), int(match[2]))
            if match := _ONTO_NOTHING.fullmatch(repair):
                return self._is_rebuilt(directory, number, None, int(match[1]))
            if repair == _EMPTY:
                return self._is_rebuilt(directory, number, None, 0)
            if match := _LEFT_OUT.fullmatch(repair):
                return self._every_state(directory, int(match[1]), int(match[2]))
        except EmmError as error:
            return f"{type(error).__name__}: {error}"
        return "nobody knows how"

    # --- one repair each --------------------------------------------------------------------------

    def _nothing_is_touched(self, directory: DamagedDirectory, number: int, blamed: Collection[int]) -> str | None:
        """Every live commit of the segment is still read from it, but for those that another finding blames."""
        whole, found = (
            [_content(each) for each in live_commits(where) if each.segment == number and each.lsn not in blamed]
            for where in (DamagedDirectory(self._whole), directory)
        )
        return None if found == whole else f"of {len(whole)} commits {len(found)} are left"

    def _header_follows(self, directory: DamagedDirectory, file: str, number: int) -> str | None:
        """With a header made from what comes before the segment, the memory opens as it was."""
        before = {n: data for n, data in directory.files.items() if n < file or n.endswith(SNAPSHOT_SUFFIX)}
        base = recover(DamagedDirectory(before))
        uuid, rank = base.snapshot.uuid, base.state.parameters.rank
        header = SegmentHeader(number, base.lsn + 1, base.floor_generation, uuid, bytes(16), base.chain, 0, rank)
        data = header.encode() + directory.files[file][SEGMENT_HEADER.size :]
        found = recover(DamagedDirectory({**directory.files, file: data}))
        return self._is_right(found.lsn, state_digest(found.state, found.lsn).hex(), self._last[0])

    def _contains(self, directory: DamagedDirectory, number: int, generation: int, lsn: int) -> str | None:
        snapshot = load_snapshot(directory, generation).snapshot
        if not lsn and snapshot.lineage.segment_next <= number:
            return f"generation {generation} was made before segment {number} ended"
        return self._is_right(snapshot.lsn, snapshot.digest.hex(), lsn)

    def _is_rebuilt(self, directory: DamagedDirectory, number: int, base: int | None, last: int) -> str | None:
        """The snapshot, made again from another one or from nothing, and the journal, is the one that was there."""
        target = load_snapshot(DamagedDirectory(self._whole), number).snapshot
        commits = list(live_commits(directory))
        if base is None:
            rank = _first_rank(directory) if commits else target.state.parameters.rank
            replayer = Replayer(empty_state(replace(target.state.parameters, rank=rank)))
            lsn, chain = 0, bytes(32)
        else:
            start = load_snapshot(directory, base).snapshot
            replayer = Replayer(start.state.copy(), write_count=start.lineage.write_count)
            lsn, chain = start.lsn, start.lineage.chain
        for logged in commits:
            if lsn < logged.lsn <= last:
                replayer.apply(logged)
                lsn, chain = logged.lsn, logged.commit.chain
        if (lsn, state_digest(replayer.state, lsn)) != (target.lsn, target.digest):
            return f"another state, at commit {lsn}"
        same = (chain, replayer.write_count) == (target.lineage.chain, target.lineage.write_count)
        return None if same else "another chain value or count of pairs"

    def _every_state(self, directory: DamagedDirectory, base: int, last: int) -> str | None:
        snapshot = load_snapshot(directory, base).snapshot
        replayer, lsn = Replayer(snapshot.state.copy()), snapshot.lsn
        for logged in live_commits(directory):
            if lsn < logged.lsn <= last:
                replayer.apply(logged)
                lsn = logged.lsn
                reason = self._is_right(lsn, state_digest(replayer.state, lsn).hex(), lsn)
                if reason is not None:
                    return reason
        return None if lsn == last else f"the journal ends at commit {lsn}"

    def _is_right(self, lsn: int, digest: str, lsn_promised: int) -> str | None:
        if lsn < lsn_promised:
            return f"it ends at commit {lsn}"
        return None if self._states.get(lsn) == digest else f"its state at commit {lsn} was never acknowledged"


def _blamed(findings: Iterable[Finding], file: str) -> frozenset[int]:
    """LSNs of single commits of the file that are said to be damaged, and not only to be left out."""
    ranges = [
        each.lsns
        for each in findings
        if each.severity is Severity.DAMAGE and (each.file or "").endswith(file) and each.repair != NOTHING_TOUCHED
    ]
    return frozenset(each[0] for each in ranges if each is not None and each[0] == each[1])


def live_commits(directory: DamagedDirectory) -> Iterator[LoggedCommit]:
    """Whole commits that no later segment has declared dead, in the order of the log; chain values are not checked."""
    listing = list_memory(directory)
    uuid = _uuid(directory, listing.generations)
    readers = [_reader(directory, number, uuid) for number in listing.segments]
    for index, reader in enumerate(readers):
        after = readers[index + 1] if index + 1 < len(readers) else None
        if reader is not None:
            yield from (each for each in reader.commits() if after is None or each.lsn < after.header.first_lsn)


def _reader(directory: DamagedDirectory, number: int, uuid: bytes) -> SegmentReader | None:
    """Reads a segment, also behind a damaged header; None when there is no record behind it either."""
    try:
        return SegmentReader(directory, number, uuid)
    except EmmError:
        data = directory.files[segment_name(number)][SEGMENT_HEADER.size :]
    try:
        record = decode_record(data, SEGMENT_HEADER.size, uuid)
    except EmmError:
        return None
    first_lsn = record.lsn + (record.type in (RecordType.MARK, RecordType.SEAL))
    return RebuiltReader(directory, number, uuid, SegmentHeader(number, first_lsn, 1, uuid, bytes(16), b"", 0, 0))


def _uuid(directory: DamagedDirectory, generations: Iterable[int]) -> bytes:
    """The UUID of the first snapshot of which a head is whole."""
    heads = (salvage_head(directory, snapshot_name(each)) for each in generations)
    return next(head.header.uuid for head in heads if head is not None)


def _first_rank(directory: DamagedDirectory) -> int:
    listing = list_memory(directory)
    return SegmentReader(directory, listing.segments[0], _uuid(directory, listing.generations)).header.rank


def _content(logged: LoggedCommit) -> object:
    return logged.lsn, [(each.type, each.payload) for each in logged.records], logged.commit
