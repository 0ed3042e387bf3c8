"""Tables of fastact/kernels/erf64.py: prints them, or with --check measures the stored ones.

Each of gelu, gelu' and gelu_tanh' is made of one positive function F(a), a = |x| >= 0, that falls like e^-m(a), where m
is a polynomial: of Q(a) = erfc(a / sqrt 2) / 2, and of the derivatives at -a over (root - a). What varies slowly,
G(a) = F(a) e^m(a), is C (1 + c1 d + ... + cn d^n), d = a - A, on each of 16 intervals of [0, top]; the point A near the
middle is chosen so that C = G(A) is nearly a float. The polynomial is that of least squares on Chebyshev points, fitted
anew after each coefficient is rounded. The error is relative to F.
"""

from __future__ import annotations

import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gelu_parts import (
    Function,
    gelu_slope,
    gelu_tanh_slope,
    half_square,
    root_of,
    two_u,
    upper_tail,
    without_root,
)
from kept import agrees
from mpmath import mp, mpf
from remez import pair, round_to

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fastact.kernels import erf64

mp.prec = 300
BOUND = mpf(2) ** -55.5

NEAR = mpf(2) ** -50
GELU_ROOT, GELU_TANH_ROOT = root_of(gelu_slope), root_of(gelu_tanh_slope)


@dataclass(frozen=True)
class Table:
    name: str
    f: Function
    m: Function
    top: Any
    start: Any  # intervals are a quarter of a binade of D(a) = start + slope a, which goes from start to 16 start
    degree: int

    def g(self, a: Any) -> Any:
        return self.f(a) * mp.exp(self.m(a))

    @property
    def slope(self) -> Any:
        return round_to(15 * self.start / self.top * (1 - mpf(2) ** -20), "float32")

    def intervals(self) -> list[tuple[int, Any, Any]]:
        """(row, low, high); the row is the last two bits of D's exponent and the first two of its fraction."""
        out = []
        d = self.start
        while d < 16 * self.start:
            binade = int(mp.floor(mp.log(d, 2)))
            row = (binade + 1023) % 4 * 4 + int((mp.ldexp(d, -binade) - 1) * 4)
            end = d + mp.ldexp(1, binade) / 4
            out.append((row, (d - self.start) / self.slope, min((end - self.start) / self.slope, self.top)))
            d = end
        return out

    def middle(self, low: Any, high: Any) -> Any:
        """A float near the middle at which G is nearly a float."""
        at = round_to((low + high) / 2, "float32")
        step = mp.ldexp(1, mp.frexp(at)[1] - 30)
        for k in range(4000):
            for candidate in (at + k * step, at - k * step):
                value = self.g(candidate)
                if abs(round_to(value, "float64") / value - 1) < mpf(2) ** -61:
                    return candidate
        raise ArithmeticError("no float near the middle gives nearly a float")

    def rows(self) -> list[list[Any]]:
        """[A, G(A), c1, ..., cn] for each interval."""
        rows: list[list[Any]] = [[]] * 16
        for row, low, high in self.intervals():
            at = self.middle(low, high)
            value = round_to(self.g(at), "float64")
            points = [(low + high) / 2 - at + (high - low) / 2 * mp.cospi(mpf(2 * i + 1) / 80) for i in range(40)]
            goal = [self.g(at + d) / value - 1 for d in points]
            done: list[Any] = []
            for k in range(1, self.degree + 1):
                powers = mp.matrix([[d**j for j in range(k, self.degree + 1)] for d in points])
                c = mp.lu_solve(powers.T * powers, powers.T * mp.matrix(goal))
                done.append(round_to(c[0], "float64"))
                goal = [v - done[-1] * d**k for v, d in zip(goal, points, strict=True)]
            rows[row] = [at, value, *done]
        return rows

    def errors(self, columns: Any) -> list[Any]:
        """The largest error of G with the kernel's columns, for each interval."""
        worst = []
        for row, low, high in self.intervals():
            at, value, *c = (mpf(column[row]) for column in columns)
            points = [(low + high) / 2 - (high - low) / 2 * mp.cospi(mpf(i) / 64) for i in range(65)]
            worst.append(
                max(
                    abs(value * (1 + mp.fsum(ck * (a - at) ** (k + 1) for k, ck in enumerate(c))) / self.g(a) - 1)
                    for a in points
                )
            )
        return worst


TABLES = (
    Table("GELU", upper_tail, half_square, mpf("41"), mpf("2.5"), 14),
    Table("GELU_SLOPE", without_root(gelu_slope, GELU_ROOT, NEAR), half_square, mpf("41"), mpf("2.5"), 13),
    Table("GELU_TANH_SLOPE", without_root(gelu_tanh_slope, GELU_TANH_ROOT, NEAR), two_u, mpf("22.25"), mpf("3"), 14),
)


def main() -> int:
    if "--check" in sys.argv and not agrees(__file__):
        return 1
    if "--check" in sys.argv:
        bad = 0
        for table in TABLES:
            error = max(table.errors(getattr(erf64, table.name)))
            same = getattr(erf64, f"{table.name}_INTERVALS") == tuple(map(float, (table.start, table.slope, table.top)))
            print(f"{table.name} 2^{mp.nstr(mp.log(error, 2), 5)}", "" if same else "intervals differ")
            bad += error > BOUND or not same
        for name, root in (("GELU_ROOT", GELU_ROOT), ("GELU_TANH_ROOT", GELU_TANH_ROOT)):
            bad += getattr(erf64, name) != pair(root, "float64")
        return int(bad > 0)
    names = sys.argv[1:] or [t.name for t in TABLES]
    print("GELU_ROOT =", pair(GELU_ROOT, "float64"))
    print("GELU_TANH_ROOT =", pair(GELU_TANH_ROOT, "float64"))
    for table in TABLES:
        if table.name not in names:
            continue
        columns = list(zip(*table.rows(), strict=True))
        print(f"# relative error 2^{mp.nstr(mp.log(max(table.errors(columns)), 2), 5)}")
        print(f"{table.name}_INTERVALS = ({float(table.start)!r}, {float(table.slope)!r}, {float(table.top)!r})")
        print(f"{table.name} = (")
        for column in columns:
            text = ", ".join(repr(float(v)) for v in column) + ","
            print("    (")
            print(textwrap.fill(text, 116, initial_indent=" " * 8, subsequent_indent=" " * 8))
            print("    ),")
        print(")")
    return 0


if __name__ == "__main__":
    sys.exit(main())
