"""Coefficients of fastact/kernels/mish_slope64.py: prints them, or with --check measures the stored ones.

About its zero r, a derivative f'(x) is u P(u) with u = x - r; r and P(0) = f''(r) are stored as pairs of float64, the
other coefficients are minimax on |u| <= 1/2 for the relative error of P.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kept import agrees
from mpmath import mp, mpf
from remez import evaluate, fit_rounded, largest_error, round_to, show

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fastact.kernels import mish_slope64

mp.prec = 220
BOUND = mpf(2) ** -56.5
HALF = mpf(1) / 2


def sigmoid(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def mish(x: Any) -> Any:
    t = mp.tanh(mp.log1p(mp.exp(x)))
    return t + x * (1 - t * t) * sigmoid(x)


DERIVATIVES: dict[str, tuple[Callable[[Any], Any], float, int]] = {
    "MISH": (mish, -1.1924312, 18),
}


def exact(name: str) -> tuple[Any, Any, list[Any]]:
    """The root, f''(root), and f''(root) as a pair of floats."""
    f, start, _ = DERIVATIVES[name]
    root = mp.findroot(f, start)
    slope = mp.diff(f, root)
    high = round_to(slope, "float64")
    return root, slope, [high, round_to(slope - high, "float64")]


def problem(name: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """(P(u) - P(0)) / u, and the weight that makes its error relative to P."""
    f = DERIVATIVES[name][0]
    root, _, pair = exact(name)
    seen: dict[Any, Any] = {}

    def p(u: Any) -> Any:
        if u not in seen:
            seen[u] = f(root + u) / u
        return seen[u]

    return lambda u: (p(u) - pair[0] - pair[1]) / u, lambda u: abs(u / p(u))


def check() -> bool:
    good = True
    for name in DERIVATIVES:
        root, _, pair = exact(name)
        tail = getattr(mish_slope64, f"{name}_TAIL")
        goal, weight = problem(name)
        error = largest_error(goal, evaluate(tail, range(len(tail))), (-HALF, HALF), weight, 400)
        stored = [getattr(mish_slope64, f"{name}_{part}") for part in ("ROOT", "SLOPE")]
        off = abs(sum(map(mpf, stored[0])) - root)
        good = good and bool(error <= BOUND and off < mpf(2) ** -105)
        good = good and list(map(mpf, stored[1])) == pair
        print(f"{name}: P to 2^{mp.nstr(mp.log(error, 2), 5)}, root to {mp.nstr(off, 3)}")
    return good


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if agrees(__file__) and check() else 1)
    for name, (_, _, terms) in DERIVATIVES.items():
        root, _, pair = exact(name)
        high = round_to(root, "float64")
        goal, weight = problem(name)
        tail, error = fit_rounded(goal, (-HALF, HALF), range(terms - 1), weight, "float64")
        print(f"# P to 2^{mp.nstr(mp.log(error, 2), 5)}")
        print(show([high, round_to(root - high, "float64")], f"{name}_ROOT"))
        print(show(pair, f"{name}_SLOPE"))
        print(show(tail, f"{name}_TAIL"))
