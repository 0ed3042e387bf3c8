"""The positive functions that `gelu32` and `erf64` tabulate, at whatever precision mpmath is set to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpmath import mp, mpf

Function = Callable[[Any], Any]


def half_square(a: Any) -> Any:
    return a * a / 2


def two_u(a: Any) -> Any:
    return 2 * mp.sqrt(2 / mp.pi) * (a + mpf("0.044715") * a**3)


def two_u_slope(a: Any) -> Any:
    return 2 * mp.sqrt(2 / mp.pi) * (1 + 3 * mpf("0.044715") * a**2)


def upper_tail(a: Any) -> Any:
    return mp.erfc(a / mp.sqrt(2)) / 2


def gelu_slope(a: Any) -> Any:
    """gelu'(-a)."""
    return upper_tail(a) - a * mp.npdf(a)


def gelu_tanh_slope(a: Any) -> Any:
    """gelu_tanh'(-a)."""
    e = mp.exp(-two_u(a))
    return e * (1 + e - a * two_u_slope(a)) / (1 + e) ** 2


def root_of(slope: Function) -> Any:
    """The zero of either slope."""
    return mp.findroot(slope, 0.75)


def without_root(slope: Function, root: Any, near: Any) -> Function:
    """slope(a) / (root - a), and its limit where a is within `near` of the root."""
    return lambda a: slope(a) / (root - a) if abs(root - a) > near else -mp.diff(slope, root)
