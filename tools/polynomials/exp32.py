"""Table and polynomial of `fastact.kernels.exp32`: e^x = 2^n 2^(j/16) e^r with |r| <= log(2)/32.

Run it to print the constants; with ``--check`` it exits non-zero unless the kernel's constants are these and reach the
bounds stated here.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

from kept import agrees
from mpmath import mp, mpf
from remez import evaluate, fit_rounded, largest_error, pair, round_to, show

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from fastact.kernels import exp32

STEPS = 16
# The rounded multiple k of log(2)/16 may be off by one part in 2^-24 * k: allow for that.
INTERVAL = (-mp.log(2) / 32 * mpf("1.002"), mp.log(2) / 32 * mpf("1.002"))
POWERS = (2, 3)
BOUND = mpf(2) ** -28
# Where e^r - 1 itself must be good to its last bits, one coefficient more, fitted for the error divided by r.
FINE_POWERS = (2, 3, 4)
FINE_BOUND = mpf(2) ** -29


def expm1_tail(r: Any) -> Any:
    return mp.expm1(r) - r


def reciprocal(r: Any) -> Any:
    return 1 / r


def table() -> tuple[list[float], list[float]]:
    """2^(j/16) rounded, with j << 19 taken off its bits, and the relative error of that rounding."""
    high, low = [], []
    for j in range(STEPS):
        exact = mpf(2) ** (mpf(j) / STEPS)
        rounded = float(round_to(exact, "float32"))
        if j >= STEPS - 2:
            # 23 bits, so that S - 1 is exact for S = 2^(j/16) / 4, where silu' wants it (fastact.kernels.weighted)
            rounded = float(mp.nint(exact * 2**22) / 2**22)
        pattern = struct.unpack("<i", struct.pack("<f", rounded))[0] - (j << 19)
        high.append(struct.unpack("<f", struct.pack("<i", pattern))[0])
        low.append(float(round_to(exact / mpf(rounded) - 1, "float32")))
    return high, low


def step() -> tuple[float, float]:
    """log(2)/16 as a pair of float32."""
    return pair(mp.log(2) / STEPS, "float32")


def main() -> int:
    if "--check" in sys.argv and not agrees(__file__):
        return 1
    coefficients, error = fit_rounded(expm1_tail, INTERVAL, POWERS, dtype="float32")
    fine, fine_error = fit_rounded(expm1_tail, INTERVAL, FINE_POWERS, reciprocal)
    high, low = table()
    if "--check" not in sys.argv:
        print("STEP_HIGH, STEP_LOW =", step(), "STEPS_PER_LOG =", float(round_to(STEPS / mp.log(2), "float32")))
        print(show(coefficients, "TAIL"), "error 2^", mp.nstr(mp.log(error, 2), 5))
        print(show(fine, "TAIL_FINE"), "error 2^", mp.nstr(mp.log(fine_error, 2), 5))
        print(show(high, "POWERS"))
        print(show(low, "POWERS_LOW"))
        return 0
    reached = largest_error(expm1_tail, evaluate(exp32.TAIL, POWERS), INTERVAL)
    reached_fine = largest_error(expm1_tail, evaluate(exp32.TAIL_FINE, FINE_POWERS), INTERVAL, reciprocal)
    derived = [tuple(map(float, c)) for c in (coefficients, fine)]
    same = (
        derived == [exp32.TAIL, exp32.TAIL_FINE]
        and [v / exp32.SCALE for v in exp32.POWERS] == high
        and list(exp32.POWERS_LOW) == low
    )
    print(*(f"2^{mp.nstr(mp.log(e, 2), 5)}" for e in (reached, reached_fine)), "tables agree" if same else "differ")
    far = reached > BOUND or reached_fine > FINE_BOUND
    return int(far or not same or step() != (exp32.STEP_HIGH, exp32.STEP_LOW))


if __name__ == "__main__":
    sys.exit(main())
