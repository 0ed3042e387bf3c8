"""The logarithm of a sum or mean of exponentials in float32, in float64 where it cancels with the largest entry.

That is for a CPU. The rest of float64 is left for what the terms of a result cancel to: 2^-36 of them keeps all bits of
a float32, and log(1) from the rounded output of log_softmax is seldom less.
"""

from __future__ import annotations

from typing import Any

from .exp32 import clamp_above, clamp_below
from .language import fabs, fma, grown, in_double, in_one, select
from .pairs import two_prod, two_sum
from .row_sums import ROUND, fine_parts

__all__ = ["AGAIN", "IN_DOUBLE", "add", "end", "log", "merge"]

Lanes = Any
State = tuple[Lanes, ...]

# What a result that is not final says beside it: that this is the way to find it, or that only the longest way is.
IN_DOUBLE, AGAIN = 1.0, 2.0

# The sum is next to a number of entries, or to 1; so the exponential of none is much larger, and smaller ones than
# e^LOWEST do not count. Other rows are only to stay clear of overflows.
LOWEST, HIGHEST = -104.0, 40.0
LEAST = 2.0**-36


def _exp(x: Lanes) -> State:
    parts: State = fine_parts(clamp_above(clamp_below(x, LOWEST), HIGHEST), x.const(ROUND[64]))
    return parts


def _add(x: Lanes, hi: Lanes, low: Lanes) -> tuple[Lanes, Lanes]:
    s, r, q = _exp(x)
    e = fma(s, r, s)
    hi, rest = two_sum(hi, e)
    return hi, low + (rest + fma(s, q, fma(s, r, s - e)))


def _merge(hi: Lanes, low: Lanes, other: Lanes, other_low: Lanes) -> tuple[Lanes, Lanes]:
    hi, rest = two_sum(hi, other)
    return hi, low + other_low + rest


def _log(hi: Lanes, low: Lanes, guess: Lanes, count: Lanes, count_low: Lanes) -> tuple[Lanes]:
    """log((hi + low) / count) = guess + log(1 + d), d = (hi + low) e^-guess / count - 1."""
    count = count + count_low
    s, r, q = _exp(-guess)
    p, rest = two_prod(hi, s)
    more, rest2 = two_prod(p, r)
    # What is first is next to count, and exact; then the two cancel, all but 2^-18.
    left, rest3 = two_sum(p - count, more)
    low = fma(low, s, rest)
    d = (left + (rest3 + (rest2 + fma(p, q, fma(low, r + q, low))))) / count
    return (guess + fma(d * d, fma(d, 1.0 / 3.0, -0.5), d),)


def add(state: State, x: Lanes) -> State:
    """A sum that grows, four times 0 at first, and e^x."""
    hi, low = in_double(_add, ((x,), state[:2], state[2:]), grown=False)
    return *hi, *low


def end(state: State) -> State:
    """One that has grown."""
    return *grown((state[0], state[1])), *grown((state[2], state[3]))


def merge(a: State, b: State) -> State:
    """The sum of two that have grown."""
    hi, low = in_double(_merge, (a[:2], a[2:], b[:2], b[2:]), grown=True)
    return *hi, *low


def log(total: State, guess: Lanes, count: Lanes, count_low: Lanes) -> tuple[Lanes, Lanes]:
    """The logarithm of such a sum over a number, and what is to be said of it; `guess` is right but for 2^-18."""
    (found,) = in_double(_log, (total[:2], total[2:], (guess,), (count,), (count_low,)), grown=True)
    result = in_one(found)
    return result, select(fabs(result) < LEAST, result.const(AGAIN), 0.0)
