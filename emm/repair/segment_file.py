"""From a mended segment to the plan of its file: where it is cut, sealed, and made to state its predecessor's length.

Purpose: what is kept of a journal is a lawful one (R-11, J-11). Invariants: pure; a file whose bytes are not proven to
be the original's is said to be rebuilt.
"""

from __future__ import annotations

import dataclasses

from emm.repair.plan import Action, FilePlan, From, Part
from emm.repair.segments import MendedSegment, Piece, merged_pieces, seal
from emm.storage.names import segment_name


def segment_file(each: MendedSegment, length_before: int | None, uuid: bytes) -> FilePlan:
    """The plan of one kept segment; `length_before` is the new length of a segment before it that was mended."""
    pieces, parts, action = list(each.pieces), list(each.parts), Action.MEND if each.parts else Action.COPY
    assert each.header is not None
    if not each.exact:
        action = Action.REBUILD
    if not each.complete:
        offset = each.stopped_at or 0
        if not each.sealed:
            pieces.append(seal(offset, each.live_last, uuid))
        detail = "what lies after the gap is left out, and a seal ends the segment"
        parts.append(Part("tail", From.DERIVED, detail, offset))
        action = Action.REBUILD
    stated = each.header.previous_bytes
    if stated and length_before is not None and length_before < stated:
        header = dataclasses.replace(each.header, previous_bytes=length_before)
        pieces = _with_header(pieces, header.encode())
        parts.append(Part("segment header", From.DERIVED, "states the new length of the segment before it", 0, 128))
        action = Action.REBUILD
    return FilePlan(segment_name(each.number), action, tuple(parts), recipe=tuple(merged_pieces(pieces)))


def _with_header(pieces: list[Piece], header: bytes) -> list[Piece]:
    """The pieces of a segment with other 128 bytes before its records."""
    first, rest = pieces[0], pieces[1:]
    after = [Piece(first.offset + len(header), first.length - len(header))] if first.length > len(header) else []
    return [Piece(0, len(header), header), *after, *rest]
