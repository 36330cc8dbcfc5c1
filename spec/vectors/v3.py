"""v3 files, whole and broken, and what a reader must say of each (`spec/emm-v3.md`); `v3.json` states it.

Purpose: vectors of the frozen predecessor, apart from v4's manifest because a v4 reader need not read them. Invariants:
numbers come from SplitMix64; verdicts, rules and offsets are written by hand from the page; answers are those of the
recurrence before anything was rounded, so they hold to a relative 10⁻⁵ and not to the bit.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emm.v3.layout import V3Flag

from .case import CLEAN, EXIT_CODES, LOSS, REFUSED
from .cell import NO_FLAGS, Mlstm, patched
from .stream import Numbers

V3_MANIFEST = Path(__file__).resolve().parent / "v3.json"
N_ANSWERS = 3


@dataclass(frozen=True, slots=True)
class V3Case:
    """A v3 file. `queries` and `answers` are what reading it gives, empty where it MUST be refused."""

    name: str
    shows: str
    data: bytes
    verdict: str = CLEAN
    rule: str | None = None
    offset: int | None = None
    queries: list[list[float]] = field(default_factory=list)
    answers: list[list[float]] = field(default_factory=list)

    def entry(self) -> dict[str, Any]:
        """The case in the manifest."""
        return {
            "name": self.name,
            "shows": self.shows,
            "bytes": len(self.data),
            "sha256": hashlib.sha256(self.data).hexdigest(),
            "verdict": self.verdict,
            "exit_code": EXIT_CODES[self.verdict],
            "rule": self.rule,
            "offset": self.offset,
            "queries": self.queries,
            "answers": self.answers,
        }


def written(dim: int, n: int, flags: V3Flag = NO_FLAGS, *, seed: int = 3, **gates: float) -> Mlstm:
    """A cell after n pairs of small numbers, all with these gates."""
    cell, numbers = Mlstm(dim, flags), Numbers(seed)
    for _ in range(n):
        cell.write(numbers.row(dim), numbers.row(dim), **gates)
    return cell


def cases() -> list[V3Case]:
    return [*_good(), *_bad()]


def _good() -> list[V3Case]:
    query = V3Flag.SCALE_ON_QUERY
    sigmoid, normalised = V3Flag.SIGMOID_INPUT, V3Flag.KEYS_NORMALISED
    made = [
        _case("empty", "a cell before its first pair", Mlstm(16)),
        _case("one-pair", "one pair, 1/√d on the stored key", written(16, 1)),
        _case("one-pair-query", "the same pair, 1/√d on the query: C̃ is √d times as large", written(16, 1, query)),
        _case("some-pairs", "twelve pairs, 1/√d on the stored key", written(24, 12)),
        _case("some-pairs-query", "the same pairs, 1/√d on the query", written(24, 12, query)),
        _case("thousands", "3,000 pairs in 32 dimensions", written(32, 3000)),
        _case("thousands-query", "the same, 1/√d on the query", written(32, 3000, query)),
        _case("forgetting", "a forget gate of 0.9", written(16, 50, forget=0.9)),
        _case("forgetting-query", "the same, 1/√d on the query", written(16, 50, query, forget=0.9)),
        _case("m-large", "m = 80: the true C is beyond binary32", written(16, 5, log_input=80.0)),
        _case("m-larger", "m = 600: e⁻ᵐ is beyond binary32", written(16, 5, query, log_input=600.0)),
        _case("m-largest", "m = 30,000: e⁻ᵐ is beyond binary64", written(16, 5, log_input=3e4)),
        _case("m-small", "m = −80: |nᵀq| is below 1 for every query", written(16, 5, forget=1e-40, log_input=-80.0)),
        _case("sigmoid", "a sigmoid input gate", written(16, 20, sigmoid, log_input=-1.0)),
        _case("sigmoid-query", "the same, 1/√d on the query", written(16, 20, sigmoid | query, log_input=-1.0)),
        _case("normalised", "keys of length 1", written(16, 20, normalised)),
        _case("normalised-query", "the same, 1/√d on the query", written(16, 20, normalised | query)),
        _case("dim-one", "one number in a key", written(1, 3)),
        _case("dim-odd", "17 numbers, so that v4's rank is padded", written(17, 9)),
    ]
    return made


def _case(name: str, shows: str, cell: Mlstm) -> V3Case:
    queries = Numbers(99).rows(N_ANSWERS, cell.dim)
    queries[-1] = 0
    answers = [[float(f"{number:.7g}") for number in cell.read(query)] for query in queries]
    return V3Case(name, shows, cell.bytes(), queries=queries.tolist(), answers=answers)


def _bad() -> list[V3Case]:
    data = written(16, 5).bytes()
    sigmoid = written(16, 5, V3Flag.SIGMOID_INPUT).bytes()
    n_at = 64 + 4 * 16 * 16
    made = [
        V3Case("v3-1-magic", "the last byte of the magic differs", patched(data, 7, b"\x0b"), REFUSED, "V3-1", 0),
        V3Case("v3-2-header-cut", "63 bytes", data[:63], LOSS, "V3-2", 63),
        V3Case("v3-2-cut", "the last byte is gone", data[:-1], LOSS, "V3-2", len(data) - 1),
        V3Case("v3-2-longer", "a byte more, and a CRC over it", patched(data + b"\0", 0, b""), LOSS, "V3-2", len(data)),
        V3Case("v3-3-crc", "one bit of a number is flipped", _flip(data, 100), LOSS, "V3-3", 60),
        V3Case("v3-3-own", "one bit of the CRC itself", _flip(data, 61), LOSS, "V3-3", 60),
        V3Case("v3-3-version", "a flipped bit in the version is damage, not another version", _flip(data, 8), LOSS,
               "V3-3", 60),
        V3Case("v3-4-version", "version 2", patched(data, 8, b"\2"), REFUSED, "V3-4", 8),
        V3Case("v3-4-dtype", "dtype 2", patched(data, 10, b"\2"), REFUSED, "V3-4", 10),
        V3Case("v3-5-flag", "an undefined flag", patched(data, 12, b"\x08"), REFUSED, "V3-5", 12),
        V3Case("v3-6-reserved-a", "reserved_a is 1", patched(data, 11, b"\1"), LOSS, "V3-6", 11),
        V3Case("v3-6-reserved-b", "the last byte of reserved_b is 1", patched(data, 59, b"\1"), LOSS, "V3-6", 24),
        V3Case("v3-7-dim-zero", "dim is 0", patched(data[:64], 16, bytes(4)), LOSS, "V3-7", 16),
        V3Case("v3-7-dim-large", "dim is 2³² − 1", patched(data, 16, b"\xff" * 4), LOSS, "V3-7", 16),
        V3Case("v3-9-nan", "m is a NaN", patched(data, 20, struct.pack("<f", np.nan)), LOSS, "V3-9", 20),
        V3Case("v3-9-infinite", "m is infinite", patched(data, 20, struct.pack("<f", -np.inf)), LOSS, "V3-9", 20),
        V3Case("v3-9-sigmoid", "m is 1 with a sigmoid gate", patched(sigmoid, 20, struct.pack("<f", 1.0)), LOSS,
               "V3-9", 20),
        V3Case("v3-10-nan", "C̃ holds a NaN", patched(data, 64 + 40, struct.pack("<f", np.nan)), LOSS, "V3-10", 104),
        V3Case("v3-10-infinite", "ñ holds an infinity", patched(data, n_at + 8, struct.pack("<f", np.inf)), LOSS,
               "V3-10", n_at + 8),
        V3Case("v3-10-large", "C̃ holds 2⁶¹", patched(data, 64, struct.pack("<f", 2.0**61)), LOSS, "V3-10", 64),
    ]  # fmt: skip
    return made


def _flip(data: bytes, offset: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :]


def v3_manifest_text() -> str:
    """One case a line."""
    lines = ",\n".join(json.dumps(case.entry(), ensure_ascii=False, sort_keys=True) for case in cases())
    return '{"format": "3", "about": "One entry for each v3 file; README.md explains.", "cases": [\n' + lines + "\n]}\n"
