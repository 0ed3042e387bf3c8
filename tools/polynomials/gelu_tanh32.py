"""Constants of `fastact.kernels.gelu_tanh32`: 2u = SLOPE x (HEAD + REST + x^2), and e^(-SLOPE r) - 1 for small r.

The exponential is reduced in steps of log(2) / SLOPE, so that nothing is ever multiplied by SLOPE, and its polynomial
has that in its coefficients. Run it to print them; with ``--check`` it exits non-zero unless the kernel's are these and
reach the bound.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kept import agrees
from mpmath import mp, mpf
from remez import evaluate, fit_rounded, largest_error, pair, round_to

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from fastact.kernels import gelu_tanh32

SLOPE = 2 * mp.sqrt(2 / mp.pi) * mpf("0.044715")
# As for `exp32`: the rounded number of steps may be off by a little.
REACH = mp.log(2) / 32 * mpf("1.002") / SLOPE
BOUND = mpf(2) ** -28


def head() -> tuple[float, float]:
    """1 / 0.044715 as a multiple of 2^-16, and the rest."""
    exact = 1 / mpf("0.044715")
    high = mp.nint(exact * 2**16) / 2**16
    return float(high), float(round_to(exact - high, "float32"))


def expm1(r: Any) -> Any:
    return mp.expm1(-SLOPE * r)


def main() -> int:
    if "--check" in sys.argv and not agrees(__file__):
        return 1
    high, rest = head()
    step, step_low = pair(mp.log(2) / SLOPE, "float32")
    coefficients, _ = fit_rounded(expm1, (-REACH, REACH), (1, 2, 3))
    found = {
        "HEAD": high,
        "HEAD_REST": rest,
        "PER_STEP": float(round_to(-SLOPE / mp.log(2), "float32")),
        "STEP_HIGH": step,
        "STEP_LOW": step_low,
        "EXPM1": tuple(float(c) for c in coefficients),
    }
    if "--check" not in sys.argv:
        for name, value in found.items():
            print(f"{name} = {value}")
        return 0
    error = largest_error(expm1, evaluate(gelu_tanh32.EXPM1, (1, 2, 3)), (-REACH, REACH))
    same = all(getattr(gelu_tanh32, name) == value for name, value in found.items())
    print(f"EXPM1: 2^{mp.nstr(mp.log(error, 2), 5)};", "constants agree" if same else "something differs")
    return int(error > BOUND or not same)


if __name__ == "__main__":
    sys.exit(main())
