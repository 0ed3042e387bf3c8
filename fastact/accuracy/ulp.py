"""The error of a result in units in the last place, and the kinds of wrong that have no size.

One ULP is the spacing of the dtype's numbers at the *true* value: between 2^k and 2^(k+1) it is 2^(k+1-precision), and
below the smallest normal number it is the smallest subnormal. So a correctly rounded result is off by 0.5 at most, and
a result that came out 0 where the true value is normal is off by 2^(precision-1) or more.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["FORMATS", "Comparison", "Format", "compare", "nearest", "ulp_error"]

Floats = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


class Format(NamedTuple):
    """A binary floating-point format: bits of precision (the hidden one included) and exponents of normal numbers."""

    bits: int
    precision: int
    lowest: int
    """exponent of the smallest normal number"""
    highest: int
    """exponent of the largest finite number"""

    @property
    def unsigned(self) -> np.dtype[Any]:
        """The unsigned integers as wide as the floats."""
        return np.dtype(f"u{self.bits // 8}")

    @property
    def infinity(self) -> int:
        """The bit pattern of +inf; those above it are NaN."""
        return ((1 << (self.bits - self.precision)) - 1) << (self.precision - 1)


FORMATS = {
    "float16": Format(16, 11, -14, 15),
    "bfloat16": Format(16, 8, -126, 127),
    "float32": Format(32, 24, -126, 127),
    "float64": Format(64, 53, -1022, 1023),
}


class Comparison(NamedTuple):
    """Element by element: the error in ULP (inf where NaN or an infinity is wrong) and what kind of wrong it is."""

    error: npt.NDArray[np.float64]
    wrong_nan: Mask
    """NaN where a number is true, or a number where NaN is true"""
    wrong_inf: Mask
    """an infinity where the true value is finite and off by a ULP or more, or a number where the true value rounds
    to inf
    """
    wrong_zero: Mask
    """0 where the true value is a ULP or more away from it, or a number where 0 is true"""
    wrong_sign: Mask
    """the sign differs, signs of zeros included"""

    @property
    def wrong(self) -> Mask:
        """Any of the four."""
        return self.wrong_nan | self.wrong_inf | self.wrong_zero | self.wrong_sign


def compare(
    result: npt.ArrayLike,
    true_hi: npt.ArrayLike,
    true_lo: npt.ArrayLike = 0.0,
    exponent: npt.ArrayLike = 0,
    dtype: npt.DTypeLike | None = None,
) -> Comparison:
    """Compare `result` with the true values (true_hi + true_lo) * 2^exponent, in ULP of `dtype` (that of `result`)."""
    result = np.asarray(result)
    form = FORMATS[np.dtype(dtype or result.dtype).name]
    with np.errstate(all="ignore"):
        got = result.astype(np.float64)
        hi, lo = np.asarray(true_hi, np.float64), np.asarray(true_lo, np.float64)
        mantissa, own = np.frexp(hi)
        lo = np.ldexp(lo, -own)
        binade = own + np.asarray(exponent, np.int64)
        # Just below a power of two the spacing is the smaller one.
        below = (np.abs(mantissa) == 0.5) & (lo * mantissa < 0)
        spacing = np.maximum(binade - below, form.lowest + 1) - form.precision
        spacing = np.where(hi == 0, form.lowest + 1 - form.precision, spacing)

        # A true value at or above the largest number and a half of its spacing rounds to an infinity.
        top = form.highest + 1
        over = np.ldexp(np.abs(mantissa), np.minimum(binade - top, 2).astype(np.intp))
        over_lo = np.ldexp(lo * np.sign(mantissa), np.minimum(binade - top, 2).astype(np.intp))
        to_inf = np.isinf(hi) | ((over - 1) + (over_lo + 2.0 ** -(form.precision + 1)) >= 0)

        # An infinity for a number that does not round to it counts as the next power of two.
        stand_in = np.where(np.isinf(got), np.copysign(np.ldexp(1.0, np.minimum(top - spacing, 1023)), got), 0.0)
        units = np.where(np.isinf(got), stand_in, _ldexp(got, -spacing))
        true_units = _ldexp(mantissa, binade - spacing)
        error = np.abs(units - true_units - _ldexp(lo, binade - spacing))

        nan = np.isnan(hi)
        wrong_nan = np.isnan(got) != nan
        right_inf = to_inf & np.isinf(got) & (np.signbit(got) == np.signbit(hi))
        wrong_inf = ~nan & ~wrong_nan & ~right_inf & (to_inf | (np.isinf(got) & ~(error < 1)))
        error = np.where(nan | right_inf, 0.0, error)
        error = np.where(wrong_nan | wrong_inf, np.inf, error)
        numbers = ~nan & ~wrong_nan
        wrong_zero = numbers & (((got == 0) & (hi != 0) & (error >= 1)) | ((hi == 0) & (got != 0)))
        wrong_sign = numbers & (np.signbit(got) != np.signbit(hi))
    return Comparison(error, wrong_nan, wrong_inf, wrong_zero, wrong_sign)


def _ldexp(x: Floats, exponent: Floats) -> Floats:
    """ldexp in two steps: one would overflow on the way where the exponent is beyond 1023."""
    half = np.clip(exponent, -4000, 4000) // 2
    rest = np.clip(exponent, -4000, 4000) - half
    return np.asarray(np.ldexp(np.ldexp(x, half.astype(np.intp)), rest.astype(np.intp)))


def ulp_error(
    result: npt.ArrayLike,
    true_hi: npt.ArrayLike,
    true_lo: npt.ArrayLike = 0.0,
    dtype: npt.DTypeLike | None = None,
    exponent: npt.ArrayLike = 0,
) -> npt.NDArray[np.float64]:
    """The error of `result` in ULP of the true values true_hi + true_lo; inf where NaN or an infinity is wrong."""
    return compare(result, true_hi, true_lo, exponent, dtype).error


def nearest(true_hi: npt.NDArray[np.float64], dtype: npt.DTypeLike) -> Floats:
    """The true values rounded to `dtype`, without NumPy's overflow warning."""
    with np.errstate(all="ignore"):
        return true_hi.astype(dtype)
