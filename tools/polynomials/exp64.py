"""Minimax coefficients of fastact/kernels/exp64.py: prints them, or with --check measures the stored ones.

e^r = 1 + r + r^2 P(r) on |r| <= ln(2)/2 (2^-40 wider, because the reduction rounds), weighted so that the error is
relative to e^r. The first coefficient is held at 1/2, which makes the kernel exact for tiny r.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mpmath import mp, mpf
from remez import evaluate, fit_rounded, largest_error, show

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fastact.kernels import exp64

B = mp.log(2) / 2 * (1 + mpf(2) ** -40)
BOUND = mpf(2) ** -57.3


def f(r: mpf) -> mpf:
    return (mp.expm1(r) - r - r * r / 2) / r**3


def weight(r: mpf) -> mpf:
    return abs(r) ** 3 / mp.exp(r)


def check() -> bool:
    error = largest_error(f, evaluate(exp64.EXP_TAIL[1:], range(9)), (-B, B), weight)
    print(f"EXP_TAIL: relative error 2^{mp.nstr(mp.log(error, 2), 5)}")
    return exp64.EXP_TAIL[0] == 0.5 and error <= BOUND


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if check() else 1)
    tail, error = fit_rounded(f, (-B, B), range(9), weight, "float64")
    print(f"# relative error of e^r: 2^{mp.nstr(mp.log(error, 2), 5)}")
    print(show([mpf(1) / 2, *tail], "EXP_TAIL"))
