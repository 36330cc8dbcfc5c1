"""What the tests of v3 share: files on disk, and the pairs that are in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from emm.testing.keys import text_like_keys, unit_values
from emm.v3.layout import V3Flag
from spec.vectors.cell import NO_FLAGS, Mlstm


@dataclass(frozen=True)
class Lab:
    """A cell of pairs that are known, and its file."""

    path: Path
    cell: Mlstm
    keys: np.ndarray  # (n, dim) float32
    values: np.ndarray


def make_lab(path: Path, *, dim: int = 40, n: int = 20, flags: V3Flag = NO_FLAGS, **gates: float) -> Lab:
    keys, values = text_like_keys(n, dim, 1), unit_values(n, dim, 1)
    cell = Mlstm(dim, flags)
    for key, value in zip(keys, values, strict=True):
        cell.write(key, value, **gates)
    path.write_bytes(cell.bytes())
    return Lab(path, cell, keys, values)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return make_lab(tmp_path / "cell.v3")
