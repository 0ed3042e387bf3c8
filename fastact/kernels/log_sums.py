"""logsumexp and logmeanexp.

Where the largest entry and the logarithm cancel, so do their bits, and the logarithm is found again: on a CPU in
float64, unless it takes float64 or leaves next to nothing, and else by parts of three floats, which takes long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, nan
from typing import Any

from . import row_double
from .exp32 import clamp_above
from .language import fabs, fma, select, to_float
from .pairs import fast_two_sum, two_sum
from .row_double import AGAIN, IN_DOUBLE
from .row_rests import add_exp_triple, log_mean_cancels, log_of_triple, log_sum_cancels, merge_exp_triples
from .row_sums import LIFT, log_of_pair, pair_at_largest, total_exp
from .rows import MAXIMUM, OTHERS, SHIFT, Reduction, RowFunction, log_sum, made_of_small, sum_over

Lanes = Any
State = tuple[Lanes, ...]

Count = Callable[[Lanes, State], tuple[Lanes, Lanes]]
"""count(guess, values) -> the number, as a pair, that the sum of a row's exponentials is divided by."""


def log_again(count: Count) -> Reduction:
    """The pass for rows whose logarithm is known as known[-1][0], but for what another number beside it says."""

    def wanted(values: State, known: tuple[State, ...]) -> Lanes:
        return known[-1][1] != 0.0

    def step(state: State, row: State, values: State, position: Lanes, known: tuple[State, ...]) -> State:
        return add_exp_triple(state, row[0], wanted(values, known))

    def result(total: State, values: State, known: tuple[State, ...]) -> State:
        guess = known[-1][0]
        again = log_of_triple(wanted(values, known), total, guess, *count(guess, values))
        return *again, total[0].const(0.0)

    return Reduction((0.0, 0.0, 0.0, 0.0), step, merge_exp_triples, result=result, when=wanted)


def log_in_double(count: Count) -> Reduction:
    """The same on a CPU, before that, for those that only cancel."""

    def step(state: State, row: State, *_: Any) -> State:
        return row_double.add(state, row[0])

    def result(total: State, values: State, known: tuple[State, ...]) -> State:
        guess = known[-1][0]
        return row_double.log(total, guess, *count(guess, values))

    def when(values: State, known: tuple[State, ...]) -> Lanes:
        return known[-1][1] == IN_DOUBLE

    return Reduction((0.0,) * 4, step, row_double.merge, result=result, when=when, end=row_double.end)


def _logarithm(name: str, first: Callable[..., State], count: Count, length: bool = False) -> RowFunction:
    """The function of that name; `first` is what a first sum over the row comes to."""
    passes = MAXIMUM, replace(OTHERS, result=first), log_again(count)
    function = RowFunction(
        name=name,
        signature="(n)->()",
        rows=(-inf,),
        passes=passes,
        finish=lambda values, known: known[-1][:1],
        zero=SHIFT,
        results=1,
        length=length,
    )
    return replace(function, on_cpu32=replace(function, passes=(*passes[:2], log_in_double(count), passes[2])))


def doubt(result: Lanes, cancels: Lanes, others: State) -> Lanes:
    """What to say of `result`, a logarithm of a sum or mean: how to find it again, or 0."""
    # Both are 0 if nothing was seen of the others. The exponentials of larger entries might overflow.
    limit = clamp_above(others[1] * (16.0 * 2.0**-LIFT), 32.0)
    shows = made_of_small(others) & (fabs(result) <= limit)
    return select(shows, result.const(AGAIN), select(cancels, result.const(IN_DOUBLE), 0.0))


def _first_log_sum(total: State, values: State, known: tuple[State, ...]) -> State:
    others = total[0], *total_exp(total[1:])
    h, _ = log_sum(known[0], others)
    return h, doubt(h, log_sum_cancels(known[0][4], h), others)


LOGSUMEXP = _logarithm("logsumexp", _first_log_sum, lambda guess, _: (guess.const(1.0), guess.const(0.0)))


def _length(values: State) -> tuple[Lanes, Lanes]:
    """That of a row as a pair: all of a float's bits would not do."""
    n = values[0]
    return fast_two_sum(to_float(n & ~0xFFFF), to_float(n & 0xFFFF))


def _first_log_mean(total: State, values: State, known: tuple[State, ...]) -> State:
    m, others = known[0][4], (total[0], *total_exp(total[1:]))
    n, n_low = _length(values)
    hi, lo = sum_over(others, *pair_at_largest(known[0]))
    q = hi / n
    log, log_low = log_of_pair(q, (fma(-q, n_low, fma(-q, n, hi)) + lo) / n)
    h, e = two_sum(m, log)
    mean = select(fabs(m) == inf, m + others[1], h + (e + log_low))
    # Against a large entry no logarithm of a length can cancel, and its exponential might overflow. Of equal entries
    # the sum is their number, and the logarithm 0.
    final = (m > 40.0) | ((others[0] == n) & (n_low == 0.0))
    return select(values[0] == 0, nan, mean), select(final, 0.0, doubt(mean, log_mean_cancels(m, mean), others))


LOGMEANEXP = _logarithm("logmeanexp", _first_log_mean, lambda _, values: _length(values), length=True)
