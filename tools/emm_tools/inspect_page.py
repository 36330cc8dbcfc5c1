"""The page of `emm-inspect --html`: one file with the whole inspection, for a browser.

Purpose: something to keep beside an archive, or to send. Invariants: nothing is fetched and nothing runs: a content
security policy allows images that the page carries and the one style sheet, by its hash, and no script at all; light
and dark follow the reader's setting, pictures too; whatever came from the memory is printable text that has been
escaped; long lists are cut with their full count beside them.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterator, Sequence
from importlib import resources

import emm
from emm.inspection import Health
from emm_tools.exits import counted, printable
from emm_tools.inspect_text import healthy, looked_at, number, shortened, size, when
from emm_tools.pictures import PANELS, Sources, gather, svgs
from emm_tools.version import version

COMMITS_SHOWN = 50
GENERATIONS_SHOWN = 50
FINDINGS_SHOWN = 100
BLOCKS_SHOWN = 100

CAPTIONS = {
    "blocks": "Each cell is one block, in file order; the colour tells which array begins in it.",
    "spectrum": "How many directions M uses. The band ends at the effective rank.",
    "generations": "How full the memory was after each commit: the share of its degrees of freedom in use, and the "
    "effective rank of M over its rank. Triangles are checkpoints.",
    "journal": "What was written when, and how far the memory's answer was from each value before.",
    "heat": "M itself. Large matrices are shown by cells.",
}


def page(path: str, found: emm.Inspection) -> str:
    """The page as text. `found` has its state, history, health and compared blocks."""
    sources = gather(path, found)
    style = resources.files("emm_tools").joinpath("inspect_page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    name = _name(found)
    body = "\n".join(_body(name, found, sources))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{name} — emm-inspect</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _text(value: object) -> str:
    """Anything as printable, escaped text."""
    return html.escape(printable(str(value)), quote=True)


def _name(found: emm.Inspection) -> str:
    return _text(shortened(found.url.rstrip("/").rsplit("/", 1)[-1] or found.url, 80))


def _body(name: str, found: emm.Inspection, sources: Sources) -> Iterator[str]:
    kind = "healthy" if found.health is not None and found.health.healthy else "hurt"
    yield "<header>"
    yield f"<h1>{_text(found.kind)} {name}</h1>"
    yield f'<p class="verdict {kind}">{_text(healthy(found.health))}</p>'
    yield "</header>"
    yield "<main>"
    yield _facts(found)
    if found.health is not None:
        yield from _findings(found.health)
    yield '<h2 id="pictures">Pictures</h2>'
    yield '<div class="pictures">'
    for panel in PANELS:
        yield _figure(panel, sources)
    yield "</div>"
    yield from _damaged_blocks(found)
    yield from _generations(found)
    yield from _segments(found)
    yield from _commits(found)
    if found.metadata:
        yield '<h2 id="metadata">Metadata</h2>'
        yield f"<pre>{_text(json.dumps(found.metadata, ensure_ascii=False))}</pre>"
    yield "</main>"
    yield f"<footer>Made by emm-inspect {_text(version())} from {_text(found.url)}. Times are UTC.</footer>"


def _facts(found: emm.Inspection) -> str:
    facts: list[tuple[str, object]] = []
    if found.kind != "v3 file":
        facts += [("uuid", found.uuid or "-"), ("last commit", "-" if found.lsn is None else found.lsn)]
    if found.generation is not None:
        facts.append(("newest generation", found.generation))
    shape, state = found.shape, found.state
    if shape is not None:
        name = "C and a normaliser" if found.kind == "v3 file" else "M"
        facts.append((name, f"{shape.dim} × {shape.rank} float32, keys of {shape.key_dim} numbers"))
        rule = f"{shape.rule}, λ = {shape.ridge:g}; {shape.projection} projection, seed {shape.seed:#x}"
        if found.kind != "v3 file":
            facts.append(("rule", rule))
            facts.append(("expands at", f"{shape.expand_at:g}" if shape.expand_at else "never"))
        facts.append(("flags", ", ".join(shape.flags) or "none"))
    if state is not None:
        replayed = f"{counted(state.replayed, 'commit')} replayed from the journal"
        pairs = "not in a v3 file" if found.kind == "v3 file" else f"{state.write_count}, {replayed}"
        facts.append(("pairs", pairs))
        facts.append(("saturation", number(state.saturation, ".3f")))
        rank = f"{state.effective_rank:.1f} of {state.rank}" if state.effective_rank is not None else "-"
        facts.append(("effective rank", rank))
        facts.append(("digest", state.digest))
        facts += [("notice", each) for each in state.notices]
    if found.state_problem is not None:
        facts.append(("state", f"cannot be opened: {found.state_problem}"))
    if found.parent_uuid is not None:
        facts.append(("from memory", found.parent_uuid))
    rows = "".join(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in facts)
    return f"<dl>{rows}</dl>"


def _findings(health: Health) -> Iterator[str]:
    yield '<h2 id="health">Health</h2>'
    yield f"<p>{_text(looked_at(health))} checked, {_text(size(health.bytes_read))} read: {_text(health.verdict)}.</p>"
    if health.findings:
        yield "<ul>"
        for finding in health.findings[:FINDINGS_SHOWN]:
            yield f"<li>{_text(finding)}</li>"
        yield "</ul>"
    yield from _left_out(len(health.findings), FINDINGS_SHOWN, "finding", "emm-verify")


def _left_out(count: int, shown: int, what: str, how: str) -> Iterator[str]:
    if count > shown:
        yield f"<p>{_text(counted(count - shown, f'more {what}'))} not shown here: {_text(how)} lists them.</p>"


def _figure(panel: str, sources: Sources) -> str:
    light, dark = map(_embedded, svgs(panel, sources))
    caption = _text(CAPTIONS[panel])
    return (
        f'<figure id="{panel}"><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{caption}"></picture><figcaption>{caption}</figcaption></figure>'
    )


def _embedded(data: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(data).decode()}"


def _table(head: Sequence[str], numeric: Sequence[bool], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    mark = [' class="n"' if each else "" for each in numeric]
    yield '<div class="wide"><table><thead><tr>'
    yield "".join(f'<th{m} scope="col">{_text(each)}</th>' for each, m in zip(head, mark, strict=True))
    yield "</tr></thead><tbody>"
    for row in rows:
        cells = "".join(f"<td{m}>{_text(each)}</td>" for each, m in zip(row, mark, strict=True))
        yield f"<tr>{cells}</tr>"
    yield "</tbody></table></div>"


def _damaged_blocks(found: emm.Inspection) -> Iterator[str]:
    damaged = [block for block in found.blocks if block.problem is not None]
    if not damaged:
        return
    yield f'<h2 id="damage">Damaged blocks of generation {_text(found.generation)}</h2>'
    rows = [
        (block.index, block.offset, "; ".join(str(span) for span in block.holds), block.problem)
        for block in damaged[:BLOCKS_SHOWN]
    ]
    yield from _table(("block", "byte", "holds", "problem"), (True, True, False, False), rows)
    yield from _left_out(len(damaged), BLOCKS_SHOWN, "block", "emm-inspect PATH blocks --all")


def _generations(found: emm.Inspection) -> Iterator[str]:
    if not found.snapshots:
        return
    yield '<h2 id="list">Generations</h2>'
    rows = [
        (
            s.name,
            number(s.lsn, "d"),
            s.origin or "-",
            when(s.time_us),
            number(s.write_count, "d"),
            size(s.bytes),
            s.problem or "ok",
        )
        for s in found.snapshots[-GENERATIONS_SHOWN:]
    ]
    head = ("file", "commit", "origin", "made (UTC)", "pairs", "size", "head")
    yield from _table(head, (False, True, False, False, True, True, False), rows)
    yield from _left_out(len(found.snapshots), GENERATIONS_SHOWN, "generation", "emm-inspect PATH generations")


def _segments(found: emm.Inspection) -> Iterator[str]:
    if not found.segments:
        return
    yield '<h2 id="segments">Journal</h2>'
    rows = [
        (
            s.name,
            number(s.first_lsn, "d"),
            s.n_commits,
            s.n_dead,
            size(s.bytes),
            s.problem or ("sealed" if s.sealed else "open end"),
        )
        for s in found.segments[-GENERATIONS_SHOWN:]
    ]
    head = ("segment", "first commit", "commits", "dead", "size", "ends")
    yield from _table(head, (False, True, True, True, True, False), rows)
    yield from _left_out(len(found.segments), GENERATIONS_SHOWN, "segment", "emm-inspect PATH journal")


def _commits(found: emm.Inspection) -> Iterator[str]:
    if not found.commits:
        return
    shown = found.commits[-COMMITS_SHOWN:]
    yield f'<h2 id="commits">Commits, the last {len(shown)} of {len(found.commits)}</h2>'
    rows = [
        (c.lsn, when(c.time_us), c.action, c.n_pairs, number(c.surprise), number(c.saturation, ".3f"))
        for c in reversed(shown)
    ]
    head = ("commit", "when (UTC)", "action", "pairs", "mean surprise", "saturation")
    yield from _table(head, (True, False, False, True, True, True), rows)
    yield from _left_out(len(found.commits), COMMITS_SHOWN, "commit", "emm-inspect PATH journal --all")
