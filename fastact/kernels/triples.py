"""Numbers as sums of three floats, and the exponential as such: for what is left where two terms cancel.

A *triple* is an unevaluated sum, each part at most about an ULP of the one before: 70 bits for float32, 157 for
float64.
All this is slow, and meant for the few elements and rows whose result cancels: see `fastact.kernels.language.rarely`.
Every constant is rounded from an exact fraction of integers; tools/polynomials/triples.py checks them, and the errors.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from math import factorial, isqrt
from typing import Any

from .language import MANTISSA, bits, fma, from_bits, lookups
from .pairs import fast_two_sum, multiply_pairs, two_prod, two_square, two_sum

__all__ = [
    "add_triples",
    "exp_parts3",
    "exponent_field",
    "log1p_small",
    "multiply_triples",
    "power_of_two",
    "settled",
]

Lanes = Any
Triple = tuple[Lanes, Lanes, Lanes]


def _parts(value: Fraction, width: int, count: int) -> tuple[float, ...]:
    """`value` as a sum of `count` floats."""
    found = []
    for _ in range(count):
        nearest = float(value)
        if width == 32:
            (nearest,) = struct.unpack("<f", struct.pack("<f", nearest))
        found.append(nearest)
        value -= Fraction(nearest)
    return tuple(found)


def _root(j: int, digits: int = 200) -> Fraction:
    """2^(j/16)."""
    power = 1 << (j + 16 * digits)
    for _ in range(4):
        power = isqrt(power)
    return Fraction(power, 1 << digits)


# log(2) / 16 in four parts, and its inverse; the first product with an integer leaves no error (see exp32)
_LOG2_BITS = 320
LOG2_16 = Fraction(sum((1 << (_LOG2_BITS - k)) // k for k in range(1, _LOG2_BITS)), 16 << _LOG2_BITS)
STEP = {width: _parts(LOG2_16, width, 4) for width in (32, 64)}
STEPS_PER_LOG = float(1 / LOG2_16)
# 2^(j/16) in three parts: a table for each
POWERS = {width: tuple(zip(*(_parts(_root(j), width, 3) for j in range(16)), strict=True)) for width in (32, 64)}
# Adding this to an integer below 2^22 (2^51) leaves it in the low bits.
ROUND = {32: 1.5 * 2.0**23, 64: 1.5 * 2.0**52}
ROUND_BITS = {32: 0x4B400000, 64: 0x4338000000000000}
BIAS = {32: 127, 64: 1023}

# (e^r - 1) / r = sum r^k / (k + 1)!, |r| <= log(2)/32: so many terms, the last ones of one float, those before of two
TERMS = {32: 10, 64: 18}
PAIRS = {32: (4, 8), 64: (7, 16)}
TAYLOR = {w: tuple(_parts(Fraction(1, factorial(k + 1)), w, 3) for k in range(TERMS[w])) for w in (32, 64)}


def settled(*parts: Lanes) -> tuple[Lanes, ...]:
    """The same sum, exactly, whatever cancels: as many parts, but each at most an ULP of the one before."""
    found = list(parts)
    last = len(found) - 1
    for done in range(len(found)):
        for k in range(last - 1, -1 if done < last else 0, -1):
            found[k], found[k + 1] = two_sum(found[k], found[k + 1])
    return tuple(found)


def add_triples(a: Triple, b: Triple) -> Triple:
    """The sum of two sums of three."""
    h, e = two_sum(a[0], b[0])
    mid, e2 = two_sum(a[1], b[1])
    mid, e3 = two_sum(mid, e)
    return h, mid, (a[2] + b[2]) + (e2 + e3)


def multiply_triples(a: Triple, b: Triple) -> Triple:
    """The product of two triples; error about 2^-70 and 2^-156 of it."""
    p, e = two_prod(a[0], b[0])
    q, e2 = two_prod(a[0], b[1])
    r, e3 = two_prod(a[1], b[0])
    q, e4 = two_sum(q, r)
    e, e5 = two_sum(e, q)
    rest = fma(a[0], b[2], fma(a[2], b[0], a[1] * b[1])) + (e2 + e3) + (e4 + e5)
    e, rest = fast_two_sum(e, rest)
    p, e = fast_two_sum(p, e)
    return p, *fast_two_sum(e, rest)


def power_of_two(n: Lanes) -> Lanes:
    """2^n for an integer n that gives a normal float."""
    return from_bits((n + BIAS[n.width]) << MANTISSA[n.width])


def exponent_field(x: Lanes) -> Lanes:
    """The exponent field of a float."""
    return (bits(x) >> MANTISSA[x.width]) & (2 * BIAS[x.width] + 1)


def exp_parts3(x: Lanes) -> tuple[Triple, Triple, Lanes]:
    """(T, p, n) with e^x = 2^n T (1 + p): two triples and an integer. Exactly T = 1 for |x| < log(2)/32."""
    w = x.width
    shifted = fma(x, STEPS_PER_LOG, ROUND[w])
    steps = shifted - ROUND[w]
    a, b = two_prod(steps, x.const(-STEP[w][1]))
    c, d = two_prod(steps, x.const(-STEP[w][2]))
    r, e = two_sum(fma(steps, -STEP[w][0], x), a)
    e, e2 = two_sum(e, b)
    e, e3 = two_sum(e, c)
    r, e = fast_two_sum(r, e)
    three = r, e, (e2 + e3) + fma(steps, -STEP[w][3], d)

    taylor, (first, last) = TAYLOR[w], PAIRS[w]
    hi = r.const(taylor[-1][0])
    for k in range(TERMS[w] - 2, last - 1, -1):
        hi = fma(hi, r, taylor[k][0])
    lo = hi.const(0.0)
    for k in range(last - 1, first - 1, -1):
        hi, lo = multiply_pairs(hi, lo, r, e)
        hi, rest = fast_two_sum(r.const(taylor[k][0]), hi)
        hi, lo = fast_two_sum(hi, rest + (lo + taylor[k][1]))
    p: Triple = hi, lo, hi.const(0.0)
    for k in range(first - 1, -1, -1):
        p = add_triples(tuple(map(r.const, taylor[k])), multiply_triples(p, three))
    i = bits(shifted)
    power = tuple(lookups(POWERS[w], i))
    return power, multiply_triples(p, three), (i - ROUND_BITS[w]) >> 4


def log1p_small(d: Triple) -> Triple:
    """log(1 + d), |d| < 2^-18 (2^-45), to about 2^-60 (2^-130) of d."""
    hi, lo, rest = settled(*d)
    square, e = two_square(hi)
    mid, e2 = two_sum(lo, -0.5 * square)
    # d - d^2 / 2 + d^3 / 3
    return settled(hi, mid, fma(hi * square, 1.0 / 3.0, fma(-hi, lo, fma(e, -0.5, rest + e2))))
