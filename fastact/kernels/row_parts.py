"""Sums of exponentials over parts of a row, each relative to the largest entry of its own part.

So a long row is read once for both. A part's sum is then brought to the units of the row, or of all the parts so far:
the largest entries differ by a power of two only, but for those beyond `HUGE`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .language import fma, select
from .pairs import two_prod, two_sum
from .row_sums import LIFT, exp_of_row, pair_at_largest

Lanes = Any
State = tuple[Lanes, ...]
Units = Callable[[State, State, State], tuple[Lanes, State, State, State, Lanes]]
"""units(part, row, values), the first two what the pass for the largest entry leaves -> whether these entries are the
same; the exponential of the part's as a pair; it in the units of the part, and in those of the row, as (s, m) and not
adjusted; and by how much more every m of the row is adjusted."""

# Further down than where an entry's exponential alone would count. Sums that lie there are formed again.
FURTHER = {32: 20.0, 64: 6.0}

# Then, as far down as where all the exponentials of the longest rows do not count: 2^31 entries of e^-22 of the least
# that would show come to a third of it. In float64 these need more of a power of two so that none is subnormal.
FURTHEST = {32: 22.0, 64: 23.0}
MORE_LIFT = {32: 0, 64: 32}


def lowered(k: Lanes, bottom: Lanes) -> tuple[Lanes, Lanes]:
    """These two of what `exp_of_row` needs, for entries down to there: all is 2^`MORE_LIFT` times as large."""
    w = k.width
    return k + 16.0 * MORE_LIFT[w] if MORE_LIFT[w] else k, bottom - FURTHEST[w]


def unlifted(total: State) -> State:
    """A sum of such as it would be without."""
    more = MORE_LIFT[total[0].width]
    return tuple(part * 2.0**-more for part in total) if more else total


def usual_units(part: State, row: State, values: State) -> tuple[Lanes, State, State, State, Lanes]:
    """Those of entries as they are."""
    m = part[4]
    own = None, *part[1:4]  # the largest entry of the part is less its c already
    further = *row[:2], row[2] - FURTHER[m.width]
    adjusted, more = (part[5], row[5] - part[5]) if len(part) > 5 else (None, m.const(0.0))
    top = pair_at_largest(part, adjusted)
    return m == row[4], top, exp_of_row(own[3], own)[1:], exp_of_row(m, further)[1:], more


def _scaled(hi: Lanes, lo: Lanes, own: State, here: State, adjusted: Lanes) -> State:
    """A sum in units in which a certain term is s (1 + m) = `own`, in units in which that is `here`.

    Both m are the same and the quotient of both s is a power of two, unless x - max is formed first for one of them.
    """
    s, m = own
    s = s * 2.0**-LIFT
    q = here[0] / s
    rest = fma(-q, s, here[0]) / s
    more = ((here[1] - m) + adjusted) / (1.0 + m)
    # Lest anything underflows, it is the sum that loses 2^LIFT.
    hi, lo = hi * 2.0**-LIFT, lo * 2.0**-LIFT
    p, p_low = two_prod(hi, q)
    low = lo * q
    return p, low + (p_low + fma(p + low, more, hi * rest))


def rebase_sum(units: Units = usual_units) -> Callable[[State, State, State, State], State]:
    """For a sum of all terms."""

    def rebase(total: State, part: State, row: State, values: State) -> State:
        same, _, own, here, adjusted = units(part, row, values)
        hi, lo = total
        h, low = _scaled(hi, lo, own, here, adjusted)
        return select(same, hi, h), select(same, lo, low)

    return rebase


def rebase_others(units: Units = usual_units) -> Callable[[State, State, State, State], State]:
    """For a sum of all terms but the largest, and their count: they are no longer the largest."""

    def rebase(total: State, part: State, row: State, values: State) -> State:
        same, (top, top_low), own, here, adjusted = units(part, row, values)
        count, hi, lo = total
        p, p_low = two_prod(count, top)
        h, e = two_sum(hi, p)
        h, low = _scaled(h, lo + (e + fma(count, top_low, p_low)), own, here, adjusted)
        return select(same, count, 0.0), select(same, hi, h), select(same, lo, low)

    return rebase
