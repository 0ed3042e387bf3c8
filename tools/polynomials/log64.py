"""Minimax coefficients of fastact/kernels/log64.py: prints them, or with --check measures the stored ones.

log((1 + s)/(1 - s)) = 2 s + s w P(w), w = s^2, for s = g/(2 + g), g in [-1/4, 1/2]: s in [-1/7, 1/5]. The weight makes
the error relative to the logarithm.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mpmath import mp, mpf
from remez import evaluate, fit_rounded, largest_error, show

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fastact.kernels import log64

INTERVAL = (0, mpf(1) / 25 * (1 + mpf(2) ** -40))
BOUND = mpf(2) ** -59


def f(w: mpf) -> mpf:
    s = mp.sqrt(w)
    return (mp.log((1 + s) / (1 - s)) - 2 * s) / (s * w)


def weight(w: mpf) -> mpf:
    s = mp.sqrt(w)
    return s * w / mp.log((1 + s) / (1 - s))


def check() -> bool:
    error = largest_error(f, evaluate(log64.LOG_TAIL, range(8)), INTERVAL, weight)
    print(f"LOG_TAIL: relative error 2^{mp.nstr(mp.log(error, 2), 5)}")
    return bool(error <= BOUND)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if check() else 1)
    tail, error = fit_rounded(f, INTERVAL, range(8), weight, "float64")
    print(f"# relative error of the logarithm: 2^{mp.nstr(mp.log(error, 2), 5)}")
    print(show(tail, "LOG_TAIL"))
