"""Functions with parameters: products next to a zero, and parameters at the ends of the range."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

import fastact as fa
from fastact import cuda
from fastact.accuracy.oracles import truth, truth_at
from fastact.accuracy.reference import ROOTS, root_of
from fastact.accuracy.ulp import compare
from fastact.accuracy.varied import VariedCase, next_to, pairs, varied_cases

from .cuda_host import Array, HostDriver, needs_compiler, same
from .functions import same_bits

WIDE = ["float32", "float64"]
INF, NAN = math.inf, math.nan
VARIED = list(varied_cases(fa.CATALOGUE.values()))


@pytest.fixture(autouse=True)
def every_warning_is_an_error() -> Iterator[None]:
    with np.errstate(all="raise"):
        yield


def errors(result: np.ndarray, name: str, form: str, x: np.ndarray, *parameters: np.ndarray) -> np.ndarray:
    """In ULP; infinite where a NaN, an infinity, a zero or a sign is wrong."""
    with np.errstate(all="ignore"):
        found = compare(result, *truth(name, form, x, *parameters))
    return np.where(found.wrong, np.inf, found.error)


# --- next to the zero of a derivative


@pytest.mark.parametrize("dtype", WIDE)
def test_swish_derivative_next_to_its_zero(dtype: str) -> None:
    """Products nearer to the zero than any float, of both signs of both factors."""
    x, beta = next_to(root_of(*ROOTS["swish", "derivative"]), dtype, 3000)
    found = errors(fa.swish_derivative(x, beta), "swish", "derivative", x, beta)
    worst = int(np.argmax(found))
    assert found[worst] < 0.8, (x[worst], beta[worst])


@pytest.mark.parametrize(
    ("dtype", "x", "beta"),
    [
        ("float32", -2.242583990097046, 0.5700854659080505),
        ("float64", -2.2496860208587104, 0.5682857656167863),
    ],
)
def test_swish_derivative_where_it_was_wrong(dtype: str, x: float, beta: float) -> None:
    at, factor = np.array([x], dtype), np.array([beta], dtype)
    assert errors(fa.swish_derivative(at, factor), "swish", "derivative", at, factor) < 0.51


@pytest.mark.parametrize("dtype", WIDE)
def test_pairs_next_to_a_number_are_next_to_it(dtype: str) -> None:
    """At every distance down to a small part of the spacing of floats there."""
    hi, lo = root_of(*ROOTS["swish", "derivative"])
    x, factor = next_to((hi, lo), dtype, 1000)
    spacing = np.finfo(dtype).eps
    with np.errstate(all="ignore"):
        away = np.abs((np.longdouble(1) * x * factor - hi) - lo)
    if dtype == "float32":  # of float64 a long double does not see it
        assert away.min() < spacing * 2.0**-12
    for size in 2.0 ** np.arange(-30 if dtype == "float32" else -54, -2, 4):
        assert np.any((away > size) & (away < size * 16)), size
    assert (x > 0).any()
    assert (factor > 0).any()
    assert ((x > 0) != (factor > 0)).all()  # for the number is negative


# --- parameters of every size


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("case", VARIED, ids=lambda case: case.title)
def test_parameters_of_every_size(case: VariedCase, dtype: str) -> None:
    found = case.measure(dtype)
    assert found.holds(case.bound(dtype)), found


@needs_compiler
@pytest.mark.parametrize("case", VARIED, ids=lambda case: case.title)
def test_the_same_bits_on_a_gpu(gpu: HostDriver, case: VariedCase) -> None:
    """With parameters that are an array, and one that is a number, far from usual."""
    for dtype in WIDE if case.form != "forward" else ["float32"]:
        x, parameter = case.inputs(dtype)
        x[np.isnan(x)] = NAN  # none that signals, of which a test's conversions warn
        far = x.dtype.type(-1e-35 if dtype == "float32" else -1e-300)
        ours, theirs = getattr(fa, case.public), getattr(cuda, case.public)
        assert same(theirs(Array(x), Array(parameter)), ours(x, parameter))
        assert same(theirs(Array(x), far), ours(x, far))


@pytest.mark.parametrize("dtype", WIDE)
def test_pairs_have_parameters_of_every_size(dtype: str) -> None:
    ends = np.finfo(dtype)
    for name in ("elu", "celu", "swish", "softplus"):
        x, parameter = pairs(name, dtype, 3000)
        sizes = np.frexp(parameter)[1]
        assert np.unique(sizes // 16).size > (ends.maxexp - ends.minexp) // 16
        assert {ends.max, ends.smallest_normal, ends.smallest_subnormal} <= set(np.abs(parameter))
        assert np.isin([INF, -INF, 0.0], x).all()
        assert np.isnan(x).any()


WERE_WRONG = [
    ("elu_derivative", -1e25, 1e30, 0.0),
    ("elu_derivative", -182.5, 3e38, 1.6534e-41),
    ("celu", -196.0, 1.1805286257848747e-32, -1.1805286257848747e-32),
    ("celu", -1.008259646889297e-16, -4.082780538318831e-21, -INF),
    ("celu", -5e-45, 1e38, -5e-45),
    ("celu", -INF, 1.7e38, -1.7e38),
    ("celu", -4e-45, -1.401298464324817e-45, -2.7e-44),
    ("celu_derivative", -INF, 1.7e38, 0.0),
    ("celu_derivative", -2.802596928649634e-45, 1.401298464324817e-45, 0.13533528),
    ("celu_derivative_alpha", -INF, 1.7e38, -1.0),
    ("softplus", 3.4028234663852886e38, 1.8777885952779362e-37, 3.4028234663852886e38),
    ("softplus", 2.1363317344129716e35, -8.17512790971722e-34, -1.733431752816556e-43),
    ("softplus_derivative_beta", 0.0, 1e20, -6.931472e-41),
    ("softplus_derivative_beta", -3.4028234663852886e38, 7.971638544693715e-37, -6.680776214071413e-44),
    ("swish_derivative_beta", 2.0930403e38, 1.4729573e-36, 0.0),
    ("swish_derivative_beta", INF, 1e-40, 0.0),
    ("swish", INF, -1e-40, 0.0),
    ("swish", INF, 1e-40, INF),
    ("swish_derivative", -INF, 1e-40, -0.0),
    ("softplus_derivative", INF, 1e-40, 1.0),
]


@pytest.mark.parametrize(("name", "x", "parameter", "value"), WERE_WRONG)
def test_float32_where_it_was_wrong(name: str, x: float, parameter: float, value: float) -> None:
    """Against the oracle, and against a number that can be read."""
    record = next(r for r in fa.CATALOGUE.values() if name.startswith(r.name))
    form = name.removeprefix(record.name).strip("_") or "forward"
    with np.errstate(under="ignore"):
        at, given, expected = (np.array([v], np.float32) for v in (x, parameter, value))
    found = getattr(fa, name)(at, given)
    assert errors(found, record.name, form, at, given) < 1
    assert found == expected or math.isclose(found[0], expected[0], rel_tol=1e-4)
    assert np.signbit(found) == np.signbit(expected)


# name, parameter, and the values at x = -inf, -2, -0.0, 0.0, 2, inf: limits, which no formula gives
OF_INFINITE = [
    ("elu", INF, (-INF, -INF, -0.0, 0.0, 2.0, INF)),
    ("elu", -INF, (INF, INF, 0.0, -0.0, 2.0, INF)),
    ("elu_derivative", INF, (INF, INF, INF, INF, 1.0, 1.0)),
    ("elu_derivative", -INF, (-INF, -INF, -INF, -INF, 1.0, 1.0)),
    ("elu_derivative", -0.0, (-0.0, -0.0, -0.0, -0.0, 1.0, 1.0)),
    ("elu_derivative", 0.0, (0.0, 0.0, 0.0, 0.0, 1.0, 1.0)),
    ("celu", INF, (-INF, -2.0, -0.0, 0.0, 2.0, INF)),
    ("celu", -INF, (-INF, -2.0, -0.0, 0.0, 2.0, INF)),
    ("celu_derivative", INF, (1.0, 1.0, 1.0, 1.0, 1.0, 1.0)),
    ("celu_derivative_alpha", INF, (-0.0, -0.0, 0.0, 0.0, 0.0, 0.0)),
    ("softplus", INF, (0.0, 0.0, 0.0, 0.0, 2.0, INF)),
    ("softplus", -INF, (-INF, -2.0, -0.0, -0.0, -0.0, -0.0)),
    ("softplus_derivative", INF, (0.0, 0.0, 0.5, 0.5, 1.0, 1.0)),
    ("softplus_derivative", -INF, (1.0, 1.0, 0.5, 0.5, 0.0, 0.0)),
    ("softplus_derivative_beta", INF, (-0.0,) * 6),
    ("swish", INF, (-0.0, -0.0, -0.0, 0.0, 2.0, INF)),
    ("swish", -INF, (-INF, -2.0, -0.0, 0.0, 0.0, 0.0)),
    ("swish_derivative", INF, (-0.0, -0.0, 0.5, 0.5, 1.0, 1.0)),
    ("swish_derivative_beta", INF, (0.0,) * 6),
]
# What the ufuncs do with a parameter of 0, which their functions refuse: the limits from its side.
OF_ZERO = [
    ("celu", 0.0, (-0.0, -0.0, -0.0, 0.0, 2.0, INF)),
    ("celu", -0.0, (-INF, -INF, -0.0, 0.0, 2.0, INF)),
    ("celu_derivative", 0.0, (0.0, 0.0, 1.0, 1.0, 1.0, 1.0)),
    ("celu_derivative", -0.0, (INF, INF, 1.0, 1.0, 1.0, 1.0)),
    ("celu_derivative_alpha", 0.0, (-1.0, -1.0, 0.0, 0.0, 0.0, 0.0)),
    ("softplus", 0.0, (INF,) * 6),
    ("softplus", -0.0, (-INF,) * 6),
    ("softplus_derivative_beta", 0.0, (-INF,) * 6),
]


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize(("name", "parameter", "values"), OF_INFINITE + OF_ZERO)
def test_infinite_parameters_and_zero(name: str, parameter: float, values: tuple[float, ...], dtype: str) -> None:
    x = np.array([-INF, -2, -0.0, 0.0, 2, INF, NAN], dtype)
    found = getattr(fa, name).ufunc(x, np.array(parameter, dtype))
    assert same_bits(found[:-1], np.array(values, dtype)), found
    assert np.isnan(found[-1])


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("swish", (-0.0, 1.0)),
        ("swish_derivative", (-0.0, 1.0)),
        ("swish_derivative_beta", (0.0, 0.0)),
        ("softplus", (0.0, 1.0)),
        ("softplus_derivative", (0.0, 1.0)),
        ("elu", (-INF, 1.0)),
    ],
)
def test_the_smallest_x_and_an_infinite_parameter(name: str, values: tuple[float, float], dtype: str) -> None:
    """The limits for that x, infinite or times that x; it is no 0."""
    x = np.array([-1, 1], dtype) * np.finfo(dtype).smallest_subnormal
    expected = np.array(values, dtype)
    if name in fa.CATALOGUE:
        expected[1] = x[1]
    assert same_bits(getattr(fa, name)(x, np.array(INF, dtype)), expected)


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("case", [c for c in VARIED if c.name in ("softplus", "swish")], ids=lambda case: case.title)
def test_a_beta_that_is_no_number_gives_none(case: VariedCase, dtype: str) -> None:
    """Whatever x is: the infinite ones went past it."""
    x = np.array([-INF, -1e30, -2, -0.0, 0.0, 1e-30, 2, 1e30, INF, NAN], dtype)
    assert np.isnan(getattr(fa, case.public)(x, np.array(NAN, dtype))).all()
    assert math.isnan(truth_at(case.name, case.form, INF, NAN).hi)


@pytest.mark.parametrize("dtype", ["f4", np.float32, "f2"])
def test_an_alpha_that_is_0_in_the_dtype_asked_for(dtype: object) -> None:
    for function in (fa.celu, fa.celu_derivative, fa.softplus):
        with pytest.raises(ValueError, match="must not be 0, but it is 1e-60"):
            function(np.linspace(-1, 1, 3), 1e-60, dtype=dtype)
    assert fa.celu(np.linspace(-1, 1, 3), 1e-60, dtype="f8")[0] == -1e-60
    with pytest.raises(TypeError):  # as with any other alpha
        fa.celu(np.linspace(-1, 1, 3), 1e-60, dtype="i4")
