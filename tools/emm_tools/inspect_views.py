"""The text of the views of `emm-inspect`: header, blocks, journal, generations, spectrum, rows and diff.

Purpose: turn what `emm.inspection` found into lines. Invariants: pure; no colour; whatever came from a file is made
printable; a list that is cut says how much is left out and how to see it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import emm
from emm.inspection import BlocksView, Difference, HeaderView, RowsView, SpectrumView
from emm_tools.exits import counted, printable
from emm_tools.inspect_text import bar, number, size, table, when

COMMITS_SHOWN = 20
BLOCKS_SHOWN = 64
VALUES_SHOWN = 6
SINGULAR_SHOWN = 16
NOISE = 1e-5  # of the largest singular value: below it digits differ from one machine to another


def header_lines(found: HeaderView) -> Iterator[str]:
    """Every record of the file, field by field; the mirror only where it differs."""
    yield f"{found.kind} {printable(found.name)}, {size(found.bytes)}"
    for record in found.records:
        if record.copy == "mirror" and not found.differs and record.problem is None:
            continue
        yield ""
        yield f"{record.record}, {record.copy}, at byte {record.offset}"
        if record.problem is not None:
            yield f"  not to be believed: {printable(record.problem)}"
        rows = []
        for field in record.fields:
            text = when(field.value) if field.name == "time_us" and isinstance(field.value, int) else field.reads
            if isinstance(field.value, str) and len(field.value) > 64:
                continue  # reserved bytes
            rows.append((field.offset, field.name, str(field.value), text))
        if rows:
            yield from table(("byte", "field", "value", ""), rows)
    if any(record.copy == "mirror" for record in found.records):
        yield ""
        yield f"head and mirror {'differ in ' + ', '.join(found.differs) if found.differs else 'agree'}"
    if found.metadata is not None:
        yield f"metadata {printable(json.dumps(found.metadata, ensure_ascii=False))}"


def blocks_lines(found: BlocksView, *, everything: bool = False) -> Iterator[str]:
    """Regions, damaged blocks, then the table of blocks."""
    damaged = found.damaged
    state = f"{counted(len(damaged), 'block')} damaged" if damaged else "every block matches its checksums"
    yield f"{printable(found.name)}, generation {found.generation}, commit {found.lsn}: {state}"
    if found.head_problem is not None:
        yield f"  head from the {found.head_from}: {printable(found.head_problem)}"
    rows = [
        (r.name, r.offset, size(r.bytes), f"{r.n_rows} × {r.n_columns}" if r.n_columns else "-") for r in found.regions
    ]
    yield from table(("region", "byte", "size", "shape"), rows)
    yield ""
    shown = found.blocks if everything else damaged[:BLOCKS_SHOWN] or found.blocks[:BLOCKS_SHOWN]
    lines = [
        (
            b.index,
            b.offset,
            "; ".join(str(span) for span in b.holds),
            b.crc32,
            b.sha256[:16],
            printable(b.problem or "matches"),
        )
        for b in shown
    ]
    yield from table(("block", "byte", "holds", "crc32", "sha256", ""), lines)
    if len(shown) < len(found.blocks):
        yield f"  {counted(len(found.blocks) - len(shown), 'more block')}: --all shows them"


def generations_lines(found: emm.Inspection) -> Iterator[str]:
    """Every generation, ascending."""
    yield f"{printable(found.url)}: {counted(len(found.snapshots), 'generation')}"
    rows = [
        (
            printable(s.name),
            "-" if s.lsn is None else s.lsn,
            s.origin or "-",
            when(s.time_us),
            "-" if s.write_count is None else s.write_count,
            "-" if s.rank is None else s.rank,
            size(s.bytes),
            printable(f"{f'head from the {s.head_from}: ' if s.head_from else ''}{s.problem}" if s.problem else "ok"),
        )
        for s in found.snapshots
    ]
    yield from table(("file", "lsn", "origin", "made (UTC)", "pairs", "rank", "size", "head"), rows)


def journal_lines(found: emm.Inspection, *, everything: bool = False) -> Iterator[str]:
    """Segments, then commits, the newest last."""
    pairs = sum(commit.n_pairs for commit in found.commits)
    yield f"{printable(found.url)}: {counted(len(found.commits), 'commit')} with {counted(pairs, 'pair')}"
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
    yield from table(("segment", "first lsn", "commits", "dead", "size", "ends"), rows)
    shown = found.commits if everything else found.commits[-COMMITS_SHOWN:]
    if not shown:
        return
    yield ""
    if len(shown) < len(found.commits):
        yield f"  {counted(len(found.commits) - len(shown), 'earlier commit')}: --all shows them"
    lines = [
        (c.lsn, when(c.time_us), c.action, c.n_pairs, number(c.surprise), number(c.saturation, ".3f")) for c in shown
    ]
    yield from table(("lsn", "when (UTC)", "action", "pairs", "mean surprise", "saturation"), lines)
    if found.history_problem is not None:
        yield f"  {printable(found.history_problem)}"


def _functional(found: SpectrumView) -> Iterator[str]:
    """How well it answers: Σ cos² of the answers for its pairs, over the rank."""
    known = found.functional
    if known is None:
        return
    if known.utilisation is None:
        yield f"  functional      not known: {printable(known.problem or 'not computed')}"
    else:
        shown = f"{known.utilisation:.3f}  {bar(min(known.utilisation, 1.0))}"
        yield f"  functional      {shown}  Σ cos² ÷ rank over {counted(known.n_pairs, 'pair')}"


def spectrum_lines(found: SpectrumView) -> Iterator[str]:
    """Effective rank, saturation, and the largest singular values with bars."""
    yield f"{printable(found.url)}: singular values of M, {found.dim} × {found.rank}, {printable(found.source)}"
    if found.problem is not None:
        left = f"; {counted(found.n_rows_left_out, 'row')} left out" if found.n_rows_left_out else ""
        yield f"  the state cannot be opened, so the stored rows are shown{left}: {printable(found.problem)}"
    if found.limit is not None or found.effective_rank is None:
        yield f"  no values: {printable(found.limit or 'not computed')}"
        yield from _functional(found)
        return
    yield f"  effective rank  {found.effective_rank:.1f} of {found.rank}  {bar(found.utilisation or 0.0)}"
    if found.saturation is not None:
        yield f"  saturation      {found.saturation:.3f}  {bar(found.saturation)}"
    yield from _functional(found)
    if found.rank_holding_90 is not None:
        yield f"  energy          90 % in the first {found.rank_holding_90}, 99 % in the first {found.rank_holding_99}"
    step = max(-(-len(found.values) // SINGULAR_SHOWN), 1)
    top = found.values[0] if found.values and found.values[0] > 0 else 1.0
    shown = [i for i in range(0, len(found.values), step) if found.values[i] >= NOISE * top or i == 0]
    rows = [(i + 1, number(found.values[i]), bar(found.values[i] / top)) for i in shown]
    yield ""
    yield from table(("index", "σ", "of the largest" if step == 1 else f"every {step}th"), rows)
    small = sum(value < NOISE * top for value in found.values)
    if small:
        yield f"  {counted(small, 'value')} below {NOISE:g} of the largest, the rounding of float32: see --json"


def rows_lines(found: RowsView) -> Iterator[str]:
    """One line a row: its measures and its first numbers."""
    where = f"{printable(found.name)}, commit {found.lsn}"
    yield f"rows {found.first}–{found.last} of M, {found.n_rows} × {found.n_columns}, as stored in {where}"
    lines = [
        (
            r.row,
            number(r.norm),
            number(r.mean),
            number(r.minimum),
            number(r.maximum),
            printable(r.problem)
            if r.problem is not None
            else " ".join(number(v, ".3g") for v in r.values[:VALUES_SHOWN])
            + (" …" if len(r.values) > VALUES_SHOWN else "")
            + (f"  ({counted(r.n_not_finite, 'number')} not finite)" if r.n_not_finite else ""),
        )
        for r in found.rows
    ]
    yield from table(("row", "norm", "mean", "least", "greatest", "numbers"), lines)


def diff_lines(found: Difference, *, everything: bool = False) -> Iterator[str]:
    """The two sides, the commits between them, and what became of the numbers."""
    yield f"{printable(found.before.url)} → {printable(found.after.url)}"
    yield f"  {found.relation}"
    sides = (found.before, found.after)
    rows = [
        ("commit", *(str(s.lsn) for s in sides)),
        ("shown", *(printable(s.source) for s in sides)),
        ("pairs", *(str(s.write_count) for s in sides)),
        ("saturation", *(number(s.saturation, ".3f") for s in sides)),
        ("effective rank", *(number(s.effective_rank, ".1f") for s in sides)),
        ("digest", *((s.digest or "-")[:32] for s in sides)),
        *((name, printable(a), printable(b)) for name, a, b in found.parameters),
    ]
    yield from table(("", "first", "second"), rows)
    for side, which in zip(sides, ("first", "second"), strict=True):
        if side.problem is not None:
            yield f"  the state of the {which} cannot be opened: {printable(side.problem)}"
    yield from _changed_numbers(found)
    if found.commits or found.commits_problem:
        pairs = sum(commit.n_pairs for commit in found.commits)
        yield f"  {counted(len(found.commits), 'commit')} with {counted(pairs, 'pair')} between"
    if found.commits_problem is not None:
        yield f"  {printable(found.commits_problem)}"
    shown = found.commits if everything else found.commits[-COMMITS_SHOWN:]
    if shown:
        lines = [(c.lsn, when(c.time_us), c.action, c.n_pairs, number(c.surprise)) for c in shown]
        yield from table(("lsn", "when (UTC)", "action", "pairs", "mean surprise"), lines)
    if len(shown) < len(found.commits):
        yield f"  {counted(len(found.commits) - len(shown), 'earlier commit')}: --all shows them"


def _changed_numbers(found: Difference) -> Iterator[str]:
    numbers = found.numbers
    if numbers is not None:
        count = numbers.n_rows * numbers.n_columns
        rows_of = f"{numbers.n_rows_changed} of {numbers.n_rows} rows"
        yield f"  M: {rows_of} and {numbers.n_numbers_changed} of {count} numbers changed"
        relative = numbers.norm_change / numbers.norm_before if numbers.norm_before else None
        moved = f"‖Δ‖ = {number(numbers.norm_change)}"
        if relative is not None:
            moved += f", {number(relative)} of ‖M‖ = {number(numbers.norm_before)} before"
        yield f"     {moved}; largest change of one number {number(numbers.max_change)}"
        if numbers.largest:
            far = ", ".join(f"{each.row} (by {number(each.change, '.3g')})" for each in numbers.largest)
            yield f"     rows that moved most: {far}"
    if found.numbers_problem is not None:
        yield f"  {printable(found.numbers_problem)}"
