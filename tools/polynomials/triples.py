"""The constants of fastact/kernels/triples.py against mpmath, and the errors of what is made of them.

Prints log2 of the largest relative errors; with --check, exits 1 where one is larger than it may be.
"""

from __future__ import annotations

import sys
from pathlib import Path

from kept import agrees
from mpmath import log, mp, mpf

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fastact.kernels import triples

mp.prec = 600

# bits: of log(2)/16 in four parts, of the tables in three, of (e^r - 1)/r on |r| <= log(2)/32
WANTED = {32: (100, 74, 78), 64: (212, 160, 155)}


def exact(parts: tuple[float, ...]) -> mpf:
    return mp.fsum(map(mpf, parts))


def powers(width: int) -> mpf:
    """The largest error of a power of two in the tables."""
    tables = zip(*triples.POWERS[width], strict=True)
    return max(abs(exact(parts) / mpf(2) ** (mpf(j) / 16) - 1) for j, parts in enumerate(tables))


def series(width: int) -> mpf:
    """The largest error of the series, with each coefficient in as many parts as are used."""
    first, last = triples.PAIRS[width]
    used = [3 if k < first else 2 if k < last else 1 for k in range(triples.TERMS[width])]
    coefficients = [exact(c[:n]) for c, n in zip(triples.TAYLOR[width], used, strict=True)]
    edge = mp.log(2) / 32
    points = [edge * k / 64 for k in range(-64, 65) if k]
    return max(abs(mp.polyval(coefficients[::-1], r) / (mp.expm1(r) / r) - 1) for r in points)


def bits(width: int) -> tuple[float, ...]:
    """How many bits are right."""
    step = abs(exact(triples.STEP[width]) / (mp.log(2) / 16) - 1)
    return tuple(float(-log(max(error, mpf(2) ** -400), 2)) for error in (step, powers(width), series(width)))


if __name__ == "__main__":
    if "--check" in sys.argv and not agrees(__file__):
        sys.exit(1)
    found = {width: bits(width) for width in WANTED}
    print(found)
    if "--check" in sys.argv:
        good = all(a >= b for width, wanted in WANTED.items() for a, b in zip(found[width], wanted, strict=True))
        sys.exit(0 if good else 1)
