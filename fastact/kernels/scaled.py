"""e^-t, log(1 + e^-t) and 1 / (1 + e^-t) for t >= 0, as pairs multiplied by a large power of two.

The factor keeps every intermediate value, low parts included, away from the subnormal numbers
however small the result is. A caller takes it out in his last multiplication: a subnormal result is
rounded once more there and nowhere else. It also leaves room for a division by a parameter.

One source for float32 and float64; what differs is in `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from fastact.kernels.exp64 import exp_step_parts64
from fastact.kernels.language import bits, by_dtype, fabs, fma, from_bits, kernel, lookup, select
from fastact.kernels.polynomials import polynomial

__all__ = [
    "Format",
    "clamp_minus_fabs",
    "exp_scaled",
    "factor_scaled",
    "format_of",
    "log1p_exp_scaled",
    "logistic_scaled",
    "power_of_two",
    "reciprocal_scaled",
    "reciprocal_square_scaled",
    "split_exponent",
    "times_sign",
]

Lanes = Any


@dataclass(frozen=True)
class Format:
    """What depends on the dtype."""

    digits: int  # explicit bits of the mantissa
    bias: int  # of the exponent
    scale: int  # the exponent of the power of two that results are multiplied by
    limit: float  # e^-limit times that power is still a normal float
    zero_from: float  # beyond, e^-x is so far below the numbers that the CPU makes it 0 without a pause
    least: float  # w = least instead of a smaller one does not show in log(1 + w)/w, and w^4 is normal
    largest: float  # finite float

    @property
    def up(self) -> float:
        return 2.0**self.scale

    @property
    def down(self) -> float:
        return 2.0**-self.scale


FORMATS = {
    32: Format(23, 127, 124, 173.0, 120.0, 2.0**-31, float.fromhex("0x1.fffffep127")),
    64: Format(52, 1023, 1000, 1300.0, 780.0, 2.0**-62, float.fromhex("0x1.fffffffffffffp1023")),
}


def format_of(x: Lanes) -> Format:
    """The format of the lanes `x`."""
    return FORMATS[x.width]


# (2 atanh(q/2) - q) / q^3 in z = q^2 <= 4/9, by tools/polynomials/scaled.py: log1p to 2^-33 and
# 2^-64.5 relative.
ATANH_TAIL = {
    32: (
        0.0833333432674408,
        0.01249967236071825,
        0.0022355541586875916,
        0.0004188553139101714,
        0.0001183552885777317,
    ),
    64: (
        0.08333333333333334,
        0.012499999999998557,
        0.002232142857213559,
        0.0004340277761135241,
        8.877843142168006e-05,
        1.8779861947378e-05,
        4.0700168596747975e-06,
        8.939933055945701e-07,
        2.0906426359328038e-07,
        3.355308729583414e-08,
        1.9550887743205973e-08,
    ),
}

POWERS_SCALED = tuple(UNSCALE * 2.0**124 * power for power in POWERS)


@kernel
def times_sign(x: Lanes, sign: Lanes) -> Lanes:
    """x, negated where the sign bit of `sign` is set."""
    f = format_of(x)
    return from_bits(bits(x) ^ (bits(sign) & (1 << (f.digits + f.bias.bit_length() + 1))))


@kernel
def clamp_minus_fabs(x: Lanes) -> Lanes:
    """-|x|, but not below -zero_from."""
    limit = -format_of(x).zero_from
    x = -fabs(x)
    return select(limit > x, limit, x)


@kernel
def exp_scaled32(
    a: Lanes,
    low: Lanes,
    lift: Lanes = 0,
    powers: Sequence[float] = POWERS_SCALED,
    powers_low: Sequence[float] = POWERS_LOW,
) -> tuple[Lanes, Lanes]:
    """`exp_scaled`, or what other tables of powers make of it: a multiple."""
    shifted = fma(a, STEPS_PER_LOG, ROUND)
    k = shifted - ROUND
    r = fma(k, -STEP_HIGH, a) + fma(k, -STEP_LOW, low)
    i = bits(shifted)
    s = from_bits(bits(lookup(powers, i)) + (i << 19) + (lift << 23))
    # (1 + e) (1 + r + r^2 P), e the rounding error of s
    e = lookup(powers_low, i)
    m = fma(r, fma(r, fma(r, TAIL[1], TAIL[0]), e), r + e)
    hi = fma(s, m, s)
    return hi, fma(s, m, s - hi)


@kernel
def exp_scaled64(a: Lanes, low: Lanes, lift: Lanes = 0) -> tuple[Lanes, Lanes]:
    s, r, q = exp_step_parts64(a, low, FORMATS[64].up)
    s = from_bits(bits(s) + (lift << 52))
    m = r + q
    hi = fma(s, m, s)
    return hi, fma(s, m, s - hi)


exp_scaled = by_dtype(exp_scaled32, exp_scaled64)
"""2^(scale + lift) e^(a + low) as a normal pair, for |low| <= ulp(a). Relative error 2^-28 and 2^-55.

With lift = 0, the default, for -limit <= a <= 0; for the positive arguments of celu's derivatives
it is lift = -1.5 scale.
16 operations in float32.
"""


@kernel
def log1p_exp_scaled(hi: Lanes, lo: Lanes) -> tuple[Lanes, Lanes]:
    """2^scale log(1 + w) as an unevaluated sum, for w = 2^-scale (hi + lo) in [0, 1].

    log(1 + w) = 2 atanh(q / 2) with q = w / (1 + w/2), so the leading term is a quotient with its
    remainder and only the small rest is rounded: relative error 2^-28. One division, 21 operations.
    """
    f = format_of(hi)
    down, least = f.down, f.up * f.least
    # From here to z a small w is replaced by `least`, lest a subnormal z or z^2 cost a hundred cycles.
    w = select(least > hi, least, hi)
    d = fma(w, 0.5 * down, 1.0)
    d_low = fma(lo, 0.5 * down, fma(w, 0.5 * down, 1.0 - d))
    q = hi / d
    rest = fma(-q, d_low, fma(-q, d, hi) + lo)
    q1 = select(least > q, least, q) * down
    q_low = fma(rest * -0.5, q1, rest)  # rest / d, because 1/d = 1 - q/2
    z = q1 * q1
    return q, fma(q * z, polynomial(z, ATANH_TAIL[hi.width]), q_low)


@kernel
def logistic_scaled(positive: Lanes, hi: Lanes, lo: Lanes) -> tuple[Lanes, Lanes]:
    """2^scale / (1 + w) where the mask is set, 2^scale w / (1 + w) elsewhere, as an unevaluated sum.

    w as in `log1p_exp_scaled`; with w = e^-|p| and the mask p > 0 it is the sigmoid of p. One
    division, 14 operations.
    """
    f = format_of(hi)
    d = fma(hi, f.down, 1.0)
    d_low = fma(lo, f.down, fma(hi, f.down, 1.0 - d))
    numerator = select(positive, f.up, hi)
    q = numerator / d
    rest = fma(-q, d_low, fma(-q, d, numerator) + select(positive, 0.0, lo))
    # 1/d is the quotient itself, or 1 minus it
    inverse = q * f.down
    return q, rest * select(positive, inverse, 1.0 - inverse)


# --- division by a parameter. Where that is a scalar, all of this is done once a call.


def power_of_two(exponent: Lanes, f: Format) -> Lanes:
    """2^exponent for an int lane, 0 or infinity where that is out of range."""
    field = exponent + f.bias
    field = select(field < 0, 0, select(field > 2 * f.bias + 1, 2 * f.bias + 1, field))
    return from_bits(field << f.digits)


@kernel
def split_exponent(b: Lanes) -> tuple[Lanes, Lanes]:
    """|b| = mantissa * 2^exponent with 1 <= mantissa < 2, for every finite b but 0; the exponent is an int lane."""
    f = format_of(b)
    b = fabs(b)
    tiny = b < 2.0 ** (60 - f.bias)
    i = bits(select(tiny, b * 2.0**60, b))
    fraction = i & ((1 << f.digits) - 1)
    exponent = (i >> f.digits) - f.bias
    return from_bits(fraction | (f.bias << f.digits)), select(tiny, exponent - 60, exponent)


@kernel
def factor_scaled(b: Lanes) -> tuple[Lanes, Lanes]:
    """2^-scale * b as c * s, s a power of two: the scaled values of this module times c, and times s, stay in range."""
    f = format_of(b)
    _, exponent = split_exponent(b)
    part = -(f.scale // 2) - (exponent - (exponent >> 1))
    part = select(part > 2, 2, part)
    return b * power_of_two(part, f), power_of_two(-f.scale - part, f)


@kernel
def reciprocal_scaled(b: Lanes) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    """2^-scale / |b| as (hi + lo) * s, and 1/s, a power of two, for every finite b; infinite for b = 0.

    The scaled values of this module times hi + lo stay in range, and so does that times s, unless
    it is too large or too small for a float.
    """
    f = format_of(b)
    mantissa, exponent = split_exponent(b)
    y = 1.0 / mantissa
    part = exponent >> 1
    part = select(part < -(f.scale // 2), -(f.scale // 2), part)
    down = power_of_two(-(f.scale // 2) - part, f)
    rest = f.scale - f.scale // 2 + exponent - part
    return y * down, fma(-y, mantissa, 1.0) * y * down, power_of_two(-rest, f), power_of_two(rest, f)


@kernel
def reciprocal_square_scaled(b: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """2^-scale / b^2 as (hi + lo) * s, s a power of two; as `reciprocal_scaled`."""
    f = format_of(b)
    mantissa, exponent = split_exponent(b)
    y = 1.0 / mantissa
    y_low = fma(-y, mantissa, 1.0) * y
    half = f.scale // 2
    part = select(exponent < -half, -half, select(exponent > half, half, exponent))
    down = power_of_two(-half - part, f)
    square = y * y
    square_low = fma(y + y, y_low, fma(y, y, -square))
    return square * down, square_low * down, power_of_two(part - half - exponent - exponent, f)
