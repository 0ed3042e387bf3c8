"""The pieces of `fastact.kernels.softplus32`: f(b + t) = c0 + t (c1 + t (c2 + ...)), f softplus, mish(x)/x or mish'.

There are 32 of them: piece k, for -16 <= k < 16, is for x that rounds to k widths, and its coefficients are entry k mod
32. The last piece reaches up to where f is linear. The centre b of a piece is the float32 near its middle at which f is
nearest to a float32, c0, so that c0 needs no low part. It lies left of the middle: what is rounded in the bracket then
weighs as much at the left end, where f is small, as at the right end; farther in the piece right of the zero of mish'.
The piece with that zero in its middle has the float32 next to it as its centre, and keeps the derivative there as a
pair.
Run it to print the tables, or those that are named; with ``--check`` it exits non-zero unless the kernel's tables stay
below the bound.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kept import agrees
from mpmath import mp, mpf
from remez import fit_rounded, nearly_float, piece_error, round_to, show_columns, ulp

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from fastact.kernels import softplus32

PIECES = range(-16, 16)
LEFT = mpf("0.09")  # of the middle, in widths
FARTHER = mpf("0.2")
BOUND = mpf("0.25")  # ULP, with the coefficients as they are


def softplus(x: Any) -> Any:
    return mp.log1p(mp.exp(x))


def mish_factor(x: Any) -> Any:
    return mp.tanh(softplus(x))


def mish_slope(x: Any) -> Any:
    w = mp.exp(x)
    n = w * (w + 2)
    return n / (n + 2) + 4 * x * w * (w + 1) / (n + 2) ** 2


@dataclass(frozen=True)
class Table:
    name: str
    f: Callable[[Any], Any]
    width: Any  # of a piece
    last: Any  # where the last piece ends
    degree: int
    root: Any = None  # of f

    def ends(self, k: int) -> tuple[Any, Any]:
        low, high = (k - mpf(1) / 2) * self.width, (k + mpf(1) / 2) * self.width
        return low, self.last if k == PIECES[-1] else high


ROOT = mp.findroot(mish_slope, -1.19)
TABLES = (
    Table("SOFTPLUS", softplus, mpf("0.75"), mpf("15.9"), 6),
    Table("MISH", mish_factor, mpf("0.75"), mpf("11.6"), 7),
    Table("MISH_SLOPE", mish_slope, ROOT / -2, mpf("10.34"), 7, ROOT),
)


def centre(table: Table, k: int) -> tuple[Any, Any]:
    """b and c0."""
    f, width, low = table.f, table.width, table.ends(k)[0]
    left = FARTHER if table.root is not None and 0 < low - table.root < width else LEFT
    return nearly_float(f, (k - left) * width, (mpf(1) / 2 - left) * width)


def piece(table: Table, k: int) -> list[Any]:
    """b, c0, c1 ..., and where f has a root the low part of c1"""
    f, (low, high), powers = table.f, table.ends(k), range(1, table.degree + 1)
    weight = lambda t: 1 / f(b + t)  # noqa: E731
    if table.root is not None and low < table.root < high:
        b = round_to(table.root, "float32")
        c0, slope = round_to(f(b), "float32"), mp.diff(f, b)
        c1 = round_to(slope, "float32")
        c, _ = fit_rounded(lambda t: f(b + t) - f(b) - t * slope, (low - b, high - b), powers[1:], weight, grid=97)
        return [b, c0, c1, *c, round_to(slope - c1, "float32")]
    b, c0 = centre(table, k)
    low_part = [mpf(0)] * (table.root is not None)
    if c0 == 1 and abs(f(low) - 1) < BOUND * ulp(f(low)):
        return [b, c0, *[mpf(0)] * table.degree, *low_part]
    c, _ = fit_rounded(lambda t: f(b + t) - c0, (low - b, high - b), powers, weight, grid=97)
    return [b, c0, *c, *low_part]


def error(table: Table, k: int, coefficients: list[Any]) -> Any:
    """In ULP."""
    if table.root is not None:
        b, c0, c1, *c, c1_low = (mpf(v) for v in coefficients)
        coefficients = [b, c0, c1 + c1_low, *c]
    return piece_error(table.f, table.ends(k), coefficients)


def columns(table: Table) -> list[list[float]]:
    found = [[0.0] * 32 for _ in range(table.degree + 2 + (table.root is not None))]
    for k in PIECES:
        for column, value in zip(found, piece(table, k), strict=True):
            column[k % 32] = float(value)
    return found


def main() -> int:
    if "--check" in sys.argv and not agrees(__file__):
        return 1
    worst = mpf(0)
    only = [a for a in sys.argv[1:] if not a.startswith("-")]
    for table in TABLES:
        if only and table.name not in only:
            continue
        if "--check" in sys.argv:
            found = [list(column) for column in getattr(softplus32, table.name)]
        else:
            found = columns(table)
            print(show_columns(found, table.name))
        errors = [error(table, k, [column[k % 32] for column in found]) for k in PIECES]
        print("#", table.name, "errors in ULP:", " ".join(mp.nstr(e, 2) for e in errors))
        worst = max(worst, *errors)
    return int(worst > BOUND)


if __name__ == "__main__":
    sys.exit(main())
