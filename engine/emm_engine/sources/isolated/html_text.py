"""HTML to text: what a reader sees, with headings, lists and tables in Markdown's form.

Purpose: one pass of the standard library's parser. Scripts, styles and what is hidden in the head are dropped; title,
dates, keywords and author are kept. Invariants: text is never longer than a small multiple of the page; a table inside
a table is text of its cell. The parser's time is quadratic in some hostile pages, so this runs under a limit.
"""

from __future__ import annotations

from html.parser import HTMLParser

DROPPED = frozenset({"script", "style", "template", "noscript", "svg", "math", "iframe", "object", "canvas", "select"})
BLOCKS = frozenset(
    """
    address article aside blockquote body center dd details dialog div dl dt fieldset figcaption figure footer form
    header hr main nav ol p pre section summary table tbody tfoot thead ul
    """.split()  # noqa: SIM905 - a list of 30 strings is no easier to read
)
HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
DATES = ("article:published_time", "dc.date", "dcterms.created", "dcterms.date", "date", "created", "last-modified")
FIELD_CHARS_MAX = 1000
KEYWORDS_MAX = 64


class HtmlText(HTMLParser):
    """Feed it a page, close it, and ask for `found`."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []  # of the text
        self._rows: list[list[str]] = []  # of the table at hand
        self._cell: list[str] | None = None  # of the cell at hand
        self._tables = 0  # how deep
        self._dropped = ""  # the element whose end is awaited
        self._pre = 0
        self._title: list[str] | None = None
        self._fields: dict[str, str] = {}

    # --- the parser's events ---------------------------------------------------------------------

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._dropped:
            return
        if tag in DROPPED:
            self._dropped = tag
        elif tag == "title" and "title" not in self._fields:
            self._title = []
        elif tag == "meta":
            self._meta({name: value or "" for name, value in attrs})
        elif tag == "time":
            self._keep("time", dict(attrs).get("datetime") or "")
        elif tag == "table":
            self._tables += 1
            if self._tables == 1:
                self._break(2)
                self._rows, self._cell = [], None
        elif self._tables and tag in ("tr", "td", "th"):
            self._table_part(tag)
        elif tag == "br":
            self._break(1)
        elif tag == "li":
            self._break(1)
            self._put("- ")
        elif tag in HEADINGS:
            self._break(2)
            self._put(HEADINGS[tag])
        elif tag in BLOCKS:
            self._break(2)
            self._pre += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if self._dropped:
            if tag == self._dropped:
                self._dropped = ""
        elif tag in ("title", "head", "body"):
            self._end_title()
        elif tag == "table" and self._tables:
            self._tables -= 1
            if not self._tables:
                self._end_table()
        elif tag in BLOCKS or tag in HEADINGS:
            self._break(2)
            self._pre = max(0, self._pre - (tag == "pre"))

    def handle_data(self, data: str) -> None:
        if self._dropped:
            return
        if self._title is not None:
            self._title.append(data)
        elif self._pre and self._cell is None:
            self._put(data)
        else:
            flat = " ".join(data.split())
            if flat:
                self._put((" " if data[0].isspace() else "") + flat + (" " if data[-1].isspace() else ""))
            elif data:
                self._put(" ")

    # --- what they make --------------------------------------------------------------------------

    def _put(self, text: str) -> None:
        parts = self._parts if self._cell is None else self._cell
        if text[:1] == " " and not self._pre and (not parts or parts[-1].endswith((" ", "\n"))):
            text = text[1:]
        if text:
            parts.append(text)

    def _break(self, count: int) -> None:
        if self._cell is not None:
            self._put(" ")
        elif self._parts:
            self._parts.append("\n" * count)

    def _table_part(self, tag: str) -> None:
        if self._tables > 1:
            self._put(" ")
            return
        self._end_cell()
        if tag == "tr":
            self._rows.append([])
        else:
            self._cell = []

    def _end_cell(self) -> None:
        if self._cell is not None:
            if not self._rows:
                self._rows.append([])
            self._rows[-1].append("".join(self._cell).strip().replace("|", "\\|"))
            self._cell = None

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)  # `<p/>` and `<br/>`; an element that is dropped stays open, as in browsers

    def _end_table(self) -> None:
        self._end_cell()
        rows = [row for row in self._rows if row]
        self._rows = []
        for at, row in enumerate(rows):
            self._parts.append("| " + " | ".join(row) + " |\n")
            if at == 0:
                self._parts.append("|" + " --- |" * len(row) + "\n")
        self._break(1)

    def _end_title(self) -> None:
        if self._title is not None:
            self._keep("title", " ".join("".join(self._title).split()))
            self._title = None

    def _meta(self, attributes: dict[str, str]) -> None:
        name = (attributes.get("name") or attributes.get("property") or attributes.get("http-equiv") or "").lower()
        if name in (*DATES, "keywords", "author"):
            self._keep(name, attributes.get("content", ""))

    def _keep(self, name: str, value: str) -> None:
        if value.strip():
            self._fields.setdefault(name, value.strip()[:FIELD_CHARS_MAX])

    def found(self) -> dict[str, object]:
        """{title, dates (best first), tags, author, text}; the text without empty lines in a row."""
        self._end_title()
        if self._tables:
            self._end_table()
        lines = "".join(self._parts).split("\n")
        kept: list[str] = []
        for line in (each.rstrip() for each in lines):
            if line or (kept and kept[-1]):
                kept.append(line)
        return {
            "title": self._fields.get("title", ""),
            "dates": [self._fields[name] for name in (*DATES, "time") if name in self._fields],
            "tags": [tag.strip() for tag in self._fields.get("keywords", "").split(",")[:KEYWORDS_MAX] if tag.strip()],
            "author": self._fields.get("author", ""),
            "text": "\n".join(kept).strip("\n"),
        }


def html_text(page: str) -> dict[str, object]:
    """What a page says."""
    parser = HtmlText()
    parser.feed(page)
    parser.close()
    return parser.found()
