"""docs/verify.md is run: its Python as written, its commands in order, and their output compared.

Red when an example stops working or a command prints something else than the page shows; only when a run began and how
long it took may differ. After a wanted change `python tests/verify/test_guide.py --write` writes the output anew.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "verify.md"
_BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ (.*)\n", re.MULTILINE)
_RUN = re.compile(r"begun [0-9: -]+ UTC, [0-9.]+ s(, [0-9.]+ [KMG]?i?B/s)?")
_SAMPLED = re.compile(r"(\$ emm-verify --sample .*\nclean: labs/chemistry ).*(?:\n.*)*?\n```")


def run(command: str | list[str], place: Path) -> str:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    environment = {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", "XDG_STATE_HOME": str(place / "state")}
    done = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert isinstance(command, str) or done.returncode == 0, done.stdout
    return done.stdout


def rendered(page: str, place: Path) -> str:
    """The page with the output that its commands print now."""

    def block(match: re.Match[str]) -> str:
        language, source = match[1], match[2]
        if language == "python":
            run([sys.executable, "-c", source], place)
            return match[0]
        shown = "".join(f"$ {command}\n{run(command, place)}" for command in _COMMAND.findall(source))
        return f"```console\n{shown}```"

    return _BLOCK.sub(block, page)


def timeless(page: str) -> str:
    """Without what differs from run to run: the time, and what a sample draws by the memory's random UUID."""
    return _SAMPLED.sub(r"\1…\n```", _RUN.sub("begun …", page))


def test_the_guide_shows_what_its_commands_print(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert len(_COMMAND.findall(page)) >= 20
    assert timeless(rendered(page, tmp_path)) == timeless(page), "run: python tests/verify/test_guide.py --write"


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8"), Path(folder)), encoding="utf-8")
