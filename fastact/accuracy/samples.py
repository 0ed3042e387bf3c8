"""Inputs that find errors: a walk over all bit patterns, and points next to everything special.

Uniform random numbers would all have the same few exponents. Walking the bit patterns instead visits every exponent of
both signs, subnormals included; the curated points stand where a kernel changes its way of computing or the result
leaves the dtype's range, with their neighbours on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastact.accuracy.arithmetic import require
from fastact.accuracy.ulp import FORMATS
from fastact.activation import Activation, Unfinished

__all__ = [
    "PARAMETERS",
    "POINTS",
    "RELATIVES",
    "curated",
    "exponents",
    "neighbours",
    "numpy_dtype",
    "other_parameters",
    "samples",
    "specials",
    "walk",
]

Floats = npt.NDArray[Any]

LN2 = math.log(2.0)

POINTS: Mapping[str, Sequence[float]] = {
    # exp: overflow and underflow of float32 and float64, half and whole
    "sigmoid": (103.97, 88.73, 87.34, 17.33, 16.64, 745.13, 708.4, 37.5),
    "bipolar_sigmoid": (0.6250, 1.0986, 18.02, 37.4, 88.73, 103.97, 104.67, 174.7, 745.13, 708.4),
    "tanh": (0.3125, 0.5493, 0.6250, 8.32, 9.01, 18.7, 19.06, 43.67, 44.36, 51.99, 52.33, 354.2, 372.6),
    "swish": (1.2784645427610738, 108.7, 103.97, 91.9, 88.73, 87.34, 17.33, 745.13, 751.7, 708.4, 714.9),
    "gelu": (
        *(0.7517915946947135, 1.4142135623730951, 5.5, 13.0, 13.08, 14.12, 14.25, 14.43, 8.4, 37.5, 37.7, 38.6),
        *(5.41, 5.86, 8.3, 0.65, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1.8e19, 1.3e154),
    ),
    "gelu_tanh": (0.7524614, 5.0, 10.0, 10.1, 10.45, 10.6, 10.75, 5.54, 21.0, 21.6, 21.9, 1e12, 1e20, 1e103),
    "mish": (
        *(1.192431226, 108.7, 103.97, 91.9, 88.73, 87.34, 9.0, 17.33, 18.7, 44.0),
        *(745.13, 751.7, 714.9, 354.0, 709.0),
    ),
    "softplus": (103.97, 88.73, 87.34, 16.64, 17.33, 20.0, 20.001, 745.13, 708.4, 33.2, 36.7, 709.8),
    "elu": (0.5, 0.3466, 17.33, 16.64, 87.34, 88.73, 103.97, 36.7, 37.5, 708.4, 745.13),
    "softsign": (1.0, 0.5, 1.6777216e7, 1.8e19, 3.4e38, 9e15, 1.3e154),
    "hard_sigmoid": (3.0, 2.5),
    "hard_swish": (3.0, 1.5),
    "relu6": (6.0,),
    "hard_tanh": (1.0,),
    "relu": (),
}
"""Branches, derivative zeros and the edges of over- and underflow, by function or by the function whose relative it is;
both signs of each are used."""

RELATIVES = {
    "silu": "swish",
    "selu": "elu",
    "celu": "elu",
    "log_sigmoid": "softplus",
}
"""Functions that have the points of others."""

PARAMETERS: Mapping[str, Sequence[tuple[float, ...]]] = {
    "binary_step": ((1.5,), (-0.25,)),
    "leaky_relu": ((0.2,), (-0.5,), (0.0,), (1.0,), (1e-30,)),
    "prelu": ((0.25,), (-0.5,), (0.0,), (3.0,)),
    "elu": ((0.5,), (-1.5,), (3.0,), (0.0,)),
    "celu": ((0.5,), (-1.5,), (3.0,), (0.01,), (100.0,)),
    "swish": ((0.5,), (1.702,), (-1.0,), (0.0,), (10.0,), (1e-3,)),
    "softplus": ((0.5,), (-1.0,), (10.0,), (1e-3,), (3.0,)),
    "hard_sigmoid": ((0.2, 0.5), (1.0, 0.0), (-0.25, 0.5), (0.0, 0.25), (1.0, -1e-8)),
    "hard_tanh": ((0.0, 6.0), (-2.5, 0.75), (1.0, 2.0), (2.0, 1.0)),
}
"""Parameter values beside the defaults, by function."""


def other_parameters(record: Activation) -> Sequence[tuple[float, ...]]:
    """Those of one function; none where it has no parameter."""
    if not record.parameters:
        return ()
    if record.name not in PARAMETERS:
        raise Unfinished(record.name, "values of its parameters", "PARAMETERS", "fastact/accuracy/samples.py")
    return PARAMETERS[record.name]


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The dtype of a name in `FORMATS`; bfloat16 needs ml_dtypes."""
    if dtype == "bfloat16":
        return np.dtype(require("ml_dtypes").bfloat16)  # type: ignore[no-any-return]
    return np.dtype(dtype)


def walk(dtype: str, count: int, offset: int = 0) -> Floats:
    """About `count` bit patterns, evenly spread over all of them: every exponent, both signs, subnormals.

    The step is odd, so that the low bits of the significand vary as well.
    """
    form = FORMATS[dtype]
    total = 1 << form.bits
    step = (max(1, total // max(count, 1)) | 1) & (total - 1)
    # Arithmetic of uint64 is modulo 2^64, of which the number of patterns is a divisor.
    line = np.arange(min(count, total), dtype=np.uint64) * np.uint64(step) + np.uint64(offset)
    return (line & np.uint64(total - 1)).astype(form.unsigned).view(numpy_dtype(dtype))


def _middle(dtype: str, count: int) -> Floats:
    """About `count` bit patterns of both signs, evenly spread over those of 2^-12 to 2^11."""
    form = FORMATS[dtype]
    ends = np.array([2.0**-12, 2.0**11]).astype(numpy_dtype(dtype)).view(form.unsigned).astype(np.int64)
    line = np.linspace(ends[0], ends[1], count // 2 + 1).astype(np.int64)
    # so that the low bits vary, which steps of a power of two would not
    line += np.arange(line.size) % 1021 * 7919 % max(1, int(ends[1] - ends[0]) // line.size)
    positive = np.minimum(line, ends[1]).astype(form.unsigned).view(numpy_dtype(dtype))
    return np.concatenate([positive, -positive])


def exponents(dtype: str) -> Floats:
    """For every exponent of the dtype, subnormals included, a power of two, its neighbours and one number in
    between.
    """
    form = FORMATS[dtype]
    ones = np.ldexp(1.0, np.arange(form.lowest, form.highest + 1))
    patterns = ones.astype(numpy_dtype(dtype)).view(form.unsigned)
    small = np.left_shift(1, np.arange(form.precision - 1, dtype=np.uint64)).astype(form.unsigned)
    starts = np.concatenate([small, patterns]).astype(np.uint64)
    third = np.uint64((1 << (form.precision - 1)) // 3)
    inside = patterns.astype(np.uint64) + third
    every = np.unique(np.concatenate([starts - np.uint64(1), starts, starts + np.uint64(1), inside]))
    positive = every.astype(form.unsigned).view(numpy_dtype(dtype))
    return np.concatenate([positive, -positive])


def neighbours(points: Iterable[float], dtype: str, width: int) -> Floats:
    """Each point rounded to the dtype, and `width` consecutive numbers on either side of it."""
    form = FORMATS[dtype]
    with np.errstate(over="ignore"):
        centre = np.array([p for p in points if math.isfinite(p)]).astype(numpy_dtype(dtype))
    # On this line of integers consecutive floats are consecutive, from -inf over both zeros to +inf.
    top = 1 << (form.bits - 1)
    bits = centre.view(form.unsigned).astype(object)
    line = np.array([b if b < top else top - b for b in bits.tolist()], dtype=np.int64)
    near = (line[:, None] + np.arange(-width, width + 1)[None, :]).ravel()
    near = np.unique(np.clip(near, -form.infinity, form.infinity))
    unsigned = [int(n) if n >= 0 else top - int(n) for n in near.tolist()]
    return np.array(unsigned, np.uint64).astype(form.unsigned).view(numpy_dtype(dtype))


def specials(dtype: str) -> Floats:
    """Zeros, infinities, NaN, the smallest and largest subnormal and normal numbers, with both signs."""
    form = FORMATS[dtype]
    normal = 1 << (form.precision - 1)
    positive = [0, 1, 2, normal - 1, normal, normal + 1, form.infinity - 1, form.infinity, form.infinity + normal // 2]
    sign = 1 << (form.bits - 1)
    patterns = positive + [p | sign for p in positive]
    return np.array(patterns, np.uint64).astype(form.unsigned).view(numpy_dtype(dtype))


def curated(
    name: str, dtype: str, parameters: Sequence[float] = (), kinks: Sequence[float] = (), width: int = 3
) -> Floats:
    """Points around kinks, branches, derivative zeros and range edges of one function, and where exp changes its
    exponent.
    """
    points = POINTS.get(name) or POINTS.get(RELATIVES.get(name, ""), ())
    signed = [*points, *(-p for p in points), *kinks, *parameters, *(-p for p in parameters)]
    # A parameter that scales x moves the points, as does a factor that x is divided by.
    scaled = [s for p in parameters if p for q in points for s in (q / p, q * p, -q / p, -q * p)]
    # exp splits off a multiple of ln 2: its remainder is largest half-way between two.
    reach = 2.2 * 1074 if dtype == "float64" else 310
    thin = 29 if dtype == "float64" else 3
    halves = [k * LN2 / 2 for k in range(-int(reach), int(reach) + 1) if abs(k) < 60 or k % thin == 0]
    small = [k / 8 for k in range(-80, 81)]
    return np.concatenate([neighbours(signed, dtype, 4 * width), neighbours([*scaled, *halves, *small], dtype, 1)])


def samples(name: str, dtype: str, count: int, parameters: Sequence[float] = (), kinks: Sequence[float] = ()) -> Floats:
    """Specials, every exponent, curated points and a walk of `count` bit patterns, half of it where functions bend.

    Each bit pattern comes once, in the order of the patterns.
    """
    form = FORMATS[dtype]
    powers = exponents(dtype)
    parts = [
        specials(dtype),
        powers[:: max(1, powers.size // max(count, 1)) | 1],
        curated(name, dtype, parameters, kinks),
        walk(dtype, count // 2),
        _middle(dtype, count - count // 2),
    ]
    patterns = np.unique(np.concatenate([p.view(form.unsigned) for p in parts]))
    return patterns.view(numpy_dtype(dtype))
