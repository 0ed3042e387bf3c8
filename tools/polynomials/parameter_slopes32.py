"""The pieces of `fastact.kernels.parameter_slopes32`: f(b + t) = c0 + t (c1 + t (c2 + ...)), b + t = |z|, for three f.

CELU: e^z (1 - z) - 1 at z = -a. There are four pieces an octave from 1/8 on, and entry i is for what has i as the last
three bits of the exponent and two leading bits of the fraction. Below 1/8 is one piece, -a^2/2 + a^3 (...), where entry
i is for that of the largest float below 1/8. From 20 on, where f is within an ULP of -1, the centre lies left of the
piece: there f is nearly -1 + 2^-24.

SOFTPLUS: z s - log(1 + e^z), and SWISH: s (1 - s), s = 1 / (1 + e^-z), which are even. Piece k is for |z| that rounds
to k widths.

The centre b of a piece is the float32 near its middle at which f is nearest to a float32, c0, so that c0 needs no low
part. In SOFTPLUS and SWISH it lies right of the middle: what is rounded in the bracket then weighs as much at the right
end, where f is small, as at the left end; but 0 is the centre of the first piece.
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
from remez import fit_rounded, nearly_float, piece_error, round_to, show_columns

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from fastact.kernels import parameter_slopes32

BOUND = mpf("0.1")  # ULP, with the coefficients as they are
RIGHT = mpf("0.09")  # of the middle, in widths
WIDTH = 1 / mpf(parameter_slopes32.PER_PIECE)
NEXT_TO_ONE = mpf("19.66")  # where CELU is about -1 + 2^-24


def celu(a: Any) -> Any:
    if a > mpf("0.01"):
        return mp.exp(-a) * (1 + a) - 1
    return mp.fsum((1 - k) * (-a) ** k / mp.factorial(k) for k in range(2, 30))


def softplus(a: Any) -> Any:
    w = mp.exp(-a)
    return -mp.log1p(w) - a * w / (1 + w)


def swish(a: Any) -> Any:
    w = mp.exp(-a)
    return w / (1 + w) ** 2


@dataclass(frozen=True)
class Piece:
    entry: int
    low: Any
    high: Any
    start: Any  # of the search for the centre
    fixed: tuple[float, ...] = ()  # c0, c1 ... if they are, with 0 as the centre; c0 may be -0.0, for the sign of 0


def celu_pieces() -> list[Piece]:
    first, last = mpf(parameter_slopes32.CELU_FIRST), mpf(parameter_slopes32.CELU_LAST)
    found = [Piece(-1, mpf(0), first, mpf(0), (-0.0, 0.0, -0.5))]
    low = first
    while low < last:
        step = mp.ldexp(1, mp.frexp(low)[1] - 3)
        high = min(low + step, last)
        found.append(Piece(len(found) - 1, low, high, (low + high) / 2 if low < 20 else NEXT_TO_ONE))
        low = high
    return found


def even_pieces(start: float) -> list[Piece]:
    found = [Piece(0, mpf(0), WIDTH / 2, mpf(0), (start, 0.0))]
    for k in range(1, 32):
        found.append(Piece(k, (k - mpf(1) / 2) * WIDTH, (k + mpf(1) / 2) * WIDTH, (k + RIGHT) * WIDTH))
    return found


@dataclass(frozen=True)
class Table:
    name: str
    f: Callable[[Any], Any]
    pieces: list[Piece]
    degree: int


TABLES = (
    Table("CELU", celu, celu_pieces(), 6),
    Table("SOFTPLUS", softplus, even_pieces(float(round_to(-mp.log(2), "float32"))), 5),
    Table("SWISH", swish, even_pieces(0.25), 5),
)


def coefficients(table: Table, piece: Piece) -> list[Any]:
    """b, c0, c1 ..."""
    f, fixed = table.f, [mpf(c) for c in piece.fixed]
    b = mpf(0)
    if not fixed:
        b, c0 = nearly_float(f, piece.start, (piece.high - piece.low) / 8)
        fixed = [c0]

    def rest(t: Any) -> Any:
        return f(b + t) - mp.fsum(c * t**k for k, c in enumerate(fixed))

    low = piece.low or mpf(2) ** -20  # where f is 0, it has no relative error
    powers = range(len(fixed), table.degree + 1)
    c, _ = fit_rounded(rest, (low - b, piece.high - b), powers, lambda t: 1 / f(b + t), grid=97)
    return [b, *(piece.fixed or fixed), *c]


def columns(table: Table, shift: int) -> list[list[float]]:
    found = [[0.0] * 32 for _ in range(table.degree + 2)]
    for piece in table.pieces:
        for column, value in zip(found, coefficients(table, piece), strict=True):
            column[(piece.entry + shift) % 32] = float(value)
    return found


def main() -> int:
    if "--check" in sys.argv and not agrees(__file__):
        return 1
    worst = mpf(0)
    only = [a for a in sys.argv[1:] if not a.startswith("-")]
    for table in TABLES:
        if only and table.name not in only:
            continue
        # Of 1/8 the last bits of the exponent and two zeros of the fraction.
        shift = 4 * ((127 - 3) % 8) if table.name == "CELU" else 0
        if "--check" in sys.argv:
            found = [list(column) for column in getattr(parameter_slopes32, table.name)]
        else:
            found = columns(table, shift)
            print(show_columns(found, table.name))
        rows = list(zip(*found, strict=True))
        errors = [piece_error(table.f, (p.low, p.high), rows[(p.entry + shift) % 32]) for p in table.pieces]
        print("#", table.name, "errors in ULP:", " ".join(mp.nstr(e, 2) for e in errors))
        worst = max(worst, *errors)
    return int(worst > BOUND)


if __name__ == "__main__":
    sys.exit(main())
