"""softmin; softmax and log_softmax of rows that are divided by a temperature and masked on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, nan
from typing import Any

from .language import fabs, fma, select
from .pairs import two_diff
from .row_parts import FURTHER, rebase_others, rebase_sum
from .row_sums import add_exp, exp_of_row, larger, log_of_pair, pair_at_largest, relative_to
from .rows import (
    OTHERS,
    SOFTMAX,
    SUM_OF_TERMS,
    Reduction,
    RowFunction,
    Units,
    others_again,
    sum_again,
    sum_over,
)

Lanes = Any
State = tuple[Lanes, ...]

LARGEST = {32: float.fromhex("0x1.fffffep127"), 64: float.fromhex("0x1.fffffffffffffp1023")}


# --- softmin: softmax of -x


def _of_negated(kernel: Callable[..., Any], place: int) -> Callable[..., Any]:
    """`kernel` with the row, its argument number `place`, negated."""

    def negated(*arguments: Any) -> Any:
        row = arguments[place]
        return kernel(*arguments[:place], (-row[0], *row[1:]), *arguments[place + 1 :])

    return negated


def _negated_pass(reduction: Reduction) -> Reduction:
    return replace(reduction, step=_of_negated(reduction.step, 1))


SOFTMIN = replace(
    SOFTMAX,
    name="softmin",
    rows=(inf,),
    passes=tuple(map(_negated_pass, SOFTMAX.passes)),
    term=_of_negated(SOFTMAX.term, 0) if SOFTMAX.term is not None else None,
)


# --- softmax and log_softmax of x / temperature, of the first `limit` entries, where a mask says so


# Entries are taken times a power of two, so that neither their differences nor the temperature's inverse overflow or
# lose bits. It is 1/2 above a temperature of 1, for the difference of two finite entries may be up to twice the
# largest float; more takes bits from entries that are nothing to such a temperature, and serves its inverse.
HOT = 2.0**64
COOL = 2.0**-64
# Below this, the smallest normal number, the inverse is infinite at last; but the entries of a row that are far from 0
# are then equal or too far apart to count, and are left alone lest they overflow.
COLD = {32: 2.0**-126, 64: 2.0**-1022}
FAR = 2.0**60


def _step_top(state: State, row: State, values: State, position: Lanes, known: tuple[State, ...]) -> State:
    temperature, limit = values
    return larger(state, (_seen(row, select(temperature < 0.0, -row[0], row[0]), position, limit),))


def _unit(temperature: Lanes, largest: Lanes) -> Lanes:
    """The power of two for a temperature that is not negative, in a row whose largest entry is this."""
    one = temperature.const(1.0)
    cold = (temperature < COLD[one.width]) & (fabs(largest) < FAR)
    return select(temperature > 1.0, select(temperature > HOT, one.const(COOL), 0.5), select(cold, HOT, one))


def _result_top(total: State, values: State, known: tuple[State, ...]) -> State:
    """The largest entry, 1 / |temperature| as a pair, and what `exp_of_row` needs: the largest quotient is 0.

    Then the largest entry itself: the first number is 0 where none counts, so that x - 0 is -inf, and not NaN, in a
    part of a row where no entry counts. Last, what all entries, and so the first number, are taken times.
    """
    temperature = fabs(values[0])
    unit = _unit(temperature, total[0])
    temperature = temperature * unit
    r = 1.0 / temperature
    r = select(r == inf, LARGEST[r.width], r)
    rest = r * fma(-r, temperature, 1.0)
    m = select(total[0] == -inf, 0.0, total[0] * unit)
    unit = select(values[0] < 0.0, -unit, unit)
    return m, r, select(fabs(rest) < inf, rest, 0.0), *relative_to(r.const(0.0))[1:], total[0], unit


def _divisor(top: State) -> State:
    """What the quotients are made of."""
    return *top[:3], top[7]


def _seen(row: State, x: Lanes, position: Lanes, limit: Lanes) -> Lanes:
    """x where the entry counts, -inf elsewhere."""
    seen = position < limit
    if len(row) > 1:
        seen = seen & (row[1] > 0.0)
    return select(seen, x, -inf)


def _quotient(row: State, values: State, position: Lanes, top: State) -> tuple[Lanes, Lanes]:
    """(x - max) / temperature as a pair; the low part is 0 where the quotient is infinite."""
    return _quotient_of(_seen(row, row[0] * top[3], position, values[1]), top[:3])


def _quotient_of(x: Lanes, top: State) -> tuple[Lanes, Lanes]:
    m, r, r_low = top
    hi, lo = two_diff(x, m)
    z = select(hi == -inf, -inf, hi * r)
    return z, select(z > -inf, fma(hi, r, -z) + fma(hi, r_low, lo * r), 0.0)


def _term(row: State, values: State, position: Lanes, known: tuple[State, ...]) -> State:
    z, z_low = _quotient(row, values, position, _divisor(known[0]))
    s, m = _exp(z, z_low, (None, *known[0][3:6]))
    return fma(s, m, s), s, m


def _exp(z: Lanes, z_low: Lanes, relative: State) -> State:
    _, s, m = exp_of_row(z, relative)
    return s, fma(z_low, 1.0 + m, m)


def _parts_in(units: State, row: State, values: State, position: Lanes, known: tuple[State, ...]) -> State:
    """In what units, and down to where."""
    z, z_low = _quotient(row, values, position, _divisor(known[0]))
    return *_exp(z, z_low, (None, *units)), z == 0.0


def _further_parts(row: State, values: State, position: Lanes, known: tuple[State, ...], units: Units) -> State:
    """Further down than where one of them alone would count."""
    return _parts_in(units(*known[0][3:5]), row, values, position, known)


def _step_others(state: State, row: State, values: State, position: Lanes, known: tuple[State, ...]) -> State:
    """As `OTHERS`: the largest entry is counted apart."""
    s, m, here = _parts_in(known[0][3:5], row, values, position, known)
    count, *total = state
    return (select(here, count + 1.0, count), *add_exp(tuple(total), select(here, 0.0, s), select(here, 0.0, m)))


def _finish_log_softmax(values: State, known: tuple[State, ...]) -> State:
    top = known[0]
    log, log_low = log_of_pair(*sum_over(known[2], *pair_at_largest((None, *top[3:6]))))
    return select(top[6] == -inf, nan, log), log_low, *_divisor(top)


def _write_log_softmax(row: State, values: State, position: Lanes, done: State) -> State:
    z, z_low = _quotient(row, values, position, done[2:])
    hi, lo = two_diff(z, done[0])
    return (hi + select(hi == -inf, 0.0, lo + (z_low - done[1])),)


def _units(part: State, row: State, values: State) -> tuple[Lanes, State, State, State, Lanes]:
    relative, m = (None, *part[3:6]), part[6]
    own = exp_of_row(relative[3], relative)[1:]
    here = _exp(*_quotient_of(m * fabs(row[7]), row[:3]), (None, row[3], row[4] - FURTHER[m.width]))
    return m == row[6], pair_at_largest(relative), own, here, m.const(0.0)


TOP = Reduction((-inf,), _step_top, larger, result=_result_top, repeats=True)

SOFTMAX_SCALED: RowFunction = replace(
    SOFTMAX,
    name="softmax_scaled",
    signature="(n),(),()->(n)",
    values=("float", "index"),
    zero=None,
    passes=(TOP, replace(SUM_OF_TERMS, rebase=rebase_sum(_units)), sum_again(_further_parts)),
    term=_term,
)
LOG_SOFTMAX_SCALED: RowFunction = replace(
    SOFTMAX_SCALED,
    name="log_softmax_scaled",
    passes=(TOP, replace(OTHERS, step=_step_others, rebase=rebase_others(_units)), others_again(_further_parts)),
    term=None,
    finish=_finish_log_softmax,
    write=_write_log_softmax,
)
SOFTMAX_MASKED, LOG_SOFTMAX_MASKED = (
    replace(
        function,
        name=function.name.replace("scaled", "masked"),
        signature="(n),(n),(),()->(n)",
        rows=(-inf, 0.0),
        mask=True,
    )
    for function in (SOFTMAX_SCALED, LOG_SOFTMAX_SCALED)
)
