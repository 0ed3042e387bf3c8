"""Kernels for float16 arrays that are tables of parabolas.

A float16 has 1,024 values for every power of two and sign: too many for a table of results. But between the arguments
beyond which a function is a constant or a straight line, some hundred pieces of one width, each a parabola, give 11
bits. So a kernel costs about 21 instructions an element whatever the function is.

An entry has 8 bytes: threads wait for each other where their entries are in the same banks of shared memory, and with
16 they would wait longer than for the arrays. Four bytes are the parabola's value in the middle of the piece. The
others are the slope there, whose last bits hardly matter: they are the root of the curvature, of which few bits are
enough, be the curvature large or small. The entries come from `fastact.cuda.half_fit`, and the kernel that they make is
compared with the original for all 65,536 inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from ..graph import halves
from ..graph.evaluate import Array, as_bits, evaluate
from ..graph.trace import Graph, Value, trace_with
from .half_fit import Fit, Grid, fitted, seen

# The widths of the pieces, where their middles are, in widths, and the bits of the roots: the first that will do.
_STEPS, _SHIFTS, _BITS = (2.0**-4, 2.0**-5, 2.0**-6, 2.0**-7), (0.0, 0.25, -0.25), (9, 8, 10, 12)
_MOST = 8192  # words, of all outputs together: 32 KB

# Forms whose arithmetic would cost more than memory does (``tools/cuda_budget.py``).
FORMS = frozenset(
    f"{name}{form}"
    for name, forms in {
        "sigmoid": ("", "_with_derivative"),
        "gelu": ("", "_derivative", "_with_derivative"),
        "gelu_tanh": ("", "_derivative", "_with_derivative"),
        "silu": ("_with_derivative",),
        "mish": ("", "_with_derivative"),
        "softplus": ("_derivative", "_with_derivative"),
        "log_sigmoid": ("_derivative", "_with_derivative"),
        "selu": ("_with_derivative",),
        "swish": ("_with_derivative",),
        "tanh": ("_with_derivative",),
        "bipolar_sigmoid": ("_with_derivative",),
    }.items()
    for form in forms
)


@dataclass(frozen=True)
class _End:
    """What a result is beyond the pieces: a constant, or a multiple of the argument."""

    factor: float
    line: bool

    def of(self, x: Value) -> Value:
        if not self.line:
            return x.const(self.factor)
        return x if self.factor == 1 else x * self.factor


@dataclass(frozen=True)
class _Pieces:
    """A function as parabolas, and what it is below and above them."""

    fit: Fit
    ends: tuple[_End, _End]

    def of(self, x: Value, t: Value, place: Value, grid: Grid) -> Value:
        start, slope = (place.entry([float(v) for v in table]) for table in (self.fit.starts, self.fit.slopes))
        zero, last = self.fit.roots.zero, 2**self.fit.roots.bits - 1
        root = ((slope.bits() & last) ^ as_bits(zero, "float", 32)).from_bits() - zero
        u = t if self.fit.scale == 1 else t * self.fit.scale
        y = u.fma(u.fma(root * root.fabs(), u, slope), u, start)
        if self.fit.power:
            y = (x if self.fit.power == 1 else x * x) * y
        # comparisons that are false for NaN, so that NaN stays NaN
        y = y.select(x < grid.low, self.ends[0].of(x), y)
        return y.select(x > grid.high, self.ends[1].of(x), y)


def _kernel(x: Value, grid: Grid, outputs: Sequence[_Pieces]) -> tuple[Value, ...]:
    moved = x - grid.shift if grid.shift else x
    rounded = moved + grid.rounding
    bits, zero = rounded.bits(), as_bits(grid.rounding, "float", 32)
    first, last = zero + grid.number(grid.low), zero + grid.number(grid.high)
    bits = bits.select(bits > first, bits, first)
    bits = bits.select(bits < last, bits, last)
    t = moved - (rounded - grid.rounding)
    return tuple(pieces.of(x, t, bits - first, grid) for pieces in outputs)


def _ends(x: Array, result: Array) -> tuple[tuple[_End, float], tuple[_End, float]]:
    """What a result is for small and for large x, and the first x on the way to 0 for which it is not that."""
    wanted, found = seen(result), []
    for last, one in ((0, -1.0), (-1, 1.0)):
        multiple = float(result[np.searchsorted(x, one)]) * one
        best = (-1, _End(0.0, False), 0.0)
        for end in (_End(float(result[last]), False), _End(1.0, True), _End(multiple, True)):
            values = x * np.float32(end.factor) if end.line else np.full_like(x, end.factor)
            wrong = np.flatnonzero(seen(values) != wanted)
            nearest = int(wrong[last]) if wrong.size else x.size // 2
            best = max(best, (abs(nearest - last % x.size), end, float(x[nearest])), key=lambda e: e[0])
        found.append(best[1:])
    return found[0], found[1]


def _values(graph: Graph, output: int, x: Array) -> Array:
    return evaluate(graph, [x], outputs=(output,))[0]


def _made(
    graph: Graph, x: Array, wanted: Sequence[Array], grid: Grid, ends: Sequence[tuple[_End, _End]]
) -> Graph | None:
    """A graph of pieces of this grid, if they are found."""
    outputs = []
    for output, results, own in zip(graph.outputs, wanted, ends, strict=True):
        tries = (fitted(partial(_values, graph, output), x, results, grid, bits) for bits in _BITS)
        fit = next((f for f in tries if f is not None), None)
        if fit is None:
            return None
        outputs.append(_Pieces(fit, own))
    return trace_with(lambda v: _kernel(v[0], grid, outputs), ["float"], 32)


def pieced(graph: Graph) -> Graph | None:
    """A graph of one float16 input as pieces; None if there would be too many, or anything differed."""
    every = halves.inputs("float16")
    x = np.sort(every[~np.isnan(every)])
    with np.errstate(all="ignore"):
        results = evaluate(graph, [x])
        found = [_ends(x, result) for result in results]
        ends = [(below[0], above[0]) for below, above in found]
        low, high = min(below[1] for below, _ in found), max(above[1] for _, above in found)
        inside = (x >= low) & (x <= high)
        wanted = [seen(result[inside]) for result in results]
        for step, shift in product(_STEPS, _SHIFTS):
            grid = Grid(low, high, step, shift * step)
            if 2 * grid.numbers.size * len(found) > _MOST:
                break
            made = _made(graph, x[inside], wanted, grid, ends)
            if made is not None:
                pairs = zip(evaluate(made, [every]), evaluate(graph, [every]), strict=True)
                return None if any((seen(a) != seen(b)).any() for a, b in pairs) else made
    return None
