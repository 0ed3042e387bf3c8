"""Projections of a row on the simplex: sparsemax and entmax15, and the choice of its largest entry, hardmax.

Both projections are `p_i = f(x_i - tau)`, 0 where x_i <= tau, with tau such that they add up to 1. The set of entries
above tau, the support, is all that has to be found. No sort is needed: from any tau below the true one Newton's step
leads to a better one that is still below, because what is to be solved is convex, and the support shrinks at each step
until it stands. That is done in plain arithmetic, with room for its errors.

The last word is exact. Let s be the smallest entry of the support found. Then everything is a sum of positive terms
w_i = x_i - s, which a pair holds exactly, but one difference: that of their sum to what it has to stay below. It is
taken from a sum of three parts. Its sign says whether s belongs to the support, and its size, how far tau is below s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan
from typing import Any

from .language import bits, fabs, fma, from_bits, rarely, select, sqrt
from .pairs import fast_two_sum, multiply_pairs, two_diff, two_prod, two_sum
from .row_sums import APART, DOWN, LIFTED, add_pair_to_three, add_three, add_three_and_pair, normal
from .rows import Reduction, RowFunction

Lanes = Any
State = tuple[Lanes, ...]

# Room for the errors of the plain arithmetic that looks for the support, in units of half an ULP of 1.
ROUNDING = {32: 2.0**-24, 64: 2.0**-53}
CLOSE = 1.0 - 2.0**-18
# How far below the largest entry one is looked at, in units of `reach`: rounding may take it beyond.
REACH = 1.0 + 2.0**-20


@dataclass(frozen=True, slots=True)
class Projection:
    """A row function whose result is 0 but for a support that is to be found.

    Entries that are `reach` or more below the largest are never in the support. A step of the search folds the support
    so far with `sums` (by how much an entry is above tau; 1 if it is) from `zeros` on; `advance(sums, gap, relative)`
    says whether its smallest entry, `gap` above tau, is out, and how far tau can move at least, if every sum has the
    relative error `relative` at most.

    `exact` folds it once more from `exact_zeros` on, with (w, its low part, 1); `settle` makes of that what is left
    (negative: the smallest entry is out, and so are all up to the last result above it), and the distance of tau below
    the smallest entry, as a pair, which `write` turns into the results. `merge_exact` joins two of its states.
    """

    name: str
    reach: float
    zeros: int
    sums: Callable[[State, Lanes, Lanes], State]
    advance: Callable[[State, Lanes, Lanes], tuple[Lanes, Lanes]]
    exact_zeros: int
    exact: Callable[[State, Lanes, Lanes, Lanes], State]
    merge_exact: Callable[[State, State], State]
    settle: Callable[[State], tuple[Lanes, Lanes, Lanes, Lanes]]
    write: Callable[[Lanes, Lanes, Lanes, Lanes], Lanes]


def add(a: State, b: State) -> State:
    """Plain sums."""
    return tuple(x + y for x, y in zip(a, b, strict=True))


def larger(a: State, b: State) -> State:
    """The larger one; NaN wins."""
    return (select((b[0] > a[0]) | (b[0] != b[0]), b[0], a[0]),)


def _left(limit: float, total: State) -> tuple[Lanes, Lanes]:
    """limit - total as a normal pair, right where all but the last of three parts cancel."""
    h, e = two_diff(total[0].const(limit), total[0])
    mid, e2 = two_diff(e, total[1])
    h, mid = two_sum(h, mid)
    mid, e = two_sum(mid, e2 - total[2])
    h, mid = fast_two_sum(h, mid)
    return fast_two_sum(h, mid + e)


def _divide(hi: Lanes, lo: Lanes, d: Lanes, d_low: Lanes) -> tuple[Lanes, Lanes]:
    """(hi + lo) / (d + d_low) as a pair."""
    q = hi / d
    return q, (fma(-q, d, hi) + fma(-q, d_low, lo)) / d


# --- sparsemax: p = max(x - tau, 0)


def _sums_sparsemax(state: State, above: Lanes, one: Lanes) -> State:
    return state[0] + above, state[1] + one


def _advance_sparsemax(state: State, gap: Lanes, relative: Lanes) -> tuple[Lanes, Lanes]:
    total, count = state
    gain = (total - 1.0) / count
    room = relative * (total / count + 1.0)
    return gain - gap > room, gain - room


def _exact_sparsemax(state: State, w: Lanes, w_low: Lanes, one: Lanes) -> State:
    return (*add_pair_to_three(state[:3], w, w_low), state[3] + one)


def _merge_sparsemax(a: State, b: State) -> State:
    return (*add_three(a[:3], b[:3]), a[3] + b[3])


def _settle_sparsemax(state: State) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    count = state[3]
    left, left_low = _left(1.0, state[:3])
    below, below_low = _divide(left, left_low, count, count.const(0.0))
    return left, below, below_low, -below


def _write_sparsemax(w: Lanes, w_low: Lanes, below: Lanes, below_low: Lanes) -> Lanes:
    h, e = two_sum(w, below)
    return h + (e + (w_low + below_low))


SPARSEMAX = Projection(
    name="sparsemax",
    reach=1.0,
    zeros=2,
    sums=_sums_sparsemax,
    advance=_advance_sparsemax,
    exact_zeros=4,
    exact=_exact_sparsemax,
    merge_exact=_merge_sparsemax,
    settle=_settle_sparsemax,
    write=_write_sparsemax,
)


# --- entmax15: p = max(x / 2 - tau, 0)^2; in what follows twice tau is meant, so that the squares add up to 4


def _sums_entmax15(state: State, above: Lanes, one: Lanes) -> State:
    return fma(above, above, state[0]), state[1] + above, state[2] + one


def _advance_entmax15(state: State, gap: Lanes, relative: Lanes) -> tuple[Lanes, Lanes]:
    squares, total, count = state
    # Newton's step for the root of the sum of squares: for a single entry it would be exact, and it never goes too far
    gain = (squares - 2.0 * sqrt(squares)) / total
    room = relative * (squares / total + 2.0)
    # the sum of squares with tau at the smallest entry
    at_smallest = squares - gap * (total + (total - gap * count))
    return at_smallest - 4.0 > relative * (squares + 4.0 * total), gain - room


def _exact_entmax15(state: State, w: Lanes, w_low: Lanes, one: Lanes) -> State:
    square, rest = two_prod(w, w)
    cross, rest2 = two_prod(w + w, w_low)
    total, total_low, count = state[3:]
    squares = add_pair_to_three(add_pair_to_three(state[:3], square, rest), cross, fma(w_low, w_low, rest2))
    total, e = two_sum(total, w)
    return (*squares, total, total_low + (e + w_low), count + one)


def _merge_entmax15(a: State, b: State) -> State:
    return (*add_three_and_pair(a[:5], b[:5]), a[5] + b[5])


def _settle_entmax15(state: State) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    total, total_low, count = state[3:]
    left, left_low = _left(4.0, state[:3])
    total, total_low = fast_two_sum(total, total_low)
    # tau is below the smallest entry by d with count d^2 + 2 total d = left
    h, low = multiply_pairs(total, total_low, total, total_low)
    more, e = two_prod(left, count)
    h, e2 = two_sum(h, more)
    low = low + (e2 + fma(left_low, count, e))
    positive = h > 0.0
    root = sqrt(select(positive, h, 1.0))
    root_low = (fma(-root, root, h) + low) / (root + root)
    d, e = two_sum(total, select(positive, root, 0.0))
    below, below_low = _divide(left, left_low, d, e + (total_low + select(positive, root_low, 0.0)))
    # a sum of squares above 4: Newton's step for its root
    norm = sqrt(4.0 - left)
    return left, below, below_low, norm * -left / ((norm + 2.0) * total)


def _write_entmax15(w: Lanes, w_low: Lanes, below: Lanes, below_low: Lanes) -> Lanes:
    h, e = two_sum(w, below)
    h, e = 0.5 * h, 0.5 * (e + (w_low + below_low))
    return fma(h, h, 2.0 * h * e)


ENTMAX15 = Projection(
    name="entmax15",
    reach=2.0,
    zeros=3,
    sums=_sums_entmax15,
    advance=_advance_entmax15,
    exact_zeros=6,
    exact=_exact_entmax15,
    merge_exact=_merge_entmax15,
    settle=_settle_entmax15,
    write=_write_entmax15,
)


# --- their vector-Jacobian products, from the saved output: entries outside the support have the gradient 0, whatever g


def _supported(y: Lanes) -> Lanes:
    """The support; NaN belongs to it and so reaches the result."""
    return (y > 0.0) | (y != y)


def _step_sparsemax_vjp(state: State, row: State, *_: Any) -> State:
    g, y = row
    inside, zero = _supported(y), g.const(0.0)
    count, e = two_sum(state[3], select(inside, g.const(1.0), 0.0))
    return (*add_pair_to_three(state[:3], select(inside, g, 0.0), zero), count, state[4] + e)


def _mean_sparsemax(total: State, *_: Any) -> State:
    """The mean of g as a pair, and what their sum was divided by."""
    return *_divide(*normal(total[:3]), *total[3:]), *total[3:]


# Where the sum overflows, though the mean does not, large terms are summed up apart, `DOWN` times each.

MOST = {32: 2.0**120, 64: 2.0**1000}
LARGE_MEAN = {32: 2.0**100, 64: 2.0**960}  # next to none that is smaller does a difference overflow


def _overflows(values: State, known: tuple[State, ...]) -> Lanes:
    mean, _, count, _ = known[-1]
    return ~(fabs(mean) < inf) & (count > 0.0)


def _one(x: Lanes) -> tuple[Lanes, Lanes]:
    return x.const(1.0), x.const(0.0)


def _by_size(state: State, g: Lanes, root: Lanes, root_low: Lanes) -> State:
    """Add the product of g and a pair."""
    small = fabs(g) < APART[g.width]
    large = select(small, 0.0, g * DOWN[g.width])
    product, rest = two_prod(root, large)
    total = add_pair_to_three(state[:3], product, fma(root_low, large, rest))
    small = select(small, g, 0.0)
    product, rest = two_prod(root, small)
    low, e = two_sum(state[3], product)
    return *total, low, state[4] + (e + fma(root_low, small, rest))


def _mean_by_size(state: State, values: State, known: tuple[State, ...]) -> State:
    large, (small, small_low), zero = normal(state[:3]), state[3:], state[0].const(0.0)
    down = DOWN[zero.width]
    most = MOST[zero.width] * down  # of the sum, and of the mean
    usual = (fabs(large[0]) < most) & (fabs(large[0]) < known[-1][2] * most)
    up = select(usual, zero.const(1.0), 1.0 / down)
    before, down = select(usual, zero.const(1.0 / down), 1.0), select(usual, zero.const(1.0), down)
    parts = add_three((large[0] * before, large[1] * before, zero), (small * down, small_low * down, zero))
    # made normal before it is brought up: the first part may be rounded to more than any g is
    mean, low = fast_two_sum(*_divide(*normal(parts), *known[-1][2:]))
    return mean * up, low * up, *known[-1][2:]


def _mean_again(weight: Callable[[Lanes], tuple[Lanes, Lanes]]) -> Reduction:
    """The mean of g, where its sum overflowed; `weight` is that of an output, as a pair."""

    def step(state: State, row: State, *_: Any) -> State:
        g, y = row
        return _by_size(state, select(_supported(y), g, 0.0), *weight(y))

    return Reduction((0.0,) * 5, step, add_three_and_pair, result=_mean_by_size, when=_overflows)


def _finish_vjp(values: State, known: tuple[State, ...]) -> State:
    """The mean, and whether it is so large that a difference may overflow."""
    mean, low = known[-1][:2]
    return mean, low, select(fabs(mean) < LARGE_MEAN[mean.width], mean.const(0.0), 1.0)


def _write_sparsemax_vjp(row: State, values: State, position: Lanes, done: State) -> State:
    g, y = row
    mean, mean_low, large = done
    hi, lo = two_diff(g, mean)
    (result,) = rarely(large != 0.0, _infinite_if_it_is, (hi, hi + (lo - mean_low)), (hi + (lo - mean_low),))
    return (select(y != y, y, select(y > 0.0, result, 0.0)),)


def _infinite_if_it_is(difference: Lanes, result: Lanes) -> tuple[Lanes]:
    return (select(fabs(difference) == inf, difference, result),)


SPARSEMAX_VJP = RowFunction(
    name="sparsemax_vjp",
    signature="(n),(n)->(n)",
    rows=(0.0, 0.0),
    passes=(
        Reduction((0.0,) * 5, _step_sparsemax_vjp, add_three_and_pair, result=_mean_sparsemax),
        _mean_again(_one),
    ),
    finish=_finish_vjp,
    write=_write_sparsemax_vjp,
)


# Outputs are multiplied by this, lest what the rounded root leaves of them underflow.
SQUARE_UP, ROOT_DOWN = {32: 2.0**60, 64: 2.0**120}, {32: 2.0**-30, 64: 2.0**-60}


def _root(y: Lanes) -> tuple[Lanes, Lanes]:
    """The square root of an output as a pair; 0 for 0, where the gradient is not wanted."""
    up, down = SQUARE_UP[y.width], ROOT_DOWN[y.width]
    y = y * up
    root = sqrt(y)
    rest = fma(-root, root, y) / (root + root)
    return root * down, select(y > 0.0, rest * down, 0.0)


def _step_entmax15_vjp(state: State, row: State, *_: Any) -> State:
    g, y = row
    root, root_low = _root(y)
    inside = _supported(y)
    g = select(inside, g * LIFTED[g.width], 0.0)
    product, rest = two_prod(root, g)
    return (
        *add_pair_to_three(state[:3], product, fma(root_low, g, rest)),
        *add_pair_to_three(state[3:], root, root_low),
    )


def _merge_entmax15_vjp(a: State, b: State) -> State:
    return (*add_three(a[:3], b[:3]), *add_three(a[3:], b[3:]))


def _mean_entmax15(total: State, *_: Any) -> State:
    """The mean of g, weighted with the roots, as a pair, and the sum of these."""
    roots, lifted = normal(total[3:]), LIFTED[total[0].width]
    mean, low = (part * (1.0 / lifted) for part in _divide(*normal(total[:3]), *roots))
    return mean, low, *roots


def _write_entmax15_vjp(row: State, values: State, position: Lanes, done: State) -> State:
    g, y = row
    mean, mean_low, large = done
    root, root_low = _root(y)
    gradient = _times_difference(root, root_low, g, mean, mean_low)
    (gradient,) = rarely(large != 0.0, _of_large_mean, (root, root_low, g, mean, mean_low, gradient), (gradient,))
    return (select(y != y, y, select(y > 0.0, gradient, 0.0)),)


def _times_difference(root: Lanes, root_low: Lanes, g: Lanes, mean: Lanes, mean_low: Lanes) -> Lanes:
    hi, lo = two_diff(g, mean)
    lo = lo - mean_low
    product = root * hi
    return product + (fma(root, hi, -product) + fma(root_low, hi, root * lo))


def _of_large_mean(
    root: Lanes, root_low: Lanes, g: Lanes, mean: Lanes, mean_low: Lanes, gradient: Lanes
) -> tuple[Lanes]:
    """The gradient, found by a difference that does not overflow if it is not finite."""
    down = DOWN[g.width]
    again = _times_difference(root, root_low, *(part * down for part in (g, mean, mean_low))) * (1.0 / down)
    return (select(fabs(gradient) < inf, gradient, again),)


ENTMAX15_VJP = RowFunction(
    name="entmax15_vjp",
    signature="(n),(n)->(n)",
    rows=(0.0, 0.0),
    passes=(
        Reduction((0.0,) * 6, _step_entmax15_vjp, _merge_entmax15_vjp, result=_mean_entmax15),
        _mean_again(_root),
    ),
    finish=_finish_vjp,
    write=_write_entmax15_vjp,
)


# --- hardmax: 1 for the first of the largest entries


def _step_first(state: State, row: State, values: State, position: Lanes, *_: Any) -> State:
    """The largest entry and its place, as bits; NaN wins."""
    x = row[0]
    more = (x > state[0]) | (x != x)
    return select(more, x, state[0]), select(more, from_bits(position), state[1])


def _merge_first(a: State, b: State) -> State:
    before = (b[0] == a[0]) & (bits(b[1]) < bits(a[1]))
    more = (b[0] > a[0]) | (b[0] != b[0]) | before
    return select(more, b[0], a[0]), select(more, b[1], a[1])


def _finish_hardmax(values: State, known: tuple[State, ...]) -> State:
    top, place = known[0]
    finite = top - top == 0.0
    return place, select(finite, top.const(1.0), nan), select(finite, top.const(0.0), nan)


HARDMAX = RowFunction(
    name="hardmax",
    signature="(n)->(n)",
    rows=(-inf,),
    passes=(Reduction((-inf, 0.0), _step_first, _merge_first),),
    finish=_finish_hardmax,
    write=lambda row, values, position, done: (select(position == bits(done[0]), done[1], done[2]),),
    refuses_empty=True,
    positions=True,
)
