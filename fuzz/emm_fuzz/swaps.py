"""Whole pieces in the wrong place: blocks, records, batches, segments and snapshots that are each as good as ever.

Purpose: every checksum of a moved piece fits, so something else must notice: order, LSN, chain, the digest of the
table, the number in a name. Invariants: each forgery differs from the memory it is made of; all of a kind are made,
none chosen.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from emm.codec.header import decode_header
from emm.layout import BLOCK_BYTES, BLOCK_ENTRY, HEADER, SEGMENT_HEADER, SEGMENT_SUFFIX, SNAPSHOT_SUFFIX, RecordType
from emm_fuzz.anatomy import LaidRecord, records
from emm_fuzz.specimens import Files, Specimen


@dataclass(frozen=True, slots=True)
class Forgery:
    """Files that somebody or something has put together wrongly; `label` names this one among its kind."""

    kind: str
    label: str
    files: Files


def block_swaps(specimen: Specimen) -> Iterator[Forgery]:
    """Every two blocks of every snapshot: alone, with their entries in the head, with those in the mirror as well."""
    for name in snapshots(specimen.files):
        data = specimen.files[name]
        shape = decode_header(data[: HEADER.size]).geometry
        tables = {"": (), " and their entries": (shape.table_offset,)}
        tables[" and their entries in both copies"] = (shape.table_offset, shape.mirror_offset)
        for (a, b), (extra, places) in itertools.product(
            itertools.combinations(range(shape.n_blocks), 2), tables.items()
        ):
            swapped = _exchange(data, shape.payload_offset, BLOCK_BYTES, a, b)
            if swapped == data:
                continue
            for place in places:
                swapped = _exchange(swapped, place, BLOCK_ENTRY.size, a, b)
            yield Forgery(f"blocks{extra} swapped", f"{name} {a} {b}", {**specimen.files, name: swapped})


def record_swaps(specimen: Specimen) -> Iterator[Forgery]:
    """Every two records of the journal, whether in one segment or in two."""
    places = [(name, each) for name in segments(specimen.files) for each in records(specimen.files, name)]
    yield from _swapped("records swapped", specimen.files, [(name, [each]) for name, each in places])


def batch_swaps(specimen: Specimen) -> Iterator[Forgery]:
    """Every two batches of the journal."""
    places = [(name, batch) for name in segments(specimen.files) for batch in batches(specimen.files, name)]
    yield from _swapped("batches swapped", specimen.files, places)


def batch_edits(specimen: Specimen) -> Iterator[Forgery]:
    """Every batch left out, and every batch twice: at its place, and at the end of each segment, before the seal."""
    for name in segments(specimen.files):
        data = specimen.files[name]
        for batch in batches(specimen.files, name):
            start, end = batch[0].offset, batch[-1].offset + batch[-1].size
            bytes_of = data[start:end]
            label = f"{name} lsn {batch[0].lsn}"
            is_last_of_open = specimen.is_open and name == specimen.last_segment and end == len(data)
            if not is_last_of_open:  # that one would be a cut at a commit boundary, which nobody can see
                yield Forgery("batch left out", label, {**specimen.files, name: data[:start] + data[end:]})
            if end < specimen.fenced.get(name, len(data) + 1):  # beyond it nothing proves anything
                yield Forgery("batch twice", label, {**specimen.files, name: data[:end] + bytes_of + data[end:]})
            for other in segments(specimen.files):
                laid = records(specimen.files, other)
                at = laid[-1].offset if laid[-1].type is RecordType.SEAL else len(specimen.files[other])
                if (other, at) != (name, end) and other not in specimen.fenced:
                    longer = specimen.files[other][:at] + bytes_of + specimen.files[other][at:]
                    yield Forgery("batch again at the end", f"{label} in {other}", {**specimen.files, other: longer})


def older_segments(specimen: Specimen) -> Iterator[Forgery]:
    """Every earlier version of every segment put back, but that of an open end: that is a cut at a commit boundary."""
    for name in segments(specimen.files):
        if specimen.is_open and name == specimen.last_segment:
            continue
        versions = {files[name] for files, _ in specimen.history if name in files} - {specimen.files[name]}
        versions.add(specimen.files[name][: SEGMENT_HEADER.size])
        for version in sorted(versions, key=len):
            if len(version) < specimen.fenced.get(name, len(specimen.files[name])):
                label = f"{name} of {len(version)} bytes"
                yield Forgery("older segment put back", label, {**specimen.files, name: version})


def files_exchanged(specimen: Specimen) -> Iterator[Forgery]:
    """Every file under every other name of its kind, and any two exchanged."""
    for group in (segments(specimen.files), snapshots(specimen.files)):
        for a, b in itertools.permutations(group, 2):
            yield Forgery("file under another's name", f"{a} as {b}", {**specimen.files, b: specimen.files[a]})
        for a, b in itertools.combinations(group, 2):
            exchanged = {**specimen.files, a: specimen.files[b], b: specimen.files[a]}
            yield Forgery("files exchanged", f"{a} {b}", exchanged)


def from_branch(specimen: Specimen, other: Specimen) -> Iterator[Forgery]:
    """Each segment of another branch of the same memory in the place of ours, and together with those after it."""
    theirs = [name for name in segments(specimen.files) if other.files.get(name, b"") != specimen.files[name]]
    for name in theirs:
        if name in other.files:
            yield Forgery("segment of another branch", name, {**specimen.files, name: other.files[name]})
    for start in range(len(theirs)):
        several = {name: other.files[name] for name in theirs[start:] if name in other.files}
        yield Forgery("segments of another branch", " ".join(several), {**specimen.files, **several})


def snapshots(files: Files) -> list[str]:
    return sorted(name for name in files if name.endswith(SNAPSHOT_SUFFIX))


def segments(files: Files) -> list[str]:
    return sorted(name for name in files if name.endswith(SEGMENT_SUFFIX))


def batches(files: Files, name: str) -> list[list[LaidRecord]]:
    """The batches of a segment: records up to a commit; marks and seals are none."""
    found: list[list[LaidRecord]] = []
    batch: list[LaidRecord] = []
    for record in records(files, name):
        if record.type in (RecordType.MARK, RecordType.SEAL):
            continue
        batch.append(record)
        if record.type is RecordType.COMMIT:
            found.append(batch)
            batch = []
    return found


def _exchange(data: bytes, base: int, size: int, a: int, b: int) -> bytes:
    """Items `a` and `b` of an array of items of this size exchanged."""
    first, second = base + a * size, base + b * size
    between = data[first + size : second]
    swapped = data[second : second + size] + between + data[first : first + size]
    return data[:first] + swapped + data[second + size :]


def _swapped(kind: str, files: Files, places: list[tuple[str, list[LaidRecord]]]) -> Iterator[Forgery]:
    for (name, a), (other, b) in itertools.combinations(places, 2):
        (start, end), (begin, stop) = (_extent(a), _extent(b))
        first, second = files[name][start:end], files[other][begin:stop]
        if first == second:
            continue
        if name == other:
            data = files[name]
            both = {name: data[:start] + second + data[end:begin] + first + data[stop:]}
        else:
            both = {name: files[name][:start] + second + files[name][end:]}
            both[other] = files[other][:begin] + first + files[other][stop:]
        yield Forgery(kind, f"{name}:{start} {other}:{begin}", {**files, **both})


def _extent(laid: list[LaidRecord]) -> tuple[int, int]:
    return laid[0].offset, laid[-1].offset + laid[-1].size
