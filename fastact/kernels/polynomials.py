"""Evaluation of polynomials: plain Python over lanes, for float32 and float64 alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastact.kernels.language import fma

__all__ = ["horner", "polynomial"]

Lanes = Any


def horner(x: Lanes, coefficients: Sequence[float]) -> Lanes:
    """The sum of coefficients[k] x^k by one chain of fma: the fewest operations, the longest wait."""
    value: Lanes = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        value = fma(x, value, c)
    return value


def polynomial(x: Lanes, coefficients: Sequence[float]) -> Lanes:
    """The sum of coefficients[k] x^k by two chains, of even and of odd powers.

    Half the wait for one operation more. Needs three coefficients or more.
    """
    square = x * x
    return fma(horner(square, coefficients[1::2]), x, horner(square, coefficients[::2]))
