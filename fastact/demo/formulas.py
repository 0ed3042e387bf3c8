"""The activations as one writes them by hand in NumPy: what the demo compares fastact with.

The backward rules take the saved output where that saves work, as a careful hand-written network
does, so the comparison is with good plain NumPy, not with a straw man. They are not fastact's
formulas: those are in `fastact.kernels`. `gelu` needs SciPy's `erf`; scikit-learn brings SciPy.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]

SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772


class Formula(NamedTuple):
    """An activation, `forward(x, ...)` and `backward(g, x, y, ...)` = g * f'(x) with y = f(x)."""

    forward: Callable[..., Array]
    backward: Callable[..., Array]


def _erf(x: Array) -> Array:
    result: Array = importlib.import_module("scipy.special").erf(x)
    return result


def _sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _exponential_unit(x: Array, alpha: float, scale: float) -> Array:
    return scale * np.where(x > 0.0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def _exponential_unit_backward(g: Array, x: Array, y: Array, alpha: float, scale: float) -> Array:
    return g * np.where(x > 0.0, scale, y + alpha * scale)


def _leaky(x: Array, slope: float | Array) -> Array:
    return np.where(x > 0.0, x, slope * x)


def _leaky_backward(g: Array, x: Array, slope: float | Array) -> Array:
    return np.where(x > 0.0, g, slope * g)


def _swish_backward(g: Array, x: Array, y: Array) -> Array:
    s = _sigmoid(x)
    return g * (s + y * (1.0 - s))


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1.0 + _erf(x * math.sqrt(0.5)))


def _gelu_backward(g: Array, x: Array, y: Array) -> Array:
    density = np.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))
    return g * (0.5 * (1.0 + _erf(x * math.sqrt(0.5))) + x * density)


GELU_SCALE = math.sqrt(2.0 / math.pi)


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1.0 + np.tanh(GELU_SCALE * (x + 0.044715 * x * x * x)))


def _gelu_tanh_backward(g: Array, x: Array, y: Array) -> Array:
    t = np.tanh(GELU_SCALE * (x + 0.044715 * x * x * x))
    slope = GELU_SCALE * (1.0 + 3 * 0.044715 * x * x)
    return g * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)


def _mish(x: Array) -> Array:
    return x * np.tanh(_softplus(x))


def _mish_backward(g: Array, x: Array, y: Array) -> Array:
    t = np.tanh(_softplus(x))
    return g * (t + x * (1.0 - t * t) * _sigmoid(x))


def _inside(g: Array, x: Array, low: float, high: float, slope: float = 1.0) -> Array:
    return np.where((x > low) & (x < high), slope * g, 0.0)


def _hard_swish_backward(g: Array, x: Array, y: Array) -> Array:
    return g * np.where(x <= -3.0, 0.0, np.where(x >= 3.0, 1.0, (2.0 * x + 3.0) / 6.0))


FORMULAS: dict[str, Formula] = {
    "binary_step": Formula(lambda x: (x > 0.0).astype(x.dtype), lambda g, x, y: np.zeros_like(g)),
    "sigmoid": Formula(_sigmoid, lambda g, x, y: g * y * (1.0 - y)),
    "bipolar_sigmoid": Formula(lambda x: np.tanh(0.5 * x), lambda g, x, y: g * (0.5 - 0.5 * y * y)),
    "tanh": Formula(np.tanh, lambda g, x, y: g * (1.0 - y * y)),
    "relu": Formula(lambda x: np.maximum(x, 0.0), lambda g, x, y: g * (x > 0.0)),
    "leaky_relu": Formula(lambda x: _leaky(x, 0.01), lambda g, x, y: _leaky_backward(g, x, 0.01)),
    "prelu": Formula(_leaky, lambda g, x, y, a: _leaky_backward(g, x, a)),
    "elu": Formula(
        lambda x: _exponential_unit(x, 1.0, 1.0),
        lambda g, x, y: _exponential_unit_backward(g, x, y, 1.0, 1.0),
    ),
    "selu": Formula(
        lambda x: _exponential_unit(x, SELU_ALPHA, SELU_SCALE),
        lambda g, x, y: _exponential_unit_backward(g, x, y, SELU_ALPHA, SELU_SCALE),
    ),
    "swish": Formula(lambda x: x * _sigmoid(x), _swish_backward),
    "silu": Formula(lambda x: x * _sigmoid(x), _swish_backward),
    "gelu": Formula(_gelu, _gelu_backward),
    "gelu_tanh": Formula(_gelu_tanh, _gelu_tanh_backward),
    "log_sigmoid": Formula(lambda x: -_softplus(-x), lambda g, x, y: g * _sigmoid(-x)),
    "softplus": Formula(_softplus, lambda g, x, y: g * _sigmoid(x)),
    "celu": Formula(
        lambda x: _exponential_unit(x, 1.0, 1.0),
        lambda g, x, y: _exponential_unit_backward(g, x, y, 1.0, 1.0),
    ),
    "mish": Formula(_mish, _mish_backward),
    "softsign": Formula(lambda x: x / (1.0 + np.abs(x)), lambda g, x, y: g / np.square(1.0 + np.abs(x))),
    "relu6": Formula(lambda x: np.clip(x, 0.0, 6.0), lambda g, x, y: _inside(g, x, 0.0, 6.0)),
    "hard_tanh": Formula(lambda x: np.clip(x, -1.0, 1.0), lambda g, x, y: _inside(g, x, -1.0, 1.0)),
    "hard_sigmoid": Formula(
        lambda x: np.clip(x * (1 / 6) + 0.5, 0.0, 1.0),
        lambda g, x, y: _inside(g, x, -3.0, 3.0, 1 / 6),
    ),
    "hard_swish": Formula(lambda x: x * np.clip(x * (1 / 6) + 0.5, 0.0, 1.0), _hard_swish_backward),
}


def cross_entropy(logits: Array, targets: npt.NDArray[np.intp]) -> tuple[Array, Array]:
    """Cross entropy of each row, and its gradient by the logits: softmax minus one-hot target."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=-1, keepdims=True)
    rows = np.arange(len(logits))
    value = np.log(total[:, 0]) - shifted[rows, targets]
    gradient = exponentials / total
    gradient[rows, targets] -= 1.0
    return value, gradient
