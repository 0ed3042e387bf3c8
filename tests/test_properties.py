"""What the records claim, for any input hypothesis thinks of: monotone, odd or even, within a range, one result for
one input.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import fastact as fa
from fastact.activation import Activation, forms

RECORDS = [r for r in fa.CATALOGUE.values() if all(p.default is not None for p in r.parameters)]
SETTINGS = settings(max_examples=40, deadline=None)
DTYPES = [np.float32, np.float64]


def floats(dtype: type[np.floating], **limits: Any) -> st.SearchStrategy[float]:
    """Any number of the dtype, those of ordinary size more often."""
    width = np.dtype(dtype).itemsize * 8
    ordinary = st.floats(-120, 120, width=width)
    return ordinary | st.floats(width=width, allow_nan=False, **limits)


def of(record: Activation, dtype: type[np.floating], *values: float) -> np.ndarray:
    """The function at some numbers, all in one call."""
    return np.asarray(getattr(fa, record.name)(np.array(values, dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("record", [r for r in RECORDS if r.monotone], ids=lambda r: r.name)
def test_never_decreases(record: Activation, dtype: type[np.floating]) -> None:
    """f(x) <= f(y) for x < y, as far as the contract allows: neighbours may be out of order by twice the error it
    permits.
    """
    bound = getattr(record.contract, np.dtype(dtype).name)

    @SETTINGS
    @given(floats(dtype), floats(dtype))
    def check(a: float, b: float) -> None:
        low, high = of(record, dtype, min(a, b), max(a, b))
        assert low <= high or low - high <= 2 * bound * np.spacing(abs(high))

    check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("record", [r for r in RECORDS if r.parity], ids=lambda r: r.name)
def test_parity(record: Activation, dtype: type[np.floating]) -> None:
    """An odd function changes nothing but the sign bit, an even one nothing at all; its derivative is the other of
    the two.
    """
    sign = -1 if record.parity == "odd" else 1
    derivative = getattr(fa, f"{record.name}_derivative")

    @SETTINGS
    @given(floats(dtype))
    @example(0.0)
    @example(math.inf)
    def check(x: float) -> None:
        plus, minus = of(record, dtype, x, -x)
        assert (sign * plus).tobytes() == minus.tobytes()
        slopes = derivative(np.array([x, -x], dtype))
        assert slopes[0] == -sign * slopes[1]

    check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.name)
def test_range(record: Activation, dtype: type[np.floating]) -> None:
    low, high = (dtype(end) for end in record.range)

    @SETTINGS
    @given(floats(dtype))
    @example(-math.inf)
    @example(math.inf)
    def check(x: float) -> None:
        (y,) = of(record, dtype, x)
        assert low <= y <= high

    check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("record", list(fa.CATALOGUE.values()), ids=lambda r: r.name)
def test_one_result_for_one_input(record: Activation, dtype: type[np.floating]) -> None:
    """Bit for bit, whatever else is in the array and whatever its shape, strides and length; NaN for NaN."""
    parameters = [0.25 if p.default is None else p.default for p in record.parameters]
    functions = [
        getattr(fa, public)
        for form, public in forms(record)
        if form not in ("vjp", "vjp_from_output", "with_derivative")
    ]
    shapes = array_shapes(max_dims=3, max_side=40)
    elements = st.floats(width=np.dtype(dtype).itemsize * 8)

    @settings(max_examples=12, deadline=None)
    @given(arrays(dtype, shapes, elements=elements), st.data())
    def check(x: np.ndarray, data: st.DataObject) -> None:
        at = tuple(data.draw(st.integers(0, side - 1)) for side in x.shape)
        for function in functions:
            whole = function(x, *parameters)
            alone = np.asarray(function(x[at], *parameters))
            turned = function(x.T[..., ::-1], *parameters)[..., ::-1].T
            assert whole.dtype == x.dtype
            assert np.array_equal(np.isnan(whole), np.isnan(x))
            if not np.isnan(x[at]):
                assert whole[at].tobytes() == alone.tobytes()
            assert np.array_equal(whole, turned, equal_nan=True)

    check()


@pytest.mark.parametrize("name", ["softplus", "log_sigmoid", "mish"])
def test_what_is_computed_anew_does_not_depend_on_its_neighbours(name: str) -> None:
    """In order, some groups of lanes have numbers that a function of their own is called for, and some have none."""
    rng = np.random.default_rng(5)
    every = rng.integers(0, 2**32, 5000, np.uint32).view(np.float32)
    x = np.concatenate(
        [rng.normal(0, 12, 5000).astype(np.float32), every[~np.isnan(every)], np.float32([0, -0.0] * 99)]
    )
    function, order = getattr(fa, name), np.argsort(x)
    assert function(x)[order].tobytes() == function(x[order]).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("record", list(fa.CATALOGUE.values()), ids=lambda r: r.name)
def test_both_at_once_are_the_two_alone(record: Activation, dtype: type[np.floating]) -> None:
    parameters = [0.25 if p.default is None else p.default for p in record.parameters]

    @SETTINGS
    @given(floats(dtype))
    def check(x: float) -> None:
        at = np.array([x], dtype)
        y, dy = getattr(fa, f"{record.name}_with_derivative")(at, *parameters)
        one = getattr(fa, record.name)(at, *parameters)
        slope = getattr(fa, f"{record.name}_derivative")(at, *parameters)
        bound = getattr(record.contract, np.dtype(dtype).name)
        for a, b in ((y, one), (dy, slope)):
            assert a.tobytes() == b.tobytes() or abs(a[0] - b[0]) <= 2 * bound * np.spacing(abs(b[0]))

    check()


rows = arrays(np.float64, st.integers(1, 60), elements=st.floats(-700, 700))


@settings(max_examples=50, deadline=None)
@given(rows)
def test_softmax_is_a_distribution(x: np.ndarray) -> None:
    y = fa.softmax(x)
    assert (y >= 0).all()
    assert (y <= 1).all()
    assert abs(math.fsum(y) - 1) <= 2.0**-51
    order = np.argsort(x, kind="stable")
    assert (np.diff(y[order]) >= -2 * np.spacing(y[order][1:])).all()


@settings(max_examples=50, deadline=None)
@given(rows)
def test_log_softmax_and_logsumexp_agree(x: np.ndarray) -> None:
    y = fa.log_softmax(x)
    total = fa.logsumexp(x)
    assert (y <= 0).all()
    assert total >= x.max()
    assert np.allclose(x - total, y, rtol=1e-15, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 70)), elements=st.floats(-80, 80, width=32)))
def test_a_row_does_not_depend_on_its_neighbours(x: np.ndarray) -> None:
    for function in (fa.softmax, fa.log_softmax, fa.logsumexp):
        whole = function(x)
        for k in range(len(x)):
            assert np.asarray(whole[k]).tobytes() == np.asarray(function(x[k])).tobytes()
        assert np.array_equal(function(np.asfortranarray(x)), whole)
        assert np.array_equal(function(np.ascontiguousarray(x.T), axis=0).T, whole)
