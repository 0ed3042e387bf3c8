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
    "fast_two_sum",
    "multiply_pairs",
    "renormalise",
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
def multiply_pairs(ahi: Lanes, alo: Lanes, bhi: Lanes, blo: Lanes) -> tuple[Lanes, Lanes]:
    """(ahi + alo) * (bhi + blo) as a normal pair, error 5 u². 7 operations."""
    p, e = two_prod(ahi, bhi)
    return fast_two_sum(p, e + fma(ahi, blo, alo * bhi))
