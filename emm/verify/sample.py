"""Which part of an archive one run reads: a share, the n-th of t parts, or about so many bytes.

Purpose: `--sample 5%`, `--sample 3/10`, `--sample 20G`. The units are the 64 KiB blocks of snapshots and whole
journals (a chain is proven from its beginning or not at all); heads, mirrors and segment headers are always read.
Invariants: pure; a unit is drawn by a hash of its place, so the same seed draws the same units however the archive
grew meanwhile, and the parts 1/t to t/t together are everything, each unit once.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from emm.errors import InputError

_SHARE: Final = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*%")
_PART: Final = re.compile(r"(\d{1,18})/(\d{1,18})")
_SIZE: Final = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([KMGT]?)(?:iB|B)?", re.IGNORECASE)
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_ALL: Final = 1 << 64
PARTS_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """Units whose hash lies in [low, high) of 2⁶⁴ are read."""

    text: str  # as a person wrote it
    seed: int
    low: int
    high: int

    def draws(self, *place: object) -> bool:
        """True when the unit at this place is read."""
        key = "\0".join([str(self.seed), *map(str, place)]).encode("utf-8", "surrogateescape")
        return self.low <= int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") < self.high

    def draws_blocks(self, count: int, *place: object) -> list[int]:
        """Those of blocks 0 to `count` - 1 that are read, ascending."""
        key = "\0".join([str(self.seed), *map(str, place)]).encode("utf-8", "surrogateescape")
        found = []
        for first in range(0, count, 8):  # eight blocks share one digest of 64 bytes
            digest = hashlib.blake2b(key + first.to_bytes(8, "big")).digest()
            for index in range(first, min(first + 8, count)):
                place_of_it = int.from_bytes(digest[8 * (index - first) : 8 * (index - first) + 8], "big")
                if self.low <= place_of_it < self.high:
                    found.append(index)
        return found

    def __str__(self) -> str:
        return f"{self.text}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for; a number of bytes becomes a share once the size of the whole is known."""

    text: str
    share: float | None = None
    part: tuple[int, int] | None = None
    n_bytes: int | None = None

    def sample(self, seed: int, bytes_total: int = 0) -> Sample:
        """The units to read of a whole of `bytes_total` bytes."""
        if self.part is not None:
            n, t = self.part
            return Sample(self.text, 0, _ALL * (n - 1) // t, _ALL * n // t)
        share = self.share if self.share is not None else 1.0
        if self.n_bytes is not None and bytes_total:
            share = min(1.0, self.n_bytes / bytes_total)
        return Sample(self.text, seed, 0, round(share * _ALL))


def parse_sample(text: str) -> Wanted:
    """`5%`, `3/10` or `20G`; `InputError` for anything else, and for a sample of nothing."""
    plain = text.strip()
    if (match := _SHARE.fullmatch(plain)) and 0 < float(match[1]) <= 100:
        return Wanted(plain, share=float(match[1]) / 100)
    if (match := _PART.fullmatch(plain)) and 1 <= int(match[1]) <= int(match[2]) <= PARTS_MAX:
        return Wanted(plain, part=(int(match[1]), int(match[2])))
    if (match := _SIZE.fullmatch(plain)) and (n_bytes := int(float(match[1]) * _UNITS[match[2].upper()])) > 0:
        return Wanted(plain, n_bytes=n_bytes)
    raise InputError(
        "not a sample", expected="a share as 5%, a part as 3/10, or a size as 20G (K, M, G, T: binary)", found=text
    )
