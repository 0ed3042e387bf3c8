"""softplus and its relatives log_sigmoid and mish."""

from __future__ import annotations

from typing import Any

from fastact.kernels.language import bits, fabs, fma, from_bits, kernel, select
from fastact.kernels.log32 import (
    LARGEST_EXPONENT,
    TWO_MINUS_124,
    exp_scaled32,
    log1p_exp32,
    logistic_scaled32,
    reciprocal_scaled32,
)

Lanes = Any

INFINITY = float("inf")


@kernel
def _minus_fabs_product32(x: Lanes, beta: Lanes) -> tuple[Lanes, Lanes]:
    """-|beta * x| as an exact pair, kept above -LARGEST_EXPONENT."""
    steepness = fabs(beta)
    bound = LARGEST_EXPONENT / steepness
    x = fabs(x)
    x = select(bound < x, bound, x)
    p = -steepness * x
    return p, fma(-steepness, x, -p)


@kernel
def _times_sign32(x: Lanes, sign: Lanes) -> Lanes:
    """x, negated where the sign bit of `sign` is set."""
    return from_bits(bits(x) ^ (bits(sign) & 0x80000000))


@kernel
def _softplus32(x: Lanes, beta: Lanes) -> Lanes:
    """log(1 + e^(beta x)) / beta = max(beta x, 0)/beta + log(1 + e^-|beta x|)/beta."""
    hi, lo = log1p_exp32(*exp_scaled32(*_minus_fabs_product32(x, beta)))
    c, c_low, scale, unscale = reciprocal_scaled32(beta)
    g = hi * c
    g_low = fma(hi, c, -g) + fma(lo, c, hi * c_low)
    # A negative beta: softplus(x, beta) = -softplus(-x, -beta)
    z = _times_sign32(x, beta)
    ramp = select(z > 0.0, z, 0.0) * unscale
    large = select(ramp > g, ramp, g)
    small = select(ramp > g, g, ramp)
    s = large + small
    e = small - (s - large)
    y = (s + (e + g_low)) * _times_sign32(scale, beta)
    return select(z > 40.0 / fabs(beta), x, y)


@kernel
def _softplus_derivative32(x: Lanes, beta: Lanes) -> Lanes:
    """sigmoid(beta x)."""
    w, w_low = exp_scaled32(*_minus_fabs_product32(x, beta))
    q, q_low = logistic_scaled32(_times_sign32(x, beta), w, w_low)
    return (q + q_low) * TWO_MINUS_124
