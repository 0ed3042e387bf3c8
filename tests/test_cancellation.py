"""Rows whose results are what two nearly equal terms leave, or sums of many tiny terms: to all bits, in any layout.

The truth is mpmath's, of the very floats that the functions are given.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import fastact as fa

from .functions import same_bits

mpmath = pytest.importorskip("mpmath")
both = pytest.mark.parametrize("dtype", [np.float32, np.float64])
LENGTHS = (2, 3, 10, 1000, 1_000_000)


def errors(result: Any, *true: Any) -> float:
    """The largest error in ULP of the true values."""
    result = np.atleast_1d(result)
    worst = 0.0
    for found, exact in zip(result.tolist(), true, strict=True):
        spacing = float(np.spacing(np.abs(result.dtype.type(float(exact)))))
        worst = max(worst, float(abs(mpmath.mpf(found) - exact) / spacing))
    return worst


def numbers(x: Any) -> list[Any]:
    return [mpmath.mpf(v) for v in np.asarray(x, np.float64).tolist()]


def exact_vjp(g: Any, y: Any) -> list[Any]:
    total = mpmath.fsum(numbers(g))
    return [a - (mpmath.exp(b) if b > -mpmath.inf else 0) * total for a, b in zip(numbers(g), numbers(y), strict=True)]


@both
@pytest.mark.parametrize("n", LENGTHS)
def test_equal_gradients_over_equal_logits(dtype: Any, n: int) -> None:
    y = fa.log_softmax(np.zeros(n, dtype))
    shares = fa.softmax(np.zeros(n, dtype))
    for size in (1.0, 1e-3, -1e30, 3e-36):
        g = dtype(size)
        with mpmath.workdps(80):
            found = fa.log_softmax_vjp(np.full(n, g), y)
            assert (found == found[0]).all()
            assert errors(found[:1], mpmath.mpf(float(g)) * (1 - n * mpmath.exp(mpmath.mpf(float(y[0]))))) < 2
            found = fa.softmax_vjp(np.full(n, g), shares)
            p = mpmath.mpf(float(shares[0]))
            assert errors(found[:1], p * mpmath.mpf(float(g)) * (1 - n * p)) < 2


@both
@pytest.mark.parametrize("n", LENGTHS)
def test_the_sum_of_what_log_softmax_gives(dtype: Any, n: int) -> None:
    y = fa.log_softmax(np.zeros(n, dtype))
    with mpmath.workdps(80):
        assert errors(fa.logsumexp(y), mpmath.log(n * mpmath.exp(mpmath.mpf(float(y[0]))))) < 2
        assert errors(fa.logmeanexp(y + dtype(math.log(n))), mpmath.mpf(float(y[0] + dtype(math.log(n))))) < 2


@both
@pytest.mark.parametrize("n", [20, 1000, 40_000])
def test_one_entry_and_many_small_ones(dtype: Any, n: int) -> None:
    rng = np.random.default_rng(n)
    for depth in rng.uniform(math.log(n) - 4, math.log(n) + 30, 12):
        x = np.full(n + 1, -dtype(depth))
        top = int(rng.integers(n + 1))
        x[top] = 0
        other = 0 if top else 1
        with mpmath.workdps(80):
            share = mpmath.exp(mpmath.mpf(float(x[other])))
            log = mpmath.log1p(n * share)
            true = mpmath.exp(-log), share * mpmath.exp(-log)
            assert errors(fa.softmax(x)[[top, other]], *true) < 2
            assert errors(fa.log_softmax(x)[[top, other]], -log, mpmath.mpf(float(x[other])) - log) < 2
            assert errors(fa.logsumexp(x), log) < 2
            value, gradient = fa.cross_entropy_with_logits_with_gradient(x, top)
            assert errors(value, log) < 2
            assert errors(gradient[[top, other]], mpmath.expm1(-log), true[1]) < 2


@both
@pytest.mark.parametrize("top", [0.0, -0.0, -1e-9, -3e-8, -1e-7, -1e-4, -2e-3, 1e-7])
def test_log_softmax_vjp_next_to_one_probability(dtype: Any, top: float) -> None:
    """The sum of g is rounded to the one of its terms that e^y is next to 1 for, or is it."""
    rng = np.random.default_rng(4)
    y = np.append(rng.uniform(-40, -9, 130), top).astype(dtype)
    for size in (0.0, 1e-8, 1e-3, 1e4):
        g = np.append(rng.normal(size=130) * size, -3.3).astype(dtype)
        with mpmath.workdps(80):
            assert errors(fa.log_softmax_vjp(g, y), *exact_vjp(g, y)) < 2


@both
@pytest.mark.parametrize("top", [-1e-11, -3e-8, -1e-6, -1e-3, -0.02, -0.5, -3.0])
@pytest.mark.parametrize("more", [0, 12])
def test_log_softmax_vjp_cancels_twice(dtype: Any, top: float, more: int) -> None:
    """g is nearly the sum of all g, and what is left nearly g (e^-y - 1): but for one rounding, or 2^-12 of one."""
    rng = np.random.default_rng(5)
    for n in (0, 5, 30):
        y = np.append(np.full(n + 2, -30), top * rng.uniform(0.5, 1)).astype(dtype)
        g = np.zeros_like(y)
        g[-1] = rng.uniform(1, 4)
        with mpmath.workdps(120):
            others = mpmath.mpf(float(g[-1])) * mpmath.expm1(-mpmath.mpf(float(y[-1])))
            g[0] = float(others)
            mantissa, exponent = mpmath.frexp(others - mpmath.mpf(float(g[0])))
            g[1] = math.ldexp(int(mpmath.nint(mpmath.ldexp(mantissa, more))), int(exponent) - more) if more else 0
            assert errors(fa.log_softmax_vjp(g, y), *exact_vjp(g, y)) < 2


@both
@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 1e15, 1e30])
def test_log_softmax_vjp_far_down(dtype: Any, size: float) -> None:
    y = np.append(-np.linspace(20, 160, 281), [-1e-3, -400.0, -1e30, -np.inf]).astype(dtype)
    g = np.zeros_like(y)
    g[280:] = size, -0.3 * size, 0, 0, 0
    with mpmath.workdps(80):
        assert errors(fa.log_softmax_vjp(g, y), *exact_vjp(g, np.maximum(y, dtype(-1e5)))) < 2


@both
@pytest.mark.parametrize("size", [1e-30, 1e-10, 1.0, 1e10, 1e30])
def test_log_softmax_vjp_of_what_no_exponential_reaches(dtype: Any, size: float) -> None:
    """Nothing is left of e^y times the sum, however large that is, but where g is 0."""
    rng = np.random.default_rng(7)
    far = rng.uniform(60, 300 if dtype == np.float32 else 2500, 500)
    y = np.append(-far, [-0.7, -0.9, -3, -np.inf]).astype(dtype)
    g = (rng.normal(size=y.size) * size).astype(dtype)
    g[::4] = 0
    g[1::12] = np.finfo(dtype).smallest_subnormal
    with mpmath.workdps(80):
        assert errors(fa.log_softmax_vjp(g, y), *exact_vjp(g, y)) < 2


@both
def test_softmax_vjp_next_to_its_zeros(dtype: Any) -> None:
    rng = np.random.default_rng(6)
    for n in (2, 7, 40, 200):
        y = fa.softmax((rng.normal(size=n) * 3).astype(dtype))
        g = rng.normal(size=n).astype(dtype)
        k = int(np.argmin(y))
        others = np.delete(np.arange(n), k)
        g[k] = float(np.dot(g[others].astype(np.float64), y[others])) / (1 - float(y[k]))
        with mpmath.workdps(80):
            dot = mpmath.fsum(a * b for a, b in zip(numbers(g), numbers(y), strict=True))
            true = [b * (a - dot) for a, b in zip(numbers(g), numbers(y), strict=True)]
            assert errors(fa.softmax_vjp(g, y), *true) < 2


rows = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        *(st.lists(st.floats(-size, size, width=32), min_size=n, max_size=n) for size in (1.0, 30.0)),
        st.floats(-(2.0**-20), 2.0**-20, width=32),
    )
)


@both
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(([0.0] * 10, [0.0] * 7 + [1.0, 27.39453125, -16.0], 0.0))
@given(rows)
def test_log_softmax_vjp_next_to_its_zeros(dtype: Any, row: Any) -> None:
    """Each g is near, some at a float's distance of, where the result is 0."""
    near, logits, shift = row
    y = fa.log_softmax(np.array(logits, dtype))
    g = np.exp(y) * dtype(3.0)
    g = (g + g * np.array(near, dtype) * dtype(shift)).astype(dtype)
    with mpmath.workdps(120):
        assert errors(fa.log_softmax_vjp(g, y), *exact_vjp(g, y)) < 2


@both
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows)
def test_sums_of_what_is_nearly_a_distribution(dtype: Any, row: Any) -> None:
    near, logits, shift = row
    x = fa.log_softmax(np.array(logits, dtype)) + np.array(near, dtype) * dtype(shift)
    with mpmath.workdps(120):
        total = mpmath.fsum(map(mpmath.exp, numbers(x)))
        assert errors(fa.logsumexp(x), mpmath.log(total)) < 2
        assert errors(fa.logmeanexp(x), mpmath.log(total / len(x))) < 2
        centred = x - x.mean(dtype=dtype)
        mean = mpmath.log(mpmath.fsum(map(mpmath.exp, numbers(centred))) / len(x))
        assert errors(fa.logmeanexp(centred), mean) < 2


@both
@pytest.mark.parametrize("n", [3, 10, 200, 3000])
def test_any_layout(dtype: Any, n: int) -> None:
    rng = np.random.default_rng(n)
    x = (rng.normal(size=(41, n)) * 3).astype(dtype)
    x[::3] = 0
    x[1::5] = -30
    x[1::5, 0] = 0
    x[2::7] = -25 + rng.normal(size=x[2::7].shape)
    x[2::7, n // 2] = 0
    y = fa.log_softmax(x)
    g = rng.normal(size=x.shape).astype(dtype)
    g[::2] = 1
    g[2::7] = np.exp(y[2::7]) * dtype(3)  # here the sum takes a fourth part
    cases = (
        (fa.log_softmax_vjp, (g, y)),
        (fa.logsumexp, (y,)),
        (fa.logmeanexp, (y,)),
        (fa.softmax, (x,)),
        (fa.log_softmax, (x,)),
    )
    for function, given_rows in cases:
        found = function(*given_rows)
        one_by_one = np.stack([function(*(a[k] for a in given_rows)) for k in range(len(x))])
        assert same_bits(one_by_one, found)
        across = function(*(np.ascontiguousarray(a.T) for a in given_rows), axis=0)
        assert same_bits(across.T, found)
        wide = [np.repeat(a, 2, axis=1)[:, ::2] for a in given_rows]
        assert same_bits(function(*wide), found)
        with fa.threads(2):
            many = function(*(np.tile(a, (200, 1)) for a in given_rows))
        assert same_bits(many, np.tile(found, (200, *[1] * (found.ndim - 1))))


@both
def test_no_warning_from_what_is_not_selected(dtype: Any) -> None:
    y = fa.log_softmax(np.zeros((20, 10), dtype))
    y[3] = -np.inf
    y[4] = np.nan
    g = np.ones_like(y)
    g[5] = np.finfo(dtype).max / 4
    g[6] = np.finfo(dtype).smallest_subnormal
    g[7] = 0
    y[8] = -np.inf
    g[8] = 0
    g[9] = np.finfo(dtype).max, *[0] * 9
    with np.errstate(all="raise"):
        fa.log_softmax_vjp(g, y)
        fa.logsumexp(y)


def test_sums_of_entries_that_are_nothing_one_by_one() -> None:
    """Of e^-104 and less none shows in float32, but of a thousand the sum does."""
    for low, n in ((-104.01, 101), (-104.5, 1000), (-110.0, 5000)):
        for top in (0.0, -0.0, -1e-40):
            x = np.array([top] + [low] * n, np.float32)
            with mpmath.workdps(80):
                true = mpmath.log(sum(mpmath.exp(v) for v in numbers(x)))
                assert errors(fa.logsumexp(x), true) <= 1, (low, top)
    x = np.full(65536, -104.01, np.float32)
    x[60000:], x[7] = -92, 0
    with mpmath.workdps(80):
        parts = [n * mpmath.exp(mpmath.mpf(float(np.float32(v)))) for n, v in ((1, 0), (59999, -104.01), (5536, -92))]
        assert errors(fa.logsumexp(x), mpmath.log(mpmath.fsum(parts))) <= 1
