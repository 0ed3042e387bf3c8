"""Every function is a genuine numpy.ufunc, or a thin callable around one."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact import losses, row_options
from fastact.api import elementwise_forms

from .functions import ELEMENTWISE, SHAPES, arrays, call, outputs, parameters, same_bits, sample

shapes = pytest.mark.parametrize("name", SHAPES)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_it_is_a_ufunc_or_has_one(name: str) -> None:
    function = getattr(fa, name)
    record, form = elementwise_forms()[name]
    ufunc = function.ufunc if record.parameters else function
    assert type(ufunc) is np.ufunc
    assert (ufunc.nin, ufunc.nout) == (len(form.arrays) + len(record.parameters), len(form.outputs))
    assert function.__name__ == ufunc.__name__ == name
    assert function.__module__ == "fastact"
    assert record.name in function.__doc__
    assert {t[0] for t in ufunc.types} == {"e", "f", "d"}


@pytest.mark.parametrize("name", [*ELEMENTWISE, "softmax", "logsumexp", "cross_entropy_with_logits"])
def test_pickled_functions_come_back_identical(name: str) -> None:
    function = getattr(fa, name)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(function, protocol)) is function


@pytest.mark.parametrize("name", [name for name in ELEMENTWISE if elementwise_forms()[name][0].parameters])
def test_the_ufuncs_of_functions_with_parameters_can_be_pickled(name: str) -> None:
    """Dask sends to its processes what NumPy calls it with: the ufunc."""
    function = getattr(fa, name)
    for ufunc in filter(None, (function.ufunc, function.plain)):
        assert pickle.loads(pickle.dumps(ufunc)) is ufunc


@pytest.mark.parametrize("name", row_options.NAMES)
def test_the_ufuncs_of_functions_with_options_can_be_pickled(name: str) -> None:
    for core in row_options.cores(name):
        assert pickle.loads(pickle.dumps(core)) is core


def test_the_ufuncs_behind_losses_can_be_pickled() -> None:
    for core in losses.cores("cross_entropy_with_logits"):
        assert pickle.loads(pickle.dumps(core)) is core


def test_the_type_of_functions_with_parameters_makes_none() -> None:
    """Nor does that of NumPy's ufuncs: it would be one that has no name and cannot be called."""
    for function in (fa.leaky_relu, fa.relu):
        with pytest.raises(TypeError, match="cannot create"):
            type(function)()


@shapes
def test_where_and_out(name: str) -> None:
    x = sample(1000)
    operands = [x] * arrays(name)
    full = outputs(call(name, *operands))
    mask = np.arange(1000) % 3 == 0
    out = tuple(np.full(1000, 7, np.float32) for _ in full)
    result = outputs(call(name, *operands, where=mask, out=out if len(out) > 1 else out[0]))
    for given, got, whole in zip(out, result, full, strict=True):
        assert got is given
        assert same_bits(got[mask], whole[mask])
        assert (got[~mask] == 7).all()


def test_the_call_of_the_readme() -> None:
    x, y = np.float32([-1, 0, 1]), np.full(3, 9, np.float32)
    assert fa.hard_swish(x, where=[True, False, True], out=y) is y
    assert y[1] == 9
    assert y[0] == np.float32(-1 / 3)


@shapes
def test_dtype_and_casting(name: str) -> None:
    x = sample(100)
    operands = [x] * arrays(name)
    wide = outputs(call(name, *operands, dtype=np.float64))
    assert all(w.dtype == np.float64 for w in wide)
    assert same_bits(wide, outputs(call(name, *(o.astype(np.float64) for o in operands))))
    with pytest.raises(TypeError, match="Cannot cast"):
        call(name, *(o.astype(np.float64) for o in operands), dtype=np.float32, casting="safe")
    narrow = outputs(call(name, *(o.astype(np.float64) for o in operands), dtype=np.float32))
    assert same_bits(narrow, outputs(call(name, *operands)))


@pytest.mark.parametrize(
    ("given", "expected"),
    [("?", "e"), ("b", "e"), ("B", "e"), ("h", "f"), ("H", "f"), ("i", "d"), ("l", "d"), ("L", "d"), ("e", "e")],
)
def test_promotion_follows_np_exp(given: str, expected: str) -> None:
    x = np.ones(3, given)
    assert fa.relu(x).dtype == np.exp(x).dtype == np.dtype(expected)
    assert fa.leaky_relu(x).dtype == np.dtype(expected)
    assert fa.leaky_relu(x, 0.25).dtype == np.add(x, 0.25).dtype


def test_python_scalars_are_weak() -> None:
    x = np.float32([-2, 2])
    assert fa.leaky_relu(x, 0.5).dtype == np.float32
    assert fa.leaky_relu(x, np.float32(0.5)).dtype == np.float32
    assert fa.leaky_relu(x, np.float64(0.5)).dtype == np.float64
    assert fa.leaky_relu(x, np.float64(0.01)).dtype == np.float64
    assert isinstance(fa.relu(2.0), np.float64)
    assert isinstance(fa.relu(np.float32(2)), np.float32)


@shapes
def test_broadcasting(name: str) -> None:
    x = sample(60).reshape(3, 1, 20)
    if arrays(name) == 2:
        g = sample(4, seed=1).reshape(4, 1)
        expected = call(name, np.broadcast_to(g, (3, 4, 20)).copy(), np.broadcast_to(x, (3, 4, 20)).copy())
        assert same_bits(call(name, g, x), expected)
    if parameters(name):
        function = getattr(fa, name)
        slopes = np.linspace(0.1, 0.9, 20, dtype=np.float32)
        rows = [function(x[..., k], slopes[k]) for k in range(20)]
        assert same_bits(function(x, slopes), np.stack(rows, axis=-1))


@shapes
@pytest.mark.parametrize("order", ["C", "F", "A", "K"])
def test_order(name: str, order: Any) -> None:
    x = np.asfortranarray(sample(35).reshape(5, 7))
    (result, *_) = outputs(call(name, *[x] * arrays(name), order=order))
    assert same_bits(result, outputs(call(name, *[np.ascontiguousarray(x)] * arrays(name)))[0])
    assert result.flags["F_CONTIGUOUS"] == (order != "C")


@shapes
def test_zero_dimensional_and_empty(name: str) -> None:
    count = arrays(name)
    for result in outputs(call(name, *[np.array(2.0, np.float32)] * count)):
        assert result.shape == ()
    for shape in ((0,), (3, 0), (0, 3)):
        for result in outputs(call(name, *[np.empty(shape, np.float32)] * count)):
            assert result.shape == shape


@shapes
@pytest.mark.parametrize("n", [1, 5, 64, 777, 5000])
def test_strides_and_alignment(name: str, n: int) -> None:
    x = sample(n)
    count = arrays(name)
    expected = call(name, *[x] * count)
    for step in (2, 3, -1, -3):
        spread = np.zeros(n * abs(step), np.float32)
        view = spread[::step] if step > 0 else spread[::-1][::-step]
        view[:n] = x
        assert same_bits(call(name, *[view[:n]] * count), expected)
        out = tuple(np.zeros(n * abs(step), np.float32)[::step][:n] for _ in outputs(expected))
        call(name, *[x] * count, out=out if len(out) > 1 else out[0])
        assert same_bits(out, expected)
    raw = np.zeros(4 * n + 1, np.uint8)
    misaligned = raw[1:].view(np.float32)
    misaligned[:] = x
    assert not misaligned.flags.aligned
    assert same_bits(call(name, *[misaligned] * count), expected)


def test_two_dimensional_views_with_a_gap() -> None:
    x = sample(64 * 40).reshape(64, 40)
    view = x[::2, 3:33]
    assert same_bits(fa.hard_swish(view), fa.hard_swish(view.copy()))
    assert same_bits(fa.hard_swish(view.T), fa.hard_swish(view.copy()).T)


@pytest.mark.parametrize("shift", [1, 7, 64])
def test_operands_that_overlap(shift: int) -> None:
    start = sample(70_000)
    expected = fa.hard_swish(start)
    for source, to in ((np.s_[shift:], np.s_[:-shift]), (np.s_[:-shift], np.s_[shift:]), (np.s_[::-1], np.s_[:])):
        x = start.copy()
        fa.hard_swish(x[source], out=x[to])
        assert same_bits(x[to], expected[source])
    x = start.copy()
    fa.hard_swish(x, out=x)
    assert same_bits(x, expected)
    x = start.copy()
    y, slope = fa.hard_swish_with_derivative(x, out=(x, np.empty_like(x)))
    assert same_bits(y, expected)
    assert same_bits(slope, fa.hard_swish_derivative(start))


def test_reductions() -> None:
    with pytest.raises(ValueError, match="reduce"):
        fa.relu.reduce(np.ones(3, np.float32))
    # a binary ufunc can be folded; elements must then be taken one by one
    x = sample(500)[np.isfinite(sample(500))]
    one_by_one = x[0]
    steps = [one_by_one]
    for value in x[1:]:
        one_by_one = fa.prelu.ufunc(one_by_one, value)
        steps.append(one_by_one)
    assert same_bits(fa.prelu.ufunc.reduce(x), one_by_one)
    assert same_bits(fa.prelu.ufunc.accumulate(x), np.array(steps))
    table = fa.prelu.ufunc.outer(x[:5], x[:7])
    assert same_bits(table, fa.prelu(x[:5, None], x[None, :7]))
    y = np.zeros(3, np.float32)
    fa.relu.at(y, [0, 0])
    assert (y == 0).all()


def test_subclasses_and_array_ufunc() -> None:
    masked = np.ma.array(np.float32([-1, 2]), mask=[False, True])
    assert isinstance(fa.relu(masked), np.ma.MaskedArray)

    class Mine:
        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
            return ufunc.__name__, method, len(inputs), options

    assert fa.relu(Mine()) == ("relu", "__call__", 1, {})
    assert fa.leaky_relu(Mine()) == ("leaky_relu", "__call__", 1, {})
    assert fa.leaky_relu(Mine(), negative_slope=0.5) == ("leaky_relu", "__call__", 2, {})


def test_parameters_by_position_and_keyword() -> None:
    x = np.float32([-2, 2])
    assert callable(fa.leaky_relu)
    by_default = fa.leaky_relu(x)
    for result in (fa.leaky_relu(x, 0.01), fa.leaky_relu(x, negative_slope=0.01)):
        assert same_bits(result, by_default)
    out = np.empty(2, np.float32)
    assert fa.leaky_relu(x, negative_slope=0.5, out=out) is out
    assert out[0] == -1
    assert fa.leaky_relu(x, out=out) is out
    assert same_bits(out, by_default)
    assert same_bits(fa.hard_tanh(x, max_val=1.5), np.float32([-1, 1.5]))
    assert str(inspect.signature(fa.leaky_relu)) == "(x, /, negative_slope=0.01, **kwargs)"
    assert repr(fa.leaky_relu) == "<function fastact.leaky_relu(x, /, negative_slope=0.01, **kwargs)>"
    assert copy.deepcopy(fa.leaky_relu) is fa.leaky_relu
    assert [r.tolist() for r in map(fa.leaky_relu_vjp, [x], [x], [0.5])] == [[-1, 2]]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_default_spelt_out_gives_the_same_bits(dtype: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    x = np.linspace(-3, 3, 100).astype(kind)
    assert fa.leaky_relu(x).dtype == kind
    assert np.array_equal(fa.leaky_relu(x).view(np.uint16), fa.leaky_relu(x, 0.01).view(np.uint16))


def test_bfloat16() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    every = np.arange(1 << 16, dtype=np.uint16)
    x = every.view(ml_dtypes.bfloat16)
    wide = x.astype(np.float32)
    with np.errstate(all="ignore"):
        expected = fa.hard_swish(wide).astype(ml_dtypes.bfloat16)
    got = fa.hard_swish(x)
    assert got.dtype == x.dtype
    finite = ~np.isnan(wide)
    assert np.array_equal(got.view(np.uint16)[finite], expected.view(np.uint16)[finite])
    assert np.isnan(got[~finite].astype(np.float32)).all()


def test_float16_conversions_are_correctly_rounded() -> None:
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    with np.errstate(all="ignore"):
        expected = fa.hard_swish(x.astype(np.float32)).astype(np.float16)
    assert same_bits(fa.hard_swish(x), expected)
    numbers = ~np.isnan(x)
    assert np.array_equal(fa.prelu(x[numbers], np.float16(1)).view(np.uint16), x[numbers].view(np.uint16))
