"""Cross entropy of logits, a row each, against a class or a distribution: the value, and its gradient by the logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any, NamedTuple

from .language import fabs, fma, rarely, select
from .pairs import two_diff, two_prod, two_sum
from .row_parts import FURTHER, rebase_others, usual_units
from .row_sums import LIFT, add_three, add_to_three, exp_of_row, inverse, log_of_pair, normal, pair_at_largest
from .rows import MAXIMUM_EXACT, OTHER_TERMS, OTHERS, SHIFT, Reduction, RowFunction, exp_term, others_again

Lanes = Any
State = tuple[Lanes, ...]


# --- entries so far below the largest one that they count only because of a weight
#
# Their exponentials are formed that much further down than elsewhere; a second attempt goes as far as others do.


def _largest_of_weighted(total: State, values: State, known: tuple[State, ...]) -> State:
    c, k, bottom, *others = MAXIMUM_EXACT.result(total, values, known)
    return c, k, bottom - FURTHER[bottom.width], *others


def _usual(relative: State) -> State:
    c, k, bottom, *others = relative
    return c, k, bottom + FURTHER[bottom.width], *others


_second = others_again()


def _step_again(state: State, row: State, values: State, position: Lanes, known: tuple[State, ...]) -> State:
    return _second.step(state, row, values, position, (_usual(known[0]), *known[1:]))


_rebase = rebase_others(lambda part, row, values: usual_units(part, _usual(row), values))

LARGEST = replace(MAXIMUM_EXACT, result=_largest_of_weighted)
FAR_OTHERS = replace(OTHERS, rebase=_rebase)
FAR_OTHER_TERMS = replace(OTHER_TERMS, rebase=_rebase)
AGAIN = replace(_second, step=_step_again)


# --- factors: nothing is rounded to a subnormal number before it is multiplied

DOWN = 2.0**-LIFT


def _log_of_all(others: State, top: Lanes, top_low: Lanes) -> tuple[State, State, Lanes]:
    """The logarithm of a row's sum over its largest term, and 2^LIFT times it, as pairs; whether that is below 1.

    The second one is right only there.
    """
    count, hi, lo = others[:3]
    top, top_low = top * DOWN, top_low * DOWN
    q = hi / top
    rest = (fma(-q, top_low, fma(-q, top, hi)) + lo) / top
    h, e = two_sum(count, q * DOWN)
    # log(1 + q) is q
    return log_of_pair(*two_sum(h, e + rest * DOWN)), (q, rest), (count == 1.0) & (q < 1.0)


def _factor(weight: Lanes, r: Lanes, r_low: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """weight (r + r_low) as a pair, times a power of two that keeps it normal, and what undoes that."""
    small = fabs(weight) < 1.0
    weight = weight * select(small, r.const(UP), 1.0)
    hi, lo = two_prod(weight, r)
    lo = fma(weight, r_low, lo)
    return hi, select(fabs(lo) < inf, lo, 0.0), select(small, r.const(1 / UP), 1.0)


UP = 2.0**100


def _sum_without(others: State, top: Lanes, top_low: Lanes, t: Lanes, t_low: Lanes) -> tuple[Lanes, Lanes]:
    """The sum of a row's exponentials less the pair t, exactly the others where that is the largest; a normal pair."""
    count, hi, lo = others[:3]
    p, rest = two_prod(count, top)
    h, e = two_sum(p, -t)
    h, e2 = two_sum(h, hi)
    return two_sum(h, e + e2 + (rest + fma(count, top_low, -t_low) + lo))


# --- against one class a row: w (log sum_j e^(x_j - m) + m - x_t)


def _finish_class(values: State, known: tuple[State, ...]) -> State:
    relative, _, others = known
    m, adjusted = relative[4:]
    _, weight, target = values
    top, top_low = pair_at_largest(relative, adjusted)
    nothing = m.const(0.0)
    loss = _class_loss(weight, m, target, *_log_of_all(others, top, top_low))
    _, s, rest = exp_of_row(target, relative, adjusted)
    t = fma(s, rest, s)
    r, r_low, down = _factor(weight, *inverse(*_sum_without(others, top, top_low, nothing, nothing)))
    left, left_low = _sum_without(others, top, top_low, t, fma(s, rest, s - t))
    share = fma(left, r, fma(left, r_low, left_low * r)) * down
    zero = weight == 0.0
    return select(zero, 0.0, loss), r, r_low, down, select(zero, 0.0, -share)


def _class_loss(weight: Lanes, m: Lanes, target: Lanes, log: State, lifted: State, small: Lanes) -> Lanes:
    d = m - target
    half = select(d == inf, d.const(0.5), 1.0)  # of two finite numbers, if it is not infinite then
    d, d_low = two_diff(half * m, half * target)
    small = small & (d == 0.0)
    unit = select(small, d.const(DOWN), select(half < 1.0, d.const(2.0), 1.0))
    h, e = two_sum(d, select(small, lifted[0], half * log[0]))
    low = e + (select(small, lifted[1], half * log[1]) + d_low)
    infinite = d == inf
    h, low = select(infinite, d, h), select(infinite, 0.0, low)
    p, rest = two_prod(weight, h)
    return select(fabs(p) < inf, p + fma(weight, low, rest), p) * unit


def _write_class_gradient(row: State, values: State, position: Lanes, done: State) -> State:
    e, (_, r, r_low, down, at_target) = row[-1], done
    index, weight = values[:2]
    p = fma(e, r, e * r_low) * down
    return (select(position == index, at_target, select(weight == 0.0, 0.0, p)),)


def _with_gradient(loss: RowFunction, signature: str, write: Callable[..., State]) -> RowFunction:
    """The same, and a gradient made of the exponentials that have been summed up."""
    passes = tuple(FAR_OTHER_TERMS if reduction is FAR_OTHERS else reduction for reduction in loss.passes)
    name = f"{loss.name}_with_gradient"
    return replace(loss, name=name, signature=signature, passes=passes, term=exp_term, write=write)


CROSS_ENTROPY = RowFunction(
    name="cross_entropy",
    signature="(n),(),()->()",
    rows=(-inf,),
    values=("index", "float"),
    pick=True,
    passes=(LARGEST, FAR_OTHERS, AGAIN),
    finish=_finish_class,
    zero=SHIFT,
    results=1,
)

CROSS_ENTROPY_WITH_GRADIENT = _with_gradient(CROSS_ENTROPY, "(n),(),()->(),(n)", _write_class_gradient)


# --- against a distribution q: sum_c q_c (log sum_j e^(x_j - m) + m - x_c)


def _step_weighted(state: State, row: State, values: State, position: Lanes, known: tuple[State, ...]) -> State:
    """The sum of q_c (m - x_c), and the sum of q_c."""
    x, q = row
    # half of the difference, which does not overflow, times twice the share
    d, d_low = two_diff(0.5 * known[0][4], 0.5 * x)
    twice = q + q
    p = twice * d
    p_low = fma(twice, d, -p) + twice * d_low
    unused = q == 0.0  # a class that is masked with -inf
    p_low = select(p < inf, p_low, 0.0)
    weighted = add_to_three(state[:3], select(unused, 0.0, p), select(unused, 0.0, p_low))
    return (*weighted, *add_to_three(state[3:], q, q.const(0.0)))


def _merge_weighted(a: State, b: State) -> State:
    return (*add_three(a[:3], b[:3]), *add_three(a[3:], b[3:]))


WEIGHTED = Reduction((0.0,) * 6, _step_weighted, _merge_weighted)


def _finish_distribution(values: State, known: tuple[State, ...]) -> State:
    relative, weighted, _, others = known
    top, top_low = pair_at_largest(relative, relative[5])
    (log, log_low), lifted, small = _log_of_all(others, top, top_low)
    s, s_low = normal(weighted[:3])
    q, q_low = normal(weighted[3:])
    # A sum that is infinite has lost its other parts, but not whether there is NaN among the logits, as the log knows.
    infinite, knows = weighted[0] == inf, weighted[0] + log
    # Beside larger products the logarithm is small enough as it is.
    small = small & (fabs(s) < 1.0)
    log, log_low = select(small, lifted[0], log), select(small, lifted[1], log_low)
    s, s_low = (select(small, part * (1 / DOWN), part) for part in (s, s_low))
    p, rest = two_prod(log, q)
    h, e = two_sum(s, p)
    loss = select(h == inf, h, h + (e + (s_low + (rest + fma(log, q_low, log_low * q)))))
    loss = select(infinite, knows, loss * select(small, s.const(DOWN), 1.0))
    nothing = s.const(0.0)
    r, r_low = inverse(*_sum_without(others, top, top_low, nothing, nothing))
    few = fabs(q) < FEW_SHARES
    up = select(few, q.const(UP), 1.0)
    q, q_low = q * up, q_low * up
    scaled, rest = two_prod(r, q)
    return loss, scaled, rest + fma(r, q_low, r_low * q), up, *relative[:2], relative[5]


FEW_SHARES = 2.0**-30  # far above where their product with the inverse of a sum loses digits, and far below 1


def _write_distribution_gradient(row: State, values: State, position: Lanes, done: State) -> State:
    (x, q, e), (_, r, r_low, up, *relative) = row, done
    p, rest = two_prod(e, r)
    hi, lo = two_diff(p, q * up)
    result = hi + (lo + fma(e, r_low, rest))
    # Where 0.47 to 0.78 of p is left, the spacing of floats may be half as wide as where p lies: with a rounded
    # exponential that is 2 ULP, and more. (Of less than half the bound counts from p.)
    half = fabs(fma(p, -0.625, hi)) < p * 0.15625
    (result,) = rarely(half, _probability_less_share, (x, r, r_low, q * up, *relative), (result,))
    return (result * select(up > 1.0, up.const(1 / UP), 1.0),)


def _probability_less_share(
    x: Lanes, r: Lanes, r_low: Lanes, q: Lanes, c: Lanes, k: Lanes, adjusted: Lanes
) -> tuple[Lanes]:
    """The same with the exponential as a pair: rounded, it alone may be a unit in the last place of the difference."""
    e, s, m = exp_of_row(x, (c, k, None), adjusted)  # none of those that are 0
    p, rest = two_prod(e, r)
    hi, lo = two_diff(p, q)
    return (hi + (lo + fma(e, r_low, fma(fma(s, m, s - e), r, rest))),)


SOFT_CROSS_ENTROPY = RowFunction(
    name="soft_cross_entropy",
    signature="(n),(n)->()",
    rows=(-inf, 0.0),
    passes=(LARGEST, WEIGHTED, FAR_OTHERS, AGAIN),
    finish=_finish_distribution,
    zero=SHIFT,
    results=1,
)

SOFT_CROSS_ENTROPY_WITH_GRADIENT = _with_gradient(SOFT_CROSS_ENTROPY, "(n),(n)->(),(n)", _write_distribution_gradient)


# --- against a class whose share is `at_target`, while every other class has the share `spread`, each times the weight
# of the class: the distribution is made on the way


def _smoothed(row: State, values: State, position: Lanes) -> State:
    x, weight = row
    index, at_target, spread = values
    return x, select(position == index, at_target, spread) * weight


def _step_smoothed(state: State, row: State, values: State, position: Lanes, known: tuple[State, ...]) -> State:
    return _step_weighted(state, _smoothed(row, values, position), values, position, known)


def _write_smoothed_gradient(row: State, values: State, position: Lanes, done: State) -> State:
    return _write_distribution_gradient((*_smoothed(row[:-1], values, position), row[-1]), values, position, done)


SMOOTH_CROSS_ENTROPY = replace(
    SOFT_CROSS_ENTROPY,
    name="smooth_cross_entropy",
    signature="(n),(n),(),(),()->()",
    values=("index", "float", "float"),
    passes=tuple(replace(p, step=_step_smoothed) if p is WEIGHTED else p for p in SOFT_CROSS_ENTROPY.passes),
)

SMOOTH_CROSS_ENTROPY_WITH_GRADIENT = _with_gradient(
    SMOOTH_CROSS_ENTROPY, "(n),(n),(),(),()->(),(n)", _write_smoothed_gradient
)


class Losses(NamedTuple):
    """What the losses of each kind of target are computed by."""

    classes: RowFunction
    distributions: RowFunction
    smoothed: RowFunction


LOSSES = {
    "cross_entropy_with_logits": Losses(CROSS_ENTROPY, SOFT_CROSS_ENTROPY, SMOOTH_CROSS_ENTROPY),
    "cross_entropy_with_logits_with_gradient": Losses(
        CROSS_ENTROPY_WITH_GRADIENT, SOFT_CROSS_ENTROPY_WITH_GRADIENT, SMOOTH_CROSS_ENTROPY_WITH_GRADIENT
    ),
}
