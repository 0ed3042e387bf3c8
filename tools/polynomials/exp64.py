"""Minimax coefficients and tables of fastact/kernels/exp64.py: prints them, or with --check measures the stored ones.

e^r = 1 + r + r^2 P(r) on |r| <= ln(2)/2, and for the steps of ln(2)/16 on |r| <= ln(2)/32 (2^-40 wider, because the
reduction rounds), weighted so that the error is relative to e^r or, for STEP_TAIL_FINE, to e^r - 1. Where the first
coefficient is held at 1/2 the kernel is exact for tiny r. tanh(x)/x - 1 = y P(y) / (1 + y Q(y)), y = x^2, comes from a
linear system: it is right at six Chebyshev points.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kept import agrees
from mpmath import mp, mpf
from remez import evaluate, fit_rounded, largest_error, round_to, show

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fastact.kernels import exp64

STEPS = 16
WIDER = 1 + mpf(2) ** -40


def expm1_tail(r: Any) -> Any:
    return (mp.expm1(r) - r) / r**2


def over_exp(r: Any) -> Any:
    return r**2 / mp.exp(r)


def over_expm1(r: Any) -> Any:
    return abs(r**2 / mp.expm1(r))


# name: half of the interval, number of coefficients, whether the first is 1/2, weight, bound
TAILS: dict[str, tuple[Any, int, bool, Callable[[Any], Any], Any]] = {
    "EXP_TAIL": (mp.log(2) / 2 * WIDER, 10, True, over_exp, mpf(2) ** -57.3),
    "STEP_TAIL": (mp.log(2) / (2 * STEPS) * WIDER, 5, False, over_exp, mpf(2) ** -56.2),
    "STEP_TAIL_FINE": (mp.log(2) / (2 * STEPS) * WIDER, 6, True, over_expm1, mpf(2) ** -59.2),
}
TANH_BOUND = mpf(2) ** -57.3


def tail(name: str) -> tuple[list[Any], Any]:
    """The coefficients of `name` and the error they reach."""
    b, terms, fixed, weight, _ = TAILS[name]
    if not fixed:
        return fit_rounded(expm1_tail, (-b, b), range(terms), weight, "float64")
    rest, error = fit_rounded(
        lambda r: (expm1_tail(r) - mpf(1) / 2) / r,
        (-b, b),
        range(terms - 1),
        lambda r: abs(r) * weight(r),
        "float64",
    )
    return [mpf(1) / 2, *rest], error


def moved(value: float, steps: int) -> float:
    """`value` with `steps` added to its bits from the 48th on."""
    return float(
        struct.unpack("<d", struct.pack("<q", struct.unpack("<q", struct.pack("<d", value))[0] + (steps << 48)))[0]
    )


def tables() -> dict[str, tuple[float, ...]]:
    """The powers of two, rounded to 53 and to 52 bits, and what the latter lack."""
    exact = [mpf(2) ** (mpf(j) / STEPS) for j in range(STEPS)]
    short = [mp.nint(v * mpf(2) ** 51) / mpf(2) ** 51 for v in exact]
    return {
        "STEP_POWERS": tuple(moved(float(round_to(v, "float64")), -j) for j, v in enumerate(exact)),
        "SHORT_POWERS": tuple(moved(float(v), -j) for j, v in enumerate(short)),
        "SHORT_POWERS_LOW": tuple(float(round_to(v / w - 1, "float64")) for v, w in zip(exact, short, strict=True)),
    }


def tanh_ratio(y: Any) -> Any:
    return mp.tanh(mp.sqrt(y)) / mp.sqrt(y) - 1


def tanh_error(numerator: Sequence[Any], denominator: Sequence[Any]) -> Any:
    """The largest error of tanh, relative, with these coefficients."""

    def model(y: Any) -> Any:
        above = mp.fsum(mpf(c) * y ** (k + 1) for k, c in enumerate(numerator))
        return above / (1 + mp.fsum(mpf(c) * y ** (k + 1) for k, c in enumerate(denominator)))

    top = mpf(exp64.TANH_SMALL) ** 2
    return largest_error(tanh_ratio, model, (0, top), lambda y: 1 / (1 + tanh_ratio(y)))


def tanh_coefficients() -> tuple[list[Any], list[Any]]:
    top, n = mpf(exp64.TANH_SMALL) ** 2, 6
    points = [top / 2 * (1 + mp.cospi(mpf(2 * i + 1) / (2 * n))) for i in range(n)]
    rows = [[y, y**2, y**3, *(-tanh_ratio(y) * y**k for k in (1, 2, 3))] for y in points]
    found = [round_to(c, "float64") for c in mp.lu_solve(mp.matrix(rows), mp.matrix(list(map(tanh_ratio, points))))]
    return found[:3], found[3:]


def check() -> bool:
    good = True
    for name, (b, terms, fixed, weight, bound) in TAILS.items():
        stored = getattr(exp64, name)
        error = largest_error(expm1_tail, evaluate(stored, range(terms)), (-b, b), weight)
        print(f"{name}: relative error 2^{mp.nstr(mp.log(error, 2), 5)}")
        good = good and bool(error <= bound) and (stored[0] == 0.5 or not fixed)
    error = tanh_error(exp64.TANH_NUMERATOR, exp64.TANH_DENOMINATOR)
    print(f"TANH: relative error 2^{mp.nstr(mp.log(error, 2), 5)}")
    for name, values in tables().items():
        same = getattr(exp64, name) == values
        print(name, "agrees" if same else "differs")
        good = good and same
    return good and bool(error <= TANH_BOUND)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if agrees(__file__) and check() else 1)
    for name in TAILS:
        coefficients, error = tail(name)
        print(f"# relative error 2^{mp.nstr(mp.log(error, 2), 5)}")
        print(show(coefficients, name))
    for name, values in tables().items():
        print(show(values, name))
    numerator, denominator = tanh_coefficients()
    print(f"# relative error of tanh: 2^{mp.nstr(mp.log(tanh_error(numerator, denominator), 2), 5)}")
    print(show(numerator, "TANH_NUMERATOR"))
    print(show(denominator, "TANH_DENOMINATOR"))
