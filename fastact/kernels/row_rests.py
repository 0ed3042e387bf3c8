"""What is left where the two terms of a row's result cancel, to all its bits: slow, and for the few that need it.

The terms are irrational, so no float can come as close to both as to make them equal; but from the rounded output of
another function, as log(1/n) is in every place of a row, they differ in their last bits only.
"""

from __future__ import annotations

from math import inf
from typing import Any

from .language import MANTISSA, fabs, fma, rarely, select
from .pairs import two_diff
from .row_parts import FURTHEST, MORE_LIFT
from .row_sums import LIFT, ZERO
from .triples import (
    BIAS,
    add_triples,
    exp_parts3,
    exponent_field,
    log1p_small,
    multiply_triples,
    power_of_two,
    settled,
)

Lanes = Any
State = tuple[Lanes, ...]

# --- log_softmax_vjp


ABOUT = {32: 60, 64: 600}


def log_softmax_vjp_rest(
    g: Lanes, y: Lanes, total: Lanes, total_low: Lanes, third: Lanes, fourth: Lanes, unit: Lanes
) -> tuple[Lanes]:
    """g - e^y times `total`, a sum of four in a `unit` that is a power of two.

    They may cancel twice: where e^y is next to 1, g is nearly the sum, and what is left is next to g (e^-y - 1), which
    the other terms of the sum may come close to. Of these, three floats are known.
    """
    power, p, n = exp_parts3(y)
    bias = BIAS[g.width]
    # All is done on numbers about 1, or 2^ABOUT so that less is lost of the last parts of a large sum: total is divided
    # by a power of two, g by that and by 2^n, in two steps.
    exponent = exponent_field(total)
    about = select(exponent > bias + MANTISSA[g.width], exponent - exponent + ABOUT[g.width], 0)
    scale = power_of_two(bias + about - exponent)
    shift = 2 * bias + about - exponent - n - exponent_field(unit)
    # Farther up is no power of two, and needed only where the product is nothing to any g but 0.
    most = 2 * (bias - 1)
    shift = select(shift < most, shift, most)
    first = shift >> 1
    second = shift - first
    product = multiply_triples(power, (total * scale, total_low * scale, third * scale))
    more = multiply_triples(product, p)
    last = power[0] * (fourth * scale)
    left = g * power_of_two(first) * power_of_two(second)
    left3 = settled(*two_diff(left, product[0]), -product[1], -product[2], -last)[:3]
    hi, mid, low = settled(*add_triples(left3, tuple(-part for part in more)))
    result = (hi + (mid + low)) * power_of_two(-first) * power_of_two(-second)
    return (select(fabs(left) == inf, g, result),)


# --- logsumexp and logmeanexp, by a second pass over the row: log(s) = guess + log(1 + (s e^-guess - 1))


SMALL = {32: 2.0**-6, 64: 2.0**-38}
LOWEST = {width: zero - FURTHEST[width] for width, zero in ZERO.items()}  # where not even many exponentials count
ALONE_LIFT = {width: LIFT + more for width, more in MORE_LIFT.items()}


def log_sum_cancels(m: Lanes, guess: Lanes) -> Lanes:
    """Whether the largest entry and the logarithm leave so little that the error of the logarithm shows.

    That is 2^-28.8 (2^-56.2) of it, more if it is below 1/2. Where it is so small that all others together are lost in
    the rounding error of 1, their sum is only one float.
    """
    size = fabs(m)
    part = select(size < SMALL[m.width], m.const(4.0), select(size < 1.0, m.const(0.125), 0.0625))
    return fabs(guess) < size * part


def log_mean_cancels(m: Lanes, guess: Lanes) -> Lanes:
    """The same for the logarithm of a mean, which may be next to 1 without any entry being small against another."""
    return log_sum_cancels(m, guess) | (fabs(guess) < 2.0**-5)


# A sum of exponentials is four numbers, at first 0: from those next to 1 that is taken and counted in the first, for
# what is left of them may be all.


def exp_in_sum(x: Lanes) -> State:
    """1 and 2^ALONE_LIFT (e^x - 1) next to x = 0, else 0 and 2^ALONE_LIFT e^x; both as nothing where that is 0."""
    zero = LOWEST[x.width]
    gone = x <= zero
    power, p, n = exp_parts3(select(gone, zero, x))
    scale = power_of_two(n + ALONE_LIFT[x.width])
    first, *rest = (part * scale for part in power)
    one = first == 2.0 ** ALONE_LIFT[x.width]
    more = (part * scale for part in multiply_triples(power, p))
    parts = add_triples((select(one, 0.0, first), *rest), tuple(more))
    return select(one, x.const(1.0), 0.0), *(select(gone, 0.0, part) for part in parts)


def add_exp_triple(total: State, x: Lanes, wanted: Lanes) -> State:
    """Such a sum, and e^x where that is `wanted`."""
    wanted = wanted & (x > LOWEST[x.width])
    found: State = rarely(wanted, _with_exp, (*total, x), total)
    return found


def _with_exp(near: Lanes, first: Lanes, second: Lanes, third: Lanes, x: Lanes) -> State:
    return merge_exp_triples((near, first, second, third), exp_in_sum(x))


def merge_exp_triples(a: State, b: State) -> State:
    """The sum of two such sums."""
    return a[0] + b[0], *add_triples(a[1:], b[1:])


def log_of_triple(wanted: Lanes, total: State, guess: Lanes, count: Lanes, count_low: Lanes) -> State:
    """The logarithm of such a sum over a number, where `wanted`; `guess` is right but for 2^-18."""
    found: State = rarely(wanted, _log_of_triple, (*total, guess, count, count_low), (guess,))
    return found


def _log_of_triple(
    near: Lanes, first: Lanes, second: Lanes, third: Lanes, guess: Lanes, count: Lanes, count_low: Lanes
) -> tuple[Lanes]:
    zero = guess.const(0.0)
    ones = near, zero, zero
    rest = tuple(part * 2.0 ** -ALONE_LIFT[near.width] for part in settled(first, second, third))
    power, p, n = exp_parts3(-guess)
    scale = power_of_two(n)
    power = tuple(part * scale for part in power)
    more = multiply_triples(power, p)
    # (ones + rest) (power + more) - count, nothing of which is lost where power is 1
    hi, mid, low = settled(*add_triples(multiply_triples(ones, power), (zero - count, zero - count_low, zero)))
    product = settled(*multiply_triples(rest, settled(*add_triples(power, more))))
    hi, mid, low = settled(*add_triples((hi, mid, low), settled(*add_triples(multiply_triples(ones, more), product))))
    q = hi / count
    rest = (fma(-q, count, hi) + (fma(-q, count_low, mid) + low)) / count
    hi, mid, low = settled(*add_triples((guess, zero, zero), log1p_small((q, rest, zero))))
    return (hi + (mid + low),)
