"""The exponential in float32, in parts that lose nothing: what the sigmoid family is made of.

e^x = S (1 + m), S = 2^(k/16) rounded and k an integer, m small. The rounding error of S is part of m, so the parts hold
e^x to 2^-29, and sums such as 1 + e^x = (1 + S) + S m need one exact addition and one fma. A table of 16 powers keeps
|m| < 0.022, so that m's own rounding error is harmless and two coefficients are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastact.kernels.language import bits, fma, kernel, lookup, lookup_power, select, with_places

__all__ = [
    "EXPM1_LOWEST",
    "EXPM1_TAIL",
    "LOG2_E",
    "LOG_HIGH",
    "LOG_LOW",
    "ROOTS",
    "ROUND",
    "ROUND_PARTS",
    "SCALE",
    "STEPS_PER_LOG",
    "STEP_HIGH",
    "STEP_LOW",
    "TAIL_FINE",
    "UNSCALE",
    "clamp_above",
    "clamp_below",
    "exp_parts",
    "power_of_steps",
    "reduced",
]

Lanes = Any

# e^x is held multiplied by this, so that it neither overflows nor becomes subnormal, low parts of it included, for
# -40 <= x <= 130: results that are subnormal take a hundred cycles each.
SCALE = 2.0**-64
UNSCALE = 2.0**64

# tools/polynomials/exp32.py computes everything below.
STEPS_PER_LOG = 23.083120346069336  # 16 / log(2)
STEP_HIGH = 0.043321698904037476  # log(2) / 16
STEP_LOW = -1.1904088825787085e-10
# Adding this to |v| < 2^22 rounds v to an integer and leaves it in the low bits of the sum.
ROUND = 1.5 * 2.0**23

# In whole powers of two instead, of which steps are sixteenths: the same sums, quotients and bits.
LOG2_E, LOG_HIGH, LOG_LOW, ROUND_PARTS = STEPS_PER_LOG / 16, STEP_HIGH * 16, STEP_LOW * 16, ROUND / 16

# e^r - 1 - r = r^2 (TAIL[0] + TAIL[1] r) for |r| < log(2)/32, error 2^-29
TAIL = (0.5000162720680237, 0.16666951775550842)
# The same with an error below 2^-31 |r|, for where e^r - 1 alone decides the result.
TAIL_FINE = (0.5, 0.16666992008686066, 0.04166717082262039)
# (e^r - 1 - r) / r^2, by tools/polynomials/expm1_32.py: e^r - 1 to 2^-31.5 relative.
EXPM1_TAIL = (0.5, 0.16666992008686066, 0.04166721552610397)
EXPM1_LOWEST = -28.0  # e^x is less than a thousandth of an ULP of 1 below

# 2^(j/16) with j << 19 taken off its bits: adding k << 19, k = 16 n + j, gives 2^n 2^(j/16) without masking k.
# The last two are rounded to 23 bits, so that S - 1 is exact down to S = 2^(14/16) / 4, where swish' wants it.
# fmt: off
_POWERS = (
    1.0, 0.9908868670463562, 0.9827538728713989, 0.9756442904472351,
    0.9696035385131836, 0.9646788835525513, 0.9609197974205017, 0.9583777785301208,
    0.9571067690849304, 0.9571630954742432, 0.9586054086685181, 0.9614951610565186,
    0.9658964276313782, 0.9718760848045349, 0.9795039892196655, 0.9888533353805542,
)
POWERS = tuple(SCALE * power for power in _POWERS)
ROOTS = with_places(POWERS, 32)
# (exact 2^(j/16)) / (the rounded one) - 1
POWERS_LOW = (
    0.0, 4.6285471455576044e-08, -1.199215748926008e-08, 4.7297824323777604e-08,
    3.1934181521364735e-08, 3.621057231839586e-08, -3.0990719324108795e-08, -7.475213337215791e-09,
    1.7114270889351246e-08, -3.047683350132502e-08, 5.233334210430485e-09, 6.10759176566944e-09,
    -1.4719605090363075e-08, -5.258795177098818e-09, 5.887106979685086e-08, -5.710295525318543e-08,
)
# fmt: on


@kernel
def clamp_above(x: Lanes, limit: float | Lanes) -> Lanes:
    """min(x, limit), NaN for NaN: the order of the comparison makes it one instruction on x86."""
    return select(limit < x, limit, x)


@kernel
def clamp_below(x: Lanes, limit: float | Lanes) -> Lanes:
    """max(x, limit), NaN for NaN."""
    return select(limit > x, limit, x)


@kernel
def exp_parts(x: Lanes, low: Lanes | None = None, wraps: bool = False) -> tuple[Lanes, Lanes]:
    """(S, m) with SCALE e^(x + low) = S (1 + m), |m| < 0.022, |low| <= ulp(x); error 2^-29, for -40 <= x <= 130.

    If it `wraps`, S has the right bits for larger x too, but for those of the exponent that do not fit.
    """
    shifted = fma(x, LOG2_E, ROUND_PARTS)
    n = shifted - ROUND_PARTS
    # n LOG_HIGH is a multiple of 2^-28 and so is x unless it is small: the inner fma is exact where it matters.
    r = fma(n, -LOG_LOW, fma(n, -LOG_HIGH, x))
    if low is not None:  # which may be 0, to the last bit
        r = r + low
    power, power_low = power_of_steps(shifted, None if wraps else n)
    # (1 + power_low) (1 + (e^r - 1)) = 1 + power_low + (e^r - 1), but for 2^-31
    return power, _expm1_plus(r, power_low)


@kernel
def reduced(
    x: Lanes, powers: Sequence[float], powers_low: Sequence[float], wraps: bool
) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    """(s, n, r, rest) with x = n log(2) + r, n = m + j/16: s is 2^m times entry j of `powers`, rest that of the other.

    What rounding log(2) costs is left in r. If it `wraps`, s is the same on every CPU where it is no normal number.
    """
    shifted = fma(x, LOG2_E, ROUND_PARTS)
    n = shifted - ROUND_PARTS
    r = fma(n, -LOG_HIGH, x)  # exact where it matters
    i = bits(shifted)
    return lookup_power(powers, i, None if wraps else n), n, r, lookup(powers_low, i)


@kernel
def _expm1_plus(r: Lanes, low: Lanes) -> Lanes:
    """e^r - 1 + low: r is so small that (e^r - 1) / r may be rounded before the product, which saves an operation."""
    return fma(r, fma(r, fma(r, TAIL[1], TAIL[0]), 1.0), low)


@kernel
def power_of_steps(shifted: Lanes, n: Lanes | None = None) -> tuple[Lanes, Lanes]:
    """(S, l) with S (1 + l) = SCALE 2^(k/16), k in the low bits of `shifted`; with n = k/16, S must be normal."""
    i = bits(shifted)
    return lookup_power(ROOTS, i, n), lookup(POWERS_LOW, i)
