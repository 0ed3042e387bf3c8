"""The pieces of `fastact.kernels.softplus32`: f(b + t) = c0 + t (c1 + t (c2 + ...)), f softplus or mish(x)/x.

There are 32 of them: piece k, for -16 <= k < 16, is for x that rounds to k WIDTH, and its coefficients are entry k mod
32. The last piece reaches up to where f is linear. The centre b of a piece is the float32 near its middle at which f is
nearest to a float32, c0, so that c0 needs no low part. It lies left of the middle: what is rounded in the bracket then
weighs as much at the left end, where f is small, as at the right end.
Run it to print the tables; with ``--check`` it exits non-zero unless the kernel's tables stay below the bound.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpmath import mp, mpf
from remez import fit_rounded, round_to, ulp

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from fastact.kernels import softplus32

WIDTH = mpf("0.75")
PIECES = range(-16, 16)
LEFT = mpf("0.09") * WIDTH  # of the middle
BOUND = mpf("0.25")  # ULP, with the coefficients as they are


def softplus(x: Any) -> Any:
    return mp.log1p(mp.exp(x))


def mish_factor(x: Any) -> Any:
    return mp.tanh(softplus(x))


@dataclass(frozen=True)
class Table:
    name: str
    f: Callable[[Any], Any]
    last: Any  # where the last piece ends
    degree: int

    def ends(self, k: int) -> tuple[Any, Any]:
        half = WIDTH / 2
        return k * WIDTH - half, self.last if k == PIECES[-1] else k * WIDTH + half


TABLES = (Table("SOFTPLUS", softplus, mpf("15.9"), 6), Table("MISH", mish_factor, mpf("11.6"), 7))


def centre(f: Callable[[Any], Any], k: int) -> tuple[Any, Any]:
    """b and c0."""
    start = round_to(k * WIDTH - LEFT, "float32")
    step = ulp(start)
    # Where f is flat, or as good as linear, neighbours are all alike: then look farther.
    best: tuple[Any, Any, Any] = (mpf(1), start, start)
    for stride in (1, 61, 3719, 226901):
        reach = int(min(1000, (WIDTH / 2 - LEFT) / (stride * step)))
        candidates = (start + j * stride * step for j in range(-reach, reach + 1))
        best = min(best, *((abs(f(b) / (c0 := round_to(f(b), "float32")) - 1), b, c0) for b in candidates))
        if best[0] < mpf(2) ** -33:
            break
    return best[1:]


def piece(table: Table, k: int) -> list[Any]:
    """b, c0, c1 ... c6"""
    f, (low, high) = table.f, table.ends(k)
    b, c0 = centre(f, k)
    if f is mish_factor and c0 == 1:
        return [b, c0, *[mpf(0)] * table.degree]
    weight = lambda t: 1 / f(b + t)  # noqa: E731
    c, _ = fit_rounded(lambda t: f(b + t) - c0, (low - b, high - b), range(1, table.degree + 1), weight, grid=97)
    return [b, c0, *c]


def error(table: Table, k: int, coefficients: list[Any]) -> Any:
    """The largest error in ULP of the true value, of the piece as real numbers."""
    low, high = table.ends(k)
    b, c0, *c = (mpf(v) for v in coefficients)
    worst = mpf(0)
    for i in range(201):
        x = low + (high - low) * i / 200
        y, t = table.f(x), x - b
        p = c0 + mp.fsum(ck * t**j for j, ck in enumerate(c, 1))
        worst = max(worst, abs(p - y) / ulp(y))
    return worst


def columns(table: Table) -> list[list[float]]:
    found = [[0.0] * 32 for _ in range(table.degree + 2)]
    for k in PIECES:
        for column, value in zip(found, piece(table, k), strict=True):
            column[k % 32] = float(value)
    return found


def main() -> int:
    worst = mpf(0)
    for table in TABLES:
        if "--check" in sys.argv:
            found = [list(column) for column in getattr(softplus32, table.name)]
        else:
            found = columns(table)
            print(f"{table.name} = (")
            for column in found:
                print("    (")
                for k in range(0, 32, 4):
                    print("        " + ", ".join(repr(v) for v in column[k : k + 4]) + ",")
                print("    ),")
            print(")")
        errors = [error(table, k, [column[k % 32] for column in found]) for k in PIECES]
        print("#", table.name, "errors in ULP:", " ".join(mp.nstr(e, 2) for e in errors))
        worst = max(worst, *errors)
    return int(worst > BOUND)


if __name__ == "__main__":
    sys.exit(main())
