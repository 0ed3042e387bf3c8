"""Double-word arithmetic: a value kept as an unevaluated sum `hi + lo` of two floats.

Every kernel here is right on float32 and on float64 lanes. A pair is *normal* when `hi` is the
pair's sum rounded to nearest, so that |lo| is at most half an ULP of `hi`. Errors below are
relative, in units of u², where u is half an ULP of 1: 2^-24 for float32, 2^-53 for float64. They
hold while no intermediate value overflows and no product's rounding error is subnormal, that is
for results above about 2^-100 (float32) or 2^-960 (float64). Infinities and NaN turn `lo` into
NaN: clamp arguments before, or select the limits afterwards.

Bounds: Joldes, Muller, Popescu, "Tight and rigorous error bounds for basic building blocks of
double-word arithmetic", ACM TOMS 44(2), 2017.
"""

from __future__ import annotations

from typing import Any

from fastact.kernels.language import fma, kernel

__all__ = [
    "add_float_to_pair",
    "add_pairs",
    "divide_pairs",
    "fast_two_sum",
    "multiply_pair_by_float",
    "multiply_pairs",
    "quotient_with_residual",
    "reciprocal_pair",
    "renormalise",
    "square_pair",
    "two_diff",
    "two_prod",
    "two_square",
    "two_sum",
]

Lanes = Any


@kernel
def two_sum(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """a + b exactly, as (rounded sum, rounding error), whatever the magnitudes. 6 operations."""
    s = a + b
    bb = s - a
    return s, (a - (s - bb)) + (b - bb)


@kernel
def two_diff(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """a - b exactly, as (rounded difference, rounding error). 6 operations."""
    s = a - b
    bb = s - a
    return s, (a - (s - bb)) - (b + bb)


@kernel
def fast_two_sum(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """a + b exactly if |a| >= |b|, a = 0, or a is a multiple of b's last bit. 3 operations."""
    s = a + b
    return s, b - (s - a)


@kernel
def renormalise(hi: Lanes, lo: Lanes) -> tuple[Lanes, Lanes]:
    """The normal pair with the value hi + lo, if |hi| >= |lo|: `fast_two_sum`. 3 operations."""
    s = hi + lo
    return s, lo - (s - hi)


@kernel
def two_prod(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """a * b exactly, as (rounded product, rounding error). 2 operations."""
    p = a * b
    return p, fma(a, b, -p)


@kernel
def two_square(a: Lanes) -> tuple[Lanes, Lanes]:
    """a * a exactly, as (rounded square, rounding error). 2 operations."""
    p = a * a
    return p, fma(a, a, -p)


@kernel
def add_float_to_pair(hi: Lanes, lo: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """(hi + lo) + b as a normal pair, error 2 u². 10 operations."""
    s, e = two_sum(hi, b)
    return fast_two_sum(s, e + lo)


@kernel
def add_pairs(ahi: Lanes, alo: Lanes, bhi: Lanes, blo: Lanes) -> tuple[Lanes, Lanes]:
    """(ahi + alo) + (bhi + blo) as a normal pair, error 3 u² even if they cancel. 20 operations."""
    s, e = two_sum(ahi, bhi)
    t, f = two_sum(alo, blo)
    s, e = fast_two_sum(s, e + t)
    return fast_two_sum(s, e + f)


@kernel
def multiply_pair_by_float(hi: Lanes, lo: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """(hi + lo) * b as a normal pair, error 2 u². 6 operations."""
    p, e = two_prod(hi, b)
    return fast_two_sum(p, fma(lo, b, e))


@kernel
def multiply_pairs(ahi: Lanes, alo: Lanes, bhi: Lanes, blo: Lanes) -> tuple[Lanes, Lanes]:
    """(ahi + alo) * (bhi + blo) as a normal pair, error 5 u². 7 operations."""
    p, e = two_prod(ahi, bhi)
    return fast_two_sum(p, e + fma(ahi, blo, alo * bhi))


@kernel
def square_pair(hi: Lanes, lo: Lanes) -> tuple[Lanes, Lanes]:
    """(hi + lo)² as a normal pair, error 5 u². 7 operations."""
    p, e = two_square(hi)
    return fast_two_sum(p, fma(hi + hi, lo, e))


@kernel
def reciprocal_pair(hi: Lanes, lo: Lanes) -> tuple[Lanes, Lanes]:
    """1 / (hi + lo) as a pair, error about 3 u². One division and 3 operations.

    The pair is normal but for the last bit of `hi`. The residual 1 - q·hi is exact in one fma, so
    multiplying it by q instead of dividing again costs no accuracy.
    """
    q = 1.0 / hi
    r = fma(-q, lo, fma(-q, hi, 1.0))
    return q, r * q


@kernel
def divide_pairs(ahi: Lanes, alo: Lanes, bhi: Lanes, blo: Lanes) -> tuple[Lanes, Lanes]:
    """(ahi + alo) / (bhi + blo) as a pair, error about 10 u². One division and 6 operations.

    The pair is normal but for the last bits of `hi`; `renormalise` makes it normal. There is only
    one division because 1/bhi serves for the quotient and for its residual.
    """
    y = 1.0 / bhi
    q = ahi * y
    r = fma(-q, bhi, ahi)
    r = r + fma(-q, blo, alo)
    return q, r * y


@kernel
def quotient_with_residual(ahi: Lanes, alo: Lanes, bhi: Lanes, blo: Lanes) -> Lanes:
    """(ahi + alo) / (bhi + blo) as one float, error 0.501 ULP if normal. One division, 7 operations."""
    q, e = divide_pairs(ahi, alo, bhi, blo)
    return q + e
