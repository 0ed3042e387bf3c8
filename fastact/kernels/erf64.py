"""The normal distribution for float64 lanes: its upper tail in parts, and gelu made from them.

Q(a) = erfc(a/sqrt 2)/2 = e^(-a^2/2) R(a) for a >= 0. a^2 is exact as a pair, so the exponential is as
good as that of a float; R, Mills' ratio over sqrt(2 pi), falls from 1/2 like 1/(sqrt(2 pi) a) and is
P(t)/(a + 13/16), t = (a - 4)/(a + 4), with a polynomial P that hardly varies.
"""

from __future__ import annotations

from typing import Any

from fastact.kernels.exp32 import clamp_above
from fastact.kernels.exp64 import TWO_MINUS_64, exp_mantissa64, exp_parts64, power_of_two_up64
from fastact.kernels.language import bits, fabs, fma, kernel, select
from fastact.kernels.pairs import multiply_pairs, two_diff, two_prod, two_square, two_sum
from fastact.kernels.polynomials import polynomial
from fastact.kernels.roots64 import with_gelu_root64

__all__ = ["LIMIT", "gelu64", "gelu_derivative64", "normal_tail_parts64"]

Lanes = Any

# Beyond, a^2 Q(a) is less than half the smallest subnormal.
LIMIT = 38.75

# (a + 13/16) R(a) in t, relative error 2^-59.5, by tools/polynomials/erf64.py
TAIL_HEAD = (
    0.45435121126572553,
    -2.2549115508131933e-17,
)
TAIL = (
    -0.06475390453619036,
    -0.009321475651687157,
    0.04204550292936956,
    -0.037984988197981906,
    0.01952836538281321,
    -0.005097546480962307,
    -0.00040540069917355937,
    0.0007299941644747218,
    -8.588867406919714e-05,
    -9.322480710291068e-05,
    2.0381418375079e-05,
    1.4434006477181248e-05,
    -3.275883859199995e-06,
    -2.737429146646248e-06,
    3.638714231177386e-07,
    5.702292126224222e-07,
    1.4615226296578288e-08,
    -1.1286026298765769e-07,
    -2.5495739321124413e-08,
    1.7026443762444527e-08,
    8.61135456538296e-09,
    -8.150027659561082e-10,
    -1.3400585443951379e-09,
    -2.507154653443665e-10,
)

# 1/sqrt(2 pi)
DENSITY_HI = 0.3989422804014327
DENSITY_LO = -2.49232720227773e-17


@kernel
def normal_tail_parts64(a: Lanes) -> tuple[Lanes, Lanes, Lanes, Lanes, Lanes]:
    """(p, mh, ml, rh, rl): e^(-a^2/2) = (mh + ml) p 2^-64 and R(a) = rh + rl, for 0 <= a <= LIMIT.

    Relative errors 2^-55 and 2^-53.3 (the worst near 0); normal but for the last bit of rh. p is a
    power of two that does not underflow: multiply by p, then by TWO_MINUS_64, last. NaN stays NaN.
    Two divisions, 75 operations.
    """
    square, square_lo = two_square(a)
    i, r, q = exp_parts64(-0.5 * square, -0.5 * square_lo)
    mh, ml = exp_mantissa64(r, q)
    y = 1.0 / (a + 4.0)
    t = (a - 4.0) * y
    t = fma(y, fma(-t, a, fma(-4.0, t + 1.0, a)), t)
    s = polynomial(t, TAIL)
    th = fma(t, s, TAIL_HEAD[0])
    tl = fma(t, s, TAIL_HEAD[0] - th) + TAIL_HEAD[1]
    d, dl = two_sum(a, 0.8125)
    z = 1.0 / d
    rh = th * z
    rl = (fma(-rh, d, th) + fma(-rh, dl, tl)) * z
    return power_of_two_up64(i), mh, ml, rh, rl


@kernel
def gelu64(x: Lanes) -> Lanes:
    """x Phi(x) = x erfc(-x/sqrt 2)/2 for every x. Error 1.09 ULP."""
    a = clamp_above(fabs(x), LIMIT)
    p, mh, ml, rh, rl = normal_tail_parts64(a)
    qh, ql = multiply_pairs(mh, ml, rh, rl)
    s = p * TWO_MINUS_64
    h = fma(-qh, s, 1.0)
    rest = fma(-ql, s, fma(-qh, s, 1.0 - h))
    # The sign bit, so that -0.0 takes the negative side.
    return select(bits(x) < 0, -fma(a, qh, a * ql) * p * TWO_MINUS_64, fma(x, h, a * rest))


@kernel
def gelu_derivative64(x: Lanes) -> Lanes:
    """Phi(x) + x phi(x) for every x: G = e^(-a^2/2) (R(a) - a/sqrt(2 pi)) at -a, and 1 - G at a. 1.54 ULP."""
    a = clamp_above(fabs(x), LIMIT)
    p, mh, ml, rh, rl = normal_tail_parts64(a)
    dh, dl = two_prod(a, DENSITY_HI)
    bh, bl = two_diff(rh, dh)
    bl = bl + (rl - fma(a, DENSITY_LO, dl))
    gh, gl = multiply_pairs(mh, ml, bh, bl)
    s = p * TWO_MINUS_64
    h = fma(-gh, s, 1.0)
    rest = fma(-gl, s, fma(-gh, s, 1.0 - h))
    return with_gelu_root64(x, select(x < 0.0, (gh + gl) * p * TWO_MINUS_64, h + rest))
