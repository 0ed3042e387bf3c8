"""gelu, its tanh form gelu_tanh, and their derivatives.

The errors in the docstrings of float32 kernels are those of every float32 (``fastact accuracy --proof``), those of the
float64 kernels were measured on 1.2 million points.
"""

from __future__ import annotations

from math import inf
from typing import Any

from fastact.kernels.erf64 import (
    GELU_TANH_ROOT as GELU_TANH_ROOT64,
)
from fastact.kernels.erf64 import (
    GELU_TANH_SLOPE_INTERVALS as GELU_TANH_SLOPE_INTERVALS64,
)
from fastact.kernels.erf64 import (
    gelu64,
    gelu_derivative64,
    gelu_tanh_tail64,
    slope64,
)
from fastact.kernels.exp32 import clamp_above, clamp_below
from fastact.kernels.gelu32 import gelu32, gelu_derivative32, gelu_tanh_derivative32
from fastact.kernels.gelu_tanh32 import gelu_tanh32
from fastact.kernels.language import by_dtype, fabs, fma, kernel, select
from fastact.kernels.logistic_parts import FORMATS, one_plus_small_exp, quotient
from fastact.kernels.pairs import two_square

from ..activation import Activation

Lanes = Any

# 2u = x (LINEAR + CUBIC x^2) in float64. LINEAR_HEAD has 21 bits, so that LINEAR_HEAD - p is exact.
LINEAR_HEAD = 1.595768928527832
LINEAR_REST = 1.930778986805098e-07
CUBIC_HI, CUBIC_LO = 0.07135481627260025, -6.175149918155315e-19
# From here on e^-2u is too small to matter.
GELU_TANH_IS_LINEAR = 7.25


@kernel
def _minus_two_u64(x: Lanes) -> tuple[Lanes, Lanes]:
    """-2u(x) as a pair."""
    s, s_low = two_square(x)
    p = fma(s, -CUBIC_HI, -LINEAR_HEAD)
    p_low = fma(s, -CUBIC_HI, -LINEAR_HEAD - p) + fma(s_low, -CUBIC_HI, fma(s, -CUBIC_LO, -LINEAR_REST))
    q = x * p
    return q, fma(x, p_low, fma(x, p, -q))


@kernel
def _gelu_tanh64(x: Lanes) -> Lanes:
    """x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3). Error 1.4 ULP."""
    # Where the result is x (and NaN for NaN), whatever comes out is not taken.
    c = clamp_below(x, -GELU_TANH_SLOPE_INTERVALS64[2])
    y = quotient(c, *one_plus_small_exp(*_minus_two_u64(c))) * FORMATS[64].scale
    return select(x <= GELU_TANH_IS_LINEAR, y, x)


@kernel
def _gelu_tanh_derivative64(x: Lanes) -> Lanes:
    """s(2u) (1 + 2 x u' s(-2u)), s the logistic function. Error 1.7 ULP."""
    a = clamp_above(fabs(x), GELU_TANH_SLOPE_INTERVALS64[2])
    return slope64(x, a, gelu_tanh_tail64(a, *_minus_two_u64(a)), GELU_TANH_ROOT64)


gelu = by_dtype(gelu32, gelu64)
gelu_derivative = by_dtype(gelu_derivative32, gelu_derivative64)
gelu_tanh = by_dtype(gelu_tanh32, _gelu_tanh64)
gelu_tanh_derivative = by_dtype(gelu_tanh_derivative32, _gelu_tanh_derivative64)


RECORDS = (
    Activation(
        name="gelu",
        family="gaussian",
        summary="The Gaussian error linear unit, in its exact form.",
        formula="x * Phi(x) = x * erfc(-x / sqrt(2)) / 2",
        derivative_formula="Phi(x) + x * phi(x) with Phi(x) = erfc(-x / sqrt(2)) / 2, "
        "phi(x) = exp(-x^2 / 2) / sqrt(2 pi)",
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
        derivative_formula="sigmoid(2 u) * (1 + 2 x u' sigmoid(-2 u)) with u = sqrt(2/pi) * (x + 0.044715 x^3), "
        "u' = sqrt(2/pi) * (1 + 0.134145 x^2)",
        forward=gelu_tanh,
        derivative=gelu_tanh_derivative,
        limits=(-0.0, inf),
        derivative_limits=(-0.0, 1.0),
        range=(-0.17004076, inf),
        paper="Hendrycks & Gimpel (2016), Gaussian error linear units.",
        see_also=("gelu", "silu"),
        founding=True,
        vectors=8,
    ),
)
