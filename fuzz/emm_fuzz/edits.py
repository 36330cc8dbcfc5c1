"""Edits by somebody who puts every CRC-32 right afterwards, one field at a time, and then goes further.

Purpose: CRCs find accidents; the chain and the SHA-256 must find what they cannot. Invariants: the bytes are framed
here by hand, not by the library's encoder, so that lawless values can be written; after each edit of `field_edits` and
`number_edits` every CRC-32 of the file fits, which `crcs_fit` checks without the library.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from typing import Final

from emm.codec.header import decode_header
from emm.layout import (
    BLOCK_BYTES,
    BLOCK_ENTRY,
    COMMIT_PAYLOAD,
    EXPAND_PAYLOAD,
    HEADER,
    LINEAGE,
    PAIRS_HEADER,
    PARAMETERS_PAYLOAD,
    RECORD_HEADER,
    SEGMENT_HEADER,
    Field,
    RecordType,
)
from emm_fuzz.anatomy import LaidRecord, records
from emm_fuzz.specimens import Files, Specimen
from emm_fuzz.swaps import Forgery, segments, snapshots

PAYLOADS: Final = {
    RecordType.COMMIT: COMMIT_PAYLOAD,
    RecordType.EXPAND: EXPAND_PAYLOAD,
    RecordType.PARAMETERS: PARAMETERS_PAYLOAD,
    **dict.fromkeys((RecordType.WRITE, RecordType.UNLEARN, RecordType.FORGET), PAIRS_HEADER),
}
_UUID: Final = slice(SEGMENT_HEADER.offset("uuid"), SEGMENT_HEADER.offset("uuid") + 16)


# --- one field at a time --------------------------------------------------------------------------


def record_header_edits(specimen: Specimen) -> Iterator[Forgery]:
    """Every field of every record's header, but its CRC, changed in several ways."""
    for name, record in _records(specimen):
        data = specimen.files[name]
        for field in RECORD_HEADER.fields[:-1]:
            for what, header in _variants(data[record.offset : record.offset + RECORD_HEADER.size], field):
                edited = _framed_at(data, record, header, record.payload)
                yield _forged(f"record header: {field.name}", specimen, name, edited, f"byte {record.offset} {what}")


def payload_edits(specimen: Specimen) -> Iterator[Forgery]:
    """Every field of every payload that has fields, and the first and the last of its other bytes."""
    for name, record in _records(specimen):
        layout = PAYLOADS.get(record.type)
        if layout is None:
            continue
        kind = "commit" if record.type is RecordType.COMMIT else "payload"
        for field in layout.fields:
            for what, changed in _variants(record.payload, field):
                edited = _framed_at(specimen.files[name], record, _header(specimen, name, record), changed)
                yield _forged(f"{kind}: {field.name}", specimen, name, edited, f"byte {record.offset} {what}")
        for position in sorted({layout.size, len(record.payload) - 4} if len(record.payload) > layout.size else ()):
            changed = _flipped(record.payload, position)
            edited = _framed_at(specimen.files[name], record, _header(specimen, name, record), changed)
            yield _forged("payload: a number", specimen, name, edited, f"byte {record.offset}+{position}")


def segment_header_edits(specimen: Specimen) -> Iterator[Forgery]:
    """Every field of every segment's header, but its CRC."""
    for name in segments(specimen.files):
        data = specimen.files[name]
        for field in SEGMENT_HEADER.fields[:-1]:
            for what, header in _variants(data[: SEGMENT_HEADER.size], field):
                edited = _with_crc(header) + data[SEGMENT_HEADER.size :]
                if field.name == "uuid":
                    edited = _of_its_own_uuid(edited, records(specimen.files, name))
                yield _forged(f"segment header: {field.name}", specimen, name, edited, what)


def head_edits(specimen: Specimen) -> Iterator[Forgery]:
    """Every field of a snapshot's header, lineage and table, in the head and in both copies; the SHA-256 stays."""
    for name in snapshots(specimen.files):
        data = specimen.files[name]
        shape = decode_header(data[: HEADER.size]).geometry
        lineage_at = shape.file_bytes - HEADER.size - LINEAGE.size
        header_at = shape.file_bytes - HEADER.size
        for record, places in (
            (HEADER, (0, header_at)),
            (LINEAGE, (HEADER.size, lineage_at)),
            (BLOCK_ENTRY, (shape.table_offset, shape.mirror_offset)),
        ):
            for field in record.fields[:-1] if record is HEADER else record.fields:
                for what, changed in _variants(data[places[0] : places[0] + record.size], field):
                    for copies in (places[:1], places):
                        edited = data
                        for place in copies:
                            new = _with_crc(changed) if record is HEADER else changed
                            edited = edited[:place] + new + edited[place + record.size :]
                        label = f"{what}, {len(copies)} of 2 copies"
                        yield _forged(f"{record.name}: {field.name}", specimen, name, edited, label)


def block_edits(specimen: Specimen) -> Iterator[Forgery]:
    """A number of every block, with its CRC-32 right in the table; then the digest of the head as well."""
    for name in snapshots(specimen.files):
        data = specimen.files[name]
        shape = decode_header(data[: HEADER.size]).geometry
        for block in range(shape.n_blocks):
            start = shape.payload_offset + block * BLOCK_BYTES
            edited = _flipped(data, start)
            crc = zlib.crc32(edited[start : start + BLOCK_BYTES]).to_bytes(4, "little")
            for place in (shape.table_offset, shape.mirror_offset):
                entry = place + block * BLOCK_ENTRY.size
                edited = edited[:entry] + crc + edited[entry + 4 :]
            label = f"{name} block {block}"
            yield Forgery("block and its CRC-32", label, {**specimen.files, name: edited})
            resealed = sealed_head(edited)
            yield Forgery("block, its CRC-32 and the head's digest", label, {**specimen.files, name: resealed})


# --- further --------------------------------------------------------------------------------------


def chained_edits(specimen: Specimen) -> Iterator[Forgery]:
    """The time of every commit and a number of every record, with all chain values right that follow in the journal."""
    for name, record in _records(specimen):
        if record.type in (RecordType.MARK, RecordType.SEAL, RecordType.EXPAND, RecordType.PARAMETERS):
            continue
        position = 0 if record.type is RecordType.COMMIT else len(record.payload) - 4
        edited = _framed_at(
            specimen.files[name], record, _header(specimen, name, record), _flipped(record.payload, position)
        )
        for reach in ("in its segment", "in every segment"):
            files = rechained({**specimen.files, name: edited}, name, to_the_end=reach == "in every segment")
            yield Forgery(f"{record.type.name.lower()}, chained anew {reach}", f"{name} byte {record.offset}", files)


def rechained(files: Files, start: str, *, to_the_end: bool) -> Files:
    """The chain values of a segment, and perhaps of all after it, computed again from what is there."""
    found = dict(files)
    chain: bytes | None = None
    for name in segments(files):
        if name < start or (name > start and not to_the_end):
            continue
        data = found[name]
        header = SEGMENT_HEADER.unpack(data)
        if chain is not None:
            at = SEGMENT_HEADER.offset("chain")
            data = _with_crc(data[:at] + chain + data[at + 32 : SEGMENT_HEADER.size]) + data[SEGMENT_HEADER.size :]
        chain = header["chain"] if chain is None else chain
        digest = hashlib.sha256(chain)
        for record in records({name: data}, name):
            if record.type in (RecordType.MARK, RecordType.SEAL):
                continue
            payload = record.payload
            if record.type is RecordType.COMMIT:
                payload = payload[: COMMIT_PAYLOAD.offset("chain")]
            digest.update(int(record.type).to_bytes(2, "little") + record.lsn.to_bytes(8, "little"))
            digest.update(len(payload).to_bytes(4, "little") + payload)
            if record.type is RecordType.COMMIT:
                chain = digest.digest()
                header_bytes = data[record.offset : record.offset + RECORD_HEADER.size]
                data = _framed_at(data, record, header_bytes, payload + chain)
                digest = hashlib.sha256(chain)
        found[name] = data
    return found


def chain_at(files: Files, lsn: int) -> bytes:
    """The chain value that the journal states for a commit."""
    for name in segments(files):
        for record in records(files, name):
            if record.type is RecordType.COMMIT and record.lsn == lsn:
                return record.payload[COMMIT_PAYLOAD.offset("chain") :]
    raise LookupError(lsn)


def with_chains_of_the_journal(files: Files) -> Files:
    """Every snapshot states the chain value that the journal has, with its digests right: the whole forgery."""
    found = dict(files)
    at = HEADER.size + LINEAGE.offset("chain")
    for name in snapshots(files):
        data = files[name]
        chain = chain_at(files, HEADER.unpack(data)["lsn"])
        found[name] = sealed_head(data[:at] + chain + data[at + 32 :])
    return found


def sealed_head(data: bytes) -> bytes:
    """A snapshot whose head has its SHA-256 and CRC-32 right and whose mirror repeats it, whatever it says."""
    shape = decode_header(_with_crc(data[: HEADER.size])).geometry
    blank = bytearray(data[: shape.payload_offset])
    sha_at, crc_at = HEADER.offset("sha256"), HEADER.offset("crc32")
    blank[sha_at : sha_at + 32], blank[crc_at : crc_at + 4] = bytes(32), bytes(4)
    blank[sha_at : sha_at + 32] = hashlib.sha256(blank).digest()
    head = _with_crc(bytes(blank[: HEADER.size])) + bytes(blank[HEADER.size :])
    table, lineage = head[shape.table_offset : shape.head_bytes], head[HEADER.size : shape.table_offset]
    return head + data[shape.payload_offset : shape.mirror_offset] + table + lineage + head[: HEADER.size]


# --- framing --------------------------------------------------------------------------------------


def crcs_fit(data: bytes) -> bool:
    """Every CRC-32 of a segment fits."""
    if zlib.crc32(data[:124]) != int.from_bytes(data[124:128], "little"):
        return False
    offset = SEGMENT_HEADER.size
    while offset < len(data):
        values = RECORD_HEADER.unpack(data, offset)
        end = offset + _size(values["length"])
        header_fits = zlib.crc32(data[offset : offset + 28]) == values["crc32"]
        if not header_fits or zlib.crc32(data[_UUID] + data[offset : end - 4]) != int.from_bytes(
            data[end - 4 : end], "little"
        ):
            return False
        offset = end
    return True


def _records(specimen: Specimen) -> Iterator[tuple[str, LaidRecord]]:
    for name in segments(specimen.files):
        for record in records(specimen.files, name):
            yield name, record


def _size(length: int) -> int:
    return -(-(RECORD_HEADER.size + length + 4) // 8) * 8


def _header(specimen: Specimen, name: str, record: LaidRecord) -> bytes:
    return specimen.files[name][record.offset : record.offset + RECORD_HEADER.size]


def _framed_at(data: bytes, record: LaidRecord, header: bytes, payload: bytes) -> bytes:
    """The segment with this header and payload in the place of a record, both CRCs right."""
    body = _with_crc(header) + payload
    body += bytes(_size(len(payload)) - 4 - len(body))
    body += zlib.crc32(data[_UUID] + body).to_bytes(4, "little")
    return data[: record.offset] + body + data[record.offset + record.size :]


def _of_its_own_uuid(data: bytes, laid: list[LaidRecord]) -> bytes:
    """The segment with every record's CRC computed anew from the UUID in its header."""
    for record in laid:
        header = data[record.offset : record.offset + RECORD_HEADER.size]
        data = _framed_at(data, record, header, record.payload)
    return data


def _with_crc(header: bytes) -> bytes:
    """A header of any kind whose last four bytes are its CRC-32, made right."""
    return header[:-4] + zlib.crc32(header[:-4]).to_bytes(4, "little")


def _flipped(data: bytes, position: int, mask: int = 1) -> bytes:
    return data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :]


def _variants(data: bytes, field: Field) -> Iterator[tuple[str, bytes]]:
    """(what was done, the bytes) for a field: one more, its lowest bit, its highest bit, all zeros."""
    last = field.offset + field.size
    seen: set[bytes] = set()
    number = int.from_bytes(data[field.offset : last], "little")
    more = (number + 1) % (1 << 8 * field.size)
    for what, changed in (
        ("one more", data[: field.offset] + more.to_bytes(field.size, "little") + data[last:]),
        ("lowest bit", _flipped(data, field.offset)),
        ("highest bit", _flipped(data, last - 1, 128)),
        ("zeros", data[: field.offset] + bytes(field.size) + data[last:]),
    ):
        if changed != data and changed not in seen:
            seen.add(changed)
            yield what, changed


def _forged(kind: str, specimen: Specimen, name: str, edited: bytes, label: str) -> Forgery:
    return Forgery(kind, f"{name} {label}", {**specimen.files, name: edited})
