"""The vector-Jacobian product of softmax, from the saved output: y (g - s), s the sum of all g y."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

from .exp32 import clamp_above
from .language import add_product, add_sums, fabs, fma, grown, in_two, rarely, select, to_float
from .pairs import two_prod, two_sum
from .row_sums import DOWN, LIFTED, add_pair_to_three, add_three, normal
from .rows import AtOnce, Reduction, RowFunction

Lanes = Any
State = tuple[Lanes, ...]

# Where one y is next to 1 and its g next to s, all the other products may be what is left, however small they are. So
# all products are formed of LIFTED y, lest their rounding errors underflow. That overflows if g is large. Then, they
# are formed as they are, and only what underflows is made up for; and if s overflows too, though no result need do so,
# they are formed of DOWN g. There is nothing to make up for then, as no g comes near s.

EXACT = {32: 2.0**-60, 64: 2.0**-800}  # a product has an error that is a float, if it is larger


def _step_dot(state: State, row: State, *_: Any) -> State:
    g, y = row
    return add_pair_to_three(state, *two_prod(g, y * LIFTED[y.width]))


def _begin_dot(row: State, *_: Any) -> State:
    g, y = row
    p, p_low = two_prod(g, y * LIFTED[y.width])
    return p + 0.0, p_low + 0.0, p.const(0.0)  # no sum begins with -0


def _dot(total: State, *_: Any) -> State:
    """The sum as a pair, 0, and the sum times DOWN."""
    lifted = LIFTED[total[0].width]
    s, s_low = (part * (1.0 / lifted) for part in normal(total))
    return s, s_low, s.const(0.0), s * DOWN[s.width]


def _overflows(values: State, known: tuple[State, ...]) -> Lanes:
    return ~(fabs(known[-1][0]) < inf)


_EXACT_DOT = Reduction((0.0, 0.0, 0.0), _step_dot, add_three, result=_dot, begin=_begin_dot)


def _step_wide_dot(state: State, row: State, *_: Any) -> State:
    """The last part of the sum is kept multiplied by LIFTED."""
    g, y = row
    lifted = LIFTED[y.width]
    p, rest = two_prod(g, y)
    lost = fma(g, y * lifted, -(p * lifted)) - rest * lifted
    hi, e = two_sum(state[0], p)
    mid, e2 = two_sum(state[1], e)
    mid, e3 = two_sum(mid, rest)
    return hi, mid, state[2] + fma(e2 + e3, lifted, select(fabs(p) < EXACT[p.width], lost, 0.0))


def _merge_wide_dots(a: State, b: State) -> State:
    h, e = two_sum(a[0], b[0])
    mid, e2 = two_sum(a[1], b[1])
    mid, e3 = two_sum(mid, e)
    return h, mid, fma(e2 + e3, LIFTED[h.width], a[2] + b[2])


def _wide_dot(total: State, *_: Any) -> State:
    hi, mid, low = total
    s, s_low = normal((hi, mid, low * (1.0 / LIFTED[low.width])))
    return s, s_low, s.const(0.0), s * DOWN[s.width]


def _step_low_dot(state: State, row: State, *_: Any) -> State:
    g, y = row
    return add_pair_to_three(state, *two_prod(g * DOWN[g.width], y))


def _low_dot(total: State, *_: Any) -> State:
    s, s_low = normal(total)
    up = 1.0 / DOWN[s.width]
    return s * up, s_low * up, s.const(0.0), s


_WIDE_DOT = Reduction((0.0, 0.0, 0.0), _step_wide_dot, _merge_wide_dots, result=_wide_dot, when=_overflows)
_LOW_DOT = Reduction((0.0, 0.0, 0.0), _step_low_dot, add_three, result=_low_dot, when=_overflows)

LARGE_DOT = {32: 2.0**100, 64: 2.0**960}  # next to none that is smaller does a g - s overflow


def _finish_softmax_vjp(values: State, known: tuple[State, ...]) -> State:
    """The sum as a pair; times DOWN if it is large, else 0."""
    s, s_low, _, s_down = known[-1]
    return s, s_low, select(fabs(s) < LARGE_DOT[s.width], 0.0, s_down)


def _difference_times(y: Lanes, d: Lanes, s_low: Lanes) -> Lanes:
    return fma(y, d, -(y * s_low))


def _write_softmax_vjp(row: State, values: State, position: Lanes, done: State) -> State:
    # Where g comes near the sum the difference is exact, and never smaller than the sum's low part.
    g, y = row
    s, s_low, s_down = done
    result = _difference_times(y, g - s, s_low)
    return rarely(s_down != 0.0, _softmax_vjp_of_large, (g, y, s_low, s_down, result), (result,))


def _softmax_vjp_of_large(g: Lanes, y: Lanes, s_low: Lanes, s_down: Lanes, result: Lanes) -> tuple[Lanes]:
    """The result, found by a g - s that does not overflow if it is not finite."""
    down = DOWN[g.width]
    d = fma(g, down, -s_down)
    far = fma(y, d, -(y * (s_low * down))) * (1.0 / down)
    near = fma(y, d * (1.0 / down), -(y * s_low))  # also where s itself overflows
    again = select(fabs(d) < LARGE_DOT[g.width] * down, near, far)
    return (select(fabs(result) < inf, result, again),)


# On a CPU the sum is kept in float64. In rows of up to 2^14 elements an addend goes through 31 additions at most, in
# longer ones through one more for each so many: the error is below 2^-48 of the sum of all |g y|, in rows of `MANY`
# elements twice that. It does not matter unless some g is as close to the sum as `CLOSE` of that, or twice. So the
# closest is looked for, and where it is too close the sum is made as it is elsewhere. Where y is 0, so is the result.

CLOSE, MANY = 2.0**-23, 1 << 19


def _step_products(state: State, row: State, *_: Any) -> State:
    g, y = row
    return (*add_product(state[:2], g, y), state[2] + fabs(g * y))


def _products(total: State, values: State, known: tuple[State, ...]) -> State:
    more = fma(to_float(values[0]), 1.0 / MANY, 1.0)
    return (*in_two(total[:2]), total[2] * CLOSE * more)


_PRODUCTS = Reduction(
    (0.0, 0.0, 0.0),
    _step_products,
    lambda a, b: (*add_sums(a[:2], b[:2]), a[2] + b[2]),
    result=_products,
    end=lambda state: (*grown(state[:2]), state[2]),
)


def _smaller(a: State, b: State) -> State:
    return (clamp_above(a[0], b[0]),)


def _step_closest(state: State, row: State, values: State, position: Lanes, known: tuple[State, ...]) -> State:
    g, y = row
    return _smaller(state, (select(y != 0.0, fabs(g - known[0][0]), inf),))


def _closest(total: State, values: State, known: tuple[State, ...]) -> State:
    s, s_low, close = known[0]
    return s, s_low, select(total[0] < close, s.const(1.0), 0.0), s * DOWN[s.width]


_CLOSEST = Reduction((inf,), _step_closest, _smaller, result=_closest, repeats=True)
_DOT_AGAIN = replace(_WIDE_DOT, when=lambda values, known: (known[-1][2] != 0.0) | _overflows(values, known))


def _usual(values: State, known: tuple[State, ...]) -> Lanes:
    s = known[0][0]
    return fabs(s) < LARGE_DOT[s.width]


def _write_at_once(row: State, values: State, position: Lanes, known: tuple[State, ...]) -> tuple[Lanes, Lanes]:
    (g, y), (s, s_low, close) = row, known[0]
    d = g - s
    return _difference_times(y, d, s_low), (fabs(d) < close) & (y != 0.0)


_SOFTMAX_VJP32 = RowFunction(
    name="softmax_vjp",
    signature="(n),(n)->(n)",
    rows=(0.0, 0.0),
    passes=(_PRODUCTS, _CLOSEST, _DOT_AGAIN, _LOW_DOT),
    finish=_finish_softmax_vjp,
    write=_write_softmax_vjp,
    length=True,
    at_once=AtOnce(_usual, _write_at_once),
)
SOFTMAX_VJP = replace(
    _SOFTMAX_VJP32,
    passes=(_EXACT_DOT, _WIDE_DOT, _LOW_DOT),
    length=False,
    at_once=None,
    on_cpu32=_SOFTMAX_VJP32,
)
