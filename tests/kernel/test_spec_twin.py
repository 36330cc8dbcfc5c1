"""A second implementation, written from the spec in plain Python with rational numbers, against every backend.

It shares no code with the kernel: φ, the three rules, unlearn, forget and bare expansion are transcribed from
spec/emm-v4.md (A-rules), each rounding done exactly. Red when any operation, order or rounding of the kernel differs
from the spec, or when the spec's text is changed without the code.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest

from emm import kernel
from emm.errors import GateError
from emm.kernel import dispatch
from emm.layout import Projection, Rule
from emm.state import MatrixState, Parameters, empty_state

MASK = (1 << 64) - 1
Vector = list[float]


def fl(exact: Fraction) -> float:
    """One rounding to binary32, ties to even. (Signed zeros: a zero result is +0, which `same` allows for.)"""
    if exact == 0:
        return 0.0
    size = abs(exact)
    exponent = max(size.numerator.bit_length() - size.denominator.bit_length() - 25, -149)
    while size >= Fraction(2) ** (exponent + 24):
        exponent += 1
    whole, rest = divmod(size, Fraction(2) ** exponent)
    whole += rest * 2 > Fraction(2) ** exponent or (rest * 2 == Fraction(2) ** exponent and whole % 2 == 1)
    return math.copysign(float(whole * Fraction(2) ** exponent), float(exact > 0) - 0.5)


def add(p: float, q: float) -> float:
    return fl(Fraction(p) + Fraction(q))


def mul(p: float, q: float) -> float:
    return fl(Fraction(p) * Fraction(q))


def div(p: float, q: float) -> float:
    return fl(Fraction(p) / Fraction(q))


def fma(p: float, q: float, r: float) -> float:
    return fl(Fraction(p) * Fraction(q) + Fraction(r))


def root(p: float) -> float:
    """Correctly rounded binary32 square root: 53 bits of √ never lie on a binary32 tie."""
    return struct.unpack("<f", struct.pack("<f", math.sqrt(p)))[0]


def dot(p: Vector, q: Vector) -> float:
    lanes = [0.0] * 16
    for j in range(0, len(p), 16):
        lanes = [fma(p[j + i], q[j + i], lanes[i]) for i in range(16)]
    for m in (8, 4, 2, 1):
        lanes = [add(lanes[i], lanes[i + m]) for i in range(m)]
    return lanes[0]


def words(seed: int):  # type: ignore[no-untyped-def]
    z = seed
    while True:
        z = (z + 0x9E3779B97F4A7C15) & MASK
        y = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        y = ((y ^ (y >> 27)) * 0x94D049BB133111EB) & MASK
        yield y ^ (y >> 31)


def ordering(key_dim: int, seed: int) -> tuple[list[int], list[int]]:
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


@dataclass
class Twin:
    dim: int
    rank: int
    rule: int
    ridge: float
    M: list[Vector] = field(init=False)
    P: list[Vector] = field(init=False)
    U: list[Vector] = field(init=False)

    def __post_init__(self) -> None:
        self.M = [[0.0] * self.rank for _ in range(self.dim)]
        self.prior = div(1.0, self.ridge)
        self.P = [[self.prior * (i == j) for j in range(self.rank)] for i in range(self.rank)]
        self.U, self.sigma, self.a, self.b, self.h = [], [], 1.0, 0.0, 0.0

    def write(self, x: Vector, v: Vector, alpha: float, beta: float) -> None:
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
        g = [mul(div(beta, q), xj) for xj in x] if self.rule == 1 else self.gain(x, beta, q)
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

    def folded(self) -> list[Vector]:
        P = [[mul(self.a, p) for p in row] for row in self.P]
        for i in range(self.rank):
            P[i][i] = add(P[i][i], self.b)
        for u, sigma in zip(self.U, self.sigma, strict=True):
            P = [[fma(-sigma * u[i], u[j], P[i][j]) for j in range(self.rank)] for i in range(self.rank)]
        return P

    def forget(self, keys: list[Vector]) -> None:
        S = self.folded() if self.rule == 2 else [[float(i == j) for j in range(self.rank)] for i in range(self.rank)]
        whole = [dot(x, [dot(row, x) for row in S]) for x in keys]
        for x, p in zip(keys, whole, strict=True):
            w = [dot(row, x) for row in S]
            s = dot(x, w)
            if not s > mul(2.0**-20, p):
                continue
            u = [div(wi, root(s)) for wi in w]
            S = [[fma(-u[i], u[j], S[i][j]) for j in range(self.rank)] for i in range(self.rank)]
            self.step(x, [0.0] * self.dim, [div(wj, s) for wj in w])

    def expand(self, rank: int) -> None:
        P, old = self.folded(), self.rank
        new = struct.unpack("<f", struct.pack("<f", 1.0 / (self.ridge + self.h / old)))[0]
        self.P = [[P[i][j] if i < old and j < old else new * (i == j) for j in range(rank)] for i in range(rank)]
        self.M = [row + [0.0] * (rank - old) for row in self.M]
        self.rank, self.U, self.sigma, self.a, self.b = rank, [], [], 1.0, 0.0


def same(twin: Twin, state: MatrixState) -> None:
    assert state.matrix.tolist() == twin.M
    if state.gain is None:
        return
    gain = state.gain
    assert gain.pbar.tolist() == twin.P
    assert gain.u[: gain.count].tolist() == twin.U
    assert [-1 if gain.signs >> k & 1 else 1 for k in range(gain.count)] == twin.sigma
    assert (gain.scale, gain.leak, gain.gram_trace) == (twin.a, twin.b, twin.h)
    assert not gain.u[gain.count :].any() and gain.signs >> gain.count == 0
    assert np.array_equal(gain.pbar.view(np.uint32), gain.pbar.T.copy().view(np.uint32))


def programme(seed: int, n: int, key_dim: int, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    keys = (random.standard_normal((n, key_dim)) * np.exp2(random.integers(-4, 4, (n, 1)))).astype(np.float32)
    values = random.standard_normal((n, dim)).astype(np.float32)
    keys[4] = 0
    values[6] *= np.float32(2.0**-140)
    decay = np.where(random.random(n) < 0.3, random.uniform(0.5, 1, n), 1).astype(np.float32)
    return keys, values, decay, np.exp2(random.uniform(-8, 0, n)).astype(np.float32)


@pytest.mark.parametrize(("key_dim", "rank", "seed"), [(16, 16, 0), (24, 16, 7), (100, 96, 2**64 - 1), (64, 64, 1)])
@pytest.mark.parametrize("level", dispatch.available_levels())
def test_a6_a7_phi_is_what_the_spec_says(level: str, key_dim: int, rank: int, seed: int) -> None:
    parameters = Parameters(1, key_dim, rank, seed=seed)
    random = np.random.default_rng(key_dim)
    keys = (random.standard_normal((2, key_dim)) * np.exp2(random.integers(-90, 9, (2, key_dim)))).astype(np.float32)
    with dispatch.forced(level):
        found = kernel.project(keys, parameters)
    assert found.tolist() == [phi(key.tolist(), rank, seed) for key in keys]


@pytest.mark.parametrize("rule", list(Rule))
@pytest.mark.parametrize("level", dispatch.available_levels())
def test_a11_a12_a13_a14_a16_a17_a18_a20_the_state_is_what_the_spec_says(level: str, rule: Rule) -> None:
    ridge = float(np.float32(0.3)) if rule is Rule.PRECONDITIONED else 2.0**-6  # P₀ not a power of two
    parameters = Parameters(3, 32, 16, rule, Projection.HADAMARD, 3, ridge)
    keys, values, decay, gate = programme(int(rule), 21, 32, 3)
    twin, state = Twin(3, 16, rule, parameters.ridge), empty_state(parameters)
    with dispatch.forced(level):
        x = kernel.project(keys, parameters)
        for i in range(len(x)):
            twin.write(x[i].tolist(), values[i].tolist(), float(decay[i]), float(gate[i]))
        kernel.write(state, x, values, decay, gate)
        same(twin, state)
        if rule is Rule.PRECONDITIONED:
            taken = 0
            for i in (20, 19, 4, 18):
                try:
                    kernel.unlearn(state, x[i], values[i], gate[i])
                except GateError:  # a decayed pair cannot always be taken out
                    continue
                twin.write(x[i].tolist(), values[i].tolist(), 1.0, -float(gate[i]))
                taken += 1
            assert taken >= 3
            same(twin, state)
            assert kernel.inverse_gram(state).tolist() == twin.folded()
        kernel.forget(state, x[[1, 2, 2]])
        twin.forget([x[i].tolist() for i in (1, 2, 2)])
        same(twin, state)
        if rule is Rule.PRECONDITIONED:
            state = kernel.expand(state, 32)
            twin.expand(32)
            same(twin, state)
            longer = kernel.project(keys[:2], state.parameters)
            kernel.write(state, longer, values[:2], 1.0, gate[:2])
            for i in range(2):
                twin.write(longer[i].tolist(), values[i].tolist(), 1.0, float(gate[i]))
            same(twin, state)
            assert kernel.recall(state, longer).tolist() == [
                [dot(row, key) for row in twin.M] for key in longer.tolist()
            ]
