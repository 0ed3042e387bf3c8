"""Coefficients and tables of fastact/kernels/log64.py: prints them, or with --check measures the stored ones.

log((1 + s)/(1 - s)) = 2 s + s w P(w), w = s^2, for s = g/(2 + g), g in [-1/4, 1/2]: s in [-1/7, 1/5]. The weight makes
the error relative to the logarithm.

For log(1 + w), 0 <= w <= 1, in steps: log(1 + g) = g + g^2 P(g) where g = (1 + w) c - 1, with c from a table of 16
numbers near 1/(1 + j/15), each such that c - 1 - log(c) is nearly a float. For the first of them, c = 1 and g = w, the
error is relative to log(1 + g); elsewhere it is relative to a logarithm of at least 1/30.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kept import agrees
from mpmath import mp, mpf
from remez import evaluate, fit_rounded, largest_error, round_to, show

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fastact.kernels import log64

INTERVAL = (0, mpf(1) / 25 * (1 + mpf(2) ** -40))
BOUND = mpf(2) ** -59
STEP_INTERVAL = (mpf("-0.03125"), mpf("0.03334"))
STEP_BOUND = mpf(2) ** -56


def f(w: mpf) -> mpf:
    s = mp.sqrt(w)
    return (mp.log((1 + s) / (1 - s)) - 2 * s) / (s * w)


def weight(w: mpf) -> mpf:
    s = mp.sqrt(w)
    return s * w / mp.log((1 + s) / (1 - s))


def log1p_tail(g: Any) -> Any:
    return (mp.log1p(g) - g) / g**2


def step_weight(g: Any) -> Any:
    return g**2 / mp.log1p(g) if g > 0 else g**2 * 30


def table() -> tuple[list[Any], list[Any]]:
    """The numbers c, and c - 1 - log(c) rounded."""
    reciprocals, logarithms = [mpf(1)], [mpf(0)]
    for j in range(1, 16):
        middle, k = round_to(1 / (1 + mpf(j) / 15), "float32"), 0
        while len(reciprocals) == j:
            for c in (middle + k * mpf(2) ** -30, middle - k * mpf(2) ** -30):
                value = c - 1 - mp.log(c)
                rounded = round_to(value, "float64")
                if abs(rounded / value - 1) < mpf(2) ** -62:
                    reciprocals.append(c)
                    logarithms.append(rounded)
                    break
            k += 1
    return reciprocals, logarithms


def reach() -> tuple[Any, Any]:
    """The smallest and the largest g with the stored table."""
    c = [mpf(v) for v in log64.STEP_RECIPROCALS]
    low = min((1 + mpf(2 * j - 1) / 30) * v - 1 for j, v in enumerate(c) if j)
    return low, max((1 + min(mpf(2 * j + 1) / 30, 1)) * v - 1 for j, v in enumerate(c))


def check() -> bool:
    error = largest_error(f, evaluate(log64.LOG_TAIL, range(8)), INTERVAL, weight)
    step_error = largest_error(log1p_tail, evaluate(log64.STEP_TAIL, range(8)), STEP_INTERVAL, step_weight)
    for name, value in (("LOG_TAIL", error), ("STEP_TAIL", step_error)):
        print(f"{name}: relative error 2^{mp.nstr(mp.log(value, 2), 5)}")
    pairs = list(zip(map(mpf, log64.STEP_RECIPROCALS), map(mpf, log64.STEP_LOGS), strict=True))
    far = max(abs(b / (c - 1 - mp.log(c)) - 1) for c, b in pairs[1:])
    low, high = reach()
    print(f"STEP_LOGS to 2^{mp.nstr(mp.log(far, 2), 5)}, g from {mp.nstr(low, 6)} to {mp.nstr(high, 6)}")
    inside = STEP_INTERVAL[0] <= low and high <= STEP_INTERVAL[1] and pairs[0] == (1, 0)
    return bool(error <= BOUND and step_error <= STEP_BOUND and far < mpf(2) ** -62 and inside)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if agrees(__file__) and check() else 1)
    tail, error = fit_rounded(f, INTERVAL, range(8), weight, "float64")
    print(f"# relative error of the logarithm: 2^{mp.nstr(mp.log(error, 2), 5)}")
    print(show(tail, "LOG_TAIL"))
    reciprocals, logarithms = table()
    print(show(reciprocals, "STEP_RECIPROCALS"))
    print(show(logarithms, "STEP_LOGS"))
    tail, error = fit_rounded(log1p_tail, STEP_INTERVAL, range(8), step_weight, "float64")
    print(f"# relative error of the logarithm: 2^{mp.nstr(mp.log(error, 2), 5)}")
    print(show(tail, "STEP_TAIL"))
