"""What an installation promises: scripts that start, extras that exist, targets and files that the README names.

Red when: a console script loses its function, an extra names one that is not there, a core dependency creeps in, or
the guard on skips is no longer called by CI.
"""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~! ]", requirement)[0] for requirement in requirements}


def test_console_scripts_resolve() -> None:
    assert set(PROJECT["scripts"]) == {"emm", "emm-verify", "emm-inspect", "emm-conformance"}
    for target in PROJECT["scripts"].values():
        module, _, function = target.partition(":")
        assert callable(getattr(import_module(module), function))


def test_the_packages_say_that_they_are_typed() -> None:
    """pyproject.toml named `emm/py.typed`, which was not there: to a user's type checker the library had no types."""
    for package in ("emm", "engine/emm_engine", "tools/emm_tools"):
        assert (ROOT / package / "py.typed").is_file(), package


def test_the_core_needs_four_packages() -> None:
    assert names(PROJECT["dependencies"]) == {"numpy", "cffi", "fsspec", "click"}


def test_requirements_are_lower_bounds() -> None:
    extras = PROJECT["optional-dependencies"]
    for requirement in [*PROJECT["dependencies"], *(item for extra in extras.values() for item in extra)]:
        own = re.fullmatch(r"emm-format\[([a-z,]+)\]", requirement)
        if own is not None:
            assert set(own[1].split(",")) <= set(extras)
        else:
            assert re.fullmatch(r"[A-Za-z0-9_-]+(\[[a-z]+\])?>=[0-9.]+", requirement.partition(";")[0]), requirement


def test_make_has_its_targets_and_ci_calls_make_test() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test", "bench", "fuzz", "clean"} <= targets
    assert "make test" in (ROOT / ".ci" / "run").read_text()
