"""Small real memories, written once by the library itself, for tests that damage copies of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import emm


def write_some(memory: emm.Memory, seed: int, n_pairs: int) -> None:
    rng = np.random.default_rng(seed)
    keys = rng.standard_normal((n_pairs, memory.key_dim)).astype(np.float32)
    memory.write(keys, rng.standard_normal((n_pairs, memory.dim)).astype(np.float32))


def read_files(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in sorted(path.iterdir())}


@pytest.fixture(scope="session")
def small_path(tmp_path_factory) -> Path:
    """Rank 16, dim 16, key_dim 16: generations 1 to 3, two sealed segments, commits 1 to 5."""
    path = tmp_path_factory.mktemp("verify") / "small"
    with emm.create(path, dim=16, rank=16, key_dim=16, expand_at=0) as memory:
        write_some(memory, 1, 3)
        write_some(memory, 2, 2)
        memory.forget(np.ones((1, 16), np.float32))
    with emm.open(path, "a") as memory:
        write_some(memory, 3, 2)
        write_some(memory, 4, 17)
    return path


@pytest.fixture(scope="session")
def small(small_path) -> dict[str, bytes]:
    return read_files(small_path)


@pytest.fixture(scope="session")
def wide(tmp_path_factory) -> dict[str, bytes]:
    """dim 96, rank 256: rows of 1 KiB, so M fills a block and a half, and P̄ four."""
    path = tmp_path_factory.mktemp("verify") / "wide"
    with emm.create(path, dim=96, rank=256, key_dim=256, expand_at=0) as memory:
        write_some(memory, 5, 40)
    return read_files(path)


@pytest.fixture(scope="session")
def killed(tmp_path_factory) -> dict[str, bytes]:
    """A memory whose writer left without closing: commits 1 to 4, proven through 3, no seal."""
    path = tmp_path_factory.mktemp("verify") / "killed"
    memory = emm.create(path, dim=16, rank=16, key_dim=16, expand_at=0)
    for seed in range(4):
        write_some(memory, seed, 2)
    files = read_files(path)  # as a power cut at this moment would leave them
    memory.close()
    return files
