"""The vector-Jacobian product of log_softmax, from the saved output: g - e^y s, s the sum of all g.

e^y s = S (1 + r + q), S = 2^n (s 2^(j/16)) rounded, as in exp32: s goes into the table of powers, which is made once
a row where all lanes are of one row. r is exact; q < 2^-12 has an error of 2^-34. S (1 + r) is formed as a pair whose
first part is near g where the two cancel, so that their difference is exact.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

from .exp32 import POWERS, POWERS_LOW, STEP_HIGH, STEP_LOW, STEPS_PER_LOG, TAIL_FINE, clamp_above, clamp_below
from .language import (
    MANTISSA,
    add_product,
    add_sums,
    bits,
    copysign,
    fabs,
    fma,
    from_bits,
    grown,
    in_one,
    in_three,
    lookup_made,
    rarely,
    select,
    to_float,
    with_places,
)
from .pairs import two_diff, two_prod, two_sum
from .polynomials import horner
from .row_rests import log_softmax_vjp_rest
from .row_sums import (
    APART,
    DOWN,
    FINE_LIFT,
    FINE_ZERO,
    LIFT,
    POWERS64,
    POWERS_LOW64,
    ROUND,
    STEP_HIGH64,
    STEP_LOW64,
    STEPS_PER_LOG64,
    TAYLOR,
    add_four,
    add_three,
    add_three_and_pair,
    add_to_four,
    add_to_three,
    exp_fine,
)
from .rows import Reduction, RowFunction
from .triples import BIAS, exponent_field, settled

Lanes = Any
State = tuple[Lanes, ...]

# Where one e^y is next to 1 and its g nearly the sum, they cancel twice if the other g come to about g (e^-y - 1),
# which leaves little of the three parts of the sum. So the sum is taken together with the largest y and its g, and made
# again in four parts if those say so. What is beyond the end of a row reads as 0, where g is 0.


def _step_total(state: State, row: State, *_: Any) -> State:
    g, y = row
    larger_yet = (y > state[3]) & (g != 0.0)
    return *add_to_three(state[:3], g), select(larger_yet, y, state[3]), select(larger_yet, g, state[4])


def _begin_total(row: State, *_: Any) -> State:
    g, y = row
    zero = g.const(0.0)
    return g + 0.0, zero, zero, select((y > -inf) & (g != 0.0), y, -inf), g


def _merge_totals(a: State, b: State) -> State:
    larger_yet = b[3] > a[3]
    y, g = (select(larger_yet, there, here) for here, there in zip(a[3:], b[3:], strict=True))
    return *add_three(a[:3], b[:3]), y, g


TWICE, ONE_PROBABILITY = 2.0**-8, 2.0**-4


def _total(state: State, *_: Any) -> State:
    """The three parts of the sum, 0, and whether a fourth one is needed."""
    total, mid, low, y, g = state
    expm1 = y * fma(y, fma(y, 1.0 / 6.0, 0.5), 1.0)
    term = total * expm1
    left = (((g - total) - mid) - low) - term
    twice = (y > -ONE_PROBABILITY) & (fabs(left) < fabs(term) * TWICE)
    zero = total.const(0.0)
    return total, mid, low, zero, select(twice, total.const(1.0), zero)


_TOTAL = Reduction((0.0, 0.0, 0.0, -inf, 0.0), _step_total, _merge_totals, result=_total, begin=_begin_total)
_TOTAL_AGAIN = Reduction(
    (0.0, 0.0, 0.0, 0.0),
    lambda state, row, *_: add_to_four(state, row[0]),
    add_four,
    result=lambda total, *_: (*total, total[0].const(0.0)),
    when=lambda values, known: known[-1][4] != 0.0,
)

# On a CPU blocks are added up in float64: exactly, unless entries differ so much that their bits do not fit. Nor do the
# three parts of the row's sum round, unless the row's do not fit those. There is nothing to look for then; and where
# bits are lost, the four parts are made at once.

# All bits fit if the least g but 0 is larger than so much of a bound of all that is rounded: of the sum of all |g| in a
# lane, of the largest sum on the way in a block, and of the sum of those in the row.
IN_DOUBLE, IN_THREE = 2.0**-28, 2.0**-40


def _step_in_double(state: State, row: State, *_: Any) -> State:
    g = row[0]
    size, least = fabs(g), state[4]
    total = add_product(state[:2], g, g.const(1.0))
    return *total, state[2], state[3] + size, select(g != 0.0, clamp_above(least, size), least)


def _begin_in_double(row: State, *_: Any) -> State:
    g = row[0]
    size, zero = fabs(g), g.const(0.0)
    return *add_product((zero, zero), g, g.const(1.0)), zero, size, select(g != 0.0, size, inf)


def _merge_few_in_double(a: State, b: State) -> State:
    """Another bound, but the same sum: all bits fit if either says so."""
    return *add_sums(a[:2], b[:2]), a[2], a[3] + b[3], clamp_above(a[4], b[4])


def _merge_in_double(a: State, b: State) -> State:
    total = add_sums(a[:2], b[:2])
    size = clamp_below(fabs(in_one(total)), clamp_below(b[3], a[3]))
    return *total, a[2], size, clamp_above(a[4], b[4])


def _settle_in_double(state: State) -> State:
    *total, _, size, least = state
    return *in_three((total[0], total[1])), select(size * IN_DOUBLE < least, size, inf), least


def _join_in_double(a: State, b: State) -> State:
    return *add_three(a[:3], b[:3]), a[3] + b[3], clamp_above(a[4], b[4])


def _total_in_double(state: State, *_: Any) -> State:
    *total, size, least = state
    return *total, size.const(0.0), select(size * IN_THREE < least, size.const(0.0), 1.0)


_TOTAL32 = Reduction(
    (0.0, 0.0, 0.0, 0.0, inf),
    _step_in_double,
    _merge_in_double,
    _settle_in_double,
    _join_in_double,
    _total_in_double,
    few=((0.0, 0.0, 0.0, 0.0, inf), _merge_few_in_double),
    begin=_begin_in_double,
    end=lambda state: (*grown(state[:2]), *state[2:]),
)

# Where the sum overflows, though no result need do so, large g are summed up apart, `DOWN` times each. The last number
# says that this is what the sum is, and that the fourth part is the sum of the other g, as they are.

NEARLY_MOST = {32: 2.0**126, 64: 2.0**1022}
ALL_BUT_MOST = {32: 1.99 * 2.0**127, 64: 1.99 * 2.0**1023}


def _step_total_by_size(state: State, row: State, *_: Any) -> State:
    g = row[0]
    small = fabs(g) < APART[g.width]
    low = two_sum(state[3], select(small, g, 0.0))
    return *add_to_three(state[:3], select(small, 0.0, g * DOWN[g.width])), low[0], state[4] + low[1]


def _nearly_overflows(values: State, known: tuple[State, ...]) -> Lanes:
    """What adds up the parts of the sum must not overflow either."""
    total = known[-1][0]
    return ~(fabs(total) < NEARLY_MOST[total.width])


def _total_by_size(state: State, *_: Any) -> State:
    """Four parts of the sum; or, if that is too large, three for the large entries, and the sum of the others."""
    large, (small, small_low) = settled(*state[:3]), state[3:]
    up = 1.0 / DOWN[small.width]
    usual = fabs(large[0]) < ALL_BUT_MOST[small.width] * DOWN[small.width]
    parts = settled(*(select(usual, part * up, 0.0) for part in large), small, small_low)
    others = *large, small + small_low
    return *(select(usual, *both) for both in zip(parts, others, strict=False)), select(usual, small.const(0.0), 1.0)


_TOTAL_BY_SIZE = Reduction(
    (0.0,) * 5, _step_total_by_size, add_three_and_pair, result=_total_by_size, when=_nearly_overflows
)


# From the tables that tools/polynomials/exp32.py (float32) and tools/polynomials/row_sums.py (float64) compute:
ROOTS = {32: with_places(tuple(2.0**LIFT * power for power in POWERS), 32), 64: with_places(POWERS64, 64)}
ROOTS_LOW = {32: POWERS_LOW, 64: POWERS_LOW64}
INVERSES = {width: tuple(1.0 / root for root in roots) for width, roots in ROOTS.items()}
STEPS = {32: STEPS_PER_LOG, 64: STEPS_PER_LOG64}
HIGH, LOW = {32: STEP_HIGH, 64: STEP_HIGH64}, {32: STEP_LOW, 64: STEP_LOW64}
TAIL = {32: TAIL_FINE, 64: TAYLOR[2:]}  # of (e^r - 1 - r) / r^2

# The sums for which all is done in this way, and the power of two that e^y s must exceed: what is 2^-48 (2^-106) of it,
# and the result may be 2^-9 of it, is not lost below the least float.
LEAST, MOST = {32: 2.0**-90, 64: 2.0**-900}, {32: 2.0**120, 64: 2.0**1000}
FLOOR = {32: -112, 64: -1000}
# Up to here e^y s is less than half of the least float; next to nothing but masked entries.
GONE = {32: -188.0, 64: -1440.0}
NEVER = -1e4  # further down than any of these, and not so far that r^5 overflows
NEAR = {32: -(2.0**-20), 64: -(2.0**-49)}  # y next to 0, where the rounding of s shows if g = s
CANCELLED, PART = 2.0**-9, 0.8
LN2 = 0.6931471805599453


def _power_times(power: Lanes, low: Lanes, inverse: Lanes, j: Lanes, s: Lanes, s_inverse: Lanes, s_low: Lanes) -> State:
    """s 2^(j/16), with j taken off its bits, and what its rounding error is to it."""
    product, error = two_prod(power, s)
    return from_bits(bits(product) - (j << (MANTISSA[s.width] - 4))), fma(error, inverse * s_inverse, low + s_low)


def _finish_log_softmax_vjp(values: State, known: tuple[State, ...]) -> State:
    """The sum, its inverse, its low part over it, what follows for y; all its parts.

    Where the sum is 0 so is all that is made of it, and any y will do. A sum that is not for here is as if it were 0,
    but no y will do.
    """
    *parts, last, smaller = known[-1]
    apart = smaller != 0.0
    total, low, third, fourth = settled(*parts, select(apart, 0.0, last))
    w = total.width
    here = (fabs(total) <= MOST[w]) & ~apart
    usual = (fabs(total) >= LEAST[w]) & here
    inverse = select(usual, 1.0 / select(usual, total, 1.0), 0.0)
    bottom = to_float(exponent_field(total) - (BIAS[w] + FLOOR[w])) * -LN2
    top = select(usual, select(low == 0.0, total.const(0.0), NEAR[w]), select(total == 0.0, total.const(0.0), NEVER))
    return (
        select(usual, total, total - total),  # NaN or 0
        inverse,
        select(usual, low * inverse, 0.0),
        select(usual, total.const(STEPS[w]), 0.0),
        select(usual, bottom, NEVER),
        top,
        select(here, total.const(GONE[w]), -inf),
        total,
        low,
        third,
        select(apart, last, fourth),
        smaller,
    )


def _write_log_softmax_vjp(row: State, values: State, position: Lanes, done: State) -> State:
    g, y = row
    s, s_inverse, s_low, steps_per_log, bottom, top, gone, *total = done
    w = g.width
    d = select(y < bottom, bottom, y)
    d = select(d > top, top, d)
    shifted = fma(d, steps_per_log, ROUND[w])
    steps = shifted - ROUND[w]
    r = fma(steps, -HIGH[w], d)
    i = bits(shifted)
    power, low = lookup_made(_power_times, (ROOTS[w], ROOTS_LOW[w], INVERSES[w]), i, (s, s_inverse, s_low))
    nothing = y < gone  # a masked entry, then: the result is g
    power = select(nothing, 0.0, from_bits(bits(power) + (i << (MANTISSA[w] - 4))))
    low = fma(steps, -LOW[w], low)
    # low r^2 / 2 shows where g and the product cancel; in float32 low is too small for that.
    low_and_more = fma(low * 0.5, r, low) if w == 64 else low
    q = fma(r, fma(r, horner(r, TAIL[w]), low_and_more), low)
    near = fma(power, r, power)
    result = (g - near) - fma(power, q, fma(power, r, power - near))
    # Next to y = 0 only g - s may cancel: e^y - 1 has as many bits as r.
    least = power * (select(y > -CANCELLED, y, -CANCELLED) * copysign(s.const(PART), -s))
    right = ((d == y) | nothing) & (fabs(result) >= least)
    return rarely(~right, _log_softmax_vjp_anywhere, (g, y, *total), (result,))


LARGE = {32: 2.0**24, 64: 2.0**200}
FAR = -16.0


def _log_softmax_vjp_anywhere(
    g: Lanes, y: Lanes, total: Lanes, total_low: Lanes, third: Lanes, fourth: Lanes, smaller: Lanes
) -> tuple[Lanes]:
    """The same for any y, and any sum; and where the two terms cancel. The sum may be `smaller` than it should be."""
    w = total.width
    down = 2.0 ** -FINE_LIFT[w]
    # The product is to take the 2^-FINE_LIFT of the exponentials, unless the sum is large. Then the sum takes it, or,
    # where all its parts may count, the exponential itself; it is g that is made smaller with the sum.
    smaller = smaller != 0.0
    others, fourth = fourth, select(smaller, fourth * DOWN[w], fourth)
    large = (fabs(total) >= LARGE[w]) | smaller
    near = large & (y > FAR)
    far = large & ~near
    unit = select(smaller, total.const(1.0 / DOWN[w]), 1.0)  # of what is in place of the sum
    before = select(far, unit * down, 1.0)
    unit = select(far, total.const(1.0 / down), unit)
    after = select(large, total.const(1.0), down)
    back = select(near, unit, 1.0)
    total, total_low, third, fourth = (part * before for part in (total, total_low, third, fourth))
    s, r, q = exp_fine(y)
    s = s * select(near, total.const(down), 1.0)
    p, p_low = two_prod(s, total)
    low = fma(s, total_low, p_low)
    more = fma(p, q, fma(low, r, low))
    p = p * after
    d, d_low = two_diff(g * select(near & smaller, total.const(DOWN[w]), 1.0), p)
    left = fma(-p, r, d)
    result = left + fma(-after, more, d_low)
    result = select(fabs(d) == inf, d, result) * back - select(smaller & near, s * fma(r, others, others), 0.0)
    cancelled = fabs(result * 1.25) < fabs(g * select(y > -FINELY, y, -FINELY))
    # or where the exponential was too small, but not for a sum that is so large
    zero = FINE_ZERO[w]
    cancelled = cancelled | (large & (y < zero + 1.0) & (y > 2.0 * zero))
    return rarely(cancelled, log_softmax_vjp_rest, (g, y, total, total_low, third, fourth, unit), (result,))


FINELY = 1.25 * 2.0**-10

_LOG_SOFTMAX_VJP = RowFunction(
    name="log_softmax_vjp",
    signature="(n),(n)->(n)",
    rows=(0.0, 0.0),
    passes=(_TOTAL, _TOTAL_AGAIN, _TOTAL_BY_SIZE),
    finish=_finish_log_softmax_vjp,
    write=_write_log_softmax_vjp,
)
LOG_SOFTMAX_VJP = replace(
    _LOG_SOFTMAX_VJP, on_cpu32=replace(_LOG_SOFTMAX_VJP, passes=(_TOTAL32, _TOTAL_AGAIN, _TOTAL_BY_SIZE))
)
