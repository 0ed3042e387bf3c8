"""Coefficients of fastact/kernels/exponential.py: prints them, or with --check measures the stored ones.

EXPM1_TAIL: (e^r - 1 - r) / r^2 for float32 on |r| <= log(2)/32, the first coefficient held at 1/2; the error is
relative to e^r - 1.

CELU_TAIL: 1 - e^t (1 - t) = t^2 (1/2 + t/3 + t^2 P(t)) on |t| <= 1, for float32 and float64; the error is relative to
the whole.

SCALE_MINUS_1, SCALE_ALPHA, SELU_REST, SELU_POWERS, SELU_POWERS_LOW: the constants of selu; THIRD: 1/3 as a pair.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mpmath import mp, mpf
from remez import evaluate, fit_rounded, largest_error, round_to, show

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fastact.kernels import exponential
from fastact.kernels.exponential import CELU_TAIL, EXPM1_TAIL, SCALE_ALPHA, SCALE_MINUS_1, THIRD

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


def pair(value: Any, dtype: str) -> tuple[float, float]:
    high = round_to(value, dtype)
    return float(high), float(round_to(value - high, dtype))


def selu_tables() -> tuple[list[float], list[float], float]:
    """SELU_POWERS, SELU_POWERS_LOW and SELU_REST."""
    c = round_to(SELU_SCALE * SELU_ALPHA, "float32")
    rest = SELU_SCALE * SELU_ALPHA / c - 1
    powers = [round_to(c * mpf(2) ** (mpf(j) / 16), "float32") for j in range(16)]
    # s = c 2^(j/16 - 1) for j > 0, and its share of `rest` is that of (s - c) / s
    lows = [
        c * mpf(2) ** (mpf(j) / 16) / powers[j] - 1 + rest * (1 - mpf(2) ** (1 - mpf(j) / 16)) for j in range(1, 16)
    ]
    return (
        [float(p) for p in powers],
        [0.0, *(float(round_to(v, "float32")) for v in lows)],
        float(round_to(rest, "float32")),
    )


def check() -> bool:
    error = largest_error(expm1_tail, evaluate(EXPM1_TAIL[1:], range(2)), R, expm1_weight)
    print(f"EXPM1_TAIL: 2^{mp.nstr(mp.log(error, 2), 5)}")
    good = EXPM1_TAIL[0] == 0.5 and error <= BOUND_EXPM1
    for width, (dtype, size, bound) in CELU.items():
        error = largest_error(celu_tail, evaluate(CELU_TAIL[width], range(size)), T, celu_weight)
        print(f"CELU_TAIL[{width}]: 2^{mp.nstr(mp.log(error, 2), 5)}")
        good = good and error <= bound
        good = good and THIRD[width] == pair(mpf(1) / 3, dtype)
        good = good and SCALE_ALPHA[width] == pair(SELU_SCALE * SELU_ALPHA, dtype)
    good = good and selu_tables() == ([*exponential.SELU_POWERS], [*exponential.SELU_POWERS_LOW], exponential.SELU_REST)
    print("constants agree" if good else "something differs")
    return good and float(SELU_SCALE - 1) == SCALE_MINUS_1


def main() -> int:
    if "--check" in sys.argv:
        return 0 if check() else 1
    tail, error = fit_rounded(expm1_tail, R, range(2), expm1_weight)
    print(show([mpf(1) / 2, *tail], "EXPM1_TAIL"), f"# 2^{mp.nstr(mp.log(error, 2), 5)}")
    for width, (dtype, size, _) in CELU.items():
        tail, error = fit_rounded(celu_tail, T, range(size), celu_weight, dtype)
        print(show(tail, f"CELU_TAIL[{width}]"), f"# 2^{mp.nstr(mp.log(error, 2), 5)}")
        print(f"THIRD[{width}] =", pair(mpf(1) / 3, dtype))
        print(f"SCALE_ALPHA[{width}] =", pair(SELU_SCALE * SELU_ALPHA, dtype))
    print("SCALE_MINUS_1 =", float(SELU_SCALE - 1))
    for name, value in zip(("SELU_POWERS", "SELU_POWERS_LOW", "SELU_REST"), selu_tables(), strict=True):
        print(f"{name} = {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
