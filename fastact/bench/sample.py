"""How far each library is from the truth, on one fixed sample.

The points and the truth are those of `fastact.accuracy`: a walk through the bit patterns of the
dtype and curated points, judged by float64 formulas for the narrow dtypes and by many digits for
float64. This is a spot check, one figure a library, and not the proof: that is ``fastact
accuracy``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.accuracy.oracles import truth as oracle
from fastact.accuracy.reference import reference64
from fastact.accuracy.rows import cross_entropy_truth, row_truth
from fastact.accuracy.samples import samples
from fastact.accuracy.ulp import FORMATS, compare
from fastact.bench.arrays import numpy_dtype
from fastact.bench.formulas import targets
from fastact.bench.libraries import Case, required
from fastact.bench.peers import PEERS

__all__ = ["Error", "Truth", "measure_error", "truth"]

Array = NDArray[Any]
Value = tuple[Any, Any, Any]

POINTS = {"float16": 4000, "bfloat16": 4000, "float32": 4000, "float64": 300}
"""About how many points are walked to; the curated ones come on top. Many digits take time, so
float64 gets fewer."""


ROW_SHAPE = (16, 500)
"""Rows and their length for functions along an axis."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Inputs and gradients, and for each output of the form the true results (hi + lo) *
    2^exponent."""

    x: Array
    g: Array
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Error:
    """How wrong one library is on the sample."""

    max_ulp: float
    """largest error over normal inputs and zeros"""
    max_ulp_subnormal: float
    """largest error over subnormal inputs, which some libraries take for zero"""
    wrong_at: tuple[str, ...]
    """which of -inf, inf and nan give something else than the limit or NaN"""


def truth(name: str, form: str, dtype: str) -> Truth | None:
    """The sample and the true results there; None for a form that has no reference: an axis, or a saved y.

    Raises ImportError where the oracles' libraries are missing.
    """
    if form == "backward":
        return None
    with np.errstate(all="ignore"):
        return _truth_of_rows(name, form, dtype) if PEERS[name].rows else _truth_of_elements(name, form, dtype)


def _truth_of_elements(name: str, form: str, dtype: str) -> Truth:
    import fastact as fa

    record = fa.CATALOGUE[name]
    defaults = required(name) or tuple(p.default for p in record.parameters if p.default is not None)
    # what a function of this dtype sees of 0.01 or 1/6; 16-bit types are computed in float32
    computed = "float64" if dtype == "float64" else "float32"
    parameters = tuple(float(np.asarray(value, computed)) for value in defaults)
    x = samples(name, dtype, POINTS[dtype], parameters, record.kinks)
    if form != "forward":
        # the slope at a kink is a convention, on which libraries differ
        x = x[~np.isin(x, np.array(record.kinks, x.dtype))]
    # Powers of two: g f'(x) has the error of f'(x) and says nothing about rounding the gradient;
    # none above 1, because it would magnify the rounding of a subnormal f'(x).
    g = np.exp2(np.random.default_rng(5).integers(-4, 1, x.size)).astype(x.dtype)
    parts = {"forward": ("forward",), "with_derivative": ("forward", "derivative")}.get(form, ("derivative",))
    values: list[Value] = []
    for part in parts:
        if dtype == "float64":
            hi, lo, exponent = oracle(name, part, x, *parameters)
            scale = g if form == "vjp" else 1.0
            values.append((hi * scale, lo * scale, exponent))
        else:
            value = reference64(name, part, x, *parameters)
            values.append((value * g if form == "vjp" else value, 0.0, 0))
    return Truth(x, g, tuple(values))


def _truth_of_rows(name: str, form: str, dtype: str) -> Truth | None:
    """Rows of N(0, 5) logits. A vjp has no figure here: each library starts from the y that it saved, and the
    difference g - sum(g y) magnifies the rounding of that."""
    losses = PEERS[name].targets
    if form != "forward":
        return None
    rng = np.random.default_rng(2**16 + 1)
    kind = numpy_dtype(dtype)
    x, g = rng.normal(0, 5, ROW_SHAPE).astype(kind), rng.normal(0, 1, ROW_SHAPE).astype(kind)
    if losses:
        one_hot = np.eye(ROW_SHAPE[1])[targets(ROW_SHAPE)]
        rows = [cross_entropy_truth(*pair)[0] for pair in zip(x, one_hot, strict=True)]
    else:
        rows = [row_truth(name, row) for row in x]
    hi, lo, exponent = (np.stack(part).squeeze() for part in zip(*rows, strict=True))
    return Truth(x, g, ((hi, lo, exponent),))


def measure_error(case: Case, true: Truth) -> Error:
    """The error of a case that was prepared on ``true.x`` and ``true.g``."""
    with np.errstate(invalid="ignore"):  # signalling NaN
        x = true.x.ravel().astype(np.float64)
    subnormal = (x != 0) & (np.abs(x) < 2.0 ** FORMATS[true.x.dtype.name].lowest)
    normal = np.isfinite(x) & ~subnormal
    specials = {"-inf": x == -np.inf, "inf": x == np.inf, "nan": np.isnan(x)}
    worst, worst_subnormal, wrong_at = 0.0, 0.0, set()
    for result, (hi, lo, exponent) in zip(case.outputs(), true.values, strict=True):
        error = compare(result.reshape(np.shape(hi)), hi, lo, exponent, true.x.dtype).error.ravel()
        if error.size != x.size:  # one value a row
            worst = max(worst, float(error.max()))
            continue
        worst = max(worst, float(error[normal].max()))
        worst_subnormal = max(worst_subnormal, float(error[subnormal].max(initial=0.0)))
        wrong_at |= {name for name, at in specials.items() if not np.all(error[at] < 1)}
    return Error(worst, worst_subnormal, tuple(name for name in specials if name in wrong_at))
