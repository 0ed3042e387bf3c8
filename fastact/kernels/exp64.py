"""Exponentials for float64 lanes, the blocks they are made of, and tanh and the slope of the sigmoid made from them.

Two reductions of the argument are used. With n = round(x / ln 2), |r| <= ln 2 / 2, e^r is kept as 1 + (r + q): `r` is
the rounded reduced argument, `q` holds its rounding error and the rest of the series, and nothing is lost until a
caller rounds the sum. The power of two is handed out as the bits of n, because the smallest results need it in two
factors: the first is 2^64 too large, so that it never underflows. With steps of ln 2 / 16 the polynomial is half as
long, and a table of sixteen powers, one instruction to look up, makes up for it; 2^(k/16) is handed out, times a
power of two that keeps it normal.

The `lo` of an argument may be left out; it is the rounding error of a product such as beta x, at most about an ULP of
`hi`. Every block of parts wants a clamped argument: outside [-750, 710], or for steps [-1418, 1418], the bits of n
overflow. A NaN stays a NaN through every block.
"""

from __future__ import annotations

from typing import Any

from fastact.kernels.exp32 import clamp_above
from fastact.kernels.language import bits, copysign, fabs, fma, from_bits, kernel, lookup, select
from fastact.kernels.pairs import renormalise
from fastact.kernels.polynomials import polynomial

__all__ = [
    "TWO_MINUS_64",
    "exp_mantissa64",
    "exp_parts64",
    "exp_step_parts64",
    "exp_steps64",
    "power_of_steps64",
    "power_of_two_up64",
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


# The same for steps of ln(2)/16: the reduction, (e^r - 1 - r) / r^2 on |r| <= ln(2)/32 (e^r to 2^-56.2 relative, and,
# by the longer one, e^r - 1 to 2^-59.2 relative), and 2^(j/16) with j << 48 taken off its bits: adding k << 48,
# k = 16 n + j, gives 2^n 2^(j/16) without masking k. SHORT_POWERS are rounded to 52 bits, so that 1 can be added to
# those from 1 to 2^51 without another rounding error; what they lack, relatively, is in SHORT_POWERS_LOW.
STEPS_PER_LOG = 16 * LOG2E
STEP_HI = LN2_HI / 16
STEP_LO = LN2_LO / 16
ROUND_STEPS = 1.5 * 2.0**52
STEP_TAIL = (
    0.49999999999999606,
    0.16666666664418342,
    0.04166666669297626,
    0.008333471911967212,
    0.001388859920550382,
)
STEP_TAIL_FINE = (
    0.5,
    0.16666666666666644,
    0.04166666666385586,
    0.00833333333471413,
    0.0013889062123634806,
    0.0001984119471219482,
)

# tanh(x)/x - 1 = y P(y) / (1 + y Q(y)) in y = x^2, |x| <= TANH_SMALL: tanh to 2^-57.3 relative.
TANH_SMALL = 0.5625
TANH_NUMERATOR = (
    -0.3333333333333333,
    -0.020501465565699636,
    -0.00019929618499594005,
)
TANH_DENOMINATOR = (
    0.4615043966970977,
    0.0232948853291102,
    0.0002066602742421401,
)
# fmt: off
STEP_POWERS = (
    1.0, 0.9908868912137069, 0.9827538663326288, 0.9756443173783458,
    0.9696035575013605, 0.964678906036742, 0.9609197773255048, 0.9583777734684463,
    0.9571067811865476, 0.9571630729697497, 0.9586054127039704, 0.9614951659746271,
    0.9658964152537145, 0.9718760801866497, 0.9795040432046712, 0.9888532806985737,
)
SHORT_POWERS = (
    1.0, 0.990886891213707, 0.9827538663326287, 0.9756443173783458,
    0.9696035575013606, 0.964678906036742, 0.9609197773255049, 0.9583777734684464,
    0.9571067811865475, 0.9571630729697496, 0.9586054127039705, 0.9614951659746271,
    0.9658964152537146, 0.9718760801866497, 0.9795040432046713, 0.9888532806985737,
)
SHORT_POWERS_LOW = (
    0.0, -1.307374657556735e-16, 1.7567668562852185e-16, 7.826573258636076e-17,
    -1.5323188897163457e-16, 3.750854201303127e-17, -1.5164721142629426e-16, -1.0709582947992897e-16,
    8.865115929175828e-17, 1.2676147417271722e-16, -9.242981211103171e-17, 1.5341410053603723e-17,
    -8.327690675013712e-17, 1.685487290628973e-17, -1.0316941025762925e-16, -5.545065618639427e-17,
)
# fmt: on


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
def exp_steps64(hi: Lanes, lo: Lanes = None, scale: float = 1.0, exact: bool = False) -> tuple[Lanes, Lanes]:
    """(S, m) with scale e^(hi + lo) = S (1 + m), S = scale 2^(k/16) rounded, |m| <= 0.02191.

    For |hi| <= 1418, |lo| <= 2^-30 and `scale` a power of two; S has the right bits but for those of the exponent that
    do not fit. The argument 0 gives S = scale and m = 0, and lo = 0 changes nothing. Relative error 2^-53.4, nearly all
    of it from the rounding of S, and 13 operations; if `exact` 2^-56, S has 52 bits, and 15 operations.
    """
    t = fma(hi, STEPS_PER_LOG, ROUND_STEPS)
    k = t - ROUND_STEPS
    # The fma of hi is exact: k STEP_HI ends at 2^-57, and the difference is below 2^-5.
    r = fma(k, -STEP_LO, fma(k, -STEP_HI, hi))
    if lo is not None:
        r = r + lo
    i = bits(t)
    s = _step(SHORT_POWERS if exact else STEP_POWERS, i, scale)
    return s, fma(r * r, polynomial(r, STEP_TAIL), r + lookup(SHORT_POWERS_LOW, i) if exact else r)


@kernel
def power_of_steps64(t: Lanes, scale: float) -> tuple[Lanes, Lanes]:
    """(S, l) with S (1 + l) = scale 2^(k/16), k = t - ROUND_STEPS, and S of 52 bits."""
    i = bits(t)
    return _step(SHORT_POWERS, i, scale), lookup(SHORT_POWERS_LOW, i)


def _step(powers: tuple[float, ...], i: Lanes, scale: float) -> Lanes:
    """scale 2^(k/16) for i = k modulo 2^16."""
    return from_bits(bits(lookup(tuple(scale * power for power in powers), i)) + (i << 48))


@kernel
def exp_step_parts64(hi: Lanes, lo: Lanes = None, scale: float = 1.0) -> tuple[Lanes, Lanes, Lanes]:
    """(S, r, q) with scale e^(hi + lo) = S (1 + (r + q)), as `exp_steps64`: r exact, q < r^2.

    Relative error 2^-59 of e^(hi + lo) - 1, where S = scale, and 2^-57 of e^(hi + lo) elsewhere. 17 operations.
    """
    t = fma(hi, STEPS_PER_LOG, ROUND_STEPS)
    k = t - ROUND_STEPS
    r = fma(k, -STEP_HI, hi)
    s, s_low = power_of_steps64(t, scale)
    rest = fma(k, -STEP_LO, s_low)
    if lo is not None:
        rest = rest + lo
    return s, r, fma(r * r, polynomial(r, STEP_TAIL_FINE), fma(rest, r, rest))


@kernel
def exp_mantissa64(r: Lanes, q: Lanes) -> tuple[Lanes, Lanes]:
    """1 + (r + q) of `exp_parts64` as a normal pair in [0.707, 1.415], error 2^-55. 7 operations."""
    h = 1.0 + r
    return renormalise(h, (r - (h - 1.0)) + q)


@kernel
def power_of_two_up64(i: Lanes) -> Lanes:
    """2^(n + 64) from the `i` of `exp_parts64`, for -1086 <= n <= 959. 2 operations."""
    return from_bits((i + 64) << 52)


@kernel
def scale_down64(x: Lanes, i: Lanes) -> Lanes:
    """x * 2^n for the `i` of `exp_parts64`, rounded once, for n <= 950. 4 operations."""
    return x * power_of_two_up64(i) * TWO_MINUS_64


@kernel
def tanh64(x: Lanes) -> Lanes:
    """tanh x for every x, signed zeros and subnormal values included. Error 1.2 ULP.

    a + a (tanh(a)/a - 1) for small a = |x|, with a rational function, else 1 - 2/(1 + e^2a), by the same division.
    """
    a = fabs(x)
    small = a < TANH_SMALL
    far = clamp_above(a, 22.0)
    s, m = exp_steps64(far + far, exact=True)
    y = a * a
    p, q = TANH_NUMERATOR, TANH_DENOMINATOR
    above = select(small, y * fma(y, fma(y, p[2], p[1]), p[0]), -2.0)
    below = select(small, fma(y, fma(y, fma(y, q[2], q[1]), q[0]), 1.0), fma(s, m, s + 1.0))
    base = select(small, a, 1.0)
    return copysign(fma(base, above / below, base), x)
