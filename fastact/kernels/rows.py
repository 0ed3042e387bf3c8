"""Softmax and its relatives, as passes over the elements of a row.

A row function is a list of reductions followed by what is written. How lanes lie over the elements is the business of
`fastact.cpu.rows`; the order in which a reduction's states are merged depends on the length of the row alone, so a
row's result does not depend on where it lies or who computes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from .language import fabs, fma, select
from .pairs import two_prod, two_sum
from .row_again import FIRST, LEFT_OUT, SECOND, add_sized, in_size, merge_sized, of_size, settle_sized
from .row_parts import lowered, rebase_others, rebase_sum, unlifted
from .row_sums import (
    EXP_SUM,
    EXP_SUM_OF_FEW,
    LIFT,
    add_exp,
    add_exp_to_three,
    add_three,
    exact_at_largest,
    exp_of_row,
    inverse,
    join_exp,
    larger,
    log_of_pair,
    merge_exp,
    merge_few_exp,
    normal,
    pair_at_largest,
    relative_to,
    settle_exp,
    total_exp,
)

Lanes = Any
State = tuple[Lanes, ...]
Units = Callable[[Lanes, Lanes], tuple[Lanes, Lanes]]


# The order of summation follows from these three, and for long rows from PART and LONG_ROW below, and from nothing
# else. They are the same on every machine.
VECTOR = 512  # bits of a row, in the dtype of computation, that are computed side by side
VECTORS = 4  # so many of them have states of their own
BLOCK = 1024  # elements after which the states are merged

FEW_ELEMENTS = 16  # elements whose states may be merged in a faster way

MOST_COUNTED = 2**31 - 1  # elements of a row in which positions have 32 bits

PART = {width: BLOCK * VECTOR // width for width in (32, 64)}
"""Elements whose totals, block by block, are joined before they are added to those before them."""

LONG_ROW = {width: 4 * PART[width] for width in (32, 64)}
"""Elements of a row that the second cache does not hold if there are more: 256 KB."""


def _as_it_is(state: State, *_: Any) -> State:
    return state


@dataclass(frozen=True, slots=True)
class Reduction:
    """One pass that folds a row into a few numbers.

    `step(state, row, values, position, known)` takes in `row` (one lanes an input row); `values` are the operands that
    are one number a row, `position` the index of each element, `known` the results of the passes before. `merge` joins
    two states of one block of elements; `settle` ends a block and `join` adds blocks up. `result(total, values, known)`
    is what the pass leaves behind: numbers of a row.

    A pass with `when` is a second attempt at the one before, and its result replaces that one's in the rows of which
    `when(values, known)` is true. If there is none among those computed together, it is left out.

    What is beyond the end of the row reads as the row's padding, which a step must pass over, and `merge` and `join`
    with a state that has seen nothing must give the other state: both to the last bit.

    With `rebase`, the pass looks for the results of the first pass only, and may have been given those of a part of the
    row: `rebase(total, part, row, values)` is the total in a row, or more parts of it, of which the first pass finds
    `row`. So if that `repeats`, rows of more than `LONG_ROW` elements can be read once for both.

    `repeats` says that an element may be taken in more than once and in any order, as for a maximum. `few` is what
    may take the place of `initial` and `merge` where a state is that of `FEW_ELEMENTS` at most: it is faster, and the
    same to the last bit. So may `begin(row, values, position, known)` be: it is the state of one element alone.
    `end` is done to a state once its last element was taken in: what is merged may be of another form than what `step`
    works on, but for a state that has seen nothing.
    """

    initial: tuple[float, ...]
    step: Callable[..., State]
    merge: Callable[[State, State], State]
    settle: Callable[[State], State] = _as_it_is
    join: Callable[[State, State], State] | None = None
    result: Callable[[State, State, tuple[State, ...]], State] = _as_it_is
    repeats: bool = False
    when: Callable[[State, tuple[State, ...]], Lanes] | None = None
    few: tuple[tuple[float, ...], Callable[[State, State], State]] | None = None
    begin: Callable[..., State] | None = None
    end: Callable[[State], State] | None = None
    rebase: Callable[[State, State, State, State], State] | None = None

    def begun(self, initial: State, *element: Any) -> State:
        """The state of the element, row and all, that `step` takes."""
        return self.step(initial, *element) if self.begin is None else self.begin(*element)

    def ended(self, state: State) -> State:
        """The state that is merged with others."""
        return state if self.end is None else self.end(state)


@dataclass(frozen=True, slots=True)
class AtOnce:
    """How a row may be written as soon as its first pass is made, though other passes may be needed.

    That is tried if `usual(values, known)` is true of it. `write(row, values, position, known)` gives the output, with
    the bits that it is to have in the end, and whether the other passes are needed all the same.
    """

    usual: Callable[[State, tuple[State, ...]], Lanes]
    write: Callable[..., tuple[Lanes, Lanes]]


@dataclass(frozen=True, slots=True, eq=False)  # known by its identity, which is quick to look up
class RowFunction:
    """A function of rows.

    `rows` are the paddings of its array operands, `values` its operands of one number a row ("float" or "index");
    with `pick`, the element of the first row at that index is one more value, with `length` the number of elements is.
    With `mask`, the last of the rows is an array of bool, and reads as 1 and 0. Once the passes are done,
    `finish(values, known)` computes on numbers of a row what the outputs need; the first `results` of them are outputs
    of one number, and `write(row, values, position, finished)` gives the output row.

    `term(row, values, position, known)` is what the last pass without `when` and `write` both need of an element and
    what takes long: that pass finds all it returns as more entries of `row`, and `write` the first.

    `zero` is the place in `known` of a number that is 0 for all but a few rows, and that is None instead where it is.

    `at_once` may take the place of all but the first pass where a few rows at a time are read and written.

    `positions` says that it computes with those of elements, though none of `values` is one.

    `on_cpu32` takes its place where a CPU computes in float32.
    """

    name: str
    signature: str
    rows: tuple[float, ...]
    passes: tuple[Reduction, ...]
    values: tuple[str, ...] = ()
    finish: Callable[[State, tuple[State, ...]], State] = lambda values, known: ()
    results: int = 0
    write: Callable[..., State] | None = None
    term: Callable[..., State] | None = None
    pick: bool = False
    length: bool = False
    mask: bool = False
    zero: tuple[int, int] | None = None
    refuses_empty: bool = False
    positions: bool = False
    at_once: AtOnce | None = None
    on_cpu32: RowFunction | None = None

    @property
    def counts(self) -> bool:
        """Whether it computes with positions or the length of a row, which are integers of the floats' width."""
        return self.positions or self.length or "index" in self.values

    def on_cpu(self, width: int) -> RowFunction:
        """What a CPU computes in floats of `width` bits."""
        return self.on_cpu32 if self.on_cpu32 is not None and width == 32 else self

    @property
    def last(self) -> Reduction:
        """The last pass that every row needs."""
        return next(reduction for reduction in reversed(self.passes) if reduction.when is None)

    @property
    def slowest(self) -> Reduction:
        """The pass with most to compute: the last one after a search for the largest entry, else the first."""
        return self.last if self.passes[0].repeats else self.passes[0]

    @property
    def by_parts(self) -> bool:
        """Whether the first two passes over a long row are made part by part."""
        return len(self.passes) > 1 and self.passes[0].repeats and self.passes[1].rebase is not None


# --- the largest entry, and sums of exponentials relative to it


def _largest(state: State, row: State, *_: Any) -> State:
    return larger(state, row[:1])


def _relative(total: State, *_: Any) -> State:
    return (*relative_to(total[0]), total[0])


def _relative_exactly(total: State, *_: Any) -> State:
    relative = relative_to(total[0])
    return (*relative, total[0], exact_at_largest(relative))


MAXIMUM = Reduction((-inf,), _largest, larger, result=_relative, repeats=True)
"""Leaves what `exp_of_row` needs, and the largest entry itself."""

MAXIMUM_EXACT = Reduction((-inf,), _largest, larger, result=_relative_exactly, repeats=True)
"""The same, and what makes the largest entry's exponential exact."""


SHIFT = (0, 0)  # what is taken from the entries of a row so huge that e^x must not be formed


def exp_term(row: State, values: State, position: Lanes, known: tuple[State, ...]) -> State:
    return exp_of_row(row[0], known[0], known[0][5])


Parts = Callable[..., State]
"""parts(row, values, position, known, units) -> (s, m) of an element's exponential, and whether that is the largest.

`units(k, bottom)` says in what units, and down to where.
"""


def _exp_parts(row: State, values: State, position: Lanes, known: tuple[State, ...], units: Units) -> State:
    relative = known[0]
    _, s, m = exp_of_row(row[0], (relative[0], *units(*relative[1:3])), _adjusted(relative))
    return s, m, _is_largest(row[0], relative)


def sum_again(parts: Parts = _exp_parts) -> Reduction:
    """After `SUM_OF_TERMS`: the same where small terms make up much of it, whose roundings add up."""

    def step(state: State, row: State, values: State, position: Lanes, known: tuple[State, ...]) -> State:
        return add_exp_to_three(state, *parts(row, values, position, known, lowered)[:2])

    def result(total: State, values: State, known: tuple[State, ...]) -> State:
        return *normal(unlifted(total)), total[0].const(0.0)

    def when(values: State, known: tuple[State, ...]) -> Lanes:
        return known[-1][2] * 16.0 > known[-1][0]

    return Reduction((0.0, 0.0, 0.0), step, add_three, result=result, when=when)


SUM_OF_TERMS = Reduction(
    EXP_SUM,
    lambda state, row, *_: add_exp(state, *row[-2:]),
    merge_exp,
    settle_exp,
    join_exp,
    lambda total, *_: total_exp(total),
    few=EXP_SUM_OF_FEW,
    rebase=rebase_sum(),
)
"""The sum of the row's terms, as a pair."""


def _is_largest(x: Lanes, relative: State) -> Lanes:
    return (x if relative[0] is None else x - relative[0]) == relative[3]


def _adjusted(relative: State) -> Lanes | None:
    """What `MAXIMUM_EXACT` found, if it was that pass."""
    return relative[5] if len(relative) > 5 else None


def _add_others(state: State, here: Lanes, s: Lanes, m: Lanes) -> State:
    """Sum up what is smaller than the largest entry, and count how often that one is `here`, with s and m of 0.

    Where one entry dominates, the logarithm of the sum is log1p of what the others add up to: it keeps its relative
    accuracy only if the largest entry is left out from the start.
    """
    count, *total = state
    return (select(here, count + 1.0, count), *add_exp(tuple(total), s, m))


def _step_others(state: State, row: State, values: State, position: Lanes, known: tuple[State, ...]) -> State:
    relative = known[0]
    here = _is_largest(row[0], relative)
    _, s, m = exp_of_row(row[0], relative, _adjusted(relative), ~here)
    return _add_others(state, here, s, m)


def _step_other_terms(state: State, row: State, values: State, position: Lanes, known: tuple[State, ...]) -> State:
    here = _is_largest(row[0], known[0])
    return _add_others(state, here, select(~here, row[-2], 0.0), select(~here, row[-1], 0.0))


OTHERS = Reduction(
    (0.0, *EXP_SUM),
    _step_others,
    lambda a, b: (a[0] + b[0], *merge_exp(a[1:], b[1:])),
    lambda state: (state[0], *settle_exp(state[1:])),
    lambda a, b: (a[0] + b[0], *join_exp(a[1:], b[1:])),
    lambda total, *_: (total[0], *total_exp(total[1:])),
    few=((0.0, *EXP_SUM_OF_FEW[0]), lambda a, b: (a[0] + b[0], *merge_few_exp(a[1:], b[1:]))),
    rebase=rebase_others(),
)
OTHER_TERMS = replace(OTHERS, step=_step_other_terms)


def made_of_small(others: State) -> Lanes:
    """Whether the sum of the others is in good part one of terms as small as the low part of a sum, or nearly 0."""
    count, hi, _, low = others
    return ((low * 8.0 >= hi) | (hi < LEFT_OUT[hi.width])) & (count > 0.0)


# Beside two of the largest entry, even in the longest rows, the roundings of a sum of small terms up to this are lost.
BESIDE_TWO = 2.0 ** (LIFT - 16)


def others_again(parts: Parts = _exp_parts) -> Reduction:
    """After `OTHERS`: the same where small terms make up much of it, whose roundings add up, or all of it."""

    def step(state: State, row: State, values: State, position: Lanes, known: tuple[State, ...]) -> State:
        s, m, here = parts(row, values, position, known, lambda k, bottom: in_size(k, bottom, known[-1][1]))
        return add_sized(state, select(~here, s, 0.0), select(~here, m, 0.0))

    def result(total: State, values: State, known: tuple[State, ...]) -> State:
        count, first = known[-1][:2]
        return count, *of_size(total, first), first.const(0.0)

    def when(values: State, known: tuple[State, ...]) -> Lanes:
        count, hi = known[-1][:2]
        return made_of_small(known[-1]) & ((count == 1.0) | (hi > BESIDE_TWO))

    return Reduction((FIRST, SECOND, 0.0), step, merge_sized, settle_sized, add_three, result=result, when=when)


def sum_over(others: State, top: Lanes, top_low: Lanes) -> tuple[Lanes, Lanes]:
    """The sum of the row's exponentials over the largest of them, as a normal pair."""
    count, hi, lo = others[:3]
    q = hi / top
    rest = (fma(-q, top_low, fma(-q, top, hi)) + lo) / top
    h, e = two_sum(count, q)
    return two_sum(h, e + rest)


def log_sum(relative: State, others: State) -> tuple[Lanes, Lanes]:
    """log(sum_j e^x_j) as a normal pair, and what says so: NaN for NaN, the infinities."""
    m = relative[4]
    log, log_low = log_of_pair(*sum_over(others, *pair_at_largest(relative)))
    h, e = two_sum(m, log)
    h, e = two_sum(h, e + log_low)
    # all -inf, or no element at all: -inf; +inf somewhere: +inf; NaN in the sum of the others stays NaN
    infinite = fabs(m) == inf
    return select(infinite, m + others[1], h), select(infinite, 0.0, e)


# --- softmax, log_softmax


def _finish_softmax(values: State, known: tuple[State, ...]) -> State:
    return inverse(*known[2][:2])


def _write_softmax(row: State, values: State, position: Lanes, done: State) -> State:
    e, (r, r_low) = row[-1], done
    return (fma(e, r, e * r_low),)


SOFTMAX = RowFunction(
    name="softmax",
    signature="(n)->(n)",
    rows=(-inf,),
    passes=(MAXIMUM_EXACT, SUM_OF_TERMS, sum_again()),
    finish=_finish_softmax,
    write=_write_softmax,
    term=exp_term,
    zero=SHIFT,
    refuses_empty=True,
)


def _finish_log_softmax(values: State, known: tuple[State, ...]) -> State:
    h, e = log_sum(known[0], known[2])
    return select(fabs(known[0][4]) == inf, known[0][4] - known[0][4], h), e


def _write_log_softmax(row: State, values: State, position: Lanes, done: State) -> State:
    # The first difference is exact where the entry comes near the logarithm of the sum; elsewhere done[1] is small
    # against its rounding error. An entry of -inf stays what it is; NaN in the sum reaches every entry.
    return ((row[0] - done[0]) - done[1],)


LOG_SOFTMAX = RowFunction(
    name="log_softmax",
    signature="(n)->(n)",
    rows=(-inf,),
    passes=(MAXIMUM, OTHERS, others_again()),
    finish=_finish_log_softmax,
    write=_write_log_softmax,
    zero=SHIFT,
    refuses_empty=True,
)


# --- the vector-Jacobian product of logsumexp


def _finish_logsumexp_vjp(values: State, known: tuple[State, ...]) -> State:
    """The cotangent over the sum as a pair, times a power of two that keeps it normal, and what undoes that."""
    r, r_low = inverse(*known[2][:2])
    small = fabs(values[0]) < 1.0
    g = values[0] * select(small, r.const(UP), 1.0)
    hi, lo = two_prod(g, r)
    lo = fma(g, r_low, lo)
    return hi, select(fabs(lo) < inf, lo, 0.0), select(small, r.const(1 / UP), 1.0)


UP = 2.0**100


def _write_logsumexp_vjp(row: State, values: State, position: Lanes, done: State) -> State:
    return (_write_softmax(row, values, position, done[:2])[0] * done[2],)


LOGSUMEXP_VJP = RowFunction(
    name="logsumexp_vjp",
    signature="(n),()->(n)",
    rows=(-inf,),
    values=("float",),
    passes=(MAXIMUM_EXACT, SUM_OF_TERMS, sum_again()),
    finish=_finish_logsumexp_vjp,
    write=_write_logsumexp_vjp,
    term=exp_term,
    zero=SHIFT,
)
