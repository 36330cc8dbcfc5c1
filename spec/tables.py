"""Write the field tables of `emm/layout.py` and the annotated dump into `emm-v4.md`, between its markers.

    python spec/tables.py            # exit 1 and say so when the page differs from the code
    python spec/tables.py --write    # bring the page up to date

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

PAGE = HERE / "emm-v4.md"
_MARKER = re.compile(r"(<!-- (?:table|dump): (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_TYPES = {"B": "u8", "H": "u16", "I": "u32", "Q": "u64", "q": "i64", "f": "f32", "d": "f64"}
_ENUMS = (layout.Rule, layout.Projection, layout.Flag, layout.Origin, layout.RecordType)


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
    if kind is layout.Flag:
        rows[2:] = ["| value | name | meaning |", "|---:|---|---|"]
    for member in kind:
        meaning = f" {layout.FLAG_MEANINGS[member]} |" if kind is layout.Flag else ""
        rows.append(f"| {member.value} | `{member.name}` |{meaning}")
    return "\n".join(rows) + "\n"


def render(page: str) -> str:
    """The page with every table and the dump between markers made anew; `KeyError` for an unknown table."""
    tables = {record.name: record_table(record) for record in layout.RECORDS}
    tables |= {kind.__name__: enum_table(kind) for kind in _ENUMS}
    tables["tiny"] = dump()
    return _MARKER.sub(lambda match: match[1] + tables[match[2]] + match[3], page)


def main() -> int:
    page = PAGE.read_text(encoding="utf-8")
    fresh = render(page)
    if "--write" in sys.argv[1:]:
        PAGE.write_text(fresh, encoding="utf-8")
    elif page != fresh:
        print("spec/emm-v4.md differs from emm/layout.py; run: python spec/tables.py --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
