"""What each operation of a graph computes, on NumPy arrays: the meaning that the other forms of a graph must have."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

FLOATS: dict[int, type[np.floating[Any]]] = {32: np.float32, 64: np.float64}
INTS: dict[int, type[np.signedinteger[Any]]] = {32: np.int32, 64: np.int64}

OPERATORS: dict[str, Callable[..., Any]] = {
    **{
        name: getattr(operator, name)
        for name in ("lt", "le", "gt", "ge", "eq", "ne", "add", "sub", "mul", "neg", "xor")
    },
    "div": operator.truediv,
    "and": operator.and_,
    "or": operator.or_,
    "not": operator.invert,
    "shl": operator.lshift,
    "shr": operator.rshift,
}
"""What an operation is in Python, of arrays as of the lanes of any backend."""


def as_bits(value: float, kind: str, width: int) -> int:
    """`value` as a constant of a kind and width: its bit pattern as a signed integer."""
    if kind == "float":
        with np.errstate(over="ignore"):
            return int(FLOATS[width](value).view(INTS[width]))
    if kind == "mask":
        return int(bool(value))
    sign = 1 << (width - 1)
    return ((int(value) + sign) & (2 * sign - 1)) - sign


def from_pattern(pattern: int, kind: str, width: int) -> Any:
    """The NumPy scalar with a bit pattern made by `as_bits`."""
    if kind == "mask":
        return np.bool_(pattern)
    number = INTS[width](pattern)
    return number.view(FLOATS[width]) if kind == "float" else number


def fma32(a: Array, b: Array, c: Array) -> Array:
    """a * b + c in float32, rounded once.

    The product is exact in float64, and the sum is rounded there to odd, so that rounding it again is harmless.
    """
    p = a.astype(np.float64) * b
    d = c.astype(np.float64)
    s = p + d
    t = s - p
    error = (p - (s - t)) + (d - t)
    i = s.view(np.int64)
    inexact = (error != 0) & np.isfinite(s) & (i & 1 == 0)
    # towards the error: one unit up in magnitude if it has the sign of the sum, else one down
    away = np.where((error > 0) == (s > 0), 1, -1)
    return np.where(inexact, (i + np.where(inexact, away, 0)).view(np.float64), s).astype(np.float32)


def _fma_exact(a: float, b: float, c: float) -> float:
    """a * b + c in float64, rounded once."""
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        with np.errstate(all="ignore"):  # what is not finite takes no rounding
            return float(np.float64(a) * (np.float64(b) if math.isfinite(c) else np.sign(b)) + np.float64(c))
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return a * b + c
    try:
        return float(exact)
    except OverflowError:
        return math.copysign(math.inf, exact)


def fma64(a: Array, b: Array, c: Array) -> Array:
    """a * b + c in float64, rounded once; exact arithmetic, so slow."""
    return np.asarray(np.vectorize(_fma_exact, otypes=[np.float64])(a, b, c))


def operation(op: str, width: int, value: Any, operands: Sequence[Array], kinds: Sequence[str]) -> Array:
    """The result of one operation on arrays; `kinds` are those of the operands."""
    a = operands[0]
    if op in OPERATORS:
        return np.asarray(OPERATORS[op](*operands))
    if op == "fma":
        return (fma32 if width == 32 else fma64)(*operands)
    if op == "select":
        return np.where(*operands)
    if op == "fabs":
        return np.asarray(np.abs(a))
    if op == "copysign":
        return np.asarray(np.copysign(a, operands[1]))
    if op == "sqrt":
        return np.asarray(np.sqrt(a))
    if op == "bits":
        return np.asarray(a).view(INTS[width])
    if op == "from_bits":
        return np.asarray(a).view(FLOATS[width])
    if op == "to_float":
        return np.asarray(a).astype(FLOATS[width])
    if op == "lookup":
        table = np.array(value, INTS[width]).view(FLOATS[width])
        return np.asarray(table[a & (len(value) - 1)])
    if op == "entry":
        return np.array(value, INTS[width]).view(FLOATS[width])[a]
    raise ValueError(f"unknown operation {op!r}")


def fold(node: Any, patterns: Sequence[int], kinds: Sequence[str]) -> int | None:
    """The bit pattern of an operation on constants."""
    operands = [np.array([from_pattern(p, k, node.width)]) for p, k in zip(patterns, kinds, strict=True)]
    with np.errstate(all="ignore"):
        result = operation(node.op, node.width, node.value, operands, kinds)[0]
    return as_bits(result, node.kind, node.width)


def evaluate(
    graph: Any,
    inputs: Sequence[Array],
    override: Callable[..., Array | None] | None = None,
    outputs: tuple[int, ...] | None = None,
) -> list[Array]:
    """The outputs of a graph, or these results of it, for arrays of inputs.

    `override(node, operands)` may compute an operation its own way, or return None.
    """
    values: dict[int, Array] = {}
    outputs = graph.outputs if outputs is None else outputs
    with np.errstate(all="ignore"):
        for number in graph.used(outputs):
            node = graph.nodes[number]
            if node.op == "input":
                values[number] = np.asarray(inputs[node.value])
                continue
            if node.op == "const":
                values[number] = np.full(np.shape(inputs[0]), from_pattern(node.value, node.kind, node.width))
                continue
            operands = [values[k] for k in node.operands]
            own = override(node, operands) if override is not None else None
            kinds = [graph.nodes[k].kind for k in node.operands]
            values[number] = operation(node.op, node.width, node.value, operands, kinds) if own is None else own
    return [values[k] for k in outputs]
