"""Table and polynomial of `fastact.kernels.gelu_tanh_slope32`: the derivative of gelu_tanh in float32.

It is made of one positive function F(a), a = |x| >= 0, that falls like e^-m(a), where m is a polynomial:

    F(a) = 2^n e^r G(a),   G(a) = F(a) e^m(a),   r = -m(a) - n log(2)

The kernel computes m(a) as a pair and with it n and r, exactly. G varies slowly; log G is a polynomial of degree 4
without constant term in a - A on each of 32 intervals of [0, top]. The point A near the middle is chosen so that G(A)
is nearly a float. Two roundings are made up for in G: the kernel takes off n times the *rounded* logarithm of 2, and
its m has coefficients of few bits.

Run it to print the constants; with ``--check`` it exits non-zero unless the kernel's constants reach the bounds stated
here.
"""

from __future__ import annotations

import struct
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gelu_parts import (
    Function,
    gelu_tanh_slope,
    root_of,
    without_root,
)
from mpmath import mp, mpf
from remez import fit_rounded, largest_error, round_to

mp.prec = 160
DEGREE = 4
LOG_2 = round_to(mp.log(2), "float32")
# 2^n e^r with r = -m - n LOG_2 is e^(-m (1 + LOST)), as n is -m/log(2) but for less than 1.
LOST = 1 - LOG_2 / mp.log(2)

# The largest error of log G, absolute, and so of F, relative.
TABLE_BOUND = mpf(2) ** mpf("-26.7")
# e^r - 1 - r = r^2 P(r), error relative to e^r. Besides log(2)/2 the argument includes log G(a)/G(A).
TAIL_INTERVAL = (mpf("-0.5"), mpf("0.5"))
TAIL_POWERS = (2, 3, 4, 5, 6, 7)
TAIL_BOUND = mpf(2) ** -29

# m(a) of gelu_tanh is a (LINEAR + CUBIC a^2), like 2u but with coefficients of few bits. CUBIC is close to that of 2u,
# so that log G varies little in each interval; LINEAR is smaller, for the rounding errors where F is near 1/2.
LINEAR, CUBIC = mpf(5) / 4, mpf(73) / 1024


def cubic(a: Any) -> Any:
    return a * (LINEAR + CUBIC * a * a)


NEAR = mpf(2) ** -60
GELU_TANH_ROOT = root_of(gelu_tanh_slope)


@dataclass(frozen=True)
class Table:
    name: str
    f: Function
    m: Function
    top: Any
    start: Any  # intervals are 1/16 of a binade of D(a) = start + slope a, which goes from start to 4 start

    def g(self, a: Any) -> Any:
        return self.f(a) * mp.exp(self.m(a) * (1 + LOST))

    @property
    def slope(self) -> Any:
        return round_to(3 * self.start / self.top * (1 - mpf(2) ** -12), "float32")

    def intervals(self) -> list[tuple[int, Any, Any]]:
        """(row, low, high); the row is the last bit of D's exponent and the first four of its fraction."""
        out = []
        d = self.start
        while d < 4 * self.start:
            binade = int(mp.floor(mp.log(d, 2)))
            row = (binade + 127) % 2 * 16 + int((mp.ldexp(d, -binade) - 1) * 16)
            end = d + mp.ldexp(1, binade) / 16
            out.append((row, (d - self.start) / self.slope, min((end - self.start) / self.slope, self.top)))
            d = end
        return out

    def log_ratio(self, at: Any, value: Any) -> Function:
        """log G(a) - log(value) as a function of a - at."""
        log_value = mp.log(value)
        return lambda d: mp.log(self.g(at + d)) - log_value

    def middle(self, low: Any, high: Any) -> Any:
        """A float near the middle at which G is nearly a float."""
        at = round_to((low + high) / 2, "float32")
        step = mp.ldexp(1, mp.frexp(at)[1] - 24)
        for k in range(8000):
            for candidate in (at + k * step, at - k * step):
                value = self.g(candidate)
                if abs(round_to(value, "float32") / value - 1) < mpf(2) ** -32:
                    return candidate
        raise ArithmeticError("no float near the middle gives nearly a float")

    def rows(self) -> list[list[Any]]:
        """[A, G(A), c1, c2, c3, c4] for each interval."""
        rows: list[list[Any]] = [[]] * 32
        for row, low, high in self.intervals():
            at = self.middle(low, high)
            value = round_to(self.g(at), "float32")
            c, error = fit_rounded(self.log_ratio(at, value), (low - at, high - at), range(1, DEGREE + 1))
            rows[row] = [at, value, *c]
            if error > TABLE_BOUND:
                print(f"# {self.name}[{row}] error 2^{mp.nstr(mp.log(error, 2), 5)}", file=sys.stderr)
        return rows

    def error(self, columns: Any) -> Any:
        """The largest error of log G with the kernel's columns."""
        worst = mpf(0)
        for row, low, high in self.intervals():
            at, value, *c = (round_to(column[row], "float32") for column in columns)
            worst = max(
                worst,
                largest_error(
                    self.log_ratio(at, value),
                    lambda d, c=c: mp.fsum(ck * d ** (k + 1) for k, ck in enumerate(c)),
                    (low - at, high - at),
                    points=101,
                ),
            )
        return worst


TABLES = (
    Table("GELU_TANH_SLOPE", without_root(gelu_tanh_slope, GELU_TANH_ROOT, NEAR), cubic, mpf("11.15"), mpf("1.75")),
)


def tail_of_exp(r: Any) -> Any:
    return mp.expm1(r) - r


def over_exp(r: Any) -> Any:
    return mp.exp(-r)


def short(value: Any) -> str:
    """The shortest decimal that is this float32."""
    single = struct.pack("<f", float(value))
    digits = (f"{float(value):.{n}g}" for n in range(5, 18))
    text = next(d for d in digits if struct.pack("<f", float(d)) == single)
    return repr(float(text))


def pair(value: Any) -> tuple[str, str]:
    high = round_to(value, "float32")
    return short(high), short(round_to(value - high, "float32"))


def main() -> int:
    if "--check" in sys.argv:
        sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
        from fastact.kernels import gelu_tanh_slope32

        bad = 0
        for table in TABLES:
            error = table.error(getattr(gelu_tanh_slope32, table.name))
            intervals = (float(table.start), float(table.slope), float(table.top))
            same = getattr(gelu_tanh_slope32, f"{table.name}_INTERVALS") == intervals
            print(f"{table.name} 2^{mp.nstr(mp.log(error, 2), 5)}", "" if same else "intervals differ")
            bad += error > TABLE_BOUND or not same
        powers = [lambda r, k=k: r**k for k in TAIL_POWERS]
        error = largest_error(
            tail_of_exp,
            lambda r: mp.fsum(
                round_to(c, "float32") * p(r) for c, p in zip(gelu_tanh_slope32.EXP_TAIL, powers, strict=True)
            ),
            TAIL_INTERVAL,
            over_exp,
        )
        print(f"EXP_TAIL 2^{mp.nstr(mp.log(error, 2), 5)}")
        return int(bad > 0 or error > TAIL_BOUND)

    names = sys.argv[1:] or [t.name for t in TABLES]
    print("LOG_2 =", short(LOG_2))
    print("GELU_TANH_ROOT =", *pair(GELU_TANH_ROOT))
    c, error = fit_rounded(tail_of_exp, TAIL_INTERVAL, TAIL_POWERS, over_exp)
    print("EXP_TAIL =", ", ".join(short(v) for v in c), f"# 2^{mp.nstr(mp.log(error, 2), 5)}")
    for table in TABLES:
        if table.name not in names:
            continue
        print(f"{table.name}_INTERVALS = ({float(table.start)!r}, {float(table.slope)!r}, {float(table.top)!r})")
        print(f"{table.name} = (")
        for column in zip(*table.rows(), strict=True):
            print("    (")
            text = ", ".join(short(v) for v in column) + ","
            print(textwrap.fill(text, 116, initial_indent=" " * 8, subsequent_indent=" " * 8))
            print("    ),")
        print(")")
    return 0


if __name__ == "__main__":
    sys.exit(main())
