"""A second sum of exponentials, where the first one was made in good part of terms too small for it.

By then its size is known. So all is multiplied by the power of two that brings it next to 2^`SIZE`, and summed up in
three parts of which the first two start at anchors that fit: each of these costs three additions a term, where a sum
of unknown size takes six.
"""

from __future__ import annotations

from typing import Any

from .language import fma, select, to_float
from .row_parts import FURTHEST
from .row_sums import LIFT, add_three, normal
from .triples import BIAS, exponent_field, power_of_two

__all__ = [
    "FIRST",
    "LEFT_OUT",
    "SECOND",
    "add_sized",
    "in_size",
    "merge_sized",
    "of_size",
    "settle_sized",
]

Lanes = Any
State = tuple[Lanes, ...]

# In a row that is summed up part by part, those entries of the largest one's own part are left out which would not
# count alone. There may be 2^14 (2^13) of them, 2^-150 (2^-1075) each: 2^-32 (2^-58) of a sum of the others that is as
# large as this, less LIFT.
LEAST = {32: -40, 64: -940}
LEFT_OUT = {width: 2.0**least for width, least in LEAST.items()}

SIZE = 96  # no first sum is larger, so that the power of two is 1 at least, and no term subnormal


def _raise(first: Lanes) -> Lanes:
    """The exponent of that power of two, for a first sum; of one below LEFT_OUT, which may be too small, for that."""
    w = first.width
    n = exponent_field(first) - BIAS[w]
    return SIZE - select(n < LEAST[w], LEAST[w], n)


def in_size(k: Lanes, bottom: Lanes, first: Lanes) -> tuple[Lanes, Lanes]:
    """These two of what `exp_of_row` needs for such terms, down to where all of the longest rows do not count.

    Or, in a sum of more than the largest entry, to where one alone does not.
    """
    return fma(to_float(_raise(first)), 16.0, k), select(first > 2.0**LIFT, bottom, bottom - FURTHEST[k.width])


# Of a block, a state takes in 32 terms at most, together less than 2^(SIZE + 1) and what the first sum lost: the first
# part stays between its anchor and twice that. In float32 each of them leaves 2^(SIZE - 22) at most for the second
# part, so that this stays in one binade. In float64 it is less, and lost in neither.
FIRST, SECOND = 2.0 ** (SIZE + 2), 1.5 * 2.0 ** (SIZE - 15)


def add_sized(total: State, s: Lanes, m: Lanes) -> State:
    """Such a sum, at first FIRST, SECOND and 0, and a term s (1 + m)."""
    hi = total[0] + s
    e = s - (hi - total[0])
    mid = total[1] + e
    return hi, mid, fma(s, m, total[2] + (e - (mid - total[1])))


def merge_sized(a: State, b: State) -> State:
    """The sum of two such sums."""
    return add_three(a, (b[0] - FIRST, b[1] - SECOND, b[2]))


def settle_sized(total: State) -> State:
    """Such a sum as what it is made of, to be joined by `add_three`."""
    return total[0] - FIRST, total[1] - SECOND, total[2]


def of_size(total: State, first: Lanes) -> State:
    """A settled one as a normal pair in the units of the first."""
    n = -_raise(first)
    half = n >> 1
    down, further = power_of_two(half), power_of_two(n - half)
    return tuple(part * down * further for part in normal(total))
