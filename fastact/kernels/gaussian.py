"""gelu, its tanh form gelu_tanh, and their derivatives.

The errors in the docstrings of the float32 kernels were measured on every float32 with 2^-40 <= |x| < 16 and on
every 61st of the others; those of the float64 kernels on some 300,000 random ones.
"""

from __future__ import annotations

from math import inf
from typing import Any

from fastact.kernels.erf32 import (
    DOWN,
    GELU,
    GELU_INTERVALS,
    GELU_ROOT,
    GELU_SLOPE,
    GELU_SLOPE_INTERVALS,
    GELU_TANH_ROOT,
    GELU_TANH_SLOPE,
    GELU_TANH_SLOPE_INTERVALS,
    UP,
    minus_cubic,
    minus_half_square,
    tail,
)
from fastact.kernels.erf64 import gelu64, gelu_derivative64
from fastact.kernels.exp32 import clamp_above, clamp_below
from fastact.kernels.exp64 import exp_fast64, power_of_two_up64
from fastact.kernels.language import by_dtype, copysign, fabs, fma, kernel, select
from fastact.kernels.logistic import FORMATS, one_plus_small_exp, quotient
from fastact.kernels.pairs import two_diff, two_square
from fastact.kernels.roots64 import with_gelu_tanh_root64

from ..activation import Activation

Lanes = Any

# Where 1 - Phi(a) is 1/3.
NEAR = 0.43


@kernel
def _gate32(x: Lanes, a: Lanes, parts: tuple[Lanes, Lanes, Lanes]) -> Lanes:
    """x F for x <= 0 and x (1 - F) for x > 0, where 2^90 F(a) = h (1 + r + w) and `parts` is (h, r, w).

    That is max(x, 0) - a F. Where 0 < x and F > 1/3, F and 1 - F are alike and it must be x/2 - a (F - 1/2): so the
    rounding error of the second summand never counts for more than a quarter of an ULP.
    """
    h, r, w = parts
    near = (x > 0.0) & (x < NEAR)
    k = select(near, h - 0.5 * UP, h)
    # t + t_low = k + h (r + w)
    t = fma(h, r + w, k)
    t_low = fma(h, w, fma(h, r, k - t))
    y = fma(a, t, a * t_low)
    base = select(near, 0.5 * x, clamp_below(x, 0.0))
    return fma(y, -DOWN, base)


@kernel
def _gelu32(x: Lanes) -> Lanes:
    """x Phi(x), Phi the normal distribution. Error 0.840 ULP."""
    a = clamp_above(fabs(x), GELU_INTERVALS[2])
    return _gate32(x, a, tail(a, *minus_half_square(a), GELU, GELU_INTERVALS))


# 2u = x (LINEAR + CUBIC x^2), LINEAR_HEAD32 of so few bits that its sum with any product is exact where both matter.
LINEAR_HEAD32 = 1.595703125
LINEAR_REST32 = 6.599660264328122e-05
CUBIC32 = 0.07135481387376785
CUBIC_REST32 = 2.3988324659995897e-09
# -x e^2u(x) underflows below the one, 1/(1 + e^-2u) rounds to 1 above the other.
GELU_TANH_LOWEST32 = -11.4
GELU_TANH_LINEAR32 = 5.12


@kernel
def _gelu_tanh32(x: Lanes) -> Lanes:
    """x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3). Error 0.77 ULP."""
    c = clamp_above(clamp_below(x, GELU_TANH_LOWEST32), GELU_TANH_LINEAR32)
    s = c * c
    s_low = fma(c, c, -s)
    p = fma(s, -CUBIC32, -LINEAR_HEAD32)
    # What p lacks of -2u/c; the first of these is exact but for its last bit.
    p_low = fma(s, -CUBIC32, -LINEAR_HEAD32 - p) + fma(s, -CUBIC_REST32, fma(s_low, -CUBIC32, -LINEAR_REST32))
    z = c * p
    d, d_low = one_plus_small_exp(z, fma(c, p_low, fma(c, p, -z)))
    return select(x <= GELU_TANH_LINEAR32, quotient(c, d, d_low) * FORMATS[32].scale, x)


@kernel
def _slope32(x: Lanes, a: Lanes, parts: tuple[Lanes, Lanes, Lanes], root: tuple[float, float]) -> Lanes:
    """D for x <= 0 and 1 - D for x > 0, where 2^90 D = (root - a) h (1 + r + w) and `parts` is (h, r, w)."""
    h, r, w = parts
    t = fma(h, r + w, h)
    t_low = fma(h, w, fma(h, r, h - t))
    # -(root - a), which is exact near the root
    g, g_low = two_diff(a, root[0])
    y = fma(g, t, fma(g, t_low, (g_low - root[1]) * t))
    return select(x > 0.0, fma(y, DOWN, 1.0), y * -DOWN)


@kernel
def _gelu_derivative32(x: Lanes) -> Lanes:
    """Phi(x) + x phi(x). Error 0.833 ULP."""
    a = clamp_above(fabs(x), GELU_SLOPE_INTERVALS[2])
    return _slope32(x, a, tail(a, *minus_half_square(a), GELU_SLOPE, GELU_SLOPE_INTERVALS), GELU_ROOT)


@kernel
def _gelu_tanh_derivative32(x: Lanes) -> Lanes:
    """s(2u) (1 + 2 x u' s(-2u)), s the logistic function. Error 0.849 ULP."""
    a = clamp_above(fabs(x), GELU_TANH_SLOPE_INTERVALS[2])
    return _slope32(x, a, tail(a, *minus_cubic(a), GELU_TANH_SLOPE, GELU_TANH_SLOPE_INTERVALS), GELU_TANH_ROOT)


# Float64 results are held multiplied by 2^64 until the last operation.
UP64 = 2.0**64
DOWN64 = 2.0**-64

# 2u and its slope 2u' = LINEAR + 3 CUBIC x^2 in float64. LINEAR_HEAD has 21 bits, so that LINEAR_HEAD - p is exact.
LINEAR_HEAD = 1.595768928527832
LINEAR_REST = 1.930778986805098e-07
CUBIC_HI, CUBIC_LO = 0.07135481627260025, -6.175149918155315e-19
CUBIC_3_HI, CUBIC_3_LO = 0.21406444881780073, 1.2025242832367862e-17
# Beyond, 2u > 753.3 and even 2 x u' e^-2u is less than half the smallest subnormal; e^-2u must not have n < -1087.
GELU_TANH_LIMIT64 = 21.5974


@kernel
def _times_quadratic64(a: Lanes, s: Lanes, s_low: Lanes, high: float, low: float) -> tuple[Lanes, Lanes]:
    """a (LINEAR + (high + low) a^2) as a pair, for a^2 = s + s_low."""
    p = fma(s, high, LINEAR_HEAD)
    p_low = fma(s, high, LINEAR_HEAD - p) + fma(s_low, high, fma(s, low, LINEAR_REST))
    q = a * p
    return q, fma(a, p_low, fma(a, p, -q))


@kernel
def _exp_minus_two_u64(a: Lanes) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    """(E, E_low, e, y): E + E_low = 2^64 e^-2u(a), e = 2^-64 E, y = 1/(1 + e) rounded."""
    hi, lo = _times_quadratic64(a, *two_square(a), CUBIC_HI, CUBIC_LO)
    i, m = exp_fast64(-hi, -lo)
    p = power_of_two_up64(i)
    big = fma(p, m, p)
    e = big * DOWN64
    return big, fma(p, m, p - big), e, 1.0 / (1.0 + e)


@kernel
def _gelu_tanh64(x: Lanes) -> Lanes:
    """x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3). Error 1.06 ULP."""
    a = clamp_above(fabs(x), GELU_TANH_LIMIT64)
    big, big_low, e, y = _exp_minus_two_u64(a)
    negative = x < 0.0
    n = select(negative, big, UP64)
    q = n * y
    # What q (1 + e) misses of n, with the rounding error of e itself; n - q is exact.
    miss = fma(-q, e, n - q) + select(negative, big_low, 0.0)
    result = fma(a, q, a * (miss * y)) * copysign(DOWN64, x)
    return select(x > GELU_TANH_LIMIT64, x, result)


@kernel
def _gelu_tanh_derivative64(x: Lanes) -> Lanes:
    """D = e (1 + e - 2 a u'(a)) / (1 + e)^2 at -a, and 1 - D at a; e = e^-2u(a). Error 1.5 ULP."""
    a = clamp_above(fabs(x), GELU_TANH_LIMIT64)
    big, big_low, e, y = _exp_minus_two_u64(a)
    g, g_low = _times_quadratic64(a, *two_square(a), CUBIC_3_HI, CUBIC_3_LO)
    t = 1.0 + e
    t_low = e - (t - 1.0)
    f, f_low = two_diff(t, g)
    f_low = f_low + (t_low - g_low)
    # 1/(1 + e) = y (1 + error), and big y^2 = v + low
    error = fma(-y, t_low, fma(-y, t, 1.0))
    q = big * y
    v = q * y
    low = fma(fma(big, y, -q), y, fma(q, y, -v))
    low = fma(v + v, error, low) + big_low * y * y
    d = fma(v, f, fma(v, f_low, low * f))
    return with_gelu_tanh_root64(x, select(x > 0.0, fma(d, -DOWN64, 1.0), d * DOWN64))


gelu = by_dtype(_gelu32, gelu64)
gelu_derivative = by_dtype(_gelu_derivative32, gelu_derivative64)
gelu_tanh = by_dtype(_gelu_tanh32, _gelu_tanh64)
gelu_tanh_derivative = by_dtype(_gelu_tanh_derivative32, _gelu_tanh_derivative64)


RECORDS = (
    Activation(
        name="gelu",
        family="gaussian",
        summary="The Gaussian error linear unit, in its exact form.",
        formula="x * Phi(x) = x * erfc(-x / sqrt(2)) / 2",
        derivative_formula="Phi(x) + x * phi(x)",
        forward=gelu,
        derivative=gelu_derivative,
        limits=(-0.0, inf),
        derivative_limits=(-0.0, 1.0),
        range=(-0.16997121, inf),
        paper="Hendrycks & Gimpel (2016), Gaussian error linear units.",
        see_also=("gelu_tanh", "silu"),
        founding=True,
        vectors=4,
    ),
    Activation(
        name="gelu_tanh",
        family="gaussian",
        summary="The tanh form of the Gaussian error linear unit.",
        formula="x * sigmoid(2 u) with u = sqrt(2/pi) * (x + 0.044715 x^3)",
        derivative_formula="sigmoid(2 u) * (1 + 2 x u' sigmoid(-2 u))",
        forward=gelu_tanh,
        derivative=gelu_tanh_derivative,
        limits=(-0.0, inf),
        derivative_limits=(-0.0, 1.0),
        range=(-0.17004076, inf),
        paper="Hendrycks & Gimpel (2016), Gaussian error linear units.",
        see_also=("gelu", "silu"),
        founding=True,
        vectors=4,
    ),
)
