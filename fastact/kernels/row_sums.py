"""What rows are made of: their largest entry, exponentials relative to it, sums that lose nothing.

The exponential is that of x itself, reduced by a multiple of log(2)/16: the largest entry of the row comes in as a
power of two only, which is exact. So x - max, whose rounding error would cost several bits, is never formed. Where the
largest entry exceeds `HUGE`, x - max is formed first, and is exact for every x that counts.

Exponentials are kept multiplied by 2^LIFT, so that none of them is subnormal before the last rounding.
"""

from __future__ import annotations

from math import factorial, inf
from typing import Any

from .exp32 import POWERS, POWERS_LOW, STEP_HIGH, STEP_LOW, STEPS_PER_LOG, TAIL, TAIL_FINE
from .language import bits, by_dtype, fabs, fma, from_bits, kernel, lookup, lookup_plus, select, sum_where, to_float
from .log64 import log_pair64
from .pairs import fast_two_sum, renormalise, two_sum
from .polynomials import horner
from .scaled import ATANH_TAIL

__all__ = [
    "APART",
    "DOWN",
    "EXP_SUM",
    "EXP_SUM_OF_FEW",
    "FINE_LIFT",
    "LIFTED",
    "add_exp",
    "add_exp_to_three",
    "add_four",
    "add_pair_to_three",
    "add_three",
    "add_three_and_pair",
    "add_to_four",
    "add_to_three",
    "exact_at_largest",
    "exp_fine",
    "exp_of_row",
    "fine_parts",
    "inverse",
    "join_exp",
    "larger",
    "log_of_pair",
    "merge_exp",
    "merge_few_exp",
    "normal",
    "pair_at_largest",
    "relative_to",
    "settle_exp",
    "total_exp",
]

Lanes = Any
State = tuple[Lanes, ...]

LIFT = 64
HUGE = 65536.0
# e^x is less than half of the smallest subnormal number for x <= ZERO.
ZERO = {32: -104.0, 64: -745.5}
LARGEST = {32: float.fromhex("0x1.fffffep127"), 64: float.fromhex("0x1.fffffffffffffp1023")}
# Adding this to |v| < 2^22 (2^51) rounds v to an integer and leaves it in the low bits of the sum.
ROUND = {32: 1.5 * 2.0**23, 64: 1.5 * 2.0**52}
LOG2E = 1.4426950408889634

# --- float64: 2^(j/16) and e^r as in exp32, whose tables stand for float32; checked by tools/polynomials/row_sums.py

STEPS_PER_LOG64 = 23.083120654223414
STEP_HIGH64 = float.fromhex("0x1.62e42fefa39efp-5")
STEP_LOW64 = float.fromhex("0x1.abc9e3b39803fp-60")
# fmt: off
POWERS64 = (  # with j << 48 taken off the bits
    1.0, 0.9908868912137069, 0.9827538663326288, 0.9756443173783458,
    0.9696035575013605, 0.964678906036742, 0.9609197773255048, 0.9583777734684463,
    0.9571067811865476, 0.9571630729697497, 0.9586054127039704, 0.9614951659746271,
    0.9658964152537145, 0.9718760801866497, 0.9795040432046712, 0.9888532806985737,
)
POWERS_LOW64 = (
    0.0, 8.189317638195515e-17, -2.7939114859515733e-17, 7.826573258636076e-17,
    3.3484623336251524e-17, 3.750854201303127e-17, 1.9572585293112036e-17, 5.68648095791174e-17,
    -6.835808657661922e-17, -2.3591094770850053e-17, 5.1548301170786783e-17, 1.5341410053603723e-17,
    4.875160526227062e-17, 1.685487290628973e-17, 1.790126907604513e-17, -5.545065618639427e-17,
)
# fmt: on
TAYLOR = tuple(1.0 / factorial(k) for k in range(9))  # |r| <= log(2)/32: the next term is below 2^-67


def larger(a: State, b: State) -> State:
    """The larger one; NaN is passed over, it reaches the result through the sum."""
    return (select(b[0] > a[0], b[0], a[0]),)


def relative_to(m: Lanes) -> State:
    """What `exp_of_row` needs of the largest entry of its row: (c, k, bottom, top).

    c is taken from every x, k rounds to a multiple of log(2)/16 with the right power of two, entries up to `bottom` are
    0, and the largest entry is `top`.
    """
    finite = select(fabs(m) < inf, m, 0.0)
    c = select(fabs(finite) > HUGE, finite, 0.0)
    top = finite - c
    magic = ROUND[m.width]
    power = fma(top, LOG2E, magic) - magic
    lift = 2 * LIFT if m.width == 32 else LIFT  # the table of exp32 is scaled down
    k = fma(power, -16.0, m.const(magic + 16.0 * lift))
    # With +inf in the row every finite entry is 0 against it.
    infinite = m == inf
    return c, k, select(infinite, LARGEST[m.width], top + ZERO[m.width]), select(infinite, inf, top)


def _parts32(d: Lanes, k: Lanes, adjusted: Lanes | None = None) -> tuple[Lanes, Lanes, Lanes]:
    shifted = fma(d, STEPS_PER_LOG, k)
    steps = shifted - k
    # The inner fma is exact: |d| has a bit pattern that ends where STEP_HIGH's does, or the result is d.
    r = fma(steps, -STEP_LOW, fma(steps, -STEP_HIGH, d))
    i = bits(shifted)
    low = lookup(POWERS_LOW, i) if adjusted is None else lookup_plus(POWERS_LOW, i, adjusted)
    m = fma(r, fma(r, fma(r, TAIL[1], TAIL[0]), 1.0), low)
    return bits(lookup(POWERS, i)), i << 19, m


def _parts64(d: Lanes, k: Lanes, adjusted: Lanes | None = None) -> tuple[Lanes, Lanes, Lanes]:
    shifted = fma(d, STEPS_PER_LOG64, k)
    steps = shifted - k
    r = fma(steps, -STEP_LOW64, fma(steps, -STEP_HIGH64, d))
    i = bits(shifted)
    tail = r.const(TAYLOR[7])  # the next term is below 2^-59
    for coefficient in TAYLOR[6:0:-1]:
        tail = fma(tail, r, coefficient)
    low = lookup(POWERS_LOW64, i) if adjusted is None else lookup_plus(POWERS_LOW64, i, adjusted)
    return bits(lookup(POWERS64, i)), i << 48, fma(r, tail, low)


_parts = by_dtype(_parts32, _parts64)
"""(a, b, m): 2^LIFT e^d = s (1 + m) in units of the row's power of two, where s has the bits a + b."""


def _whole(d: Lanes, k: Lanes, adjusted: Lanes | None = None) -> tuple[Lanes, Lanes]:
    """(s, m)"""
    a, b, m = _parts(d, k, adjusted)
    return from_bits(a + b), m


def exp_of_row(x: Lanes, relative: State, adjusted: Lanes | None = None, wanted: Lanes | None = None) -> State:
    """2^LIFT e^(x - max), to a factor that is the same for the whole row, and (s, m): it is s (1 + m) unrounded.

    The factor is a power of two, or such that the largest entry needs no rounding if `adjusted` is what
    `exact_at_largest` found. Error 0.58 ULP; |m| < 0.022. NaN for NaN; where it is exactly 0, s and m are 0 too.
    Where all entries are finite and none is 0, `bottom` may be None: then s alone is 0 where it is not `wanted`.
    """
    c, k, bottom = relative[:3]
    d = x if c is None else x - c
    a, b, m = _parts(d, k, adjusted)
    if bottom is None:
        s = from_bits(a + b if wanted is None else sum_where(wanted, a, b))
        return fma(s, m, s), s, m
    # Said with a select: entries that are masked must cost no subnormal product.
    kept = ~(d <= bottom) if wanted is None else ~(d <= bottom) & wanted
    s, m = from_bits(sum_where(kept, a, b)), select(kept, m, 0.0)
    return fma(s, m, s), s, m


def _fine32(d: Lanes, k: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    shifted = fma(d, STEPS_PER_LOG, k)
    steps = shifted - k
    above = fma(steps, -STEP_HIGH, d)
    r = fma(steps, -STEP_LOW, above)
    i = bits(shifted)
    low = lookup(POWERS_LOW, i) + fma(steps, -STEP_LOW, above - r)
    tail = fma(r, fma(r, TAIL_FINE[2], TAIL_FINE[1]), TAIL_FINE[0])
    return from_bits(bits(lookup(POWERS, i)) + (i << 19)), r, fma(low, r, fma(r * r, tail, low))


def _fine64(d: Lanes, k: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    shifted = fma(d, STEPS_PER_LOG64, k)
    steps = shifted - k
    above = fma(steps, -STEP_HIGH64, d)
    r = fma(steps, -STEP_LOW64, above)
    i = bits(shifted)
    low = lookup(POWERS_LOW64, i) + fma(steps, -STEP_LOW64, above - r)
    tail = horner(r, TAYLOR[2:])
    return from_bits(bits(lookup(POWERS64, i)) + (i << 48)), r, fma(low, fma(0.5 * r, r, r), fma(r * r, tail, low))


FINE_LIFT = {32: 90, 64: 590}
# where 2^FINE_LIFT e^x has the bits of 0, exactly: below the smallest normal number, which is the last right one
FINE_ZERO = {w: -(FINE_LIFT[w] + bias) / LOG2E for w, bias in ((32, 127), (64, 1023))}
FINE_MOST = 8.0
fine_parts = by_dtype(_fine32, _fine64)
"""(s, r, q) with e^d = s (1 + r + q), |r| < 0.022 and |q| < 2^-12, in the units of k. Error 2^-34 and 2^-64."""


def exp_fine(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """(s, r, q) with 2^FINE_LIFT e^x = s (1 + r + q), |r| < 0.022 and |q| < 2^-12, for x <= `FINE_MOST`.

    Error 2^-34 and 2^-64; next to 0, r is x and s is 2^FINE_LIFT. s is 0 up to `FINE_ZERO`. NaN for NaN.
    """
    w = x.width
    x = select(x > FINE_MOST, FINE_MOST, x)
    # the table of exp32 is scaled down
    k = ROUND[w] + 16.0 * (FINE_LIFT[w] + (LIFT if w == 32 else 0))
    return tuple(fine_parts(select(x < FINE_ZERO[w], FINE_ZERO[w], x), x.const(k)))


def pair_at_largest(relative: State, adjusted: Lanes | None = None) -> tuple[Lanes, Lanes]:
    """`exp_of_row` of the largest entry, as a normal pair."""
    s, m = _whole(relative[3], relative[1], adjusted)
    hi = fma(s, m, s)
    return hi, fma(s, m, s - hi)


def exact_at_largest(relative: State) -> Lanes:
    """What is to be added to every m so that s (1 + m) is a float at the largest entry.

    Without it a row of equal entries would not give equal shares, rounded.
    """
    s, m = _whole(relative[3], relative[1])
    rest = fma(s, m, s - fma(s, m, s)) * 2.0**-LIFT
    # divided by s: 2.06 - v is 1/v to 6 per cent for v from 0.7 to 1.42, which is enough
    return rest * fma(s, 2.0**-LIFT, -2.06)


# --- sums of exponentials
#
# The high part of a sum starts at ANCHOR, well above any term: then hi + e loses
# nothing that e - ((hi + e) - hi) does not find, and the low parts are so small that their own rounding errors do not
# matter: as long as the sum is not mostly made of terms which are themselves as small as a low part. Then it is formed
# again, as a sum of three parts. The anchor is low, so that this seldom happens to what networks make.

ANCHOR = 2.0 ** (LIFT + 5)
EXP_SUM = (ANCHOR, 0.0)
"""A sum of terms in [0, 1.42 2^LIFT], as (hi, lo), without any term."""


def add_exp(state: State, s: Lanes, m: Lanes) -> State:
    """A sum like `EXP_SUM` and one more term s (1 + m), whose own rounding it is spared."""
    hi = state[0] + s
    return hi, fma(s, m, state[1] + (s - (hi - state[0])))


def merge_exp(a: State, b: State) -> State:
    """The sum of two such sums, together of one block."""
    h, e = two_sum(a[0], b[0] - ANCHOR)
    return h, a[1] + b[1] + e


def merge_few_exp(a: State, b: State) -> State:
    """The same of up to 22 terms: high parts have their last bit at that of ANCHOR, and stay below twice as much."""
    return a[0] + (b[0] - ANCHOR), a[1] + b[1]


# nothing has to be done to add something to -0
EXP_SUM_OF_FEW = (ANCHOR, -0.0), merge_few_exp


def settle_exp(state: State) -> State:
    """Such a sum as its two parts."""
    return state[0] - ANCHOR, state[1]


def join_exp(a: State, b: State) -> State:
    """The sum of two settled ones."""
    h, e = two_sum(a[0], b[0])
    return h, a[1] + b[1] + e


def total_exp(total: State) -> State:
    """Such a sum as a normal pair, and the size of what only its low parts know."""
    return *two_sum(*total), fabs(total[1])


def add_exp_to_three(total: State, s: Lanes, m: Lanes) -> State:
    """A sum of three parts and a term s (1 + m)."""
    e = fma(s, m, s)
    return add_to_three(total, e, fma(s, m, s - e))


# --- sums of anything, in three parts: what is small against the first part keeps its own relative accuracy


def add_three(a: State, b: State) -> State:
    """The sum of two sums."""
    h, e = two_sum(a[0], b[0])
    mid, e2 = two_sum(a[1], b[1])
    mid, e3 = two_sum(mid, e)
    return h, mid, a[2] + b[2] + (e2 + e3)


def add_three_and_pair(a: State, b: State) -> State:
    """The same of sums that have a pair beside their three parts, a sum of something else."""
    low, e = two_sum(a[3], b[3])
    return *add_three(a[:3], b[:3]), low, a[4] + b[4] + e


def add_to_three(total: State, h: Lanes, rest: Lanes | None = None) -> State:
    """A sum and h, or the pair h + rest, |rest| <= ulp(h)."""
    hi, e = two_sum(total[0], h)
    mid, e2 = two_sum(total[1], e)
    return hi, mid, total[2] + (e2 if rest is None else e2 + rest)


def add_pair_to_three(total: State, h: Lanes, rest: Lanes) -> State:
    """The same for very many pairs, whose rests would lose bits in the last part."""
    hi, e = two_sum(total[0], h)
    mid, e2 = two_sum(total[1], e)
    mid, e3 = two_sum(mid, rest)
    return hi, mid, total[2] + (e2 + e3)


def add_to_four(total: State, h: Lanes) -> State:
    """A sum of four parts and h: where two entries are nearly all of it and cancel, the others are left with three."""
    hi, e = two_sum(total[0], h)
    return hi, *add_to_three(total[1:], e)


def add_four(a: State, b: State) -> State:
    """The sum of two such sums."""
    h, e = two_sum(a[0], b[0])
    return h, *add_to_three(add_three(a[1:], b[1:]), e)


# --- sums of gradients, whose terms may be of any size

# What small terms are multiplied by, lest the rounding errors of products underflow; then large ones overflow.
LIFTED = {32: 2.0**36, 64: 2.0**64}
# Where a sum overflows, though no result need do so, terms from `APART` on are summed up apart, `DOWN` times each: so
# little that no row is long enough for that to overflow.
APART = {32: 2.0**60, 64: 2.0**300}
DOWN = {32: 2.0**-32, 64: 2.0**-64}


def normal(total: State) -> tuple[Lanes, Lanes]:
    """A sum of three parts as a normal pair."""
    mid, low = fast_two_sum(total[1], total[2])
    hi, mid = two_sum(total[0], mid)
    return fast_two_sum(hi, mid + low)


def inverse(hi: Lanes, lo: Lanes) -> tuple[Lanes, Lanes]:
    """1 / (hi + lo) as a pair."""
    r = 1.0 / hi
    return r, r * fma(-r, lo, fma(-r, hi, 1.0))


# --- the logarithm of a pair

LN2_HIGH = 0.693145751953125  # 16 bits, so that its product with an exponent is exact
LN2_LOW = 1.428606765330187e-06


@kernel
def _log_pair32(hi: Lanes, lo: Lanes) -> tuple[Lanes, Lanes]:
    # the mantissa in [3/4, 3/2): adding a quarter of a binade carries into the exponent from 3/2 on
    k = (bits(hi) + 0x00400000) >> 23
    down = from_bits((254 - k) << 23)
    n = to_float(k - 127)
    f = fma(hi, down, -1.0)  # exact
    f, rest = fast_two_sum(f, lo * down)
    # log(1 + f) = 2 atanh(q / 2) with q = f / (1 + f/2)
    d = fma(f, 0.5, 1.0)
    d_low = fma(f, 0.5, 1.0 - d) + 0.5 * rest
    q = f / d
    q_low = (fma(-q, d_low, fma(-q, d, f)) + rest) / d
    z = q * q
    tail = z.const(ATANH_TAIL[32][4])
    for coefficient in ATANH_TAIL[32][3::-1]:
        tail = fma(tail, z, coefficient)
    h, rest = two_sum(n * LN2_HIGH, q)
    return renormalise(h, rest + fma(n, LN2_LOW, fma(q * z, tail, q_low)))


log_of_pair = by_dtype(_log_pair32, log_pair64)
"""log(hi + lo) as a pair, for a normal pair in [2^-100, 2^100], next to 1 too. Relative error 2^-27 and 2^-55."""
