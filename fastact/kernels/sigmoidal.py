"""The S-shaped functions: sigmoid, bipolar_sigmoid, tanh, softsign, and their derivatives.

Errors are the largest measured: for float32 on every input with 2^-13 <= |x| < 128 and every 61st of the others, for
float64 on some 30,000 points against 240 bits.
"""

from __future__ import annotations

from typing import Any

from fastact.kernels.exp32 import clamp_above
from fastact.kernels.exp64 import tanh64
from fastact.kernels.language import by_dtype, copysign, fabs, fma, kernel, select
from fastact.kernels.logistic import format_of, reciprocal_of_one_plus_exp
from fastact.kernels.tanh32 import tanh32

Lanes = Any


# --- sigmoid


@kernel
def sigmoid(x: Lanes) -> Lanes:
    """1 / (1 + e^-x), computed at -|x|, where it is small, and reflected.

    Error 0.77 ULP (float32), 0.95 ULP (float64).
    """
    f = format_of(x)
    q, error = reciprocal_of_one_plus_exp(clamp_above(fabs(x), f.limit))
    s = fma(q, error, q) * f.scale
    return select(x >= 0.0, 1.0 - s, s)


@kernel
def _density(x: Lanes, factor: float) -> Lanes:
    """factor e / (1 + e)^2, e = e^-|x|: s (1 - s), s = 1 / (1 + e^|x|), with s and 1 - s as pairs."""
    f = format_of(x)
    q, error = reciprocal_of_one_plus_exp(clamp_above(fabs(x), f.limit))
    u = fma(q, -f.scale, 1.0)
    v = fma(q, -f.scale, 1.0 - u)
    # q (1 + error) (u + v - q error) = q (u + v + error (u - q)), but for terms of the square of the precision
    rest = fma(error, fma(q, -f.scale, u), v)
    return fma(q, u, q * rest) * (factor * f.scale)


@kernel
def sigmoid_derivative(x: Lanes) -> Lanes:
    """e / (1 + e)^2, e = e^-|x|. Error 0.77 ULP (float32), 0.95 ULP (float64)."""
    return _density(x, 1.0)


@kernel
def sigmoid_with_derivative(x: Lanes) -> tuple[Lanes, Lanes]:
    """Both; they share everything up to the division."""
    return sigmoid(x), sigmoid_derivative(x)


# --- tanh and bipolar_sigmoid

tanh = by_dtype(tanh32, tanh64)


@kernel
def tanh_derivative(x: Lanes) -> Lanes:
    """4 e / (1 + e)^2, e = e^-2|x|. Error 0.78 ULP (float32), 0.95 ULP (float64)."""
    return _density(x + x, 4.0)


@kernel
def tanh_with_derivative(x: Lanes) -> tuple[Lanes, Lanes]:
    """Both."""
    return tanh(x), tanh_derivative(x)


@kernel
def bipolar_sigmoid(x: Lanes) -> Lanes:
    """(1 - e^-x) / (1 + e^-x) = tanh(x/2). Error as `tanh`: halving is exact, or rounds a result as it must."""
    return tanh(0.5 * x)


@kernel
def bipolar_sigmoid_derivative(x: Lanes) -> Lanes:
    """2 e / (1 + e)^2, e = e^-|x|. Error as `sigmoid_derivative`."""
    return _density(x, 2.0)


@kernel
def bipolar_sigmoid_with_derivative(x: Lanes) -> tuple[Lanes, Lanes]:
    """Both."""
    return bipolar_sigmoid(x), bipolar_sigmoid_derivative(x)


# --- softsign

# Beyond, x / (1 + x) is 1, and 1 / (1 + x)^2 is 0 when multiplied by the square of the scale.
SOFTSIGN_LIMIT = {32: 2.0**80, 64: 2.0**560}


@kernel
def _reciprocal_of_one_plus(a: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """(q, p, error) with 1 / (1 + a) = p (1 + error) for a >= 0, and p = q scale."""
    scale = format_of(a).scale
    a = a * scale
    larger = select(a > scale, a, scale)
    smaller = select(a > scale, scale, a)
    d = larger + smaller
    q = 1.0 / d
    return q, q * scale, fma(-q, smaller - (d - larger), fma(-q, d, 1.0))


@kernel
def softsign(x: Lanes) -> Lanes:
    """x / (1 + |x|), with the rounding errors of 1 + |x| and of its reciprocal made good.

    Error 0.501 ULP (float32), 0.501 ULP (float64).
    """
    a = clamp_above(fabs(x), SOFTSIGN_LIMIT[x.width])
    _, p, error = _reciprocal_of_one_plus(a)
    return copysign(fma(a, p, a * (p * error)), x)


@kernel
def softsign_derivative(x: Lanes) -> Lanes:
    """1 / (1 + |x|)^2, as q p scale, so that only the last operation can underflow.

    Error 0.75 ULP (float32), 0.75 ULP (float64).
    """
    q, p, error = _reciprocal_of_one_plus(clamp_above(fabs(x), SOFTSIGN_LIMIT[x.width]))
    return fma(q, p, q * (p * (error + error))) * format_of(x).scale


@kernel
def softsign_with_derivative(x: Lanes) -> tuple[Lanes, Lanes]:
    """Both; they share everything up to the division."""
    return softsign(x), softsign_derivative(x)
