"""elu, selu and celu: functions of e^x - 1.

e^x - 1 = s (1 + r + q) - 1, with r exact and q small, is kept as a pair, so that a product with a
parameter rounds only once. Where e^x itself is the result, as in the derivatives, it comes from
`fastact.kernels.scaled`, which keeps the bits of the smallest results.
"""

from __future__ import annotations

from math import inf
from typing import Any

from fastact.kernels.celu_series import celu_slope_series
from fastact.kernels.exp32 import (
    EXPM1_LOWEST,
    EXPM1_TAIL,
    LOG_LOW,
    POWERS_LOW,
    ROOTS,
    UNSCALE,
    clamp_above,
    clamp_below,
    reduced,
)
from fastact.kernels.exp64 import exp_step_parts64
from fastact.kernels.extremes import elu_derivative_of_extreme, times_exp
from fastact.kernels.language import bits, by_dtype, copysign, fabs, fma, kernel, rarely, select
from fastact.kernels.pairs import two_diff
from fastact.kernels.parameter_slopes32 import CELU_LAST, celu_slope32
from fastact.kernels.polynomials import horner
from fastact.kernels.scaled import (
    exp_scaled,
    factor_scaled,
    format_of,
    power_of_two,
    times_sign,
)
from fastact.kernels.selu32 import selu_below32, selu_slope_below32

from ..activation import Activation, Parameter

Lanes = Any

# lambda - 1 of selu, and lambda * alpha as a pair of float64.
SCALE_MINUS_1 = 0.050700987355480493
SCALE_ALPHA = (1.7580993408473768, 1.41535193800845e-17)

# e^x is less than a thousandth of an ULP of 1 below.
LOWEST = {32: EXPM1_LOWEST, 64: -50.0}
# e^t - 1 is t to a tenth of an ULP up to here.
TINY = {32: 2.0**-28, 64: 2.0**-57}
# 2^-HALF is what celu's e^t - 1 is multiplied by, twice.
HALF = {32: 32, 64: 256}
# A low part of this size has a high part that overflows in the multiplication by 2^HALF.
OVERFLOWN = {32: 2.0**100, 64: 2.0**900}
# The largest t = x/alpha that matters to celu, where even a tiny alpha makes e^t infinite.
HIGHEST = {32: 130.0, 64: 1050.0}
# e^t itself is infinite here.
HIGHEST_SLOPE = {32: 100.0, 64: 750.0}
# An |alpha| of celu outside of these, and the powers of two that bring those below and above them inside.
ORDINARY = {32: (2.0**-40, 2.0**90), 64: (2.0**-400, 2.0**700)}
INSIDE = {32: (2.0**90, 2.0**-40), 64: (2.0**700, 2.0**-600)}
# From here on e^t - 1 is e^t, and where that alone decides that alpha e^t is infinite.
ALONE = {32: (40.0, 300.0), 64: (80.0, 2200.0)}
# The largest |alpha| for which alpha e^-limit is 0.
SLOPE_ALPHA = {32: 2.0**99, 64: 2.0**800}
# Up to here e^t (1 - t) - 1 comes from a series.
SERIES_LIMIT = 0.7


# --- e^x - 1


@kernel
def _parts32(x: Lanes, low: Lanes | None, lift: int, wraps: bool = False) -> tuple[Lanes, Lanes, Lanes]:
    s, n, r, rest = reduced(x, tuple(root * (UNSCALE * 2.0**lift) for root in ROOTS), POWERS_LOW, wraps)
    if low is not None:
        rest = fma(n, -LOG_LOW, rest) + low
    # e^r - 1 - r, and rest (1 + r)
    return s, r, fma(r, fma(r, horner(r, EXPM1_TAIL), rest), rest)


@kernel
def _parts64(x: Lanes, low: Lanes | None, lift: int, wraps: bool = False) -> tuple[Lanes, Lanes, Lanes]:
    return exp_step_parts64(x, low, 2.0**lift)  # which always does


_parts = by_dtype(_parts32, _parts64)
"""(s, r, q) with 2^lift e^(x + low) = s (1 + (r + q)): s = 1 for the smallest |x| and |s - 1| >= |s r|
for others, q much smaller than r; s is 2^(k/16), rounded, and a normal number. If it `wraps`, it is the same on every
CPU where it cannot be. `low` may be None for x <= 0: in float32 what rounding log(2) to 24 bits costs is then left in,
of e^x - 1 2^-28 at most, for the more of it there is the smaller e^x is."""


@kernel
def expm1_negative(x: Lanes) -> tuple[Lanes, Lanes]:
    """e^x - 1 for x <= 0 as an unevaluated sum; the low part is up to a fifth of the high one."""
    lowest = LOWEST[x.width]
    s, r, q = _parts(select(lowest > x, lowest, x), None, 0)
    # |s - 1| >= |s r| unless s = 1, when s - 1 = 0: the two sums lose nothing.
    a = s - 1.0
    lost = s - (a + 1.0)
    h = fma(s, r, a)
    return h, fma(s, q, fma(s, r, a - h) + lost)


@kernel
def one_minus_exp(x: Lanes) -> Lanes:
    """1 - e^x for x <= 0, +0 at both zeros. Error 0.76 ULP in both dtypes, where it is next to half an ULP of 1.

    What comes of x > 0 is no use, but the same on every CPU.
    """
    lowest = LOWEST[x.width]
    s, r, q = _parts(select(lowest > x, lowest, x), None, 0, True)
    # e^x about s + s r, in as many bits as 1 less that has; what it lacks of e^x is small, and known to its last bits.
    a = 1.0 - fma(s, r, s)
    return a - fma(s, q, fma(s, r, s - (1.0 - a)))


# --- elu


@kernel
def elu(x: Lanes, alpha: Lanes) -> Lanes:
    """x if x > 0 else alpha * (e^x - 1). Error 0.59 ULP, 0.53 in float64, 0.92 where alpha makes it subnormal."""
    h, low = expm1_negative(x)
    y = fma(alpha, h, alpha * low)
    y = select(x > 0.0, x, copysign(y, times_sign(x, alpha)))
    (y,) = rarely(fabs(alpha) > format_of(x).largest, _elu_of_infinite, (x, alpha), (y,))
    return y


@kernel
def _elu_of_infinite(x: Lanes, alpha: Lanes) -> tuple[Lanes]:
    """The limit, and of 0 the zero that it is for every other alpha."""
    return (select(x > 0.0, x, select(x == 0.0, times_sign(x, alpha), x * alpha)),)


@kernel
def elu_of_one(x: Lanes) -> Lanes:
    """`elu` and `celu` for alpha = 1, to the bit: e^x - 1 is x or more, rounded too, and 0 with what is positive as 0.

    The larger of two is one cheap operation; a comparison, a choice and a sign would be three.
    """
    h, low = expm1_negative(clamp_above(x, 0.0))
    y = h + low
    return select(y > x, y, x)


@kernel
def elu_derivative(x: Lanes, alpha: Lanes) -> Lanes:
    """1 if x > 0 else alpha * e^x. Error 0.77 ULP, where it is subnormal, in both dtypes."""
    # A positive x costs no exponential of a large number, which may be subnormal.
    hi, lo = exp_scaled(clamp_above(clamp_below(x, -format_of(x).limit), 0.0), x.const(0.0))
    c, scale = factor_scaled(alpha)
    y = _unless_of_one(x, alpha, select(x > 0.0, 1.0, fma(hi, c, lo * c) * scale))
    # A large alpha wants more of the exponential than there is, and of alpha = -0 the sign is lost.
    extreme = (fabs(alpha) > SLOPE_ALPHA[x.width]) | (alpha == 0.0)
    (y,) = rarely(extreme, elu_derivative_of_extreme, (x, alpha), (y,))
    return y


@kernel
def exp_up_to_one(x: Lanes) -> Lanes:
    """`elu_derivative` and `celu_derivative` for alpha = 1: e^x, or 1 if x > 0, exactly. Error 0.77 ULP as there."""
    f = format_of(x)
    hi, _ = exp_scaled(clamp_above(clamp_below(x, -f.limit), 0.0), x.const(0.0))
    return hi * f.down


@kernel
def _exp_up_to_one(x: Lanes) -> tuple[Lanes]:
    return (exp_up_to_one(x),)


@kernel
def _unless_of_one(x: Lanes, alpha: Lanes, y: Lanes) -> Lanes:
    """y, but for alpha = 1 the bits of the derivative at the default: hi + lo is not hi for two float32 of all."""
    (y,) = rarely(alpha == 1.0, _exp_up_to_one, (x,), (y,))
    return y


@kernel
def elu_derivative_alpha(x: Lanes, alpha: Lanes) -> Lanes:
    """The derivative by alpha: e^x - 1 if x <= 0 else 0. Error 0.59 ULP, 0.53 in float64."""
    h, low = expm1_negative(x)
    return select(x > 0.0, 0.0, copysign(h + low, x))


# --- selu


@kernel
def _selu_below64(x: Lanes) -> Lanes:
    c, c_low = SCALE_ALPHA
    h, low = expm1_negative(x)
    return fma(h, c, fma(low, c, h * c_low))


_selu_below = by_dtype(selu_below32, _selu_below64)
"""scale alpha (e^x - 1) for x <= 0."""


@kernel
def selu(x: Lanes) -> Lanes:
    """scale * (x if x > 0 else alpha * (e^x - 1)).

    scale * x = x + (scale - 1) x takes one fma, with a hundredth of an ULP from the constant; a
    pair would lose its low part where x is tiny, and give NaN where it is infinite. Error 0.97 ULP,
    next to the subnormal numbers; 0.57 in float64.
    """
    return select(x > 0.0, fma(x, SCALE_MINUS_1, x), copysign(_selu_below(x), x))


@kernel
def _selu_slope_below64(x: Lanes) -> Lanes:
    c, c_low = SCALE_ALPHA
    hi, lo = exp_scaled(x, x.const(0.0))
    return fma(hi, c, fma(lo, c, hi * c_low)) * format_of(x).down


_selu_slope_below = by_dtype(selu_slope_below32, _selu_slope_below64)
"""scale alpha e^x for -zero_from <= x <= 0."""


@kernel
def selu_derivative(x: Lanes) -> Lanes:
    """scale if x > 0 else scale * alpha * e^x. Error 0.77 ULP in both dtypes."""
    y = _selu_slope_below(clamp_above(clamp_below(x, -format_of(x).zero_from), 0.0))
    return select(x > 0.0, 1.0 + SCALE_MINUS_1, y)


# --- celu


@kernel
def _quotient(x: Lanes, alpha: Lanes, lowest: float, highest: float) -> tuple[Lanes, Lanes]:
    """x / alpha for x <= 0 as a pair, kept within [lowest, highest]. A reciprocal serves every lane."""
    bound = alpha * select(alpha > 0.0, lowest, alpha.const(highest))
    x = select(bound > x, bound, x)
    x = select(x > 0.0, 0.0, x)
    y = 1.0 / alpha
    y_low = fma(-y, alpha, 1.0) * y
    t = x * y
    return t, fma(x, y_low, fma(x, y, -t))


@kernel
def _celu(x: Lanes, alpha: Lanes) -> Lanes:
    half = HALF[x.width]
    t, t_low = _quotient(x, alpha, LOWEST[x.width], HIGHEST[x.width])
    s, r, q = _parts(t, t_low, -2 * half)
    a, lost = two_diff(s, x.const(2.0 ** (-2 * half)))
    h = fma(s, r, a)
    low = fma(s, q, fma(s, r, a - h) + lost)
    c = alpha * 2.0**half
    rest = c * low
    # Where even this overflows, perhaps to the other sign, c h alone is infinite.
    rest = select(fabs(rest) > OVERFLOWN[x.width], 0.0, rest)
    y = fma(c, h, rest) * 2.0**half
    return select((x > 0.0) | (fabs(t) < TINY[x.width]), x, y)


@kernel
def celu(x: Lanes, alpha: Lanes) -> Lanes:
    """max(x, 0) + min(0, alpha * (e^(x/alpha) - 1)).

    A negative alpha is allowed, as the formula has it; alpha = 0 gives the limit, which depends on its sign.
    Error 0.53 ULP in both dtypes, 0.59 in float32 if alpha is 1.
    """
    y = _celu(x, alpha)
    (y,) = rarely(_is_extreme(alpha), _celu_of_extreme, (x, alpha), (y,))
    (y,) = rarely(alpha == 1.0, _elu_of_one, (x,), (y,))  # the bits that celu(x) has
    return y


@kernel
def _is_extreme(alpha: Lanes) -> Lanes:
    low, high = ORDINARY[alpha.width]
    return (fabs(alpha) < low) | (fabs(alpha) > high)


@kernel
def _inside(x: Lanes, alpha: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """(p x, p alpha, p), p a power of two that brings alpha next to 1: p celu(x, alpha) = celu(p x, p alpha).

    A p x that is subnormal or infinite has bits that do not count: its quotient is next to 0 or far from it.
    """
    up, down = INSIDE[x.width]
    power = select(fabs(alpha) < 1.0, x.const(up), down)
    return x * power, alpha * power, power


@kernel
def _celu_of_extreme(x: Lanes, alpha: Lanes) -> tuple[Lanes]:
    z, c, power = _inside(x, alpha)
    from_, to = ALONE[x.width]
    t, t_low = _quotient(z, c, -1.0, to)  # which is above 0 for a negative alpha
    y = select(t > from_, times_exp(alpha, t, t_low), _celu(z, c) * (1.0 / power))
    y = select((x > 0.0) | (fabs(z) < fabs(c) * TINY[x.width]) | (fabs(alpha) > format_of(x).largest), x, y)
    limit = select(times_sign(x.const(1.0), alpha) > 0.0, x.const(-0.0), -inf)
    return (select((alpha == 0.0) & ~(x > 0.0), select(x < 0.0, limit, x), y),)


@kernel
def _exp_of_quotient(t: Lanes, t_low: Lanes, alpha: Lanes) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    """e^(t + t_low) / unit as a pair, unit and 1 / unit, which are powers of two; t has the sign of -alpha."""
    f = format_of(t)
    lift = select(alpha > 0.0, 0, bits(alpha).const(-3 * f.scale // 2))
    hi, lo = exp_scaled(t, t_low, lift)
    return hi, lo, power_of_two(-f.scale - lift, f), power_of_two(f.scale + lift, f)


@kernel
def celu_derivative(x: Lanes, alpha: Lanes) -> Lanes:
    """1 if x > 0 else e^(x/alpha). Error 0.77 ULP, where it is subnormal, in both dtypes."""
    y = _unless_of_one(x, alpha, _celu_slope(x, alpha))
    (y,) = rarely(_is_extreme(alpha), _celu_slope_of_extreme, (x, alpha), (y,))
    return y


@kernel
def _celu_slope(x: Lanes, alpha: Lanes) -> Lanes:
    t, t_low = _quotient(x, alpha, -format_of(x).limit, HIGHEST_SLOPE[x.width])
    hi, lo, unit, _ = _exp_of_quotient(t, t_low, alpha)
    return select(x > 0.0, 1.0, (hi + lo) * unit)


@kernel
def _celu_slope_of_extreme(x: Lanes, alpha: Lanes) -> tuple[Lanes]:
    z, c, _ = _inside(x, alpha)
    limit = select(x < 0.0, select(times_sign(x.const(1.0), alpha) > 0.0, x.const(0.0), inf), 1.0)
    y = select(alpha == 0.0, limit, select(fabs(alpha) > format_of(x).largest, 1.0, _celu_slope(z, c)))
    return (select(x == x, y, x),)


@kernel
def _elu_of_one(x: Lanes) -> tuple[Lanes]:
    return (elu_of_one(x),)


@kernel
def _celu_alpha_slope(t: Lanes, t_low: Lanes, alpha: Lanes) -> Lanes:
    """e^t (1 - t) - 1; for |t| < 0.7, where that cancels, -t^2 (1/2 + t/3 + t^2 P(t))."""
    hi, lo, unit, one = _exp_of_quotient(t, t_low, alpha)
    g, g_low = two_diff(t.const(1.0), t)
    p = hi * g
    p_low = fma(hi, g, -p) + fma(hi, g_low - t_low, lo * g)
    d, e = two_diff(p, one)
    return select(fabs(t) < SERIES_LIMIT, celu_slope_series(t, t_low), (d + (e + p_low)) * unit)


@kernel
def _celu_slope_of_negative_alpha(t: Lanes, t_low: Lanes, alpha: Lanes) -> tuple[Lanes]:
    return (_celu_alpha_slope(t, t_low, alpha),)


@kernel
def _celu_alpha_slope_of_extreme(x: Lanes, alpha: Lanes) -> tuple[Lanes]:
    z, c, _ = _inside(x, alpha)
    t, t_low = _quotient(z, c, -format_of(x).limit, HIGHEST_SLOPE[x.width])
    limit = select(times_sign(x.const(1.0), alpha) > 0.0, x.const(-1.0), -inf)
    y = select(fabs(alpha) > format_of(x).largest, -0.0, _celu_alpha_slope(t, t_low, c))
    y = select(alpha == 0.0, limit, y)
    return (select(x >= 0.0, 0.0, select(x == x, y, x)),)


@kernel
def _celu_derivative_alpha32(x: Lanes, alpha: Lanes) -> Lanes:
    """The derivative by alpha: e^t (1 - t) - 1 with t = x/alpha if x < 0, else 0.

    Error 0.77 ULP; below 1 in float64.
    """
    t, t_low = _quotient(x, alpha, -CELU_LAST, HIGHEST_SLOPE[32])
    y = celu_slope32(t, t_low, alpha == 1.0)
    (y,) = rarely(alpha < 0.0, _celu_slope_of_negative_alpha, (t, t_low, alpha), (y,))
    y = select(x >= 0.0, 0.0, y)
    (y,) = rarely(_is_extreme(alpha), _celu_alpha_slope_of_extreme, (x, alpha), (y,))
    return y


@kernel
def _celu_derivative_alpha64(x: Lanes, alpha: Lanes) -> Lanes:
    t, t_low = _quotient(x, alpha, -format_of(x).limit, HIGHEST_SLOPE[64])
    y = select(x >= 0.0, 0.0, _celu_alpha_slope(t, t_low, alpha))
    (y,) = rarely(_is_extreme(alpha), _celu_alpha_slope_of_extreme, (x, alpha), (y,))
    return y


celu_derivative_alpha = by_dtype(_celu_derivative_alpha32, _celu_derivative_alpha64)


RECORDS = (
    Activation(
        name="elu",
        family="exponential",
        summary="The exponential linear unit.",
        formula="x if x > 0 else alpha * (exp(x) - 1)",
        derivative_formula="1 if x > 0 else alpha * exp(x)",
        forward=elu,
        derivative=elu_derivative,
        at_defaults=elu_of_one,
        derivative_at_defaults=exp_up_to_one,
        parameters=(Parameter("alpha", 1.0, "Minus the limit at -inf."),),
        parameter_derivatives={"alpha": elu_derivative_alpha},
        parameter_formulas={"alpha": "exp(x) - 1 if x <= 0 else 0"},
        parameter_limits={"alpha": (-1.0, 0.0)},
        limits=(-1.0, inf),
        derivative_limits=(0.0, 1.0),
        range=(-1.0, inf),
        monotone=True,
        smoothness="once continuously differentiable for alpha = 1",
        at_kinks="The derivative at 0 is alpha.",
        paper="Clevert, Unterthiner & Hochreiter (2015), Fast and accurate deep network learning by ELUs.",
        see_also=("selu", "celu", "leaky_relu"),
        founding=True,
        vectors=4,
    ),
    Activation(
        name="selu",
        family="exponential",
        summary="The self-normalising exponential linear unit, its two constants at full precision.",
        formula="lambda (x if x > 0 else alpha (exp(x) - 1)) with lambda = 1.0507009873554805, "
        "alpha = 1.6732632423543772",
        derivative_formula="lambda if x > 0 else lambda * alpha * exp(x) with lambda = 1.0507009873554805, "
        "alpha = 1.6732632423543772",
        forward=selu,
        derivative=selu_derivative,
        limits=(-1.7580993408473769, inf),
        derivative_limits=(0.0, 1.0507009873554805),
        range=(-1.7580993408473769, inf),
        kinks=(0.0,),
        monotone=True,
        smoothness="continuous, not differentiable at 0",
        at_kinks="The derivative at 0 is lambda * alpha, the one from the left.",
        paper="Klambauer, Unterthiner, Mayr & Hochreiter (2017), Self-normalizing neural networks.",
        see_also=("elu", "celu"),
        founding=True,
        vectors=4,
    ),
    Activation(
        name="celu",
        family="exponential",
        summary="The continuously differentiable exponential linear unit.",
        formula="max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))",
        derivative_formula="1 if x > 0 else exp(x / alpha)",
        forward=celu,
        derivative=celu_derivative,
        at_defaults=elu_of_one,
        derivative_at_defaults=exp_up_to_one,
        parameters=(Parameter("alpha", 1.0, "Minus the limit at -inf.", nonzero=True),),
        parameter_derivatives={"alpha": celu_derivative_alpha},
        parameter_formulas={"alpha": "exp(z) (1 - z) - 1 with z = x / alpha if x < 0 else 0"},
        parameter_limits={"alpha": (-1.0, 0.0)},
        limits=(-1.0, inf),
        derivative_limits=(0.0, 1.0),
        range=(-1.0, inf),
        monotone=True,
        smoothness="once continuously differentiable",
        at_kinks="The derivative at 0 is 1.",
        paper="Barron (2017), Continuously differentiable exponential linear units.",
        see_also=("elu", "selu"),
        vectors=4,
    ),
)
