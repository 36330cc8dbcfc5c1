"""The walls of the building: who may import what, and how wide the public face of `emm` is.

Layers inside `emm` and between the packages are import-linter contracts in pyproject.toml; what those cannot say is
tested here from the sources. Red when: the engine or a tool imports a private `emm` module or a name that is not in
`emm.__all__`; `emm.__all__` grows past 25 names or names something that is not there; a contract is broken.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import emm

ROOT = Path(__file__).parent.parent
OUTSIDE = sorted([*ROOT.glob("engine/emm_engine/**/*.py"), *ROOT.glob("tools/emm_tools/**/*.py")])
PUBLIC_NAMES_MAX = 25
# with their submodules: contract suites and measurements; checks of archives; repairs; views of an inspection; upgrades
PUBLIC_MODULES = ("emm.testing", "emm.verify", "emm.repair", "emm.inspection", "emm.upgrading")


def is_public_module(name: str) -> bool:
    return any(name == module or name.startswith(module + ".") for module in PUBLIC_MODULES)


def breaches(source: str, public: set[str]) -> list[str]:
    """Every use of `emm` in a source text that is not `import emm`, a public name, or an attribute that is one."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [
                f"import {a.name}" for a in node.names if a.name.startswith("emm.") and not is_public_module(a.name)
            ]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            if node.module.startswith("emm.") and not is_public_module(node.module):
                found.append(f"from {node.module} import …")
            elif node.module == "emm":
                found += [f"from emm import {a.name}" for a in node.names if a.name not in public]
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "emm"
            and node.attr not in public
            and not node.attr.startswith("__")
        ):
            found.append(f"emm.{node.attr}")
    return found


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_engine_and_tools_use_only_public_names(path: Path) -> None:
    assert breaches(path.read_text(encoding="utf-8"), set(emm.__all__)) == []


def test_breaches_are_seen_in_each_form() -> None:
    source = "import emm.codec\nfrom emm.layout import HEADER\nfrom emm import open, nothing\nimport emm\nemm.codec.x()"
    assert breaches(source, {"open"}) == [
        "import emm.codec",
        "from emm.layout import …",
        "from emm import nothing",
        "emm.codec",
    ]


def test_public_face_is_small_and_real() -> None:
    assert len(emm.__all__) == len(set(emm.__all__)) <= PUBLIC_NAMES_MAX
    assert [name for name in emm.__all__ if not hasattr(emm, name)] == []


def test_import_contracts_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
