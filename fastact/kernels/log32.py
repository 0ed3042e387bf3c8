"""log(1 + e^-t) for float32 lanes, and the scaling by a parameter that goes with it.

The exponential e^a of a non-positive `a` is kept as S(1 + m): S = 2^(n + 124), an exact power of
two, and |m| < 0.42. The factor 2^124 keeps every intermediate value, low parts included, away from
the subnormal numbers however small the result is; a caller takes it out in his last multiplication,
so that a subnormal result is rounded once more there and nowhere else.
"""

from __future__ import annotations

from typing import Any

from fastact.kernels.language import bits, fabs, fma, from_bits, kernel, select

__all__ = [
    "LARGEST_EXPONENT",
    "TWO_MINUS_124",
    "exp_scaled32",
    "log1p_exp32",
    "logistic_scaled32",
    "reciprocal_scaled32",
]

Lanes = Any

LOG2E = 1.4426950408889634
# 15 bits, so that n * LN2_HI is exact for |n| < 512, and what they leave out.
LN2_HI = float.fromhex("0x1.62e4p-1")
LN2_LO = float.fromhex("0x1.7f7d1cf79abcap-20")

# Adding this rounds to an integer n and leaves n + 251, the biased exponent of 2^(n + 124), in the
# low bits of the sum.
ROUND_BIASED = 12582912.0 + 251.0

# Up to here n >= -251; there the biased exponent is 0, which is the float 0.
LARGEST_EXPONENT = 173.9

TWO_124 = 2.0**124
TWO_MINUS_124 = 2.0**-124
TWO_MINUS_125 = 2.0**-125

# (e^r - 1 - r) / r^2 on |r| <= 0.347, by tools/polynomials/log32.py: e^r to 2^-28 relative.
EXP_TAIL = (
    0.4999999701976776,
    0.1666654646396637,
    0.04166743531823158,
    0.008366277441382408,
    0.001387071213684976,
)

# (2 atanh(q/2) - q) / q^3 in z = q^2 <= 4/9, by the same: log1p to 2^-33 relative.
ATANH_TAIL = (
    0.0833333432674408,
    0.01249967236071825,
    0.0022355541586875916,
    0.0004188553139101714,
    0.0001183552885777317,
)


@kernel
def exp_scaled32(a: Lanes, low: Lanes) -> tuple[Lanes, Lanes]:
    """2^124 e^(a + low) as an unevaluated sum (hi, lo), for -LARGEST_EXPONENT <= a <= 0, |low| < 2^-18.

    Relative error 2^-26. 17 operations.
    """
    t = fma(a, LOG2E, ROUND_BIASED)
    n = t - ROUND_BIASED
    rest = fma(n, -LN2_LO, low)
    r0 = fma(n, -LN2_HI, a)  # exact
    r = r0 + rest
    r2 = r * r
    p = fma(r2, EXP_TAIL[4], fma(r, EXP_TAIL[3], EXP_TAIL[2]))
    p = fma(r2, p, fma(r, EXP_TAIL[1], EXP_TAIL[0]))
    m = r0 + fma(r2, p, rest)  # the rounding of r is left out
    s = from_bits(bits(t) << 23)
    hi = fma(s, m, s)
    return hi, fma(s, m, s - hi)


@kernel
def log1p_exp32(hi: Lanes, lo: Lanes) -> tuple[Lanes, Lanes]:
    """2^124 log(1 + w) as an unevaluated sum, for w = 2^-124 (hi + lo) in [0, 1]. Relative error 2^-28.

    log(1 + w) = 2 atanh(q / 2) with q = w / (1 + w/2). One division and 17 operations.
    """
    d = fma(hi, TWO_MINUS_125, 1.0)
    d_low = fma(lo, TWO_MINUS_125, fma(hi, TWO_MINUS_125, 1.0 - d))
    q = hi / d
    rest = fma(-q, d_low, fma(-q, d, hi) + lo)
    q1 = q * TWO_MINUS_124
    # rest / d, with 1/d = 1 - q/2
    q_low = fma(rest * -0.5, q1, rest)
    z = q1 * q1
    z2 = z * z
    p = fma(z2, ATANH_TAIL[4], fma(z, ATANH_TAIL[3], ATANH_TAIL[2]))
    p = fma(z2, p, fma(z, ATANH_TAIL[1], ATANH_TAIL[0]))
    return q, fma(q * z, p, q_low)


@kernel
def logistic_scaled32(p: Lanes, hi: Lanes, lo: Lanes) -> tuple[Lanes, Lanes]:
    """2^124 / (1 + w) where p > 0, else 2^124 w / (1 + w), as an unevaluated sum; w as in log1p_exp32.

    With w = e^-|p| that is 2^124 sigmoid(p). Relative error 2^-26. One division and 14 operations.
    """
    d = fma(hi, TWO_MINUS_124, 1.0)
    d_low = fma(lo, TWO_MINUS_124, fma(hi, TWO_MINUS_124, 1.0 - d))
    positive = p > 0.0
    numerator = select(positive, TWO_124, hi)
    q = numerator / d
    rest = fma(-q, d_low, fma(-q, d, numerator) + select(positive, 0.0, lo))
    # 1/d is the quotient itself, or 1 minus it
    inverse = q * TWO_MINUS_124
    inverse = select(positive, inverse, 1.0 - inverse)
    return q, rest * inverse


@kernel
def split_exponent32(b: Lanes) -> tuple[Lanes, Lanes]:
    """b = mantissa * 2^exponent with 1 <= |mantissa| < 2, for every finite b but 0; exponent is an int lane."""
    tiny = fabs(b) < 2.0**-100
    b = select(tiny, b * 2.0**100, b)
    i = bits(b)
    mantissa = from_bits((i & 0x807FFFFF) | 0x3F800000)
    exponent = ((i >> 23) & 255) - 127
    return mantissa, select(tiny, exponent - 100, exponent)


@kernel
def reciprocal_scaled32(b: Lanes) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    """2^-124 / |b| as (hi + lo) * scale, and 1 / scale, a power of two, for every finite b.

    A scaled value times hi + lo stays in range, and so does that times scale, unless it is too
    large or too small for a float. All of this is done once a call where b is a scalar.
    """
    m, e = split_exponent32(fabs(b))
    y = 1.0 / m
    half = e >> 1
    half = select(half < -64, -64, half)
    # y * 2^-(62 + half) and 2^-(62 + e - half)
    down = from_bits((65 - half) << 23)
    scale = from_bits((65 - e + half) << 23)
    unscale = from_bits((189 + e - half) << 23)
    return y * down, fma(-y, m, 1.0) * y * down, scale, unscale
