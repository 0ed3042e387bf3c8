"""Activations as a careful NumPy or SciPy user writes them: formulas on whole arrays, every step
into a given buffer.

Each takes the input, the result buffer and one spare buffer (SciPy's take `scipy.special` first),
so that no peer pays for memory that fastact does not pay for. They are written for speed, as people
do, not for the last bit: the error they make is part of what the benchmark shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946
SLOPE = 0.01  # the default of leaky_relu
PRELU = 0.25  # prelu has no default; the initial value of torch.nn.PReLU
ROOT = math.sqrt(2 / math.pi)
CUBIC = 0.044715


@dataclass(frozen=True, slots=True)
class Binary:
    """A formula that is one ufunc of the input and a number; called directly, it costs one call."""

    ufunc: np.ufunc
    number: float


# --- rectified ------------------------------------------------------------------------------------


def leaky_relu(x: Array, out: Array, tmp: Array, slope: float = SLOPE) -> None:
    np.multiply(x, slope, out)
    np.maximum(x, out, out=out)


def leaky_relu_derivative(x: Array, out: Array, tmp: Array, slope: float = SLOPE) -> None:
    np.greater(x, 0, out)
    np.multiply(out, 1 - slope, out)
    np.add(out, slope, out)


def prelu(x: Array, out: Array, tmp: Array) -> None:
    leaky_relu(x, out, tmp, PRELU)


def prelu_derivative(x: Array, out: Array, tmp: Array) -> None:
    leaky_relu_derivative(x, out, tmp, PRELU)


def relu6(x: Array, out: Array, tmp: Array) -> None:
    np.maximum(x, 0, out=out)
    np.minimum(out, 6, out=out)


def relu6_derivative(x: Array, out: Array, tmp: Array) -> None:
    np.greater(x, 0, out)
    np.less(x, 6, tmp)
    np.multiply(out, tmp, out)


def hard_tanh(x: Array, out: Array, tmp: Array) -> None:
    np.maximum(x, -1, out=out)
    np.minimum(out, 1, out=out)


def hard_tanh_derivative(x: Array, out: Array, tmp: Array) -> None:
    np.abs(x, tmp)
    np.less(tmp, 1, out)


def hard_sigmoid(x: Array, out: Array, tmp: Array) -> None:
    np.multiply(x, 1 / 6, out)
    np.add(out, 0.5, out)
    np.maximum(out, 0, out=out)
    np.minimum(out, 1, out=out)


def hard_sigmoid_derivative(x: Array, out: Array, tmp: Array) -> None:
    np.abs(x, tmp)
    np.less(tmp, 3, out)
    np.multiply(out, 1 / 6, out)


def hard_swish(x: Array, out: Array, tmp: Array) -> None:
    hard_sigmoid(x, out, tmp)
    np.multiply(out, x, out)


def hard_swish_derivative(x: Array, out: Array, tmp: Array) -> None:
    np.multiply(x, 1 / 3, out)
    np.add(out, 0.5, out)
    np.copyto(out, 0, where=x <= -3)
    np.copyto(out, 1, where=x >= 3)


# --- sigmoidal ------------------------------------------------------------------------------------


def sigmoid(x: Array, out: Array, tmp: Array) -> None:
    np.negative(x, out)
    np.exp(out, out)
    np.add(out, 1, out)
    np.reciprocal(out, out)


def sigmoid_derivative(x: Array, out: Array, tmp: Array) -> None:
    sigmoid(x, out, tmp)
    np.subtract(1, out, tmp)
    np.multiply(out, tmp, out)


def tanh_derivative(x: Array, out: Array, tmp: Array) -> None:
    np.tanh(x, out)
    np.multiply(out, out, out)
    np.subtract(1, out, out)


def bipolar_sigmoid(x: Array, out: Array, tmp: Array) -> None:
    np.multiply(x, 0.5, out)
    np.tanh(out, out)


def bipolar_sigmoid_derivative(x: Array, out: Array, tmp: Array) -> None:
    bipolar_sigmoid(x, out, tmp)
    np.multiply(out, out, out)
    np.subtract(1, out, out)
    np.multiply(out, 0.5, out)


def softsign(x: Array, out: Array, tmp: Array) -> None:
    np.abs(x, out)
    np.add(out, 1, out)
    np.divide(x, out, out)


def softsign_derivative(x: Array, out: Array, tmp: Array) -> None:
    np.abs(x, out)
    np.add(out, 1, out)
    np.multiply(out, out, out)
    np.reciprocal(out, out)


# --- exponential ----------------------------------------------------------------------------------


def elu(x: Array, out: Array, tmp: Array) -> None:
    np.minimum(x, 0, out=out)
    np.expm1(out, out)
    np.maximum(x, 0, out=tmp)
    np.add(out, tmp, out)


def elu_derivative(x: Array, out: Array, tmp: Array) -> None:
    np.minimum(x, 0, out=out)
    np.exp(out, out)


def selu(x: Array, out: Array, tmp: Array) -> None:
    np.minimum(x, 0, out=out)
    np.expm1(out, out)
    np.multiply(out, SELU_ALPHA, out)
    np.maximum(x, 0, out=tmp)
    np.add(out, tmp, out)
    np.multiply(out, SELU_SCALE, out)


def selu_derivative(x: Array, out: Array, tmp: Array) -> None:
    np.minimum(x, 0, out=out)
    np.exp(out, out)
    np.multiply(out, SELU_ALPHA * SELU_SCALE, out)
    np.copyto(out, SELU_SCALE, where=x > 0)


def softplus(x: Array, out: Array, tmp: Array) -> None:
    np.logaddexp(x, 0, out)


def log_sigmoid(x: Array, out: Array, tmp: Array) -> None:
    np.negative(x, out)
    np.logaddexp(out, 0, out)
    np.negative(out, out)


def log_sigmoid_derivative(x: Array, out: Array, tmp: Array) -> None:
    np.exp(x, out)
    np.add(out, 1, out)
    np.reciprocal(out, out)


# --- gated ----------------------------------------------------------------------------------------


def silu(x: Array, out: Array, tmp: Array) -> None:
    np.negative(x, out)
    np.exp(out, out)
    np.add(out, 1, out)
    np.divide(x, out, out)


def silu_derivative(x: Array, out: Array, tmp: Array) -> None:
    sigmoid(x, tmp, out)
    np.subtract(1, tmp, out)
    np.multiply(out, x, out)
    np.add(out, 1, out)
    np.multiply(out, tmp, out)


def gelu_tanh(x: Array, out: Array, tmp: Array) -> None:
    np.multiply(x, x, out)
    np.multiply(out, CUBIC * ROOT, out)
    np.add(out, ROOT, out)
    np.multiply(out, x, out)
    np.tanh(out, out)
    np.add(out, 1, out)
    np.multiply(out, x, out)
    np.multiply(out, 0.5, out)


def gelu_tanh_derivative(x: Array, out: Array, tmp: Array) -> None:
    np.multiply(x, x, tmp)
    np.multiply(tmp, CUBIC * ROOT, out)
    np.add(out, ROOT, out)
    np.multiply(out, x, out)
    np.tanh(out, out)
    np.multiply(tmp, 3 * CUBIC * ROOT, tmp)
    np.add(tmp, ROOT, tmp)
    np.multiply(tmp, x, tmp)
    square = out * out
    np.subtract(1, square, square)
    np.multiply(tmp, square, tmp)
    np.add(out, 1, out)
    np.add(out, tmp, out)
    np.multiply(out, 0.5, out)


def mish(x: Array, out: Array, tmp: Array) -> None:
    np.logaddexp(x, 0, out)
    np.tanh(out, out)
    np.multiply(out, x, out)


def mish_derivative(x: Array, out: Array, tmp: Array) -> None:
    np.logaddexp(x, 0, out)
    np.tanh(out, out)
    sigmoid(x, tmp, tmp)
    np.multiply(tmp, x, tmp)
    square = out * out
    np.subtract(1, square, square)
    np.multiply(tmp, square, tmp)
    np.add(out, tmp, out)


# --- along an axis --------------------------------------------------------------------------------


def softmax(x: Array, out: Array, tmp: Array, axis: int = -1) -> None:
    np.subtract(x, x.max(axis=axis, keepdims=True), out)
    np.exp(out, out)
    np.divide(out, out.sum(axis=axis, keepdims=True), out)


def log_softmax(x: Array, out: Array, tmp: Array, axis: int = -1) -> None:
    np.subtract(x, x.max(axis=axis, keepdims=True), out)
    np.exp(out, tmp)
    np.subtract(out, np.log(tmp.sum(axis=axis, keepdims=True)), out)


def logsumexp(x: Array, out: Array, tmp: Array, axis: int = -1) -> None:
    largest = x.max(axis=axis, keepdims=True)
    np.subtract(x, largest, tmp)
    np.exp(tmp, tmp)
    np.sum(tmp, axis=axis, out=out)
    np.log(out, out)
    np.add(out, largest.squeeze(axis), out)


def softmin(x: Array, out: Array, tmp: Array, axis: int = -1) -> None:
    np.subtract(x.min(axis=axis, keepdims=True), x, out)
    np.exp(out, out)
    np.divide(out, out.sum(axis=axis, keepdims=True), out)


def logmeanexp(x: Array, out: Array, tmp: Array, axis: int = -1) -> None:
    logsumexp(x, out, tmp, axis)
    np.subtract(out, math.log(x.shape[axis]), out)


def hardmax(x: Array, out: Array, tmp: Array, axis: int = -1) -> None:
    out.fill(0)
    np.put_along_axis(out, x.argmax(axis=axis, keepdims=True), 1, axis)


def sparsemax(x: Array, out: Array, tmp: Array, axis: int = -1) -> None:
    """Martins and Astudillo (2016), by sorting."""
    ordered = -np.sort(-x, axis=axis)
    sums = np.cumsum(ordered, axis=axis)
    places = _places(x, axis)
    support = (1 + places * ordered > sums).sum(axis=axis, keepdims=True)
    threshold = (np.take_along_axis(sums, support - 1, axis) - 1) / support.astype(x.dtype)
    np.subtract(x, threshold, out)
    np.maximum(out, 0, out=out)


def entmax15(x: Array, out: Array, tmp: Array, axis: int = -1) -> None:
    """Peters, Niculae and Martins (2019), by sorting."""
    half = (x - x.max(axis=axis, keepdims=True)) / 2
    ordered = -np.sort(-half, axis=axis)
    places = _places(x, axis)
    mean = np.cumsum(ordered, axis=axis) / places
    spread = np.cumsum(ordered * ordered, axis=axis) / places - mean * mean
    bounds = mean - np.sqrt(np.maximum(1 / places - spread, 0))
    support = (bounds <= ordered).sum(axis=axis, keepdims=True)
    np.subtract(half, np.take_along_axis(bounds, support - 1, axis), out)
    np.maximum(out, 0, out=out)
    np.multiply(out, out, out)


def _places(x: Array, axis: int) -> Array:
    """1, 2, 3, ... along the axis."""
    shape = [1] * x.ndim
    shape[axis] = -1
    return np.arange(1, x.shape[axis] + 1).astype(x.dtype).reshape(shape)


@cache
def targets(shape: tuple[int, ...], axis: int = -1) -> NDArray[np.intp]:
    """A class for each row of logits, spread over all classes; the same for every library."""
    classes = shape[axis]
    rows = np.delete(shape, axis)
    return (np.arange(rows.prod(dtype=np.intp)) * 7919 % classes).reshape(rows)


def cross_entropy(x: Array, out: Array, tmp: Array, axis: int = -1) -> None:
    logsumexp(x, out, tmp, axis)
    picked = np.take_along_axis(x, np.expand_dims(targets(x.shape, axis), axis), axis)
    np.subtract(out, picked.squeeze(axis), out)


# --- with scipy.special ---------------------------------------------------------------------------


def scipy_sigmoid_derivative(special: Any, x: Array, out: Array, tmp: Array) -> None:
    special.expit(x, out)
    np.subtract(1, out, tmp)
    np.multiply(out, tmp, out)


def scipy_silu(special: Any, x: Array, out: Array, tmp: Array) -> None:
    special.expit(x, out)
    np.multiply(out, x, out)


def scipy_silu_derivative(special: Any, x: Array, out: Array, tmp: Array) -> None:
    special.expit(x, tmp)
    np.subtract(1, tmp, out)
    np.multiply(out, x, out)
    np.add(out, 1, out)
    np.multiply(out, tmp, out)


def scipy_gelu(special: Any, x: Array, out: Array, tmp: Array) -> None:
    special.ndtr(x, out)
    np.multiply(out, x, out)


def scipy_gelu_derivative(special: Any, x: Array, out: Array, tmp: Array) -> None:
    np.multiply(x, x, tmp)
    np.multiply(tmp, -0.5, tmp)
    np.exp(tmp, tmp)
    np.multiply(tmp, x, tmp)
    np.multiply(tmp, 1 / math.sqrt(2 * math.pi), tmp)
    special.ndtr(x, out)
    np.add(out, tmp, out)


def scipy_softplus(special: Any, x: Array, out: Array, tmp: Array) -> None:
    np.negative(x, out)
    special.log_expit(out, out)
    np.negative(out, out)


def scipy_log_sigmoid_derivative(special: Any, x: Array, out: Array, tmp: Array) -> None:
    np.negative(x, out)
    special.expit(out, out)


def scipy_elu(special: Any, x: Array, out: Array, tmp: Array) -> None:
    np.minimum(x, 0, out=out)
    special.expm1(out, out)
    np.maximum(x, 0, out=tmp)
    np.add(out, tmp, out)


def scipy_mish(special: Any, x: Array, out: Array, tmp: Array) -> None:
    scipy_softplus(special, x, out, tmp)
    np.tanh(out, out)
    np.multiply(out, x, out)


def scipy_softmax(special: Any, x: Array, out: Array, tmp: Array, axis: int = -1) -> Array:
    result: Array = special.softmax(x, axis=axis)
    return result


def scipy_log_softmax(special: Any, x: Array, out: Array, tmp: Array, axis: int = -1) -> Array:
    result: Array = special.log_softmax(x, axis=axis)
    return result


def scipy_logmeanexp(special: Any, x: Array, out: Array, tmp: Array, axis: int = -1) -> Array:
    result: Array = special.logsumexp(x, axis=axis) - np.asarray(math.log(x.shape[axis]), x.dtype)
    return result


def scipy_logsumexp(special: Any, x: Array, out: Array, tmp: Array, axis: int = -1) -> Array:
    result: Array = special.logsumexp(x, axis=axis)
    return result
