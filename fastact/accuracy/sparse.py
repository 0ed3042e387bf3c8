"""What sparsemax, entmax15 and hardmax are, one row at a time, in fractions: exact but for a square root.

The support is found by sorting, entry after entry, which is how the papers define it and not how the kernels find it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from fastact.accuracy.arithmetic import FURTHEST, Scaled

__all__ = ["SPARSE", "SPARSE_VJPS"]

Row = Sequence[Fraction]
ROOT_BITS = 400
"""Square roots are right to a relative 2^-400: nothing that is taken from another cancels as far as that."""


def _sqrt(x: Fraction) -> Fraction:
    """The square root of x >= 0, rounded down to `ROOT_BITS` bits."""
    if x == 0:
        return x
    shift = ROOT_BITS + (x.denominator.bit_length() - x.numerator.bit_length()) // 2 + 2
    square = x * Fraction(4) ** shift
    return math.isqrt(square.numerator // square.denominator) / Fraction(2) ** shift


def _sparsemax(x: Row) -> list[Fraction]:
    total, tau = Fraction(0), max(x) - 1
    for count, value in enumerate(sorted(x, reverse=True), 1):
        if value <= tau:
            break
        total += value
        tau = (total - 1) / count
    return [max(value - tau, Fraction(0)) for value in x]


def _entmax15(x: Row) -> list[Fraction]:
    top = max(x)
    count, total, squares, smallest = 0, Fraction(0), Fraction(0), Fraction(0)
    for value in sorted((value - top for value in x), reverse=True):
        # an entry belongs to the support if with tau there, the squares of all above it add up to less than 4
        if squares - 2 * value * total + count * value**2 >= 4:
            break
        count, total, squares, smallest = count + 1, total + value, squares + value**2, value
    above = total - count * smallest
    left = 4 - (squares - 2 * smallest * total + count * smallest**2)
    below = left / (above + _sqrt(above**2 + count * left))
    tau = smallest - below
    return [(max(value - top - tau, Fraction(0)) / 2) ** 2 for value in x]


def _hardmax(x: Row) -> list[Fraction]:
    first = max(range(len(x)), key=lambda k: (x[k], -k))
    return [Fraction(k == first) for k in range(len(x))]


def _sparsemax_vjp(g: Row, y: Row) -> list[Fraction]:
    inside = [a for a, b in zip(g, y, strict=True) if b]
    mean = sum(inside, Fraction(0)) / max(len(inside), 1)
    return [a - mean if b else Fraction(0) for a, b in zip(g, y, strict=True)]


def _entmax15_vjp(g: Row, y: Row) -> list[Fraction]:
    roots = [_sqrt(v) for v in y]
    weight = sum(roots, Fraction(0))
    mean = sum((a * s for a, s in zip(g, roots, strict=True)), Fraction(0)) / (weight or 1)
    return [s * (a - mean) for a, s in zip(g, roots, strict=True)]


def _scaled(value: Fraction) -> Scaled:
    """`value` as two floats and an exponent."""
    if value == 0:
        return Scaled(0.0, 0.0, 0)
    exponent = abs(value.numerator).bit_length() - value.denominator.bit_length()
    mantissa = value / Fraction(2) ** exponent
    hi = float(mantissa)
    return Scaled(hi, float(mantissa - Fraction(hi)), max(-FURTHEST, exponent))


def _row(formula: Callable[[Row], list[Fraction]]) -> Callable[[Sequence[float]], list[Scaled]]:
    def evaluate(x: Sequence[float]) -> list[Scaled]:
        """The result for a row with a finite entry, and otherwise nothing but finite ones and -inf."""
        kept = iter(formula([Fraction(v) for v in x if v > -math.inf]))
        return [_scaled(next(kept)) if v > -math.inf else Scaled(0.0, 0.0, 0) for v in x]

    return evaluate


def _vjp(formula: Callable[[Row, Row], list[Fraction]]) -> Callable[[Sequence[float], Sequence[float]], list[Scaled]]:
    def evaluate(g: Sequence[float], y: Sequence[float]) -> list[Scaled]:
        return [_scaled(v) for v in formula([Fraction(v) for v in g], [Fraction(v) for v in y])]

    return evaluate


SPARSE: Mapping[str, Callable[[Sequence[float]], list[Scaled]]] = {
    "sparsemax": _row(_sparsemax),
    "entmax15": _row(_entmax15),
    "hardmax": _row(_hardmax),
}
"""name -> the result of a row x."""

SPARSE_VJPS: Mapping[str, Callable[[Sequence[float], Sequence[float]], list[Scaled]]] = {
    "sparsemax_vjp": _vjp(_sparsemax_vjp),
    "entmax15_vjp": _vjp(_entmax15_vjp),
}
"""name -> the gradient from g and the saved output y."""
