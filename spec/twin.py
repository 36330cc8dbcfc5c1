"""A reference of the arithmetic in plain Python with rational numbers: `emm-v4.md`, A-rules, transcribed.

Purpose: say what the spec says, slowly and obviously, sharing no code with the library (it imports nothing but the
standard library). Every operation forms its exact result as a fraction and rounds once. Invariants: numbers are
Python floats that hold binary32 values; a `Twin` is changed only by `write`, `forget` and `expand`; inputs that the
spec refuses are not judged here, the caller keeps to A-9 and A-10.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

MASK = (1 << 64) - 1
Vector = list[float]
Matrix = list[Vector]

# --- one rounding each (A-2, A-3) ------------------------------------------------------------------


def fl(exact: Fraction, zero: float = 0.0) -> float:
    """One rounding to binary32, ties to even; `zero` is the signed zero that an exact zero stands for."""
    if exact == 0:
        return zero
    size = abs(exact)
    exponent = max(size.numerator.bit_length() - size.denominator.bit_length() - 25, -149)
    while size >= Fraction(2) ** (exponent + 24):
        exponent += 1
    whole, rest = divmod(size, Fraction(2) ** exponent)
    whole += rest * 2 > Fraction(2) ** exponent or (rest * 2 == Fraction(2) ** exponent and whole % 2 == 1)
    return math.copysign(float(whole * Fraction(2) ** exponent), float(exact > 0) - 0.5)


def add(p: float, q: float) -> float:
    return fl(Fraction(p) + Fraction(q), p + q)


def mul(p: float, q: float) -> float:
    return fl(Fraction(p) * Fraction(q), math.copysign(0.0, p) * math.copysign(1.0, q))


def div(p: float, q: float) -> float:
    return fl(Fraction(p) / Fraction(q), math.copysign(0.0, p) * math.copysign(1.0, q))


def fma(p: float, q: float, r: float) -> float:
    """p·q + r with one rounding; a sum that is exactly zero is −0 only where both addends are −0."""
    product = Fraction(p) * Fraction(q)
    zero = math.copysign(0.0, p) * math.copysign(1.0, q) + r if product == 0 else 0.0
    return fl(product + Fraction(r), zero)


def root(p: float) -> float:
    """Correctly rounded binary32 square root: 53 bits of √ never lie on a binary32 tie."""
    return narrow(math.sqrt(p))


def narrow(p: float) -> float:
    """A binary64 number rounded to binary32."""
    return float(struct.unpack("<f", struct.pack("<f", p))[0])


def dot(p: Vector, q: Vector) -> float:
    """A-4: sixteen lanes from +0, folded by adding the upper half to the lower."""
    lanes = [0.0] * 16
    for j in range(0, len(p), 16):
        lanes = [fma(p[j + i], q[j + i], lanes[i]) for i in range(16)]
    for m in (8, 4, 2, 1):
        lanes = [add(lanes[i], lanes[i + m]) for i in range(m)]
    return lanes[0]


# --- keys (A-6 to A-8) -----------------------------------------------------------------------------


def words(seed: int) -> Iterator[int]:
    """SplitMix64."""
    z = seed
    while True:
        z = (z + 0x9E3779B97F4A7C15) & MASK
        y = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        y = ((y ^ (y >> 27)) * 0x94D049BB133111EB) & MASK
        yield y ^ (y >> 31)


def ordering(key_dim: int, seed: int) -> tuple[list[int], list[int]]:
    """(signs, the n indices of the four passes)."""
    n = 1
    while n < key_dim:
        n *= 2
    m, source = n // 4, words(seed)
    sign_words = [next(source) for _ in range(-(-n // 64))]
    signs = [-1 if sign_words[i // 64] >> (i % 64) & 1 else 1 for i in range(n)]
    strata = [next(source) for _ in range(m)]
    h, t = [w >> 62 for w in strata], [w >> 61 & 1 for w in strata]

    def shuffle() -> list[int]:
        items = list(range(m))
        for i in range(m - 1, 0, -1):
            j = next(source) * (i + 1) >> 64
            items[i], items[j] = items[j], items[i]
        return items

    a = shuffle()
    b = shuffle()
    order = [h[lo] * m + lo for lo in a] + [(h[lo] ^ 1) * m + lo for lo in b]
    order += [(h[lo] ^ 2 ^ t[lo]) * m + lo for lo in range(m)] + [(h[lo] ^ 3 ^ t[lo]) * m + lo for lo in range(m)]
    return signs, order


def phi(key: Vector, rank: int, seed: int) -> Vector:
    """A-7, projection 1."""
    signs, order = ordering(len(key), seed)
    n = len(order)
    y = [value * sign for value, sign in zip(key + [0.0] * (n - len(key)), signs, strict=True)]
    half = 1
    while half < n:
        for i in range(n):
            if i % (2 * half) < half:
                y[i], y[i + half] = add(y[i], y[i + half]), add(y[i], -y[i + half])
        half *= 2
    scale = fl(Fraction(1, math.isqrt(n))) if math.isqrt(n) ** 2 == n else fl(Fraction(math.isqrt(n << 200), n << 100))
    return [mul(y[order[r]], scale) for r in range(rank)]


# --- the state (A-11 to A-20) ----------------------------------------------------------------------


@dataclass
class Twin:
    """A memory's state: M, and for rule 2 P̄ (`P`), U, σ, a, b and h."""

    dim: int
    rank: int
    rule: int
    ridge: float
    M: Matrix = field(init=False)
    P: Matrix = field(init=False)
    U: Matrix = field(init=False)
    sigma: list[int] = field(init=False)
    a: float = field(init=False)
    b: float = field(init=False)
    h: float = field(init=False)
    prior: float = field(init=False)

    def __post_init__(self) -> None:
        self.M = [[0.0] * self.rank for _ in range(self.dim)]
        self.prior = div(1.0, self.ridge)
        self.P = [[self.prior * (i == j) for j in range(self.rank)] for i in range(self.rank)]
        self.U, self.sigma, self.a, self.b, self.h = [], [], 1.0, 0.0, 0.0

    def write(self, x: Vector, v: Vector, alpha: float, beta: float) -> None:
        """A-11 to A-13; with α = 1 and a negative β it is A-14, unlearn."""
        if alpha != 1:
            self.M = [[mul(alpha, m) for m in row] for row in self.M]
            A = mul(alpha, alpha)
            self.b = fma(A, self.b, mul(add(1.0, -A), self.prior))
            self.a = mul(A, self.a)
            self.U = [[mul(alpha, u) for u in row] for row in self.U]
            self.h = A * self.h
        q = dot(x, x)
        if q == 0:
            return
        if self.rule == 0:
            y = [mul(beta, vi) for vi in v]
            self.M = [[fma(y[i], x[j], self.M[i][j]) for j in range(self.rank)] for i in range(self.dim)]
            return
        eta = div(beta, q)
        g = [mul(eta, xj) for xj in x] if self.rule == 1 else self.gain(x, beta, q)
        if g is None:
            return
        self.step(x, v, g)

    def step(self, x: Vector, v: Vector, g: Vector) -> None:
        for i in range(self.dim):
            e = add(v[i], -dot(self.M[i], x))
            self.M[i] = [fma(e, g[j], self.M[i][j]) for j in range(self.rank)]

    def gain(self, x: Vector, beta: float, q: float) -> Vector | None:
        w = [mul(self.a, dot(row, x)) for row in self.P]
        if self.b != 0:
            w = [fma(self.b, x[i], w[i]) for i in range(self.rank)]
        for u, sigma in zip(self.U, self.sigma, strict=True):
            t = -sigma * dot(u, x)
            w = [fma(t, u[i], w[i]) for i in range(self.rank)]
        s = dot(x, w)
        if s == 0:
            return None
        d = fma(beta, s, 1.0)
        assert s > 0 and (beta > 0 or d >= 2**-6)
        gamma = div(beta, d)
        self.U.append([mul(root(abs(gamma)), wj) for wj in w])
        self.sigma.append(-1 if beta < 0 else 1)
        self.h = max(0.0, self.h + beta * q)
        if len(self.U) == 16:
            self.P = self.folded()
            self.U, self.sigma, self.a, self.b = [], [], 1.0, 0.0
        return [mul(gamma, wj) for wj in w]

    def folded(self) -> Matrix:
        P = [[mul(self.a, p) for p in row] for row in self.P] if self.a != 1 else [list(row) for row in self.P]
        if self.b != 0:
            for i in range(self.rank):
                P[i][i] = add(P[i][i], self.b)
        for u, sigma in zip(self.U, self.sigma, strict=True):
            P = [[fma(-sigma * u[i], u[j], P[i][j]) for j in range(self.rank)] for i in range(self.rank)]
        return P

    def forget(self, keys: Matrix) -> None:
        """A-16, for all the keys of one record."""
        S = self.folded() if self.rule == 2 else [[float(i == j) for j in range(self.rank)] for i in range(self.rank)]
        whole = [dot(x, [dot(row, x) for row in S]) for x in keys]
        for x, p in zip(keys, whole, strict=True):
            w = [dot(row, x) for row in S]
            s = dot(x, w)
            if not s > mul(2.0**-20, p):
                continue
            r = root(s)
            u = [div(wi, r) for wi in w]
            S = [[fma(-u[i], u[j], S[i][j]) for j in range(self.rank)] for i in range(self.rank)]
            self.step(x, [0.0] * self.dim, [div(wj, s) for wj in w])

    def expand(self, rank: int) -> None:
        """A-18."""
        if self.rule == 2:
            P, old = self.folded(), self.rank
            new = narrow(1.0 / (self.ridge + self.h / old))
            self.P = [[P[i][j] if i < old and j < old else new * (i == j) for j in range(rank)] for i in range(rank)]
            self.U, self.sigma, self.a, self.b = [], [], 1.0, 0.0
        self.M = [row + [0.0] * (rank - self.rank) for row in self.M]
        self.rank = rank

    # --- bytes --------------------------------------------------------------------------------------

    def arrays(self) -> dict[str, bytes]:
        """M, and for rule 2 P̄, U and GainScalars, as a snapshot's payload has them (P-1)."""
        if self.rule != 2:
            return {"M": packed(self.M)}
        signs = sum(1 << k for k, sigma in enumerate(self.sigma) if sigma < 0)
        unused = [[0.0] * self.rank] * (16 - len(self.U))
        scalars = struct.pack("<ffIId40x", self.a, self.b, len(self.U), signs, self.h)
        return {"M": packed(self.M), "P": packed(self.P), "U": packed(self.U + unused), "scalars": scalars}

    def digest(self, lsn: int, key_dim: int, projection: int, seed: int) -> str:
        """A-22, in hexadecimal."""
        shape = (lsn, self.dim, key_dim, self.rank, self.rule, projection)
        head = b"EMMDIGEST4\0" + struct.pack("<QIIIBB2xQf", *shape, seed, self.ridge)
        return hashlib.sha256(head + b"".join(self.arrays().values())).hexdigest()


def packed(rows: Matrix) -> bytes:
    """Rows as little-endian binary32."""
    return b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)
