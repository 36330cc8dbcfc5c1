#!/usr/bin/env python3
"""Reference reader of the EMM v4 storage format, made from the specification (emm-v4.md) alone.

    python3 reference_reader.py MEMORY_DIRECTORY_OR_FILE [--no-replay-from-oldest] [--max-state BYTES]
    python3 reference_reader.py --self-test

It checks every rule that concerns bytes (H, L, T, M, P, J, R, N, S), recovers as section 5 says, replays the
journal with the arithmetic of section 7 and prints one JSON object. Of a segment by itself it checks what needs no
snapshot. It plans no repairs: "damaged" is its word for both kinds. It never writes. Slow and obvious by intent.

Exit status: 0 clean or clean-unsealed, 4 damaged, 5 refused, 6 torn-or-damaged-tail or indeterminate, 10 missing.

Layout of this file: numbers (A-1 to A-4), keys (A-6 to A-8), the state (A-9 to A-22), snapshots (H, L, T, M, P),
segments (J), recovery (R), one segment by itself, the command line. Rules are cited where they are checked.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import re
import stat
import struct
import sys
import zlib
from array import array
from collections import namedtuple
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

SNAPSHOT_MAGIC, SEGMENT_MAGIC, RECORD_MAGIC = b"\x89EMM\r\n\x1a\n", b"\x89EMJ\r\n\x1a\n", b"EMJR"
BLOCK, PAGE, MAX_RECORD, MAX_BATCH = 65536, 4096, 16 << 20, 256 << 20
MAX_STATE = 1 << 30  # S-1, as in a verify
OUTER_PRODUCT, GATED_DELTA, PRECONDITIONED = 0, 1, 2
DECAYED, BARE_EXPANDED, FORGOTTEN, FOREIGN_PAIRS, NORMALISER = 1, 2, 4, 8, 32
WRITE, UNLEARN, FORGET, EXPAND, PARAMETERS, COMMIT, MARK, SEAL = range(1, 9)
CHECKPOINT = 0
EXIT = {
    "clean": 0,
    "clean-unsealed": 0,
    "damaged": 4,
    "refused": 5,
    "torn-or-damaged-tail": 6,
    "indeterminate": 6,
    "missing": 10,
}

HEADER, LINEAGE = struct.Struct("<8sHHIIIIBBBBQfIQQ16sQ32sII"), struct.Struct("<Qq32s32s16s16sQQfB27s")
GAIN = struct.Struct("<ffIId40s")
SEGMENT, RECORD = struct.Struct("<8sHHIQQQ16s16s32sQI8sI"), struct.Struct("<4sHHQQII")
PAIRS, COMMITTED = struct.Struct("<IIII"), struct.Struct("<qIIf4s32s")
Header = namedtuple(
    "Header",
    "magic version_major version_minor flags dim key_dim rank dtype rule projection "
    "reserved_a projection_seed ridge metadata_bytes generation lsn uuid payload_bytes sha256 "
    "reserved_b crc32",
)
Lineage = namedtuple(
    "Lineage",
    "write_count time_us chain parent_sha256 parent_uuid writer_nonce floor_generation "
    "segment_next expand_at origin reserved",
)
SegmentHeader = namedtuple(
    "SegmentHeader",
    "magic version_major version_minor flags segment first_lsn "
    "floor_generation uuid writer_nonce chain previous_bytes rank reserved crc32",
)
Record = namedtuple("Record", "type lsn synced_through offset length end")


class Broken(Exception):
    """A broken rule. `kind` is "damaged", "refused" or "torn" (bytes that an interrupted append can leave)."""

    def __init__(self, rule: str, message: str, file: str = "", offset: int = 0, kind: str = "damaged") -> None:
        super().__init__(message)
        self.rule, self.message, self.file, self.offset, self.kind = rule, message, file, offset, kind

    def __str__(self) -> str:
        return f"{self.rule}: {self.file}+{self.offset}: {self.message}"


def need(ok: bool, rule: str, offset: int, message: str, file: str = "", kind: str = "damaged") -> None:
    """Checks raise through here; whoever opened the file adds its name."""
    if not ok:
        raise Broken(rule, message, file, offset, kind)


# ---------------------------------------------------------------- numbers
# A binary32 number is held as a Python float. A sum, difference, product, quotient or square root of binary32 numbers
# taken in binary64 and then rounded to binary32 has the one rounding of A-2, because 53 >= 2 * 24 + 2; the same holds
# for subnormal results. That is not so for a fused multiply-add, which goes by rounding to odd.


def floats(values: Iterable[float]) -> array:
    """Round each to binary32, ties to even: array('f') stores with the hardware's conversion."""
    return array("f", values)


def fl(value: float) -> float:
    return array("f", (value,))[0]


def odd_sum(p: float, q: float, r: float) -> float:
    """p*q + r rounded to odd in binary64; rounding that to binary32 is the exact FMA (Boldo and Melquiond 2008).

    p*q is exact (48 bits); Knuth's two-sum gives the error of the addition, exactly.
    """
    product = p * q
    total = product + r
    back = total - product
    error = (product - (total - back)) + (r - back)
    if error == 0.0 or error != error:  # exact, or not finite
        return total
    if struct.unpack("<q", struct.pack("<d", total))[0] & 1 == 0:
        total = math.nextafter(total, math.inf if error > 0 else -math.inf)
    return total


def fma(p: float, q: float, r: float) -> float:
    return fl(odd_sum(p, q, r))


def fma_row(p: float, q: Sequence[float], r: Sequence[float]) -> array:
    return floats(odd_sum(p, qj, rj) for qj, rj in zip(q, r, strict=True))


def dot(p: Sequence[float], q: Sequence[float]) -> float:
    """A-4: sixteen lanes of FMAs, then a tree."""
    lanes = floats([0.0] * 16)
    for j in range(0, len(p), 16):
        lanes = floats(map(odd_sum, p[j : j + 16], q[j : j + 16], lanes))
    for m in (8, 4, 2, 1):
        lanes = floats(lanes[i] + lanes[i + m] for i in range(m))
    return lanes[0]


def finite(values: Iterable[float]) -> bool:
    return all(map(math.isfinite, values))


def check_environment() -> None:
    """A-2: refuse to compute where subnormal numbers are flushed to zero."""
    tiny = 5e-324
    if tiny * 1.0 == 0.0 or tiny + tiny != 1e-323 or fl(1e-45) == 0.0 or fl(fl(3e-45) * 1.0) == 0.0:
        raise Broken("A-2", "this process flushes subnormal numbers to zero", kind="refused")


def array_of(raw: bytes) -> array:
    values = array("f")
    values.frombytes(raw)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def bytes_of(values: array) -> bytes:
    values = array("f", values)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


# ---------------------------------------------------------------- keys


class Projection:
    """phi: from a key to the x of a rank. Signs and ordering are made when first needed."""

    def __init__(self, kind: int, key_dim: int, seed: int) -> None:
        self.kind, self.key_dim, self.seed = kind, key_dim, seed
        self.n = 1
        while self.n < key_dim:
            self.n *= 2
        self.signs: list[float] = []
        self.order: list[int] = []

    def draw(self) -> None:
        """A-6."""
        mask, z, m = (1 << 64) - 1, self.seed, self.n // 4

        def word() -> int:
            nonlocal z
            z = (z + 0x9E3779B97F4A7C15) & mask
            y = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
            y = ((y ^ (y >> 27)) * 0x94D049BB133111EB) & mask
            return y ^ (y >> 31)

        def shuffle() -> list[int]:
            entries = list(range(m))
            for i in range(m - 1, 0, -1):
                j = word() * (i + 1) >> 64
                entries[i], entries[j] = entries[j], entries[i]
            return entries

        words = [word() for _ in range((self.n + 63) // 64)]
        self.signs = [-1.0 if words[i // 64] >> (i % 64) & 1 else 1.0 for i in range(self.n)]
        drawn = [word() for _ in range(m)]
        h, t = [w >> 62 for w in drawn], [w >> 61 & 1 for w in drawn]
        first, second = shuffle(), shuffle()
        self.order = (
            [h[lo] * m + lo for lo in first]
            + [(h[lo] ^ 1) * m + lo for lo in second]
            + [(h[lo] ^ 2 ^ t[lo]) * m + lo for lo in range(m)]
            + [(h[lo] ^ 3 ^ t[lo]) * m + lo for lo in range(m)]
        )

    def phi(self, key: Sequence[float], rank: int) -> array:
        if self.kind == 0:
            return floats(list(key) + [0.0] * (rank - self.key_dim))
        if not self.order:
            self.draw()
        y = floats(v * s for v, s in zip(list(key) + [0.0] * (self.n - self.key_dim), self.signs, strict=True))
        half = 1
        while half < self.n:
            y = floats(y[i] + y[i + half] if i & half == 0 else y[i - half] - y[i] for i in range(self.n))
            half *= 2
        c = fl(1.0 / math.sqrt(self.n))
        return floats(y[self.order[r]] * c for r in range(rank))


# ---------------------------------------------------------------- the state


class Refused(Exception):
    """An operation that section 7 refuses; met in replay it breaks R-7."""


def demand(condition: bool, why: str) -> None:
    if not condition:
        raise Refused(why)


class State:
    """M and, for rule 2, P-bar, U, a, b, c, signs, h; with the lsn, the flags and what lineage tells."""

    def __init__(self, header: Header, lineage: Lineage, payload: bytes) -> None:
        self.header, self.rule, self.rank, self.dim = header, header.rule, header.rank, header.dim
        self.lsn, self.flags = header.lsn, header.flags
        self.chain, self.write_count, self.expand_at = lineage.chain, lineage.write_count, lineage.expand_at
        self.projection = Projection(header.projection, header.key_dim, header.projection_seed)
        self.prior = fl(1.0 / header.ridge)
        row = 4 * self.rank
        at = [array_of(payload[i : i + row]) for i in range(0, len(payload) - len(payload) % row, row)]
        self.M, self.P, self.U = at[: self.dim], [], []
        self.normaliser = b""  # n and ReadScalars, as they stand in the file
        if self.flags & NORMALISER:
            self.normaliser, payload = payload[-row - 16 :], payload[: -row - 16]
        if self.rule == PRECONDITIONED:
            self.P, self.U = at[self.dim : self.dim + self.rank], at[self.dim + self.rank : self.dim + self.rank + 16]
            self.a, self.b, self.c, signs, self.h, _ = GAIN.unpack(payload[-64:])
            self.sigma = [-1.0 if signs >> k & 1 else 1.0 for k in range(16)]

    def payload(self) -> bytes:
        """P-1, without the padding."""
        parts = [bytes_of(row) for row in self.M + self.P + self.U]
        if self.rule == PRECONDITIONED:
            signs = sum(1 << k for k in range(self.c) if self.sigma[k] < 0)
            parts.append(GAIN.pack(self.a, self.b, self.c, signs, self.h, bytes(40)))
        return b"".join([*parts, self.normaliser])

    def digest(self) -> str:
        """A-22."""
        h = self.header
        start = struct.pack(
            "<QIIIBB2xQf", self.lsn, h.dim, h.key_dim, self.rank, h.rule, h.projection, h.projection_seed, h.ridge
        )
        return hashlib.sha256(b"EMMDIGEST4\0" + start + self.payload()).hexdigest()

    def check_finite(self) -> None:
        """A-9, last sentences."""
        demand(all(finite(row) for row in self.M + self.P + self.U), "a number of the state is not finite")
        if self.rule == PRECONDITIONED:
            demand(finite((self.a, self.b, self.h)), "a gain scalar is not finite")

    def input(self, key: Sequence[float], rank: int | None = None) -> tuple[array, float]:
        """x = phi(key) and q = dot(x, x), within A-9; past `rank`, x is +0 (A-14)."""
        x = self.projection.phi(key, self.rank)
        if rank is not None:
            x = floats(list(x[:rank]) + [0.0] * (self.rank - rank))
        demand(all(abs(v) <= 2.0**40 for v in x), "a number of phi(key) is above 2^40")
        q = dot(x, x)
        demand(q <= 2.0**80, "dot(x, x) is above 2^80")
        return x, q

    def add_to_m(self, e: Sequence[float], g: Sequence[float]) -> None:
        for i in range(self.dim):
            self.M[i] = fma_row(e[i], g, self.M[i])

    def write(
        self,
        key: Sequence[float],
        value: Sequence[float],
        alpha: float,
        beta: float,
        unlearn_rank: int | None = None,
    ) -> None:
        """A-11 (and A-14 when `unlearn_rank` is given, beta already negated)."""
        x, q = self.input(key, unlearn_rank)
        self.normaliser, self.flags = b"", self.flags & ~NORMALISER
        if alpha != 1.0:
            self.flags |= DECAYED
            self.M = [floats(alpha * v for v in row) for row in self.M]
            if self.rule == PRECONDITIONED:
                self.decay(alpha)
        if q == 0.0:
            return
        if self.rule == OUTER_PRODUCT:
            self.add_to_m([fl(beta * v) for v in value], x)
            return
        if self.rule == GATED_DELTA:
            eta = fl(beta / q)
            g: array | None = floats(eta * v for v in x)
            demand(finite(g), "a number of g is not finite")
        else:
            g = self.gain(x, q, beta, unlearn_rank is not None)
        if g is not None:
            self.add_to_m(floats(v - dot(row, x) for v, row in zip(value, self.M, strict=True)), g)

    def decay(self, alpha: float) -> None:
        """A-13 step 1."""
        big_a = fl(alpha * alpha)
        self.b = fma(big_a, self.b, fl(fl(1.0 - big_a) * self.prior))
        self.a = fl(big_a * self.a)
        self.U = [floats(alpha * v for v in row) for row in self.U]
        self.h = big_a * self.h

    def gain(self, x: array, q: float, beta: float, unlearn: bool) -> array | None:
        """A-13 steps 2 to 5; None for a no-op."""
        w = floats(self.a * dot(row, x) for row in self.P)
        if self.b != 0.0:
            w = fma_row(self.b, x, w)
        for k in range(self.c):
            w = fma_row(-self.sigma[k] * dot(self.U[k], x), self.U[k], w)
        s = dot(x, w)
        if s == 0.0:
            return None
        demand(math.isfinite(s) and s > 0.0, "s is negative or not finite")
        d = fma(beta, s, 1.0)
        demand(not unlearn or d >= 2.0**-6, "d is below 2^-6: the pair cannot be taken out")
        gamma = fl(beta / d)
        g = floats(gamma * v for v in w)
        rho = fl(math.sqrt(abs(gamma)))
        u = floats(rho * v for v in w)
        demand(finite(g) and finite(u), "a number of g or u is not finite")
        self.U[self.c], self.sigma[self.c] = u, (-1.0 if beta < 0.0 else 1.0)
        self.c += 1
        self.h = max(0.0, self.h + beta * q)
        if self.c == 16:
            self.P = self.folded()
            demand(all(map(finite, self.P)), "a folded number is not finite")
            self.clear_gains()
        return g

    def folded(self) -> list[array]:
        """A-20: the P-bar that the fold of A-13 step 5 would leave."""
        rows = [array("f", row) if self.a == 1.0 else floats(self.a * v for v in row) for row in self.P]
        if self.b != 0.0:
            for i, row in enumerate(rows):
                row[i] = fl(row[i] + self.b)
        for k in range(self.c):
            u = self.U[k]
            for i in range(self.rank):
                rows[i] = fma_row(-self.sigma[k] * u[i], u, rows[i])
        return rows

    def clear_gains(self) -> None:
        self.a, self.b, self.c, self.sigma = 1.0, 0.0, 0, [1.0] * 16
        self.U = [floats([0.0] * self.rank) for _ in range(16)]

    def forget(self, keys: Sequence[Sequence[float]]) -> None:
        """A-16: all keys of one record together."""
        self.flags |= FORGOTTEN
        xs = [self.input(key)[0] for key in keys]
        if self.rule == PRECONDITIONED:
            S = self.folded()
        else:
            S = [floats(1.0 if i == j else 0.0 for j in range(self.rank)) for i in range(self.rank)]
        before = [dot(x, floats(dot(row, x) for row in S)) for x in xs]
        for x, p in zip(xs, before, strict=True):
            w = floats(dot(row, x) for row in S)
            s = dot(x, w)
            if not s > fl(2.0**-20 * p):
                continue
            r = fl(math.sqrt(s))
            u, g = floats(v / r for v in w), floats(v / s for v in w)
            demand(finite((r,)) and finite(u) and finite(g), "a number of r, u or g is not finite")
            S = [fma_row(-u[i], u, S[i]) for i in range(self.rank)]
            self.add_to_m([fl(0.0 - dot(row, x)) for row in self.M], g)

    def expand(self, rank: int) -> None:
        """A-18."""
        self.flags |= BARE_EXPANDED
        more = rank - self.rank
        self.M = [row + floats([0.0] * more) for row in self.M]
        if self.rule == PRECONDITIONED:
            diagonal = fl(1.0 / (self.header.ridge + self.h / self.rank))
            self.P = [row + floats([0.0] * more) for row in self.folded()]
            for i in range(self.rank, rank):
                self.P.append(floats([0.0] * rank))
                self.P[i][i] = diagonal
        self.rank = rank
        if self.rule == PRECONDITIONED:
            self.clear_gains()

    def apply(self, kind: int, payload: bytes) -> None:
        """One record of types 1 to 5, already checked."""
        if kind == EXPAND:
            self.expand(struct.unpack_from("<I", payload)[0])
        elif kind == PARAMETERS:
            self.expand_at = struct.unpack_from("<f", payload)[0]
        else:
            n, key_dim, dim, rank = PAIRS.unpack_from(payload)
            numbers = array_of(payload[16:])
            gates = {WRITE: 2 * n, UNLEARN: n, FORGET: 0}[kind]
            keys = [numbers[gates + i * key_dim : gates + (i + 1) * key_dim] for i in range(n)]
            values = [numbers[gates + n * key_dim + i * dim : gates + n * key_dim + (i + 1) * dim] for i in range(n)]
            if kind == FORGET:
                self.forget(keys)
            demand(kind != UNLEARN or self.rule == PRECONDITIONED, "unlearn needs rule 2 (A-14)")
            for i in range(n if kind != FORGET else 0):
                if kind == WRITE:
                    self.write(keys[i], values[i], numbers[i], numbers[n + i])
                else:
                    self.write(keys[i], values[i], 1.0, -numbers[i], rank)
            self.write_count = max(0, self.write_count + {WRITE: n, UNLEARN: -n, FORGET: 0}[kind])  # L-6
        self.check_finite()


# ---------------------------------------------------------------- files


class Source:
    """One regular file, read by position; every read is checked against its real size first (S-2)."""

    def __init__(self, path: str) -> None:
        self.name = os.path.basename(path)
        need(stat.S_ISREG(os.lstat(path).st_mode), "N-1", 0, "not a regular file; links are not followed", self.name)
        self.fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
        status = os.fstat(self.fd)
        self.size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise Broken("N-1", "not a regular file", self.name)

    def read(self, offset: int, length: int) -> bytes:
        need(0 <= offset <= offset + length <= self.size, "S-2", offset, f"{length} bytes are not there", self.name)
        parts = []
        while length:
            part = os.pread(self.fd, min(length, 1 << 24), offset)
            if not part:
                raise OSError(f"{self.name}: shorter than it was")
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ---------------------------------------------------------------- snapshots (H, L, T, M, P)


def payload_size(dim: int, rank: int, rule: int, flags: int = 0) -> int:
    """P-1."""
    more = 4 * rank + 16 if flags & NORMALISER else 0
    return more + (4 * rank * (dim + rank + 16) + 64 if rule == PRECONDITIONED else 4 * rank * dim)


def rank_allowed(rank: int, key_dim: int, projection: int) -> bool:
    """H-6 and H-7."""
    if not 1 <= rank <= 1 << 24 or rank % 16:
        return False
    return rank <= key_dim if projection == 1 else rank == (key_dim + 15) // 16 * 16


def check_header(raw: bytes, at: int, max_state: int) -> Header:
    """H-1 to H-11, H-13, S-1, from 128 bytes that stand at `at`."""
    need(raw[:8] == SNAPSHOT_MAGIC, "H-1", at, "not an EMM snapshot: no magic")
    h = Header(*HEADER.unpack(raw))
    need(h.crc32 == zlib.crc32(raw[:124]), "H-2", at + 124, "the header's CRC-32 does not fit")
    need(h.version_major == 4, "H-3", at + 8, f"version {h.version_major} is not 4", kind="refused")
    need(h.flags & ~47 == 0, "H-4", at + 12, f"unknown flags {h.flags & ~47:#x}", kind="refused")
    need(
        h.dtype == 1 and h.rule <= 2 and h.projection <= 1,
        "H-8",
        at + 28,
        f"unknown dtype {h.dtype}, rule {h.rule} or projection {h.projection}",
        kind="refused",
    )
    need(h.reserved_a == 0 and h.reserved_b == 0, "H-5", at + 31, "reserved bytes are not zero")
    need(all(1 <= v <= 1 << 24 for v in (h.dim, h.key_dim, h.rank)), "H-6", at + 16, "a dimension out of range")
    need(rank_allowed(h.rank, h.key_dim, h.projection), "H-7", at + 24, f"rank {h.rank} is not allowed")
    need(2.0**-20 <= h.ridge <= 2.0**20, "H-9", at + 40, f"ridge is {h.ridge}")
    need(1 <= h.generation < 10**16, "H-10", at + 48, f"generation is {h.generation}")
    need(not h.flags & NORMALISER or h.projection == 0, "P-7", at + 12, "a normaliser under projection 1")
    size = payload_size(h.dim, h.rank, h.rule, h.flags)
    need(h.payload_bytes == size, "H-11", at + 80, "payload_bytes is not the shape's")
    need(2 <= h.metadata_bytes <= 16384, "H-13", at + 44, f"metadata_bytes is {h.metadata_bytes}")
    need(h.payload_bytes <= max_state, "S-1", at + 80, f"a state of {h.payload_bytes} bytes", kind="refused")
    return h


def check_lineage(raw: bytes, h: Header, at: int) -> Lineage:
    """L-1 to L-5, what one file can show."""
    lineage = Lineage(*LINEAGE.unpack(raw))
    floor = lineage.floor_generation
    need(not any(lineage.reserved), "L-1", at + 133, "reserved bytes are not zero")
    need(lineage.origin <= 5, "L-2", at + 132, f"unknown origin {lineage.origin}")
    if h.generation == 1 and lineage.origin == CHECKPOINT:  # there is no older snapshot to rebuild it from
        fresh = h.lsn == 0 and not any(lineage.chain + lineage.parent_sha256)
        need(fresh, "L-2", at + 132, "the first generation of a new memory has no past")
    need(0.0 <= lineage.expand_at <= 1.0, "L-3", at + 128, f"expand_at is {lineage.expand_at}")
    need(1 <= floor <= h.generation, "L-4", at + 112, "floor_generation is not from 1 to the generation")
    need(lineage.origin == CHECKPOINT or floor == h.generation, "L-4", at + 112, "no checkpoint, but another floor")
    need(1 <= lineage.segment_next < 10**16, "L-5", at + 120, f"segment_next is {lineage.segment_next}")
    need(h.lsn > 0 or not any(lineage.chain), "J-12", at + 16, "a chain before the first commit")
    return lineage


def check_metadata(raw: bytes, at: int) -> None:
    """M-1 to M-5."""

    def pairs(items: list[tuple[str, object]]) -> dict:
        need(len({key for key, _ in items}) == len(items), "M-1", at, "a key appears twice")
        return dict(items)

    def integer(text: str) -> int:
        need(len(text) <= 17 and abs(int(text)) <= 1 << 53, "M-4", at, "a number beyond 2^53")
        return int(text)

    def constant(text: str) -> float:
        raise Broken("M-1", f"{text} is not JSON", offset=at)

    def no_float(text: str) -> float:
        raise Broken("M-4", f"{text[:20]} is no integer", offset=at)

    def strings(value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, (list, dict)):
            for item in [*value, *value.values()] if isinstance(value, dict) else value:
                yield from strings(item)

    depth = 0  # M-3 before parsing, so that a deep text cannot exhaust the parser
    for token in re.findall(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', raw, re.DOTALL):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(token, 0)
        need(depth <= 16, "M-3", at, "more than 16 levels deep")
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=pairs,
            parse_int=integer,
            parse_float=no_float,
            parse_constant=constant,
        )
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise Broken("M-1", "not JSON in UTF-8", offset=at) from None
    need(isinstance(value, dict) and canonical == raw, "M-1", at, "not one object in canonical form")
    for text in strings(value):
        need("://" not in text and not text.startswith(("/", "\\", "~", "..")), "M-5", at, "a path or URL")


@dataclass
class Head:
    header: Header
    lineage: Lineage
    table: bytes
    metadata: bytes
    start: int  # of the payload


def without_sign(src: Source) -> bool:
    """S-7, H-1: neither starts as our files do (or as a truncated one), nor ends in a header as T-4 says."""
    start = src.read(0, min(8, src.size))
    if start in (SNAPSHOT_MAGIC, SEGMENT_MAGIC):
        return False
    if src.size < 128:
        return not start or not any(magic.startswith(start) for magic in (SNAPSHOT_MAGIC, SEGMENT_MAGIC))
    return src.read(src.size - 128, 8) != SNAPSHOT_MAGIC


def read_head(src: Source, mirror: bool, max_state: int) -> Head:
    """One of the two heads, whole: H-, L- and M-rules. The mirror is found from the file's last 128 bytes."""
    need(src.size >= 128, "H-1", 0, "truncated snapshot")
    at = src.size - 128 if mirror else 0
    raw = src.read(at, 128)
    h = check_header(raw, at, max_state)
    table_bytes = 36 * -(-h.payload_bytes // BLOCK)
    filled = 288 + table_bytes + h.metadata_bytes
    start = -(-filled // PAGE) * PAGE
    need(src.size >= start, "P-3", src.size, "too short for a head")
    if mirror:  # table, metadata, lineage, header; H-12 takes them in the head's order
        lineage_at, padding = src.size - 288, bytes(start - filled)
        table_at, metadata_at = src.size - filled, src.size - filled + table_bytes
    else:
        lineage_at, table_at, metadata_at, padding = 128, 288, 288 + table_bytes, src.read(filled, start - filled)
    lineage_raw, table, metadata = (
        src.read(lineage_at, 160),
        src.read(table_at, table_bytes),
        src.read(metadata_at, h.metadata_bytes),
    )
    proof = hashlib.sha256(raw[:88] + bytes(32) + raw[120:124] + bytes(4) + lineage_raw + table + metadata + padding)
    need(proof.digest() == h.sha256, "H-12", at + 88, "the SHA-256 of the head does not fit")
    need(not any(padding), "P-2", filled, "padding before the payload is not zero")
    lineage = check_lineage(lineage_raw, h, lineage_at)
    check_metadata(metadata, metadata_at)
    return Head(h, lineage, table, metadata, start)


def check_gain(head: Head, payload: bytes) -> None:
    """P-4 and P-6."""
    h, at, row = head.header, head.start, 4 * head.header.rank
    end = payload_size(h.dim, h.rank, h.rule) - 64
    if h.rule != PRECONDITIONED:
        return
    a, b, c, signs, trace, reserved = GAIN.unpack(payload[end : end + 64])
    prior = fl(1.0 / h.ridge)
    need(0.0 <= a <= 1.0 and 0.0 <= b <= prior * (1 + 2.0**-20), "P-4", at + end, "scale or leak out of range")
    need(c <= 15 and not signs >> c, "P-4", at + end + 8, "count or signs out of range")
    need(math.isfinite(trace) and trace >= 0.0 and not any(reserved), "P-4", at + end + 16, "gram_trace or reserved")
    free = row * (h.dim + h.rank + c)
    need(not any(payload[free:end]), "P-6", at + free, "a row of U that is not in use is not +0")


def check_normaliser(head: Head, payload: bytes) -> None:
    """P-7."""
    h, size = head.header, payload_size(head.header.dim, head.header.rank, head.header.rule)
    if not h.flags & NORMALISER:
        return
    at, n = head.start + size, payload[size : size + 4 * h.rank]
    floor, length, reserved = struct.unpack("<dI4s", payload[size + 4 * h.rank :])
    need(finite(array_of(n)) and not any(n[4 * h.key_dim :]), "P-7", at, "a number of n is out of range")
    need(2.0**-1022 <= floor <= 2.0**980, "P-7", at, f"floor is {floor}")
    need(length <= 1 and not any(reserved), "P-7", at, "query_length or reserved")


def check_numbers(head: Head, payload: bytes) -> None:
    """P-5, which "valid" does not ask for. P is taken in binary64; the tolerance hides its roundings."""
    h, at, row = head.header, head.start, 4 * head.header.rank
    end = payload_size(h.dim, h.rank, h.rule) - (64 if h.rule == PRECONDITIONED else 0)
    need(finite(array_of(payload[:end])), "P-5", at, "a number is not finite")
    if h.rule != PRECONDITIONED:
        return
    p_at, prior = row * h.dim, fl(1.0 / h.ridge)
    for i in range(h.rank):
        column = b"".join(payload[p_at + j * row + 4 * i :][:4] for j in range(h.rank))
        need(
            column == payload[p_at + i * row :][:row], "P-5", at + p_at + i * row, f"row {i} of P-bar is not symmetric"
        )
    state, p = State(h, head.lineage, payload), []
    for i in range(h.rank):
        p.append([state.a * v for v in state.P[i]])
        p[i][i] += state.b
        for k in range(state.c):
            t = state.sigma[k] * state.U[k][i]
            p[i] = [v - t * u for v, u in zip(p[i], state.U[k], strict=True)]
        need(0.0 < p[i][i] <= prior * (1 + 2.0**-10), "P-5", at + p_at + i * row, f"P[{i}][{i}] is {p[i][i]}")
        for j in range(i):
            need(
                abs(p[i][j]) <= math.sqrt(p[i][i] * p[j][j]) * (1 + 2.0**-10),
                "P-5",
                at + p_at + i * row + 4 * j,
                f"P[{i}][{j}] is too large",
            )


@dataclass
class Snapshot:
    name: str
    number: int
    head: Head | None = None  # the first head that is whole
    payload: bytes | None = None  # set when the snapshot is valid
    findings: list[Broken] = field(default_factory=list)


def load_snapshot(path: str, number: int | None, max_state: int, member: bool) -> Snapshot:
    """Everything that one file can show. A damaged mirror is a finding (T-4), and so are odd numbers (P-5)."""
    snapshot = Snapshot(os.path.basename(path), number or 0)
    try:
        with Source(path) as src:
            # The page does not say what a sign is. Among the files of a memory, the name is taken for one.
            need(member or not without_sign(src), "H-1", 0, "not EMM", kind="refused")
            try:
                snapshot.head = read_head(src, False, max_state)
            except Broken as broken:
                snapshot.findings.append(broken)
                snapshot.head = read_head(src, True, max_state)  # for R-3
            else:
                read_body(src, snapshot, number)
    except Broken as broken:
        snapshot.findings.append(broken)
    for broken in snapshot.findings:
        broken.file = snapshot.name
    return snapshot


def read_body(src: Source, snapshot: Snapshot, number: int | None) -> None:
    """N-2, P-rules, T-rules, behind a whole head."""
    head = snapshot.head
    assert head
    h, blocks, parts = head.header, len(head.table) // 36, []
    need(number is None or h.generation == number, "N-2", 48, f"generation {h.generation} in a file of another name")
    end = head.start + blocks * BLOCK
    mirror = head.table + head.metadata + src.read(128, 160) + src.read(0, 128)
    need(src.size == end + len(mirror), "P-3", src.size, f"the length is {src.size}, not {end + len(mirror)}")
    for i in range(blocks):
        block = src.read(head.start + i * BLOCK, BLOCK)
        crc, sha = struct.unpack_from("<I32s", head.table, 36 * i)
        need(zlib.crc32(block) == crc, "T-2", head.start + i * BLOCK, f"block {i} is damaged")
        need(hashlib.sha256(block).digest() == sha, "T-3", head.start + i * BLOCK, f"block {i} is another one")
        parts.append(block)
    payload = b"".join(parts)
    need(not any(payload[h.payload_bytes :]), "P-2", head.start + h.payload_bytes, "padding that is not zero")
    payload = payload[: h.payload_bytes]
    check_gain(head, payload)
    check_normaliser(head, payload)
    snapshot.payload = payload
    try:
        check_numbers(head, payload)
    except Broken as broken:
        snapshot.findings.append(broken)
    found = src.read(end, len(mirror))
    differs = next((i for i, (x, y) in enumerate(zip(found, mirror, strict=True)) if x != y), None)
    need(differs is None, "T-4", end + (differs or 0), "head and mirror differ")


# ---------------------------------------------------------------- segments (J)


@dataclass
class Facts:
    """What segments take from the memory's snapshots. None: not known, for a segment by itself."""

    uuid: bytes
    dim: int | None = None
    key_dim: int | None = None
    rule: int | None = None
    projection: int | None = None


@dataclass
class Batch:
    lsn: int
    records: list[Record]
    chain: bytes
    rank: int  # after it


@dataclass
class Segment:
    name: str
    number: int
    path: str
    size: int = 0
    header: SegmentHeader | None = None
    batches: list[Batch] = field(default_factory=list)
    broken: Broken | None = None  # what ended the scan
    synced: int = 0  # largest synced_through of a valid record
    sealed: bool = False
    end: int = 128  # of the last commit, mark or seal

    @property
    def last_lsn(self) -> int:
        assert self.header
        return self.batches[-1].lsn if self.batches else self.header.first_lsn - 1


def check_segment_header(src: Source, number: int | None, uuid: bytes | None) -> SegmentHeader:
    """J-1 to J-5, N-2. A damaged header is never torn (J-2). No number or UUID: nothing to compare with."""
    raw = src.read(0, min(128, src.size))
    need(raw[:8] == SEGMENT_MAGIC, "J-1", 0, "no segment magic", src.name)
    need(len(raw) == 128, "J-2", len(raw), "the segment header is cut", src.name)
    h = SegmentHeader(*SEGMENT.unpack(raw))
    need(h.crc32 == zlib.crc32(raw[:124]), "J-2", 124, "the segment header's CRC-32 does not fit", src.name)
    need(h.version_major == 4 and not h.flags, "J-3", 8, "another version, or flags", src.name, "refused")
    need(not any(h.reserved), "J-4", 116, "reserved bytes are not zero", src.name)
    need(1 <= h.segment < 10**16 and h.first_lsn >= 1, "J-5", 16, "segment or first_lsn out of range", src.name)
    need(1 <= h.floor_generation < 10**16, "J-5", 32, "floor_generation out of range", src.name)
    need(16 <= h.rank <= 1 << 24 and h.rank % 16 == 0, "J-5", 112, f"rank is {h.rank}", src.name)
    need(uuid is None or h.uuid == uuid, "J-5", 40, "another memory's uuid", src.name)
    need(number is None or h.segment == number, "N-2", 16, f"segment {h.segment} in a file of another name", src.name)
    need(h.first_lsn > 1 or not any(h.chain), "J-12", 72, "a chain before the first commit", src.name)
    return h


def read_record(src: Source, at: int, limit: int, uuid: bytes) -> tuple[Record, bytes]:
    """J-6 to J-10 and S-3. Of kind "torn": what R-6 says does not parse. All else is seen only behind both CRCs."""
    need(limit - at >= 32, "J-6", at, "too few bytes for a record header", kind="torn")
    raw = src.read(at, 32)
    magic, kind, flags, lsn, synced, length, crc = RECORD.unpack(raw)
    need(magic == RECORD_MAGIC, "J-6", at, "no record magic", kind="torn")
    need(zlib.crc32(raw[:28]) == crc, "J-7", at, "the record header's CRC-32 does not fit", kind="torn")
    whole = (32 + length + 4 + 7) // 8 * 8
    need(whole <= MAX_RECORD, "S-3", at, f"a record of {whole} bytes")
    need(at + whole <= limit, "J-6", at, "the record runs past the end", kind="torn")
    body = src.read(at + 32, whole - 32)
    crc = zlib.crc32(body[:-4], zlib.crc32(raw, zlib.crc32(uuid)))
    need(crc == struct.unpack("<I", body[-4:])[0], "J-10", at, "the record's CRC-32 does not fit", kind="torn")
    need(not any(body[length:-4]), "J-10", at + 32 + length, "zeros that are not zero")
    need(WRITE <= kind <= SEAL and not flags, "J-8", at, f"type {kind}, flags {flags:#x}", kind="refused")
    need((lsn >= 1 or kind in (MARK, SEAL)) and synced <= lsn, "J-9", at, f"lsn {lsn}, synced_through {synced}")
    return Record(kind, lsn, synced, at, length, at + whole), body[:length]


def check_record(record: Record, payload: bytes, rank: int, facts: Facts, max_state: int) -> tuple[int, int]:
    """J-13 to J-15, J-17, R-8, S-1. Returns the rank after the record and its number of pairs.

    What a segment by itself does not know it learns from its first pairs.
    """
    kind, at = record.type, record.offset
    if kind in (EXPAND, PARAMETERS):
        need(len(payload) == 8 and not any(payload[4:]), "J-17", at, "length or reserved bytes")
        new, expand_at = struct.unpack_from("<I", payload)[0], struct.unpack_from("<f", payload)[0]
        if kind == PARAMETERS:
            need(0.0 <= expand_at <= 1.0, "J-17", at, "expand_at is not from 0 to 1")
            return rank, 0
        need(new == 2 * rank and new <= 1 << 24, "J-17", at, f"rank {rank} to {new}, which is not double")
        if facts.rule is not None:
            need(rank_allowed(new, facts.key_dim, facts.projection), "J-17", at, f"rank {new} is not allowed")
            need(payload_size(facts.dim, new, facts.rule) <= max_state, "S-1", at, f"rank {new}", kind="refused")
        return new, 0
    need(len(payload) >= 16, "J-13", at, "too short for its PairsHeader")
    n, key_dim, dim, at_rank = PAIRS.unpack_from(payload)
    gates = {WRITE: 2, UNLEARN: 1, FORGET: 0}[kind] * n
    facts.key_dim = key_dim if facts.key_dim is None else facts.key_dim
    facts.dim = dim if facts.dim is None and kind != FORGET else facts.dim
    need(n >= 1 and key_dim == facts.key_dim and dim == (0 if kind == FORGET else facts.dim), "J-13", at, "counts")
    need(len(payload) == 16 + 4 * (gates + n * (key_dim + dim)), "J-13", at, "the length is not what the counts give")
    need(16 <= at_rank <= 1 << 24 and at_rank % 16 == 0, "J-13", at, f"rank {at_rank} cannot be")
    numbers = array_of(payload[16:])
    decay, write = numbers[: max(gates - n, 0)], numbers[max(gates - n, 0) : gates]
    need(all(-(2.0**40) <= v <= 2.0**40 for v in numbers[gates:]), "J-14", at, "a number of a key or value")
    need(all(0.0 < v <= 1.0 for v in decay) and all(2.0**-10 <= v <= 32.0 for v in write), "J-15", at, "a gate")
    need(facts.rule != GATED_DELTA or all(v <= 1.0 for v in write), "J-15", at, "a write gate above 1 under rule 1")
    need(at_rank <= rank if kind == UNLEARN else at_rank == rank, "R-8", at, f"rank {at_rank} in a state of {rank}")
    if kind == FORGET and facts.rule in (OUTER_PRODUCT, GATED_DELTA):  # S of A-16, which their state does not hold
        whole = payload_size(facts.dim, rank, facts.rule) + 4 * rank * rank
        need(whole <= max_state, "S-1", at, f"forgetting at rank {rank}", kind="refused")
    return rank, n


def scan_segment(src: Source, segment: Segment, limit: int, facts: Facts, max_state: int) -> None:
    """Read records up to `limit`; J-11, J-12, J-16, S-4. Stops at the first that breaks a rule."""
    header = segment.header
    assert header
    at, lsn, rank, pairs, link = 128, header.first_lsn - 1, header.rank, 0, hashlib.sha256(header.chain)
    batch: list[Record] = []
    try:
        while at < limit:
            record, payload = read_record(src, at, limit, facts.uuid)
            kind = record.type
            need(not segment.sealed, "J-11", at, "a record after the seal")
            if kind in (MARK, SEAL):
                need(not batch, "J-11", at, "a mark or seal inside a batch")
                need(record.length == 0 and record.lsn == record.synced_through == lsn, "J-11", at, "a wrong mark")
                segment.sealed = kind == SEAL
            else:
                need(record.lsn == lsn + 1, "J-11", at, f"LSN {record.lsn} after commit {lsn}")
                need(record.end - (batch[0].offset if batch else at) <= MAX_BATCH, "S-4", at, "a batch above 256 MiB")
            if kind < COMMIT:
                rank, n = check_record(record, payload, rank, facts, max_state)
                batch.append(record)
                pairs += n
                link.update(struct.pack("<HQI", kind, record.lsn, record.length) + payload)
            elif kind == COMMIT:
                need(len(payload) == COMMITTED.size, "J-16", at, "a commit's payload is not 56 bytes long")
                _, n_records, n_pairs, surprise, reserved, chain = COMMITTED.unpack(payload)
                need(n_records >= 1 and math.isfinite(surprise) and surprise >= 0.0, "J-16", at, "its numbers")
                need(0 < len(batch) == n_records, "J-11", at, f"n_records is {n_records}, of {len(batch)}")
                need(
                    n_pairs == pairs and not any(reserved), "J-16", at, "n_pairs is not the batch's, or reserved bytes"
                )
                link.update(struct.pack("<HQI", COMMIT, record.lsn, 24) + payload[:24])
                need(link.digest() == chain, "J-12", at, "the chain does not fit")
                lsn = record.lsn
                segment.batches.append(Batch(lsn, batch, chain, rank))
                batch, pairs, link = [], 0, hashlib.sha256(chain)
            segment.synced = max(segment.synced, record.synced_through)
            at = record.end
            segment.end = segment.end if batch else at
        need(not batch, "J-11", batch[0].offset if batch else at, "a batch without its commit", kind="torn")
    except Broken as broken:
        segment.broken = broken
        broken.file = src.name
        if segment.sealed and broken.kind == "torn":
            broken.rule, broken.kind = "J-11", "damaged"  # nothing follows a seal, torn or not
        gather_evidence(src, segment, at, limit, facts.uuid)


def gather_evidence(src: Source, segment: Segment, bad: int, limit: int, uuid: bytes) -> None:
    """J-19: valid records beyond damage still prove what they say. S-6 bounds the work."""
    at, spent = bad + 8, 0
    while at + 36 <= limit:
        chunk = src.read(at, min(1 << 20, limit - at))
        i = chunk.find(RECORD_MAGIC)
        while i >= 0 and i % 8:  # records stand at multiples of 8
            i = chunk.find(RECORD_MAGIC, i + 1)
        at += i if i >= 0 else max(len(chunk) // 8 * 8, 8)
        if i < 0 or at + 36 > limit:
            continue
        length = RECORD.unpack(src.read(at, 32))[5]
        spent += length + 36 if at + length + 36 <= limit else 32
        need(spent <= 4 * segment.size, "S-6", at, "too much damage to search for evidence", src.name, "refused")
        try:
            record, _ = read_record(src, at, limit, uuid)
            segment.synced = max(segment.synced, record.synced_through)
            at = record.end
        except Broken:
            at += 8


# ---------------------------------------------------------------- recovery (R)


def untorn(broken: Broken, why: str) -> Broken:
    """Bytes that do not parse, in a place where R-6 does not call them torn."""
    if broken.kind != "torn":
        return broken
    return Broken(broken.rule, f"{broken.message}, {why} (R-6)", broken.file, broken.offset)


def identity(h: Header) -> tuple:
    """N-6: what stays the same for a memory's life."""
    return h.uuid, h.dim, h.key_dim, h.rule, h.projection, h.projection_seed, h.ridge


class Memory:
    """A memory directory: its files checked one by one, then together."""

    def __init__(self, path: str, max_state: int) -> None:
        self.path, self.max_state = path, max_state
        self.findings: list[Broken] = []
        self.notices: list[str] = []
        self.snapshots: list[Snapshot] = []
        self.segments: dict[int, Segment] = {}
        self.base: Snapshot | None = None
        self.unsealed = False

    def load(self) -> None:
        """N-1: no other name is opened."""
        for name in sorted(os.listdir(self.path)):
            match = re.fullmatch(r"([0-9]{16})\.(emm|wal)", name, re.ASCII)
            if not match or int(match[1]) == 0:
                continue
            number, path = int(match[1]), os.path.join(self.path, name)
            if match[2] == "emm":
                self.snapshots.append(load_snapshot(path, number, self.max_state, True))
                self.findings += self.snapshots[-1].findings
            else:
                self.segments[number] = Segment(name, number, path)
        heads = [(s, s.head.header, s.head.lineage) for s in self.snapshots if s.head]
        parents = {h.sha256: lineage for _, h, lineage in heads}
        for s, h, lineage in heads:
            if identity(h) != identity(heads[-1][1]):
                self.findings.append(Broken("N-6", "a snapshot of another memory, or of another shape", s.name, 64))
                s.payload = None
            parent = parents.get(lineage.parent_sha256)
            if parent and lineage.origin == CHECKPOINT and parent.floor_generation != lineage.floor_generation:
                self.findings.append(Broken("L-4", "a checkpoint with another floor than its parent's", s.name, 240))
        same = [(s, h) for s, h, _ in heads if identity(h) == identity(heads[-1][1])]
        for (_, older), (s, h) in pairwise(same):
            if h.rank < older.rank:
                self.findings.append(Broken("N-6", f"rank {h.rank} after rank {older.rank}", s.name, 24))
        if heads:
            h = heads[-1][1]
            self.scan(Facts(h.uuid, h.dim, h.key_dim, h.rule, h.projection))

    def scan(self, facts: Facts) -> None:
        """Headers first: a segment's valid length is stated by the one that follows it (R-11)."""
        for segment in self.segments.values():
            try:
                with Source(segment.path) as src:
                    segment.size = src.size
                    segment.header = check_segment_header(src, segment.number, facts.uuid)
            except Broken as broken:
                segment.broken = broken
        for number, segment in self.segments.items():
            if not segment.header:
                continue
            if number - 1 not in self.segments and 0 < segment.header.previous_bytes < 128:
                self.findings.append(Broken("R-11", "no segment can have been so short", segment.name, 104))
            after = self.segments.get(number + 1)
            stated = after.header.previous_bytes if after and after.header else 0
            limit = min(segment.size, stated) if stated else segment.size
            try:
                with Source(segment.path) as src:
                    scan_segment(src, segment, limit, facts, self.max_state)
            except Broken as broken:  # S-6
                segment.broken = broken
            if 0 < stated < 128 and after:
                self.findings.append(Broken("R-11", f"previous_bytes is {stated}", after.name, 104))
            if stated > segment.size and not segment.broken:  # of bytes that are not there, as of torn ones, R-5 judges
                why = f"{stated} bytes were there before"
                segment.broken = Broken("R-11", why, segment.name, segment.size, "torn")
            elif limit < segment.size:
                self.notices.append(f"{segment.name}: {segment.size - limit} dead bytes past previous_bytes")

    def choose(self) -> tuple[Snapshot, int]:
        """R-1 and R-3: the snapshot to start from, and the LSN that must be reached."""
        reach = floor = 0
        for s in reversed(self.snapshots):
            if s.payload is not None:
                need(s.number >= floor, "R-3", 0, f"below the floor {floor} of one passed over", s.name)
                return s, reach
            for finding in s.findings:
                if finding.kind == "refused":
                    raise finding
            if not s.head or s.head.lineage.origin != CHECKPOINT:
                raise Broken("R-3", "this damaged snapshot cannot be passed over", s.name)
            reach, floor = max(reach, s.head.header.lsn), max(floor, s.head.lineage.floor_generation)
        raise Broken("R-3" if self.snapshots else "R-1", "no valid snapshot")

    def needed(self, base: Snapshot, last: int) -> list[Segment]:
        """R-2 and R-4, for the segments up to `last`."""
        assert base.head
        out: list[Segment] = []
        for number in range(base.head.lineage.segment_next, last + 1):
            segment = self.segments.get(number)
            if segment is None:
                raise Broken("R-2", "this segment is missing", f"{number:016d}.wal")
            if segment.header is None:
                raise segment.broken or Broken("J-1", "no header", segment.name)
            need(
                segment.header.floor_generation <= base.number,
                "R-4",
                32,
                f"not to be replayed onto generation {base.number}",
                segment.name,
            )
            out.append(segment)
        return out

    def live(self, base: Snapshot, segments: list[Segment], reach: int) -> list[tuple[Segment, Batch]]:
        """R-5 and R-6: the commits that count, after checking that segments continue one another."""
        assert base.head
        h = base.head.header
        log: list[tuple[Segment, Batch]] = []
        last = proven = h.lsn
        ends = {h.lsn: (base.head.lineage.chain, h.rank)}  # LSN -> chain and rank after it
        before: Segment | None = None
        for segment in segments:
            header, name = segment.header, segment.name
            assert header
            first = header.first_lsn
            if before and before.broken:
                need(before.broken.rule != "R-11" or first <= last + 1, "R-6", before.size, "cut", before.name)
                if first > last + 1 or before.broken.kind != "torn":
                    raise untorn(before.broken, f"though the log goes on in {name}")
                self.findings.append(untorn(before.broken, "among dead commits"))
            need(before is not None or first == h.lsn + 1, "L-5", 24, f"first_lsn {first} after LSN {h.lsn}", name)
            need(first > proven, "R-5", 24, f"first_lsn {first}, though LSN {proven} is proven", name)
            need(first <= last + 1, "R-5", 24, f"first_lsn {first} after commit {last}", name)
            need(ends[first - 1] == (header.chain, header.rank), "R-5", 72, "chain or rank does not continue", name)
            again = {b.lsn: b.chain for b in segment.batches}
            while log and log[-1][1].lsn >= first:  # dead: logged again, or their writer was fenced
                dead = log.pop()[1]
                del ends[dead.lsn]
                if again.get(dead.lsn) != dead.chain:
                    self.notices.append(f"{name}: dead commit {dead.lsn} was not logged again as it was")
            proven = max(proven, first - 1, segment.synced)
            log += [(segment, batch) for batch in segment.batches]
            ends.update({batch.lsn: (batch.chain, batch.rank) for batch in segment.batches})
            last, before = segment.last_lsn, segment
        if before and before.broken:
            if last < proven or before.broken.kind != "torn":
                raise untorn(before.broken, f"though LSN {proven} is proven")
            before.broken.offset = before.end  # where the tail begins, not where it ceases to parse
            self.findings.append(before.broken)
        need(last >= reach, "R-3", 0, f"the journal leads to LSN {last}, not to {reach}", base.name)
        if last > proven:
            self.notices.append(f"commits {proven + 1} to {last} are not proven")
        self.unsealed = before is not None and not before.sealed
        return log

    def gone(self, s: Snapshot) -> int | None:
        """The first missing segment on the way from an older snapshot to the base."""
        assert s.head and self.base and self.base.head
        numbers = range(s.head.lineage.segment_next, self.base.head.lineage.segment_next)
        return next((number for number in numbers if number not in self.segments), None)

    def check_bystanders(self, segments: list[Segment]) -> None:
        """Segments that recovery does not need: their bytes, and how all of them meet the snapshots (L-5)."""
        for segment in self.segments.values():
            if segment.broken and segment not in segments:
                self.findings.append(untorn(segment.broken, "not at the end of the log"))
        for s in self.snapshots:
            if s.payload is None or not s.head:
                continue
            h, lineage = s.head.header, s.head.lineage
            here, before = self.segments.get(lineage.segment_next), self.segments.get(lineage.segment_next - 1)
            meets = (h.lsn + 1, lineage.chain, h.rank)
            if here and here.header and (here.header.first_lsn, here.header.chain, here.header.rank) != meets:
                self.findings.append(Broken("L-5", f"does not continue {s.name}", here.name, 24))
            if before and before.header and not here and before.last_lsn > h.lsn:
                self.findings.append(Broken("L-5", f"commits past LSN {h.lsn} before segment_next", before.name))
            if before and before.header and not before.broken and before.last_lsn < h.lsn:
                self.findings.append(Broken("R-6", f"ends before LSN {h.lsn} of {s.name}", before.name, before.size))

    def check_gaps(self) -> None:
        """R-10: files go in ascending order, segments after the snapshots that lead on by them (R-2 of those)."""
        missing: dict[str, str] = {}
        for kind, numbers in (("emm", [s.number for s in self.snapshots]), ("wal", list(self.segments))):
            ordered = sorted(numbers)
            for a, b in pairwise(ordered):
                if b > a + 1:
                    missing[f"{a + 1:016d}.{kind}"] = "R-10"
        for s in self.snapshots:
            number = self.gone(s) if s.payload is not None and s.head else None
            if number is not None:
                missing[f"{number:016d}.wal"] = "R-2"
        self.findings += [Broken(rule, "is missing, and older files are not", name) for name, rule in missing.items()]

    def replay(self, base: Snapshot, log: list[tuple[Segment, Batch]], against: dict[int, list[Snapshot]]) -> State:
        """R-7. `against`: checkpoints by LSN, whose states must be met on the way (L-6)."""
        assert base.head and base.payload is not None
        state = State(base.head.header, base.head.lineage, base.payload)
        for segment, batch in log:
            with Source(segment.path) as src:
                for record in batch.records:
                    try:
                        state.apply(record.type, src.read(record.offset + 32, record.length))
                    except Refused as why:
                        raise Broken("R-7", str(why), segment.name, record.offset) from None
            state.lsn, state.chain = batch.lsn, batch.chain
            for snapshot in against.get(batch.lsn, []):
                self.compare(state, snapshot)
        return state

    def compare(self, state: State, snapshot: Snapshot) -> None:
        """L-6: what a checkpoint holds is what replay gives."""
        assert snapshot.head and snapshot.payload is not None
        made = State(snapshot.head.header, snapshot.head.lineage, snapshot.payload)
        need(state.digest() == made.digest(), "L-6", 0, "replay gives another digest", snapshot.name)
        for what, offset in (("flags", 12), ("chain", 144), ("write_count", 128), ("expand_at", 256)):
            same = getattr(state, what) == getattr(made, what)
            need(same, "L-6", offset, f"replay gives another {what}", snapshot.name)
        self.notices.append(f"{snapshot.name}: reached by replay at LSN {state.lsn}")

    def recover(self) -> State:
        """Section 5."""
        self.base, reach = self.choose()
        segments = self.needed(self.base, max(self.segments, default=0))
        log = self.live(self.base, segments, reach)
        self.check_bystanders(segments)
        self.check_gaps()
        return self.replay(self.base, log, {})

    def replay_from_oldest(self) -> None:
        """L-6: from the oldest valid snapshot of each floor to every checkpoint of that floor."""
        valid = [s for s in self.snapshots if s.payload is not None]
        floors = sorted({s.head.lineage.floor_generation for s in valid if s.head})
        for floor in floors:
            mine = [s for s in valid if s.head and s.head.lineage.floor_generation == floor]
            start = next((s for s in mine if self.gone(s) is None or s is mine[-1]), mine[-1])
            later = mine[mine.index(start) + 1 :]
            if not later or not later[-1].head:
                continue
            against: dict[int, list[Snapshot]] = {}
            for s in later:
                against.setdefault(s.head.header.lsn if s.head else 0, []).append(s)
            kept = list(self.findings), [*self.notices, f"replayed from {start.name}"], self.unsealed
            segments = self.needed(start, later[-1].head.lineage.segment_next - 1)
            log = self.live(start, segments, later[-1].head.header.lsn)
            self.findings, self.notices, self.unsealed = kept
            self.replay(start, log, against)


# ---------------------------------------------------------------- one segment by itself


def examine_segment(path: str, number: int | None, max_state: int) -> dict:
    """J-rules as far as they go without a snapshot; nothing is replayed. R-6 with what the segment itself proves."""
    segment, findings, lsn = Segment(os.path.basename(path), number or 0, path), [], None
    try:
        with Source(path) as src:
            segment.size = src.size
            # S-7 names H-1 here. By its name this is a segment, so the magic that it lacks is J-1's.
            need(not without_sign(src), "J-1", 0, "not EMM", segment.name, "refused")
            segment.header = check_segment_header(src, number, None)
            scan_segment(src, segment, src.size, Facts(segment.header.uuid), max_state)
        lsn, proven = segment.last_lsn, max(segment.header.first_lsn - 1, segment.synced)
        if segment.broken and lsn < proven:
            raise untorn(segment.broken, f"though LSN {proven} is proven")
        if segment.broken:
            segment.broken.offset = segment.end if segment.broken.kind == "torn" else segment.broken.offset
            raise segment.broken
    except Broken as broken:
        findings.append(broken)
    return {**describe(findings, [], None, None, "clean" if segment.sealed else "clean-unsealed"), "lsn": lsn}


# ---------------------------------------------------------------- the command line


def describe(
    findings: list[Broken], notices: list[str], state: State | None, generation: int | None, clean: str
) -> dict:
    real = [f for f in findings if f.kind != "torn"]
    first = (real or findings or [None])[0]
    verdict = clean if first is None else "torn-or-damaged-tail" if first.kind == "torn" else first.kind
    more = [str(f) for f in findings if f is not first]
    return {
        "verdict": verdict,
        "rule": first.rule if first else None,
        "file": first.file if first else None,
        "offset": first.offset if first else None,
        "message": first.message if first else None,
        "lsn": state.lsn if state else None,
        "generation": generation,
        "digest": state.digest() if state else None,
        "rank": state.rank if state else None,
        "flags": state.flags if state else None,
        "notices": notices + more,
    }


def examine_memory(path: str, from_oldest: bool, max_state: int) -> dict:
    memory, state = Memory(path, max_state), None
    try:
        memory.load()
        if not memory.snapshots and not memory.segments:
            return describe([], [], None, None, "missing")
        state = memory.recover()
        if from_oldest:
            memory.replay_from_oldest()
    except Broken as broken:
        if not any(broken is f for f in memory.findings):
            memory.findings.append(broken)
    generation = memory.base.number if memory.base else None
    clean = "clean-unsealed" if memory.unsealed else "clean"
    return describe(memory.findings, memory.notices, state, generation, clean)


def examine_snapshot(path: str, number: int | None, max_state: int) -> dict:
    snapshot, state = load_snapshot(path, number, max_state, False), None
    if snapshot.head and snapshot.payload is not None:
        state = State(snapshot.head.header, snapshot.head.lineage, snapshot.payload)
    generation = snapshot.head.header.generation if snapshot.head else None
    return describe(snapshot.findings, [], state, generation, "clean")


def examine(path: str, from_oldest: bool = True, max_state: int = MAX_STATE) -> dict:
    """Any path gives a verdict (S-5, S-7)."""
    try:
        check_environment()
        if not os.path.lexists(path):
            return describe([], [], None, None, "missing")
        if os.path.isdir(path):
            return examine_memory(path, from_oldest, max_state)
        named = re.fullmatch(r"([0-9]{16})\.(emm|wal)", os.path.basename(path), re.ASCII)
        number = int(named[1]) if named else None
        path = os.path.realpath(path)  # a link that the caller names is followed; those of a memory are not (N-1)
        with Source(path) as src:
            journal = src.read(0, min(8, src.size)) == SEGMENT_MAGIC
        if named[2] == "wal" if named else journal:
            return examine_segment(path, number, max_state)
        return examine_snapshot(path, number, max_state)
    except Broken as broken:
        return describe([broken], [], None, None, "")
    except MemoryError:
        return describe([Broken("S-1", "out of memory", path, 0, "refused")], [], None, None, "")
    except OSError as error:  # never the end of the log
        return describe([Broken("S-7", f"cannot be read: {error}", path, 0, "indeterminate")], [], None, None, "")
    except Exception as error:  # S-5
        return describe([Broken("S-5", f"cannot be read: {error!r}", path, 0, "refused")], [], None, None, "")


def self_test() -> None:
    """The FMA against rational arithmetic, and the check values of A-6."""

    def exact(value: Fraction) -> float:
        """`value` rounded to binary32, ties to even, by integers alone."""
        size = abs(value)
        if not size:
            return 0.0
        exponent = size.numerator.bit_length() - size.denominator.bit_length()
        exponent -= size < Fraction(2) ** exponent
        step = Fraction(2) ** max(exponent - 23, -149)
        return math.copysign(float(round(size / step) * step), value)

    draw = random.Random(4)
    for _ in range(20000):
        p, q, r = (
            fl(
                draw.choice((-1, 1))
                * (1 + draw.getrandbits(23) / 2 ** draw.choice((23, 12, 3)))
                % 2
                * 2.0 ** draw.randint(-75, 30)
            )
            for _ in range(3)
        )
        r = draw.choice((r, fl(-p * q), fl(p * q) * 2.0 ** draw.randint(20, 30)))
        want = Fraction(p) * Fraction(q) + Fraction(r)
        assert fma(p, q, r) == exact(want), (p, q, r)
        assert q == 0 or fl(p / q) == exact(Fraction(p) / Fraction(q)), (p, q)
        assert fl(p + r) == exact(Fraction(p) + Fraction(r)), (p, r)
    projection = Projection(1, 16, 0x454D4D34)
    x = projection.phi([float(i) for i in range(1, 17)], 16)
    assert projection.order == [8, 7, 2, 1, 5, 12, 6, 3, 4, 13, 10, 11, 0, 9, 14, 15], projection.order
    assert list(x) == [-9.5, 5.5, -2.5, -5.5, -5.5, -5.5, 13.5, 5.5, 2.5, 6.5, 17.5, -6.5, 2.5, 6.5, -24.5, -4.5], x
    assert zlib.crc32(b"123456789") == 0xCBF43926
    print("self-test passed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", nargs="?")
    parser.add_argument("--replay-from-oldest", action=argparse.BooleanOptionalAction, default=True, help="as L-6 says")
    parser.add_argument("--max-state", type=int, default=MAX_STATE, help="largest state accepted, in bytes (S-1)")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        self_test()
        return 0
    if options.path is None:
        parser.error("a path is needed")
    report = examine(options.path, options.replay_from_oldest, options.max_state)
    print(json.dumps(report))
    return EXIT[report["verdict"]]


if __name__ == "__main__":
    sys.exit(main())
