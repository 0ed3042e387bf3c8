"""True values for narrow dtypes at the speed of arithmetic, within 1e-3 ULP of float32 (a test holds them to it).

`formulas` says what to compute; here it is compiled. Next to a derivative's zero no float64 formula is good enough:
there it is a Taylor series about the root, whose root and coefficients come from the multi-precision oracle. What
conventions say about zeros and infinities comes from the oracle as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fastact.accuracy.arithmetic import namespaces, require
from fastact.accuracy.formulas import REFERENCES, Array, Scalar
from fastact.accuracy.oracles import formula_of, truth_at
from fastact.activation import Unfinished

__all__ = ["ROOTS", "compiled", "filler", "reference64", "root_of"]

ROOTS: Mapping[tuple[str, str], tuple[str, float]] = {
    ("silu", "derivative"): ("silu", -1.2784645),
    ("swish", "derivative"): ("silu", -1.2784645),
    ("gelu", "derivative"): ("gelu", -0.7517916),
    ("gelu_tanh", "derivative"): ("gelu_tanh", -0.752461),
    ("mish", "derivative"): ("mish", -1.1924312),
}
"""Where a derivative crosses zero with a slope, about: (whose derivative, root). For swish in z = beta x."""

NEAR = 1 / 32
"""Half the width of the interval in which the Taylor series is used."""
TERMS = 14


@cache
def _taylor(name: str, about: float) -> tuple[float, float, Array]:
    """The root of the derivative of `name` next to `about` in two floats, and the series' coefficients down to x^1."""
    mp, arithmetic = require("mpmath").mp, namespaces()[1]
    formula = formula_of(name, "derivative")
    with mp.workdps(60):
        root = mp.findroot(lambda x: formula(arithmetic, x), about)
        series = mp.taylor(lambda x: formula(arithmetic, x), root, TERMS)
        return float(root), float(root - float(root)), np.array([float(c) for c in series[:0:-1]])


def root_of(name: str, about: float) -> tuple[float, float]:
    """The zero of the derivative of `name` next to `about`, in two floats."""
    hi, lo, _ = _taylor(name, about)
    return hi, lo


# --- compiled loops


def compiled(function: Callable[..., Any]) -> Any:
    """`function` compiled by Numba for threads that measure at the same time."""
    import numba

    return numba.njit(nogil=True, error_model="numpy")(function)


@cache
def _arguments(argument: Scalar) -> Any:
    scalar = compiled(argument)

    def fill(x: Array, out: Array, parameters: tuple[float, ...]) -> None:
        for i in range(x.size):
            out[i] = scalar(x[i], *parameters)

    return compiled(fill)


@cache
def _values(formula: Scalar) -> Any:
    scalar = compiled(formula)

    def fill(
        x: Array, a: Array, b: Array, special: tuple[float, ...], out: Array, parameters: tuple[float, ...]
    ) -> None:
        left, below, above, right = special
        for i in range(x.size):
            at = x[i]
            y = scalar(at, a[i], b[i], *parameters)
            y = left if at == -math.inf else y
            y = right if at == math.inf else y
            zero = below if math.copysign(1.0, at) < 0 else above
            y = zero if at == 0 else y
            out[i] = y if at == at else math.nan

    return compiled(fill)


@cache
def _series() -> Any:
    def fill(x: Array, scale: float, hi: float, lo: float, coefficients: Array, out: Array) -> None:
        for i in range(x.size):
            z = scale * x[i]
            if abs(z - hi) < NEAR:
                d = (z - hi) - lo
                total = 0.0
                for c in coefficients:
                    total = total * d + c
                out[i] = total * d

    return compiled(fill)


@cache
def _special(name: str, form: str, parameters: tuple[float, ...]) -> tuple[float, ...]:
    """What conventions rather than formulas say: the values at -inf, -0, 0 and inf, from the oracle."""
    true = [truth_at(name, form, x, *parameters) for x in (-math.inf, -0.0, 0.0, math.inf)]
    return tuple(v.hi if v.hi == 0 else math.ldexp(v.hi, v.exponent) for v in true)


@cache
def filler(name: str, form: str, parameters: tuple[float, ...]) -> Callable[[Array, Array, Array], None]:
    """The compiled reference: ``fill(x, out, scratch)`` writes the true values at `x` to `out`; all are float64."""
    try:
        formula, argument, primitive = REFERENCES[name][form]
    except KeyError:
        raise Unfinished(name, form, "REFERENCES", "fastact/accuracy/formulas.py") from None
    values, special = _values(formula), _special(name, form, parameters)
    arguments = None if argument is None else _arguments(argument)
    root = _taylor(*ROOTS[name, form]) if (name, form) in ROOTS else None
    near_root, scale = _series(), parameters[0] if parameters else 1.0

    def fill(x: Array, out: Array, scratch: Array) -> None:
        a, b = x, x
        if arguments is not None:
            arguments(x, scratch, parameters)
            a, b = primitive(scratch)
        values(x, a, b, special, out, parameters)
        if root is not None:
            near_root(x, scale, *root, out)

    return fill


def reference64(name: str, form: str, x: npt.ArrayLike, *parameters: float) -> Array:
    """True values for a float16, bfloat16 or float32 array `x`, within 1e-3 ULP of float32, special values included.

    Parameters are exact: round them first to what the function sees. A result below float64's range comes back as a
    zero of the right sign.
    """
    with np.errstate(all="ignore"):
        wide = np.asarray(x).astype(np.float64).ravel()
        result = np.empty_like(wide)
        filler(name, form, tuple(map(float, parameters)))(wide, result, np.empty_like(wide))
    return result.reshape(np.shape(x))
