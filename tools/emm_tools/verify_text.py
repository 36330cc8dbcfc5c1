"""The text of `emm-verify`: a line for each target, its findings, and a summary that can be pasted into a ticket.

Purpose: turn targets and totals into what a person reads. Invariants: pure; nothing is cut: every finding has its
line; a name reaches the page with its control characters escaped, so that it neither moves a cursor nor forges a
line.
"""

from __future__ import annotations

from collections.abc import Iterator

from emm.verify import Sample, Target, Totals
from emm_tools.exits import counted
from emm_tools.inspect_text import size


def escaped(text: str) -> str:
    """Text in which every character that is not printable is written as an escape: \\x1b, \\n, \\u202e, \\udc80."""
    return "".join(
        mark if mark.isprintable() else mark.encode("unicode_escape", "backslashreplace").decode() for mark in text
    )


def looked_at(target: Target) -> str:
    """`2 snapshots, 8 blocks, 1 segment, 3 commits`, or what kind of target it is."""
    covered = target.coverage
    counts = (
        (covered.snapshots, "snapshot"),
        (covered.blocks, "block"),
        (covered.segments, "segment"),
        (covered.commits, "commit"),
        (covered.v3_files, "v3 file"),
    )
    parts = [counted(count, what) for count, what in counts if count]
    if covered.commits_replayed:
        parts.append(f"{covered.commits_replayed} replayed")
    if covered.blocks_left_out:
        parts.append(f"{counted(covered.blocks_left_out, 'block')} not drawn")
    if covered.journals_left_out:
        parts.append("journal not drawn")
    return ", ".join(parts) or target.kind


def target_lines(target: Target) -> Iterator[str]:
    """A target and its findings."""
    replica = "replica " if target.kind.startswith("replica ") else ""
    read = f"{looked_at(target)}, {size(target.coverage.bytes_read)} read"
    yield f"{target.verdict}: {replica}{escaped(target.url)} ({read})"
    for each in target.findings:
        yield f"  {escaped(str(each))}"


def summary_lines(totals: Totals, sample: Sample | None, begun: str, seconds: float) -> Iterator[str]:
    """What was checked, what came of it, and what was not looked at."""
    covered = totals.coverage
    yield ""
    read = f"{size(covered.bytes_read)} read at level {covered.level.label}"
    yield f"{totals.verdict}: {counted(totals.targets, 'target')}, {read}, exit code {totals.exit_code}"
    verdicts = ", ".join(f"{count} {name}" for name, count in sorted(totals.verdicts.items()))
    yield f"  verdicts  {verdicts or 'none'}; {counted(totals.findings, 'finding')}"
    counts = (
        (covered.memories, "memory", "memories"),
        (covered.snapshots, "snapshot", ""),
        (covered.blocks, "block", ""),
        (covered.segments, "segment", ""),
        (covered.commits, "commit", ""),
        (covered.commits_replayed, "commit replayed", "commits replayed"),
        (covered.v3_files, "v3 file", ""),
    )
    yield f"  checked   {', '.join(counted(count, one, many) for count, one, many in counts if count) or 'nothing'}"
    if sample is not None:
        left = f"{counted(covered.blocks_left_out, 'block')} and {counted(covered.journals_left_out, 'journal')}"
        yield f"  sample    {sample}; {left} not drawn"
    if totals.recent:
        yield f"  recent    {counted(totals.recent, 'place')} passed over: clean at a check that is young enough"
    if totals.not_reached:
        left = f"{counted(totals.not_reached, 'place')} of {totals.places}"
        yield f"  time up   {left} not reached; the next run with the same ledger begins there"
    rate = f", {size(int(covered.bytes_read / seconds))}/s" if seconds > 0 else ""
    yield f"  run       begun {begun}, {seconds:.1f} s{rate}"
