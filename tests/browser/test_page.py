"""The page of `emm-inspect --html` in a real Chromium: `make test-browser`.

Red when: the page asks for anything that it does not carry, breaks its own policy, shows a picture that does not load,
runs over the edge of a telephone or a desk, is hard to read in light or dark, or loses its essentials without scripts.
`python tests/browser/test_page.py --write` takes the screenshots of docs/inspect.md anew.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emm
import emm.inspection

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = {"light": ROOT / "docs" / "inspect-light.png", "dark": ROOT / "docs" / "inspect-dark.png"}
FLAGS = [
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CONTRAST = """
(selector) => {
  const rgb = (text) => text.match(/[0-9.]+/g).slice(0, 3).map(Number);
  const light = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const luminance = (c) => 0.2126 * light(c[0]) + 0.7152 * light(c[1]) + 0.0722 * light(c[2]);
  const ink = luminance(rgb(getComputedStyle(document.querySelector(selector)).color));
  const paper = luminance(rgb(getComputedStyle(document.body).backgroundColor));
  return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
}
"""


def chromium() -> str | None:
    """The browser that tools/browser.sh found or installed, or one on the PATH."""
    names = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
    return os.environ.get("EMM_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def make_page(folder: Path, *, hurt: bool) -> Path:
    """A memory with a life and hostile metadata, and its page."""
    from emm_tools.inspect_page import page

    path = folder / "chemistry"
    rng = np.random.default_rng(6)

    def pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.standard_normal((n, 96), np.float32) / 10, rng.standard_normal((n, 384), np.float32)

    metadata = {"name": "reaction rates", "note": "<script>document.title = 'broken'</script>"}
    with emm.create(path, dim=384, rank=96, key_dim=96, expand_at=0, metadata=metadata) as memory:
        first = pairs(6)
        memory.write(*first)
        for index in range(40):
            memory.write(*pairs(1 + index % 3))
            if index in (14, 27):
                memory.checkpoint()
        memory.unlearn(first[0][:1], first[1][:1])
        memory.write(first[0][1:4], first[1][1:4])
    if hurt:
        newest = sorted(path.glob("*.emm"))[-1]
        newest.chmod(0o644)
        data = bytearray(newest.read_bytes())
        data[emm.inspect(path).regions[0].offset + 70_000] ^= 0x20
        newest.write_bytes(data)
    found = emm.inspect(path, state=True, health=True, blocks=True)
    written = folder / "page.html"
    written.write_text(page(str(path), found), encoding="utf-8")
    return written


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Chromium and playwright (make test-browser)")
    executable = chromium()
    if executable is None:
        pytest.skip("needs Chromium and playwright (make test-browser)")
    with sync_api.sync_playwright() as playwright:
        sandbox = os.geteuid() != 0
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS, chromium_sandbox=sandbox)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def hurt(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_page(tmp_path_factory.mktemp("page"), hurt=True)


def opened(browser: Any, page: Path, scheme: str, **options: Any) -> tuple[Any, list[str], list[str]]:
    """(the page, what it asked for, what it complained about)."""
    context = browser.new_context(color_scheme=scheme, **options)
    tab = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(page.as_uri(), wait_until="load")
    return tab, asked, complaints


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_shows_everything_and_asks_for_nothing(browser: Any, hurt: Path, scheme: str) -> None:
    tab, asked, complaints = opened(browser, hurt, scheme)
    assert complaints == []
    assert [url for url in asked if not url.startswith("data:")] == [hurt.as_uri()]
    assert tab.title() == "chemistry — emm-inspect"  # and not "broken"
    images = tab.evaluate("[...document.images].map((i) => [i.complete, i.naturalWidth, i.currentSrc === i.src])")
    assert len(images) == 5 and all(complete and width > 400 for complete, width, _ in images)
    assert all(of_light is (scheme == "light") for _, _, of_light in images)
    text = tab.inner_text("body")
    for essential in ("DAMAGED, repairable", "block-damaged", "M rows", "Generations", "reaction rates", "<script>"):
        assert essential in text
    tab.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(browser: Any, hurt: Path, scheme: str) -> None:
    """WCAG's 4.5 : 1 for text; the paper is really light or really dark."""
    tab, _, _ = opened(browser, hurt, scheme)
    for selector in ("h1", ".verdict", "dt", "dd", "figcaption", "th", "td", "footer"):
        assert tab.evaluate(CONTRAST, selector) >= 4.5, selector
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is (scheme == "light")
    tab.context.close()


@pytest.mark.parametrize("width", [360, 820, 1600])
def test_nothing_runs_over_the_edge(browser: Any, hurt: Path, width: int) -> None:
    tab, _, _ = opened(browser, hurt, "light", viewport={"width": width, "height": 900})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    overlapping = """
      [...document.querySelectorAll('figure')].map((f) => f.getBoundingClientRect()).some((a, i, all) =>
        all.some((b, j) => i < j && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom))"""
    assert tab.evaluate(overlapping) is False
    tab.context.close()


def test_a_script_that_got_in_would_not_run(browser: Any, hurt: Path, tmp_path: Path) -> None:
    """The policy is no ornament: with a script put into the page by hand, the browser refuses it and says so."""
    broken = tmp_path / "broken.html"
    text = hurt.read_text(encoding="utf-8")
    broken.write_text(text.replace("</body>", "<script>document.title = 'broken'</script></body>"), encoding="utf-8")
    tab, _, complaints = opened(browser, broken, "light")
    assert tab.title() == "chemistry — emm-inspect"
    assert any("Content Security Policy" in each for each in complaints)
    tab.context.close()


def test_without_scripts_the_page_is_the_same(browser: Any, hurt: Path) -> None:
    shots = []
    for enabled in (True, False):
        tab, _, _ = opened(browser, hurt, "light", java_script_enabled=enabled)
        shots.append(tab.screenshot(full_page=True))
        tab.context.close()
    assert shots[0] == shots[1]


def write_screenshots() -> None:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        os.chdir(folder)  # so that no path of this machine is in the picture
        page = make_page(Path(), hurt=True).resolve()
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS, chromium_sandbox=os.geteuid() != 0)
        for scheme, path in SCREENSHOTS.items():
            tab, _, _ = opened(browser, page, scheme, viewport={"width": 1120, "height": 1800})
            tab.screenshot(path=str(path))
        browser.close()


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    write_screenshots()
