"""Constants of `fastact.kernels.weighted`: the zero of silu' and where the exponential is centred for it.

Run it to print them; with ``--check`` it exits non-zero unless the kernel's are the same.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kept import agrees
from mpmath import mp, mpf
from remez import round_to

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from fastact.kernels import weighted as swish

W = mp.lambertw(mp.exp(-1))


def rounded(bits: int) -> Any:
    """w rounded to a multiple of 2^-bits, where -(1 + w) is the zero of silu', w = e^-(1 + w)."""
    return mp.nint(W * 2**bits) / mpf(2) ** bits


def silu_slope(a: Any) -> Any:
    """silu'(-a)."""
    q = 1 / (1 + mp.exp(a))
    return q * (1 - a * (1 - q))


def series(dtype: str) -> tuple[float, float, float]:
    """The slope of silu' at its zero as a pair, and half of how that changes, seen from there to the left."""
    _, slope, bend = mp.taylor(silu_slope, 1 + W, 2)
    high = round_to(slope, dtype)
    return float(high), float(round_to(slope - high, dtype)), float(round_to(bend, dtype))


def constants() -> dict[str, Any]:
    w32, w64 = rounded(23), rounded(52)
    centre = -mp.log(w32)
    step = mp.log(2) / 16
    steps = int(mp.floor(centre / step)) + 1
    # centre = steps * step - shift; the high part of shift is a multiple of 2^-28, as STEP_HIGH of exp32 is
    shift = steps * step - centre
    shift_high = mp.nint(shift * 2**28) / mpf(2) ** 28
    shift_exact = steps * step - (1 + W)
    shift64 = steps * step + mp.log(w64)
    return {
        "ROOT_W": {32: float(w32), 64: float(w64)},
        "ROOT_W_LOW": {32: float(round_to(W - w32, "float32")), 64: float(W - w64)},
        "ROOT_W_LOWEST": {
            32: float(round_to(W - w32 - round_to(W - w32, "float32"), "float32")),
            64: float(W - w64 - round_to(W - w64, "float64")),
        },
        "ROOT_W_INVERSE": {32: float(round_to(1 / w32, "float32")), 64: float(1 / w64)},
        "ROOT_STEPS": float(steps),
        "ROOT_SHIFT": float(round_to(shift_high, "float32")),
        "ROOT_SHIFT_LOW_EXACT": float(round_to(shift_exact - shift_high, "float32")),
        "ROOT_SHIFT64": float(round_to(shift64, "float64")),
        "ROOT_SHIFT_LOW64": float(shift64 - round_to(shift64, "float64")),
        "ROOT_SHIFT_LOW_EXACT64": float(shift_exact - round_to(shift64, "float64")),
        "ROOT_SERIES": {32: series("float32"), 64: series("float64")},
    }


def main() -> int:
    if "--check" in sys.argv and not agrees(__file__):
        return 1
    found = constants()
    if "--check" not in sys.argv:
        for name, value in found.items():
            print(f"{name} = {value!r}")
        return 0
    wrong = [name for name, value in found.items() if getattr(swish, name) != value]
    print("differ:" if wrong else "constants agree", *wrong)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
