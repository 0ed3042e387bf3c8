"""Zeros with their signs, infinities, NaN, kinks and the edges of the range: the value at every point where libraries
disagree.

The tables are written out from the catalogue's conventions, not computed, and compared bit for bit. Everything here,
and a stratified sample of all other inputs, runs with every floating-point warning turned into an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact.accuracy.cases import Case, cases
from fastact.accuracy.oracles import truth
from fastact.accuracy.samples import samples, specials
from fastact.activation import forms

INF, NAN = math.inf, math.nan
LOG2 = math.log(2)
SELU = 1.0507009873554804934193349852946, 1.7580993408473768599402175208123
LARGE = 2.0**126
ROUNDED = (LOG2, LOG2 / 2, *SELU, 0.6)

# name: values at -inf, -0.0, 0.0, inf
AT_LIMITS_AND_ZEROS = {
    "binary_step": (0.0, 0.0, 0.0, 1.0),
    "sigmoid": (0.0, 0.5, 0.5, 1.0),
    "bipolar_sigmoid": (-1.0, -0.0, 0.0, 1.0),
    "tanh": (-1.0, -0.0, 0.0, 1.0),
    "relu": (0.0, 0.0, 0.0, INF),
    "leaky_relu": (-INF, -0.0, 0.0, INF),
    "elu": (-1.0, -0.0, 0.0, INF),
    "selu": (-SELU[1], -0.0, 0.0, INF),
    "swish": (-0.0, -0.0, 0.0, INF),
    "silu": (-0.0, -0.0, 0.0, INF),
    "gelu": (-0.0, -0.0, 0.0, INF),
    "gelu_tanh": (-0.0, -0.0, 0.0, INF),
    "log_sigmoid": (-INF, -LOG2, -LOG2, -0.0),
    "softplus": (0.0, LOG2, LOG2, INF),
    "celu": (-1.0, -0.0, 0.0, INF),
    "mish": (-0.0, -0.0, 0.0, INF),
    "softsign": (-1.0, -0.0, 0.0, 1.0),
    "hard_sigmoid": (0.0, 0.5, 0.5, 1.0),
    "hard_swish": (-0.0, -0.0, 0.0, INF),
    "relu6": (0.0, 0.0, 0.0, 6.0),
    "hard_tanh": (-1.0, -0.0, 0.0, 1.0),
    "binary_step_derivative": (0.0, 0.0, 0.0, 0.0),
    "sigmoid_derivative": (0.0, 0.25, 0.25, 0.0),
    "bipolar_sigmoid_derivative": (0.0, 0.5, 0.5, 0.0),
    "tanh_derivative": (0.0, 1.0, 1.0, 0.0),
    "relu_derivative": (0.0, 0.0, 0.0, 1.0),
    "leaky_relu_derivative": (0.01, 0.01, 0.01, 1.0),
    "elu_derivative": (0.0, 1.0, 1.0, 1.0),
    "selu_derivative": (0.0, SELU[1], SELU[1], SELU[0]),
    "swish_derivative": (-0.0, 0.5, 0.5, 1.0),
    "silu_derivative": (-0.0, 0.5, 0.5, 1.0),
    "gelu_derivative": (-0.0, 0.5, 0.5, 1.0),
    "gelu_tanh_derivative": (-0.0, 0.5, 0.5, 1.0),
    "log_sigmoid_derivative": (1.0, 0.5, 0.5, 0.0),
    "softplus_derivative": (0.0, 0.5, 0.5, 1.0),
    "celu_derivative": (0.0, 1.0, 1.0, 1.0),
    "mish_derivative": (-0.0, 0.6, 0.6, 1.0),
    "softsign_derivative": (0.0, 1.0, 1.0, 0.0),
    "hard_sigmoid_derivative": (0.0, 1 / 6, 1 / 6, 0.0),
    "hard_swish_derivative": (0.0, 0.5, 0.5, 1.0),
    "relu6_derivative": (0.0, 0.0, 0.0, 0.0),
    "hard_tanh_derivative": (0.0, 1.0, 1.0, 0.0),
    "binary_step_derivative_threshold": (0.0, 0.0, 0.0, 0.0),
    "leaky_relu_derivative_negative_slope": (-INF, -0.0, 0.0, 0.0),
    "elu_derivative_alpha": (-1.0, -0.0, 0.0, 0.0),
    "swish_derivative_beta": (0.0, 0.0, 0.0, 0.0),
    "softplus_derivative_beta": (-0.0, -LOG2, -LOG2, -0.0),
    "hard_sigmoid_derivative_slope": (0.0, -0.0, 0.0, 0.0),
    "hard_sigmoid_derivative_offset": (0.0, 1.0, 1.0, 0.0),
    "hard_tanh_derivative_min_val": (1.0, 0.0, 0.0, 0.0),
    "hard_tanh_derivative_max_val": (0.0, 0.0, 0.0, 1.0),
}

# (public name, x, parameters, value)
POINTS = [
    ("binary_step", 0.5, (0.5,), 0.0),
    ("binary_step", INF, (3.0,), 1.0),
    ("relu", 3.5, (), 3.5),
    ("relu6", 6.0, (), 6.0),
    ("relu6_derivative", 6.0, (), 0.0),
    ("relu6_derivative", 5.5, (), 1.0),
    ("leaky_relu_derivative", 0.0, (0.25,), 0.25),
    ("leaky_relu_derivative", -0.0, (0.25,), 0.25),
    ("leaky_relu", -INF, (0.0,), -0.0),
    ("leaky_relu", -INF, (-0.5,), INF),
    ("prelu", -INF, (0.25,), -INF),
    ("prelu", -0.0, (0.25,), -0.0),
    ("prelu", -0.0, (-0.25,), 0.0),
    ("prelu", 0.0, (0.25,), 0.0),
    ("prelu", INF, (0.25,), INF),
    ("prelu_derivative", 0.0, (0.25,), 0.25),
    ("prelu_derivative", -INF, (0.25,), 0.25),
    ("prelu_derivative", INF, (0.25,), 1.0),
    ("prelu_derivative_a", -2.0, (0.25,), -2.0),
    ("prelu_derivative_a", 2.0, (0.25,), 0.0),
    ("prelu_derivative_a", -INF, (0.25,), -INF),
    ("elu_derivative", 0.0, (0.75,), 0.75),
    ("elu_derivative", -0.0, (0.75,), 0.75),
    ("elu", -INF, (0.75,), -0.75),
    ("elu", -1e30, (0.75,), -0.75),
    ("elu_derivative", -1e30, (0.75,), 0.0),
    ("celu_derivative", 0.0, (0.75,), 1.0),
    ("celu", -INF, (0.75,), -0.75),
    ("celu_derivative_alpha", -INF, (0.75,), -1.0),
    ("celu_derivative_alpha", 1.0, (0.75,), 0.0),
    ("celu_derivative_alpha", INF, (0.75,), 0.0),
    ("hard_tanh_derivative", -1.0, (), 0.0),
    ("hard_tanh_derivative", 1.0, (), 0.0),
    ("hard_tanh", 7.0, (-2.0, 3.0), 3.0),
    ("hard_sigmoid_derivative", -3.0, (), 0.0),
    ("hard_sigmoid_derivative", 3.0, (), 0.0),
    ("hard_sigmoid", -3.0, (), 0.0),
    ("hard_sigmoid", 3.0, (), 1.0),
    ("hard_swish_derivative", -3.0, (), 0.0),
    ("hard_swish_derivative", 3.0, (), 1.0),
    ("hard_swish_derivative", -1.5, (), 0.0),
    ("hard_swish", -3.0, (), -0.0),
    ("hard_swish", -4.0, (), -0.0),
    ("hard_swish", 3.0, (), 3.0),
    ("hard_swish", LARGE, (), LARGE),
    ("hard_swish", -LARGE, (), -0.0),
    ("gelu", 2 * LARGE, (), 2 * LARGE),
    ("gelu", -2 * LARGE, (), -0.0),
    ("gelu_derivative", LARGE, (), 1.0),
    ("gelu_derivative", -LARGE, (), -0.0),
    ("gelu_tanh", LARGE, (), LARGE),
    ("gelu_tanh", -LARGE, (), -0.0),
    ("gelu_tanh_derivative", 2.0**66, (), 1.0),
    ("gelu_tanh_derivative", -(2.0**66), (), -0.0),
    ("silu", LARGE, (), LARGE),
    ("silu", -LARGE, (), -0.0),
    ("silu_derivative", LARGE, (), 1.0),
    ("silu_derivative", -LARGE, (), -0.0),
    ("mish", LARGE, (), LARGE),
    ("mish", -LARGE, (), -0.0),
    ("mish_derivative", LARGE, (), 1.0),
    ("softsign", LARGE, (), 1.0),
    ("softplus", LARGE, (), LARGE),
    ("softplus", -LARGE, (), 0.0),
    ("log_sigmoid", LARGE, (), -0.0),
    ("log_sigmoid", -LARGE, (), -LARGE),
    ("swish", INF, (0.0,), INF),
    ("swish", 3.0, (0.0,), 1.5),
    ("swish", -INF, (0.0,), -INF),
    ("swish", INF, (-1.0,), 0.0),
    ("swish", -INF, (-1.0,), -INF),
    ("swish_derivative", -INF, (-1.0,), 1.0),
    ("swish_derivative", INF, (0.0,), 0.5),
    ("softplus", INF, (2.0,), INF),
    ("softplus", 0.0, (2.0,), LOG2 / 2),
    ("softplus", -INF, (2.0,), 0.0),
]


@pytest.fixture(autouse=True)
def every_warning_is_an_error() -> Iterator[None]:
    with np.errstate(all="raise"):
        yield


def bits_equal(found: np.ndarray, expected: np.ndarray) -> bool:
    """Equal bit for bit, except that any NaN is like any other and irrational values have the error of the contract."""
    if found.dtype != expected.dtype:
        return False
    unsigned = f"u{expected.dtype.itemsize}"
    same = found.view(unsigned) == expected.view(unsigned)
    same |= np.isnan(found) & np.isnan(expected)
    rounded = np.isin(np.abs(expected), np.array(ROUNDED, expected.dtype))
    with np.errstate(all="ignore"):
        near = np.abs(found - expected) <= np.spacing(np.abs(expected))
    return bool(np.all(same | (rounded & near)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", AT_LIMITS_AND_ZEROS)
def test_limits_and_zeros(name: str, dtype: type[np.floating]) -> None:
    x = np.array([-INF, -0.0, 0.0, INF, NAN], dtype)
    expected = np.array([*AT_LIMITS_AND_ZEROS[name], NAN], dtype)
    found = getattr(fa, name)(x)
    assert bits_equal(found, expected), f"{name}({x.tolist()}) = {found.tolist()}, not {expected.tolist()}"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "x", "parameters", "value"), POINTS)
def test_points(name: str, x: float, parameters: tuple[float, ...], value: float, dtype: type[np.floating]) -> None:
    found = np.asarray(getattr(fa, name)(dtype(x), *(dtype(p) for p in parameters)))
    expected = np.asarray(value, dtype)
    assert bits_equal(found, expected), f"{name}{(x, *parameters)} = {found}, not {expected}"


def test_no_function_is_missing_from_the_tables() -> None:
    every = {public for record in fa.CATALOGUE.values() for form, public in forms(record) if "_" not in form}
    every |= {
        public for record in fa.CATALOGUE.values() for form, public in forms(record) if form.startswith("derivative_")
    }
    every -= {public for record in fa.CATALOGUE.values() for form, public in forms(record) if form == "vjp"}
    missing = every - set(AT_LIMITS_AND_ZEROS) - {name for name, *_ in POINTS}
    assert not missing, f"add to AT_LIMITS_AND_ZEROS or POINTS of tests/test_special_values.py: {sorted(missing)}"


JUDGED = [c for c in cases(fa.CATALOGUE.values(), grid=True) if c.form not in ("vjp", "with_derivative")]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("case", JUDGED, ids=lambda case: case.title)
def test_special_inputs_agree_with_the_oracle(case: Case, dtype: str) -> None:
    """Signs of zeros, infinities and NaN at ±0, ±inf, NaN, at kinks and at the ends of the normal and subnormal
    numbers.
    """
    x = np.concatenate([specials(dtype), np.array(case.record.kinks, dtype)])
    true = truth(case.name, case.form, x, *case.parameters(dtype)).rounded()
    with np.errstate(all="ignore"):
        true = true.astype(dtype)
    found = case.function(dtype)(x)
    for kind in (np.isnan, np.isposinf, np.isneginf):
        assert np.array_equal(kind(found), kind(true)), f"{case.title}: {x[kind(found) != kind(true)]}"
    signs = np.signbit(found) != np.signbit(true)
    assert not np.any(signs & ~np.isnan(true)), f"{case.title}: wrong sign at {x[signs]}"
    exact = (true == 0) & np.isin(x, [0.0, INF, -INF])
    assert np.all(found[exact] == 0), f"{case.title}: not 0 at {x[exact & (found != 0)]}"


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("case", list(cases(fa.CATALOGUE.values())), ids=lambda case: case.title)
def test_nothing_warns(case: Case, dtype: str) -> None:
    """No input of any kind makes NumPy see a floating-point flag, in a long array or alone."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    x = samples(case.name, dtype, 500, case.parameters(dtype), case.record.kinks)
    function = case.function(dtype)
    arrays = (np.ones_like(x), x) if case.form == "vjp" else (x,)
    function(*arrays)
    function(*(a[::-3] for a in arrays))
    for start in range(0, x.size, 401):
        function(*(a[start : start + 1] for a in arrays))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [name for name, record in fa.CATALOGUE.items() if name in AT_LIMITS_AND_ZEROS])
def test_the_record_states_the_limits(name: str, dtype: type[np.floating]) -> None:
    record = fa.CATALOGUE[name]
    x = np.array([-INF, INF], dtype)
    assert bits_equal(getattr(fa, name)(x), np.array(record.limits, dtype))
    assert bits_equal(getattr(fa, f"{name}_derivative")(x) + 0.0, np.array(record.derivative_limits, dtype) + 0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vjp_at_infinity_is_a_limit(dtype: type[np.floating]) -> None:
    x = np.array([-INF, INF], dtype)
    for name in ("silu", "gelu", "gelu_tanh", "mish", "hard_swish", "softsign", "tanh", "sigmoid"):
        if name in fa.CATALOGUE:
            slope = fa.CATALOGUE[name].derivative_limits
            assert getattr(fa, f"{name}_vjp")(dtype(2), x).tolist() == [2 * slope[0], 2 * slope[1]]


def test_celu_refuses_alpha_zero() -> None:
    with pytest.raises(ValueError, match="alpha"):
        fa.celu(np.ones(3), 0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
class TestRows:
    """Masks, infinities and empty rows."""

    def test_a_row_of_masks(self, dtype: type[np.floating]) -> None:
        x = np.full((2, 5), -INF, dtype)
        assert np.isnan(fa.softmax(x)).all()
        assert np.isnan(fa.log_softmax(x)).all()
        assert fa.logsumexp(x).tolist() == [-INF, -INF]

    def test_masks_get_exactly_nothing(self, dtype: type[np.floating]) -> None:
        x = np.array([-INF, 1.0, -INF, 1.0], dtype)
        assert bits_equal(fa.softmax(x), np.array([0.0, 0.5, 0.0, 0.5], dtype))
        assert fa.log_softmax(x)[[0, 2]].tolist() == [-INF, -INF]

    def test_positive_infinity_and_nan(self, dtype: type[np.floating]) -> None:
        for bad in (INF, NAN):
            x = np.array([[0.0, bad, 1.0], [0.0, 0.0, 0.0]], dtype)
            for function in (fa.softmax, fa.log_softmax):
                found = function(x)
                assert np.isnan(found[0]).all()
                assert np.isfinite(found[1]).all()
        assert np.isnan(fa.logsumexp(np.array([0.0, NAN], dtype)))

    def test_one_entry(self, dtype: type[np.floating]) -> None:
        x = np.array([[-3.5], [0.0], [1e4]], dtype)
        assert bits_equal(fa.softmax(x), np.ones_like(x))
        assert (fa.log_softmax(x) == 0).all()
        assert bits_equal(fa.logsumexp(x), x[:, 0])

    def test_empty_rows(self, dtype: type[np.floating]) -> None:
        x = np.empty((3, 0), dtype)
        assert fa.logsumexp(x).tolist() == [-INF] * 3
        with pytest.raises(ValueError, match="empty"):
            fa.softmax(x)

    def test_close_to_one(self, dtype: type[np.floating]) -> None:
        x = np.array([0.0, -17.0], dtype)
        true = -math.log1p(math.exp(-17))
        assert abs(float(fa.log_softmax(x)[0]) / true - 1) < 2.0**-22
        assert abs(float(fa.logsumexp(x)) / -true - 1) < 2.0**-22

    def test_a_masked_target_costs_everything(self, dtype: type[np.floating]) -> None:
        x = np.array([[0.0, -INF, 1.0]], dtype)
        value, gradient = fa.cross_entropy_with_logits_with_gradient(x, np.array([1]))
        assert value.tolist() == [INF]
        assert gradient[0, 1] == -1
        assert np.isfinite(gradient).all()

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_an_ignored_row_costs_nothing(self, dtype: type[np.floating], smoothing: float) -> None:
        """Whatever is in it."""
        x, weight = np.array([[NAN, 1.0], [INF, 1.0], [-INF, -INF], [3.0, 1.0]], dtype), np.array([INF, 1.0], dtype)
        options: dict[str, Any] = {"ignore_index": -1, "label_smoothing": smoothing, "weight": weight}
        targets = np.array([-1, -1, -1, 0])
        for axis, logits in ((1, x), (0, x.T)):
            value, gradient = fa.cross_entropy_with_logits_with_gradient(logits, targets, axis=axis, **options)
            assert not value[:3].any()
            assert not np.moveaxis(gradient, axis, 1)[:3].any()
            assert fa.cross_entropy_with_logits(logits, targets, axis=axis, **options).tolist()[:3] == [0, 0, 0]
        value, gradient = fa.cross_entropy_with_logits_with_gradient(x[0], -1, **options)
        assert type(value) is dtype
        assert value == 0
        assert not gradient.any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_losses_that_are_infinite(dtype: Any) -> None:
    """A share at a class that is masked, or logits so far apart that no number says how far."""
    inf, largest = np.inf, float(np.finfo(dtype).max)
    cases: list[tuple[Any, Any, dict[str, Any], float]] = [
        ([-inf, 1, 2], [0.5, 0.25, 0.25], {}, inf),
        ([-inf, 1], [1, 0], {}, inf),
        ([-inf, 1, 2], 1, {"label_smoothing": 0.1}, inf),
        ([largest, -largest], [0, 1], {}, inf),
        ([largest, -largest, 0], 1, {"label_smoothing": 0.1}, inf),
        ([-inf, np.nan, 2], [0.5, 0, 0.5], {}, np.nan),
        ([-inf, 1, 2], [np.nan, 0.5, 0.5], {}, np.nan),
        ([-inf, -inf], [0.5, 0.5], {}, np.nan),
    ]
    for logits, targets, options, true in cases:
        x, t = np.array(logits, dtype), targets if isinstance(targets, int) else np.array(targets, dtype)
        found = fa.cross_entropy_with_logits(x, t, **options)
        assert found == true or (found != found and true != true), (logits, targets, found)
        again, _ = fa.cross_entropy_with_logits_with_gradient(x, t, **options)
        assert np.asarray(again).tobytes() == np.asarray(found).tobytes()
