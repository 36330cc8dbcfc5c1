"""Read a snapshot file: head, blocks, state; salvage a head from the mirror; publish one.

Purpose: the only place that turns a `.emm` file into a state and back. Invariants: the length is
checked before anything is mapped or allocated (P-3, S-1); blocks are verified against the table
unless the caller says `verify=False`; nothing here changes a file that exists.
"""

from __future__ import annotations

from dataclasses import dataclass

from emm.codec.header import decode_header
from emm.codec.integrity import blocks_in_doubt, check_block
from emm.codec.payload import decode_payload
from emm.codec.snapshot import (
    Head,
    Snapshot,
    decode_head,
    head_from_mirror,
    read_head,
    record_fault,
    snapshot_chunks,
)
from emm.errors import EmmError, ExistsError, FencedError, FormatError, InputError
from emm.layout import BLOCK_BYTES, HEADER, STATE_BYTES_MAX
from emm.storage.names import snapshot_name
from emm.vfs.protocol import Directory


@dataclass(frozen=True, slots=True)
class LoadedSnapshot:
    """A snapshot and the digest of its head, which names it in its successor's lineage."""

    snapshot: Snapshot
    sha256: bytes


def load_head(directory: Directory, name: str, *, state_bytes_max: int = STATE_BYTES_MAX) -> Head:
    """The checked head of a snapshot file; its errors name the file."""
    try:
        return read_head(
            lambda offset, length: directory.read_at(name, offset, length),
            directory.size(name),
            state_bytes_max=state_bytes_max,
        )
    except EmmError as error:
        raise error.located(f"{directory.url}/{name}") from None


def load_snapshot(
    directory: Directory,
    generation: int,
    *,
    verify: bool = True,
    mapped: bool = False,
    state_bytes_max: int = STATE_BYTES_MAX,
) -> LoadedSnapshot:
    """The snapshot of a generation. `mapped`: arrays are read-only views of the mapped file, else of a copy.

    Writers pass mapped=False: they start from bytes that were read and verified, never from a mapping
    that could change under them.
    """
    name = snapshot_name(generation)
    head = load_head(directory, name, state_bytes_max=state_bytes_max)
    shape = head.geometry
    try:
        if head.header.generation != generation:
            raise FormatError(
                "the header's generation is not the name's",
                rule="N-2",
                offset=48,
                expected=generation,
                found=head.header.generation,
            )
        if mapped:
            payload = directory.map(name)[shape.payload_offset : shape.mirror_offset]
        else:
            payload = memoryview(
                directory.read_at(name, shape.payload_offset, shape.mirror_offset - shape.payload_offset)
            )
        if verify:
            for index, entry in blocks_in_doubt(payload, head.table):
                start = index * BLOCK_BYTES
                check_block(payload[start : start + BLOCK_BYTES], entry, index, shape.payload_offset + start)
        state = decode_payload(payload, head.header.parameters, head.header.flags)
    except EmmError as error:
        raise error.located(f"{directory.url}/{name}") from None
    header = head.header
    snapshot = Snapshot(state, header.generation, header.lsn, header.uuid, head.lineage, head.metadata)
    return LoadedSnapshot(snapshot, header.sha256)


def salvage_head(directory: Directory, name: str, *, state_bytes_max: int = STATE_BYTES_MAX) -> Head | None:
    """The head of a damaged snapshot, from either of its two copies, or None when neither is whole."""
    size = directory.size(name)
    for from_mirror in (False, True):
        try:
            if not from_mirror:
                header = decode_header(
                    directory.read_at(name, 0, min(HEADER.size, size)), state_bytes_max=state_bytes_max
                )
                if size < header.geometry.payload_offset:
                    continue
                return decode_head(directory.read_at(name, 0, header.geometry.payload_offset), header)
            if size < HEADER.size:
                continue
            header = decode_header(
                directory.read_at(name, size - HEADER.size, HEADER.size), state_bytes_max=state_bytes_max
            )
            shape = header.geometry
            if size < shape.head_bytes:
                continue
            mirror = directory.read_at(name, size - shape.head_bytes, shape.head_bytes)
            return decode_head(head_from_mirror(mirror, shape), header)
        except FormatError:
            continue
    return None


def publish_snapshot(directory: Directory, snapshot: Snapshot) -> bytes:
    """Publish a snapshot under its generation's name, whole and durable; returns the digest of its head.

    `FencedError` when the name is taken: another writer has published that generation.
    """
    fault = record_fault(snapshot)
    if fault is not None:  # published, it would be a generation that nobody can open
        raise InputError(f"a snapshot cannot hold this: {fault[1]}", rule=fault[0])
    chunks = list(snapshot_chunks(snapshot))
    head = bytes(chunks[0])
    try:
        directory.publish(snapshot_name(snapshot.generation), chunks)
    except ExistsError as error:
        raise FencedError(
            "another writer has published this generation", file=error.file, rule="N-4", found=snapshot.generation
        ) from None
    return decode_header(head).sha256
