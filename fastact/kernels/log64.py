"""Logarithms for float64 lanes, on pairs: log(1 + f) for f = e^-|x|, and that of a row's sum.

With s = g / (2 + g), log(1 + g) = g - g^2/2 + s (g^2/2 + w P(w)), w = s^2 (fdlibm's form): g and
g^2/2 are exact as pairs, and the rest is so small that its rounding errors do not matter.
"""

from __future__ import annotations

from typing import Any

from fastact.kernels.exp64 import LN2_HI, LN2_LO
from fastact.kernels.language import bits, fma, from_bits, kernel, select, to_float
from fastact.kernels.pairs import fast_two_sum, renormalise, two_prod
from fastact.kernels.polynomials import polynomial

__all__ = ["log1p_pair64", "log_pair64"]

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
def log1p_pair64(f: Lanes, lo: Lanes) -> tuple[Lanes, Lanes]:
    """log(1 + f + lo) as a normal pair, for 0 <= f <= 1, |lo| <= 2^-52 f. Relative error 2^-55.

    Tiny and subnormal f give f. One division, 45 operations.
    """
    # Above 1/2, log((1 + f)/2) + log 2; (f - 1)/2 is exact there.
    above = f > 0.5
    g = select(above, fma(0.5, f, -0.5), f)
    h, rest = _log1p_core64(g, select(above, 0.5 * lo, lo))
    raised, e = fast_two_sum(LN2_HI, h)
    h = select(above, raised, h)
    return renormalise(h, select(above, rest + (e + LN2_LO), rest))


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
