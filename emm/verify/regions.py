"""Which part of the state a range of payload bytes holds.

Purpose: name rows and columns of the matrix instead of byte numbers. Invariants: pure; the spans of a
range cover it without gaps, in file order, the zero padding of the last block included.
"""

from __future__ import annotations

from emm.codec.header import Geometry
from emm.layout import BLOCK_BYTES
from emm.verify.finding import Span

_FLOAT_BYTES = 4


def spans_of(geometry: Geometry, start: int, end: int) -> tuple[Span, ...]:
    """The spans of payload bytes `start` to `end` (exclusive, from the start of the payload)."""
    spans = []
    for region in geometry.regions:
        first, last = max(start, region.offset), min(end, region.offset + region.size)
        if first >= last:
            continue
        first, last = first - region.offset, last - 1 - region.offset
        rows = first // region.row_bytes, last // region.row_bytes
        columns = None
        if rows[0] == rows[1] and region.name not in ("scalars", "reading"):
            columns = first % region.row_bytes // _FLOAT_BYTES, last % region.row_bytes // _FLOAT_BYTES
            if columns == (0, region.row_bytes // _FLOAT_BYTES - 1):
                columns = None
        spans.append(Span(region.name, rows, columns))
    if end > geometry.payload_bytes:
        spans.append(Span("padding", None, None))
    return tuple(spans)


def block_spans(geometry: Geometry, first: int, last: int | None = None) -> tuple[Span, ...]:
    """The spans of blocks `first` to `last` (inclusive)."""
    return spans_of(geometry, first * BLOCK_BYTES, ((first if last is None else last) + 1) * BLOCK_BYTES)
