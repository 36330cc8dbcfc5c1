"""What a damaged journal record was: candidates, each vouched for by a checksum of the record or by its commit's chain.

Purpose: a record has two CRC-32s, its batch a SHA-256 (the chain), and much of it follows from what surrounds it; that
is enough to put back one flipped bit anywhere, a header, a trailing CRC, a commit's chain, a mark and a seal.
Invariants: pure; a candidate obeys J-6 to J-10; what a candidate of a batch is worth is for the chain to decide (J-12).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from emm.codec.integrity import crc32
from emm.codec.journal import JournalRecord, decode_record, encode_record, next_chain, record_bytes, record_size
from emm.codec.pairs import Commit, count_pairs, decode_commit, pair_bytes
from emm.errors import FormatError
from emm.layout import (
    COMMIT_PAYLOAD,
    EXPAND_PAYLOAD,
    PAIRS_HEADER,
    RECORD_HEADER,
    RECORD_TRAILER_BYTES,
    RecordType,
)
from emm.repair.plan import From
from emm.verify.bitflip import flip_behind

BARE_BYTES = record_bytes(0)  # of a mark or seal
_PAIRS = (RecordType.WRITE, RecordType.UNLEARN, RecordType.FORGET)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record that may have stood there, its bytes, and how it was found."""

    record: JournalRecord
    data: bytes
    source: From
    detail: str
    by_chain: bool = False  # its own CRC-32 says otherwise; a batch may hold one such record


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known where a record is damaged."""

    uuid: bytes
    key_dim: int
    dim: int
    lsn: int  # of the last whole commit
    chain: bytes  # after it
    first_lsn: int  # of the segment
    batch: Sequence[JournalRecord]  # the records of the commit so far


def candidates(data: bytes, offset: int, known: Surroundings) -> Iterator[Candidate]:
    """Records that the damaged bytes at `offset` may have been, the best proven first."""
    flipped = _flipped(data, offset, known.uuid)
    if flipped is not None:
        yield flipped
    yield from _other_header(data, offset, known)
    yield from _other_trailer(data, offset, known)
    yield from _derived_commit(data, offset, known)


def _flipped(data: bytes, offset: int, uuid: bytes) -> Candidate | None:
    """One wrong bit: in the header its own CRC finds it, elsewhere the record's."""
    header = data[offset : offset + RECORD_HEADER.size]
    if len(header) < RECORD_HEADER.size:
        return None
    try:
        size = record_size(header, offset)
    except FormatError:
        for position in range(8 * RECORD_HEADER.size):
            changed = _with_flip(header, position // 8, position % 8)
            with contextlib.suppress(FormatError):
                raw = changed + data[offset + RECORD_HEADER.size : offset + record_size(changed, offset)]
                return _bit(decode_record(raw, offset, uuid), raw, position // 8, position % 8)
        return None
    raw = data[offset : offset + size]
    if len(raw) < size:
        return None
    body = size - RECORD_TRAILER_BYTES
    syndrome = crc32(uuid, raw[:body]) ^ int.from_bytes(raw[body:], "little")
    if syndrome.bit_count() == 1:
        place, bit = body + (syndrome.bit_length() - 1) // 8, (syndrome.bit_length() - 1) % 8
    else:
        found = flip_behind(syndrome, body - RECORD_HEADER.size)
        if found is None:
            return None
        place, bit = body - 1 - found[0], found[1]
    raw = _with_flip(raw, place, bit)
    with contextlib.suppress(FormatError):
        return _bit(decode_record(raw, offset, uuid), raw, place, bit)
    return None


def _with_flip(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def _bit(record: JournalRecord, raw: bytes, place: int, bit: int) -> Candidate:
    return Candidate(record, raw, From.BIT, f"flip bit {bit} of byte {record.offset + place} back, as its CRC-32 says")


def _other_header(data: bytes, offset: int, known: Surroundings) -> Iterator[Candidate]:
    """A header that follows from its payload, its neighbours and the CRC over all of it."""
    start = offset + RECORD_HEADER.size
    for kind, length in _lengths(data[start : start + PAIRS_HEADER.size], known):
        payload = data[start : start + length]
        end = offset + record_bytes(length)
        if len(payload) < length or len(data) < end:
            continue
        record, raw = _with_header(kind, payload, data, offset, known)
        if raw[RECORD_HEADER.size :] == data[start:end]:
            yield Candidate(record, raw, From.DERIVED, "its header, from its payload and the record's CRC-32")


def _with_header(
    kind: RecordType, payload: bytes, data: bytes, offset: int, known: Surroundings
) -> tuple[JournalRecord, bytes]:
    """The record with the header that is most like the bytes found: `synced_through` alone is free to differ.

    The trailing CRC cannot tell headers apart: one that ends in its own CRC-32 leaves the same register behind.
    """
    lsn, header = known.lsn + 1, data[offset : offset + RECORD_HEADER.size]
    found = RECORD_HEADER.unpack(header)["synced_through"]
    made = {
        synced: encode_record(kind, lsn, synced, payload, known.uuid)
        for synced in (lsn - 1, known.first_lsn - 1, min(found, lsn))
    }
    best = max(made, key=lambda each: sum(a == b for a, b in zip(made[each], header, strict=False)))
    return JournalRecord(kind, lsn, best, payload, offset), made[best]


def _lengths(head: bytes, known: Surroundings) -> Iterator[tuple[RecordType, int]]:
    yield RecordType.COMMIT, COMMIT_PAYLOAD.size
    yield RecordType.EXPAND, EXPAND_PAYLOAD.size
    yield RecordType.PARAMETERS, EXPAND_PAYLOAD.size
    if len(head) == PAIRS_HEADER.size:
        values = PAIRS_HEADER.unpack(head)
        for kind in _PAIRS:
            dim = 0 if kind is RecordType.FORGET else known.dim
            if (values["key_dim"], values["dim"]) == (known.key_dim, dim):
                yield kind, PAIRS_HEADER.size + values["n_pairs"] * pair_bytes(kind, known.key_dim, known.dim)


def _other_trailer(data: bytes, offset: int, known: Surroundings) -> Iterator[Candidate]:
    """Everything as found but for the trailing CRC and the zeros: worth what the commit's chain says."""
    header = data[offset : offset + RECORD_HEADER.size]
    with contextlib.suppress(FormatError):
        size = record_size(header, offset)
        values = RECORD_HEADER.unpack(header)
        payload = data[offset + RECORD_HEADER.size : offset + RECORD_HEADER.size + values["length"]]
        if len(payload) < values["length"] or len(data) < offset + size - RECORD_TRAILER_BYTES:
            return
        raw = encode_record(RecordType(values["type"]), values["lsn"], values["synced_through"], payload, known.uuid)
        record = decode_record(raw, offset, known.uuid)
        detail = "its trailing CRC-32, from the payload that the commit's chain proves"
        if record.type is not RecordType.COMMIT or _chain_of(record, known) == decode_commit(record).chain:
            yield Candidate(record, raw, From.DERIVED, detail, by_chain=True)


def _derived_commit(data: bytes, offset: int, known: Surroundings) -> Iterator[Candidate]:
    """A commit whose chain or counts are damaged: both follow from its batch."""
    size = record_bytes(COMMIT_PAYLOAD.size)
    raw = data[offset : offset + size]
    if not known.batch or len(raw) < size:
        return
    values = COMMIT_PAYLOAD.unpack(raw, RECORD_HEADER.size)
    commit = Commit(
        values["time_us"], len(known.batch), sum(map(count_pairs, known.batch)), values["surprise"], bytes(32)
    )
    bare = JournalRecord(RecordType.COMMIT, known.lsn + 1, 0, commit.encode(), offset)
    payload = replace(commit, chain=_chain_of(bare, known)).encode()
    record, made = _with_header(RecordType.COMMIT, payload, data, offset, known)
    if made[-RECORD_TRAILER_BYTES:] == raw[-RECORD_TRAILER_BYTES:]:
        yield Candidate(record, made, From.DERIVED, "its counts and chain, from its batch and the record's CRC-32")


def _chain_of(commit: JournalRecord, known: Surroundings) -> bytes:
    if not known.batch or not known.chain:
        return b""
    return next_chain(known.chain, [(each.type, each.lsn, each.payload) for each in known.batch], commit.payload)


def bare_record(data: bytes, offset: int, end: int, known: Surroundings, *, ended: bool) -> Candidate | None:
    """The mark or seal that stood at `offset`, whose bytes follow from its LSN; None when neither did.

    No other record is as short. `ended` says that others know the segment to have been ended by a seal.
    """
    if known.batch:
        return None
    after = offset + BARE_BYTES
    made = {
        kind: encode_record(kind, known.lsn, known.lsn, b"", known.uuid) for kind in (RecordType.SEAL, RecordType.MARK)
    }
    followed = False
    if after < end:
        with contextlib.suppress(FormatError):
            next_record = decode_record(data[after:end], after, known.uuid)
            bare = next_record.type in (RecordType.MARK, RecordType.SEAL)
            followed = next_record.lsn == (known.lsn if bare else known.lsn + 1)
    found = data[offset : min(after, end)]
    wrong = {kind: sum(a != b for a, b in zip(raw, found, strict=False)) for kind, raw in made.items()}
    kind = min(made, key=lambda each: wrong[each])
    if followed:
        kind = RecordType.MARK
    elif after < end or (not ended and (len(found) < BARE_BYTES or wrong[kind] > BARE_BYTES // 2)):
        return None
    elif len(found) < BARE_BYTES:
        kind = RecordType.SEAL
    record = JournalRecord(kind, known.lsn, known.lsn, b"", offset)
    return Candidate(record, made[kind], From.DERIVED, f"a {kind.name.lower()} follows from its LSN")
