"""The pieces of `fastact.kernels.tanh32`: tanh(a) = c0 + t (c1 + t (c2 + ... c5 t^4)), t = a - b, for 0 <= a < 9.5.

There are four pieces an octave, found by the two leading mantissa bits, from 1/8 on, and one below. The centre b of a
piece is not its middle but the float32 near it whose tanh is nearest to a float32, c0, so that c0 needs no low part.
Run it to print the tables; with ``--check`` it exits non-zero unless the kernel's tables stay below the bound.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

from kept import agrees
from mpmath import mp, mpf
from remez import fit_rounded, round_to, ulp

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from fastact.kernels.tanh32 import TABLES

DEGREE = 5
LAST = mpf("9.5")
BOUND = mpf("0.27")  # ULP


def float_from_bits(pattern: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", pattern))[0])


def pieces() -> list[tuple[int, Any, Any]]:
    """(index, low end, high end): the index is exponent and two mantissa bits, modulo 32."""
    found = [((123 * 4 + 3) % 32, mpf(0), mpf("0.125"))]
    for position in range(124 * 4, 130 * 4 + 1):
        low = mpf(float_from_bits(position << 21))
        high = mpf(float_from_bits((position + 1) << 21))
        found.append((position % 32, low, min(high, LAST)))
    return found


def centre(low: Any, high: Any) -> tuple[Any, Any]:
    middle = round_to((low + high) / 2, "float32")
    step = ulp(middle)
    best = None
    for k in range(-400, 401):
        b = middle + k * step
        y = mp.tanh(b)
        c0 = round_to(y, "float32")
        if best is None or abs(y - c0) < best[0]:
            best = abs(y - c0), b, c0
    assert best is not None
    return best[1], best[2]


def piece(low: Any, high: Any) -> list[Any]:
    """b, c0, c1 ... c5"""
    if low == 0:
        # a + t^2 (...): the kernel takes c0 = a here.
        c, _ = fit_rounded(lambda t: mp.tanh(t) - t, (low, high), range(2, DEGREE + 1), lambda t: 1 / t)
        return [mpf(0), mpf(0), mpf(0), *c]
    b, c0 = centre(low, high)
    c, _ = fit_rounded(lambda t: mp.tanh(b + t) - c0, (low - b, high - b), range(1, DEGREE + 1))
    return [b, c0, *c]


def error(low: Any, high: Any, coefficients: list[Any]) -> Any:
    """The largest error in ULP of the true value, of the piece as real numbers."""
    b, c0, *c = (mpf(v) for v in coefficients)
    worst = mpf(0)
    for i in range(1, 400):
        a = low + (high - low) * i / 400
        t = a - b
        base = a if low == 0 else c0
        p = base + mp.fsum(ck * t**k for k, ck in enumerate(c, 1))
        y = mp.tanh(a)
        worst = max(worst, abs(p - y) / ulp(y))
    return worst


def tables() -> list[list[float]]:
    columns = [[0.0] * 32 for _ in range(DEGREE + 2)]
    for index, low, high in pieces():
        for column, value in zip(columns, piece(low, high), strict=True):
            column[index] = float(value)
    return columns


def main() -> int:
    if "--check" in sys.argv and not agrees(__file__):
        return 1
    if "--check" in sys.argv:
        columns = [list(column) for column in TABLES]
    else:
        columns = tables()
        for name, column in zip(["CENTRE", *(f"C{k}" for k in range(DEGREE + 1))], columns, strict=True):
            print(f"{name} = (")
            for k in range(0, 32, 4):
                print("    " + ", ".join(repr(v) for v in column[k : k + 4]) + ",")
            print(")")
    errors = [error(low, high, [column[i] for column in columns]) for i, low, high in pieces()]
    print("# errors in ULP:", " ".join(mp.nstr(e, 2) for e in errors))
    return int(max(errors) > BOUND)


if __name__ == "__main__":
    sys.exit(main())
