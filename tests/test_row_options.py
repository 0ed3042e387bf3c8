"""softmin and logmeanexp; softmax and its relatives with a temperature, a mask, or both."""

from __future__ import annotations

import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastact as fa
from fastact.accuracy.ulp import ulp_error
from fastact.api import WITH_OPTIONS

from .functions import same_bits

gmpy2 = pytest.importorskip("gmpy2")
INF, NAN = np.inf, np.nan
both = pytest.mark.parametrize("dtype", [np.float32, np.float64])
names = pytest.mark.parametrize("name", WITH_OPTIONS)


def true_row(name: str, x: np.ndarray, temperature: Any, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The function of one row to 300 bits, as pairs."""
    with gmpy2.context(precision=300):
        t = gmpy2.mpfr(float(temperature)) * (-1 if name == "softmin" else 1)
        z = {k: gmpy2.mpfr(float(v)) / t for k, v in enumerate(x) if seen[k]}
        top = max(z, key=lambda k: z[k])
        rest = gmpy2.log1p(sum((gmpy2.exp(v - z[top]) for k, v in z.items() if k != top), gmpy2.mpfr(0)))
        logs = {k: v - z[top] - rest for k, v in z.items()}
        masked = gmpy2.mpfr("-inf" if name == "log_softmax" else 0)
        exact = logs if name == "log_softmax" else {k: gmpy2.exp(v) for k, v in logs.items()}
        values = [exact.get(k, masked) for k in range(len(x))]
        hi = np.array([float(v) for v in values])
        lo = np.array([float(v - h) if np.isfinite(h) else 0.0 for v, h in zip(values, hi.tolist(), strict=True)])
    return hi, lo


def check(result: np.ndarray, name: str, x: np.ndarray, temperature: Any, seen: Any = True) -> None:
    error = ulp_error(result, *true_row(name, x, temperature, np.broadcast_to(seen, x.shape)))
    assert error.max() < 2, f"{error.max():.4g} ULP at {int(error.argmax())}"


@names
@both
@pytest.mark.parametrize("n", [1, 2, 5, 47, 49, 100, 1025, 4000])
def test_temperatures_and_masks(name: str, dtype: Any, n: int) -> None:
    rng = np.random.default_rng(n)
    function = getattr(fa, name)
    few = n > 1000  # digits take time
    for scale in (1.0,) if few else (1e-3, 1.0, 30.0, 1e7):
        x = (rng.normal(size=n) * scale).astype(dtype)
        for temperature in map(dtype, (0.7, -2.3) if few else (0.7, -2.3, 8.0, 1e-3, 1e5)):
            check(function(x, temperature=temperature), name, x, temperature)
            seen = rng.random(n) < 0.6
            seen[rng.integers(n)] = True
            result = function(x, temperature=temperature, where=seen)
            check(result, name, x, temperature, seen)
            assert (result[~seen] == (-INF if name == "log_softmax" else 0)).all()
        check(function(x, where=seen), name, x, 1, seen)
        if name == "softmin":
            check(function(x), name, x, 1)


@names
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_temperature(name: str, dtype: Any) -> None:
    """Subnormal ones and the largest too, over entries of their size and over any others."""
    function, info = getattr(fa, name), np.finfo(dtype)
    largest, least = float(info.max), float(info.smallest_subnormal)
    every = range(round(np.log2(least)), info.maxexp)
    exponents = every if len(every) < 300 else sorted({*every[:120], *every[::29], *every[-70:]})
    rng = np.random.default_rng(5)
    usual = rng.normal(size=7) * 10
    usual[3] = -3000.0
    for exponent in exponents:
        temperature = dtype(np.ldexp(rng.choice([1.0, 1.59, -1.41]), exponent))
        size = abs(float(temperature))
        with np.errstate(over="ignore"):
            own = np.clip(usual * size, -largest, largest)
        for row in own, [0.0, largest, -largest], least * np.array([3, -40, 0, 1]), usual:
            x = np.asarray(row).astype(dtype)
            with np.errstate(all="raise"):
                found = function(x, temperature=temperature)
            check(found, name, x, temperature)


@names
@pytest.mark.parametrize("n", [3, 20, 600, 70_000, 140_000])
def test_a_power_of_two_of_everything_changes_nothing(name: str, n: int) -> None:
    function, rng = getattr(fa, name), np.random.default_rng(n)
    x = np.float32(rng.integers(-30, 30, n) / 8)
    x[0], x[-1] = 9, -400
    if n > 100_000:
        x[70_000:] -= np.float32(20)  # a part whose largest entry is another
    seen = rng.random(n) < 0.9
    expected = function(x, temperature=1.25), function(x, temperature=-1.25, where=seen)
    for exponent in (-147, -130, -126, -110, -3, 1, 63, 64, 99, 118):
        power = np.ldexp(np.float32(1), exponent)
        if exponent < -145:
            power *= 8  # of which the smallest entry is as small as there is
        both = np.float32(1.25) * power
        if both / power != 1.25:
            continue
        with np.errstate(all="raise"):
            assert same_bits(function(x * power, temperature=both), expected[0])
            assert same_bits(function(x * power, temperature=-both, where=seen), expected[1])


@pytest.mark.parametrize(
    ("dtype", "x", "temperature"),
    [
        (np.float32, [482970.99, -3833741.8, 482970.99], 2.158363),
        (np.float64, [-6034.297318486653, 1678.026124515422, 153.13834885020435], 1.7433840015866462),
        (np.float32, [2e38, -2e38], 8.0),
    ],
)
def test_logarithms_far_from_0(dtype: Any, x: Any, temperature: float) -> None:
    row = dtype(x)
    check(fa.log_softmax(row, temperature=dtype(temperature)), "log_softmax", row, dtype(temperature))


@names
def test_a_temperature_of_one_is_none(name: str) -> None:
    x = np.random.default_rng(0).normal(size=(7, 33)).astype(np.float32)
    function = getattr(fa, name)
    for result in (function(x, 1), function(x, temperature=1.0), function(x, where=True), function(x, causal=False)):
        assert same_bits(result, function(x))


@names
def test_temperatures_for_each_row(name: str) -> None:
    rng = np.random.default_rng(1)
    x, temperature = rng.normal(size=(4, 5, 60)).astype(np.float32), rng.uniform(0.5, 3, (4, 5)).astype(np.float32)
    function = getattr(fa, name)
    result = function(x, temperature=temperature)
    rows = [function(x[i, j], temperature[i, j]) for i in range(4) for j in range(5)]
    assert same_bits(result, np.reshape(rows, x.shape))
    turned = function(np.moveaxis(x, -1, 0).copy(), temperature=temperature, axis=0)
    assert same_bits(np.moveaxis(turned, 0, -1), result)
    # it broadcasts with the rows, not with the entries
    column = function(x[:, 0], temperature=temperature[:, :1])
    assert column.shape == (4, 4, 60)
    assert same_bits(column[2], function(x[:, 0], temperature=temperature[2, 0]))


@names
@pytest.mark.parametrize("n", [5, 40, 70, 1500])
def test_masks_of_any_layout(name: str, n: int) -> None:
    rng = np.random.default_rng(n)
    x, seen = rng.normal(size=(20, n)).astype(np.float32), rng.random((20, n)) < 0.5
    seen[:, 0] = True
    function = getattr(fa, name)
    expected = np.stack([function(row, where=mask) for row, mask in zip(x, seen, strict=True)])
    assert same_bits(function(x, where=seen), expected)
    assert same_bits(function(x.T, where=seen.T, axis=0).T, expected)
    assert same_bits(function(np.asfortranarray(x), where=np.asfortranarray(seen)), expected)
    assert same_bits(function(np.repeat(x, 2, 1)[:, ::2], where=np.repeat(seen, 3, 1)[:, ::3]), expected)
    out = np.empty_like(x)
    assert function(x, where=seen, out=out) is out
    assert same_bits(out, expected)
    copy = x.copy()
    assert same_bits(function(copy, where=seen, out=copy), expected)
    # one mask for all rows, and several masks for one row
    assert same_bits(function(x, where=seen[3])[3], expected[3])
    assert same_bits(function(x[3], where=seen)[3], expected[3])
    with np.errstate(all="raise"):
        masked = function(np.where(seen, x, -INF if name != "softmin" else INF))
    assert np.allclose(masked, expected, rtol=1e-6, atol=0)


@names
def test_causal(name: str) -> None:
    x = np.random.default_rng(2).normal(size=(3, 70, 70)).astype(np.float32)
    function = getattr(fa, name)
    triangle = np.tri(70, dtype=bool)
    assert same_bits(function(x, causal=True), function(x, where=triangle))
    assert same_bits(function(x, temperature=8.0, causal=True), function(x, temperature=8.0, where=triangle))
    assert same_bits(function(x[:, :9], causal=True), function(x[:, :9], where=triangle[:9]))
    assert same_bits(function(x[..., :9], causal=True), function(x[..., :9], where=triangle[:, :9]))
    across = function(np.swapaxes(x, 1, 2), causal=True, axis=1)
    assert same_bits(np.swapaxes(across, 1, 2), function(x, causal=True))
    hidden = triangle & (np.arange(70) != 1)
    assert same_bits(function(x, causal=True, where=np.arange(70) != 1), function(x, where=hidden))


@names
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_special_rows(name: str, dtype: Any) -> None:
    function, zero = getattr(fa, name), -INF if name == "log_softmax" else 0.0
    one = 0.0 if name == "log_softmax" else 1.0
    x = np.array([[1, NAN, 2], [1, 2, 3], [4, 5, 6]], dtype)
    seen = np.array([[True, False, False], [False, False, False], [True, True, True]])
    result = function(x, where=seen)
    assert result[0].tolist() == [one, zero, zero]  # what is masked does not count, whatever it is
    assert np.isnan(result[1]).all()
    assert np.isfinite(result[2]).all()
    assert np.isnan(function(x, temperature=2)[0]).all()
    assert np.isnan(function(x, temperature=NAN)).all()
    even = dtype(np.log(dtype(1) / 3)) if name == "log_softmax" else dtype(1) / 3
    assert np.allclose(function(x[2], temperature=INF), even, rtol=1e-3)
    largest = 0 if name == "softmin" else 2
    result = function(x[2], temperature=np.finfo(dtype).tiny)
    assert result[largest] == one
    assert result.dtype == dtype
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
        with pytest.raises(ValueError, match="empty row"):
            function(np.zeros((2, 0), dtype), temperature=2)


@names
def test_errors(name: str) -> None:
    function = getattr(fa, name)
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="temperature must not be 0"):
        function(x, 0)
    with pytest.raises(TypeError, match="where must be of dtype bool"):
        function(x, where=[1, 0, 1])
    with pytest.raises(TypeError, match="keepdims"):
        function(x, 2.0, keepdims=True)
    with pytest.raises(TypeError, match="colour"):
        function(x, colour=3)
    with pytest.raises(TypeError):
        function()
    with pytest.raises(TypeError):
        function(x, 2.0, 3.0)
    with pytest.raises(np.exceptions.AxisError):
        function(x, 2.0, axis=2)
    with pytest.raises(ValueError, match="at least two dimensions"):
        function(x[0], causal=True)
    with pytest.raises(ValueError, match="broadcast"):
        function(x, where=np.ones(4, bool))


@names
def test_it_is_a_ufunc_still(name: str) -> None:
    function = getattr(fa, name)
    assert type(function) is np.ufunc
    assert function.signature == "(n)->(n)"
    assert pickle.loads(pickle.dumps(function)) is function
    x = np.ones((2, 3), np.float32)
    out = np.empty_like(x)
    assert function(x, out) is out
    assert function(x, out, temperature=2.0) is out
    assert function(x, out, axis=0) is out
    assert function(x, dtype=np.float64).dtype == np.float64
    assert function(x, 2.0, dtype=np.float64).dtype == np.float64
    assert function([[1, 2], [3, 4]], 2).dtype == np.float64


@both
@pytest.mark.parametrize("n", [1, 2, 5, 47, 49, 100, 1025, 5000])
def test_logmeanexp(dtype: Any, n: int) -> None:
    rng = np.random.default_rng(n)
    for scale in (1e-3, 1.0, 30.0, 1e7):
        x = (rng.normal(size=n) * scale).astype(dtype)
        with gmpy2.context(precision=200):
            top = gmpy2.mpfr(float(x.max()))
            true = top + gmpy2.log(sum(gmpy2.exp(gmpy2.mpfr(float(v)) - top) for v in x) / n)
            error = float(abs(gmpy2.mpfr(float(fa.logmeanexp(x))) - true))
        assert error < 2 * np.spacing(dtype(abs(float(true))))
    assert same_bits(fa.logmeanexp(np.full((3, n), 0.1, dtype)), np.full(3, 0.1, dtype))
    assert fa.logmeanexp(np.zeros((3, n), dtype), keepdims=True).shape == (3, 1)


def test_logmeanexp_of_special_rows() -> None:
    x = np.float32([[1, NAN], [INF, 1], [-INF, -INF], [-INF, 3]])
    result = fa.logmeanexp(x)
    assert np.isnan(result[0])
    assert result[1:3].tolist() == [INF, -INF]
    assert abs(result[3] - (3 - np.log(2))) < 1e-6
    assert np.isnan(fa.logmeanexp(np.zeros((2, 0)))).all()
    assert same_bits(fa.logmeanexp(x.T, axis=0), result)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16, np.int8])
@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.uint16, np.uint64, np.int8])
def test_softmin_of_temperatures_without_a_sign(dtype: Any, kind: Any) -> None:
    """Minus a 3 of 8 bits is 253."""
    x = np.array([[1, 2, 3], [4, 0, -1]]).astype(dtype)
    for temperature in (kind(3), np.array([1, 3]).astype(kind)):
        found, want = fa.softmin(x, temperature=temperature), fa.softmax(-x, temperature=temperature)
        assert same_bits(found, want)


@pytest.mark.parametrize("options", [{"temperature": 2.0}, {"temperature": 3}, {"where": True}, {"causal": True}])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin"])
def test_bfloat16_stays_bfloat16(name: str, options: dict[str, Any]) -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x = np.arange(12).reshape(3, 4).astype(bfloat16)
    options = {**options, "where": np.eye(3, 4, dtype=bool)} if "where" in options else options
    found = getattr(fa, name)(x, **options)
    assert found.dtype == bfloat16
    wide = getattr(fa, name)(x.astype(np.float32), **options)
    assert np.array_equal(found, wide.astype(bfloat16))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [31, 57, 100, 1000])
def test_a_mask_whose_elements_are_as_far_apart_as_those_of_x(n: int, dtype: str) -> None:
    """Their strides are the same in bytes, and yet the rows of one lie side by side."""
    rng = np.random.default_rng(n)
    x = rng.random((np.dtype(dtype).itemsize, n)).astype(dtype)
    mask = rng.random(x.shape) < 0.7
    for function in (fa.softmax, fa.log_softmax):
        assert same_bits(function(x, where=np.asfortranarray(mask)), function(x, where=mask))


def test_temperatures_that_are_refused() -> None:
    x = np.zeros((2, 3), np.float32)
    for temperature in (0, 0.0, 1e-50, -1e-50, np.float32(0), np.zeros(2)):
        with pytest.raises(ValueError, match="temperature must not be 0"):
            fa.softmin(x, temperature=temperature)
    for wrong in ("a", 1j, 10**400, [None]):
        with pytest.raises((TypeError, ValueError), match="temperature"):
            fa.softmax(x, temperature=wrong)
    with pytest.raises(TypeError, match="multiple values for argument 'temperature'"):
        fa.softmax(x, 2.0, temperature=3.0)
    assert (fa.softmax(x, temperature=1e50) == np.float32(1 / 3)).all()  # and no warning
    assert same_bits(fa.softmax(x, None), fa.softmax(x))
    assert fa.softmax(x.astype(np.float16), temperature=0.1).dtype == np.float16
