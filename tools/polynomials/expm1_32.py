"""Coefficients of celu_series.py, exponential.py and selu32.py: prints them, or with --check measures the stored ones.

EXPM1_TAIL: (e^r - 1 - r) / r^2 for float32 on |r| <= log(2)/32, the first coefficient held at 1/2; the error is
relative to e^r - 1.

CELU_TAIL: 1 - e^t (1 - t) = t^2 (1/2 + t/3 + t^2 P(t)) on |t| <= 1, for float32 and float64; the error is relative to
the whole.

SCALE_MINUS_1, SCALE_ALPHA, SELU_...: the constants of selu; THIRD: 1/3 as a pair.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kept import agrees
from mpmath import mp, mpf
from remez import evaluate, fit_rounded, largest_error, pair, round_to, show

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fastact.kernels import selu32
from fastact.kernels.celu_series import CELU_TAIL, THIRD
from fastact.kernels.exp32 import EXPM1_TAIL
from fastact.kernels.exponential import SCALE_ALPHA, SCALE_MINUS_1

mp.prec = 220
# The rounded multiple of log(2)/16 may be off a little: allow for that.
R = (-mp.log(2) / 32 * mpf("1.002"), mp.log(2) / 32 * mpf("1.002"))
T = (mpf(-1), mpf(1))
BOUND_EXPM1 = mpf(2) ** -31.5
CELU = {32: ("float32", 8, mpf(2) ** -32.4), 64: ("float64", 14, mpf(2) ** -61.7)}
SELU_SCALE = mpf("1.0507009873554804934193349852946")
SELU_ALPHA = mpf("1.6732632423543772848170429916717")


def expm1_tail(r: Any) -> Any:
    return (mp.expm1(r) - r - r * r / 2) / r**3


def expm1_weight(r: Any) -> Any:
    return abs(r**3 / mp.expm1(r))


def series(t: Any, first: int, less: int) -> Any:
    """The sum of (k - 1)/k! t^(k - less) from k = first on."""
    return mp.fsum((k - 1) * t ** (k - less) / mp.factorial(k) for k in range(first, 60))


def celu_tail(t: Any) -> Any:
    return series(t, 4, 4)


def celu_weight(t: Any) -> Any:
    return t * t / series(t, 2, 2)


def selu_tables() -> dict[str, Any]:
    scale_alpha = SELU_SCALE * SELU_ALPHA
    c = round_to(scale_alpha, "float32")
    rest = scale_alpha / c - 1
    roots = [mpf(2) ** (mpf(j) / 16) for j in range(16)]
    powers = [round_to(c * root, "float32") for root in roots]
    # s = c root / 2 but for the first, and its share of `rest` is that of (s - c) / s
    lows = [c * root / power - 1 + rest * (1 - 2 / root) for root, power in zip(roots, powers, strict=True)]
    slope_lows = [scale_alpha * root / power - 1 for root, power in zip(roots, powers, strict=True)]
    return {
        "SELU_REST": float(round_to(rest, "float32")),
        "SELU_POWERS": tuple(float(power) for power in powers),
        "SELU_SLOPE_LOW": tuple(float(round_to(low, "float32")) for low in slope_lows),
        "SELU_POWERS_LOW": (0.0, *(float(round_to(low, "float32")) for low in lows[1:])),
    }


def check() -> bool:
    error = largest_error(expm1_tail, evaluate(EXPM1_TAIL[1:], range(2)), R, expm1_weight)
    print(f"EXPM1_TAIL: 2^{mp.nstr(mp.log(error, 2), 5)}")
    good = EXPM1_TAIL[0] == 0.5 and error <= BOUND_EXPM1
    for width, (dtype, size, bound) in CELU.items():
        error = largest_error(celu_tail, evaluate(CELU_TAIL[width], range(size)), T, celu_weight)
        print(f"CELU_TAIL[{width}]: 2^{mp.nstr(mp.log(error, 2), 5)}")
        good = good and error <= bound
        good = good and THIRD[width] == pair(mpf(1) / 3, dtype)
    good = good and pair(SELU_SCALE * SELU_ALPHA, "float64") == SCALE_ALPHA
    good = good and all(getattr(selu32, name) == table for name, table in selu_tables().items())
    print("constants agree" if good else "something differs")
    return good and float(SELU_SCALE - 1) == SCALE_MINUS_1


def main() -> int:
    if "--check" in sys.argv and not agrees(__file__):
        return 1
    if "--check" in sys.argv:
        return 0 if check() else 1
    tail, error = fit_rounded(expm1_tail, R, range(2), expm1_weight)
    print(show([mpf(1) / 2, *tail], "EXPM1_TAIL"), f"# 2^{mp.nstr(mp.log(error, 2), 5)}")
    for width, (dtype, size, _) in CELU.items():
        tail, error = fit_rounded(celu_tail, T, range(size), celu_weight, dtype)
        print(show(tail, f"CELU_TAIL[{width}]"), f"# 2^{mp.nstr(mp.log(error, 2), 5)}")
        print(f"THIRD[{width}] =", pair(mpf(1) / 3, dtype))
    print("SCALE_ALPHA =", pair(SELU_SCALE * SELU_ALPHA, "float64"))
    print("SCALE_MINUS_1 =", float(SELU_SCALE - 1))
    for name, value in selu_tables().items():
        print(f"{name} = {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
