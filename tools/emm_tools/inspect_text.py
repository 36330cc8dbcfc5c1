"""The text of `emm-inspect`: short paragraphs and aligned tables, the same on a terminal and in a file.

Purpose: turn an `emm.Inspection` into what a person reads. Invariants: pure; no colour; every number has its unit;
times are UTC.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import emm
from emm_tools.exits import counted, printable

COMMITS_SHOWN = 6
BAR_WIDTH = 40


def when(time_us: int | None) -> str:
    """A moment in UTC, to the second; a dash for none; the raw number when no calendar holds it."""
    if not time_us:
        return "-"
    try:
        return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return f"{time_us} µs"


def size(n_bytes: int) -> str:
    """Bytes with a binary unit."""
    if n_bytes < 1024:
        return f"{n_bytes} B"
    amount, unit = n_bytes / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.1f} {unit}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Columns aligned: numbers to the right, text to the left, two spaces between, indented by two."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(head), *cells]) for i in range(len(head))]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        parts = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        return ("  " + "  ".join(parts)).rstrip()

    return [line(head), *(line(row) for row in cells)]


def describe(found: emm.Inspection, *, blocks: bool = False) -> str:
    """The whole text."""
    parts = [_memory(found), _state(found), _snapshots(found), _payload(found), _segments(found), _commits(found)]
    if blocks:
        parts.append(_blocks(found))
    return "\n\n".join("\n".join(lines) for lines in map(list, parts) if lines)


def _memory(found: emm.Inspection) -> Iterator[str]:
    yield f"{found.kind} {printable(found.url)}"
    yield f"  uuid        {found.uuid or '-'}"
    shape = found.shape
    if shape is not None and found.kind == "v3 file":
        yield f"  C           {shape.dim} × {shape.dim} float32, and a normaliser; no journal"
        yield f"  flags       {', '.join(shape.flags) or 'none'}"
    elif shape is not None:
        yield f"  M           {shape.dim} × {shape.rank} float32, keys of {shape.key_dim} numbers"
        yield f"  rule        {shape.rule}, λ = {shape.ridge:g}; projection {shape.projection}, seed {shape.seed:#x}"
        yield f"  flags       {', '.join(shape.flags) or 'none'}; expands at saturation {shape.expand_at:g}"
    if found.generation is not None:
        yield f"  newest      generation {found.generation}, last commit LSN {found.lsn}"
    if found.parent_uuid or found.parent_sha256:
        yield f"  parent      uuid {found.parent_uuid or '-'}, snapshot {found.parent_sha256 or '-'}"
    if found.metadata:
        yield f"  metadata    {json.dumps(found.metadata)}"


def _state(found: emm.Inspection) -> Iterator[str]:
    state = found.state
    if state is None:
        return
    yield "state (as upgraded)" if found.kind == "v3 file" else "state (snapshot and journal)"
    yield f"  digest      {state.digest}"
    filled = round(BAR_WIDTH * min(max(state.saturation, 0.0), 1.0))
    yield f"  saturation  {state.saturation:.3f}  |{'#' * filled}{'.' * (BAR_WIDTH - filled)}|"
    if found.kind != "v3 file":  # it does not count its pairs
        yield f"  pairs       {state.write_count} written, {state.replayed} commits replayed from the journal"
    top = state.spectrum[0] if state.spectrum else 0.0
    effective = f"effective rank {state.effective_rank:.1f} of {state.rank}"
    yield f"  spectrum    largest singular value {top:.4g}, {effective}"
    for notice in state.notices:
        yield f"  notice      {printable(notice)}"


def _snapshots(found: emm.Inspection) -> Iterator[str]:
    if not found.snapshots:
        return
    yield "generations"
    rows = [
        (
            "-" if s.generation is None else s.generation,
            "-" if s.lsn is None else s.lsn,
            s.origin or "-",
            when(s.time_us),
            size(s.bytes),
            printable(s.problem or "head readable"),
        )
        for s in found.snapshots
    ]
    yield from table(("generation", "lsn", "origin", "made (UTC)", "size", ""), rows)


def _payload(found: emm.Inspection) -> Iterator[str]:
    if not found.regions:
        return
    if found.kind == "v3 file":
        yield "arrays"
    else:
        yield f"payload of generation {found.generation}: {counted(len(found.blocks), 'block')} of 64 KiB"
    rows = [
        (r.name, r.offset, size(r.bytes), f"{r.n_rows} × {r.n_columns}" if r.n_columns else "-") for r in found.regions
    ]
    yield from table(("region", "byte", "size", "shape"), rows)
    bad = [block for block in found.blocks if block.problem]
    for block in bad:
        yield f"  block {block.index} is damaged: {printable(block.problem or '')}"


def _segments(found: emm.Inspection) -> Iterator[str]:
    if not found.segments:
        return
    yield "journal"
    rows = [
        (
            printable(s.name),
            "-" if s.first_lsn is None else s.first_lsn,
            s.n_commits,
            s.n_dead,
            size(s.bytes),
            printable(s.problem or ("sealed" if s.sealed else "open end")),
        )
        for s in found.segments
    ]
    yield from table(("segment", "first lsn", "commits", "dead", "size", ""), rows)


def _commits(found: emm.Inspection) -> Iterator[str]:
    if not found.commits:
        return
    pairs = sum(commit.n_pairs for commit in found.commits)
    shown = found.commits[-COMMITS_SHOWN:]
    yield f"history: {counted(len(found.commits), 'commit')} with {counted(pairs, 'pair')}; the last {len(shown)}"
    rows = [
        (
            c.lsn,
            when(c.time_us),
            c.action,
            c.n_pairs,
            f"{c.surprise:.4g}",
            "-" if c.saturation is None else f"{c.saturation:.3f}",
        )
        for c in shown
    ]
    yield from table(("lsn", "when (UTC)", "action", "pairs", "mean surprise", "saturation"), rows)


def _blocks(found: emm.Inspection) -> Iterator[str]:
    if not found.blocks:
        return
    yield "blocks"
    rows = [
        (
            b.index,
            b.offset,
            "; ".join(str(span) for span in b.holds),
            b.crc32,
            b.sha256[:16],
            printable(b.problem or "matches"),
        )
        for b in found.blocks
    ]
    yield from table(("block", "byte", "holds", "crc32", "sha256", ""), rows)
