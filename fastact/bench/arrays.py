"""The arrays of a benchmark: their dtype, how they lie in memory, and along which axis rows run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.bench.sizes import parse_size, size_name

__all__ = ["BARS_OF_ROWS", "DTYPES", "FORMS", "LAYOUTS", "Setting", "aligned", "inputs", "numpy_dtype", "parse_shape"]

Array = NDArray[Any]

DTYPES = ("float16", "bfloat16", "float32", "float64")
FORMS = ("forward", "derivative", "vjp", "backward", "with_derivative")
"""``backward`` is a vjp from whatever the library's own forward pass saves: the result, or x."""
COLUMNS = 1024
"""The length of a row for softmax and its relatives, where only a number of elements is given."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What one cell of a benchmark works on: a number of elements in a layout, or rows of a shape along an axis."""

    elements: int
    layout: str = "contiguous"
    shape: tuple[int, ...] = ()
    axis: int = -1

    @property
    def name(self) -> str:
        """Such as ``64Ki``, ``1M transposed`` or ``1024x1024@0``."""
        axis = "" if self.axis == -1 else f"@{self.axis}"
        size = "x".join(map(str, self.shape)) + axis if self.shape else size_name(self.elements)
        return size + ("" if self.layout == "contiguous" else f" {self.layout}")

    @property
    def title(self) -> str:
        """The same in words."""
        if self.shape:
            axis = "the last axis" if self.axis == -1 else f"axis {self.axis}"
            words = f"{'x'.join(map(str, self.shape))} along {axis}"
        else:
            words = f"{size_name(self.elements)} element{'s' if self.elements > 1 else ''}"
        return words + ("" if self.layout == "contiguous" else f", {self.layout}")

    def shape_for(self, rows: bool) -> tuple[int, ...]:
        """The shape of the input: that of the rows, or one that stands for the number of elements.

        Functions along an axis get whole rows of up to 1,024; a layout of two axes gets a square, as nearly as
        divisors allow.
        """
        if self.shape:
            return self.shape
        if rows:
            columns = min(self.elements, COLUMNS)
            return (self.elements // columns, columns)
        return _square(self.elements) if self.layout in _SQUARE else (self.elements,)


def parse_shape(text: str) -> Setting:
    """The rows that ``100000x10`` or ``64x512x64@1`` stand for: sizes, then the axis if it is not the last."""
    sizes, at, axis_text = text.strip().lower().partition("@")
    try:
        shape = tuple(parse_size(part) for part in sizes.split("x"))
        axis = int(axis_text) if at else -1
    except ValueError:
        raise ValueError(f"{text!r} is not a shape: write 1024x1024, or 1024x1024@0 for rows along axis 0") from None
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"{text!r}: there is no axis {axis} in {len(shape)} dimensions")
    if axis % len(shape) == len(shape) - 1:
        axis = -1
    return Setting(math.prod(shape), shape=shape, axis=axis)


BARS_OF_ROWS = "100000x10,100000x2,4096x128,1024x1024,64x50257,8x1048576,1x16777216,1024x1024@0,64x512x64@1"
"""Shapes that need a way of their own: many short rows, rows in the first and second cache, long rows, one row, and
rows across memory."""


# --- memory ---------------------------------------------------------------------------------------


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The dtype called `name`; NumPy knows bfloat16 once ml_dtypes is imported."""
    if name == "bfloat16":
        try:
            import ml_dtypes
        except ImportError as error:
            raise ImportError("bfloat16 needs ml_dtypes: pip install fastact[bench]") from error
        narrow: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return narrow
    return np.dtype(name)


def aligned(shape: tuple[int, ...], dtype: str) -> Array:
    """An uninitialised array that starts at a cache line, so that no library is slowed down by
    chance."""
    kind = numpy_dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(kind).reshape(shape)


def _square(n: int) -> tuple[int, int]:
    """Two factors of `n` as near to each other as any."""
    rows = next(k for k in range(math.isqrt(n), 0, -1) if n % k == 0)
    return rows, n // rows


def _strided2(shape: tuple[int, ...], dtype: str) -> Array:
    return aligned((*shape[:-1], 2 * shape[-1]), dtype)[..., ::2]


def _reversed(shape: tuple[int, ...], dtype: str) -> Array:
    return aligned(shape, dtype)[..., ::-1]


def _transposed(shape: tuple[int, ...], dtype: str) -> Array:
    return aligned(shape[::-1], dtype).T


def _broadcast(shape: tuple[int, ...], dtype: str) -> Array:
    """One row for all rows. It may be written to: every row then gets what the last one is given."""
    one = aligned(shape[-1:], dtype)
    return np.lib.stride_tricks.as_strided(one, shape, (*(0 for _ in shape[1:]), one.itemsize))


def _gap(shape: tuple[int, ...], dtype: str) -> Array:
    return aligned((*shape[:-1], shape[-1] + 32), dtype)[..., : shape[-1]]


LAYOUTS: Mapping[str, Callable[[tuple[int, ...], str], Array]] = {
    "contiguous": aligned,
    "strided2": _strided2,
    "reversed": _reversed,
    "transposed": _transposed,
    "broadcast": _broadcast,
    "gap": _gap,
}
"""How the inputs lie; results are contiguous. Every second element, backwards, the transpose, one row for all rows, a
part of the columns."""
_SQUARE = ("transposed", "broadcast", "gap")


def inputs(setting: Setting, rows: bool, dtype: str) -> tuple[Array, Array]:
    """Arguments like a network's pre-activations, N(0, 3), and gradients N(0, 1); the same at every
    call."""
    shape = setting.shape_for(rows)
    rng = np.random.default_rng(12345)
    make = LAYOUTS[setting.layout]
    x, g = make(shape, dtype), make(shape, dtype)
    # a block of 2^16 values is enough variety, and 16 M normal deviates would take longer than the
    # benchmark
    for array, scale in ((x, 3.0), (g, 1.0)):
        block = rng.normal(0.0, scale, 1 << 16).astype(array.dtype)
        array[...] = np.resize(block, array.size).reshape(shape)
    return x, g
