"""The S-shaped functions: sigmoid, bipolar_sigmoid, tanh, softsign, and their derivatives.

Errors are the largest measured: for float32 on every input with 2^-13 <= |x| < 128 and every 61st of the others, for
float64 on 1.2 million points against 113 bits.
"""

from __future__ import annotations

from typing import Any

from fastact.kernels.exp32 import clamp_above, clamp_below
from fastact.kernels.exp64 import tanh64
from fastact.kernels.language import by_dtype, copysign, fabs, fma, kernel, select
from fastact.kernels.logistic_parts import (
    format_of,
    logistic,
    reciprocal_of_one_plus_exp,
    rough_reciprocal,
)
from fastact.kernels.tanh32 import tanh32

from ..activation import Activation

Lanes = Any


# --- sigmoid


@kernel
def sigmoid(x: Lanes) -> Lanes:
    """1 / (1 + e^-x). Error 0.78 ULP (float32), 1.4 ULP (float64)."""
    f = format_of(x)
    # -x first: of the other order compilers make more than a minimum and a maximum
    return logistic(clamp_above(clamp_below(-x, -f.one_from), f.limit))


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
def sigmoid_derivative_from_output(y: Lanes) -> Lanes:
    """y (1 - y), rounded once. Error 0.5 ULP."""
    return fma(-y, y, y)


@kernel
def sigmoid_derivative(x: Lanes) -> Lanes:
    """e / (1 + e)^2, e = e^-|x|. Error 0.77 ULP (float32), 1.35 ULP (float64)."""
    return _density(x, 1.0)


# --- tanh and bipolar_sigmoid

tanh = by_dtype(tanh32, tanh64)


@kernel
def tanh_derivative(x: Lanes) -> Lanes:
    """4 e / (1 + e)^2, e = e^-2|x|. Error 0.78 ULP (float32), 1.35 ULP (float64)."""
    return _density(x + x, 4.0)


@kernel
def tanh_derivative_from_output(y: Lanes) -> Lanes:
    """1 - y^2, rounded once. Error 0.5 ULP."""
    return fma(-y, y, 1.0)


@kernel
def bipolar_sigmoid(x: Lanes) -> Lanes:
    """(1 - e^-x) / (1 + e^-x) = tanh(x/2). Error as `tanh`: halving is exact, or rounds a result as it must."""
    return tanh(0.5 * x)


@kernel
def bipolar_sigmoid_derivative(x: Lanes) -> Lanes:
    """2 e / (1 + e)^2, e = e^-|x|. Error as `sigmoid_derivative`."""
    return _density(x, 2.0)


@kernel
def bipolar_sigmoid_derivative_from_output(y: Lanes) -> Lanes:
    """(1 - y^2) / 2: the first is 0 or normal, so it is rounded once. Error 0.5 ULP."""
    return 0.5 * fma(-y, y, 1.0)


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
    """x / (1 + |x|), with the rounding errors of 1 + |x| and of the quotient made good. Error 0.54 ULP."""
    a = clamp_above(fabs(x), SOFTSIGN_LIMIT[x.width])
    d = 1.0 + a
    q = a / d
    # q (1 + a) - a, rounded once: the difference is exact, of q and 1 where q is above 1/2, of q and a elsewhere.
    above = a > 1.0
    excess = fma(a, q - select(above, x.const(1.0), 0.0), q - select(above, 0.0, a))
    return copysign(fma(-excess, rough_reciprocal(d), q), x)


@kernel
def softsign_derivative(x: Lanes) -> Lanes:
    """1 / (1 + |x|)^2, as q p scale, so that only the last operation can underflow.

    Error 0.75 ULP (float32), 0.75 ULP (float64).
    """
    q, p, error = _reciprocal_of_one_plus(clamp_above(fabs(x), SOFTSIGN_LIMIT[x.width]))
    return fma(q, p, q * (p * (error + error))) * format_of(x).scale


RECORDS = (
    Activation(
        name="sigmoid",
        family="sigmoidal",
        summary="The logistic sigmoid.",
        formula="1 / (1 + exp(-x))",
        derivative_formula="e / (1 + e)^2 with e = exp(-|x|)",
        forward=sigmoid,
        derivative=sigmoid_derivative,
        derivative_from_output=sigmoid_derivative_from_output,
        output_formula="y * (1 - y)",
        aliases=("expit", "logistic"),
        limits=(0.0, 1.0),
        derivative_limits=(0.0, 0.0),
        range=(0.0, 1.0),
        monotone=True,
        paper="Verhulst (1845), Recherches mathematiques sur la loi d'accroissement de la population.",
        see_also=("bipolar_sigmoid", "tanh", "log_sigmoid"),
        founding=True,
        vectors=8,
    ),
    Activation(
        name="bipolar_sigmoid",
        family="sigmoidal",
        summary="The sigmoid from -1 to 1, tanh(x/2).",
        formula="(1 - exp(-x)) / (1 + exp(-x))",
        derivative_formula="2 e / (1 + e)^2 with e = exp(-|x|)",
        forward=bipolar_sigmoid,
        derivative=bipolar_sigmoid_derivative,
        derivative_from_output=bipolar_sigmoid_derivative_from_output,
        output_formula="(1 - y^2) / 2",
        limits=(-1.0, 1.0),
        derivative_limits=(0.0, 0.0),
        range=(-1.0, 1.0),
        monotone=True,
        parity="odd",
        see_also=("tanh", "sigmoid"),
        founding=True,
        vectors=8,
    ),
    Activation(
        name="tanh",
        family="sigmoidal",
        summary="The hyperbolic tangent.",
        formula="(exp(x) - exp(-x)) / (exp(x) + exp(-x))",
        derivative_formula="4 q / (1 + q)^2 with q = exp(-2 |x|)",
        forward=tanh,
        derivative=tanh_derivative,
        derivative_from_output=tanh_derivative_from_output,
        output_formula="1 - y^2",
        limits=(-1.0, 1.0),
        derivative_limits=(0.0, 0.0),
        range=(-1.0, 1.0),
        monotone=True,
        parity="odd",
        paper="LeCun, Bottou, Orr & Mueller (1998), Efficient backprop.",
        see_also=("bipolar_sigmoid", "hard_tanh", "softsign"),
        founding=True,
        vectors=8,
    ),
    Activation(
        name="softsign",
        family="sigmoidal",
        summary="The sigmoid with polynomial tails.",
        formula="x / (1 + |x|)",
        derivative_formula="1 / (1 + |x|)^2",
        forward=softsign,
        derivative=softsign_derivative,
        aliases=("soft_sign",),
        limits=(-1.0, 1.0),
        derivative_limits=(0.0, 0.0),
        range=(-1.0, 1.0),
        monotone=True,
        parity="odd",
        smoothness="once continuously differentiable",
        paper="Bergstra et al. (2009), Quadratic polynomials learn better image features.",
        see_also=("tanh",),
        vectors=4,
    ),
)
