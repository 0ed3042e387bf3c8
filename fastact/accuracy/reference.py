"""A fast judge for narrow dtypes: float64 formulas over whole arrays, within 1e-3 ULP of float32 (a test holds them to
it).

Float64 carries 29 more bits than float32, so a formula is good enough where it loses fewer than 19 of them: no
difference of nearly equal terms. Next to a derivative's zero nothing else helps than a Taylor series about the root,
whose root and coefficients come from the multi-precision oracle. A lost *sign* of an underflowing result would be
counted as an error, so each formula is a product whose sign survives underflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fastact.accuracy.arithmetic import namespaces, require
from fastact.accuracy.oracles import SIXTHS, formula_of, truth_at

__all__ = ["REFERENCES", "reference64"]

Array = npt.NDArray[np.float64]


def _sigmoid(z: Array) -> Array:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, e) / (1.0 + e)


def _sigmoid_1(z: Array) -> Array:
    e = np.exp(-np.abs(z))
    return e / ((1.0 + e) * (1.0 + e))


def _tanh_half(z: Array) -> Array:
    m = -np.expm1(-np.abs(z))
    return np.copysign(m / (2.0 - m), z)


def _silu_1(z: Array) -> Array:
    e = np.exp(-np.abs(z))
    d = 1.0 / (1.0 + e)
    return np.where(z >= 0, 1.0, e) * d * (1.0 + z * np.where(z >= 0, e, 1.0) * d)


def _erfc(z: Array) -> Array:
    return np.asarray(require("scipy.special").erfc(z))


def _gelu(x: Array) -> Array:
    return 0.5 * x * _erfc(-math.sqrt(0.5) * x)


def _gelu_1(x: Array) -> Array:
    phi = np.exp(-0.5 * x * x) * math.sqrt(0.5 / math.pi)
    result = np.asarray(0.5 * _erfc(-math.sqrt(0.5) * x) + x * phi)
    far = np.flatnonzero(x < -3)
    tail = x.flat[far]
    ratio = math.sqrt(math.pi / 2) * require("scipy.special").erfcx(-math.sqrt(0.5) * tail)
    result.flat[far] = phi.flat[far] * (tail + ratio)
    return result


def _two_u(x: Array) -> Array:
    return 2.0 * math.sqrt(2.0 / math.pi) * x * (1.0 + 0.044715 * x * x)


def _gelu_tanh_1(x: Array) -> Array:
    u2 = _two_u(x)
    slope = x * (2.0 * math.sqrt(2.0 / math.pi)) * (1.0 + 3 * 0.044715 * x * x)
    return _sigmoid(u2) * (1.0 + slope * _sigmoid(-u2))


def _softplus(x: Array, beta: Array) -> Array:
    z = beta * x
    return (np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))) / beta


def _softplus_beta(x: Array, beta: Array) -> Array:
    z = np.abs(beta * x)
    e = np.exp(-z)
    return -(np.log1p(e) + z * (e / (1.0 + e))) / (beta * beta)


def _mish(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    n = e * (e + 2.0)
    return x * np.where(x > 0, (1.0 + 2.0 * e) / (1.0 + 2.0 * e * (1.0 + e)), n / (n + 2.0))


def _mish_1(x: Array) -> Array:
    # The common factor e^x stands outside for x <= 0; for x > 0 everything is divided by e^2x.
    e = np.exp(-np.abs(x))
    n = e * (e + 2.0)
    left = e * ((e + 2.0) / (n + 2.0) + 4.0 * x * (1.0 + e) / ((n + 2.0) * (n + 2.0)))
    d = 1.0 + 2.0 * e * (1.0 + e)
    right = (1.0 + 2.0 * e) / d + 4.0 * x * (e * e) * (1.0 + e) / (d * d)
    return np.where(x > 0, right, left)


def _elu(x: Array, alpha: Array | float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def _elu_1(x: Array, alpha: Array | float) -> Array:
    return np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0.0)))


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934, 1.6732632423543772848


def _celu(x: Array, alpha: Array) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.where(x > 0, 0.0, x) / alpha))


def _celu_1(x: Array, alpha: Array) -> Array:
    return np.where(x > 0, 1.0, np.exp(np.where(x > 0, 0.0, x) / alpha))


def _celu_alpha(x: Array, alpha: Array) -> Array:
    z = np.where(x > 0, 0.0, x) / alpha
    # e^z (1 - z) - 1 = -sum (k-1)/k! z^k
    small = np.clip(z, -1.0, 1.0)
    series = np.zeros_like(z)
    for k in range(22, 1, -1):
        series = series * small + (k - 1) / math.factorial(k)
    ended = np.exp(np.maximum(z, -800.0)) * (1.0 - np.maximum(z, -800.0)) - 1.0
    return np.where(x > 0, 0.0, np.where(np.abs(z) < 1.0, -series * small * small, ended))


def _clip(x: Array, low: Array | float, high: Array | float) -> Array:
    return np.where(x < low, low, np.where(x > high, high, x))


def _line(x: Array, slope: Array, offset: Array) -> Array:
    # Both sums are exact where they are small.
    return np.where(np.isin(slope, SIXTHS), (x + 6.0 * offset) / 6.0, slope * x + offset)


def _if_inside(x: Array, slope: Array, offset: Array, value: Array | float) -> Array:
    line = _line(x, slope, offset)
    return np.where((line > 0) & (line < 1), value, 0.0)


def _hard_swish_1(x: Array) -> Array:
    return np.where(x <= -3, 0.0, np.where(x < 3, (2.0 * x + 3.0) / 6.0, 1.0))


REFERENCES: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "binary_step": {
        "forward": lambda x, threshold: np.where(x > threshold, 1.0, 0.0),
        "derivative": lambda x, threshold: np.zeros_like(x),
        "derivative_threshold": lambda x, threshold: np.zeros_like(x),
    },
    "sigmoid": {"forward": _sigmoid, "derivative": _sigmoid_1},
    "bipolar_sigmoid": {"forward": _tanh_half, "derivative": lambda x: 2.0 * _sigmoid_1(x)},
    "tanh": {
        "forward": lambda x: _tanh_half(2.0 * x),
        "derivative": lambda x: 4.0 * _sigmoid_1(2.0 * x),
    },
    "relu": {"forward": lambda x: np.where(x > 0, x, 0.0), "derivative": lambda x: np.where(x > 0, 1.0, 0.0)},
    "leaky_relu": {
        "forward": lambda x, s: np.where(x > 0, x, s * x),
        "derivative": lambda x, s: np.where(x > 0, 1.0, s),
        "derivative_negative_slope": lambda x, s: np.where(x > 0, 0.0, x),
    },
    "prelu": {
        "forward": lambda x, a: np.where(x > 0, x, a * x),
        "derivative": lambda x, a: np.where(x > 0, 1.0, a),
        "derivative_a": lambda x, a: np.where(x > 0, 0.0, x),
    },
    "elu": {
        "forward": _elu,
        "derivative": _elu_1,
        "derivative_alpha": lambda x, alpha: np.where(x > 0, 0.0, np.expm1(np.minimum(x, 0.0))),
    },
    "selu": {
        "forward": lambda x: SELU_SCALE * _elu(x, SELU_ALPHA),
        "derivative": lambda x: SELU_SCALE * _elu_1(x, SELU_ALPHA),
    },
    "celu": {"forward": _celu, "derivative": _celu_1, "derivative_alpha": _celu_alpha},
    "swish": {
        "forward": lambda x, beta: x * _sigmoid(beta * x),
        "derivative": lambda x, beta: _silu_1(beta * x),
        "derivative_beta": lambda x, beta: x * x * _sigmoid_1(beta * x),
    },
    "silu": {"forward": lambda x: x * _sigmoid(x), "derivative": _silu_1},
    "gelu": {"forward": _gelu, "derivative": _gelu_1},
    "gelu_tanh": {"forward": lambda x: x * _sigmoid(_two_u(x)), "derivative": _gelu_tanh_1},
    "log_sigmoid": {
        "forward": lambda x: -_softplus(-x, np.ones_like(x)),
        "derivative": lambda x: _sigmoid(-x),
    },
    "softplus": {
        "forward": _softplus,
        "derivative": lambda x, beta: _sigmoid(beta * x),
        "derivative_beta": _softplus_beta,
    },
    "mish": {"forward": _mish, "derivative": _mish_1},
    "softsign": {
        "forward": lambda x: x / (1.0 + np.abs(x)),
        "derivative": lambda x: 1.0 / ((1.0 + np.abs(x)) * (1.0 + np.abs(x))),
    },
    "hard_sigmoid": {
        "forward": lambda x, slope, offset: _clip(_line(x, slope, offset), 0.0, 1.0),
        "derivative": lambda x, s, offset: _if_inside(x, s, offset, np.where(np.isin(s, SIXTHS), 1 / 6, s)),
        "derivative_slope": lambda x, slope, offset: _if_inside(x, slope, offset, x),
        "derivative_offset": lambda x, slope, offset: _if_inside(x, slope, offset, 1.0),
    },
    "hard_swish": {
        "forward": lambda x: x * _clip((x + 3.0) / 6.0, 0.0, 1.0),
        "derivative": _hard_swish_1,
    },
    "relu6": {
        "forward": lambda x: _clip(x, 0.0, 6.0),
        "derivative": lambda x: np.where((x > 0) & (x < 6), 1.0, 0.0),
    },
    "hard_tanh": {
        "forward": _clip,
        "derivative": lambda x, low, high: np.where((x > low) & (x < high), 1.0, 0.0),
        "derivative_min_val": lambda x, low, high: np.where(x <= low, 1.0, 0.0),
        "derivative_max_val": lambda x, low, high: np.where(x >= high, 1.0, 0.0),
    },
}
"""name -> form -> formula over float64 arrays; the names and forms are those of `oracles.ORACLES`."""

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
def _taylor(name: str, about: float) -> tuple[float, float, tuple[float, ...]]:
    """The root of the derivative of `name` next to `about` in two floats, and the series' coefficients from x^1 on."""
    mp, arithmetic = require("mpmath").mp, namespaces()[1]
    formula = formula_of(name, "derivative")
    with mp.workdps(60):
        root = mp.findroot(lambda x: formula(arithmetic, x), about)
        series = mp.taylor(lambda x: formula(arithmetic, x), root, TERMS)
        return float(root), float(root - float(root)), tuple(float(c) for c in series[1:])


def _near_root(name: str, form: str, z: Array, result: Array) -> None:
    of, about = ROOTS[name, form]
    near = np.flatnonzero(np.abs(z - about) < NEAR)
    if near.size:
        hi, lo, coefficients = _taylor(of, about)
        d = (z.flat[near] - hi) - lo
        total = np.zeros_like(d)
        for c in reversed(coefficients):
            total = total * d + c
        result.flat[near] = total * d


def reference64(name: str, form: str, x: npt.ArrayLike, *parameters: npt.ArrayLike) -> Array:
    """True values for a float16, bfloat16 or float32 array `x`, within 1e-3 ULP of float32, special values included.

    Parameters are exact: round them first to what the function sees. A result below float64's range comes back as a
    zero of the right sign.
    """
    x = np.asarray(x)
    try:
        formula = REFERENCES[name][form]
    except KeyError:
        message = f"no float64 reference for {name}, {form}: add it to REFERENCES in fastact/accuracy/reference.py"
        raise KeyError(message) from None
    arrays = [np.asarray(p, np.float64) for p in parameters]
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        computed = np.asarray(formula(wide, *arrays), np.float64)
        shape = np.broadcast_shapes(wide.shape, *(a.shape for a in arrays))
        result = np.array(np.broadcast_to(computed, shape))
        if (name, form) in ROOTS:
            z = np.broadcast_to(arrays[0] * wide, shape) if arrays else wide
            _near_root(name, form, z, result)
    # Zeros, infinities and NaN have conventions rather than formulas: the oracle knows them.
    special = np.flatnonzero(np.broadcast_to(~np.isfinite(wide) | (wide == 0), shape))
    if special.size:
        every = [np.broadcast_to(a, shape) for a in (wide, *arrays)]
        points = np.stack([a.flat[special] for a in every], axis=-1)
        known: dict[bytes, float] = {}
        for at, point in zip(special.tolist(), points, strict=True):
            key = point.tobytes()
            if key not in known:
                value = truth_at(name, form, *point.tolist())
                known[key] = value.hi if value.hi == 0 else math.ldexp(value.hi, value.exponent)
            result.flat[at] = known[key]
    return result
