"""Which side of a kink: hard_sigmoid of any slope and offset, and clips with any limits, against exact fractions."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact.accuracy.ulp import FORMATS

Dtype = type[np.floating[Any]]
INF, NAN = math.inf, math.nan


def line_at(x: float, slope: float, offset: float, sixth: float) -> Fraction | float:
    """slope * x + offset without a rounding, or its limit; the float next to 1/6 stands for 1/6."""
    if slope == 0 and math.isinf(x):
        x = 0.0
    if all(map(math.isfinite, (x, slope, offset))):
        return (Fraction(1, 6) if slope == sixth else Fraction(slope)) * Fraction(x) + Fraction(offset)
    return offset if math.isfinite(x) and math.isfinite(slope) else slope * x + offset


def numbers(dtype: Dtype) -> list[float]:
    """Numbers of every size that are exact in the dtype."""
    wide = np.finfo(dtype)
    small = [wide.smallest_subnormal, wide.smallest_normal, wide.eps**2]
    usual = [wide.eps, 1 / 6, 0.5, 1 - wide.epsneg, 1.0, 1 + wide.eps, 2.5, 3.0, 1e9]
    large = [wide.max**0.5, wide.max]
    positive = [float(dtype(v)) for v in (*small, *usual, *large)]
    return [0.0, -0.0, *positive, *(-v for v in positive)]


def grid(dtype: Dtype) -> np.ndarray[Any, Any]:
    """Inputs, slopes and offsets: all of the numbers with each other, and inputs next to both kinks of random lines."""
    points = np.array(list(itertools.product(numbers(dtype), repeat=3)), dtype)
    rng = np.random.default_rng(1)
    exponents = [rng.integers(-30, 31, 500), rng.integers(-140, 120, 500)]
    parts = [points]
    for scale, kink, flip in itertools.product(exponents, (0.0, 1.0), (1, -1)):
        slope = (rng.uniform(1, 2, 500) * np.exp2(scale) * flip).astype(dtype)
        slope[::10] = dtype(1 / 6)
        offset = (rng.uniform(-2, 2, 500) * np.exp2(rng.choice([-40.0, 0.0, 1.0, 60.0], 500))).astype(dtype)
        offset[::7] = dtype(kink)
        with np.errstate(all="ignore"):
            x = ((kink - offset.astype(np.float64)) / slope.astype(np.float64)).astype(dtype)
            for steps in (-1, 0, 1):
                near = x if steps == 0 else np.nextafter(x, dtype(steps * INF))
                parts.append(np.stack([near, slope, offset], axis=1))
    return np.concatenate(parts)


def ulp(value: Fraction, dtype: Dtype) -> Fraction:
    """The spacing of the dtype's numbers at a number in (0, 1]."""
    form = FORMATS[np.dtype(dtype).name]
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    exponent -= value < Fraction(2) ** exponent
    return Fraction(2) ** (max(exponent, form.lowest) + 1 - form.precision)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hard_sigmoid_is_exact_about_its_kinks(dtype: Dtype) -> None:
    points = grid(dtype)
    points = points[np.isfinite(points).all(axis=1)]
    x, slope, offset = np.ascontiguousarray(points.T)
    sixth = float(dtype(1 / 6))
    lines = [line_at(*point, sixth) for point in points.tolist()]
    inside = np.array([0 < line < 1 for line in lines])
    assert 1000 < np.count_nonzero(inside) < inside.size - 1000
    with np.errstate(all="raise"):
        found = fa.hard_sigmoid(x, slope, offset)
        values = {
            "hard_sigmoid_derivative": slope,
            "hard_sigmoid_derivative_slope": x,
            "hard_sigmoid_derivative_offset": np.ones_like(x),
        }
        for name, value in values.items():
            got, expected = getattr(fa, name)(x, slope, offset), np.where(inside, value, 0)
            wrong = np.flatnonzero(got != expected)
            assert not wrong.size, f"{name}{tuple(points[wrong[0]])} = {got[wrong[0]]}, not {expected[wrong[0]]}"
    least = Fraction(float(np.finfo(dtype).smallest_normal))
    for point, line, value in zip(points.tolist(), lines, found.tolist(), strict=True):
        true = min(max(Fraction(line), Fraction(0)), Fraction(1))
        bound = Fraction(501 if true >= least else 750, 1000)
        near = true == value if true == 0 else abs(Fraction(value) - true) <= bound * ulp(true, dtype)
        assert near, f"hard_sigmoid{tuple(point)} = {value}, not {float(true)}"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hard_sigmoid_of_infinities_and_nan(dtype: Dtype) -> None:
    special = [0.0, -0.0, 1e-30, 0.25, 1.0, -2.0, float(np.finfo(dtype).max), INF, -INF, NAN, 1 / 6]
    points = np.array(list(itertools.product(special, repeat=3)), dtype)
    points = points[~np.isfinite(points).all(axis=1)]
    x, slope, offset = np.ascontiguousarray(points.T)
    lines = np.array([float(line_at(*point, float(dtype(1 / 6)))) for point in points.tolist()])
    nan, inside = np.isnan(lines), (lines > 0) & (lines < 1)
    forward = np.where(nan, NAN, np.clip(lines, 0, 1)).astype(dtype)
    assert inside.any()
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(fa.hard_sigmoid(x, slope, offset), forward)
        for name, value in (("derivative", slope), ("derivative_slope", x), ("derivative_offset", 1.0)):
            expected = np.where(nan, NAN, np.where(inside, value, 0)).astype(dtype)
            np.testing.assert_array_equal(getattr(fa, f"hard_sigmoid_{name}")(x, slope, offset), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clips_with_limits_that_are_nan_infinite_or_crossed(dtype: Dtype) -> None:
    special = [0.0, -0.0, 0.5, 1.0, 2.0, -1.5, INF, -INF, NAN]
    x, low, high = np.array(list(itertools.product(special, repeat=3)), dtype).T.copy()
    nan = np.isnan(x) | np.isnan(low) | np.isnan(high)
    with np.errstate(all="raise"):
        forward = fa.hard_tanh(x, low, high)
        np.testing.assert_array_equal(forward, np.clip(x, low, high))
        expected = {
            "derivative": (low < x) & (x < high),
            "derivative_min_val": (x <= low) & (low < high),
            "derivative_max_val": np.maximum(x, low) >= high,
        }
        for name, mask in expected.items():
            got = getattr(fa, f"hard_tanh_{name}")(x, low, high)
            np.testing.assert_array_equal(got, np.where(nan, NAN, mask).astype(dtype), err_msg=name)
