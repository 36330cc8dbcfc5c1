"""Damage of more than one bit, as media make it: bursts, sectors of zeros or garbage, sectors in each other's place.

Purpose: what a flip cannot stand for. Invariants: burst number n of a seed is always the same one; it changes bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from emm_fuzz.specimens import Files

KINDS: Final = ("burst", "sector of zeros", "sector of garbage", "sectors swapped in a file", "sectors swapped")
SECTORS: Final = (512, 4096)


@dataclass(frozen=True, slots=True)
class Burst:
    """The damaged files; `only` is the one that was touched, None when it is two."""

    kind: str
    files: Files
    only: str | None


def burst(files: Files, seed: int, number: int) -> Burst:
    """Burst `number` of a seed."""
    random = np.random.default_rng([seed, number, 0xB0])
    kind = KINDS[number % len(KINDS)]
    while True:
        made = _burst(files, kind, random)
        if made.files != files:
            return made


def _burst(files: Files, kind: str, random: np.random.Generator) -> Burst:
    names = sorted(files)
    name = str(random.choice(names))
    if kind == "burst":
        length = int(random.integers(2, 65))
        start = int(random.integers(0, len(files[name]) - length))
        mask = random.integers(0, 256, length, np.uint8)
        mask[0] |= 1
        mask[-1] |= 1
        old = np.frombuffer(files[name][start : start + length], np.uint8)
        return Burst(kind, _replaced(files, name, start, (old ^ mask).tobytes()), name)
    size = int(random.choice(SECTORS))
    start = _sector(files[name], size, random)
    old_bytes = files[name][start : start + size]
    if kind == "sector of zeros":
        return Burst(kind, _replaced(files, name, start, bytes(len(old_bytes))), name)
    if kind == "sector of garbage":
        return Burst(kind, _replaced(files, name, start, random.bytes(len(old_bytes))), name)
    other = (
        name if kind == "sectors swapped in a file" else str(random.choice([each for each in names if each != name]))
    )
    start_other = _sector(files[other], size, random)
    length = min(len(old_bytes), len(files[other]) - start_other)
    new = files[other][start_other : start_other + length]
    swapped = _replaced(files, other, start_other, old_bytes[:length])
    return Burst(kind, _replaced(swapped, name, start, new), name if other == name else None)


def _sector(data: bytes, size: int, random: np.random.Generator) -> int:
    return int(random.integers(0, -(-len(data) // size))) * size


def _replaced(files: Files, name: str, start: int, new: bytes) -> Files:
    data = files[name]
    return {**files, name: data[:start] + new + data[start + len(new) :]}
