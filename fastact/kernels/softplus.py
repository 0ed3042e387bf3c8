"""softplus and its relatives log_sigmoid and mish."""

from __future__ import annotations

from typing import Any

from fastact.kernels.language import bits, copysign, fabs, fma, from_bits, kernel, select
from fastact.kernels.log32 import (
    LARGEST_EXPONENT,
    TWO_124,
    TWO_MINUS_124,
    exp_scaled32,
    log1p_exp32,
    logistic_scaled32,
    reciprocal_scaled32,
    reciprocal_square_scaled32,
)
from fastact.kernels.pairs import two_sum
from fastact.kernels.polynomials import horner

Lanes = Any

LARGEST = float.fromhex("0x1.fffffep127")


# The zero of mish', the derivative there, each as a pair, and the rest of (mish'(root + d)/d - SLOPE)/d
# on |d| <= 0.3; tools/polynomials/log32.py, 2^-29.6 relative.
ROOT = (-1.1924312114715576, -3.0439375464652585e-09)
SLOPE = (0.2669479250907898, -1.1041255021382312e-08)
NEAR_ROOT = (
    0.2047312706708908,
    0.04190783202648163,
    -0.020272307097911835,
    -0.015822535380721092,
    -0.003351010615006089,
    0.001128698349930346,
    0.0009288092260248959,
)


@kernel
def _bound32(beta: Lanes) -> Lanes:
    """The largest |x| for which e^-|beta x| matters."""
    bound = LARGEST_EXPONENT / fabs(beta)
    return select(bound < LARGEST, bound, LARGEST)


@kernel
def _minus_fabs_product32(x: Lanes, beta: Lanes) -> tuple[Lanes, Lanes]:
    """-|beta * x| as an exact pair, kept above -LARGEST_EXPONENT."""
    bound = _bound32(beta)
    steepness = -fabs(beta)
    x = fabs(x)
    x = select(bound < x, bound, x)
    p = steepness * x
    return p, fma(steepness, x, -p)


@kernel
def _times_sign32(x: Lanes, sign: Lanes) -> Lanes:
    """x, negated where the sign bit of `sign` is set."""
    return from_bits(bits(x) ^ (bits(sign) & 0x80000000))


@kernel
def _softplus32(x: Lanes, beta: Lanes) -> Lanes:
    """log(1 + e^(beta x)) / beta = max(beta x, 0)/beta + log(1 + e^-|beta x|)/beta.

    A negative beta: softplus(x, beta) = -softplus(-x, -beta).
    """
    hi, lo = log1p_exp32(*exp_scaled32(*_minus_fabs_product32(x, beta)))
    c, c_low, scale, unscale = reciprocal_scaled32(beta)
    g = hi * c
    g_low = fma(hi, c, -g) + fma(lo, c, hi * c_low)
    z = _times_sign32(x, beta)
    ramp = select(z > 0.0, z, 0.0)
    # Both summands are positive, but either may be the larger one.
    y = ramp * unscale
    large = select(y > g, y, g)
    small = select(y > g, g, y)
    s = large + small
    y = (s + (small - (s - large) + g_low)) * scale
    return _times_sign32(select(fabs(x) > _bound32(beta), ramp, y), beta)


@kernel
def _softplus_derivative32(x: Lanes, beta: Lanes) -> Lanes:
    """sigmoid(beta x)."""
    w, w_low = exp_scaled32(*_minus_fabs_product32(x, beta))
    q, q_low = logistic_scaled32(_times_sign32(x, beta), w, w_low)
    return (q + q_low) * TWO_MINUS_124


@kernel
def _softplus_derivative_beta32(x: Lanes, beta: Lanes) -> Lanes:
    """(t sigmoid(t) - log(1 + e^t)) / beta^2 with t = beta x.

    That is -(log(1 + w) + |t| w/(1 + w)) / beta^2 with w = e^-|t|, for either sign of t: two
    positive terms, so nothing cancels.
    """
    a, a_low = _minus_fabs_product32(x, beta)
    w, w_low = exp_scaled32(a, a_low)
    h, h_low = log1p_exp32(w, w_low)
    q, q_low = logistic_scaled32(a, w, w_low)
    g = a * q
    g_low = fma(a, q, -g) + fma(a, q_low, a_low * q)
    s, e = two_sum(g, -h)
    e = e + (g_low - h_low)
    c, c_low, scale = reciprocal_square_scaled32(beta)
    return fma(s, c, fma(e, c, s * c_low)) * scale


@kernel
def _log_sigmoid32(x: Lanes) -> Lanes:
    """-log(1 + e^-x) = min(x, 0) - log(1 + e^-|x|)."""
    hi, lo = log1p_exp32(*exp_scaled32(_clamp_minus_fabs32(x), 0.0))
    ramp = select(x < 0.0, x, 0.0) * TWO_124
    large = select(ramp < -hi, ramp, -hi)
    small = select(ramp < -hi, -hi, ramp)
    s = large + small
    y = (s + ((small - (s - large)) - lo)) * TWO_MINUS_124
    # From here on log(1 + e^x) is less than 0.07 ULP of x, and soon ramp overflows.
    return select(x < -15.9, x, y)


@kernel
def _log_sigmoid_derivative32(x: Lanes) -> Lanes:
    """sigmoid(-x)."""
    w, w_low = exp_scaled32(_clamp_minus_fabs32(x), 0.0)
    q, q_low = logistic_scaled32(-x, w, w_low)
    return (q + q_low) * TWO_MINUS_124


@kernel
def _clamp_minus_fabs32(x: Lanes) -> Lanes:
    """-|x|, but not below -LARGEST_EXPONENT."""
    x = -fabs(x)
    return select(-LARGEST_EXPONENT > x, -LARGEST_EXPONENT, x)


@kernel
def _mish_parts32(x: Lanes) -> tuple[Lanes, ...]:
    """The clamped -|x|, and tanh(softplus(x)) = N/D by w = e^-|x|, with N and D as pairs.

    x > 0: N = 1/2 + w, D = 1/2 + w (1 + w). Else N = 2^124 w (2 + w), D = 2 + w (2 + w).
    Also w (1 or 2 + w) as a pair.
    """
    a = _clamp_minus_fabs32(x)
    w, w_low = exp_scaled32(a, 0.0)
    v = w * TWO_MINUS_124
    v_low = w_low * TWO_MINUS_124
    positive = x > 0.0
    k = select(positive, 1.0, v.const(2.0))
    h = select(positive, 0.5, v.const(2.0))
    g = k + v
    g_low = ((k - g) + v) + v_low
    b = w * g
    b_low = fma(w, g_low, fma(w_low, g, fma(w, g, -b)))
    u = b * TWO_MINUS_124
    d = h + u
    d_low = fma(b_low, TWO_MINUS_124, (h - d) + u)
    n = h + v
    n_low = ((h - n) + v) + v_low
    n = select(positive, n, b)
    n_low = select(positive, n_low, b_low)
    return a, n, n_low, d, d_low, v, v_low, g, g_low


@kernel
def _mish32(x: Lanes) -> Lanes:
    """x tanh(log(1 + e^x))."""
    a, n, n_low, d, d_low, *_ = _mish_parts32(x)
    inverse = 1.0 / d
    q = n * inverse
    rest = fma(-q, d_low, fma(-q, d, n) + n_low)
    y = fma(a, q, a * (rest * inverse))
    y = copysign(y * select(x > 0.0, 1.0, y.const(TWO_MINUS_124)), x)
    return select(x > 20.0, x, y)


@kernel
def _mish_derivative32(x: Lanes) -> Lanes:
    """T + x T' with T = tanh(softplus(x)) = N/D: (N + x C/D)/D.

    x > 0: C = w^2 (1 + w). Else C = 4 w (1 + w). By the zero, where the terms cancel, a polynomial
    about it.
    """
    a, n, n_low, d, d_low, v, v_low, g, g_low = _mish_parts32(x)
    positive = x > 0.0
    sign = select(positive, -1.0, v.const(1.0))
    # C as a pair, scaled like N
    f = 1.0 + v
    f_low = ((1.0 - f) + v) + v_low
    s = select(positive, v, v.const(4.0 * TWO_124))
    s_low = select(positive, v_low, 0.0)
    t = f * v
    t_low = fma(f, v_low, fma(f_low, v, fma(f, v, -t)))
    c = t * s
    c_low = fma(t, s_low, fma(t_low, s, fma(t, s, -c)))
    inverse = 1.0 / d
    r = c * inverse
    r_low = fma(-r, d_low, fma(-r, d, c) + c_low) * inverse
    z = sign * a
    p = z * r
    p_low = fma(z, r_low, fma(z, r, -p))
    m, e = two_sum(n, p)
    e = e + (p_low + n_low)
    q = m * inverse
    rest = fma(-q, d_low, fma(-q, d, m) + e)
    y = fma(rest, inverse, q) * select(positive, 1.0, v.const(TWO_MINUS_124))
    return select(fabs(x - ROOT[0]) < 0.3, _mish_derivative_near_root32(x), y)


@kernel
def _mish_derivative_near_root32(x: Lanes) -> Lanes:
    """mish'(x) for |x - ROOT| <= 0.3, as d (SLOPE + d R(d)), d = x - ROOT as a pair."""
    d0 = x - ROOT[0]  # exact
    d = d0 - ROOT[1]
    d_low = (d0 - d) - ROOT[1]
    rest = fma(d, horner(d, NEAR_ROOT), SLOPE[1])
    return fma(d, SLOPE[0], fma(d, rest, d_low * SLOPE[0]))
