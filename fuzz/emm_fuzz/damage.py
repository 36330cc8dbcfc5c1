"""Bytes that were durable and are not what they were: nobody may believe them.

Purpose: the other half of the promise. A `Scene` is what lies on the disk after a workload; each damage changes it;
then a reader, a writer and verify must notice. Invariants: damage is told from a crash by what was proven, so a scene
says itself up to where that is; a flip changes one bit, it never overwrites with constants.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import emm
from emm.codec.integrity import hash_block
from emm.codec.journal import decode_segment_header, encode_record, next_chain
from emm.codec.pairs import Commit
from emm.errors import EmmError, StorageError
from emm.layout import BLOCK_BYTES, HEADER, LINEAGE, SEGMENT_HEADER, RecordType
from emm.storage.names import segment_name, snapshot_name
from emm.storage.segment_file import LoggedCommit, SegmentReader
from emm.verify.verdict import Verdict
from emm_fuzz.cases import Case, Moment
from emm_fuzz.crash_states import QUICK
from emm_fuzz.deterministic import deterministic
from emm_fuzz.judge import PATH, ViolationError, name, read, state_of, verdict_of_image
from emm_fuzz.memo import ImageDirectory
from emm_fuzz.record import Record
from emm_fuzz.runs import Run
from emm_fuzz.simulated_disk import SimulatedDisk
from emm_fuzz.simulated_os import mounted

Files = dict[str, bytes]
Damage = Callable[[Files], Files]

_ENTRY: Final = HEADER.size + LINEAGE.size  # the first entry of the integrity table


@dataclass(frozen=True, slots=True)
class Scene:
    """The files that a workload leaves when its process ends, and what was acknowledged."""

    files: Files
    moment: Moment


def scene(*workload: str, skip: int = 0) -> Scene:
    """Live through a workload. `skip` makes another memory of it: other numbers come from the system."""
    with deterministic() as source:
        source.number += skip
        run = Run(Record(QUICK), Case(workload), source, last_only=False, blind=True)
        run.go()
        return Scene(run.files(), run.moment)


def notice(after: Scene, *, recovery_must_refuse: bool = False) -> None:
    """`ViolationError` when a reader, a writer or verify believes these files."""
    image = after.files
    try:
        read(image, {after.moment.state: after.moment})
        refused = False
    except ViolationError as error:
        if not isinstance(error.__cause__, EmmError):
            raise
        refused = True
    if recovery_must_refuse and not refused:
        raise ViolationError("recovery believes it")
    verdict = verdict_of_image(image)
    if verdict in (Verdict.CLEAN, Verdict.CLEAN_UNSEALED):
        raise ViolationError(f"verify says {verdict}")
    with mounted(SimulatedDisk.holding(PATH, image)) as disk:
        try:
            state = state_of(emm.open(PATH, "a"))
            if state != after.moment.state or recovery_must_refuse:
                raise ViolationError(f"a writer opened {name(state)}, not {name(after.moment.state)}")
        except EmmError as error:
            if isinstance(error, StorageError):
                raise
        finally:
            disk.kill()


# --- kinds of damage ------------------------------------------------------------------------------


def flip(name: str, offset: int, bit: int = 0) -> Damage:
    """One bit of a file; negative offsets count from its end."""

    def damage(files: Files) -> Files:
        data = bytearray(files[name])
        data[offset] ^= 1 << bit
        return {**files, name: bytes(data)}

    return damage


def cut(name: str, length: int) -> Damage:
    return lambda files: {**files, name: files[name][:length]}


def append(name: str, data: bytes) -> Damage:
    return lambda files: {**files, name: files[name] + data}


def without(*names: str) -> Damage:
    return lambda files: {each: data for each, data in files.items() if each not in names}


def commits(files: Files, segment: int = 1) -> list[LoggedCommit]:
    """The whole commits of a segment."""
    uuid = decode_segment_header(files[segment_name(segment)]).uuid
    return list(SegmentReader(ImageDirectory(files, PATH), segment, uuid).commits())


def blanked(commit: int, segment: int = 1) -> Damage:
    """Zeros in the place of one commit, as a lost sector leaves them."""

    def damage(files: Files) -> Files:
        logged = commits(files, segment)[commit]
        data = files[segment_name(segment)]
        blank = data[: logged.offset] + bytes(logged.end - logged.offset) + data[logged.end :]
        return {**files, segment_name(segment): blank}

    return damage


def logged_anew(
    change: Callable[[list[LoggedCommit]], Iterator[LoggedCommit]], *, chained: bool, foreign: bytes = b""
) -> Damage:
    """Segment 1 with other commits, every CRC right; with `chained` the chain values too. `foreign` follows."""

    def damage(files: Files) -> Files:
        header = decode_segment_header(files[segment_name(1)])
        data, chain = bytearray(header.encode()), header.chain
        tail = files[segment_name(1)][commits(files)[-1].end :]
        for each in change(commits(files)):
            commit = each.commit
            if chained:
                batch = [(record.type, each.lsn, record.payload) for record in each.records]
                chain = next_chain(chain, batch, commit.encode())
                commit = replace(commit, chain=chain)
            body = [*((record.type, record.payload) for record in each.records), (RecordType.COMMIT, commit.encode())]
            for kind, payload in body:
                data += encode_record(kind, each.lsn, each.lsn - 1, payload, header.uuid)
        return {**files, segment_name(1): bytes(data) + tail + foreign}

    return damage


def later_lsn(gap_after: int) -> Callable[[list[LoggedCommit]], Iterator[LoggedCommit]]:
    """Every commit after the first few gets an LSN that is one too high."""
    return lambda found: (replace(each, lsn=each.lsn + (index >= gap_after)) for index, each in enumerate(found))


def other_time(found: list[LoggedCommit]) -> Iterator[LoggedCommit]:
    """The first commit says that it was made later."""
    for index, each in enumerate(found):
        commit: Commit = replace(each.commit, time_us=each.commit.time_us + 5) if index == 0 else each.commit
        yield replace(each, commit=commit)


def together(*damages: Damage) -> Damage:
    """One damage after another."""

    def damage(files: Files) -> Files:
        for each in damages:
            files = each(files)
        return files

    return damage


def uncommitted(files: Files) -> Files:
    """Segment 1 goes on with a whole record of a batch whose commit is not there."""
    last = commits(files)[-1]
    uuid = decode_segment_header(files[segment_name(1)]).uuid
    record = last.records[0]
    data = files[segment_name(1)][: last.end]
    return {**files, segment_name(1): data + encode_record(record.type, last.lsn + 1, last.lsn, record.payload, uuid)}


def foreign_segment(files: Files) -> Files:
    """Segment 1 of another memory under the name of ours."""
    return {**files, segment_name(1): scene("write", "write", skip=1 << 20).files[segment_name(1)]}


def foreign_record(lsn: int) -> Damage:
    """Behind the last commit a few bytes that do not parse, then a record of another memory that proves a lot."""

    def damage(files: Files) -> Files:
        record = encode_record(RecordType.MARK, lsn, lsn, b"", bytes(range(16)))
        return append(segment_name(1), b"\xa5" * 8 + record)(files)

    return damage


def forged_block(generation: int) -> Damage:
    """A number of M changed together with every CRC-32 on the way; the SHA-256 stay as they were."""

    def damage(files: Files) -> Files:
        data = bytearray(files[snapshot_name(generation)])
        payload = 4096  # the head of so small a memory ends there
        data[payload] ^= 1
        data[_ENTRY : _ENTRY + 4] = hash_block(bytes(data[payload : payload + BLOCK_BYTES])).crc32.to_bytes(4, "little")
        blank = bytearray(data[:payload])
        blank[HEADER.offset("sha256") : HEADER.offset("sha256") + 32] = bytes(32)
        blank[HEADER.offset("crc32") : HEADER.offset("crc32") + 4] = bytes(4)
        digest = hashlib.sha256(blank).digest()
        data[HEADER.offset("sha256") : HEADER.offset("sha256") + 32] = digest
        data[124:128] = zlib.crc32(data[:124]).to_bytes(4, "little")
        return {**files, snapshot_name(generation): bytes(data)}

    return damage


SEGMENT_START: Final = SEGMENT_HEADER.size
