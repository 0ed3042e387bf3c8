"""1 / (1 + e^z) as a float and its relative error: what the sigmoid family is made of, for float32 and float64 alike.

e^z is S (1 + m), see `fastact.kernels.exp32`. With S as a float and m small, 1 + e^z = (1 + S) + S m needs one sum and
one fma, and what they lost needs two subtractions, which are exact, and one fma. One division then gives q, and what q
misses of 1 / (1 + e^z) follows from the remainder 1 - q (1 + e^z), again two fma. Every value is scaled by
`Format.scale`, so that neither the exponential overflows nor q and its products become subnormal before the last
multiplication.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastact.kernels import exp32
from fastact.kernels.exp32 import clamp_above
from fastact.kernels.exp64 import exp_steps64
from fastact.kernels.language import bits, by_dtype, fabs, fma, from_bits, kernel, select

__all__ = [
    "FORMATS",
    "Format",
    "bounded_product",
    "exp_parts",
    "format_of",
    "logistic",
    "one_plus_far_exp",
    "one_plus_small_exp",
    "quotient",
    "quotient_by_reciprocal",
    "reciprocal",
    "reciprocal_of_one_plus_exp",
    "rough_reciprocal",
    "sum_of_one_and",
]

Lanes = Any


@dataclass(frozen=True)
class Format:
    """What depends on the dtype."""

    scale: float  # exponentials are multiplied by it, their reciprocals divided
    limit: float  # e^-limit is so far below the numbers that the CPU makes it 0 without the pause it takes nearer
    limit_times: float  # and so is limit_times e^-limit_times
    one_from: float  # 1 / (1 + e^-x) rounds to 1 for x above it
    far_from: float  # e^-x is so small above it that far_scale may be taken out
    far_reach: float  # far_scale scale e^far_reach is finite, and |x| e^-far_reach and x^2 e^-far_reach are negligible
    far_scale: float
    far_bits: int  # what multiplying by far_scale takes off the bits of a float
    largest: float  # finite float
    large: float  # large / scale is finite
    mantissa: int  # its bits
    bits_of_one: int
    reciprocal: int  # this less the bits of a float, as bits: its reciprocal but for 5 %


FORMATS = {
    32: Format(
        scale=exp32.SCALE,
        limit=113.0,
        limit_times=118.0,
        one_from=17.5,
        far_from=80.0,
        far_reach=208.0,
        far_scale=2.0**-110,
        far_bits=110 << 23,
        largest=float.fromhex("0x1.fffffep127"),
        large=2.0**60,
        mantissa=(1 << 23) - 1,
        bits_of_one=127 << 23,
        reciprocal=0x7EF127EA,
    ),
    64: Format(
        scale=2.0**-512,
        limit=765.0,
        limit_times=765.0,
        one_from=38.0,
        far_from=600.0,
        far_reach=1480.0,
        far_scale=2.0**-768,
        far_bits=768 << 52,
        largest=float.fromhex("0x1.fffffffffffffp1023"),
        large=2.0**500,
        mantissa=(1 << 52) - 1,
        bits_of_one=1023 << 52,
        reciprocal=0x7FDE24FD40000000,
    ),
}


def format_of(x: Lanes) -> Format:
    """The format of the lanes `x`."""
    return FORMATS[x.width]


@kernel
def _exp_parts32(x: Lanes, low: Lanes | None, wraps: bool = False) -> tuple[Lanes, Lanes]:
    return exp32.exp_parts(x, low, wraps)


@kernel
def _exp_parts64(x: Lanes, low: Lanes | None, wraps: bool = False) -> tuple[Lanes, Lanes]:
    return exp_steps64(x, low, FORMATS[64].scale)  # which always does


exp_parts = by_dtype(_exp_parts32, _exp_parts64)
"""(S, m) with scale e^(x + low) = S (1 + m), for -one_from <= x <= limit_times; `low` may be None.

If it `wraps`, S has the right bits for x up to far_reach, but for those of the exponent that do not fit.
"""


@kernel
def bounded_product(x: Lanes, beta: Lanes, limit: float) -> tuple[Lanes, Lanes, Lanes]:
    """|beta x| as an exact pair, kept below `limit`, and the largest |x| for which it was."""
    steepness = fabs(beta)
    bound = clamp_above(limit / steepness, format_of(x).largest)
    c = clamp_above(fabs(x), bound)
    p = steepness * c
    return p, fma(steepness, c, -p), bound


@kernel
def reciprocal_of_one_plus_exp(a: Lanes) -> tuple[Lanes, Lanes]:
    """(q, error) with 1 / (1 + e^a) = scale q (1 + error), for 0 <= a <= limit."""
    power, m = exp_parts(a, None)
    one = format_of(a).scale
    # d - power is exact, and so is 1 less that wherever the 1 still matters: this is all that d lacks, though the sum
    # inside it was rounded too.
    d = fma(power, m, power + one)
    return reciprocal(d, fma(power, m, one - (d - power)))


@kernel
def one_plus_small_exp(z: Lanes, low: Lanes | None = None) -> tuple[Lanes, Lanes]:
    """scale (1 + e^(z + low)) as a pair, for -one_from <= z <= limit_times, where e^z may be the smaller summand."""
    power, m = exp_parts(z, low)
    return sum_of_one_and(format_of(z).scale, power, m)


@kernel
def logistic(z: Lanes, low: Lanes | None = None) -> Lanes:
    """1 / (1 + e^(z + low)), for -one_from <= z <= limit."""
    q, error = reciprocal(*one_plus_small_exp(z, low))
    return fma(q, error, q) * format_of(z).scale


@kernel
def one_plus_far_exp(z: Lanes, low: Lanes) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    """(d, d_low, one, far) for -one_from <= z <= far_reach, where e^z may be too large even for scaling by `scale`.

    Where the mask `far` is false, d + d_low is scale (1 + e^(z + low)), and one = scale. Where it is true, the pair is
    far_scale times that, and one = 0: nobody can see the 1 in 1 + e^z.
    """
    f = format_of(z)
    power, m = exp_parts(z, low, True)
    far = z > f.far_from
    # The exponent of power may have overflowed into its sign; as an integer it comes back unharmed.
    i = bits(power)
    power = from_bits(select(far, i - f.far_bits, i))
    one = select(far, 0.0, z.const(f.scale))
    d, d_low = sum_of_one_and(one, power, m)
    return d, d_low, one, far


@kernel
def sum_of_one_and(one: Lanes, power: Lanes, m: Lanes) -> tuple[Lanes, Lanes]:
    """one + power (1 + m) as a pair, whichever of the two is larger."""
    larger = select(power > one, power, one)
    smaller = select(power > one, one, power)
    d = fma(power, m, larger + smaller)
    return d, fma(power, m, smaller - (d - larger))


@kernel
def reciprocal(d: Lanes, d_low: Lanes) -> tuple[Lanes, Lanes]:
    """(q, error) with 1 / (d + d_low) = q (1 + error)."""
    q = 1.0 / d
    return q, fma(-q, d_low, fma(-q, d, 1.0))


@kernel
def quotient(c: Lanes, d: Lanes, d_low: Lanes) -> Lanes:
    """c / (d + d_low) for a normal, positive d.

    What the division leaves is divided by d only roughly: of half an ULP and what d_low makes, 5 % remain. It is held
    with its sign turned, so that -0 stays -0.
    """
    q = c / d
    excess = fma(q, d_low, fma(q, d, -c))
    return fma(-excess, rough_reciprocal(d), q)


@kernel
def quotient_by_reciprocal(c: Lanes, d: Lanes, d_low: Lanes) -> Lanes:
    """c / (d + d_low) for a normal, positive d that is far enough from overflow for 1 / d to be normal too.

    On a GPU it takes half of what `quotient` does, as c may be anything: only 1 / d must be a division. What the
    product lacks is found in the same way, and -0 stays -0.
    """
    r = 1.0 / d
    q = c * r
    excess = fma(q, d_low, fma(q, d, -c))
    return fma(-excess, r, q)


@kernel
def rough_reciprocal(d: Lanes) -> Lanes:
    """1 / d for a normal, positive d, but for 5 %: by a subtraction of its bits."""
    return from_bits(format_of(d).reciprocal - bits(d))
