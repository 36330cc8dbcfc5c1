"""Write the field tables of the layouts and the annotated dump into `emm-v4.md` and `emm-v3.md`, between their markers.

    python spec/tables.py            # exit 1 and say so when a page differs from the code
    python spec/tables.py --write    # bring the pages up to date

Purpose: a byte layout that is written twice drifts apart; here it is written once.
"""

from __future__ import annotations

import enum
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from dump import dump  # noqa: E402

from emm import layout  # noqa: E402
from emm.v3 import layout as layout_v3  # noqa: E402

PAGE = HERE / "emm-v4.md"
PAGE_V3 = HERE / "emm-v3.md"
_MARKER = re.compile(r"(<!-- (?:table|dump): (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_TYPES = {"B": "u8", "H": "u16", "I": "u32", "Q": "u64", "q": "i64", "f": "f32", "d": "f64"}
_ENUMS = (layout.Rule, layout.Projection, layout.Flag, layout.Origin, layout.RecordType, layout_v3.V3Flag)
_MEANINGS = {layout.Flag: layout.FLAG_MEANINGS, layout_v3.V3Flag: layout_v3.V3_FLAG_MEANINGS}


def record_table(record: layout.Record) -> str:
    """One record as a Markdown table, with its size."""
    rows = [
        f"`{record.name}`, {record.size} bytes:",
        "",
        "| offset | size | type | field | meaning |",
        "|---:|---:|---|---|---|",
    ]
    for field in record.fields:
        kind = _TYPES.get(field.format, f"byte[{field.size}]")
        rows.append(f"| {field.offset} | {field.size} | {kind} | `{field.name}` | {field.meaning} |")
    return "\n".join(rows) + "\n"


def enum_table(kind: type[enum.IntEnum] | type[enum.IntFlag]) -> str:
    """The members of an enumeration as a Markdown table, flags with their meaning."""
    rows = [f"`{kind.__name__}`:", "", "| value | name |", "|---:|---|"]
    meanings = _MEANINGS.get(kind)
    if meanings is not None:
        rows[2:] = ["| value | name | meaning |", "|---:|---|---|"]
    for member in kind:
        meaning = f" {meanings[member]} |" if meanings is not None else ""
        rows.append(f"| {member.value} | `{member.name}` |{meaning}")
    return "\n".join(rows) + "\n"


def render(page: str) -> str:
    """A page with every table and the dump between markers made anew; `KeyError` for an unknown table."""
    tables = {record.name: record_table(record) for record in (*layout.RECORDS, layout_v3.V3_HEADER)}
    tables |= {kind.__name__: enum_table(kind) for kind in _ENUMS}
    tables["tiny"] = dump()
    return _MARKER.sub(lambda match: match[1] + tables[match[2]] + match[3], page)


def main() -> int:
    stale = 0
    for path in (PAGE, PAGE_V3):
        page = path.read_text(encoding="utf-8")
        fresh = render(page)
        if "--write" in sys.argv[1:]:
            path.write_text(fresh, encoding="utf-8")
        elif page != fresh:
            print(f"spec/{path.name} differs from its layout; run: python spec/tables.py --write", file=sys.stderr)
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
