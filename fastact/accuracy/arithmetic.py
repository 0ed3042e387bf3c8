"""Numbers of any precision for the oracles: MPFR (gmpy2) where it is installed, mpmath otherwise.

An oracle is a formula over a namespace `m` (``m.exp``, ``m.erfc``, ...), so one formula runs on both libraries and a
test can hold one against the other. `evaluate` is Ziv's strategy: compute at one precision and at twice that, and go on
doubling until both agree far beyond what any dtype can see.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

__all__ = ["Real", "Scaled", "evaluate", "evaluate_all", "namespaces", "require", "scaled"]

Real = Any
"""A number of many digits: gmpy2.mpfr or mpmath.mpf; neither library is typed."""

START = 136
"""First working precision, in bits; what is returned was computed with 81 digits or more."""
AGREE = 90
"""Two evaluations must agree to a relative 2^-90 (the oracles promise 2^-80)."""
CAP = 5200
"""Zero at this precision is zero: the smallest square of a float64 is 2^-2148, seen here with 2^-80 to spare."""
CUT = 2**13
"""Exponents are cut off here: e^-8192 is 2^-11818, which differs from 0 in no dtype, nor e^8192 from infinity."""
CUT_ERFC = 91
"""The same for the complementary error function, a little further out than e^-x^2, for it is the smaller one."""
FURTHEST = 1 << 20
"""Exponents are kept within +-2^20, which is far outside every dtype: e^-1e300 needs no exact exponent."""


class Scaled(NamedTuple):
    """The number (hi + lo) * 2^exponent, 0.5 <= |hi| <= 1, or a zero, infinity or NaN in `hi`."""

    hi: float
    lo: float
    exponent: int


class _Namespace:
    """One library's functions under one set of names; all of them follow the library's current precision."""

    def __init__(self, library: Any, number: Callable[[Any], Real], pi: Callable[[], Real]) -> None:
        self.log1p, self.sqrt, self.number = library.log1p, library.sqrt, number
        self._library, self._pi = library, pi

    def exp(self, x: Real) -> Real:
        return self._library.exp(x if abs(x) < CUT else math.copysign(CUT, x))

    def expm1(self, x: Real) -> Real:
        return self._library.expm1(x if abs(x) < CUT else math.copysign(CUT, x))

    def erfc(self, x: Real) -> Real:
        return self._library.erfc(x if abs(x) < CUT_ERFC else math.copysign(CUT_ERFC, x))

    @property
    def pi(self) -> Real:
        return self._pi()


@cache
def require(module: str) -> Any:
    """Import `module`, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"the accuracy oracles need {module}: pip install fastact[test]") from error


@cache
def namespaces() -> tuple[_Namespace | None, _Namespace]:
    """(MPFR or None, mpmath)."""
    mpmath = require("mpmath")
    slow = _Namespace(mpmath.mp, mpmath.mpf, lambda: +mpmath.mp.pi)
    try:
        gmpy2 = importlib.import_module("gmpy2")
    except ImportError:
        return None, slow
    return _Namespace(gmpy2, gmpy2.mpfr, gmpy2.const_pi), slow


@cache
def _context(bits: int) -> Any:
    """MPFR at this precision, for a with statement; making one takes longer than most functions."""
    gmpy2 = require("gmpy2")
    return gmpy2.context(precision=bits, emin=gmpy2.get_emin_min(), emax=gmpy2.get_emax_max())


def evaluate(formula: Callable[..., Real], *arguments: Real, library: str | None = None) -> Real:
    """``formula(m, *arguments)`` for finite arguments, to a relative 2^-80 or better.

    `library` ("gmpy2" or "mpmath") overrides the choice, for tests.
    """
    fast, slow = namespaces()
    if fast is not None and library != "mpmath":

        def at_mpfr(bits: int) -> Real:
            with _context(bits):
                return formula(fast, *map(fast.number, arguments))

        return _agree(at_mpfr)
    mp = require("mpmath").mp

    def at_mpmath(bits: int) -> Real:
        with mp.workprec(bits):
            return +slow.number(formula(slow, *map(slow.number, arguments)))

    return _agree(at_mpmath)


def evaluate_all(
    formula: Callable[..., Real], points: Sequence[float], arguments: Sequence[float]
) -> list[Scaled | None]:
    """``scaled(evaluate(formula, x, *arguments))`` for each finite x of `points`, in half the time.

    None stands for what needs a higher precision than most: `evaluate` knows. Needs MPFR.
    """
    fast = namespaces()[0]
    assert fast is not None

    def at(bits: int, chosen: Sequence[float]) -> list[Real]:
        with _context(bits):
            exact = [fast.number(a) for a in arguments]
            return [formula(fast, fast.number(x), *exact) for x in chosen]

    coarse, fine = at(START, points), at(2 * START, points)
    # What is zero at these precisions is so at the highest, or everything cancelled.
    zeros = [k for k, y in enumerate(fine) if y == 0 and coarse[k] == 0]
    exact = {k: y == 0 for k, y in zip(zeros, at(CAP, [points[k] for k in zeros]), strict=True)}
    limit = 2.0**-AGREE

    def settled(k: int, a: Real, b: Real) -> Scaled | None:
        if isinstance(b, int) or exact.get(k, False):
            return scaled(int(b))
        return _scaled_mpfr(b) if abs(b - a) < limit * abs(b) and abs(b) < math.inf else None

    with _context(200):
        return [settled(k, a, b) for k, (a, b) in enumerate(zip(coarse, fine, strict=True))]


def _agree(at: Callable[[int], Real]) -> Real:
    bits, coarse = START, at(START)
    while True:
        bits *= 2
        fine = at(bits)
        if isinstance(fine, int):
            return fine
        if fine == 0 or coarse == 0:
            # An exact zero, or everything cancelled: only the highest precision can tell them apart.
            if bits >= CAP:
                return fine
            bits = max(bits, CAP // 2)
        elif fine == coarse or abs(_ratio(fine - coarse, fine)) < 2.0**-AGREE:
            return fine
        if bits > 16 * CAP:
            raise ArithmeticError("an oracle does not converge: its formula cancels at every precision")
        coarse = fine


def _ratio(a: Real, b: Real) -> float:
    try:
        return float(a / b)
    except OverflowError:
        return math.inf


def scaled(value: Real) -> Scaled:
    """`value` as two floats and an exponent, so that nothing under- or overflows."""
    if isinstance(value, float | int):
        if value in (0, 1, -1):
            return Scaled(float(value), 0.0, 0)
        value = namespaces()[1].number(value)
    if value == 0 or not abs(value) < math.inf:
        return Scaled(float(value), 0.0, 0)
    if hasattr(value, "man_exp"):
        mp = require("mpmath").mp
        with mp.workprec(200):
            mantissa, exponent = mp.frexp(value)
            hi = float(mantissa)
            return Scaled(hi, float(mantissa - hi), max(-FURTHEST, min(int(exponent), FURTHEST)))
    with _context(200):
        return _scaled_mpfr(value)


def _scaled_mpfr(value: Real) -> Scaled:
    """`scaled` of a finite number that is not zero, in a context of 200 bits."""
    exponent, mantissa = require("gmpy2").frexp(value)
    hi = float(mantissa)
    return Scaled(hi, float(mantissa - hi), max(-FURTHEST, min(exponent, FURTHEST)))
