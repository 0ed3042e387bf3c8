"""sparsemax, entmax15 and hardmax: against fractions, on ties, on special rows, and with the same bits everywhere."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact.accuracy.rows import row_truth
from fastact.accuracy.sparse import SPARSE
from fastact.accuracy.ulp import ulp_error

from .functions import same_bits

PROJECTIONS = ("sparsemax", "entmax15")
FUNCTIONS = (*PROJECTIONS, "hardmax")
# Promised are 2; what is found stays below half of that, and so close to 0.5 that a lost low part would be seen.
ULP = 0.51
INF, NAN = np.inf, np.nan
projections = pytest.mark.parametrize("name", PROJECTIONS)
functions = pytest.mark.parametrize("name", FUNCTIONS)
both = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def rows(n: int, dtype: Any) -> dict[str, np.ndarray]:
    """Rows with few and with many entries in the support, with ties, and with magnitudes far apart."""
    rng = np.random.default_rng(n)
    tiny = float(np.finfo(dtype).smallest_subnormal)
    found = {
        "normal": rng.normal(size=n),
        "wide": rng.normal(size=n) * 10,
        "narrow": rng.normal(size=n) * 0.03,
        "very narrow": rng.normal(size=n) * 1e-4,
        "equal": np.full(n, rng.normal()),
        "huge and equal": np.full(n, float(np.finfo(dtype).max)),
        "on a grid": rng.integers(-40, 9, n) / 32,
        "far from zero": 1000 + rng.normal(size=n),
        "around zero, far apart": 2.0 ** rng.uniform(-60, 0, n) * rng.choice([-1, 1], n),
        "below zero, far apart": -(2.0 ** rng.uniform(-60, 2, n)),
        "subnormal": rng.normal(size=n) * 100 * tiny,
        "whole range": rng.choice([-1, 1], n) * float(np.finfo(dtype).max),
        "ascending": np.arange(n) * 0.004,
        "descending": -np.arange(n) * 0.004,
        "masked": np.where(np.arange(n) % 3 == 1, -INF, rng.normal(size=n)),
    }
    return {name: row.astype(dtype) for name, row in found.items()}


def check(name: str, *operands: np.ndarray, bound: float = ULP) -> None:
    true = row_truth(name, *operands)
    result = getattr(fa, name)(*operands)
    assert result.dtype == operands[0].dtype
    error = ulp_error(result, true.hi, true.lo, exponent=true.exponent)
    worst = int(np.argmax(error))
    assert error[worst] < bound, f"{error[worst]:.4g} ULP at {worst} of {len(error)}"


@functions
@both
@pytest.mark.parametrize("n", [1, 2, 3, 17, 64, 65, 300, 1031])
def test_against_fractions(name: str, dtype: Any, n: int) -> None:
    for label, x in rows(n, dtype).items():
        try:
            check(name, x)
        except AssertionError as error:
            raise AssertionError(f"{label}: {error}") from error


@projections
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_types(name: str, dtype: str) -> None:
    kind = np.dtype(np.float16) if dtype == "float16" else np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    for n in (10, 200):
        x = np.random.default_rng(n).normal(size=(20, n)).astype(kind)
        expected = getattr(fa, name)(x.astype(np.float32)).astype(kind)
        assert np.array_equal(getattr(fa, name)(x), expected)


@projections
@both
def test_entries_next_to_tau(name: str, dtype: Any) -> None:
    """Rows with an entry within a few ULP of tau: 0, or the smallest of results, and right in all its digits."""
    rng = np.random.default_rng(1)
    for _ in range(300):
        n = int(rng.integers(2, 90))
        x = np.sort((rng.random(n) * rng.choice([1, 0.1, 3 / n])).astype(dtype))[::-1]
        head = x[: int(rng.integers(1, n))].astype(np.float64)
        tau = (head.sum() - 1) / head.size
        if name == "entmax15":
            tau = head.mean() - np.sqrt(max(4 / head.size - head.var(), 0))
        edge = np.asarray(tau, dtype)
        for _ in range(int(rng.integers(0, 3))):
            edge = np.nextafter(edge, dtype(-10))
        x[int(rng.integers(1, n))] = edge
        check(name, rng.permutation(x))


@projections
def test_ties(name: str) -> None:
    """Equal entries have equal results, and an entry exactly at tau gives exactly 0."""
    function, reach = getattr(fa, name), {"sparsemax": 1, "entmax15": 2}[name]
    for dtype in (np.float16, np.float32, np.float64):
        assert function(np.array([0, -reach, 0, -reach], dtype)).tolist() == [0.5, 0.0, 0.5, 0.0]
        assert function(np.array([7, 7 - reach], dtype)).tolist() == [1.0, 0.0]
        for n in (3, 64, 65, 1000):
            result = function(np.full(n, 0.1, dtype))
            assert np.all(result == dtype(1 / np.float64(n)))
    x = np.random.default_rng(0).integers(0, 9, 500) / 16
    result = function(x)
    assert all(np.unique(result[x == value]).size == 1 for value in np.unique(x))


def test_ties_of_hardmax() -> None:
    for n in (5, 64, 65, 3000):
        x = np.random.default_rng(n).integers(0, 4, (40, n)).astype(np.float32)
        expected = np.zeros_like(x)
        expected[np.arange(40), x.argmax(-1)] = 1
        assert same_bits(fa.hardmax(x), expected)


@functions
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("n", [4, 40, 400])
def test_special_rows(name: str, dtype: Any, n: int) -> None:
    function = getattr(fa, name)
    x = np.zeros((6, n), dtype)
    x[0, 1], x[1, 1], x[2, 0] = NAN, INF, -INF
    x[3] = -INF
    x[4, 1:] = -INF
    x[5, 0], x[5, 1], x[5, 2] = INF, NAN, -INF
    result = function(x)
    assert np.isnan(result[[0, 1, 3, 5]]).all()
    assert result[2, 0] == 0
    assert result[4].tolist() == [1.0] + [0.0] * (n - 1)
    assert not np.signbit(result[[2, 4]]).any()
    assert function(np.zeros((0, n), dtype)).shape == (0, n)
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
        with pytest.raises(ValueError, match="empty row"):
            function(np.zeros((3, 0), dtype))


@functions
@pytest.mark.parametrize("n", [1, 10, 33, 64, 65, 100, 1000, 20_000])
def test_the_same_bits_anywhere(name: str, n: int) -> None:
    """Alone, in a batch, along any axis, strided, in place, on one thread and on two."""
    function = getattr(fa, name)
    scale = 1.0 if n < 1000 else 0.02  # so that the support of a long row does not fit in a list
    x = (np.random.default_rng(n).normal(size=(50, n)) * scale).astype(np.float32)
    batch = function(x)
    assert same_bits(batch, np.stack([function(row) for row in x]))
    assert same_bits(batch, function(np.asfortranarray(x)))
    assert same_bits(batch, function(np.ascontiguousarray(x.T), axis=0).T)
    assert same_bits(batch, function(np.repeat(x, 2, axis=1)[:, ::2]))
    assert same_bits(batch, function(x[:, ::-1].copy()[:, ::-1]))
    assert same_bits(batch, function(x, out=np.empty((50, 3 * n), np.float32)[:, ::3]))
    for array in (x.copy(), np.asfortranarray(x)):
        assert same_bits(function(array, out=array), batch)
    tall = np.concatenate([x] * max(1, 600_000 // x.size))
    for threads in (1, 2):
        with fa.threads(threads):
            assert same_bits(function(tall)[: len(x)], batch)
            assert same_bits(function(tall)[-len(x) :], batch)


@projections
def test_a_long_row(name: str) -> None:
    """A support that no list holds, and one that does after some steps."""
    for scale in (1e-3, 0.1, 1.0):
        x = (np.random.default_rng(5).normal(size=300_000) * scale).astype(np.float32)
        wide = getattr(fa, name)(x.astype(np.float64))
        assert abs(wide.sum() - 1) < 1e-12
        assert ulp_error(getattr(fa, name)(x), wide).max() < ULP


@projections
@both
@pytest.mark.parametrize("n", [2, 9, 64, 65, 700])
def test_gradients(name: str, dtype: Any, n: int) -> None:
    rng = np.random.default_rng(n)
    function = getattr(fa, f"{name}_vjp")
    for label, x in rows(n, dtype).items():
        y = getattr(fa, name)(x)
        for g in (np.ones_like(x), rng.normal(size=n).astype(dtype), (np.arange(n) == n // 2).astype(dtype)):
            true = row_truth(f"{name}_vjp", g, y)
            result = function(g, y)
            exact = np.ldexp(true.hi, true.exponent)
            weight = y > 0 if name == "sparsemax" else np.sqrt(y.astype(np.float64))
            mean = abs(float(g @ weight / weight.sum()))
            error = ulp_error(result, true.hi, true.lo, exponent=true.exponent)
            cancelled = np.abs(result - exact) <= mean * (2.0**-44 if dtype is np.float32 else 2.0**-102)
            assert np.where(cancelled, 0, error).max() < 1.0, label
            assert not result[y == 0].any()
            assert result.dtype == dtype


@projections
def test_gradients_of_special_rows(name: str) -> None:
    function = getattr(fa, f"{name}_vjp")
    y = np.float32([0.5, 0.5, 0.0])
    assert function(np.float32([3, 3, 5]), y).tolist() == [0, 0, 0]
    assert function(np.float32([1, 2, NAN]), y)[2] == 0
    assert np.isnan(function(np.float32([1, NAN, 0]), y)[:2]).all()
    assert np.isnan(function(np.float32([1, 2, 3]), np.full(3, NAN, np.float32))).all()


@projections
def test_gradients_are_derivatives(name: str) -> None:
    """Against the difference quotient of the fractions, along a direction."""
    rng = np.random.default_rng(3)
    x, direction, g = (rng.normal(size=12) * 0.3 for _ in range(3))
    step = 2.0**-24

    def moved(sign: int) -> list[Fraction]:
        found = SPARSE[name]((x + sign * step * direction).tolist())
        return [(Fraction(v.hi) + Fraction(v.lo)) * Fraction(2) ** v.exponent for v in found]

    slope = sum(a * float((p - m) / (2 * Fraction(step))) for a, p, m in zip(g, moved(1), moved(-1), strict=True))
    y = getattr(fa, name)(x)
    assert abs(getattr(fa, f"{name}_vjp")(g, y) @ direction - slope) < 1e-6
