"""Rows at the ends of the range: sums of what does not count alone, products that underflow, sums that overflow.

The truth is mpmath's, of the very floats that the functions are given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastact as fa

from .functions import same_bits

mpmath = pytest.importorskip("mpmath")
both = pytest.mark.parametrize("dtype", [np.float32, np.float64])
Array = np.ndarray[Any, Any]


def numbers(x: Any) -> list[Any]:
    return [mpmath.mpf(v) for v in np.asarray(x, np.float64).tolist()]


def spacing(value: Any, dtype: Any) -> Any:
    """The ULP of a number, also of one beyond the largest."""
    info = np.finfo(dtype)
    return mpmath.ldexp(1, max(int(mpmath.frexp(value)[1]) - 1, info.minexp) - info.nmant)


def close(result: Any, true: list[Any], sizes: list[Any] | None = None) -> None:
    """Within 2 ULP of the true values, or of `sizes`; infinite where these are out of range."""
    result = np.atleast_1d(result)
    dtype = result.dtype.type
    most = mpmath.mpf(float(np.finfo(dtype).max))
    for k, (found, exact) in enumerate(zip(result.tolist(), true, strict=True)):
        unit = spacing(exact if sizes is None else sizes[k], dtype)
        if np.isinf(found):
            assert (found > 0) == (exact > 0), k
            assert abs(exact) > most - unit, f"{found} and not {mpmath.nstr(exact)} at {k}"
            continue
        error = float(abs(mpmath.mpf(found) - exact) / unit)
        assert error < 2, f"{error:.4g} ULP at {k}: {found} and not {mpmath.nstr(exact)}"


# --- entries that count only because they are many


def many(dtype: Any) -> dict[str, Array]:
    """A row's largest entry, and others whose exponentials are less than half of the least float next to it."""
    edge = -104.0 if dtype is np.float32 else -745.5
    rng = np.random.default_rng(1)
    short = rng.permutation(np.append(np.full(20_000, edge - 7.5), 0))
    long = np.append(0, np.full(300_000, edge - 0.5))
    mixed = rng.permutation(np.concatenate([[0], *(np.full(50_000, edge - d) for d in (1.0, 4.0, 8.0, 9.5))]))
    rising = np.concatenate([np.full(70_000, edge - 3.0), [0.0], np.full(30_000, edge + 2.0)])
    rows = {"short": short, "long": long, "mixed": mixed, "before and after": rising, "not of 0": long + 3}
    return {name: row.astype(dtype) for name, row in rows.items()}


@both
@pytest.mark.parametrize("name", many(np.float32))
def test_many_entries_that_are_nothing_alone(name: str, dtype: Any) -> None:
    """Also those which lie in the same part of a long row as the largest one, whose sum is relative to that."""
    x = many(dtype)[name]
    values, counts = np.unique(x, return_counts=True)
    top = int(np.argmax(x))
    with mpmath.workdps(400):
        levels = [v - mpmath.mpf(float(x[top])) for v in numbers(values)]
        rest = mpmath.fsum(int(n) * mpmath.exp(v) for n, v in zip(counts[:-1], levels[:-1], strict=True))
        log = mpmath.log1p(rest)
        close(fa.log_softmax(x)[top], [-log])
        close(fa.log_softmax(x * dtype(2), temperature=2)[top], [-log])
        close(fa.log_softmax(x, where=np.isfinite(x))[top], [-log])
        close(fa.logsumexp(x), [mpmath.mpf(float(x[top])) + log])
        loss, gradient = fa.cross_entropy_with_logits_with_gradient(x, top)
        close(loss, [log])
        close(gradient[top], [-rest / (1 + rest)])
        shares = np.zeros_like(x)
        shares[top] = 1
        close(fa.cross_entropy_with_logits(x, shares), [log])


@both
def test_the_same_bits_of_many_such_entries_in_any_way(dtype: Any) -> None:
    x = np.stack([row[:100_000] for row in many(dtype).values() if len(row) >= 100_000])
    for function in (fa.log_softmax, fa.logsumexp):
        found = function(x)
        assert same_bits(np.stack([function(row) for row in x]), found)
        assert same_bits(np.moveaxis(function(np.ascontiguousarray(x.T), axis=0), 0, -1), found)
        assert same_bits(function(np.repeat(x, 2, axis=1)[:, ::2]), found)
        with fa.threads(2):
            assert same_bits(np.stack([function(row) for row in x]), found)


# --- gradients

Pair = tuple[Array, Array]


def softmax_vjp(g: Array, y: Array) -> tuple[list[Any], None]:
    dot = mpmath.fsum(a * b for a, b in zip(numbers(g), numbers(y), strict=True))
    return [b * (a - dot) for a, b in zip(numbers(g), numbers(y), strict=True)], None


def log_softmax_vjp(g: Array, y: Array) -> tuple[list[Any], None]:
    total = mpmath.fsum(numbers(g))
    return [a - mpmath.exp(b) * total for a, b in zip(numbers(g), numbers(y), strict=True)], None


def sparsemax_vjp(g: Array, y: Array) -> tuple[list[Any], list[Any]]:
    inside = [a for a, b in zip(numbers(g), y, strict=True) if b > 0]
    mean = mpmath.fsum(inside) / len(inside)
    true = [a - mean if b > 0 else mpmath.mpf(0) for a, b in zip(numbers(g), y, strict=True)]
    return true, [max(abs(a), abs(mean)) for a in numbers(g)]


def entmax15_vjp(g: Array, y: Array) -> tuple[list[Any], list[Any]]:
    roots = [mpmath.sqrt(b) for b in numbers(y)]
    mean = mpmath.fsum(a * r for a, r in zip(numbers(g), roots, strict=True)) / mpmath.fsum(roots)
    true = [r * (a - mean) for a, r in zip(numbers(g), roots, strict=True)]
    return true, [r * max(abs(a), abs(mean)) for a, r in zip(numbers(g), roots, strict=True)]


TRUTH: dict[str, Callable[[Array, Array], tuple[list[Any], list[Any] | None]]] = {
    "softmax_vjp": softmax_vjp,
    "log_softmax_vjp": log_softmax_vjp,
    "sparsemax_vjp": sparsemax_vjp,
    "entmax15_vjp": entmax15_vjp,
}


def against_truth(name: str, g: Any, y: Any) -> None:
    with np.errstate(all="raise"):
        found = getattr(fa, name)(g, y)
    with mpmath.workdps(200 if g.dtype == np.float32 else 1000):  # products have twice as long a range
        close(found, *TRUTH[name](g, y))


def probabilities(n: int, dtype: Any) -> Array:
    return np.asarray(fa.softmax(np.random.default_rng(n).normal(size=n).astype(dtype) * 2))


@both
@pytest.mark.parametrize("n", [2, 40, 3000])
def test_softmax_vjp_of_products_that_underflow(dtype: Any, n: int) -> None:
    """Next to the one that is 1, all other outputs come to 2^-125 and less, and are what is left."""
    rng = np.random.default_rng(n)
    least = 2.0**-126 if dtype is np.float32 else 2.0**-1022
    for size in (1.0, 2.0**20, 2.0**100, float(np.finfo(dtype).max)):
        for small in (1.1 * 2.0**-10, 0.3):
            g = np.full(n, small, dtype)
            y = np.full(n, 1.3 * least, dtype)
            g[0], y[0] = size, 1
            against_truth("softmax_vjp", g, y)
            g[1:] *= rng.uniform(0.5, 1, n - 1).astype(dtype)
            y[1:] *= rng.uniform(2.0**-20, 1, n - 1).astype(dtype)
            against_truth("softmax_vjp", g, y)


@both
@pytest.mark.parametrize("name", ["softmax_vjp", "entmax15_vjp"])
def test_products_of_small_gradients(name: str, dtype: Any) -> None:
    """Each is rounded to the same side by up to half of the least float, unless that is seen to."""
    g = np.full(1000, 1.3 * float(np.finfo(dtype).tiny), dtype)
    y = np.full(1000, 1.1 * 2.0**-12, dtype)
    g[0], y[0] = 0, 1
    against_truth(name, g, y)


@both
@pytest.mark.parametrize("n", [1, 2, 4, 33, 1500])
@pytest.mark.parametrize("name", TRUTH)
def test_gradients_whose_sum_overflows(name: str, dtype: Any, n: int) -> None:
    most = float(np.finfo(dtype).max)
    rng = np.random.default_rng(n)
    y = probabilities(n, dtype)
    one = np.full(n, 1 / n, dtype)
    signs = rng.choice([-1.0, 1.0], n)
    gradients = {
        "the largest": np.full(n, most),
        "equal": np.full(n, 0.9 * most),
        "one of them": np.where(np.arange(n) == n // 2, most, -most),
        "both signs": signs * most * rng.uniform(0.9, 1, n),
        "one sign": most * rng.uniform(0.5, 1, n),
        "two that cancel": np.append([most, most, -most, -most], np.full(n, 2.0**-30 * most))[:n],
        "a small mean": rng.normal(size=n) * (most / 8),
        "not quite": np.full(n, most / n),
    }
    for given in gradients.values():
        g = given.astype(dtype)
        for shares in (y, one):
            against_truth(name, g, np.log(shares) if name == "log_softmax_vjp" else shares)


def test_examples() -> None:
    """As they were found."""
    f = np.float32
    assert fa.log_softmax_vjp(f([3e38, 3e38]), f([-1, -0.5])).tolist() == pytest.approx([7.9272338e37, -6.3918396e37])
    assert fa.sparsemax_vjp(f([3e38] * 4), f([0.25] * 4)).tolist() == [0.0] * 4
    assert fa.entmax15_vjp(f([3e38] * 2), f([0.5] * 2)).tolist() == [0.0] * 2
    assert fa.softmax_vjp(f([3.4e38, -3.4e38]), f([0.99, 0.01]))[1] == pytest.approx(-6.732e36)
    assert fa.log_softmax_vjp(f([2**25, 1.1 * 2**-52]), f([0, -100]))[0] == pytest.approx(-2.4424907e-16)


def test_bfloat16_gradients_whose_sum_overflows() -> None:
    kind = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    g, y = np.full((3, 8), 3e38, kind), np.full((3, 8), 0.125, kind)
    assert not np.asarray(fa.softmax_vjp(g, y), np.float32).any()
    assert not np.asarray(fa.sparsemax_vjp(g, y), np.float32).any()
    assert not np.asarray(fa.entmax15_vjp(g, y), np.float32).any()
    found = np.asarray(fa.log_softmax_vjp(g, np.full((3, 8), -2, kind)), np.float64)
    assert np.allclose(found, float(g[0, 0]) * (1 - 8 * np.exp(-2.0)), rtol=2.0**-8)


@both
@pytest.mark.parametrize("large", [24, 25, 60, 100, 118, 127])
def test_log_softmax_vjp_of_a_large_sum_and_small_entries(dtype: Any, large: int) -> None:
    """The largest entry is next to one probability, and cancels: what is left is as small as the other entries."""
    scale = 1 if dtype is np.float32 else 8
    rng = np.random.default_rng(large)
    for low in (-52, -100, -120, -140):
        for top in (0.0, -1e-30, -1e-9, -1e-3):
            g = np.ldexp(rng.uniform(1, 2, 20), low * scale + rng.integers(-3, 1, 20)).astype(dtype)
            y = np.full(20, -150 * scale, dtype)
            g[3], y[3] = 2.0 ** (large * scale), top
            against_truth("log_softmax_vjp", g, y)


@both
def test_log_softmax_vjp_of_a_large_sum_cancels_twice(dtype: Any) -> None:
    """g is nearly the sum, and what is left of that nearly what the exponential is less than 1."""
    scale = 1 if dtype is np.float32 else 8
    for large in (25, 60, 90):
        for top in (2.0**-20, 2.0**-35):
            y = np.array([-(top**scale), -90 * scale, -90 * scale], dtype)
            g = np.array([2.0 ** (large * scale), 0, 0], dtype)
            with mpmath.workdps(800):
                others = mpmath.mpf(float(g[0])) * mpmath.expm1(-mpmath.mpf(float(y[0])))
                g[1] = float(others)
                g[2] = float(others - mpmath.mpf(float(g[1]))) * 1.001
            against_truth("log_softmax_vjp", g, y)


@both
def test_log_softmax_vjp_of_small_probabilities_that_cancel(dtype: Any) -> None:
    """g is within a hundredth of the product, and y so low that its steps are not exact in one number."""
    least = -690.0 if dtype is np.float64 else -80.0
    rng = np.random.default_rng(7)
    for y in rng.uniform(least, 0.1 * least, 300):
        outputs = np.array([0, y, 1.05 * least], dtype)
        g = np.array([1, 0, rng.normal() * 1e-3], dtype)
        with mpmath.workdps(400):
            product = mpmath.exp(mpmath.mpf(float(outputs[1]))) * (float(g[0]) + mpmath.mpf(float(g[2])))
            g[1] = float(product * (1 + rng.choice([-1, 1]) * mpmath.mpf(10) ** rng.uniform(-3.2, -1.5)))
        against_truth("log_softmax_vjp", g, outputs)


@both
def test_entmax15_vjp_of_tiny_outputs(dtype: Any) -> None:
    """What the roots of subnormal outputs leave of them counts in the mean."""
    rng = np.random.default_rng(3)
    y = (rng.integers(1, 1 << 16, 60) * np.finfo(dtype).smallest_subnormal).astype(dtype)
    against_truth("entmax15_vjp", rng.normal(size=60).astype(dtype), y)


@both
@pytest.mark.parametrize("name", TRUTH)
def test_the_same_bits_of_such_gradients_in_any_way(name: str, dtype: Any) -> None:
    function, most = getattr(fa, name), np.finfo(dtype).max
    for n in (5, 70, 1100):
        rng = np.random.default_rng(n)
        y = np.asarray(fa.softmax((rng.normal(size=(37, n)) * 3).astype(dtype)))
        g = rng.normal(size=(37, n)).astype(dtype)
        g[::5] = most
        g[1::5] *= most / 8
        g[2::5] = most * rng.uniform(0.5, 1, g[2::5].shape)
        y[3::5] = np.finfo(dtype).tiny
        y[3::5, n // 2], g[3::5, n // 2] = 1, 1
        if name == "log_softmax_vjp":
            y, g[3::10, n // 2] = np.log(y), dtype(2.0) ** (100 if dtype is np.float32 else 900)
        found = function(g, y)
        assert np.isfinite(found).mean() > 0.9
        assert same_bits(np.stack([function(*pair) for pair in zip(g, y, strict=True)]), found)
        assert same_bits(function(np.ascontiguousarray(g.T), np.ascontiguousarray(y.T), axis=0).T, found)
        middle = [np.ascontiguousarray(np.stack([a, a], axis=2)) for a in (g, y)]
        assert same_bits(function(*middle, axis=1)[:, :, 1], found)
        assert same_bits(function(*(np.repeat(a, 2, axis=1)[:, ::2] for a in (g, y))), found)
        with fa.threads(2):
            tall = function(*(np.tile(a, (300, 1)) for a in (g, y)))
        assert same_bits(tall, np.tile(found, (300, 1)))


@both
@pytest.mark.parametrize("name", TRUTH)
def test_a_long_row_of_such_gradients(name: str, dtype: Any) -> None:
    """Threads share it."""
    n = 150_000
    y = np.full(n, 1 / n, dtype)
    g = np.full(n, np.finfo(dtype).max, dtype)
    g[n // 2 :] *= dtype(0.75)
    given = g, np.log(y) if name == "log_softmax_vjp" else y
    found = getattr(fa, name)(*given)
    with fa.threads(2):
        assert same_bits(getattr(fa, name)(*given), found)
    with mpmath.workdps(60):
        p = mpmath.mpf(float(y[0]))
        total = mpmath.mpf(float(g[0])) * (n // 2) + mpmath.mpf(float(g[-1])) * (n // 2)
        mean = total / n
        share = {"softmax_vjp": p, "log_softmax_vjp": 1, "sparsemax_vjp": 1, "entmax15_vjp": mpmath.sqrt(p)}[name]
        if name == "softmax_vjp":
            mean = p * total
        elif name == "log_softmax_vjp":
            mean = mpmath.exp(mpmath.mpf(float(given[1][0]))) * total
        for k in (0, -1):
            size = share * max(abs(mpmath.mpf(float(g[k]))), mean)
            close(found[k], [share * (mpmath.mpf(float(g[k])) - mean)], [size])
