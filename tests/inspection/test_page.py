"""docs/inspect.md is run: its Python as written, its commands in order, and their output compared.

Red when an example stops working or a command prints something else than the page shows; identities and times are
compared by their shape. After a wanted change `python -m tests.inspection.test_page --write` writes the output anew.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from tests.repair.test_page import rendered

PAGE = Path(__file__).resolve().parents[2] / "docs" / "inspect.md"
_VARIABLE = (
    (re.compile(r"\b[0-9a-f]{32}(?:[0-9a-f]{32})?\b"), "<hex>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b"), "<time>"),
    (re.compile(r"(time_us +)\d+"), r"\1<time>"),
    (re.compile(r"(crc32 +)\d+ *$", re.MULTILINE), r"\1<crc>"),
    (re.compile(r"expected [0-9a-f]{8}, found [0-9a-f]{8}"), "<crc>"),
    (re.compile(r" +$", re.MULTILINE), ""),
)


def shape(text: str) -> str:
    for pattern, name in _VARIABLE:
        text = pattern.sub(name, text)
    return text


def test_the_page_shows_what_its_commands_print(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("\n$ ") >= 14
    found = rendered(page, tmp_path)
    assert shape(found) == shape(page), "run: python -m tests.inspection.test_page --write"


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8"), Path(folder)), encoding="utf-8")
