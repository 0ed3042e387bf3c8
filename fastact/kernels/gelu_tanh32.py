"""gelu_tanh in float32: x / (1 + e^-2u), 2u = sqrt(8/pi) (x + 0.044715 x^3) = SLOPE x (1/0.044715 + x^2).

The sum is a pair, and so is its product with x. That is never multiplied by SLOPE: the exponential is reduced in steps
of log(2) / SLOPE, and the polynomial of the rest has SLOPE in its coefficients. tools/polynomials/gelu_tanh32.py
computes the constants.
"""

from __future__ import annotations

from typing import Any

from fastact.kernels.exp32 import ROUND_PARTS, SCALE, clamp_above, clamp_below, power_of_steps
from fastact.kernels.gelu32 import GELU_TANH_SLOPE_PIECES
from fastact.kernels.language import fma, kernel, select
from fastact.kernels.logistic_parts import quotient_by_reciprocal, sum_of_one_and

__all__ = ["EXPM1", "HEAD", "HEAD_REST", "PER_STEP", "STEP_HIGH", "STEP_LOW", "gelu_tanh32"]

Lanes = Any

# -x e^2u(x) underflows below the one, 1/(1 + e^-2u) rounds to 1 above the other. So it does from 5.12 on; but here the
# derivative clamps x as well, and it is done once for both.
LOWEST = -11.4
LINEAR = GELU_TANH_SLOPE_PIECES.top

HEAD = 22.363861083984375
HEAD_REST = -1.081747996067861e-06
PER_STEP = -0.10294324159622192
STEP_HIGH = 9.714091300964355
STEP_LOW = -2.7294066740068956e-07
EXPM1 = (-0.07135481387376785, 0.0025458356831222773, -6.057814971427433e-05)


@kernel
def _exp_of_minus_two_u(x: Lanes) -> tuple[Lanes, Lanes]:
    """(S, m) with SCALE e^-2u = S (1 + m), as `fastact.kernels.exp32.exp_parts`."""
    p = fma(x, x, HEAD)
    # HEAD has so few bits that HEAD - p is exact; what is left of x^2 then is far smaller than p.
    p_low = fma(x, x, HEAD - p) + HEAD_REST
    y = x * p
    y_low = fma(x, p_low, fma(x, p, -y))
    shifted = fma(y, PER_STEP, ROUND_PARTS)
    n = shifted - ROUND_PARTS
    # The first fma is exact where it matters, as in `exp_parts`.
    r = fma(n, STEP_HIGH, y) + fma(n, STEP_LOW, y_low)
    power, power_low = power_of_steps(shifted, n)
    return power, fma(r, fma(r, fma(r, EXPM1[2], EXPM1[1]), EXPM1[0]), power_low)


@kernel
def gelu_tanh32(x: Lanes) -> Lanes:
    """x / (1 + e^-2u). Error 0.77 ULP."""
    # Above LINEAR the result is x (and NaN for NaN), and whatever else comes out is not taken.
    c = clamp_below(clamp_above(x, LINEAR), LOWEST)
    y = quotient_by_reciprocal(c, *sum_of_one_and(SCALE, *_exp_of_minus_two_u(c)))
    return select(x <= LINEAR, y * SCALE, x)
