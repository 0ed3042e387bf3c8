"""Constants of `fastact.kernels.swish` in float32: the zero of silu' and where the exponential is centred for it.

Run it to print them; with ``--check`` it exits non-zero unless the kernel's are the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mpmath import mp, mpf
from remez import round_to


def constants() -> dict[str, float]:
    zero = 1 + mp.lambertw(mp.exp(-1))  # silu'(-zero) = 0: zero = 1 + e^-zero
    w = mp.nint((zero - 1) * 2**23) / mpf(2) ** 23
    centre = -mp.log(w)
    step = mp.log(2) / 16
    steps = int(mp.floor(centre / step)) + 1
    step_high = round_to(step, "float32")
    # centre = steps * step - shift; the high part of shift is a multiple of 2^-28, as step_high is
    shift = steps * step - centre
    shift_high = mp.nint(shift * 2**28) / mpf(2) ** 28
    assert step_high * 2**28 == mp.nint(step_high * 2**28)
    return {
        "ROOT_W": float(w),
        "ROOT_W_INVERSE": float(round_to(1 / w, "float32")),
        "ROOT_STEPS": float(steps),
        "ROOT_SHIFT": float(round_to(shift_high, "float32")),
        "ROOT_SHIFT_LOW": float(round_to(shift - shift_high, "float32")),
    }


def main() -> int:
    found = constants()
    if "--check" not in sys.argv:
        for name, value in found.items():
            print(f"{name} = {value!r}")
        return 0
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from fastact.kernels import swish

    wrong = [name for name, value in found.items() if getattr(swish, name) != value]
    print("differ:" if wrong else "constants agree", *wrong)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
