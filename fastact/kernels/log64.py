"""Logarithms for float64 lanes, on pairs: log(1 + f) for f = e^-|x|, and that of a row's sum.

With s = g / (2 + g), log(1 + g) = g - g^2/2 + s (g^2/2 + w P(w)), w = s^2 (fdlibm's form): g and
g^2/2 are exact as pairs, and the rest is so small that its rounding errors do not matter.
"""

from __future__ import annotations

from typing import Any

from fastact.kernels.exp64 import LN2_HI, LN2_LO, exp_steps64
from fastact.kernels.language import bits, fma, from_bits, kernel, lookup, to_float
from fastact.kernels.pairs import fast_two_sum, renormalise, two_prod
from fastact.kernels.polynomials import polynomial

__all__ = ["DOWN", "LIMIT", "UP", "log1p_exp64", "log_pair64"]

Lanes = Any

# (log((1 + s)/(1 - s)) - 2 s) / s^3 in w = s^2, |s| <= 1/5, by tools/polynomials/log64.py: the
# logarithm to 2^-62.6 relative.
LOG_TAIL = (
    0.666666666666666,
    0.40000000000056674,
    0.2857142855582818,
    0.22222224296563742,
    0.1818166586503211,
    0.15391112481905012,
    0.13173586822261324,
    0.13843149206270453,
)

# Steps of log(1 + w), w in [0, 1]: with j = round(15 w) and c = STEP_RECIPROCALS[j], nearly 1/(1 + j/15),
# g = (1 + w) c - 1 is within 1/30 of 0, and log(1 + w) = STEP_LOGS[j] + w c + (log(1 + g) - g), where STEP_LOGS[j] is
# c - 1 - log(c). Each c was chosen to make that nearly a float. STEP_TAIL is (log(1 + g) - g) / g^2; log(1 + w) to
# 2^-56.0 relative.
ROUND = 1.5 * 2.0**52
# fmt: off
STEP_RECIPROCALS = (
    1.0, 0.937500505708158, 0.8823531763628125, 0.8333337148651481,
    0.7894737357273698, 0.7499989476054907, 0.7142859594896436, 0.6818193839862943,
    0.6521739158779383, 0.6250003734603524, 0.6000003190711141, 0.5769233908504248,
    0.555555515922606, 0.5357138682156801, 0.5172412721440196, 0.5000009592622519,
)
STEP_LOGS = (
    0.0, 0.0020384874238394586, 0.007516052772333201, 0.01565481382102982,
    0.025862448536933914, 0.037682423250935175, 0.05075785282541442, 0.0648098730640562,
    0.07961792635870589, 0.09500340516970263, 0.11082541105205604, 0.12696918362910853,
    0.14334225216403676, 0.1598689566197081, 0.1764871082165338, 0.19314622129953382,
)
# fmt: on
STEP_TAIL = (
    -0.4999999999999976,
    0.33333333333357834,
    -0.25000000004415435,
    0.19999999867919058,
    -0.16666649809742937,
    0.14285927042893387,
    -0.1252265944822748,
    0.11012802980697464,
)

# Exponentials are held multiplied by this. Beyond e^-LIMIT even that times 2^-1000 is nothing.
UP = 2.0**512
DOWN = 2.0**-512
LIMIT = 1000.0


@kernel
def log1p_exp64(a: Lanes, lo: Lanes = None) -> tuple[Lanes, Lanes, Lanes]:
    """(w, c, v) with 2^512 log(1 + e^(a + lo)) = w c + 2^512 v for -LIMIT <= a <= 0: v = 0 where only w matters.

    w, which is 2^512 e^(a + lo) but for 0.9 ULP, is not subnormal, and v small, so that neither adding something to v
    nor multiplying w by a power of two costs any accuracy. 26 operations.
    """
    s, m = exp_steps64(a, lo, UP, exact=True)
    w = fma(s, m, s)
    u = w * DOWN
    i = bits(fma(u, 15.0, ROUND))
    c = lookup(STEP_RECIPROCALS, i)
    g = fma(u, c, c - 1.0)
    return w, c, fma(g * g, polynomial(g, STEP_TAIL), lookup(STEP_LOGS, i))


@kernel
def _log1p_core64(g: Lanes, lo: Lanes) -> tuple[Lanes, Lanes]:
    """log(1 + g + lo) = h + l for g in [-1/4, 1/2], |lo| <= 2^-52; |l| <= |h| / 8, error 2^-55."""
    s = g / (2.0 + g)
    w = s * s
    tail = polynomial(w, LOG_TAIL)
    half = 0.5 * g
    square, square_lo = two_prod(half, g)
    h = g - square
    rest = ((g - h) - square) - square_lo
    # 1/(1 + g) = (1 - s)/(1 + s) within 5 % of (1 - s)^2, which is enough for the last bits.
    t = 1.0 - s
    rest = fma(lo * t, t, rest)
    return h, fma(s, fma(w, tail, square), rest)


@kernel
def log_pair64(hi: Lanes, lo: Lanes) -> tuple[Lanes, Lanes]:
    """log(hi + lo) as a normal pair, for a normal pair in [2^-1000, 2^1000]. Relative error 2^-54.5.

    Also next to 1, as log(1 + the sum of the others) needs (2^-53.4 within some floats of 1).
    """
    # The mantissa in [3/4, 3/2): adding a quarter of a binade carries into the exponent from 3/2 on.
    k = (bits(hi) + 0x0008000000000000) >> 52
    down = from_bits((2046 - k) << 52)
    n = to_float(k - 1023)
    # hi * down - 1 is exact: a multiple of 2^-53 in [-1/4, 1/2].
    h, rest = _log1p_core64(fma(hi, down, -1.0), lo * down)
    p, e = two_prod(n, LN2_HI)
    h, rest2 = fast_two_sum(p, h)
    return renormalise(h, rest2 + (rest + fma(n, LN2_LO, e)))
