"""What the tests of the commands share: running one in this process, and small memories to run it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

import emm

DIM, RANK, KEY_DIM = 12, 16, 24
PROGRAMS = {
    "emm": ("emm_tools.cli", "cli"),
    "emm-verify": ("emm_tools.verify_command", "verify_command"),
    "emm-inspect": ("emm_tools.inspect_command", "inspect_command"),
}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    def sentence(self) -> str:
        """The one line on stderr; fails when there are more, or a traceback."""
        assert "Traceback" not in self.err + self.out
        assert self.err.count("\n") == 1, self.err
        return self.err


def command(program: str) -> click.Command:
    module, name = PROGRAMS[program]
    found = getattr(import_module(module), name)
    assert isinstance(found, click.Command)
    return found


Run = Callable[..., Ended]


@pytest.fixture(scope="session")
def run() -> Run:
    """`run("emm", "create", path, …, stdin=b"…")` through click, in this process."""

    def run(program: str, *arguments: object, stdin: bytes = b"") -> Ended:
        found = CliRunner().invoke(
            command(program), [str(argument) for argument in arguments], input=stdin, prog_name=program
        )
        assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
        return Ended(found.exit_code, found.stdout, found.stderr)

    return run


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Ten unit-ish pairs: (10, KEY_DIM) keys, (10, DIM) values."""
    rng = np.random.default_rng(20)
    return rng.standard_normal((10, KEY_DIM), np.float32) / 5, rng.standard_normal((10, DIM), np.float32)


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """An empty memory."""
    path = tmp_path / "memory"
    emm.create(path, dim=DIM, rank=RANK, key_dim=KEY_DIM, expand_at=0).close()
    return path


@pytest.fixture
def written(memory: Path, pairs: tuple[np.ndarray, np.ndarray]) -> Path:
    """A closed memory that holds the ten pairs in two commits."""
    with emm.open(memory, mode="a") as opened:
        opened.write(pairs[0][:6], pairs[1][:6])
        opened.write(pairs[0][6:], pairs[1][6:])
    return memory


@pytest.fixture
def npy(tmp_path: Path) -> Callable[[str, np.ndarray], Path]:
    """`npy("keys", array)` → the path of a .npy file."""

    def save(name: str, array: np.ndarray) -> Path:
        path = tmp_path / f"{name}.npy"
        np.save(path, array)
        return path

    return save
