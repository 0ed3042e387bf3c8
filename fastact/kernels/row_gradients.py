"""The vector-Jacobian products of softmax and log_softmax, from the saved output."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

from .exp32 import POWERS, POWERS_LOW, STEP_HIGH, STEP_LOW, STEPS_PER_LOG, TAIL_FINE
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
    in_two,
    lookup_made,
    rarely,
    select,
    to_float,
    with_places,
)
from .pairs import two_diff, two_prod, two_sum
from .polynomials import horner
from .row_rests import exponent_field, log_softmax_vjp_rest
from .row_sums import (
    APART,
    DOWN,
    FINE_LIFT,
    FINE_ZERO,
    LIFT,
    LIFTED,
    POWERS64,
    POWERS_LOW64,
    ROUND,
    STEP_HIGH64,
    STEP_LOW64,
    STEPS_PER_LOG64,
    TAYLOR,
    add_four,
    add_pair_to_three,
    add_three,
    add_three_and_pair,
    add_to_four,
    add_to_three,
    exp_fine,
    normal,
)
from .rows import Reduction, RowFunction
from .triples import BIAS, settled

Lanes = Any
State = tuple[Lanes, ...]

# --- softmax: y (g - s), s the sum of all g y
#
# Where one y is next to 1 and its g next to s, all the other products may be what is left, however small they are. So
# all products are formed of LIFTED y, lest their rounding errors underflow. That overflows if g is large. Then, they
# are formed as they are, and only what underflows is made up for; and if s overflows too, though no result need do so,
# they are formed of DOWN g. There is nothing to make up for then, as no g comes near s.

EXACT = {32: 2.0**-60, 64: 2.0**-800}  # a product has an error that is a float, if it is larger


def _step_dot(state: State, row: State, *_: Any) -> State:
    g, y = row
    return add_pair_to_three(state, *two_prod(g, y * LIFTED[y.width]))


def _begin_dot(row: State, *_: Any) -> State:
    g, y = row
    p, p_low = two_prod(g, y * LIFTED[y.width])
    return p + 0.0, p_low + 0.0, p.const(0.0)  # no sum begins with -0


def _dot(total: State, *_: Any) -> State:
    """The sum as a pair, 0, and the sum times DOWN."""
    lifted = LIFTED[total[0].width]
    s, s_low = (part * (1.0 / lifted) for part in normal(total))
    return s, s_low, s.const(0.0), s * DOWN[s.width]


def _overflows(values: State, known: tuple[State, ...]) -> Lanes:
    return ~(fabs(known[-1][0]) < inf)


_EXACT_DOT = Reduction((0.0, 0.0, 0.0), _step_dot, add_three, result=_dot, begin=_begin_dot)


def _step_wide_dot(state: State, row: State, *_: Any) -> State:
    """The last part of the sum is kept multiplied by LIFTED."""
    g, y = row
    lifted = LIFTED[y.width]
    p, rest = two_prod(g, y)
    lost = fma(g, y * lifted, -(p * lifted)) - rest * lifted
    hi, e = two_sum(state[0], p)
    mid, e2 = two_sum(state[1], e)
    mid, e3 = two_sum(mid, rest)
    return hi, mid, state[2] + fma(e2 + e3, lifted, select(fabs(p) < EXACT[p.width], lost, 0.0))


def _merge_wide_dots(a: State, b: State) -> State:
    h, e = two_sum(a[0], b[0])
    mid, e2 = two_sum(a[1], b[1])
    mid, e3 = two_sum(mid, e)
    return h, mid, fma(e2 + e3, LIFTED[h.width], a[2] + b[2])


def _wide_dot(total: State, *_: Any) -> State:
    hi, mid, low = total
    s, s_low = normal((hi, mid, low * (1.0 / LIFTED[low.width])))
    return s, s_low, s.const(0.0), s * DOWN[s.width]


def _step_low_dot(state: State, row: State, *_: Any) -> State:
    g, y = row
    return add_pair_to_three(state, *two_prod(g * DOWN[g.width], y))


def _low_dot(total: State, *_: Any) -> State:
    s, s_low = normal(total)
    up = 1.0 / DOWN[s.width]
    return s * up, s_low * up, s.const(0.0), s


_WIDE_DOT = Reduction((0.0, 0.0, 0.0), _step_wide_dot, _merge_wide_dots, result=_wide_dot, when=_overflows)
_LOW_DOT = Reduction((0.0, 0.0, 0.0), _step_low_dot, add_three, result=_low_dot, when=_overflows)

LARGE_DOT = {32: 2.0**100, 64: 2.0**960}  # next to none that is smaller does a g - s overflow


def _finish_softmax_vjp(values: State, known: tuple[State, ...]) -> State:
    """The sum as a pair; times DOWN if it is large, else 0."""
    s, s_low, _, s_down = known[-1]
    return s, s_low, select(fabs(s) < LARGE_DOT[s.width], 0.0, s_down)


def _write_softmax_vjp(row: State, values: State, position: Lanes, done: State) -> State:
    # Where g comes near the sum the difference is exact, and never smaller than the sum's low part.
    g, y = row
    s, s_low, s_down = done
    result = fma(y, g - s, -(y * s_low))
    return rarely(s_down != 0.0, _softmax_vjp_of_large, (g, y, s_low, s_down, result), (result,))


def _softmax_vjp_of_large(g: Lanes, y: Lanes, s_low: Lanes, s_down: Lanes, result: Lanes) -> tuple[Lanes]:
    """The result, found by a g - s that does not overflow if it is not finite."""
    down = DOWN[g.width]
    d = fma(g, down, -s_down)
    far = fma(y, d, -(y * (s_low * down))) * (1.0 / down)
    near = fma(y, d * (1.0 / down), -(y * s_low))  # also where s itself overflows
    again = select(fabs(d) < LARGE_DOT[g.width] * down, near, far)
    return (select(fabs(result) < inf, result, again),)


# On a CPU the sum is kept in float64. In rows of up to 2^14 elements an addend goes through 31 additions at most, in
# longer ones through one more for each so many: the error is below 2^-48 of the sum of all |g y|, in rows of `MANY`
# elements twice that. It does not matter unless some g is as close to the sum as `CLOSE` of that, or twice. So the
# closest is looked for, and where it is too close the sum is made as it is elsewhere.

CLOSE, MANY = 2.0**-23, 1 << 19


def _step_products(state: State, row: State, *_: Any) -> State:
    g, y = row
    return (*add_product(state[:2], g, y), state[2] + fabs(g * y))


def _products(total: State, values: State, known: tuple[State, ...]) -> State:
    more = fma(to_float(values[0]), 1.0 / MANY, 1.0)
    return (*in_two(total[:2]), total[2] * CLOSE * more)


_PRODUCTS = Reduction(
    (0.0, 0.0, 0.0),
    _step_products,
    lambda a, b: (*add_sums(a[:2], b[:2]), a[2] + b[2]),
    result=_products,
    end=lambda state: (*grown(state[:2]), state[2]),
)


def _smaller(a: State, b: State) -> State:
    return (select(b[0] < a[0], b[0], a[0]),)


def _step_closest(state: State, row: State, values: State, position: Lanes, known: tuple[State, ...]) -> State:
    return _smaller(state, (fabs(row[0] - known[0][0]),))


def _closest(total: State, values: State, known: tuple[State, ...]) -> State:
    s, s_low, close = known[0]
    return s, s_low, select(total[0] < close, s.const(1.0), 0.0), s * DOWN[s.width]


_CLOSEST = Reduction((inf,), _step_closest, _smaller, result=_closest, repeats=True)
_DOT_AGAIN = replace(_WIDE_DOT, when=lambda values, known: (known[-1][2] != 0.0) | _overflows(values, known))

_SOFTMAX_VJP32 = RowFunction(
    name="softmax_vjp",
    signature="(n),(n)->(n)",
    rows=(0.0, 0.0),
    passes=(_PRODUCTS, _CLOSEST, _DOT_AGAIN, _LOW_DOT),
    finish=_finish_softmax_vjp,
    write=_write_softmax_vjp,
    length=True,
)
SOFTMAX_VJP = replace(_SOFTMAX_VJP32, passes=(_EXACT_DOT, _WIDE_DOT, _LOW_DOT), length=False, on_cpu32=_SOFTMAX_VJP32)


# --- log_softmax: g - e^y s, s the sum of all g
#
# e^y s = S (1 + r + q), S = 2^n (s 2^(j/16)) rounded, as in exp32: s goes into the table of powers, which is made once
# a row where all lanes are of one row. r is exact; q < 2^-12 has an error of 2^-34. S (1 + r) is formed as a pair whose
# first part is near g where the two cancel, so that their difference is exact.


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

LOG_SOFTMAX_VJP = RowFunction(
    name="log_softmax_vjp",
    signature="(n),(n)->(n)",
    rows=(0.0, 0.0),
    passes=(_TOTAL, _TOTAL_AGAIN, _TOTAL_BY_SIZE),
    finish=_finish_log_softmax_vjp,
    write=_write_log_softmax_vjp,
)
