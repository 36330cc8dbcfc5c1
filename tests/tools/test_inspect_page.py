"""The page of `emm-inspect --html`, read by a strict parser: what it may hold, and that nothing of a memory is markup.

Red when: a tag, attribute or URL appears that is not on the lists below, an element is left open, an identifier comes
twice, the policy lets a script run or the style sheet is not the one it names, a picture holds more than drawing, or
text of the memory reaches the page unescaped. A real browser looks at the page in `tests/browser`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import emm
from emm_tools.inspect_page import page as page_of

TAGS = {"html", "head", "meta", "title", "style", "body", "header", "main", "footer", "h1", "h2", "p", "dl", "dt", "dd"}
TAGS |= {"div", "figure", "picture", "source", "img", "figcaption", "table", "thead", "tbody", "tr", "th", "td", "ul"}
TAGS |= {"li", "pre"}
VOID = {"meta", "source", "img"}
ATTRIBUTES = {
    "lang",
    "charset",
    "http-equiv",
    "content",
    "name",
    "class",
    "id",
    "media",
    "srcset",
    "src",
    "alt",
    "scope",
}
PICTURE = re.compile(r"data:image/svg\+xml;base64,([A-Za-z0-9+/]+=*)")
HOSTILE = {
    "a": "<script>alert(1)</script>",
    "b": '"><img src=x onerror=alert(1)>',
    "c": "</pre></main><svg onload=alert(1)>",
    "d": "\u202etxt.exe\u2066",
    "e": "&lt;b&gt; $x^$ \x1b[31m",
    "<i>key</i>": ["&amp;", "'"],
}


class Strict(HTMLParser):
    """Fails on anything that is not on the lists; keeps texts, identifiers and pictures."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        given = dict(attrs)
        assert len(given) == len(attrs) and set(given) <= ATTRIBUTES and None not in given.values(), (tag, attrs)
        for name in ("src", "srcset"):
            assert name not in given or PICTURE.fullmatch(given[name] or ""), given[name]
        self.seen.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError("a comment")

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.seen if name == tag]


def read(page: str) -> Strict:
    assert page.startswith("<!DOCTYPE html>\n")
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def spoil(path: Path, *offsets: int) -> None:
    data = bytearray(path.read_bytes())
    for offset in offsets:
        data[offset] ^= 0x40
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a memory with a hostile name, hostile metadata, and a damaged block in its newest generation."""
    path = tmp_path_factory.mktemp("hostile") / 'a"><script>alert(2)<'
    rng = np.random.default_rng(3)
    with emm.create(path, dim=12, rank=16, key_dim=24, metadata=HOSTILE) as memory:
        memory.write(rng.standard_normal((6, 24), np.float32) / 5, rng.standard_normal((6, 12), np.float32))
    spoil(sorted(path.glob("*.emm"))[-1], emm.inspect(path).regions[0].offset + 100)
    return page_of(str(path), emm.inspect(path, state=True, health=True, blocks=True))


def test_the_page_holds_only_what_it_may(hostile: str) -> None:
    found = read(hostile)
    identifiers = [attributes["id"] for _, attributes in found.seen if "id" in attributes]
    assert len(identifiers) == len(set(identifiers)) >= 8
    assert len(found.all("img")) == len(found.all("source")) == 5
    assert all(attributes["alt"] for attributes in found.all("img"))
    assert "alert(1)" in "".join(found.texts["pre"])  # as text
    shown = "".join("".join(each) for each in found.texts.values())
    assert not any(mark in shown for mark in "\u202e\u2066\x1b")
    assert "DAMAGED, repairable" in shown and "block-damaged: block 0 fails its CRC-32" in shown


def test_the_policy_lets_nothing_in_but_the_style_sheet_it_names(run, written: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    ended = run("emm-inspect", written, "--html", page)
    assert ended.code == 0 and ended.err == "" and ended.out.endswith(f"page: {page}\n")
    found = read(page.read_text(encoding="utf-8"))
    names = [tag for tag, _ in found.seen]
    assert names[:4] == ["html", "head", "meta", "meta"]  # the policy comes before anything that it could concern
    policy = next(each["content"] for each in found.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    (style,) = found.texts["style"]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    assert rules["style-src"] == f"'sha256-{digest}'" and "script-src" not in rules
    assert "url(" not in style and "@import" not in style and "prefers-color-scheme: dark" in style


def test_pictures_hold_drawing_and_nothing_else(hostile: str) -> None:
    pictures = [base64.b64decode(each) for each in PICTURE.findall(hostile)]
    assert len(pictures) == 10 and len(set(pictures)) == 10  # five, in light and dark
    for picture in pictures:
        for element in ElementTree.fromstring(picture).iter():
            name = element.tag.rpartition("}")[2]
            assert name not in ("script", "foreignObject", "iframe", "a", "animate", "set", "handler"), name
            for key, value in element.attrib.items():
                key = key.rpartition("}")[2]
                assert not key.startswith("on")
                if key in ("href", "src"):
                    assert value.startswith(("#", "data:image/png;base64,"))


def test_an_empty_memory_a_snapshot_and_a_segment_have_pages(run, memory: Path, written: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for path in (memory, sorted(written.glob("*.emm"))[-1], written / "0000000000000001.wal"):
        assert run("emm-inspect", path, "--html", page).code == 0
        read(page.read_text(encoding="utf-8"))


def cut(path: Path, n_bytes: int) -> None:
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:n_bytes])


DAMAGES = {
    "one head": lambda path: spoil(sorted(path.glob("*.emm"))[-1], 20),
    "every head and mirror": lambda path: [spoil(each, 20, -100) for each in path.glob("*.emm")],
    "a cut snapshot": lambda path: cut(sorted(path.glob("*.emm"))[-1], 5000),
    "a segment's header": lambda path: spoil(path / "0000000000000001.wal", 30),
    "a cut segment": lambda path: cut(path / "0000000000000001.wal", 700),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_memory_has_a_page_all_the_same(run, written: Path, tmp_path: Path, damage: str) -> None:
    page = tmp_path / "page.html"
    DAMAGES[damage](written)
    ended = run("emm-inspect", written, "--html", page)
    assert ended.code in (0, 4) and "Traceback" not in ended.err
    assert bool(ended.err) == (ended.code != 0)
    assert "healthy" not in ended.out.splitlines()[0]
    assert len(read(page.read_text(encoding="utf-8")).all("img")) == 5
