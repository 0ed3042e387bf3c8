"""The vector-Jacobian products of softmax and log_softmax, from the saved output."""

from __future__ import annotations

from typing import Any

from .language import fabs, fma, from_bits, rarely, select, to_float
from .pairs import two_diff, two_prod
from .row_rests import exponent_field, log_softmax_vjp_rest
from .row_sums import FINE_TOP, LIFT, LN2, add_pair_to_three, add_three, add_to_three, exp_fine, normal
from .rows import Reduction, RowFunction
from .triples import BIAS, ROUND_BITS, power_of_two, settled

Lanes = Any
State = tuple[Lanes, ...]


# --- softmax: y (g - s), s the sum of all g y


def _step_dot(state: State, row: State, *_: Any) -> State:
    return add_pair_to_three(state, *two_prod(*row))


def _write_softmax_vjp(row: State, values: State, position: Lanes, done: State) -> State:
    g, y = row
    hi, lo = two_diff(g, done[0])
    return (y * (hi + (lo - done[1])),)


SOFTMAX_VJP = RowFunction(
    name="softmax_vjp",
    signature="(n),(n)->(n)",
    rows=(0.0, 0.0),
    passes=(Reduction((0.0, 0.0, 0.0), _step_dot, add_three),),
    finish=lambda values, known: normal(known[0]),
    write=_write_softmax_vjp,
)


# --- log_softmax: g - e^y s, s the sum of all g


def _step_total(state: State, row: State, *_: Any) -> State:
    return add_to_three(state, row[0], row[0].const(0.0))


def _finish_log_softmax_vjp(values: State, known: tuple[State, ...]) -> State:
    """The sum times 2^-lift, its low parts over it, what `exp_fine` needs for 2^lift e^y, and the low parts.

    The lift is such that neither factor is subnormal for any product that is not 0.
    """
    hi, mid, low = settled(*known[0])
    w = hi.width
    lift = exponent_field(hi) - (BIAS[w] - ROOM[w])
    lift = select(lift > FINE_TOP[w], FINE_TOP[w], lift)
    down = power_of_two(-lift)
    hi, mid, low = hi * down, mid * down, low * down
    rest = (mid + low) / select(hi == 0.0, 1.0, hi)
    k = from_bits((lift << 4) + (ROUND_BITS[w] + 16 * (LIFT if w == 32 else 0)))
    return hi, rest, k, to_float(lift + BIAS[w]) * -LN2, mid, low


ROOM = {32: 26, 64: 55}
CANCELLED = 2.0**-9


def _write_log_softmax_vjp(row: State, values: State, position: Lanes, done: State) -> State:
    g, y = row
    total, total_rest, k, bottom, mid, low = done
    s, r, q = exp_fine(y, k, bottom, total_rest)
    p, p_low = two_prod(s, total)
    left = fma(-p, r, g - p)
    result = left - fma(p, q, fma(p_low, r, p_low))
    # Next to y = 0 only g - total may cancel: e^y - 1 has as many bits as r.
    cancelled = fabs(left) < fabs(g * select(y > -CANCELLED, y, -CANCELLED))
    return rarely(cancelled, log_softmax_vjp_rest, (g, y, total, mid, low, k), (result,))


LOG_SOFTMAX_VJP = RowFunction(
    name="log_softmax_vjp",
    signature="(n),(n)->(n)",
    rows=(0.0, 0.0),
    passes=(Reduction((0.0, 0.0, 0.0), _step_total, add_three),),
    finish=_finish_log_softmax_vjp,
    write=_write_log_softmax_vjp,
)
