"""The S-shaped functions: sigmoid, bipolar_sigmoid, tanh, softsign, and their derivatives."""

from __future__ import annotations

from typing import Any

from fastact.kernels.exp32 import LIMIT, SCALE, clamp_above, reciprocal_of_one_plus_exp
from fastact.kernels.language import by_dtype, copysign, fabs, fma, kernel, select
from fastact.kernels.tanh32 import tanh32

Lanes = Any

SOFTSIGN_LIMIT = 2.0**60  # x / (1 + x) has long been 1 to the last bit


# --- sigmoid


@kernel
def _sigmoid32(x: Lanes) -> Lanes:
    """1 / (1 + e^-x), computed at -|x|, where it is small, and reflected."""
    q, r = reciprocal_of_one_plus_exp(clamp_above(fabs(x), LIMIT))
    s = fma(q, r, q) * SCALE
    return select(x >= 0.0, 1.0 - s, s)


@kernel
def _logistic_density32(a: Lanes, factor: float) -> Lanes:
    """factor * e^-a / (1 + e^-a)^2 for a >= 0: s (1 - s), s = 1 / (1 + e^a), with s and 1 - s as pairs."""
    q, r = reciprocal_of_one_plus_exp(clamp_above(a, LIMIT))
    u = fma(q, -SCALE, 1.0)
    v = fma(q, -SCALE, 1.0 - u)
    # (q + q r) (u + v - q r) = q (u + v + r (u - q)), less terms of 2^-48
    tail = fma(r, fma(q, -SCALE, u), v)
    return fma(q, u, q * tail) * (factor * SCALE)


@kernel
def _sigmoid32_derivative(x: Lanes) -> Lanes:
    """e / (1 + e)^2, e = e^-|x|"""
    return _logistic_density32(fabs(x), 1.0)


@kernel
def _tanh32_derivative(x: Lanes) -> Lanes:
    """4 e / (1 + e)^2, e = e^-2|x|"""
    return _logistic_density32(fabs(x + x), 4.0)


@kernel
def _bipolar_sigmoid32_derivative(x: Lanes) -> Lanes:
    """2 e / (1 + e)^2, e = e^-|x|"""
    return _logistic_density32(fabs(x), 2.0)


@kernel
def _tanh32(x: Lanes) -> Lanes:
    """tanh x"""
    return tanh32(x)


@kernel
def _bipolar_sigmoid32(x: Lanes) -> Lanes:
    """(1 - e^-x) / (1 + e^-x) = tanh(x/2)"""
    return tanh32(0.5 * x)


# --- softsign


@kernel
def _one_plus(a: Lanes, one: float) -> tuple[Lanes, Lanes]:
    """one + a as (rounded sum, rounding error), for a >= 0."""
    high = select(a > one, a, one)
    low = select(a > one, one, a)
    d = high + low
    return d, low - (d - high)


@kernel
def softsign(x: Lanes) -> Lanes:
    """x / (1 + |x|), with the rounding errors of 1 + |x| and of the quotient made good."""
    a = clamp_above(fabs(x), SOFTSIGN_LIMIT)
    d, d_low = _one_plus(a, 1.0)
    q = a / d
    # The remainder a - q (d + d_low) is exact but for its last bits; 1/d = 1 - q near enough to divide it.
    remainder = fma(-q, d_low, fma(-q, d, a))
    return copysign(fma(remainder, 1.0 - q, q), x)


@kernel
def _softsign_derivative(x: Lanes, limit: float, scale: float) -> Lanes:
    """1 / (1 + |x|)^2 = q q scale, q = 1 / (scale (1 + |x|)), so that only the last operation can underflow."""
    a = clamp_above(fabs(x), limit) * scale
    d, d_low = _one_plus(a, scale)
    q = 1.0 / d
    twice_error = 2.0 * fma(-q, d_low, fma(-q, d, 1.0))
    p = q * scale
    return fma(q, p, q * (p * twice_error)) * scale


@kernel
def _softsign32_derivative(x: Lanes) -> Lanes:
    """1 / (1 + |x|)^2"""
    return _softsign_derivative(x, 2.0**80, 2.0**-64)


@kernel
def _softsign64_derivative(x: Lanes) -> Lanes:
    """1 / (1 + |x|)^2"""
    return _softsign_derivative(x, 2.0**560, 2.0**-512)


softsign_derivative = by_dtype(_softsign32_derivative, _softsign64_derivative)
