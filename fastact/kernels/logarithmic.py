"""softplus and its relatives log_sigmoid and mish: functions of w = e^-|x|, but for those that are tables.

In float32 the three functions themselves are in `fastact.kernels.softplus32`, and softplus by beta is in
`fastact.kernels.parameter_slopes32`. Here everything positive is added to something positive, with the pairs of
`fastact.kernels.scaled`, so no threshold is needed anywhere and small results keep all their bits, subnormal ones too.
"""

from __future__ import annotations

from math import inf
from typing import Any

from fastact.kernels.exp32 import clamp_above, clamp_below
from fastact.kernels.exponential import one_minus_exp
from fastact.kernels.extremes import (
    at_infinity,
    softplus_derivative_at_infinity,
    softplus_derivative_beta_of_extreme,
    softplus_of_extreme,
)
from fastact.kernels.language import by_dtype, fabs, fma, kernel, rarely, select
from fastact.kernels.logistic_parts import FORMATS, bounded_product, logistic
from fastact.kernels.mish_slope64 import mish_derivative64
from fastact.kernels.pairs import two_sum
from fastact.kernels.parameter_slopes32 import softplus_derivative_beta32
from fastact.kernels.scaled import (
    exp_scaled,
    format_of,
    log1p_exp_scaled,
    logistic_scaled,
    reciprocal_scaled,
    reciprocal_square_scaled,
    times_sign,
)
from fastact.kernels.sigmoidal import sigmoid
from fastact.kernels.softplus32 import log_sigmoid32, mish32, mish_derivative32, softplus_of_one32
from fastact.kernels.softplus64 import (
    log_sigmoid64,
    mish64,
    softplus64,
    softplus_of_one64,
)

from ..activation import Activation, Parameter

Lanes = Any

# --- softplus


@kernel
def _bound(beta: Lanes) -> Lanes:
    """The largest |x| for which e^-|beta x| matters."""
    f = format_of(beta)
    return clamp_above(f.limit / fabs(beta), f.largest)  # NaN for NaN


@kernel
def _minus_fabs_product(x: Lanes, beta: Lanes) -> tuple[Lanes, Lanes]:
    """-|beta x| as an exact pair, kept above -limit."""
    bound = _bound(beta)
    steepness = -fabs(beta)
    x = fabs(x)
    x = select(bound < x, bound, x)
    p = steepness * x
    return p, fma(steepness, x, -p)


@kernel
def _softplus32(x: Lanes, beta: Lanes) -> Lanes:
    """log(1 + e^(beta x)) / beta, as max(beta x, 0)/beta + log(1 + e^-|beta x|)/beta.

    A negative beta: softplus(x, beta) = -softplus(-x, -beta). With beta = 0 it is infinite, with
    the sign of beta, as log(2)/0 is. Error 0.77 ULP in float32 (every input with
    2^-30 <= |x| < 256, every 61st elsewhere).
    """
    hi, lo = log1p_exp_scaled(*exp_scaled(*_minus_fabs_product(x, beta)))
    c, c_low, scale, unscale = reciprocal_scaled(beta)
    g = hi * c
    g_low = fma(hi, c, -g) + fma(lo, c, hi * c_low)
    z = times_sign(x, beta)
    ramp = select(z > 0.0, z, 0.0)
    # Both summands are positive, but either may be the larger one.
    y = ramp * unscale
    large = select(y > g, y, g)
    small = select(y > g, g, y)
    s = large + small
    y = (s + ((small - (s - large)) + g_low)) * scale
    y = times_sign(select(fabs(x) > _bound(beta), ramp, y), beta)
    extreme = (fabs(beta) < 2.0**-90) | (fabs(beta) > format_of(x).largest)
    (y,) = rarely(extreme, softplus_of_extreme, (x, beta), (y,))
    (y,) = rarely(beta == 1.0, _softplus_of_one32, (x,), (y,))  # the bits that softplus(x) has
    return y


@kernel
def _softplus_of_one32(x: Lanes) -> tuple[Lanes]:
    return (softplus_of_one32(x),)


softplus = by_dtype(_softplus32, softplus64)
softplus_of_one = by_dtype(softplus_of_one32, softplus_of_one64)


@kernel
def softplus_derivative(x: Lanes, beta: Lanes) -> Lanes:
    """sigmoid(beta x), with the bits and the errors of `sigmoid` where the product is a float."""
    f = FORMATS[x.width]
    p, p_low, _ = bounded_product(x, beta, f.limit)
    sign = -times_sign(x, beta)
    y = logistic(clamp_below(times_sign(p, sign), -f.one_from), times_sign(p_low, sign))
    (y,) = rarely(at_infinity(beta), softplus_derivative_at_infinity, (x, beta, y), (y,))
    return y


@kernel
def _softplus_derivative_beta64(x: Lanes, beta: Lanes) -> Lanes:
    """(t sigmoid(t) - log(1 + e^t)) / beta^2 with t = beta x.

    That is -(log(1 + w) + |t| w/(1 + w)) / beta^2 with w = e^-|t|, for either sign of t: two
    positive terms, so nothing cancels. Error 0.74 ULP.
    """
    a, a_low = _minus_fabs_product(x, beta)
    w, w_low = exp_scaled(a, a_low)
    h, h_low = log1p_exp_scaled(w, w_low)
    q, q_low = logistic_scaled(a > 0.0, w, w_low)
    g = a * q
    g_low = fma(a, q, -g) + fma(a, q_low, a_low * q)
    s, e = two_sum(g, -h)
    e = e + (g_low - h_low)
    c, c_low, scale = reciprocal_square_scaled(beta)
    y = fma(s, c, fma(e, c, s * c_low)) * scale
    y = select(fabs(x) > _bound(beta), -0.0, y)
    extreme = (fabs(beta) < 2.0**-390) | (fabs(beta) > 2.0**480)
    (y,) = rarely(extreme, softplus_derivative_beta_of_extreme, (x, beta), (y,))
    return y


softplus_derivative_beta = by_dtype(softplus_derivative_beta32, _softplus_derivative_beta64)


# --- log_sigmoid


log_sigmoid = by_dtype(log_sigmoid32, log_sigmoid64)


@kernel
def log_sigmoid_derivative(x: Lanes) -> Lanes:
    """sigmoid(-x), with the errors of `sigmoid`."""
    return sigmoid(-x)


@kernel
def log_sigmoid_derivative_from_output(y: Lanes) -> Lanes:
    """1 - e^y, y <= 0. Error 0.76 ULP in both dtypes."""
    return one_minus_exp(y)


# --- mish


mish = by_dtype(mish32, mish64)
mish_derivative = by_dtype(mish_derivative32, mish_derivative64)


RECORDS = (
    Activation(
        name="softplus",
        family="logarithmic",
        summary="The smooth rectifier, exact for every x: there is no threshold.",
        formula="log(1 + exp(beta x)) / beta",
        derivative_formula="sigmoid(beta x)",
        forward=softplus,
        derivative=softplus_derivative,
        at_defaults=softplus_of_one,
        derivative_at_defaults=sigmoid,
        parameters=(Parameter("beta", 1.0, "The sharpness.", nonzero=True),),
        parameter_derivatives={"beta": softplus_derivative_beta},
        parameter_formulas={"beta": "(z sigmoid(z) - log(1 + exp(z))) / beta^2 with z = beta x"},
        parameter_limits={"beta": (-0.0, -0.0)},
        limits=(0.0, inf),
        derivative_limits=(0.0, 1.0),
        range=(0.0, inf),
        monotone=True,
        paper="Dugas et al. (2001), Incorporating second-order functional knowledge for better option pricing.",
        see_also=("relu", "log_sigmoid", "mish"),
        vectors=4,
    ),
    Activation(
        name="log_sigmoid",
        family="logarithmic",
        summary="The logarithm of the sigmoid, never -inf for a finite x.",
        formula="-log(1 + exp(-x))",
        derivative_formula="sigmoid(-x)",
        forward=log_sigmoid,
        derivative=log_sigmoid_derivative,
        derivative_from_output=log_sigmoid_derivative_from_output,
        output_formula="1 - exp(y)",
        aliases=("log_expit",),
        limits=(-inf, -0.0),
        derivative_limits=(1.0, 0.0),
        range=(-inf, 0.0),
        monotone=True,
        see_also=("sigmoid", "softplus"),
        vectors=4,
    ),
    Activation(
        name="mish",
        family="logarithmic",
        summary="The self-regularised unit x times tanh of softplus.",
        formula="x * tanh(log(1 + exp(x)))",
        derivative_formula="w + x sigmoid(x) (1 - w^2) with w = tanh(log(1 + exp(x)))",
        forward=mish,
        derivative=mish_derivative,
        limits=(-0.0, inf),
        derivative_limits=(-0.0, 1.0),
        range=(-0.30884342, inf),
        paper="Misra (2019), Mish: a self regularized non-monotonic activation function.",
        see_also=("silu", "softplus"),
        vectors=4,
    ),
)
