"""The exact FMA and dot product in NumPy, held against rational arithmetic (rules A-2 to A-4).

Red when: `add_exact_product` stops repairing doubtful sums (the tie tests), forgets subnormal results (the subnormal
tests), repairs towards the wrong side (the Hypothesis test), or `dot_rows` folds in another order (the dot tests).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emm.kernel.fma import dot, dot_rows, fma

ROOT = Path(__file__).parent.parent.parent


def round32(exact: Fraction) -> float:
    """The binary32 number nearest to an exact one, ties to even; infinity beyond the largest."""
    if exact == 0:
        return 0.0
    sign, size = (-1, -exact) if exact < 0 else (1, exact)
    exponent = max(size.numerator.bit_length() - size.denominator.bit_length() - 24, -150)
    unit = Fraction(2) ** exponent
    while size / unit >= 1 << 24 or exponent < -149:
        exponent, unit = exponent + 1, unit * 2
    whole, rest = divmod(size, unit)
    if rest * 2 > unit or (rest * 2 == unit and whole % 2):
        whole += 1
    result = whole * unit
    return sign * (float(result) if result < Fraction(2) ** 128 else float("inf"))


def exact_fma(a: float, b: float, c: float) -> float:
    return round32(Fraction(a) * Fraction(b) + Fraction(c))


def check(a: float, b: float, c: float) -> None:
    with np.errstate(all="ignore"):
        found = float(fma(np.float32(a), np.float32(b), np.float32(c)))
    assert found == exact_fma(a, b, c), (a.hex(), b.hex(), c.hex(), found.hex())


def test_a3_plain_float64_would_round_twice_here() -> None:
    a, b, c = 2.0**-12 * (1 + 2.0**-23), 2.0**-12 * (1 - 2.0**-23), 1 + 2.0**-23
    assert np.float32(a * b + c) != np.float32(c)  # the trap
    assert float(fma(np.float32(a), np.float32(b), np.float32(c))) == c


@pytest.mark.parametrize("sign_product", [1, -1])
@pytest.mark.parametrize("sign_addend", [1, -1])
@pytest.mark.parametrize("shift", [-60, -30, -24, -13, -12, 0, 7])
def test_a3_products_just_beside_a_tie(sign_product: int, sign_addend: int, shift: int) -> None:
    for tiny in (2.0**-23, -(2.0**-23), 0.0):
        for odd in range(4):
            c = sign_addend * (1 + odd * 2.0**-23)
            half = 2.0**-24  # of the last place of c
            check(sign_product * half * 2.0**shift * (1 + tiny), 2.0**-shift * (1 - tiny), c)
            check(sign_product * half / 2 * (1 + tiny), 2 * (1 + tiny), c)


@pytest.mark.parametrize("last", [0, 1, 2, 3])
def test_a3_ties_between_subnormal_results(last: int) -> None:
    step = 2.0**-149
    for tiny in (0.0, 2.0**-23, -(2.0**-24)):
        check(2.0**-75 * (1 + tiny), 2.0**-75, last * step)  # half a step, or just beside it
        check(-(2.0**-75) * (1 + tiny), 2.0**-75, last * step)
        check(2.0**-64 * (1 + tiny), 2.0**-86 * 3, 2.0**-127 + last * step)


finite32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
near_one = st.integers(0, 7).flatmap(lambda k: st.integers(-30, 30).map(lambda e: (1 + k * 2.0**-23) * 2.0**e))


@settings(max_examples=400, deadline=None)
@given(finite32, finite32, finite32)
def test_a3_any_three_numbers(a: float, b: float, c: float) -> None:
    check(a, b, c)


@settings(max_examples=400, deadline=None)
@given(near_one, near_one, near_one, st.booleans())
def test_a3_numbers_with_few_bits_meet_ties_often(a: float, b: float, c: float, minus: bool) -> None:
    check(-a if minus else a, b, c)


def test_a3_arrays_repair_every_element() -> None:
    c = np.float32(1) + np.arange(64, dtype=np.float32) * np.float32(2.0**-23)
    a = np.full(64, 2.0**-12 * (1 + 2.0**-23), np.float32)
    b = np.full(64, 2.0**-12 * (1 - 2.0**-23), np.float32)
    assert fma(a, b, c).tolist() == [exact_fma(float(x), float(y), float(z)) for x, y, z in zip(a, b, c, strict=True)]


def test_a3_overflow_becomes_infinity_of_the_right_sign() -> None:
    big = np.float32(3e38)
    with np.errstate(all="ignore"):
        assert fma(big, big, np.float32(-1)) == np.inf
        assert fma(big, -big, np.float32(1)) == -np.inf
        assert fma(np.float32(1), np.float32(1), np.float32(-np.inf)) == -np.inf


def slow_dot(p: list[float], q: list[float]) -> float:
    lanes = [0.0] * 16
    for j in range(0, len(p), 16):
        for i in range(16):
            lanes[i] = exact_fma(p[j + i], q[j + i], lanes[i])
    for m in (8, 4, 2, 1):
        lanes = [round32(Fraction(lanes[i]) + Fraction(lanes[i + m])) for i in range(m)]
    return lanes[0]


def test_a4_dot_keeps_sixteen_lanes_and_folds_by_halves() -> None:
    random = np.random.default_rng(4)
    for n in (16, 48, 160):
        rows = (random.standard_normal((5, n)) * np.exp2(random.integers(-12, 12, (5, n)))).astype(np.float32)
        x = random.standard_normal(n).astype(np.float32)
        expected = [slow_dot(row.tolist(), x.tolist()) for row in rows]
        assert dot_rows(rows, x).tolist() == expected
        assert float(dot(rows[0], x)) == expected[0]


def test_a4_sums_in_another_order_differ() -> None:
    """The numbers above must be able to tell orders apart, else the test before this one proves nothing."""
    random = np.random.default_rng(4)
    p, q = random.standard_normal((2, 160)).astype(np.float32)
    straight = np.float32(0)
    for a, b in zip(p, q, strict=True):
        straight = fma(a, b, straight)[()]
    assert float(straight) != slow_dot(p.tolist(), q.tolist())


FLUSHING = """
import ctypes, sys
import numpy as np
switch = ctypes.CDLL(sys.argv[1])
switch.flush()
from emm.errors import EmmError
from emm.kernel import dispatch
from emm.state import Parameters, empty_state
from emm.layout import Rule
key = np.full((1, 16), 2.0**-100, np.float32)
value = np.full((1, 4), 2.0**-120, np.float32)
for level in dispatch.available_levels():
    with dispatch.forced(level):
        state = empty_state(Parameters(4, 16, 16, Rule.OUTER_PRODUCT))
        try:
            dispatch.write(state, np.full((1, 16), 2.0**-20, np.float32), value)
        except EmmError as error:
            assert level == "reference" and error.rule == "A-2", (level, error)
        else:
            assert level != "reference"
            assert int(state.matrix.view(np.uint32)[0, 0]) == 1 << 9, level  # 2**-140, a subnormal number
    assert switch.flushes() == 1, level  # the caller's own setting is given back
print("held")
"""


def test_a2_flush_to_zero_in_the_process_changes_no_bit(tmp_path: Path) -> None:
    """Red when an entry of the C kernel stops setting MXCSR/FPCR, or does not restore it, or the NumPy check goes."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler to switch flush-to-zero on")
    source = tmp_path / "flush.c"
    source.write_text(
        "#if defined(__x86_64__)\n#include <immintrin.h>\n"
        "void flush(void) { _mm_setcsr(_mm_getcsr() | 0x8040); }\n"
        "int flushes(void) { return (_mm_getcsr() & 0x8040) == 0x8040; }\n"
        "#else\n#include <stdint.h>\n"
        'void flush(void) { uint64_t one = 1u << 24; __asm__ volatile("msr fpcr, %0" : : "r"(one)); }\n'
        'int flushes(void) { uint64_t now; __asm__ volatile("mrs %0, fpcr" : "=r"(now)); return now >> 24 & 1; }\n'
        "#endif\n"
    )
    library = tmp_path / "flush.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", str(source), "-o", str(library)], check=True)
    done = subprocess.run(
        [sys.executable, "-c", FLUSHING, str(library)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "held", done.stderr
