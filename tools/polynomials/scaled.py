"""Coefficients of fastact/kernels/scaled.py: prints them, or with --check measures the stored ones.

ATANH_TAIL: (2 atanh(q/2) - q) / q^3 in z = q^2, for q in [0, 2/3], so that log(1 + w) = q + q^3 P(z) with
q = w / (1 + w/2) and w in [0, 1]; the error is relative to the logarithm. One set for float32 and one for float64.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kept import agrees
from mpmath import mp, mpf
from remez import evaluate, fit_rounded, largest_error, show

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fastact.kernels.scaled import ATANH_TAIL

mp.prec = 220
Z = (mpf(10) ** -9, mpf(4) / 9)
ATANH = {32: ("float32", 5, mpf(2) ** -33), 64: ("float64", 11, mpf(2) ** -64.5)}


def atanh_ratio(z: Any) -> Any:
    return 2 * mp.atanh(mp.sqrt(z) / 2) / mp.sqrt(z)


def atanh_tail(z: Any) -> Any:
    return (atanh_ratio(z) - 1) / z


def atanh_weight(z: Any) -> Any:
    return z / atanh_ratio(z)


def check() -> bool:
    good = True
    for width, (_, size, bound) in ATANH.items():
        error = largest_error(atanh_tail, evaluate(ATANH_TAIL[width], range(size)), Z, atanh_weight)
        print(f"ATANH_TAIL[{width}]: 2^{mp.nstr(mp.log(error, 2), 5)}")
        good = good and error <= bound
    return good


def main() -> int:
    if "--check" in sys.argv and not agrees(__file__):
        return 1
    if "--check" in sys.argv:
        return 0 if check() else 1
    for width, (dtype, size, _) in ATANH.items():
        tail, error = fit_rounded(atanh_tail, Z, range(size), atanh_weight, dtype)
        print(show(tail, f"ATANH_TAIL[{width}]"), f"# 2^{mp.nstr(mp.log(error, 2), 5)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
