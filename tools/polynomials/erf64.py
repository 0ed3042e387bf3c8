"""Minimax coefficients of fastact/kernels/erf64.py: prints them, or with --check measures the stored ones.

Q(x) = erfc(x/sqrt 2)/2 = e^(-x^2/2) R(x), and (x + 13/16) R(x) = P(t), t = (x - 4)/(x + 4), for 0 <= x <= 38.8, where P
is between 0.39 and 0.48: the shift 13/16 makes it flat, the 4 makes the series short. The error is relative.
P(0) is stored as a pair.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mpmath import mp, mpf
from remez import evaluate, fit_rounded, largest_error, round_to, show

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fastact.kernels import erf64

TOP = mpf("38.8")
INTERVAL = (-1, (TOP - 4) / (TOP + 4))
TERMS = 25
BOUND = mpf(2) ** -56
_seen: dict[mpf, mpf] = {}


def f(t: mpf) -> mpf:
    """The function of t, remembered: every fit evaluates it on the same grid."""
    if t not in _seen:
        x = 4 * (1 + t) / (1 - t)
        _seen[t] = (x + mpf(13) / 16) * mp.exp(x * x / 2) * mp.erfc(x / mp.sqrt(2)) / 2
    return _seen[t]


def weight(t: mpf) -> mpf:
    return 1 / f(t)


def check() -> bool:
    stored = [sum(map(mpf, erf64.TAIL_HEAD)), *erf64.TAIL]
    error = largest_error(f, evaluate(stored, range(TERMS)), INTERVAL, weight)
    print(f"TAIL: relative error 2^{mp.nstr(mp.log(error, 2), 5)}")
    return bool(error <= BOUND)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if check() else 1)
    kinds = ["exact"] + ["float64"] * (TERMS - 1)
    (head, *tail), error = fit_rounded(f, INTERVAL, range(TERMS), weight, kinds)
    print(f"# relative error: 2^{mp.nstr(mp.log(error, 2), 5)}")
    high = round_to(head, "float64")
    print(show([high, round_to(head - high, "float64")], "TAIL_HEAD"))
    print(show(tail, "TAIL"))
