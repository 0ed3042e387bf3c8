"""The tables of 2^(j/16) in fastact/kernels/row_sums.py: prints them, or with --check compares the stored ones."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

from kept import agrees
from mpmath import mp, mpf

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fastact.kernels import row_sums

mp.prec = 300


def tables() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """2^(j/16) with j << 48 taken off its bits, and (exact 2^(j/16)) / (the rounded one) - 1."""
    powers, low = [], []
    for j in range(16):
        exact = mpf(2) ** (mpf(j) / 16)
        (pattern,) = struct.unpack("<q", struct.pack("<d", float(exact)))
        powers.append(struct.unpack("<d", struct.pack("<q", pattern - (j << 48)))[0])
        low.append(float(exact / mpf(float(exact)) - 1))
    return tuple(powers), tuple(low)


def steps() -> tuple[float, float, float]:
    """16 / log(2), and log(2) / 16 in two parts."""
    high = float(mp.log(2) / 16)
    return float(16 / mp.log(2)), high, float(mp.log(2) / 16 - mpf(high))


if __name__ == "__main__":
    if "--check" in sys.argv:
        stored = row_sums.STEPS_PER_LOG64, row_sums.STEP_HIGH64, row_sums.STEP_LOW64
        sys.exit(
            0
            if agrees(__file__) and tables() == (row_sums.POWERS64, row_sums.POWERS_LOW64) and steps() == stored
            else 1
        )
    print(*steps(), *tables(), sep="\n")
