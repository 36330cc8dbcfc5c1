"""The README is run: its Python as written, its commands in order, and their output compared.

Turns red when an example stops working or a command prints something else than the page shows. What differs from run
to run (identities, digests, times) is compared by its shape.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"
_VARIABLE = (
    (re.compile(r"\b[0-9a-f]{32,64}\b"), "<hex>"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "<time>"),
    (re.compile(r" +$", re.MULTILINE), ""),
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def shape(text: str) -> str:
    for pattern, name in _VARIABLE:
        text = pattern.sub(name, text)
    return text.strip()


def test_the_examples_run_and_print_what_the_page_shows(tmp_path):
    for source in blocks("python"):
        subprocess.run([sys.executable, "-c", source], cwd=tmp_path, check=True, timeout=60)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    shown = re.split(r"^\$ (.*)\n", "".join(blocks("console")), flags=re.MULTILINE)[1:]
    assert len(shown) >= 6
    for command, expected in zip(shown[::2], shown[1::2], strict=True):
        done = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert shape(done.stdout + done.stderr) == shape(expected), command
