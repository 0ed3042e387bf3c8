"""Exponentials for float64 lanes: e^x as a power of two and a mantissa, and what they are good for.

The argument is reduced by n = round(x / ln 2) to |r| <= ln 2 / 2. Where pairs are wanted, e^r is kept
as 1 + (r + q): `r` is the rounded reduced argument, `q` holds its rounding error and the rest of the
series, and nothing is lost until a caller rounds the sum. Where one float is enough, it is 1 + m.
The power of two is handed out as the bits of n, because the smallest results need it in two factors:
the first is 2^64 too large, so that it never underflows.

The `lo` of an argument may be left out; it is the rounding error of a product such as beta x, at most
about an ULP of `hi`. Every block of parts wants a clamped argument: outside [-750, 710] the bits of n
overflow. A NaN stays a NaN through every block.
"""

from __future__ import annotations

from typing import Any

from fastact.kernels.exp32 import clamp_above, clamp_below
from fastact.kernels.language import bits, copysign, fabs, fma, from_bits, kernel, select
from fastact.kernels.pairs import renormalise
from fastact.kernels.polynomials import polynomial

__all__ = [
    "TWO_MINUS_64",
    "exp64",
    "exp_fast64",
    "exp_mantissa64",
    "exp_parts64",
    "expm1_64",
    "expm1_pair64",
    "power_of_two64",
    "power_of_two_up64",
    "scale64",
    "scale_down64",
    "tanh64",
]

Lanes = Any

LOG2E = 1.4426950408889634
LN2_HI = float.fromhex("0x1.62e42fefa39efp-1")
LN2_LO = float.fromhex("0x1.abc9e3b39803fp-56")

# Adding this rounds to an integer, and leaves the biased exponent n + 1023 in the sum's low bits.
ROUND_BIASED = 1.5 * 2.0**52 + 1023.0

TWO_MINUS_64 = 2.0**-64

# (e^r - 1 - r) / r^2 on |r| <= ln(2)/2, by tools/polynomials/exp64.py: e^r to 2^-57.36 relative.
EXP_TAIL = (
    0.5,
    0.16666666666666433,
    0.04166666666660407,
    0.008333333333500352,
    0.0013888888926750944,
    0.00019841269465681834,
    2.4801508740156036e-05,
    2.7557641307857137e-06,
    2.762516367608428e-07,
    2.4978236779931708e-08,
)


@kernel
def exp_parts64(hi: Lanes, lo: Lanes = None) -> tuple[Lanes, Lanes, Lanes]:
    """e^(hi + lo) as (i, r, q): 2^n (1 + (r + q)), with n + 1023 in the low 12 bits of i.

    For hi in [-750, 710] and |lo| <= 2^-30. |r| <= 0.34658, -2^-54 <= q < 0.07, relative error of
    1 + (r + q): 2^-55. Where n = 0 and lo = 0, r is the argument itself. 20 operations.
    """
    t = fma(hi, LOG2E, ROUND_BIASED)
    n = t - ROUND_BIASED
    # Exact: n * LN2_HI ends at 2^-53, and the difference is below 1/2.
    high = fma(n, -LN2_HI, hi)
    rest = n * -LN2_LO if lo is None else fma(n, -LN2_LO, lo)
    r = high + rest
    e = (high - r) + rest
    # e^(r + e) = e^r + e (1 + r) + ..., and e is below 2^-55.
    return bits(t), r, fma(r, fma(r, polynomial(r, EXP_TAIL), e), e)


@kernel
def exp_fast64(hi: Lanes, lo: Lanes = None) -> tuple[Lanes, Lanes]:
    """e^(hi + lo) as (i, m): 2^n (1 + m), with n + 1023 in the low 12 bits of i; as `exp_parts64`.

    -0.2931 <= m <= 0.4143 with an absolute error of 2^-54.1, so e^x rounded to one float is within
    1.03 ULP: enough where nothing cancels afterwards. 16 operations.
    """
    t = fma(hi, LOG2E, ROUND_BIASED)
    n = t - ROUND_BIASED
    high = fma(n, -LN2_HI, hi)
    r = fma(n, -LN2_LO, high) if lo is None else high + fma(n, -LN2_LO, lo)
    return bits(t), fma(r * r, polynomial(r, EXP_TAIL), r)


@kernel
def exp_mantissa64(r: Lanes, q: Lanes) -> tuple[Lanes, Lanes]:
    """1 + (r + q) of `exp_parts64` as a normal pair in [0.707, 1.415], error 2^-55. 7 operations."""
    h = 1.0 + r
    return renormalise(h, (r - (h - 1.0)) + q)


@kernel
def power_of_two64(i: Lanes) -> Lanes:
    """2^n from the `i` of `exp_parts64`, for -1022 <= n <= 1023. 1 operation."""
    return from_bits(i << 52)


@kernel
def power_of_two_up64(i: Lanes) -> Lanes:
    """2^(n + 64) from the `i` of `exp_parts64`, for -1086 <= n <= 959. 2 operations."""
    return from_bits((i + 64) << 52)


@kernel
def scale64(x: Lanes, i: Lanes) -> Lanes:
    """x * 2^n for the `i` of `exp_parts64`, rounded once, for every n it gives. 9 operations."""
    # Half of n + 1023: the left shift drops the bits above the 12 that count.
    half = (i << 52) >> 53
    return x * from_bits((half + 512) << 52) * from_bits((i - half + 511) << 52)


@kernel
def scale_down64(x: Lanes, i: Lanes) -> Lanes:
    """x * 2^n for the `i` of `exp_parts64`, rounded once, for n <= 950. 4 operations."""
    return x * power_of_two_up64(i) * TWO_MINUS_64


@kernel
def exp64(x: Lanes) -> Lanes:
    """e^x for every x: subnormal results, 0 and infinity included. Error 0.77 ULP."""
    x = clamp_below(x, -746.0)
    i, r, q = exp_parts64(clamp_above(x, 710.0))
    h = 1.0 + r
    return scale64(h + ((r - (h - 1.0)) + q), i)


@kernel
def expm1_pair64(hi: Lanes, lo: Lanes = None) -> tuple[Lanes, Lanes]:
    """e^(hi + lo) - 1 as a pair, for -700 <= hi <= 709.

    Relative error 2^-54.5 for hi <= 0, 2^-53.3 above. The low part is up to a fifth of the high one:
    add them, or `renormalise`. For |hi| < 2^-500 the argument itself is the more accurate value.
    """
    i, r, q = exp_parts64(hi, lo)
    s = power_of_two64(i)
    # |s - 1| >= |s r| unless n = 0, when s - 1 = 0: the two sums below lose nothing.
    a = s - 1.0
    lost = s - (a + 1.0)
    h = fma(s, r, a)
    return h, fma(s, q, fma(s, r, a - h) + lost)


@kernel
def expm1_64(x: Lanes) -> Lanes:
    """e^x - 1 for every x, signed zeros, subnormal values and overflow included. Error 1.16 ULP."""
    z = clamp_below(x, -50.0)
    i, r, q = exp_parts64(clamp_above(z, 710.0))
    # As `expm1_pair64`, but halved, because 2^n itself overflows for the largest x.
    s = power_of_two64(i - 1)
    a = s - 0.5
    lost = s - (a + 0.5)
    h = fma(s, r, a)
    y = 2.0 * (h + fma(s, q, fma(s, r, a - h) + lost))
    return select(fabs(x) < 1e-17, x, y)


@kernel
def tanh64(x: Lanes) -> Lanes:
    """tanh x for every x, signed zeros and subnormal values included. Error 0.90 ULP."""
    a = fabs(x)
    a = clamp_above(a, 22.0)
    h, rest = expm1_pair64(-(a + a))
    h, rest = renormalise(h, rest)
    # tanh a = -t / (2 + t) with t = e^-2a - 1; -h - 2 q is exact because |h| <= 2 |q| <= 2 |h|.
    y = 1.0 / (2.0 + h)
    q = -(h * y)
    miss = fma(-q, h, fma(-2.0, q, -h))
    miss = fma(-q, rest, miss - rest)
    return copysign(fma(miss, y, q), x)
