"""Inputs and parameters that vary together, for what no single value of a parameter would show."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastact.accuracy.samples import numpy_dtype
from fastact.accuracy.ulp import FORMATS

__all__ = ["next_to"]

Floats = npt.NDArray[Any]


def _product(x: Floats, factor: Floats) -> tuple[Floats, Floats]:
    """x times factor as two float64, exactly (Dekker); neither may be very large or small."""

    def halves(a: Floats) -> tuple[Floats, Floats]:
        upper = a * 134217729.0  # 2^27 + 1
        upper = upper - (upper - a)
        return upper, a - upper

    p, (a, a_low), (b, b_low) = x * factor, halves(x), halves(factor)
    return p, ((a * b - p) + a * b_low + a_low * b) + a_low * b_low


def next_to(target: tuple[float, float], dtype: str, count: int) -> tuple[Floats, Floats]:
    """About `count` pairs (x, factor) of `dtype` whose product is next to the `target`, hi + lo.

    Half of them are as near to it as few of some hundred thousand pairs are: much nearer than a float is. Those of the
    others have distances of all sizes from there to a half.
    """
    rng = np.random.default_rng(17)
    kind, hi, lo = numpy_dtype(dtype), *target
    wide = np.concatenate([rng.uniform(0.25, 4, 40 * count), np.exp2(rng.uniform(-30, 30, 10 * count))]).astype(kind)
    x = (hi / wide.astype(np.float64)).astype(kind)
    p, p_low = _product(x.astype(np.float64), wide.astype(np.float64))
    nearest = np.argsort(np.abs((p - hi) + (p_low - lo)))[: count // 2]
    some = rng.choice(wide, count // 2)
    away = np.exp2(rng.uniform(-1.0 - FORMATS[dtype].precision, -1.0, some.size)) * rng.choice([-1.0, 1.0], some.size)
    x = np.concatenate([x[nearest], ((hi + away) / some.astype(np.float64)).astype(kind)])
    factor = np.concatenate([wide[nearest], some])
    signs = rng.choice([-1.0, 1.0], x.size).astype(kind)
    return x * signs, factor * signs
