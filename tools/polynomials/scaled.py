"""Coefficients of fastact/kernels/scaled.py and softplus.py: prints them, or with --check measures the stored ones.

ATANH_TAIL: (2 atanh(q/2) - q) / q^3 in z = q^2, for q in [0, 2/3], so that log(1 + w) = q + q^3 P(z) with
q = w / (1 + w/2) and w in [0, 1]; the error is relative to the logarithm. One set for float32 and one for float64.

ROOT, SLOPE, NEAR_ROOT: mish' about its zero r. r and mish''(r) are pairs of float32, the rest is
(mish'(r + d)/d - SLOPE)/d on |d| <= 1/16; the error is relative to mish'.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mpmath import mp, mpf
from remez import evaluate, fit_rounded, largest_error, round_to, show

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fastact.kernels.logarithmic import NEAR_ROOT, ROOT, SLOPE
from fastact.kernels.scaled import ATANH_TAIL

mp.prec = 220
Z = (mpf(10) ** -9, mpf(4) / 9)
NEAR = (mpf(-1) / 16, mpf(1) / 16)
ATANH = {32: ("float32", 5, mpf(2) ** -33), 64: ("float64", 11, mpf(2) ** -64.5)}
BOUND_NEAR = mpf(2) ** -29.7


def atanh_ratio(z: Any) -> Any:
    return 2 * mp.atanh(mp.sqrt(z) / 2) / mp.sqrt(z)


def atanh_tail(z: Any) -> Any:
    return (atanh_ratio(z) - 1) / z


def atanh_weight(z: Any) -> Any:
    return z / atanh_ratio(z)


def mish_slope(x: Any) -> Any:
    e = mp.exp(x)
    n = e * (e + 2)
    return n / (n + 2) + 4 * x * e * (e + 1) / (n + 2) ** 2


def about_root() -> tuple[Any, list[Any], list[Any]]:
    """The zero, and the zero and the slope there as pairs of float32."""
    root = mp.findroot(mish_slope, -1.1924312)
    pairs = []
    for value in (root, mp.diff(mish_slope, root)):
        high = round_to(value, "float32")
        pairs.append([high, round_to(value - high, "float32")])
    return root, pairs[0], pairs[1]


def near_root(d: Any) -> Any:
    root, _, slope = ABOUT
    return (mish_slope(root + d) / d - slope[0] - slope[1]) / d


def near_root_weight(d: Any) -> Any:
    return abs(d * d / mish_slope(ABOUT[0] + d))


ABOUT = about_root()


def check() -> bool:
    good = True
    for width, (_, size, bound) in ATANH.items():
        error = largest_error(atanh_tail, evaluate(ATANH_TAIL[width], range(size)), Z, atanh_weight)
        print(f"ATANH_TAIL[{width}]: 2^{mp.nstr(mp.log(error, 2), 5)}")
        good = good and error <= bound
    same = [list(ROOT), list(SLOPE)] == [[float(v) for v in pair] for pair in ABOUT[1:]]
    powers = range(len(NEAR_ROOT))
    error = largest_error(near_root, evaluate(NEAR_ROOT, powers), NEAR, near_root_weight)
    print(f"NEAR_ROOT: 2^{mp.nstr(mp.log(error, 2), 5)}", "" if same else "ROOT or SLOPE differ")
    return good and same and error <= BOUND_NEAR


def main() -> int:
    if "--check" in sys.argv:
        return 0 if check() else 1
    for width, (dtype, size, _) in ATANH.items():
        tail, error = fit_rounded(atanh_tail, Z, range(size), atanh_weight, dtype)
        print(show(tail, f"ATANH_TAIL[{width}]"), f"# 2^{mp.nstr(mp.log(error, 2), 5)}")
    print(show(ABOUT[1], "ROOT"))
    print(show(ABOUT[2], "SLOPE"))
    tail, error = fit_rounded(near_root, NEAR, range(4), near_root_weight)
    print(show(tail, "NEAR_ROOT"), f"# 2^{mp.nstr(mp.log(error, 2), 5)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
