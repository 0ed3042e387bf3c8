"""Kernels for bfloat16 arrays that look their results up.

A bfloat16 has 128 values for every power of two and sign, and most functions are something simple far from and close
to 0: a constant, the argument, a straight line, or a parabola. What lies between is a table of a few thousand results,
which a block of threads copies to its shared memory. It costs fifteen instructions an element whatever the function is.
The entries are the results of the kernel itself; what is made here is compared with it for all 65,536 inputs before it
is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph import halves
from ..graph.evaluate import Array, evaluate, from_pattern
from ..graph.trace import Graph, Value, trace_with

_INFINITY = 0x7F80  # of a bfloat16
_STRIDE = 1 << 16  # from one bfloat16 to the next, in the bits of a float32
_MOST = 12_000  # entries, all tables together: 48 KB

# Forms whose arithmetic would cost more than memory does, or nearly so (``tools/cuda_budget.py``).
FORMS = frozenset(
    f"{name}{form}"
    for name, forms in {
        "gelu": ("", "_derivative", "_with_derivative", "_vjp"),
        "gelu_tanh": ("", "_derivative", "_with_derivative", "_vjp"),
        "silu": ("_derivative", "_with_derivative", "_vjp"),
        "mish": ("", "_derivative", "_with_derivative", "_vjp"),
        "softplus": ("", "_derivative_beta", "_with_derivative", "_vjp"),
        "log_sigmoid": ("", "_with_derivative"),
        "celu": ("_with_derivative", "_derivative_alpha"),
        "swish": ("_derivative", "_with_derivative", "_vjp", "_derivative_beta"),
        "sigmoid": ("_with_derivative",),
        "tanh": ("_with_derivative",),
        "bipolar_sigmoid": ("_with_derivative",),
    }.items()
    for form in forms
)


@dataclass(frozen=True)
class _Near:
    """square x^2 + slope x + start, with one factor of x^2 for x > 0 and one for x < 0; a slope only without them."""

    square: tuple[float, float]
    slope: float
    start: float

    def of(self, x: Value) -> Value:
        positive, negative = self.square
        if positive == negative:
            return x.fma(x.fma(x, positive, self.slope) if positive else x.const(self.slope), x, self.start)
        return x.fma(x * x.select(x < 0.0, x.const(negative), positive), x, self.start)


@dataclass(frozen=True)
class _Ends:
    """What a result is outside the table, whose arguments have magnitudes from `low` to `high`, as bit patterns."""

    low: int
    near: _Near | None  # below, or None for what the table begins with
    high: int
    argument: tuple[bool, bool]  # above, for x > 0 and x < 0: x itself, or what the table ends with


def _agreeing(values: Array, wanted: Array) -> int:
    """Up to which magnitude two functions agree on both sides of 0."""
    wrong = np.flatnonzero((values != wanted).any(axis=0))
    return int(wrong[0]) if wrong.size else values.shape[1]


def _reach(near: _Near, x: Array, wanted: Array, seen: Any) -> int:
    """Up to which magnitude a result is that."""
    graph = trace_with(lambda v: near.of(v[0]), ["float"], 32)
    return _agreeing(seen(evaluate(graph, [x])[0]), wanted)


def _line(x: Array, result: Array, seen: Any) -> tuple[int, _Near]:
    """The straight line that a result is next to 0, and up to which magnitude."""
    start, best, wanted = float(result[0, 0] or -0.0), (0, _Near((0.0, 0.0), 0.0, 0.0)), seen(result)  # -0: x's sign
    for place in range(0x3000, 0x3F00, 0x40):
        slope = (np.float64(result[0, place]) - result[1, place]) / (2 * np.float64(x[0, place]))
        middle = np.float32(slope)
        for c in (middle, np.nextafter(middle, np.float32(-np.inf)), np.nextafter(middle, np.float32(np.inf))):
            near = _Near((0.0, 0.0), float(c), start)
            best = max(best, (_reach(near, x, wanted, seen), near), key=lambda found: found[0])
    return best


def _parabola(x: Array, result: Array, seen: Any) -> tuple[int, _Near]:
    """The same of a parabola, or two halves of different ones."""
    place = 0x2800  # 1e-14, where the next power of x is too small to show
    positive, negative = (
        float(np.float32(r[place] / np.float64(v[place]) ** 2)) for r, v in zip(result, x, strict=True)
    )
    near = _Near((positive, negative), 0.0, float(result[0, 0]))
    return _reach(near, x, seen(result), seen), near


def _ends(x: Array, result: Array, seen: Any) -> _Ends:
    """`x` and `result` have a row for each sign; magnitudes go up to infinity."""
    wanted = seen(result)
    low, near = max(_agreeing(wanted, wanted[:, :1]) - 1, 0), None
    for curve in (_line, _parabola):
        if (found := curve(x, result, seen))[0] > low + 256:
            low, near = found
    high, argument = 0, []
    for _own, values, exact in zip(x, wanted, seen(x), strict=True):
        constant = np.flatnonzero(values != values[-1])
        same = np.flatnonzero(values != exact)
        ends = [int(e[-1]) + 1 if e.size else 0 for e in (constant, same)]
        argument.append(ends[1] < ends[0])
        high = max(high, min(ends))
    return _Ends(min(low, high), near, high, (argument[0], argument[1]))


def tabulated(graph: Graph, inputs: int) -> Graph | None:
    """A graph of bfloat16 inputs as tables: a function of one, or the product of one with a function of another.

    In a product all digits of the function's float32 results count. None if the tables would be too large, or anything
    differed.
    """
    every, exact = halves.inputs("bfloat16"), inputs == 2
    outputs = halves.factor(graph) if exact else graph.outputs
    if not outputs:
        return None

    def seen(values: Array) -> Array:
        if exact:
            return np.where(np.isnan(values), -1, np.ascontiguousarray(values).view(np.int32))
        return halves.rounded(np.ascontiguousarray(values), "bfloat16")

    want = evaluate(graph, [every] * inputs, outputs=outputs)
    x = every.reshape(2, -1)[:, : _INFINITY + 1]
    rows = [w.reshape(2, -1)[:, : _INFINITY + 1] for w in want]
    with np.errstate(all="ignore"):
        ends = [_ends(x, row, seen) for row in rows]
        low, high = min(e.low for e in ends), max(e.high for e in ends)
        if 2 * (high - low + 1) * len(rows) > _MOST:
            return None
        tables = [_table(row[:, low : high + 1], exact) for row in rows]
        made = trace_with(lambda v: _kernel(v[0], low, high, ends, tables), ["float"], 32)
        got = evaluate(made, [every])
    if any((seen(a) != seen(b)).any() for a, b in zip(got, want, strict=True)):
        return None
    if exact:
        return trace_with(lambda v: v[0] * _kernel(v[1], low, high, ends, tables)[0], ["float", "float"], 32)
    return made


def _table(results: Array, exact: bool) -> list[float]:
    """Those of x > 0, then those of x < 0; rounded, so that the order of the two roundings is that of the kernel."""
    flat = np.ascontiguousarray(results).reshape(-1)
    if not exact:
        flat = (halves.rounded(flat, "bfloat16").astype(np.uint32) << 16).view(np.float32)
    return [float(v) for v in flat]


def _kernel(x: Value, low: int, high: int, ends: Sequence[_Ends], tables: Sequence[list[float]]) -> Any:
    bits = x.bits()
    magnitude = x.fabs().bits()
    first, last = low * _STRIDE, high * _STRIDE
    inside = magnitude.select(magnitude > first, magnitude, first)
    inside = inside.select(inside < last, inside, last)
    place = ((inside - first) >> 16) + ((bits >> 31) & (high - low + 1))
    results = []
    for end, table in zip(ends, tables, strict=True):
        y = place.entry(table)
        if end.near is not None:
            y = y.select(magnitude < low * _STRIDE, end.near.of(x), y)
        limit = float(from_pattern(high * _STRIDE, "float", 32))
        # a comparison that is false for NaN, so that NaN stays NaN
        if end.argument == (True, True):
            y = y.select(x.fabs() <= limit, y, x)
        elif end.argument[0]:
            y = y.select(x <= limit, y, x)
        elif end.argument[1]:
            y = y.select(x >= -limit, y, x)
        else:
            y = y.select(x == x, y, x)
        results.append(y)
    return tuple(results)
