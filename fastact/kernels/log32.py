"""log(1 + e^-t) for float32 lanes, and the scaling by a parameter that goes with it.

The exponential of a non-positive number comes from the parts of `fastact.kernels.exp32`, multiplied
by 2^124 instead of 2^-64. That factor keeps every intermediate value, low parts included, away from
the subnormal numbers however small the result is; a caller takes it out in his last multiplication,
so that a subnormal result is rounded once more there and nowhere else.
"""

from __future__ import annotations

from typing import Any

from fastact.kernels.exp32 import (
    POWERS,
    POWERS_LOW,
    ROUND,
    STEP_HIGH,
    STEP_LOW,
    STEPS_PER_LOG,
    TAIL,
    UNSCALE,
)
from fastact.kernels.language import bits, fabs, fma, from_bits, kernel, lookup, select

__all__ = [
    "LARGEST_EXPONENT",
    "TWO_124",
    "TWO_MINUS_124",
    "exp_scaled32",
    "log1p_exp32",
    "logistic_scaled32",
    "reciprocal_scaled32",
    "reciprocal_square_scaled32",
]

Lanes = Any

# Down to e^-LARGEST_EXPONENT times 2^124 is a normal float.
LARGEST_EXPONENT = 173.0

TWO_124 = 2.0**124
TWO_MINUS_124 = 2.0**-124
TWO_MINUS_125 = 2.0**-125

POWERS_124 = tuple(UNSCALE * TWO_124 * power for power in POWERS)

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
    """2^124 e^(a + low) as a normal pair, for -LARGEST_EXPONENT <= a <= 0, |low| <= ulp(a).

    Relative error 2^-28. 16 operations.
    """
    shifted = fma(a, STEPS_PER_LOG, ROUND)
    k = shifted - ROUND
    r = fma(k, -STEP_HIGH, a) + fma(k, -STEP_LOW, low)
    i = bits(shifted)
    j = i & 15
    s = from_bits(bits(lookup(POWERS_124, j)) + (i << 19))
    m = fma(r * r, fma(r, TAIL[1], TAIL[0]), r + lookup(POWERS_LOW, j))
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


@kernel
def reciprocal_square_scaled32(b: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """2^-124 / b^2 as (hi + lo) * scale, as in `reciprocal_scaled32`."""
    m, e = split_exponent32(b)
    y = 1.0 / m
    y_low = fma(-y, m, 1.0) * y
    part = select(e < -64, -64, select(e > 64, 64, e))
    # 1/m^2 times 2^-(62 + part) and 2^-(62 + 2 e - part)
    down = from_bits((65 - part) << 23)
    field = 65 - (e + e - part)
    scale = from_bits(select(field < 0, 0, select(field > 255, 255, field)) << 23)
    square = y * y
    return square * down, fma(y + y, y_low, fma(y, y, -square)) * down, scale
