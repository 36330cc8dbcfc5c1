"""The guard on skips, and the time of each group.

Red when: an unlisted skip lets a run pass, a listed one fails it, a module that is skipped whole goes unnoticed, or
the time of a group is not printed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_run(folder: Path, body: str, allowed: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    tests = folder / "tests" / "group"
    tests.mkdir(parents=True)
    shutil.copy(HERE / "conftest.py", folder / "tests")
    (folder / "tests" / "allowed_skips.txt").write_text(allowed)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (tests / "test_it.py").write_text("import pytest\n" + body)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, "tests"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


SKIP = "def test_a(): pytest.skip('needs a moon (full)')\ndef test_b(): pass\n"
WHOLE = "pytest.skip('needs a moon (new)', allow_module_level=True)\n"


@pytest.mark.parametrize("arguments", [[], ["-p", "xdist", "-n", "1"]], ids=["alone", "xdist"])
def test_an_unlisted_skip_fails_the_run(tmp_path: Path, arguments: list[str]) -> None:
    done = pytest_run(tmp_path, SKIP, "needs a sun*\n", *arguments)
    assert done.returncode == 1
    assert "needs a moon (full)   NOT LISTED" in done.stdout
    assert "1 passed, 1 skipped" in done.stdout.strip().splitlines()[-1]


def test_a_listed_skip_is_printed_with_its_reason(tmp_path: Path) -> None:
    done = pytest_run(tmp_path, SKIP, "# moons\nneeds a moon (*  # any\n")
    assert done.returncode == 0
    assert "skipped 1 (tests/group/test_it.py::test_a): needs a moon (full)" in done.stdout
    assert "group group " in done.stdout


def test_a_module_skipped_whole_counts(tmp_path: Path) -> None:
    done = pytest_run(tmp_path, WHOLE, "")
    assert done.returncode != 0 and "needs a moon (new)   NOT LISTED" in done.stdout


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    body = "@pytest.mark.xfail(reason='known')\ndef test_a(): assert False\ndef test_b(): pass\n"
    done = pytest_run(tmp_path, body, "")
    assert done.returncode == 0 and "NOT LISTED" not in done.stdout
