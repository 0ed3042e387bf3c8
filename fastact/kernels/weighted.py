"""silu, x sigmoid(x), and swish, x sigmoid(beta x), with their derivatives.

Errors are the largest measured: of silu as in `sigmoidal`; of swish on every 489th float32, and every one near the zero
of the derivative, for ten values of beta from 1e-20 to 100.
"""

from __future__ import annotations

from math import inf
from typing import Any

from fastact.kernels import exp32, exp64
from fastact.kernels.exp32 import clamp_above, clamp_below, power_of_steps
from fastact.kernels.extremes import (
    at_infinity,
    swish_at_infinity,
    swish_derivative_at_infinity,
    swish_derivative_beta_of_extreme,
)
from fastact.kernels.language import bits, by_dtype, fabs, fma, from_bits, kernel, rarely, select
from fastact.kernels.logistic_parts import (
    FORMATS,
    format_of,
    one_plus_far_exp,
    one_plus_small_exp,
    quotient,
    reciprocal,
)
from fastact.kernels.pairs import two_diff, two_sum
from fastact.kernels.parameter_slopes32 import swish_derivative_beta32
from fastact.kernels.polynomials import polynomial
from fastact.kernels.silu_slope32 import silu_derivative32

from ..activation import Activation, Parameter

Lanes = Any


# --- silu


@kernel
def silu(x: Lanes) -> Lanes:
    """x / (1 + e^-x). Error 0.78 ULP (float32), 1.4 ULP (float64)."""
    f = format_of(x)
    # Beyond one_from, where the result is x (and NaN for NaN), whatever else comes out is not taken.
    c = clamp_below(x, -f.limit_times)
    return select(c <= f.one_from, quotient(c, *one_plus_small_exp(-c)) * f.scale, c)


# The zero of silu' is at -(1 + w), w = e^-(1 + w). ROOT_W is w rounded so that 1 + ROOT_W is a float too, ROOT_W_LOW
# the rest of w. For silu' the rest is left out and the exponential is centred at -log(ROOT_W), which is nearly the
# zero; what that costs shows only 2^-26 from the zero, closer than any float but not than a product beta x.
# tools/polynomials/weighted.py computes everything down to ROOT_SERIES.
ROOT_W = {32: 0.27846455574035645, 64: 0.2784645427610737}
ROOT_W_LOW = {32: -1.2979282537628478e-08, 64: 1.0946994183093437e-16}
ROOT_W_LOWEST = {32: -1.1257466239192657e-16, 64: 3.907766676128665e-33}  # and the rest of that
ROOT_W_INVERSE = {32: 3.591121196746826, 64: 3.5911214766686235}
# a - centre = (k log(2)/16 + r), k counted from ROOT_STEPS: r = a - k log(2)/16 + ROOT_SHIFT + ROOT_SHIFT_LOW_EXACT
ROOT_STEPS = 30.0
ROOT_SHIFT = 0.0211864672601223
ROOT_SHIFT_LOW_EXACT = -4.647129969725938e-08  # with the centre at the zero
ROOT_SHIFT64 = 0.021186420788823268  # the same in float64
ROOT_SHIFT_LOW64 = -1.14067557217248e-18
ROOT_SHIFT_LOW_EXACT64 = 3.919791835865608e-16
# silu'(-(1 + w) - t) = t (c1 + c1_low + c2 t), but for a part of t^2/11; NEXT_TO_ROOT is where that is used.
ROOT_SERIES = {
    32: (-0.2178117036819458, -2.0378543297283613e-09, 0.14664879441261292),
    64: (-0.2178117057198001, 3.974332795880862e-18, 0.1466487969969469),
}
NEXT_TO_ROOT = {32: 2.0**-20, 64: 2.0**-46}


@kernel
def _root_exp32(a: Lanes, a_low: Lanes) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    shifted = fma(a + ROOT_SHIFT, exp32.STEPS_PER_LOG, exp32.ROUND - ROOT_STEPS)
    k = shifted - (exp32.ROUND - ROOT_STEPS)
    # Exact.
    r = fma(k, -exp32.STEP_HIGH, a) + ROOT_SHIFT
    power, power_low = power_of_steps(shifted)
    rest = fma(k, -exp32.STEP_LOW, ROOT_SHIFT_LOW_EXACT + a_low) + power_low
    tail = exp32.TAIL_FINE
    m = r + fma(r, fma(r, fma(r, fma(r, tail[2], tail[1]), tail[0]), rest), rest)
    w = ROOT_W[32] * exp32.SCALE
    d = fma(power, m, power + w)
    return power, m, d, fma(power, m, w - (d - power))


@kernel
def _root_exp64(a: Lanes, a_low: Lanes | None) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    scale = FORMATS[64].scale
    t = fma(a + ROOT_SHIFT64, exp64.STEPS_PER_LOG, exp64.ROUND_STEPS - ROOT_STEPS)
    k = t - (exp64.ROUND_STEPS - ROOT_STEPS)
    # Exact.
    r = fma(k, -exp64.STEP_HI, a) + ROOT_SHIFT64
    shift_low = ROOT_SHIFT_LOW64 if a_low is None else ROOT_SHIFT_LOW_EXACT64 + a_low
    power, power_low = exp64.power_of_steps64(t, scale)
    rest = fma(k, -exp64.STEP_LO, shift_low) + power_low
    m = r + fma(r * r, polynomial(r, exp64.STEP_TAIL_FINE), fma(rest, r, rest))
    w = ROOT_W[64] * scale
    d = fma(power, m, power + w)
    return power, m, d, fma(power, m, w - (d - power))


_root_exp = by_dtype(_root_exp32, _root_exp64)
"""(S, m) with scale e^t = S (1 + m), t = (a + a_low) - centre, and the pair S (1 + m) + scale ROOT_W."""


@kernel
def _silu_slope(a: Lanes, a_low: Lanes | None) -> Lanes:
    """silu'(-(a + a_low)) = q (1 - a (1 - q)), q = 1 / (1 + e^a), for 0 <= a <= limit_times.

    The bracket cancels near its zero. With d = w + e^t, so that q = w / d, it is -(s + q (d - a)), s = a - (1 + w), in
    which s is exact and more than four times the second term. Away from the zero, where s would not be exact and d - a
    not small, it is -(s - q a), s = a - 1.
    """
    scale, w, w_low = format_of(a).scale, ROOT_W[a.width], ROOT_W_LOW[a.width]
    power, m, d, d_low = _root_exp(a, a_low)
    q = w / d
    s = a - 1.0
    s_low = a - (s + 1.0)
    near = (s > -0.5) & (s < 1.05)
    s = select(near, s - w, s)
    if a_low is None:
        remainder = fma(-q, d_low, fma(-q, d, w))
        rest = fma(a, -scale, select(near, d, 0.0))
        rest = select(near, rest + d_low, rest)
    else:
        remainder = fma(-q, d_low + w_low * scale, fma(-q, d, w) + w_low)
        s_low = select(near, -w_low, s_low) + a_low
        # d - a = e^t - 1 - t, where little of the zero's position is left to be rounded.
        excess = fma(s_low, -scale, fma(power, m, fma(s, -scale, power - scale)))
        rest = select(near, excess, a * -scale)
    error = remainder * ROOT_W_INVERSE[a.width]
    rest = fma(q, rest, s_low)
    # q (1 + error) in both places where q stands: times s + rest, and again times what of rest had it (s_low matters
    # only beside a product that nearly hits the zero).
    again = fma(2.0, rest, s)
    rest = fma(error, again if a_low is None else again - s_low, rest)
    if a_low is not None:
        s, rest = two_sum(s, rest)  # so that what is rounded in q times the rest does not show
    return fma(q, s, q * rest) * -scale


@kernel
def _silu_slope_next_to_root(x: Lanes, beta: Lanes) -> tuple[Lanes]:
    """silu'(beta x) for a product nearer to the zero than `NEXT_TO_ROOT`, however near.

    t = |beta x| - (1 + w) is made as a pair: what s + u lose of it is all there is if they cancel.
    """
    c, steepness, width = fabs(x), fabs(beta), x.width
    a = steepness * c
    s = (a - 1.0) - ROOT_W[width]  # exact
    u, v = two_diff(fma(steepness, c, -a), x.const(ROOT_W_LOW[width]))
    t, rest = two_sum(s, u)
    rest = rest + (v - ROOT_W_LOWEST[width])
    slope, slope_low, bend = ROOT_SERIES[width]
    return (fma(t, slope, fma(t, fma(t, bend, slope_low), rest * slope)),)


@kernel
def _silu_derivative64(x: Lanes) -> Lanes:
    """sigmoid(x) (1 + x sigmoid(-x)), computed at -|x| and reflected: silu'(x) = 1 - silu'(-x). Error 0.87 ULP."""
    slope = _silu_slope(clamp_above(fabs(x), format_of(x).limit_times), None)
    return select(x >= 0.0, 1.0 - slope, slope)


silu_derivative = by_dtype(silu_derivative32, _silu_derivative64)


# --- swish


@kernel
def _finite(beta: Lanes) -> Lanes:
    """beta, the largest float for infinity, so that the product with x has a meaning."""
    largest = format_of(beta).largest
    return clamp_above(clamp_below(beta, -largest), largest)


@kernel
def _clamp_product(x: Lanes, beta: Lanes, limit: float) -> Lanes:
    """x, kept where |beta x| <= limit; the division is done once where beta is a scalar."""
    bound = clamp_above(limit / fabs(beta), format_of(x).largest)
    return clamp_above(clamp_below(x, -bound), bound)


@kernel
def swish(x: Lanes, beta: Lanes) -> Lanes:
    """x / (1 + e^(-beta x)), with the product beta x as a pair.

    Error 0.77 ULP (float32), 1.4 ULP (float64).
    """
    f, given = format_of(x), beta
    beta = _finite(beta)
    c = _clamp_product(x, beta, f.far_reach)
    z = beta * c
    z_low = fma(beta, c, -z)
    d, d_low, _, far = one_plus_far_exp(-clamp_above(z, f.one_from), -z_low)
    # 1 / d is up to 1 / scale: a large x is scaled before the division, others after, lest subnormal results round
    # twice. A tiny x is scaled up, so that the remainder is not subnormal.
    large, tiny = fabs(c) > f.large, fabs(c) < 1.0 / f.large
    c = c * select(large, f.scale, select(tiny, 1.0 / f.scale, x.const(1.0)))
    y = quotient(c, d, d_low)
    y = select(large, y, y * f.scale)
    y = select(tiny, y * f.scale, y)
    y = select(far, y * f.far_scale, y)
    y = select((z > f.one_from) | (z == 0.0), select(z == 0.0, 0.5 * x, x), y)
    (y,) = rarely(at_infinity(given), swish_at_infinity, (x, given, y), (y,))
    return y


@kernel
def swish_derivative(x: Lanes, beta: Lanes) -> Lanes:
    """silu'(beta x).

    Error 0.89 ULP (float32), 0.9 ULP (float64).
    """
    given, beta = beta, _finite(beta)
    c = fabs(_clamp_product(x, beta, format_of(x).limit_times))
    steepness = fabs(beta)
    a = steepness * c
    slope = _silu_slope(a, fma(steepness, c, -a))
    positive = (bits(x) ^ bits(beta)) >= 0
    y = select(positive, 1.0 - slope, slope)
    next_to_root = ~positive & (fabs(a - (1.0 + ROOT_W[x.width])) < NEXT_TO_ROOT[x.width])
    (y,) = rarely(next_to_root, _silu_slope_next_to_root, (x, beta), (y,))
    (y,) = rarely(at_infinity(given), swish_derivative_at_infinity, (x, given, y), (y,))
    (y,) = rarely(beta == 1.0, _swish_derivative_of_one, (x,), (y,))  # the bits that swish_derivative(x) has
    return y


@kernel
def _swish_derivative_of_one(x: Lanes) -> tuple[Lanes]:
    return (silu_derivative(x),)


@kernel
def _swish_derivative_beta64(x: Lanes, beta: Lanes) -> Lanes:
    """x^2 e / (1 + e)^2, e = e^-|beta x|. Error 1.4 ULP."""
    f = format_of(x)
    beta = _finite(beta)
    c = fabs(_clamp_product(x, beta, f.far_reach))
    steepness = fabs(beta)
    a = steepness * c
    d, d_low, one, far = one_plus_far_exp(a, fma(steepness, c, -a))
    q, error = reciprocal(d, d_low)
    # The slope of sigmoid, as in sigmoidal._density.
    u = fma(-q, one, 1.0)
    v = fma(-q, one, 1.0 - u)
    rest = fma(error, fma(-q, one, u), v)
    slope = q * u
    slope_low = fma(q, rest, fma(q, u, -slope))
    # Mantissa and power of two of c apart: the powers, shared out so that neither product leaves the range of floats
    # unless the result does, come last. A subnormal c gives 0, as it must.
    i = bits(c)
    mantissa = from_bits((i & f.mantissa) | f.bits_of_one)
    root = f.scale**0.5
    power = from_bits(i & ~f.mantissa) * select(far, x.const(root * f.far_scale**0.5), root)
    square = mantissa * mantissa
    y = fma(square, slope, fma(square, slope_low, fma(mantissa, mantissa, -square) * slope))
    y = y * power * power
    (y,) = rarely(fabs(beta) < 2.0**-510, swish_derivative_beta_of_extreme, (x, beta), (y,))
    return y


swish_derivative_beta = by_dtype(swish_derivative_beta32, _swish_derivative_beta64)


RECORDS = (
    Activation(
        name="swish",
        family="weighted",
        summary="The sigmoid-weighted linear unit with a slope that can be learned.",
        formula="x * sigmoid(beta * x)",
        derivative_formula="s + beta x s (1 - s) with s = sigmoid(beta x)",
        forward=swish,
        derivative=swish_derivative,
        at_defaults=silu,
        derivative_at_defaults=silu_derivative,
        parameters=(Parameter("beta", 1.0, "The factor of x inside the sigmoid; 0 gives x/2."),),
        parameter_derivatives={"beta": swish_derivative_beta},
        parameter_formulas={"beta": "x^2 s (1 - s) with s = sigmoid(beta x)"},
        parameter_limits={"beta": (0.0, 0.0)},
        limits=(-0.0, inf),
        derivative_limits=(-0.0, 1.0),
        range=(-0.27846455, inf),
        paper="Ramachandran, Zoph & Le (2017), Searching for activation functions.",
        see_also=("silu", "hard_swish", "gelu"),
        founding=True,
        vectors=8,
    ),
    Activation(
        name="silu",
        family="weighted",
        summary="The sigmoid-weighted linear unit: swish with beta = 1.",
        formula="x * sigmoid(x)",
        derivative_formula="sigmoid(x) * (1 + x * sigmoid(-x))",
        forward=silu,
        derivative=silu_derivative,
        limits=(-0.0, inf),
        derivative_limits=(-0.0, 1.0),
        range=(-0.27846455, inf),
        paper="Elfwing, Uchibe & Doya (2017), Sigmoid-weighted linear units.",
        see_also=("swish", "gelu", "mish"),
        founding=True,
        vectors=8,
    ),
)
