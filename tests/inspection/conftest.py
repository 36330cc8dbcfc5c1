"""A memory with a life: generations, a journal, an unlearn and a forget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import emm

DIM, RANK, KEY_DIM = 320, 64, 64
Flip = Callable[[Path, int, int], None]


def pairs(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, KEY_DIM), np.float32) / 8, rng.standard_normal((n, DIM), np.float32)


@pytest.fixture
def lived(tmp_path: Path) -> Path:
    """dim 320, rank 64: M fills a block and a quarter. Commits 1 to 6; three generations, of LSN 2, 5 and 6."""
    path = tmp_path / "lived"
    first = pairs(1, 8)
    with emm.create(path, dim=DIM, rank=RANK, key_dim=KEY_DIM, expand_at=0, metadata={"name": "lived"}) as memory:
        memory.write(*first)
        memory.write(*pairs(2, 5))
        memory.checkpoint()
        memory.write(*pairs(3, 5))
        memory.unlearn(first[0][:2], first[1][:2])
        memory.forget(first[0][4:5])
        memory.checkpoint()
        memory.write(*pairs(4, 3))
    return path


@pytest.fixture
def flip() -> Flip:
    """`flip(file, offset, n_bytes)` inverts one bit of each of those bytes."""

    def flip(path: Path, offset: int, n_bytes: int = 1) -> None:
        data = bytearray(path.read_bytes())
        for place in range(offset, offset + n_bytes):
            data[place] ^= 0x20
        path.chmod(0o644)
        path.write_bytes(data)

    return flip
