"""Every elementwise function once more, as a float64 formula: the fast judge for narrow dtypes.

Float64 carries 29 more bits than float32, so a formula is good enough where it loses fewer than 19 of them: no
difference of nearly equal terms. A lost *sign* of an underflowing result would be
counted as an error, so each formula is a product whose sign survives underflow.

For speed a formula is a scalar function that Numba compiles into a loop, and the exponentials and their relatives come
from NumPy and SciPy, an array at a time: ``formula(x, a, b, *parameters)`` gets as `a` and `b` what its primitive made
of ``argument(x, *parameters)``. Neither knows anything of fastact's kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastact.accuracy.arithmetic import require
from fastact.accuracy.oracles import SIXTHS

__all__ = ["REFERENCES", "Array", "Reference", "Scalar"]

Array = npt.NDArray[np.float64]
Scalar = Callable[..., float]

OUT = 700.0
"""Arguments of exp are kept within +-700: e^-700 is 0 in float32 whatever it is multiplied by, but has a sign."""


# --- primitives: they may overwrite their argument


def _exp(z: Array) -> tuple[Array, Array]:
    return np.exp(z, out=z), z


def _expm1(z: Array) -> tuple[Array, Array]:
    return np.expm1(z, out=z), z


def _exp_and_log1p(z: Array) -> tuple[Array, Array]:
    np.exp(z, out=z)
    return z, np.log1p(z)


def _erfc(z: Array) -> tuple[Array, Array]:
    y = np.asarray(require("scipy.special").erfc(-math.sqrt(0.5) * z))
    return y, y


NORMAL_TAIL = -3.0


def _normal(z: Array) -> tuple[Array, Array]:
    """2 Phi(z), or Phi(z) / phi(z) below `NORMAL_TAIL`, where it nearly cancels -z; and phi(z)."""
    upper, _ = _erfc(z)
    tail = np.flatnonzero(z < NORMAL_TAIL)
    if tail.size:
        scaled = require("scipy.special").erfcx(-math.sqrt(0.5) * z[tail])
        upper[tail] = math.sqrt(math.pi / 2) * scaled
    return upper, np.exp(-0.5 * z * z) * math.sqrt(0.5 / math.pi)


def _nothing(z: Array) -> tuple[Array, Array]:
    return z, z


class Reference(NamedTuple):
    """A true value as ``formula(x, *primitive(argument(x, *parameters)), *parameters)``."""

    formula: Scalar
    argument: Scalar | None = None
    primitive: Callable[[Array], tuple[Array, Array]] = _nothing


# --- arguments


def _minus_abs(x: float, *_: float) -> float:
    return -min(abs(x), OUT)


def _minus_abs_twice(x: float) -> float:
    return -min(abs(2.0 * x), OUT)


def _minus_abs_scaled(x: float, beta: float) -> float:
    return -min(abs(beta * x), OUT)


def _negative_part(x: float, *_: float) -> float:
    return max(min(x, 0.0), -OUT)


def _negative_part_divided(x: float, alpha: float) -> float:
    return max(min(min(x, 0.0) / alpha, OUT), -OUT)


def _normal_range(x: float) -> float:
    return max(min(x, 37.0), -37.0)


ROOT_8_OVER_PI = 2.0 * math.sqrt(2.0 / math.pi)


def _minus_abs_two_u(x: float) -> float:
    return -min(abs(ROOT_8_OVER_PI * x * (1.0 + 0.044715 * x * x)), OUT)


# --- formulas: e is e^-|z|, m is e^-|z| - 1 or e^z - 1, u is not used


def _sigmoid(x: float, e: float, u: float) -> float:
    return (1.0 if x >= 0 else e) / (1.0 + e)


def _sigmoid_mirrored(x: float, e: float, u: float) -> float:
    return (1.0 if x <= 0 else e) / (1.0 + e)


def _sigmoid_scaled(x: float, e: float, u: float, beta: float) -> float:
    return (1.0 if beta * x >= 0 else e) / (1.0 + e)


def _sigmoid_1(x: float, e: float, u: float) -> float:
    return e / ((1.0 + e) * (1.0 + e))


def _bipolar_1(x: float, e: float, u: float) -> float:
    return 2.0 * e / ((1.0 + e) * (1.0 + e))


def _tanh_1(x: float, e: float, u: float) -> float:
    return 4.0 * e / ((1.0 + e) * (1.0 + e))


def _tanh_half(x: float, m: float, u: float) -> float:
    return math.copysign(m / (2.0 + m), x)


def _swish(x: float, e: float, u: float, beta: float) -> float:
    return x * ((1.0 if beta * x >= 0 else e) / (1.0 + e))


def _silu(x: float, e: float, u: float) -> float:
    return x * ((1.0 if x >= 0 else e) / (1.0 + e))


def _swish_1(x: float, e: float, u: float, beta: float) -> float:
    z, d = beta * x, 1.0 / (1.0 + e)
    return (1.0 if z >= 0 else e) * d * (1.0 + z * (e if z >= 0 else 1.0) * d)


def _silu_1(x: float, e: float, u: float) -> float:
    d = 1.0 / (1.0 + e)
    return (1.0 if x >= 0 else e) * d * (1.0 + x * (e if x >= 0 else 1.0) * d)


def _swish_beta(x: float, e: float, u: float, beta: float) -> float:
    return x * x * (e / ((1.0 + e) * (1.0 + e)))


def _gelu(x: float, y: float, u: float) -> float:
    return 0.5 * x * y


def _gelu_1(x: float, y: float, phi: float) -> float:
    return phi * (x + y) if x < NORMAL_TAIL else 0.5 * y + x * phi


def _gelu_tanh_1(x: float, e: float, u: float) -> float:
    slope, d = x * ROOT_8_OVER_PI * (1.0 + 3 * 0.044715 * x * x), 1.0 / (1.0 + e)
    return (1.0 if x >= 0 else e) * d * (1.0 + slope * (e if x >= 0 else 1.0) * d)


def _softplus(x: float, e: float, log: float, beta: float) -> float:
    return (max(beta * x, 0.0) + log) / beta


def _log_sigmoid(x: float, e: float, log: float) -> float:
    return -(max(-x, 0.0) + log)


def _softplus_beta(x: float, e: float, log: float, beta: float) -> float:
    return -(log + abs(beta * x) * (e / (1.0 + e))) / (beta * beta)


def _mish(x: float, e: float, u: float) -> float:
    n = e * (e + 2.0)
    return x * ((1.0 + 2.0 * e) / (1.0 + 2.0 * e * (1.0 + e)) if x > 0 else n / (n + 2.0))


def _mish_1(x: float, e: float, u: float) -> float:
    # The common factor e^x stands outside for x <= 0; for x > 0 everything is divided by e^2x.
    n = e * (e + 2.0)
    left = e * ((e + 2.0) / (n + 2.0) + 4.0 * x * (1.0 + e) / ((n + 2.0) * (n + 2.0)))
    d = 1.0 + 2.0 * e * (1.0 + e)
    right = (1.0 + 2.0 * e) / d + 4.0 * x * (e * e) * (1.0 + e) / (d * d)
    return right if x > 0 else left


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934, 1.6732632423543772848


def _elu(x: float, m: float, u: float, alpha: float) -> float:
    return x if x > 0 else alpha * m


def _elu_1(x: float, e: float, u: float, alpha: float) -> float:
    return 1.0 if x > 0 else alpha * e


def _elu_alpha(x: float, m: float, u: float, alpha: float) -> float:
    return 0.0 if x > 0 else m


def _selu(x: float, m: float, u: float) -> float:
    return SELU_SCALE * (x if x > 0 else SELU_ALPHA * m)


def _selu_1(x: float, e: float, u: float) -> float:
    return SELU_SCALE * (1.0 if x > 0 else SELU_ALPHA * e)


def _celu_1(x: float, e: float, u: float, alpha: float) -> float:
    return 1.0 if x > 0 else e


def _celu_alpha(x: float, m: float, u: float, alpha: float) -> float:
    z = max(min(min(x, 0.0) / alpha, OUT), -OUT)
    # e^z - 1 - z e^z, which is -sum (k-1)/k! z^k: the terms nearly cancel next to 0
    far = m - z * (1.0 + m)
    series = 1 / 30 + z * (1 / 144 + z * (1 / 840 + z / 5760))
    return 0.0 if x > 0 else far if abs(z) > 1 / 64 else -z * z * (1 / 2 + z * (1 / 3 + z * (1 / 8 + z * series)))


def _softsign(x: float, a: float, b: float) -> float:
    return x / (1.0 + abs(x))


def _softsign_1(x: float, a: float, b: float) -> float:
    return 1.0 / ((1.0 + abs(x)) * (1.0 + abs(x)))


def _zero(x: float, a: float, b: float, *_: float) -> float:
    return 0.0


def _step(x: float, a: float, b: float, threshold: float) -> float:
    return 1.0 if x > threshold else 0.0


def _relu(x: float, a: float, b: float) -> float:
    return x if x > 0 else 0.0


def _relu_1(x: float, a: float, b: float) -> float:
    return 1.0 if x > 0 else 0.0


def _leaky(x: float, a: float, b: float, slope: float) -> float:
    return x if x > 0 else slope * x


def _leaky_1(x: float, a: float, b: float, slope: float) -> float:
    return 1.0 if x > 0 else slope


def _leaky_slope(x: float, a: float, b: float, slope: float) -> float:
    return 0.0 if x > 0 else x


def _relu6(x: float, a: float, b: float) -> float:
    return 0.0 if x < 0 else min(x, 6.0)


def _relu6_1(x: float, a: float, b: float) -> float:
    return 1.0 if 0 < x < 6 else 0.0


def _hard_tanh(x: float, a: float, b: float, low: float, high: float) -> float:
    return high if max(x, low) > high else max(x, low)


def _hard_tanh_1(x: float, a: float, b: float, low: float, high: float) -> float:
    return 1.0 if low < x < high else 0.0


def _hard_tanh_low(x: float, a: float, b: float, low: float, high: float) -> float:
    return 1.0 if x <= low < high else 0.0


def _hard_tanh_high(x: float, a: float, b: float, low: float, high: float) -> float:
    return 1.0 if max(x, low) >= high else 0.0


# Both sums of `line` are exact where they are small. It is the formula's z, so the compiled loop makes it.


def _line(x: float, slope: float, offset: float) -> float:
    sixth = slope == SIXTHS[0] or slope == SIXTHS[1]
    return (x + 6.0 * offset) / 6.0 if sixth else slope * x + offset


def _hard_sigmoid(x: float, line: float, b: float, slope: float, offset: float) -> float:
    return min(max(line, 0.0), 1.0)


def _hard_sigmoid_1(x: float, line: float, b: float, slope: float, offset: float) -> float:
    sixth = slope == SIXTHS[0] or slope == SIXTHS[1]
    return (1.0 / 6.0 if sixth else slope) if 0 < line < 1 else 0.0


def _hard_sigmoid_slope(x: float, line: float, b: float, slope: float, offset: float) -> float:
    return x if 0 < line < 1 else 0.0


def _hard_sigmoid_offset(x: float, line: float, b: float, slope: float, offset: float) -> float:
    return 1.0 if 0 < line < 1 else 0.0


def _hard_swish(x: float, a: float, b: float) -> float:
    return x * min(max((x + 3.0) / 6.0, 0.0), 1.0)


def _hard_swish_1(x: float, a: float, b: float) -> float:
    return 0.0 if x <= -3 else (2.0 * x + 3.0) / 6.0 if x < 3 else 1.0


REFERENCES: Mapping[str, Mapping[str, Reference]] = {
    "binary_step": {
        "forward": Reference(_step),
        "derivative": Reference(_zero),
        "derivative_threshold": Reference(_zero),
    },
    "sigmoid": {
        "forward": Reference(_sigmoid, _minus_abs, _exp),
        "derivative": Reference(_sigmoid_1, _minus_abs, _exp),
    },
    "bipolar_sigmoid": {
        "forward": Reference(_tanh_half, _minus_abs, _expm1),
        "derivative": Reference(_bipolar_1, _minus_abs, _exp),
    },
    "tanh": {
        "forward": Reference(_tanh_half, _minus_abs_twice, _expm1),
        "derivative": Reference(_tanh_1, _minus_abs_twice, _exp),
    },
    "relu": {"forward": Reference(_relu), "derivative": Reference(_relu_1)},
    "leaky_relu": {
        "forward": Reference(_leaky),
        "derivative": Reference(_leaky_1),
        "derivative_negative_slope": Reference(_leaky_slope),
    },
    "prelu": {
        "forward": Reference(_leaky),
        "derivative": Reference(_leaky_1),
        "derivative_a": Reference(_leaky_slope),
    },
    "elu": {
        "forward": Reference(_elu, _negative_part, _expm1),
        "derivative": Reference(_elu_1, _negative_part, _exp),
        "derivative_alpha": Reference(_elu_alpha, _negative_part, _expm1),
    },
    "selu": {
        "forward": Reference(_selu, _negative_part, _expm1),
        "derivative": Reference(_selu_1, _negative_part, _exp),
    },
    "celu": {
        "forward": Reference(_elu, _negative_part_divided, _expm1),
        "derivative": Reference(_celu_1, _negative_part_divided, _exp),
        "derivative_alpha": Reference(_celu_alpha, _negative_part_divided, _expm1),
    },
    "swish": {
        "forward": Reference(_swish, _minus_abs_scaled, _exp),
        "derivative": Reference(_swish_1, _minus_abs_scaled, _exp),
        "derivative_beta": Reference(_swish_beta, _minus_abs_scaled, _exp),
    },
    "silu": {
        "forward": Reference(_silu, _minus_abs, _exp),
        "derivative": Reference(_silu_1, _minus_abs, _exp),
    },
    "gelu": {
        "forward": Reference(_gelu, _normal_range, _erfc),
        "derivative": Reference(_gelu_1, _normal_range, _normal),
    },
    "gelu_tanh": {
        "forward": Reference(_silu, _minus_abs_two_u, _exp),
        "derivative": Reference(_gelu_tanh_1, _minus_abs_two_u, _exp),
    },
    "log_sigmoid": {
        "forward": Reference(_log_sigmoid, _minus_abs, _exp_and_log1p),
        "derivative": Reference(_sigmoid_mirrored, _minus_abs, _exp),
    },
    "softplus": {
        "forward": Reference(_softplus, _minus_abs_scaled, _exp_and_log1p),
        "derivative": Reference(_sigmoid_scaled, _minus_abs_scaled, _exp),
        "derivative_beta": Reference(_softplus_beta, _minus_abs_scaled, _exp_and_log1p),
    },
    "mish": {
        "forward": Reference(_mish, _minus_abs, _exp),
        "derivative": Reference(_mish_1, _minus_abs, _exp),
    },
    "softsign": {"forward": Reference(_softsign), "derivative": Reference(_softsign_1)},
    "hard_sigmoid": {
        "forward": Reference(_hard_sigmoid, _line),
        "derivative": Reference(_hard_sigmoid_1, _line),
        "derivative_slope": Reference(_hard_sigmoid_slope, _line),
        "derivative_offset": Reference(_hard_sigmoid_offset, _line),
    },
    "hard_swish": {"forward": Reference(_hard_swish), "derivative": Reference(_hard_swish_1)},
    "relu6": {"forward": Reference(_relu6), "derivative": Reference(_relu6_1)},
    "hard_tanh": {
        "forward": Reference(_hard_tanh),
        "derivative": Reference(_hard_tanh_1),
        "derivative_min_val": Reference(_hard_tanh_low),
        "derivative_max_val": Reference(_hard_tanh_high),
    },
}
"""name -> form -> how to compute it in float64; the names and forms are those of `oracles.ORACLES`."""
