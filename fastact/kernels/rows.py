"""Softmax and its relatives over one row, as passes over its elements.

A row function is a list of reductions followed by what is written. The lanes of a reduction are merged in a fixed order
that depends on the length of the row alone, so a row's result does not depend on where it lies or who computes it.

The difference x - max is kept with its rounding error, exponentials are pairs and sums are compensated, so that nothing
is lost before the last rounding: each element of softmax, log_softmax and the gradients is within 2 ULP of the true
value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from .exp64 import exp_mantissa64, exp_parts64, scale_down64
from .language import bits, by_dtype, fabs, fma, from_bits, kernel, select, to_float
from .log64 import log_pair64
from .pairs import fast_two_sum, renormalise, two_diff, two_sum
from .scaled import ATANH_TAIL, FORMATS, exp_scaled32

Lanes = Any
State = tuple[Lanes, ...]


@dataclass(frozen=True, slots=True)
class Reduction:
    """One pass that folds a row into a few numbers.

    `step(state, row, values, position, known)` takes in `row` (one lanes an input row); `values` are the operands that
    are one number a row, `position` the index of each element, `known` the states of the passes before. `merge` joins
    two states. What is beyond the end of the row reads as the row's padding.
    """

    initial: tuple[float, ...]
    step: Callable[..., State]
    merge: Callable[[State, State], State]


@dataclass(frozen=True, slots=True)
class RowFunction:
    """A function of rows.

    `rows` are the paddings of its array operands, `values` its operands of one number a row ("float" or "index"). Once
    the passes are done, `finish(values, known)` computes on single numbers what the outputs need; the first `results`
    of them are outputs of one number, and `write(row, values, position, finished)` gives the output rows.
    """

    name: str
    signature: str
    rows: tuple[float, ...]
    passes: tuple[Reduction, ...]
    values: tuple[str, ...] = ()
    finish: Callable[[State, tuple[State, ...]], State] = lambda values, known: ()
    results: int = 0
    write: Callable[..., State] | None = None
    refuses_empty: bool = False


# --- the exponential of a difference <= 0, in a form that has room for 1e-300 and is scaled back once


@kernel
def _term32(hi: Lanes, lo: Lanes) -> State:
    """(h, l, n): e^(hi + lo) = 2^-124 (h + l), for hi <= 0; n is not used."""
    limit = -FORMATS[32].limit
    hi = select(hi < limit, limit, hi)
    h, rest = exp_scaled32(hi, lo)
    return h, rest, h


@kernel
def _term64(hi: Lanes, lo: Lanes) -> State:
    """(h, l, n): e^(hi + lo) = 2^n (h + l), for hi <= 0."""
    i, r, q = exp_parts64(select(hi < -746.0, -746.0, hi), lo)
    return (*exp_mantissa64(r, q), i)


def _plain32(x: Lanes, n: Lanes) -> Lanes:
    return x * FORMATS[32].down


# `x` taken back to its true size, rounded once if that is subnormal.
_plain = by_dtype(_plain32, scale_down64)
_term = by_dtype(_term32, _term64)

# e^x is 0 for x <= ZERO. Said so with a select: a product that underflows takes a CPU some hundred cycles, and masked
# entries and the padding of a short row would all pay them.
ZERO = {32: -104.0, 64: -745.5}
# In a sum of such terms the largest is 1, and what is below SMALLEST does not count.
SMALLEST = {32: -87.0, 64: -700.0}
# Sums are kept multiplied by this, so that their low parts are not subnormal.
SUM_SCALE = {32: 2.0**64, 64: 1.0}


def _for_sum32(x: Lanes, n: Lanes) -> Lanes:
    return x * (FORMATS[32].down * SUM_SCALE[32])


_for_sum = by_dtype(_for_sum32, scale_down64)

LN2_HIGH = 0.693145751953125  # 16 bits, so that its product with an exponent is exact
LN2_LOW = 1.428606765330187e-06


@kernel
def _log_pair32(hi: Lanes, lo: Lanes) -> tuple[Lanes, Lanes]:
    """log(hi + lo) as a pair, for a normal pair in [2^-100, 2^100], next to 1 too. Relative error 2^-27."""
    # the mantissa in [3/4, 3/2): adding a quarter of a binade carries into the exponent from 3/2 on
    k = (bits(hi) + 0x00400000) >> 23
    down = from_bits((254 - k) << 23)
    n = to_float(k - 127)
    f = fma(hi, down, -1.0)  # exact
    f, rest = fast_two_sum(f, lo * down)
    # log(1 + f) = 2 atanh(q / 2) with q = f / (1 + f/2)
    d = fma(f, 0.5, 1.0)
    d_low = fma(f, 0.5, 1.0 - d) + 0.5 * rest
    q = f / d
    q_low = (fma(-q, d_low, fma(-q, d, f)) + rest) / d
    z = q * q
    tail = z.const(ATANH_TAIL[32][4])
    for coefficient in ATANH_TAIL[32][3::-1]:
        tail = fma(tail, z, coefficient)
    h, rest = two_sum(n * LN2_HIGH, q)
    return renormalise(h, rest + fma(n, LN2_LOW, fma(q * z, tail, q_low)))


_log_pair = by_dtype(_log_pair32, log_pair64)


def _difference(x: Lanes, m: Lanes) -> tuple[Lanes, Lanes]:
    """x - m exactly, as a pair; the low part is 0 where it does not matter, or the difference is infinite."""
    hi, lo = two_diff(x, m)
    return hi, select(hi > -800.0, lo, 0.0)


# --- reductions


def _larger(a: State, b: State) -> State:
    """The larger one; NaN wins."""
    return (select((b[0] > a[0]) | (b[0] != b[0]), b[0], a[0]),)


def _add3(a: State, b: State) -> State:
    """Sums of three parts: what is small against the first part keeps its own relative accuracy."""
    h, e = two_sum(a[0], b[0])
    mid, e2 = two_sum(a[1], b[1])
    mid, e3 = two_sum(mid, e)
    return h, mid, a[2] + b[2] + (e2 + e3)


def _add_pair(total: State, h: Lanes, rest: Lanes) -> State:
    hi, e = two_sum(total[0], h)
    mid, e2 = two_sum(total[1], e)
    return hi, mid, total[2] + (e2 + rest)


def _normal(total: State) -> tuple[Lanes, Lanes]:
    """A sum of three parts as a normal pair."""
    mid, low = fast_two_sum(total[1], total[2])
    hi, mid = two_sum(total[0], mid)
    return fast_two_sum(hi, mid + low)


def _sum(total: State) -> tuple[Lanes, Lanes]:
    """The true value of a sum of exponentials, as a normal pair."""
    hi, lo = _normal(total)
    down = 1.0 / SUM_SCALE[hi.width]
    return hi * down, lo * down


def _at_least(x: Lanes, floor: Mapping[int, float]) -> Lanes:
    """max(x, floor), NaN for NaN."""
    return select(x < floor[x.width], floor[x.width], x)


def _exp(x: Lanes, m: Lanes) -> tuple[Lanes, Lanes]:
    """SUM_SCALE e^(x - m) as a pair, for x <= m."""
    hi, lo = _difference(x, m)
    h, rest, n = _term(_at_least(hi, SMALLEST), lo)
    small = hi <= SMALLEST[x.width]  # not so for NaN
    return _for_sum(select(small, 0.0, h), n), _for_sum(select(small, 0.0, rest), n)


def _step_maximum(state: State, row: State, *_: Any) -> State:
    return _larger(state, row[:1])


def _step_sum(state: State, row: State, values: State, position: Lanes, known: tuple[State, ...]) -> State:
    return _add_pair(state, *_exp(row[0], known[0][0]))


MAXIMUM = Reduction((-inf,), _step_maximum, _larger)
SUM_OF_EXP = Reduction((0.0, 0.0, 0.0), _step_sum, _add3)


def _inverse(total: tuple[Lanes, Lanes]) -> State:
    """1 / (hi + lo) as a pair."""
    r = 1.0 / total[0]
    return r, r * fma(-r, total[1], fma(-r, total[0], 1.0))


def _softmax_of(x: Lanes, m: Lanes, r: Lanes, r_low: Lanes) -> Lanes:
    hi, lo = _difference(x, m)
    h, rest, n = _term(_at_least(hi, ZERO), lo)
    # 0 * r, because a NaN anywhere in the row is to reach every entry
    return _plain(select(hi <= ZERO[x.width], 0.0 * r, fma(h, r, fma(h, r_low, rest * r))), n)


# --- softmax, log_softmax, logsumexp

SOFTMAX = RowFunction(
    name="softmax",
    signature="(n)->(n)",
    rows=(-inf,),
    passes=(MAXIMUM, SUM_OF_EXP),
    finish=lambda values, known: (known[0][0], *_inverse(_sum(known[1]))),
    write=lambda row, values, position, done: (_softmax_of(row[0], *done),),
    refuses_empty=True,
)


def _write_log_softmax(row: State, values: State, position: Lanes, done: State) -> State:
    m, log, log_low = done
    d, d_low = _difference(row[0], m)
    h, e = two_sum(d, -log)
    # an entry of -inf stays what it is; NaN in the sum reaches every entry
    return (select(d == -inf, d - log, h + (e + (d_low - log_low))),)


LOG_SOFTMAX = RowFunction(
    name="log_softmax",
    signature="(n)->(n)",
    rows=(-inf,),
    passes=(MAXIMUM, SUM_OF_EXP),
    finish=lambda values, known: (known[0][0], *_log_pair(*_sum(known[1]))),
    write=_write_log_softmax,
    refuses_empty=True,
)


def _finish_logsumexp(values: State, known: tuple[State, ...]) -> State:
    (m,), total = known
    log, log_low = _log_pair(*_sum(total))
    h, e = two_sum(m, log)
    # all -inf, or no element at all: -inf; +inf somewhere: +inf; NaN somewhere: the maximum is NaN
    return (select((m == inf) | (m == -inf), m, h + (e + log_low)),)


LOGSUMEXP = RowFunction(
    name="logsumexp",
    signature="(n)->()",
    rows=(-inf,),
    passes=(MAXIMUM, SUM_OF_EXP),
    finish=_finish_logsumexp,
    results=1,
)


# --- vector-Jacobian products, from the saved output


def _step_dot(state: State, row: State, *_: Any) -> State:
    g, y = row
    product = g * y
    return _add_pair(state, product, fma(g, y, -product))


def _write_softmax_vjp(row: State, values: State, position: Lanes, done: State) -> State:
    g, y = row
    hi, lo = two_diff(g, done[0])
    return (y * (hi + (lo - done[1])),)


SOFTMAX_VJP = RowFunction(
    name="softmax_vjp",
    signature="(n),(n)->(n)",
    rows=(0.0, 0.0),
    passes=(Reduction((0.0, 0.0, 0.0), _step_dot, _add3),),
    finish=lambda values, known: _normal(known[0]),
    write=_write_softmax_vjp,
)


def _step_total(state: State, row: State, *_: Any) -> State:
    return _add_pair(state, row[0], row[0].const(0.0))


def _keep_in_range32(hi: Lanes, lo: Lanes) -> State:
    """A large sum takes the 2^-124 of `_term32` before the product with it would overflow, a small one after."""
    large = fabs(hi) >= 1.0
    before, after = select(large, hi.const(FORMATS[32].down), 1.0), select(large, hi.const(1.0), FORMATS[32].down)
    return hi * before, lo * before, after


def _keep_in_range64(hi: Lanes, lo: Lanes) -> State:
    return hi, lo, hi


_keep_in_range = by_dtype(_keep_in_range32, _keep_in_range64)
_product_plain = by_dtype(lambda x, n, after: x * after, lambda x, n, after: scale_down64(x, n))


def _write_log_softmax_vjp(row: State, values: State, position: Lanes, done: State) -> State:
    g, y = row
    h, rest, n = _term(select(y > 0.0, 0.0, y), y.const(0.0))
    total, total_low, after = done
    p = h * total
    p_low = fma(h, total, -p) + fma(h, total_low, rest * total)
    product, product_low = _product_plain(p, n, after), _product_plain(p_low, n, after)
    hi, lo = two_diff(g, product)
    return (hi + (lo - product_low),)


LOG_SOFTMAX_VJP = RowFunction(
    name="log_softmax_vjp",
    signature="(n),(n)->(n)",
    rows=(0.0, 0.0),
    passes=(Reduction((0.0, 0.0, 0.0), _step_total, _add3),),
    finish=lambda values, known: _keep_in_range(*_normal(known[0])),
    write=_write_log_softmax_vjp,
)


def _write_logsumexp_vjp(row: State, values: State, position: Lanes, done: State) -> State:
    m, r, r_low = done
    return (values[0] * _softmax_of(row[0], m, r, r_low),)


LOGSUMEXP_VJP = RowFunction(
    name="logsumexp_vjp",
    signature="(n),()->(n)",
    rows=(-inf,),
    values=("float",),
    passes=(MAXIMUM, SUM_OF_EXP),
    finish=SOFTMAX.finish,
    write=_write_logsumexp_vjp,
)


# --- cross entropy of logits against one class a row: w (log sum_j e^(x_j - m) + m - x_t)


def _step_others(state: State, row: State, values: State, position: Lanes, known: tuple[State, ...]) -> State:
    """The sum over every class but the target, and the target's logit.

    Where the target dominates, the loss is log1p of this sum and the target's gradient is minus its share: both keep
    their relative accuracy only if the target is left out from the start.
    """
    here = position == values[0]
    h, rest = _exp(row[0], known[0][0])
    total = _add_pair(state[:3], select(here, 0.0, h), select(here, 0.0, rest))
    return (*total, select(here, row[0], state[3]))


def _merge_others(a: State, b: State) -> State:
    # the target is in one lane only; all others hold -inf still
    return (*_add3(a[:3], b[:3]), *_larger(a[3:], b[3:]))


OTHERS = Reduction((0.0, 0.0, 0.0, -inf), _step_others, _merge_others)


def _finish_cross_entropy(values: State, known: tuple[State, ...]) -> State:
    (m,), (*others, target) = known
    weight = values[1]
    t, t_low = _exp(target, m)
    total = _sum(_add_pair(tuple(others), t, t_low))
    others_high, others_low = _sum(tuple(others))
    log, log_low = _log_pair(*total)
    d, d_low = two_diff(m, target)
    h, e = two_sum(d, log)
    loss = select(d == inf, d, h + (e + (log_low + d_low)))
    r, r_low = _inverse(total)
    share = fma(others_high, r, fma(others_high, r_low, others_low * r))
    zero = weight == 0.0
    return (
        select(zero, 0.0, weight * loss),
        m,
        r,
        r_low,
        select(zero, 0.0, -(weight * share)),
    )


def _write_cross_entropy_gradient(row: State, values: State, position: Lanes, done: State) -> State:
    _, m, r, r_low, at_target = done
    weight = values[1]
    p = weight * _softmax_of(row[0], m, r, r_low)
    return (select(position == values[0], at_target, select(weight == 0.0, 0.0, p)),)


CROSS_ENTROPY = RowFunction(
    name="cross_entropy",
    signature="(n),(),()->()",
    rows=(-inf,),
    values=("index", "float"),
    passes=(MAXIMUM, OTHERS),
    finish=_finish_cross_entropy,
    results=1,
)

CROSS_ENTROPY_WITH_GRADIENT = RowFunction(
    name="cross_entropy_with_gradient",
    signature="(n),(),()->(),(n)",
    rows=(-inf,),
    values=("index", "float"),
    passes=(MAXIMUM, OTHERS),
    finish=_finish_cross_entropy,
    results=1,
    write=_write_cross_entropy_gradient,
)


# --- cross entropy of logits against a distribution q: sum_c q_c (log sum_j e^(x_j - m) + m - x_c)


def _step_weighted(state: State, row: State, values: State, position: Lanes, known: tuple[State, ...]) -> State:
    """The sum of q_c (m - x_c), and the sum of q_c."""
    x, q = row
    # half of the difference, which does not overflow, times twice the share
    d, d_low = two_diff(0.5 * known[0][0], 0.5 * x)
    twice = q + q
    p = twice * d
    p_low = fma(twice, d, -p) + twice * d_low
    unused = q == 0.0  # a class that is masked with -inf
    p_low = select(p < inf, p_low, 0.0)
    weighted = _add_pair(state[:3], select(unused, 0.0, p), select(unused, 0.0, p_low))
    return (*weighted, *_add_pair(state[3:], q, q.const(0.0)))


def _merge_weighted(a: State, b: State) -> State:
    return (*_add3(a[:3], b[:3]), *_add3(a[3:], b[3:]))


WEIGHTED = Reduction((0.0,) * 6, _step_weighted, _merge_weighted)


def _finish_soft_cross_entropy(values: State, known: tuple[State, ...]) -> State:
    (m,), total, weighted = known
    exponentials = _sum(total)
    log, log_low = _log_pair(*exponentials)
    s, s_low = _normal(weighted[:3])
    q, q_low = _normal(weighted[3:])
    p = log * q
    p_low = fma(log, q, -p) + fma(log, q_low, log_low * q)
    h, e = two_sum(s, p)
    loss = select(s == inf, s, h + (e + (s_low + p_low)))
    r, r_low = _inverse(exponentials)
    return loss, m, r, r_low, q, q_low


def _write_soft_cross_entropy_gradient(row: State, values: State, position: Lanes, done: State) -> State:
    _, m, r, r_low, q_total, q_total_low = done
    hi, lo = _difference(row[0], m)
    h, rest, n = _term(_at_least(hi, ZERO), lo)
    zero = hi <= ZERO[h.width]
    y = select(zero, 0.0 * r, h * r)
    y_low = select(zero, 0.0, fma(h, r, -y) + fma(h, r_low, rest * r))
    p = y * q_total
    p_low = fma(y, q_total, -p) + fma(y, q_total_low, y_low * q_total)
    hi, lo = two_diff(_plain(p, n), row[1])
    return (hi + (lo + _plain(p_low, n)),)


SOFT_CROSS_ENTROPY = RowFunction(
    name="soft_cross_entropy",
    signature="(n),(n)->()",
    rows=(-inf, 0.0),
    passes=(MAXIMUM, SUM_OF_EXP, WEIGHTED),
    finish=_finish_soft_cross_entropy,
    results=1,
)

SOFT_CROSS_ENTROPY_WITH_GRADIENT = RowFunction(
    name="soft_cross_entropy_with_gradient",
    signature="(n),(n)->(),(n)",
    rows=(-inf, 0.0),
    passes=(MAXIMUM, SUM_OF_EXP, WEIGHTED),
    finish=_finish_soft_cross_entropy,
    results=1,
    write=_write_soft_cross_entropy_gradient,
)
