"""The pieces of `fastact.kernels.silu_slope32`: silu'(-(b + t)) = c0 + t (c1 + t (c2 + ...)) for 0 <= b + t < 11.15.

There are 32 of them, 16 of one width and 16 twice as wide: which one it is follows from the last bit of the exponent of
1 + PER_16_PIECES a, which is in [1, 4), and the first four of its fraction. The width is such that the zero is in the
middle of a piece. That piece has the float32 next to the zero as its centre b, c0 is what is left there, and c1 is the
slope there, which happens to be nearly a float32: it needs no low part. The pieces beside it have the same centre; at
their ends next to the zero silu' is so small that what is rounded in the bracket would count for too much if c0 were
not. The first piece has 0 as its centre, so that silu'(0) is 1/2. Of the others b is a float32 near where silu' is
between its values at the ends, so that what is rounded in the bracket weighs as much at one end as at the other, and at
which it is nearly a float32, c0.
Run it to print the table; with ``--check`` it exits non-zero unless the kernel's table stays below the bound.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kept import agrees
from mpmath import mp, mpf
from remez import fit_rounded, piece_error, round_to, show_columns, ulp

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from fastact.kernels import silu_slope32

NARROW = 16
PIECES = 2 * NARROW
DEGREE = 5
BOUND = mpf("0.21")  # ULP, with the coefficients as they are


def f(a: Any) -> Any:
    q = 1 / (1 + mp.exp(a))
    return q * (1 - a * (1 - q))


ROOT = mp.findroot(f, 1.278)
AT_ROOT = 5
WIDTH = ROOT / (AT_ROOT + mpf(1) / 2)


def ends(k: int) -> tuple[Any, Any]:
    low, width = (k, 1) if k < NARROW else (2 * k - NARROW, 2)
    return low * WIDTH, (low + width) * WIDTH


def centre(k: int) -> tuple[Any, Any]:
    """b and c0."""
    low, high = ends(k)
    if k in (0, AT_ROOT - 1, AT_ROOT, AT_ROOT + 1):
        b = round_to(ROOT if k else 0, "float32")
        return b, round_to(f(b), "float32")
    # 1 - f(b) / f is the same at both ends but for its sign if f(b) is the harmonic mean of f there.
    wanted = 2 / (1 / f(low) + 1 / f(high))
    inside = (f(low) - wanted) * (f(high) - wanted) < 0  # not in the piece with the least value
    at = mp.findroot(lambda a: f(a) - wanted, (low, high), solver="anderson") if inside else (low + high) / 2
    start = round_to(at, "float32")
    step = ulp(start)
    candidates = (start + j * step for j in range(-3000, 3001))
    return min((abs(f(b) / (c0 := round_to(f(b), "float32")) - 1), b, c0) for b in candidates)[1:]


def piece(k: int) -> list[Any]:
    """b, c0, c1 ..."""
    low, high = ends(k)
    b, c0 = centre(k)
    fixed = [round_to(mp.diff(f, b), "float32")] if k == AT_ROOT else []
    c, _ = fit_rounded(
        lambda t: f(b + t) - (f(b) if fixed else c0) - t * mp.fsum(fixed),
        (low - b, high - b),
        range(1 + len(fixed), DEGREE + 1),
        lambda t: 1 / f(b + t),
        grid=96,  # none of which is the zero
    )
    return [b, c0, *fixed, *c]


def main() -> int:
    if "--check" in sys.argv and not agrees(__file__):
        return 1
    if "--check" in sys.argv:
        found = [list(row) for row in zip(*silu_slope32.SILU_SLOPE, strict=True)]
        found = found[NARROW:] + found[:NARROW]
    else:
        found = [[float(v) for v in piece(k)] for k in range(PIECES)]
        print(f"PER_16_PIECES = {float(round_to(1 / (NARROW * WIDTH), 'float32'))!r}")
        print(show_columns(zip(*(found[NARROW:] + found[:NARROW]), strict=True), "SILU_SLOPE"))
    errors = [piece_error(f, ends(k), row) for k, row in enumerate(found)]
    print("# errors in ULP:", " ".join(mp.nstr(e, 2) for e in errors))
    return int(max(errors) > BOUND)


if __name__ == "__main__":
    sys.exit(main())
