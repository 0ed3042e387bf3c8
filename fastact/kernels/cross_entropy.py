"""Cross entropy of logits, a row each, against a class or a distribution: the value, and its gradient by the logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any, NamedTuple

from .language import fma, select
from .pairs import two_diff, two_prod, two_sum
from .row_sums import add_three, add_to_three, exp_of_row, inverse, log_of_pair, normal, pair_at_largest
from .rows import MAXIMUM_EXACT, OTHER_TERMS, OTHERS, SHIFT, Reduction, RowFunction, exp_term, others_again, sum_over

Lanes = Any
State = tuple[Lanes, ...]


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
    log, log_low = log_of_pair(*sum_over(others, top, top_low))
    d, d_low = two_diff(m, target)
    h, e = two_sum(d, log)
    loss = select(d == inf, d, h + (e + (log_low + d_low)))
    _, s, rest = exp_of_row(target, relative, adjusted)
    t = fma(s, rest, s)
    r, r_low = inverse(*_sum_without(others, top, top_low, d.const(0.0), d.const(0.0)))
    left, left_low = _sum_without(others, top, top_low, t, fma(s, rest, s - t))
    share = fma(left, r, fma(left, r_low, left_low * r))
    zero = weight == 0.0
    return select(zero, 0.0, weight * loss), r, r_low, select(zero, 0.0, -(weight * share))


def _write_class_gradient(row: State, values: State, position: Lanes, done: State) -> State:
    e, (_, r, r_low, at_target) = row[-1], done
    index, weight = values[:2]
    p = weight * fma(e, r, e * r_low)
    return (select(position == index, at_target, select(weight == 0.0, 0.0, p)),)


def _with_gradient(loss: RowFunction, signature: str, write: Callable[..., State]) -> RowFunction:
    """The same, and a gradient made of the exponentials that have been summed up."""
    passes = tuple(OTHER_TERMS if reduction is OTHERS else reduction for reduction in loss.passes)
    name = f"{loss.name}_with_gradient"
    return replace(loss, name=name, signature=signature, passes=passes, term=exp_term, write=write)


CROSS_ENTROPY = RowFunction(
    name="cross_entropy",
    signature="(n),(),()->()",
    rows=(-inf,),
    values=("index", "float"),
    pick=True,
    passes=(MAXIMUM_EXACT, OTHERS, others_again()),
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
    log, log_low = log_of_pair(*sum_over(others, top, top_low))
    s, s_low = normal(weighted[:3])
    q, q_low = normal(weighted[3:])
    p, rest = two_prod(log, q)
    h, e = two_sum(s, p)
    # A sum that is infinite has lost its other parts, but not whether there is NaN among the logits, as the log knows.
    loss = select(h == inf, h, h + (e + (s_low + (rest + fma(log, q_low, log_low * q)))))
    loss = select(weighted[0] == inf, weighted[0] + log, loss)
    zero = s.const(0.0)
    r, r_low = inverse(*_sum_without(others, top, top_low, zero, zero))
    scaled, rest = two_prod(r, q)
    return loss, scaled, rest + fma(r, q_low, r_low * q)


def _write_distribution_gradient(row: State, values: State, position: Lanes, done: State) -> State:
    (_, q, e), (_, r, r_low) = row, done
    p, rest = two_prod(e, r)
    hi, lo = two_diff(p, q)
    return (hi + (lo + fma(e, r_low, rest)),)


SOFT_CROSS_ENTROPY = RowFunction(
    name="soft_cross_entropy",
    signature="(n),(n)->()",
    rows=(-inf, 0.0),
    passes=(MAXIMUM_EXACT, WEIGHTED, OTHERS, others_again()),
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
