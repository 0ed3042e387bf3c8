"""The tables of `fastact.kernels.gelu32`: gelu, gelu' and gelu_tanh' on 32 pieces, and to the left of them.

Which piece x is in says z (steep - alpha min(z, -bend)), z = x - shift, rounded to an integer k: they have one width
right of -bend, and become narrower to the left of it, where the functions fall like e^(-x^2/2). In each f(b + t) =
c0 + t (c1 + t (c2 + ... c8 t^7)), where b is a float32 at which f is very nearly a float32, c0, of which the last two
bits are 0, and such that what is rounded in the bracket weighs as much at one end as at the other. The piece around 0
has b = 0; that with the zero of a derivative has the float next to it, and the low parts of c0 and c1 are beside the
table. c8 needs few bits, and is kept in the last 16 of c7, for which the other coefficients make up.
Left of the pieces f(-a) e^(a^2/2) is a polynomial in a - b; gelu_tanh' needs none.
Run it to print the tables; with ``--check`` it exits non-zero unless the kernel's tables stay below the bound.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

from gelu_parts import Function, gelu_slope, gelu_tanh_slope, half_square, root_of, upper_tail
from kept import agrees
from mpmath import mp, mpf
from remez import fit, fit_rounded, piece_error, round_to, show_columns, ulp

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from fastact.kernels import gelu32

PIECES = 32
LEFT_DEGREE = 7
BOUND = mpf("0.16")  # ULP, with the coefficients as they are
ROUNDING = 4e-6  # more than rounding errors of the index shift the end of a piece


def gelu(x: Any) -> Any:
    return x * upper_tail(-x)


def slope(x: Any) -> Any:
    return gelu_slope(-x)


def tanh_slope(x: Any) -> Any:
    return gelu_tanh_slope(-x)


ROOTS: dict[Function, Any] = {slope: -root_of(gelu_slope), tanh_slope: -root_of(gelu_tanh_slope)}
FUNCTIONS: dict[str, tuple[Function, Any]] = {
    "GELU": (gelu, gelu32.GELU_PIECES),
    "GELU_SLOPE": (slope, gelu32.GELU_SLOPE_PIECES),
    "GELU_TANH_SLOPE": (tanh_slope, gelu32.GELU_TANH_SLOPE_PIECES),
}


def factor(f: Function) -> Function:
    """-f(-a) e^(a^2/2)."""
    return lambda a: -f(-a) * mp.exp(half_square(a))


def left_end(k: int, pieces: Any) -> Any:
    """Where z (steep - alpha min(z, -bend)) is k - 1/2, z = x - shift."""
    steep, alpha, bend, shift = (mpf(v) for v in (pieces.steep, pieces.alpha, pieces.bend, pieces.shift))
    wanted = k - mpf(1) / 2
    straight = wanted / (steep + alpha * bend)
    if straight > -bend:
        return straight + shift
    return (steep - mp.sqrt(steep**2 - 4 * alpha * wanted)) / (2 * alpha) + shift


def ends(k: int, pieces: Any) -> tuple[Any, Any]:
    low, high = left_end(k, pieces), mpf(pieces.top) if k - pieces.first == PIECES - 1 else left_end(k + 1, pieces)
    return low - ROUNDING, high + ROUNDING


def zero_of(f: Function, low: Any, high: Any) -> Any:
    """The float next to the zero, if that is between these."""
    return round_to(ROOTS[f], "float32") if f in ROOTS and low < ROOTS[f] < high else None


def centre(f: Function, low: Any, high: Any) -> tuple[Any, Any]:
    """b and c0."""
    if low < 0 < high:
        return mpf(0), f(mpf(0))
    if zero_of(f, low, high) is not None:
        return zero_of(f, low, high), mpf(0)
    at = (low + high) / 2
    if high < 0 and all((f(x) - f(low)) * (f(x) - f(high)) < 0 for x in (at, (low + at) / 2, (at + high) / 2)):
        # So much nearer to the smaller value that what is rounded in the bracket weighs as much at either end.
        small, large = sorted((f(low), f(high)), key=abs)
        wanted = small * (large / small) ** mpf("0.36")
        at = mp.findroot(lambda x: f(x) - wanted, (low, high), solver="anderson")
    return exact(f, at, high - low)


def short(value: Any) -> Any:
    """A float32 of which the last two bits are 0: its differences from numbers up to four times it are exact."""
    step = 4 * ulp(value)
    return mp.nint(value / step) * step


def exact(f: Function, at: Any, width: Any) -> tuple[Any, Any]:
    """b near `at`, in the middle eighth of a piece of that width, with f(b) nearly a float, and that, c0."""
    candidates = (round_to(at + width * j / 48000, "float32") for j in range(-3000, 3001))
    return min((abs(f(b) / (c0 := short(f(b))) - 1), b, c0) for b in candidates)[1:]


def left(name: str) -> list[float]:
    """b, c0, c1 ... of the factor left of the pieces."""
    f, pieces = FUNCTIONS[name]
    g = factor(f)
    low, high = -mpf(pieces.left), mpf(gelu32.FURTHEST)
    b, c0 = exact(g, (low + high) / 2, high - low)
    c, _ = fit_rounded(
        lambda t: g(b + t) - c0, (low - b, high - b), range(1, LEFT_DEGREE + 1), lambda t: 1 / g(b + t), grid=96
    )
    return [float(v) for v in (b, c0, *c)]


def left_error(name: str, coefficients: list[float]) -> Any:
    f, pieces = FUNCTIONS[name]
    g = factor(f)
    low, high = -mpf(pieces.left), mpf(gelu32.FURTHEST)
    b, *c = (mpf(v) for v in coefficients)
    points = [low + (high - low) * i / 200 for i in range(201)]
    return max(abs(mp.fsum(ck * (a - b) ** j for j, ck in enumerate(c)) / g(a) - 1) for a in points) * 2**24


def lows_of(f: Function) -> tuple[float, float]:
    """What c0 and c1 of the piece with the zero lack."""
    b = round_to(ROOTS[f], "float32")
    c1 = mp.diff(f, b)
    return float(round_to(f(b), "float32")), float(round_to(c1 - round_to(c1, "float32"), "float32"))


def unpacked(word: float) -> list[Any]:
    """c7 and c8 as the kernel takes them."""
    (bits,) = struct.unpack("<I", struct.pack("<f", word))
    return [mpf(word), mpf(struct.unpack("<f", struct.pack("<I", bits << 16 & 0xFFFFFFFF))[0])]


def packed(seventh: Any, eighth: Any) -> tuple[float, Any, Any]:
    """c7 and c8 as one float32, and what the kernel takes each for: c8, a bfloat16, is the last half of its bits."""
    high, low = (struct.unpack("<I", struct.pack("<f", float(c)))[0] for c in (seventh, eighth))
    low = (low + (1 << 15)) >> 16
    near = [(high & ~0xFFFF) + step * 0x10000 + low for step in (-1, 0, 1)]
    floats = [struct.unpack("<f", struct.pack("<I", bits))[0] for bits in near]
    word = min(floats, key=lambda v: abs(v - seventh))
    return word, *unpacked(word)


def piece(name: str, k: int) -> list[float]:
    """b, c0, c1 ..."""
    f, pieces = FUNCTIONS[name]
    low, high = ends(k, pieces)
    b, c0 = centre(f, low, high)
    lost = (0.0, 0.0) if zero_of(f, low, high) is None else lows_of(f)
    fixed = [round_to(mp.diff(f, b), "float32")] if any(lost) or (f is gelu and b == 0) else []
    first, interval = 1 + len(fixed), (low - b, high - b)

    def left_over(t: Any, *known: Any) -> Any:
        return f(b + t) - (f(b) if any(lost) else c0) - t * (mp.fsum(fixed) + lost[1]) - mp.fsum(known)

    def weight(t: Any) -> Any:
        return 1 / f(b + t)

    *_, eighth = fit(left_over, interval, range(first, 9), weight, grid=96)[0]
    eighth = packed(1, eighth)[2]
    *_, seventh = fit(lambda t: left_over(t, eighth * t**8), interval, range(first, 8), weight, grid=96)[0]
    word, seventh, eighth = packed(seventh, eighth)
    c, _ = fit_rounded(
        lambda t: left_over(t, seventh * t**7, eighth * t**8), interval, range(first, 7), weight, grid=96
    )
    return [float(v) for v in (b, c0 or -0.0, *fixed, *c, word)]


def error(name: str, k: int, found: list[float]) -> Any:
    """In ULP."""
    f, pieces = FUNCTIONS[name]
    b, c0, c1, *c, word = found
    low, high = ends(k, pieces)
    lost = (0.0, 0.0) if zero_of(f, low, high) is None else lows_of(f)
    sums = (mpf(v) + v_low for v, v_low in zip((c0, c1), lost, strict=True))
    return piece_error(f, (low, high), [b, *sums, *c, *unpacked(word)])


def constants_are_exact() -> bool:
    """Whether what 2u and its slope are made of is what it should be, to two floats."""
    linear = 2 * mp.sqrt(2 / mp.pi)
    cubic = linear * mpf("0.044715")
    pairs = (
        (gelu32.LINEAR_HEAD, gelu32.LINEAR_REST, linear),
        (gelu32.CUBIC, gelu32.CUBIC_REST, cubic),
        (gelu32.CUBIC_3, gelu32.CUBIC_3_REST, 3 * cubic),
    )
    return all(abs((mpf(high) + low) / exact - 1) < mpf(2) ** -38 for high, low, exact in pairs)


def main() -> int:
    if "--check" in sys.argv and not agrees(__file__):
        return 1
    check, worst = "--check" in sys.argv, mpf(0)
    for name, (f, pieces) in FUNCTIONS.items():
        ks = range(pieces.first, pieces.first + PIECES)
        if check:
            rows = [list(row) for row in zip(*getattr(gelu32, name), strict=True)]
            worst = max(worst, BOUND + 1 if f in ROOTS and pieces.lows != lows_of(f) else 0)
        else:
            placed = {k % PIECES: piece(name, k) for k in ks}
            rows = [placed[k] for k in range(PIECES)]
            print(show_columns(zip(*rows, strict=True), name))
            if f in ROOTS:
                print(f"{name}_LOWS = {lows_of(f)}")
        print(f"# {name} begins at {mp.nstr(left_end(pieces.first, pieces), 8)}")
        errors = [error(name, k, rows[k % PIECES]) for k in ks]
        print("# errors in ULP:", " ".join(mp.nstr(e, 2) for e in errors))
        worst = max(worst, *errors)
        if f is not tanh_slope:
            tail = list(getattr(gelu32, f"{name}_LEFT")) if check else left(name)
            if not check:
                print(f"{name}_LEFT = (", *(f"    {c!r}," for c in tail), ")", sep="\n")
            print("# left of them:", mp.nstr(e := left_error(name, tail), 2))
            worst = max(worst, e)
    return int(worst > BOUND or not constants_are_exact())


if __name__ == "__main__":
    sys.exit(main())
