"""PyPI has an unrelated distribution `emm` that installs over the same folder.

Red when: `refuse_unrelated_distribution` looks at the wrong name, takes `emm-format` itself for the other one, or
`emm/__init__` stops calling it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emm._distribution import refuse_unrelated_distribution

ROOT = Path(__file__).parent.parent


def install(folder: Path, name: str) -> None:
    info = folder / f"{name.replace('-', '_')}-9.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")


def test_our_own_distribution_is_not_the_unrelated_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "emm-format")
    monkeypatch.syspath_prepend(str(tmp_path))
    refuse_unrelated_distribution()


def test_unrelated_distribution_is_refused_with_the_mending_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "emm")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match=r"pip uninstall emm"):
        refuse_unrelated_distribution()


def test_import_emm_fails_in_one_sentence(tmp_path: Path) -> None:
    install(tmp_path, "emm")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    done = subprocess.run([sys.executable, "-c", "import emm"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip uninstall emm" in done.stderr.strip().splitlines()[-1]
