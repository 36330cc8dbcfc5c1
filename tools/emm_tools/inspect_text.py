"""The ten lines of `emm-inspect`, and the pieces that every text of the tools is made of.

Purpose: say what a memory is and whether it is healthy, the same on a terminal and in a file. Invariants: pure; no
colour; every number has its unit; times are UTC; at most ten lines whatever the memory holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import emm
from emm.inspection import Health
from emm_tools.exits import counted, printable

BAR_WIDTH = 40
METADATA_SHOWN = 80
FINDING_SHOWN = 200
_HEALTHY = {
    "clean": "healthy",
    "clean-unsealed": "healthy (its last writer is at work, or did not close it)",
    "damaged-repairable": "DAMAGED, repairable",
    "damaged-loss": "DAMAGED, with loss",
    "torn-or-damaged-tail": "torn or damaged at its end",
    "refused": "refused",
    "indeterminate": "cannot be told",
    "missing": "missing",
}


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


def number(value: float | None, digits: str = ".4g") -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else format(value, digits)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Columns aligned: numbers to the right, text to the left, two spaces between, indented by two."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(head), *cells]) for i in range(len(head))]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        parts = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        return ("  " + "  ".join(parts)).rstrip()

    return [line(head), *(line(row) for row in cells)]


def shortened(text: str, width: int) -> str:
    """Printable text of at most `width` characters, with an ellipsis where it was cut."""
    flat = printable(text)
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def describe(found: emm.Inspection) -> str:
    """The overview, at most ten lines."""
    return "\n".join(_overview(found))


def healthy(health: Health | None) -> str:
    """The verdict in the words of the overview."""
    return "not checked" if health is None else _HEALTHY.get(health.verdict, health.verdict)


def _overview(found: emm.Inspection) -> Iterator[str]:
    yield f"{found.kind} {printable(found.url)}: {healthy(found.health)}"
    if found.health is not None:
        yield f"  checked     {health_line(found.health)}"
    shape = found.shape
    if shape is not None and found.kind == "v3 file":
        yield f"  holds       C, {shape.dim} × {shape.dim} float32, and a normaliser; no journal, no count of its pairs"
        yield f"  flags       {', '.join(shape.flags) or 'none'}"
        yield f"  v4          emm upgrade {printable(found.url)} NEW makes a memory from it"
    else:
        yield f"  identity    uuid {found.uuid or '-'}{_parent(found)}"
        yield f"  holds       {_holds(found)}"
    if shape is not None and found.kind != "v3 file":
        flags = f"; {', '.join(shape.flags)}" if shape.flags else ""
        rule = f"{shape.rule}, λ = {shape.ridge:g}; {shape.projection} projection"
        yield f"  M           {shape.dim} × {shape.rank} float32, keys of {shape.key_dim} numbers; {rule}{flags}"
    state = found.state
    if state is not None:
        pairs = "as upgraded" if found.kind == "v3 file" else f"{state.write_count} pairs{_replayed(state.replayed)}"
        yield f"  state       {pairs}; digest {state.digest}"
        if state.saturation is not None:
            yield f"  saturation  {state.saturation:.3f}  {bar(state.saturation)}{_expands(found)}"
        yield f"  spectrum    {_spectrum(found)}"
        if state.notices:
            yield f"  notice      {shortened('; '.join(state.notices), FINDING_SHOWN)}"
    elif found.state_problem is not None:
        yield f"  state       cannot be opened: {shortened(found.state_problem, FINDING_SHOWN)}"
    if found.metadata:
        yield f"  metadata    {shortened(json.dumps(found.metadata, ensure_ascii=False), METADATA_SHOWN)}"


def looked_at(health: Health) -> str:
    """What was checked, in numbers."""
    counts = [
        (health.n_snapshots, "snapshot"),
        (health.n_blocks, "block"),
        (health.n_segments, "segment"),
        (health.n_commits, "commit"),
        (health.n_v3_files, "v3 file"),
    ]
    return ", ".join(counted(count, what) for count, what in counts if count) or "nothing"


def health_line(health: Health) -> str:
    """What was checked, and the first finding with the number of the others."""
    line = f"{looked_at(health)}, {size(health.bytes_read)} read: {health.verdict}"
    if not health.findings:
        return line
    more = len(health.findings) - 1
    others = f" (and {counted(more, 'more finding')}: emm-verify lists them)" if more else ""
    return f"{line}; {shortened(health.findings[0], FINDING_SHOWN)}{others}"


def bar(share: float) -> str:
    """A share of 1 as a bar."""
    filled = round(BAR_WIDTH * min(max(share, 0.0), 1.0))
    return f"|{'#' * filled}{'.' * (BAR_WIDTH - filled)}|"


def _parent(found: emm.Inspection) -> str:
    return f", from memory {found.parent_uuid}" if found.parent_uuid else ""


def _holds(found: emm.Inspection) -> str:
    parts = []
    if found.snapshots:
        latest = f", newest {found.generation}" if found.generation is not None else ""
        total = size(sum(each.bytes for each in found.snapshots))
        parts.append(f"{counted(len(found.snapshots), 'generation')}{latest} ({total})")
    if found.segments:
        total = size(sum(each.bytes for each in found.segments))
        what = f"{counted(len(found.segments), 'segment')} with {counted(len(found.commits), 'commit')}"
        parts.append(f"journal of {what} ({total})")
    last = f"last commit LSN {found.lsn}" if found.lsn is not None else "no commit"
    time = next((each.time_us for each in reversed(found.commits) if each.lsn == found.lsn), None)
    return "; ".join([*parts, f"{last}{f' of {when(time)} UTC' if time else ''}"])


def _replayed(count: int) -> str:
    return f", {counted(count, 'commit')} replayed from the journal" if count else ""


def _expands(found: emm.Inspection) -> str:
    at = found.shape.expand_at if found.shape is not None else 0.0
    return f"  expands at {at:g}" if at else ""


def _spectrum(found: emm.Inspection) -> str:
    state = found.state
    assert state is not None
    if state.effective_rank is None:
        more = "" if found.kind == "v3 file" else " (more: the view spectrum)"
        return f"{shortened(state.spectrum_problem or 'not computed', FINDING_SHOWN)} here{more}"
    top = state.spectrum[0] if state.spectrum else 0.0
    share = f" ({state.utilisation:.0%} utilised)" if state.utilisation is not None else ""
    return f"largest singular value {top:.4g}, effective rank {state.effective_rank:.1f} of {state.rank}{share}"
